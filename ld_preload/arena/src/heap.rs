//! Small blocks: one `dlmalloc` per tier and shard, behind a lock, on chunks of the arena.
//!
//! What is used of that crate is its layout-free interface (`c_malloc`, `c_memalign`, `c_realloc`, `c_free`), which
//! needs neither size nor alignment of the block that is freed: the word before each block holds its size and two bits,
//! "this one is in use" and "the one before is". The crate has no function that tells a block's size, so
//! [`Small::usable`] reads that word itself; the tests write every byte it promises and would find the next block
//! damaged if the crate ever changed. The same two bits are what a freed pointer is checked by.
//!
//! `dlmalloc` points into itself once it is used, so a heap stays where it was made: in the metadata memory.

use crate::arena::Arena;
use crate::chunks::Growth;
use crate::lock::Locked;
use crate::pages::Pages;
use crate::segments::{Head, State};
use crate::{CHUNK, PAGE, SEGMENT};
use core::cell::Cell;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, Ordering};
use dlmalloc::{Allocator, Dlmalloc};

/// What a heap grows by at most beyond what it needs. It grows by a sixteenth of itself, so that the number of runs in
/// its list, which each growth walks, grows with the logarithm of its size.
const LARGEST_GROWTH: usize = 32 << 20;

const WORD: usize = size_of::<usize>();
const PREVIOUS_IN_USE: usize = 1;
const IN_USE: usize = 2;
const FLAGS: usize = 7;
/// Four words: the smallest piece `dlmalloc` deals in.
const SMALLEST_PIECE: usize = 4 * WORD;

/// Where a heap gets its memory.
#[derive(Debug)]
pub(crate) struct Source<'m, P: Pages> {
    arena: *const Arena<'m, P>,
    partial: *const Head,
    owner: State,
    /// Where the last growth ended.
    end: Cell<usize>,
    bytes: Cell<usize>,
}

// SAFETY: the arena and the list's head are shared and outlive the heap; the cells are reached under the heap's lock.
unsafe impl<P: Pages> Send for Source<'_, P> {}

impl<'m, P: Pages> Source<'m, P> {
    fn arena(&self) -> &Arena<'m, P> {
        // SAFETY: the arena owns the heap that owns this, and was written before any heap is used.
        unsafe { &*self.arena }
    }

    fn give(&self, address: usize, bytes: usize) {
        // SAFETY: the head lies beside the heap, which lives as long as the arena.
        self.arena().give_chunks(self.owner, unsafe { &*self.partial }, address, bytes);
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
        if self.end.get() == address + bytes {
            self.end.set(address);
        }
    }
}

// SAFETY: chunks are disjoint, committed, and stay the heap's until it gives them back.
unsafe impl<P: Pages> Allocator for Source<'_, P> {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let need = size.div_ceil(CHUNK);
        let growth = Growth {
            after: self.end.get(),
            need,
            wanted: need.max((self.bytes.get() / 16).min(LARGEST_GROWTH) / CHUNK),
        };
        // SAFETY: as in `give`.
        let Some((address, bytes)) = self.arena().take_chunks(self.owner, unsafe { &*self.partial }, growth) else {
            return (null_mut(), 0, 0);
        };
        self.end.set(address + bytes);
        self.bytes.set(self.bytes.get() + bytes);
        (self.arena().pointer(address), bytes, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        null_mut()
    }

    fn free_part(&self, start: *mut u8, old_bytes: usize, new_bytes: usize) -> bool {
        self.give(start.addr() + new_bytes, old_bytes - new_bytes);
        true
    }

    fn free(&self, start: *mut u8, bytes: usize) -> bool {
        self.give(start.addr(), bytes);
        true
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    /// What is retained is not zero.
    fn allocates_zeros(&self) -> bool {
        false
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}

/// The allocator of a heap, and what was done with it.
pub(crate) struct Small<'m, P: Pages> {
    blocks: Dlmalloc<Source<'m, P>>,
    /// Blocks that are out.
    live: usize,
    /// Bytes freed since the heap was last trimmed.
    freed: usize,
}

/// One heap.
#[repr(align(128))]
pub(crate) struct Heap<'m, P: Pages> {
    pub(crate) small: Locked<Small<'m, P>>,
    /// Its segments with room; under the lock of the extents.
    pub(crate) partial: Head,
    /// Set by whoever frees, so that a full tier need not look into each heap at every refusal: trimming may find
    /// something, because a chunk's worth was freed since the last time, or no block is out.
    pub(crate) is_worth_trimming: AtomicBool,
}

impl<P: Pages> core::fmt::Debug for Heap<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Heap").finish_non_exhaustive()
    }
}

