//! What system calls say of the program's memory and threads.
//!
//! A call is seen before and after the kernel acts. What ends memory is told before, what begins it after, and each on the thread
//! that made the call, between the accesses before and after it.

use crate::callbacks;
use crate::happening::Happening;
use crate::link;
use crate::loaded;
use crate::log::{self, Log};
use crate::outcome::Ended;
use crate::translate;
use std::path::PathBuf;
use tierscope_wire::trace::{DESCRIPTOR, Message, SYSTEM_CALL};

const READ: i64 = 0;
const CLOSE: i64 = 3;
const MMAP: i64 = 9;
const MPROTECT: i64 = 10;
const MUNMAP: i64 = 11;
const BRK: i64 = 12;
const READV: i64 = 19;
const MREMAP: i64 = 25;
const CLONE: i64 = 56;
const EXECVE: i64 = 59;
const RECVFROM: i64 = 45;
const RECVMSG: i64 = 47;
const CLONE3: i64 = 435;

/// Calls that wait for another thread, or for something that takes its time: poll, pause, select, accept, wait4, futex, nanosleep,
/// epoll_wait, rt_sigtimedwait, rt_sigsuspend, clock_nanosleep, waitid, pselect6, ppoll, epoll_pwait.
const WAITING: [i64; 16] = [7, 23, 34, 43, 61, 128, 130, 202, 35, 230, 232, 247, 270, 271, 281, 288];

const PROT_EXEC: u64 = 4;
const MAP_ANONYMOUS: u64 = 0x20;
const CLONE_THREAD: u64 = 0x1_0000;

/// The kernel's whole pages.
fn pages(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(4096).unwrap_or(bytes)
}

/// The file behind a descriptor; QEMU's and the guest's are the same.
fn path_of(descriptor: u64) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", descriptor as i32)).ok()
}

/// A call is about to be made.
pub(crate) fn begins(log: &mut Log, number: i64, arguments: [u64; 6]) {
    let [a, b, c, d, e, f] = arguments;
    log.call = (number, arguments);
    if log.mapped_code && number != MMAP {
        log.mapped_code = number != CLOSE && number != MPROTECT;
        if !log.mapped_code {
            log.happened(Happening::CodeMapped);
        }
    }
    match number {
        _ if number == SYSTEM_CALL as i64 && a == DESCRIPTOR => {
            let message = Message::decode([b, c, d, e, f]);
            if let Ok(Message::Hello { start, end }) = message {
                translate::leave_out(start, end);
            }
            log.happened(Happening::Said(message));
        }
        MUNMAP if a.is_multiple_of(4096) && b != 0 => {
            log.happened(Happening::Unmapped { address: a, bytes: pages(b) });
        }
        CLONE if a & CLONE_THREAD != 0 => log::become_several(),
        CLONE3 => log::become_several(),
        EXECVE if is_program(a) => callbacks::end_here(Ended::Replaced),
        _ => {}
    }
    if log::are_several() {
        link::hand_over(log);
    }
}

/// Whether there is a program at the path that the guest's `address` points to.
fn is_program(address: u64) -> bool {
    // SAFETY: the kernel reads the text, or fails.
    unsafe { libc::access(loaded::to_host(address) as *const libc::c_char, libc::X_OK) == 0 }
}

/// The call was made.
pub(crate) fn ends(log: &mut Log, number: i64, result: i64) {
    let (begun, [a, b, c, d, e, f]) = log.call;
    if begun != number {
        return;
    }
    let failed = (-4095..0).contains(&result);
    let address = result as u64;
    match number {
        MMAP if !failed => {
            let executable = c & PROT_EXEC != 0;
            let file = if d & MAP_ANONYMOUS == 0 { path_of(e).map(|path| (path, f)) } else { None };
            log.mapped_code |= executable && file.is_some();
            log.happened(Happening::Mapped { address, bytes: pages(b), file, executable });
        }
        MREMAP if !failed => {
            log.happened(Happening::Remapped { old: a, old_bytes: pages(b), address, bytes: pages(c) });
        }
        BRK => log.happened(Happening::Break(address)),
        _ if !log::are_several() => return,
        _ if WAITING.contains(&number) || is_read_of_stream(number, a) => log.happened(Happening::Waited),
        _ => return,
    }
    if log::are_several() {
        link::hand_over(log);
    }
}

/// Whether it read from what another thread or process writes to.
fn is_read_of_stream(number: i64, descriptor: u64) -> bool {
    match number {
        RECVFROM | RECVMSG => true,
        READ | READV => {
            // SAFETY: zeros are a valid status, which the kernel fills.
            let mut status: libc::stat = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            let known = unsafe { libc::fstat(descriptor as i32, &raw mut status) } == 0;
            known && matches!(status.st_mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFSOCK)
        }
        _ => false,
    }
}
