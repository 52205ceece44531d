//! Signals that come for us while a program of somebody's runs under us.
//!
//! What is typed at a terminal (interrupt, quit) goes to the program as well, since it shares our process group; we only must
//! not die of it. What is sent to us alone is meant for the program, which the sender may not know by number.
//!
//! A signal that was ignored when we were started (`nohup`) stays ignored: the program inherits that.

use crate::failure::Failure;
use crate::launch::{Ended, Launched};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Notices a signal instead of dying of it.
fn notice(signal: i32, flag: &Arc<AtomicBool>) -> Result<(), Failure> {
    if is_ignored(signal) {
        return Ok(());
    }
    signal_hook::flag::register(signal, flag.clone())
        .map(|_| ())
        .map_err(|error| Failure::cannot(format!("cannot watch for signals: {error}")))
}

fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action changes nothing; the old one is written to memory of its type, for which zero is valid too.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Of a recording, which ends early by them.
pub(crate) struct Signals {
    pub(crate) interrupt: Arc<AtomicBool>,
    pub(crate) terminate: Arc<AtomicBool>,
}

impl Signals {
    pub(crate) fn watch() -> Result<Self, Failure> {
        let signals = Signals { interrupt: Arc::default(), terminate: Arc::default() };
        for signal in [libc::SIGINT, libc::SIGQUIT] {
            notice(signal, &signals.interrupt)?;
        }
        for signal in [libc::SIGTERM, libc::SIGHUP] {
            notice(signal, &signals.terminate)?;
        }
        Ok(signals)
    }
}

/// Of a program that is only run: each is passed on as it is.
pub(crate) struct PassedOn(Vec<(i32, Arc<AtomicBool>)>);

impl PassedOn {
    pub(crate) fn watch() -> Result<Self, Failure> {
        let signals = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];
        let watched = signals.map(|signal| (signal, Arc::default()));
        for (signal, flag) in &watched {
            notice(*signal, flag)?;
        }
        Ok(PassedOn(watched.into()))
    }

    /// Waits for a program's end.
    pub(crate) fn wait_for(&self, launched: &mut Launched) -> Ended {
        self.wait_for_with(launched, || {})
    }

    /// Waits for a program's end and does something again and again meanwhile.
    pub(crate) fn wait_for_with(&self, launched: &mut Launched, mut meanwhile: impl FnMut()) -> Ended {
        loop {
            meanwhile();
            if let Some(ended) = launched.poll() {
                return ended;
            }
            for (signal, came) in &self.0 {
                let typed = matches!(*signal, libc::SIGINT | libc::SIGQUIT) && in_foreground();
                if came.swap(false, Ordering::Relaxed) && !typed {
                    launched.signal(*signal);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether what is typed at our terminal reaches our process group.
fn in_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| {
        rustix::termios::tcgetpgrp(&terminal).is_ok_and(|group| group == rustix::process::getpgrp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_known() {
        // Rust ignores this one for itself.
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGWINCH));
    }
}