impl<'m, P: Pages> Heap<'m, P> {
    /// Frees the block at `address`, if one is there.
    pub(crate) fn free(&self, address: usize, relax: impl Fn(u32)) -> bool {
        let mut small = self.small.lock(relax);
        let freed = small.free(address);
        if freed && (small.freed >= CHUNK || small.live == 0) && !self.is_worth_trimming.load(Ordering::Relaxed) {
            self.is_worth_trimming.store(true, Ordering::Relaxed);
        }
        freed
    }

    /// Makes the heap `owner` at `place`.
    ///
    /// # Safety
    ///
    /// `place` is memory for a heap that outlives it, and `arena` is where the arena will be before the heap is used.
    pub(crate) unsafe fn write(place: *mut Self, arena: *const Arena<'m, P>, owner: State) {
        // SAFETY: the caller's promise; the field is not read.
        let partial = unsafe { &raw const (*place).partial };
        let source = Source { arena, partial, owner, end: Cell::new(0), bytes: Cell::new(0) };
        // SAFETY: the caller's promise.
        unsafe {
            place.write(Heap {
                small: Locked::new(Small::new(source)),
                partial: Head::new(0),
                is_worth_trimming: AtomicBool::new(false),
            });
        }
    }
}

impl<'m, P: Pages> Small<'m, P> {
    fn new(source: Source<'m, P>) -> Self {
        let mut blocks = Dlmalloc::new_with_allocator(source);
        blocks.set_granularity(CHUNK);
        Small { blocks, live: 0, freed: 0 }
    }

    pub(crate) fn allocate(&mut self, bytes: usize, alignment: usize) -> Option<NonNull<u8>> {
        // SAFETY: the alignment is a power of two, and the heap stays where it is.
        let block = NonNull::new(unsafe {
            if alignment <= 2 * WORD { self.blocks.c_malloc(bytes) } else { self.blocks.c_memalign(alignment, bytes) }
        })?;
        self.live += 1;
        Some(block)
    }

    /// The bytes the program may write in the block at `address`; `None` where there can be no block.
    pub(crate) fn usable(&self, address: usize) -> Option<usize> {
        let source = self.blocks.allocator();
        let piece = address.checked_sub(2 * WORD)?;
        let ours = |at: usize| source.arena().is_in_chunk_of(source.owner, at);
        if !address.is_multiple_of(2 * WORD) || !ours(piece) {
            return None;
        }
        // SAFETY: aligned, and in a chunk of this heap, whose lock is held.
        let head = unsafe { self.head(piece) };
        let bytes = head & !FLAGS;
        let next = piece + bytes;
        if head & IN_USE == 0 || !(SMALLEST_PIECE..SEGMENT).contains(&bytes) || !next.is_multiple_of(2 * WORD) {
            return None;
        }
        let is_ours = next / CHUNK == piece / CHUNK || ours(next);
        // SAFETY: as above.
        (is_ours && unsafe { self.head(next) } & PREVIOUS_IN_USE != 0).then_some(bytes - WORD)
    }

    /// # Safety
    ///
    /// `piece` is a multiple of 16 in a chunk of this heap.
    unsafe fn head(&self, piece: usize) -> usize {
        // SAFETY: the caller's promise; a piece's second word is its head.
        unsafe { self.blocks.allocator().arena().pointer(piece + WORD).cast::<usize>().read() }
    }

    /// Frees the block at `address`, if one is there.
    fn free(&mut self, address: usize) -> bool {
        let Some(bytes) = self.usable(address) else { return false };
        let block = self.blocks.allocator().arena().pointer(address);
        // SAFETY: checked as far as it can be; the rest is the promise of whoever called `Arena::free`.
        unsafe { self.blocks.c_free(block) };
        self.live = self.live.saturating_sub(1);
        self.freed = self.freed.saturating_add(bytes);
        true
    }

    /// Makes the block at `address` hold `bytes`, there or elsewhere in this heap.
    pub(crate) fn reallocate(&mut self, address: usize, bytes: usize) -> Option<NonNull<u8>> {
        let held = self.usable(address)?;
        self.freed = self.freed.saturating_add(held);
        let block = self.blocks.allocator().arena().pointer(address);
        // SAFETY: as in `free`.
        NonNull::new(unsafe { self.blocks.c_realloc(block, bytes) })
    }

    /// Gives back what can be: all of it when no block is out.
    pub(crate) fn trim(&mut self) {
        self.freed = 0;
        if self.live > 0 {
            // SAFETY: the heap is whole between calls.
            unsafe { self.blocks.trim(0) };
            return;
        }
        let source = self.blocks.allocator();
        let (arena, partial, owner) = (source.arena, source.partial, source.owner);
        let fresh = Source { arena, partial, owner, end: Cell::new(0), bytes: Cell::new(0) };
        let old = core::mem::replace(self, Small::new(fresh));
        // SAFETY: no block is out; what is moved is read for its list of runs only, which does not point into it.
        unsafe { old.blocks.destroy() };
    }
}
