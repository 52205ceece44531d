//! Memory of our own, for the few things that need an allocator: the unwinder's modules and caches.
//!
//! Chunks come from `mmap` and are handed out by advancing a counter. Freed pieces go on a list per size class, under
//! a lock that is only ever tried: whoever finds it taken carries on without it, which costs a piece of memory and
//! never time. A thread killed while it holds a list's lock therefore makes the arena leak, and nothing worse.

use crate::sys;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

const CHUNK_BYTES: usize = 256 << 10;
const SMALLEST: usize = 32;
/// Size classes 32, 64, ... 32 KiB; what is larger gets a mapping of its own.
const CLASSES: usize = 11;

#[repr(C)]
struct Chunk {
    used: AtomicUsize,
}

#[derive(Debug)]
struct FreeList {
    taken: AtomicBool,
    first: AtomicPtr<u8>,
}

impl FreeList {
    const fn new() -> Self {
        FreeList { taken: AtomicBool::new(false), first: AtomicPtr::new(null_mut()) }
    }

    /// Runs `f` on the list's head if nobody else is at it.
    fn attempt<R>(&self, f: impl FnOnce(&AtomicPtr<u8>) -> R) -> Option<R> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        let result = f(&self.first);
        self.taken.store(false, Ordering::Release);
        Some(result)
    }

    fn pop(&self) -> Option<*mut u8> {
        self.attempt(|first| {
            let head = first.load(Ordering::Relaxed);
            if head.is_null() {
                return None;
            }
            // SAFETY: a piece on the list is ours alone, and its first word is the link.
            first.store(unsafe { head.cast::<*mut u8>().read() }, Ordering::Relaxed);
            Some(head)
        })
        .flatten()
    }

    fn push(&self, piece: *mut u8) {
        self.attempt(|first| {
            // SAFETY: the piece was given back, holds at least a word and is aligned for one.
            unsafe { piece.cast::<*mut u8>().write(first.load(Ordering::Relaxed)) };
            first.store(piece, Ordering::Relaxed);
        });
    }
}

/// The allocator. One static of it serves the whole shim.
#[derive(Debug)]
pub(crate) struct Arena {
    current: AtomicPtr<Chunk>,
    free: [FreeList; CLASSES],
}

fn class_of(layout: Layout) -> Option<usize> {
    let bytes = layout.size().max(layout.align()).max(SMALLEST).checked_next_power_of_two()?;
    let class = (bytes.trailing_zeros() - SMALLEST.trailing_zeros()) as usize;
    (class < CLASSES).then_some(class)
}

fn pages(bytes: usize) -> usize {
    bytes.div_ceil(4096).saturating_mul(4096)
}

impl Arena {
    /// An arena without memory yet.
    pub(crate) const fn new() -> Self {
        Arena { current: AtomicPtr::new(null_mut()), free: [const { FreeList::new() }; CLASSES] }
    }

    fn bump(&self, bytes: usize) -> *mut u8 {
        loop {
            let chunk = self.current.load(Ordering::Acquire);
            if !chunk.is_null() {
                // SAFETY: chunks are never unmapped.
                let at = unsafe { &(*chunk).used }.fetch_add(bytes, Ordering::Relaxed);
                if at.checked_add(bytes).is_some_and(|end| end <= CHUNK_BYTES) {
                    // SAFETY: `at` is within the chunk.
                    return unsafe { chunk.cast::<u8>().add(at) };
                }
            }
            let Some(fresh) = sys::map_private(CHUNK_BYTES) else { return null_mut() };
            let fresh = fresh.cast::<Chunk>();
            // SAFETY: fresh memory of ours.
            unsafe { (*fresh).used.store(SMALLEST, Ordering::Relaxed) };
            if self.current.compare_exchange(chunk, fresh, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                // SAFETY: nobody else has seen it.
                unsafe { sys::unmap(fresh.cast(), CHUNK_BYTES) };
            }
        }
    }
}

// SAFETY: pieces are disjoint, as large as their class and aligned to 32 bytes or, above, to a page of their own.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(layout) {
            Some(class) if layout.align() <= SMALLEST => {
                self.free[class].pop().unwrap_or_else(|| self.bump(SMALLEST << class))
            }
            _ if layout.align() <= 4096 => sys::map_private(pages(layout.size())).unwrap_or(null_mut()),
            _ => null_mut(),
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match class_of(layout) {
            Some(class) if layout.align() <= SMALLEST => self.free[class].push(piece),
            // SAFETY: it was a mapping of its own.
            _ => unsafe { sys::unmap(piece, pages(layout.size())) },
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_overlap_and_are_used_again() {
        let arena = Arena::new();
        let layouts: Vec<Layout> = [1, 24, 32, 100, 5000, 32 << 10, 100_000]
            .iter()
            .map(|n| Layout::from_size_align(*n, 16).unwrap())
            .collect();
        let mut seen = Vec::new();
        for layout in layouts.iter().cycle().take(700) {
            // SAFETY: sizes are not zero; each piece is written within its bounds.
            unsafe {
                let piece = arena.alloc(*layout);
                assert!(!piece.is_null() && (piece as usize).is_multiple_of(16));
                piece.write_bytes(seen.len() as u8, layout.size());
                seen.push((piece, *layout, seen.len() as u8));
            }
        }
        for (piece, layout, value) in seen {
            // SAFETY: written above, and given back once.
            unsafe {
                assert_eq!((piece.read(), piece.add(layout.size() - 1).read()), (value, value));
                arena.dealloc(piece, layout);
            }
        }
        let before = arena.current.load(Ordering::Relaxed);
        for layout in layouts.iter().cycle().take(700) {
            // SAFETY: as above.
            unsafe { assert!(!arena.alloc(*layout).is_null()) };
        }
        assert_eq!(before, arena.current.load(Ordering::Relaxed), "freed pieces were not used again");
    }

    #[test]
    fn threads_get_pieces_of_their_own() {
        static ARENA: Arena = Arena::new();
        std::thread::scope(|scope| {
            for mark in 0..4_u8 {
                scope.spawn(move || {
                    let layout = Layout::from_size_align(48, 8).unwrap();
                    for _ in 0..20_000 {
                        // SAFETY: a live piece of 48 bytes.
                        unsafe {
                            let piece = ARENA.alloc(layout);
                            piece.write_bytes(mark, 48);
                            std::hint::spin_loop();
                            assert!((0..48).all(|at| piece.add(at).read() == mark));
                            ARENA.dealloc(piece, layout);
                        }
                    }
                });
            }
        });
    }
}
