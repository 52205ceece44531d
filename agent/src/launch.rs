//! Starting a program so that nothing it does is missed.
//!
//! The child is forked, waits at a pipe while the sampler opens its events on it (they start counting at exec), and
//! then executes. `std::process::Command` cannot do this: it waits for the exec before it returns. Between fork and
//! exec the child calls only async-signal-safe functions on data prepared before the fork.
//!
//! An exec that fails reports its errno through a pipe that a successful exec closes.

use crate::failure::Failure;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::pipe::PipeFlags;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(i32),
    Killed(i32),
}

impl Ended {
    /// The exit status that says the same to whoever called us, by the shell's convention.
    pub(crate) fn as_status(self) -> u8 {
        match self {
            Ended::Exited(code) => (code & 0xff) as u8,
            Ended::Killed(signal) => 128_u8.wrapping_add(signal as u8),
        }
    }
}

/// A forked child that has not executed yet, or has and runs.
#[derive(Debug)]
pub(crate) struct Launched {
    pid: libc::pid_t,
    go: Option<OwnedFd>,
    errno: OwnedFd,
    ended: Option<Ended>,
}

fn c_string(text: &OsStr) -> Result<CString, Failure> {
    CString::new(text.as_bytes()).map_err(|_| Failure::usage("an argument contains a NUL byte"))
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Forks a child that waits to become `command`, found at `path`, with `changes` made to our environment.
pub(crate) fn prepare(path: &Path, command: &[OsString], changes: &[(&str, OsString)]) -> Result<Launched, Failure> {
    let pipe =
        || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| Failure::cannot(format!("no pipe: {error}")));
    let path = c_string(path.as_os_str())?;
    let arguments = command.iter().map(|argument| c_string(argument)).collect::<Result<Vec<_>, _>>()?;
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os().filter(|(name, _)| !changes.iter().any(|(changed, _)| *changed == name)) {
        environment.push(c_string(&[name.as_os_str(), value.as_os_str()].join(OsStr::new("=")))?);
    }
    for (name, value) in changes {
        environment.push(c_string(&[OsStr::new(name), value.as_os_str()].join(OsStr::new("=")))?);
    }
    let (argument_pointers, environment_pointers) = (pointers(&arguments), pointers(&environment));
    let (wait, go) = pipe()?;
    let (errno, report) = pipe()?;
    // SAFETY: fork itself is always allowed; what the child does is in `become_program`.
    match unsafe { libc::fork() } {
        -1 => Err(Failure::cannot(format!("cannot fork: {}", std::io::Error::last_os_error()))),
        0 => {
            drop(go);
            // SAFETY: we are the child of a fork and call only async-signal-safe functions from here on; the pointers
            // are to NUL-terminated strings in NULL-terminated arrays that live in this copy of our memory.
            unsafe {
                become_program(
                    wait.as_raw_fd(),
                    report.as_raw_fd(),
                    path.as_ptr(),
                    argument_pointers.as_ptr(),
                    environment_pointers.as_ptr(),
                )
            }
        }
        pid => Ok(Launched { pid, go: Some(go), errno, ended: None }),
    }
}

/// # Safety
///
/// Only in the child of a fork; the pointers as `execve` wants them.
unsafe fn become_program(
    wait: i32,
    report: i32,
    path: *const libc::c_char,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
) -> ! {
    let mut byte = 0_u8;
    // SAFETY: async-signal-safe calls on valid pointers. End of file instead of a byte means the agent is gone or gave
    // up: the program is then not started.
    unsafe {
        let read = libc::read(wait, (&raw mut byte).cast(), 1);
        if read == 1 {
            // Rust ignores SIGPIPE for itself; the program must find it as it would have been.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::execve(path, arguments, environment);
            let errno = *libc::__errno_location();
            libc::write(report, (&raw const errno).cast(), size_of::<i32>());
        }
        libc::_exit(127)
    }
}

impl Launched {
    pub(crate) fn pid(&self) -> u32 {
        self.pid as u32
    }

    /// Lets the child execute, and reports an exec that failed.
    pub(crate) fn start(&mut self, program: &Path) -> Result<(), Failure> {
        if let Some(go) = self.go.take() {
            rustix::io::write(&go, &[1]).map_err(|error| Failure::cannot(format!("the child is gone: {error}")))?;
        }
        let mut errno = [0; 4];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.errno, &mut errno)) {
            Ok(4) => {
                let error = std::io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
                self.wait();
                Err(Failure::cannot(format!("cannot execute {}: {error}", program.display())))
            }
            _ => Ok(()),
        }
    }

    /// Whether the program has ended, and how.
    pub(crate) fn poll(&mut self) -> Option<Ended> {
        self.reap(libc::WNOHANG)
    }

    /// Waits for the program's end.
    pub(crate) fn wait(&mut self) -> Ended {
        loop {
            if let Some(ended) = self.reap(0) {
                return ended;
            }
        }
    }

    fn reap(&mut self, flags: i32) -> Option<Ended> {
        if self.ended.is_none() {
            let mut status = 0;
            // SAFETY: `status` is valid for writing; the pid is our own unreaped child.
            let reaped = unsafe { libc::waitpid(self.pid, &raw mut status, flags) };
            if reaped == self.pid {
                self.ended = Some(if libc::WIFSIGNALED(status) {
                    Ended::Killed(libc::WTERMSIG(status))
                } else {
                    Ended::Exited(libc::WEXITSTATUS(status))
                });
            } else if reaped == -1 && std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
                // Somebody else reaped it; there is nothing more to learn.
                self.ended = Some(Ended::Exited(0));
            }
        }
        self.ended
    }

    /// Sends a signal to the program if it still runs.
    pub(crate) fn signal(&self, signal: i32) {
        if self.ended.is_none() {
            // SAFETY: the pid is our own unreaped child, so it cannot have been reused.
            unsafe { libc::kill(self.pid, signal) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: &[&str], changes: &[(&str, OsString)]) -> Result<Ended, Failure> {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        let path = Path::new(&command[0]).to_path_buf();
        let mut launched = prepare(&path, &command, changes)?;
        launched.start(&path)?;
        Ok(launched.wait())
    }

    #[test]
    fn the_programs_status_comes_back() {
        assert_eq!(run(&["/bin/sh", "-c", "exit 7"], &[]).unwrap().as_status(), 7);
        assert_eq!(run(&["/bin/sh", "-c", "kill -9 $$"], &[]).unwrap(), Ended::Killed(9));
        assert_eq!(Ended::Killed(9).as_status(), 137);
    }

    #[test]
    fn the_environment_is_changed_and_nothing_else() {
        let script = "test \"$TIERSCOPE_X\" = y && test -n \"$PATH\"";
        let ended = run(&["/bin/sh", "-c", script], &[("TIERSCOPE_X", OsString::from("y"))]).unwrap();
        assert_eq!(ended, Ended::Exited(0));
    }

    #[test]
    fn a_failed_exec_says_why() {
        let error = run(&["/etc/passwd"], &[]).unwrap_err();
        assert!(error.to_string().contains("denied"), "{error}");
        assert_eq!(error.exit_status(), 3);
    }
}
