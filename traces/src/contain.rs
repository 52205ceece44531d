//! Keeps panics of the Parquet library inside.
//!
//! polars reads untrusted bytes with a good many `unwrap`s. Accidents do not get that far: a part whose checksum does not
//! match its name is never decoded. What is left are parts that other tools wrote, and forged ones. Every decoding runs
//! in `contained`, on the calling thread only (no thread pool, whose panics would surface elsewhere), and works on a
//! copy of the bytes in memory and on nothing that outlives it: a panic can leave no half-changed state behind, which is
//! what makes `AssertUnwindSafe` true here.
//!
//! **What this does not hold.** A forged length can make the decoder ask for more memory than there is, which ends the
//! process (flipping one bit of every byte of a part finds such lengths), and the library uses unsafe code on what it
//! reads. Without a checksum to match, a part from a stranger deserves the care one takes with any file from a stranger.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it becomes an error with its message.
pub(crate) fn contained<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    silence();
    let before = CONTAINED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    outcome.unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(format!("the Parquet reader gave up: {message}"))
    })
}

/// Wraps the panic hook, once, so that a contained panic prints nothing: it is reported as a warning of the profile.
/// Every other panic goes to the hook that was there.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CONTAINED.get() {
                previous(info);
            }
        }));
    });
}

/// Whether the calling thread is inside a contained read: a panic hook installed by the program should stay quiet then.
#[must_use]
pub fn is_contained() -> bool {
    CONTAINED.get()
}
