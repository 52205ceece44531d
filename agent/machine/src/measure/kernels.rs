//! The loops that are timed.
//!
//! **Chase.** Each line of a buffer holds the index of the next, and all lines are on one cycle, so that a hop can start only
//! when the last has ended, no line comes twice before all came once (the buffer is far larger than the caches: none is hit
//! but by chance), and no prefetcher can tell what comes next. The cycle is *s(0), s(1), s(2)...* where *s* mixes the bits of
//! a line's number. Each step of *s* (a shift-and-xor, a product with an odd number modulo a power of two) can be undone, so
//! *s* is a permutation: the cycle has every line once, without a shuffle that would itself miss the cache at every line.
//!
//! **Streams.** Sums of all words, and stores that go around the caches where the architecture has them: an ordinary store
//! would read the line first and count half.

/// Words of a cache line.
pub(crate) const LINE_WORDS: usize = 8;
/// Words of a piece of a stream: 1 MiB, some 100 us, beside which reading a clock is nothing.
const PIECE_WORDS: usize = 128 << 10;
/// Hops of a piece of a chase.
const PIECE_HOPS: u64 = 1 << 10;

/// A permutation of the numbers of `bits` bits.
pub(crate) fn mix(number: u64, bits: u32) -> u64 {
    let mask = (1_u64 << bits) - 1;
    let half = (bits / 2).max(1);
    let mut mixed = number & mask;
    for factor in [0x9e37_79b9_7f4a_7c15_u64, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        mixed ^= mixed >> half;
        mixed = mixed.wrapping_mul(factor) & mask;
    }
    mixed ^ (mixed >> half)
}

/// Write the cycle into a buffer of a power of two of lines, telling about every 64th part.
pub(crate) fn write_cycle<E>(words: &mut [u64], mut tick: impl FnMut(f64) -> Result<(), E>) -> Result<(), E> {
    let lines = (words.len() / LINE_WORDS) as u64;
    let bits = lines.trailing_zeros();
    let part = (lines / 64).max(1);
    let mut line = mix(0, bits);
    for step in 1..=lines {
        let next = mix(step, bits);
        if let Some(word) = words.get_mut(line as usize * LINE_WORDS) {
            *word = next * LINE_WORDS as u64;
        }
        line = next;
        if step % part == 0 {
            tick(step as f64 / lines as f64)?;
        }
    }
    Ok(())
}

/// Hop along the cycle from a word; where it ended. The check of the bounds is predicted and so not on the way of the data.
#[inline(never)]
pub(crate) fn hop(words: &[u64], from: &mut u64) -> u64 {
    let mut place = *from;
    for _ in 0..PIECE_HOPS {
        place = words.get(place as usize).copied().unwrap_or(0);
    }
    *from = std::hint::black_box(place);
    PIECE_HOPS
}

/// Read the next piece of a slice, beginning again at its end; the bytes of it.
#[inline(never)]
pub(crate) fn read_piece(words: &[u64], from: &mut usize) -> u64 {
    let piece = next_piece(words.len(), from);
    let words = words.get(piece).unwrap_or_default();
    // Eight sums, so that additions do not wait for each other.
    let mut sums = [0_u64; 8];
    for line in words.chunks_exact(8) {
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(*word);
        }
    }
    std::hint::black_box(sums);
    size_of_val(words) as u64
}

/// Write the next piece of a slice.
#[inline(never)]
pub(crate) fn write_piece(words: &mut [u64], from: &mut usize) -> u64 {
    let piece = next_piece(words.len(), from);
    let words = words.get_mut(piece).unwrap_or_default();
    let bytes = size_of_val(words) as u64;
    store(words);
    bytes
}

/// Whether [`write_piece`] goes around the caches.
pub(crate) const AROUND_CACHES: bool = cfg!(target_arch = "x86_64");

#[cfg(target_arch = "x86_64")]
fn store(words: &mut [u64]) {
    use std::arch::x86_64::{__m128i, _mm_set1_epi64x, _mm_sfence, _mm_stream_si128};
    // SAFETY: every bit pattern is a valid u64 and a valid vector of two.
    let (before, vectors, after) = unsafe { words.align_to_mut::<__m128i>() };
    before.fill(1);
    after.fill(1);
    // SAFETY: SSE and SSE2 are part of x86-64; each reference is valid for writing and aligned as its type. The fence orders
    // the stores before whatever reads the buffer next.
    unsafe {
        let value = _mm_set1_epi64x(1);
        for vector in vectors {
            _mm_stream_si128(vector, value);
        }
        _mm_sfence();
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn store(words: &mut [u64]) {
    words.fill(std::hint::black_box(1));
}

fn next_piece(length: usize, from: &mut usize) -> std::ops::Range<usize> {
    let start = if *from < length { *from } else { 0 };
    let end = (start + PIECE_WORDS).min(length);
    *from = end;
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cycle_visits_every_line_once_and_rarely_a_neighbour() {
        let lines = 1 << 14;
        let mut words = vec![u64::MAX; lines * LINE_WORDS];
        write_cycle(&mut words, |_| Ok::<(), ()>(())).unwrap();
        let (mut seen, mut place, mut near) = (vec![false; lines], 0_usize, 0);
        for _ in 0..lines {
            let next = words[place] as usize;
            assert_eq!(next % LINE_WORDS, 0);
            assert!(!std::mem::replace(&mut seen[next / LINE_WORDS], true));
            // In one page: what a prefetcher could guess. By chance it would be one in 128.
            near += usize::from(place.abs_diff(next) < 512);
            place = next;
        }
        assert_eq!(place, 0);
        assert!(near < lines / 50, "{near}");
    }

    #[test]
    fn pieces_cover_a_slice_and_begin_again() {
        let mut words = vec![0_u64; PIECE_WORDS * 2 + 3];
        let mut from = 0;
        let bytes: Vec<u64> = (0..4).map(|_| write_piece(&mut words, &mut from)).collect();
        let piece = PIECE_WORDS as u64 * 8;
        assert_eq!(bytes, [piece, piece, 24, piece]);
        assert!(words.iter().all(|&word| word == 1));
        from = 0;
        assert_eq!((0..3).map(|_| read_piece(&words, &mut from)).sum::<u64>(), words.len() as u64 * 8);
        assert_eq!(read_piece(&[], &mut 0), 0);
    }

    #[test]
    fn mixing_is_a_permutation_at_every_width() {
        for bits in 1..12 {
            let mut all: Vec<u64> = (0..1 << bits).map(|number| mix(number, bits)).collect();
            all.sort_unstable();
            assert!(all.iter().enumerate().all(|(index, &number)| index as u64 == number));
        }
    }
}
