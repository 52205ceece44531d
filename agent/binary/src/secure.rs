//! Programs the dynamic loader starts in secure mode (AT_SECURE), where it ignores LD_PRELOAD.
//!
//! The kernel decides at exec: set-user-ID and set-group-ID bits that change an id of the caller, and file capabilities
//! for a caller who is not root. The same rules are applied here beforehand, so that a bit that has no effect (root
//! running a set-user-ID-root program, a mount with `nosuid`, a process with `no_new_privs`) is not held against it.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What makes the kernel start a program in secure mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureReason {
    /// It runs as another user (that user's id).
    SetUser(u32),
    /// It runs with another group (that group's id).
    SetGroup(u32),
    /// It gains capabilities from its file.
    Capabilities,
}

impl fmt::Display for SecureReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetUser(user) => write!(formatter, "it is set-user-ID (to uid {user})"),
            Self::SetGroup(group) => write!(formatter, "it is set-group-ID (to gid {group})"),
            Self::Capabilities => formatter.write_str("it has file capabilities"),
        }
    }
}

/// Who starts the program, as far as secure mode depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    user: u32,
    group: u32,
    no_new_privileges: bool,
}

impl Caller {
    pub(crate) fn current() -> Self {
        Self {
            user: rustix::process::getuid().as_raw(),
            group: rustix::process::getgid().as_raw(),
            no_new_privileges: rustix::thread::no_new_privs().unwrap_or(false),
        }
    }
}

const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o0010;

/// Why starting this file would be secure, if it would.
pub(crate) fn secure_reason(path: &Path, metadata: &Metadata, caller: Caller) -> Option<SecureReason> {
    let no_setuid =
        || rustix::fs::statvfs(path).is_ok_and(|mount| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID));
    if caller.no_new_privileges || no_setuid() {
        return None;
    }
    let mode = metadata.mode();
    if mode & S_ISUID != 0 && metadata.uid() != caller.user {
        return Some(SecureReason::SetUser(metadata.uid()));
    }
    // Without group execution the bit once meant mandatory locking; it changes no id.
    if mode & S_ISGID != 0 && mode & S_IXGRP != 0 && metadata.gid() != caller.group {
        return Some(SecureReason::SetGroup(metadata.gid()));
    }
    let mut value = [0_u8; 64];
    let capabilities = rustix::fs::getxattr(path, c"security.capability", &mut value[..]);
    (caller.user != 0 && capabilities.is_ok_and(|length| length > 0)).then_some(SecureReason::Capabilities)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_an_id_that_changes_is_secure() {
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let reason = |mode, user, group, no_new_privileges| {
            file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
            let caller = Caller { user, group, no_new_privileges };
            secure_reason(file.path(), &file.as_file().metadata().unwrap(), caller)
        };
        let (owner, group) = file.as_file().metadata().map(|m| (m.uid(), m.gid())).unwrap();
        assert_eq!(reason(0o755, owner + 1, group, false), None);
        assert_eq!(reason(0o4755, owner, group, false), None);
        assert_eq!(reason(0o4755, owner + 1, group, false), Some(SecureReason::SetUser(owner)));
        assert_eq!(reason(0o4755, owner + 1, group, true), None);
        assert_eq!(reason(0o2755, owner + 1, group + 1, false), Some(SecureReason::SetGroup(group)));
        assert_eq!(reason(0o2745, owner + 1, group + 1, false), None);
    }
}
