//! Where memory comes from: the one thing the caller implements.

/// Memory of tiers, and a way to wait.
///
/// Called with locks of the arena held, by whatever thread of the program happens to allocate: an implementation makes
/// its system calls directly, allocates nothing, and never calls the arena.
pub trait Pages: Sync {
    /// Makes `bytes` at `address` readable and writable memory of `tier`, all zero. Both are multiples of 4 KiB, within
    /// the region, and the range was never committed or was decommitted since.
    ///
    /// False leaves the range as it was: nothing there is used. The kernel's limit of mappings per process
    /// (`vm.max_map_count`) is a reason to refuse like any other.
    fn commit(&self, tier: usize, address: usize, bytes: usize) -> bool;

    /// Takes the memory back. The contents are lost, the range stays reserved, and the next `commit` of any part of it,
    /// be it for another tier, must find zeros.
    fn decommit(&self, tier: usize, address: usize, bytes: usize);

    /// Lets another thread run, because a lock is taken: `sched_yield`, or a short sleep when `rounds`, the number of
    /// times this waiter was here before, grows (a thread of real-time priority would yield to nobody else).
    fn relax(&self, rounds: u32);
}
