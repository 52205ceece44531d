//! Where code bytes and function bounds come from.
//!
//! The decoder must read what the process executes, which is its memory and not necessarily any file; yet nearly all of
//! it is mapped from files that stay readable when the process is gone. So the source is the caller's to choose.

use std::ops::Range;

/// The code of one process, as it was when the samples were taken.
pub trait Code {
    /// Reads what the process has at `address`; returns how many bytes from the start of `buffer` were filled.
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> usize;

    /// Bounds of the function that contains `address`, where unwind tables or symbols say.
    fn function(&mut self, address: u64) -> Option<Range<u64>>;

    /// Reads data, to compute an address again that was overwritten in registers. What is there now need not be what was
    /// there when the sample was taken, and results are marked so. The default reads nothing.
    fn read_data(&mut self, _address: u64, _buffer: &mut [u8]) -> usize {
        0
    }

    /// Base of the `fs` segment of a thread, which x86-64 Linux uses for thread-local data, where known.
    fn thread_pointer(&mut self, _tid: u32) -> Option<u64> {
        None
    }
}

/// The code of a running process, read from its memory. It takes the right to trace the process.
pub struct ProcessCode<F> {
    pid: u32,
    functions: F,
}

impl<F: FnMut(u64) -> Option<Range<u64>>> ProcessCode<F> {
    /// Reads from process `pid`; `functions` gives the bounds of the function that contains an address.
    pub fn new(pid: u32, functions: F) -> Self {
        ProcessCode { pid, functions }
    }
}

impl<F: FnMut(u64) -> Option<Range<u64>>> Code for ProcessCode<F> {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // An address in another process: no pointer of ours, and never dereferenced here.
        let Ok(remote_address) = usize::try_from(address) else { return 0 };
        let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(remote_address), iov_len: buffer.len() };
        // SAFETY: `local` describes `buffer`, which is live and writable; `remote` is resolved by the kernel in the other
        // process, where a bad address is an error and not a fault.
        let read = unsafe { libc::process_vm_readv(self.pid.cast_signed(), &local, 1, &remote, 1, 0) };
        usize::try_from(read).unwrap_or(0)
    }

    fn function(&mut self, address: u64) -> Option<Range<u64>> {
        (self.functions)(address)
    }

    fn read_data(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        self.read(address, buffer)
    }
}
