//! Other processes, and the directory code is given to them in.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::{DirectoryProbe, Errno};

/// A byte of this program; in a forked child it is at the same address.
static LANDMARK: u8 = 0x5a;

/// Read one byte of another process.
pub(super) fn read(pid: i32, address: u64) -> Result<(), Errno> {
    let mut byte = 0_u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: 1 };
    // SAFETY: the local buffer is one byte long; the remote address is checked by the kernel.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    Errno::check(read as i64).map(drop)
}

/// Fork a child that only waits, read its memory, end it.
pub(super) fn read_child() -> Result<(), Errno> {
    // SAFETY: the child calls only prctl, pause and _exit, which are allowed after fork in a threaded process.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(Errno::last()),
        0 => {
            // SAFETY: see above; the child is ended by the parent, or with it.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::pause();
                libc::_exit(0)
            }
        }
        child => {
            let result = read(child, (&raw const LANDMARK).addr() as u64);
            let mut status = 0;
            // SAFETY: our own child, not yet waited for.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                while libc::waitpid(child, &raw mut status, 0) < 0 && Errno::last().0 == libc::EINTR {}
            }
            result
        }
    }
}

/// Find a directory in which a private file can be made and mapped as code.
pub(super) fn directory() -> DirectoryProbe {
    let named = ["XDG_RUNTIME_DIR", "TMPDIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let mut refused = Vec::new();
    for candidate in named.chain(["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from)) {
        if refused.iter().any(|(path, _)| *path == candidate) {
            continue;
        }
        match try_directory(&candidate) {
            Ok(()) => return DirectoryProbe::Usable(candidate),
            Err(reason) => refused.push((candidate, reason)),
        }
    }
    DirectoryProbe::Refused(refused)
}

fn try_directory(parent: &Path) -> Result<(), &'static str> {
    // Owned by this user, mode 0700, a name that cannot be guessed; removed on return.
    let private = tempfile::Builder::new().prefix("tierscope-").tempdir_in(parent).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound { "does not exist" } else { "not writable" }
    })?;
    let mut file = tempfile::tempfile_in(private.path()).map_err(|_| "not writable")?;
    file.write_all(&[0; 4096]).map_err(|_| "full")?;
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: a new private mapping of a file we own, at an address the kernel chooses.
    let code = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if code == libc::MAP_FAILED {
        return Err("mounted noexec");
    }
    // SAFETY: the mapping made above, unused.
    unsafe { libc::munmap(code, 4096) };
    Ok(())
}
