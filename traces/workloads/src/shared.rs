//! Arrays that several threads write, without owning them as atomics.
//!
//! Objects are allocated as plain vectors of numbers: that is what the systems these kernels stand for do, and `calloc`
//! can hand out untouched zero pages. While threads share one, it is seen as atomics. An exclusive borrow of plain
//! integers may be viewed as shared atomics of the same width: the borrow proves that nobody reads it otherwise
//! meanwhile, every bit pattern is valid in both, and size and alignment are the same, which is asserted at compile time.
//!
//! All accesses are relaxed. What one level writes and the next reads is ordered by the barrier between them.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

const _: () = {
    assert!(size_of::<AtomicU32>() == size_of::<u32>() && align_of::<AtomicU32>() == align_of::<u32>());
    assert!(size_of::<AtomicU64>() == size_of::<u64>() && align_of::<AtomicU64>() == align_of::<u64>());
    assert!(size_of::<AtomicU32>() == size_of::<f32>() && align_of::<AtomicU32>() == align_of::<f32>());
    assert!(size_of::<AtomicU64>() == size_of::<f64>() && align_of::<AtomicU64>() == align_of::<f64>());
};

/// A number with an atomic of its width.
pub(crate) trait Word: Copy {
    /// That atomic.
    type Atomic;
}

impl Word for u32 {
    type Atomic = AtomicU32;
}
impl Word for u64 {
    type Atomic = AtomicU64;
}
impl Word for f32 {
    type Atomic = AtomicU32;
}
impl Word for f64 {
    type Atomic = AtomicU64;
}

/// The same memory, as atomics.
pub(crate) fn view<T: Word>(words: &mut [T]) -> &[T::Atomic] {
    // SAFETY: `Word` is implemented above only for numbers whose atomic has the same size and alignment (asserted) and
    // for which every bit pattern is valid; the exclusive borrow lasts as long as the shared one that replaces it.
    unsafe { std::slice::from_raw_parts(words.as_mut_ptr().cast(), words.len()) }
}

/// Adds 1 to a counter; see [`add`].
#[inline]
pub(crate) fn count(counter: &AtomicU32, contended: bool) {
    if contended {
        counter.fetch_add(1, Relaxed);
    } else {
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }
}

/// Adds to a counter and returns what it held. Where one thread alone counts (`contended` is false), a load and a store
/// do, at a fifth of the price of a locked instruction.
#[inline]
pub(crate) fn add(counter: &AtomicU64, amount: u64, contended: bool) -> u64 {
    if contended {
        counter.fetch_add(amount, Relaxed)
    } else {
        let before = counter.load(Relaxed);
        counter.store(before + amount, Relaxed);
        before
    }
}

/// Hands out a range in pieces, to whichever thread comes first.
#[derive(Debug)]
pub(crate) struct Pieces {
    next: AtomicUsize,
    end: usize,
    piece: usize,
}

impl Pieces {
    /// `range` in pieces of `piece`, which is not 0.
    pub(crate) fn new(range: Range<usize>, piece: usize) -> Self {
        Pieces { next: AtomicUsize::new(range.start), end: range.end, piece }
    }

    /// The next piece, until none is left.
    pub(crate) fn take(&self) -> Option<Range<usize>> {
        let start = self.next.fetch_add(self.piece, Relaxed);
        (start < self.end).then(|| start..self.end.min(start + self.piece))
    }
}

/// The pieces of `range` that fall to `thread` when threads take turns: every so manieth. Where threads meet at barriers,
/// this needs no counter to be set back.
pub(crate) fn turns(
    range: Range<usize>,
    piece: usize,
    thread: u32,
    threads: u32,
) -> impl Iterator<Item = Range<usize>> {
    let first = range.start + thread as usize * piece;
    (first..range.end).step_by(threads as usize * piece).map(move |start| start..range.end.min(start + piece))
}

/// Calls `work` with every piece of `range`, on that many threads.
pub(crate) fn for_each_piece(range: Range<usize>, piece: usize, threads: u32, work: impl Fn(Range<usize>) + Sync) {
    let pieces = Pieces::new(range, piece);
    on_threads(threads, |_| {
        while let Some(piece) = pieces.take() {
            work(piece);
        }
    });
}

/// Calls `work` with every chunk of `data` and where it begins, on that many threads. What one thread has for itself
/// needs no atomics, so that loops over it can be vectorised.
pub(crate) fn for_each_chunk_mut<T: Send>(
    data: &mut [T],
    chunk: usize,
    threads: u32,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    on_pieces(threads, data, chunk, || (), |(), number, data| work(number * chunk, data));
}

/// Runs `work` on that many threads at once, which it tells their numbers from 0; the caller's is 0.
pub(crate) fn on_threads(threads: u32, work: impl Fn(u32) + Sync) {
    std::thread::scope(|scope| {
        let work = &work;
        for thread in 1..threads {
            scope.spawn(move || work(thread));
        }
        work(0);
    });
}

/// Works on the pieces of a slice, each `piece` long but the last, on that many threads; `work` is told a piece's number
/// and may use the thread's own scratch. Where the pieces are cut does not depend on the number of threads, so that
/// results do not either as long as each depends on its piece alone.
pub(crate) fn on_pieces<T: Send, S>(
    threads: u32,
    data: &mut [T],
    piece: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) + Sync,
) {
    let pieces = Mutex::new(data.chunks_mut(piece).enumerate());
    on_threads(threads, |_| {
        let mut scratch = scratch();
        loop {
            // A thread that panicked while it held the lock has left a whole iterator behind.
            let next = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, piece)) = next else { break };
            work(&mut scratch, number, piece);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_the_same_memory() {
        let mut numbers = vec![1.5f64, 2.5];
        view(&mut numbers)[1].store(7f64.to_bits(), Relaxed);
        assert_eq!(numbers, [1.5, 7.0]);
    }

    #[test]
    fn turns_cover_the_range_once() {
        let mut covered: Vec<usize> = (0..3).flat_map(|thread| turns(5..1000, 7, thread, 3)).flatten().collect();
        covered.sort_unstable();
        assert!(covered.into_iter().eq(5..1000));
    }

    #[test]
    fn chunks_cover_the_data_once() {
        let mut data = vec![0; 1000];
        for_each_chunk_mut(&mut data, 7, 3, |start, chunk| {
            chunk.iter_mut().enumerate().for_each(|(index, number)| *number += start + index);
        });
        assert!(data.into_iter().eq(0..1000));
    }

    #[test]
    fn each_piece_is_worked_on_once() {
        for threads in [1, 3] {
            let mut data = vec![0u32; 100];
            on_pieces(
                threads,
                &mut data,
                7,
                || (),
                |(), number, piece| piece.iter_mut().for_each(|x| *x += number as u32),
            );
            assert!(data.iter().enumerate().all(|(i, &x)| x == i as u32 / 7));
        }
    }

    #[test]
    fn pieces_cover_the_range_once() {
        let sum = AtomicU64::new(0);
        let pieces = Pieces::new(3..1003, 7);
        on_threads(4, |_| {
            while let Some(piece) = pieces.take() {
                sum.fetch_add(piece.map(|i| i as u64).sum::<u64>(), Relaxed);
            }
        });
        assert_eq!(sum.into_inner(), (3..1003u64).sum::<u64>());
    }
}
