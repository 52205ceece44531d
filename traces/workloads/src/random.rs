//! Random numbers that depend on a seed and a position only.
//!
//! A generator that is a pure function of (seed, counter) can be asked for any element again: the graph builder makes
//! its edges twice, once to count and once to place them, instead of keeping a list that would double its memory; and
//! threads may split the range as they like without changing the result. The function is SplitMix64 (Steele, Lea and
//! Flood, OOPSLA 2014): a Weyl sequence through a 64-bit finaliser, which passes BigCrush.

/// The odd constant nearest to 2^64 divided by the golden ratio.
const WEYL: u64 = 0x9e37_79b9_7f4a_7c15;

/// The `counter`-th number of the sequence with that seed.
#[inline]
pub(crate) fn at(seed: u64, counter: u64) -> u64 {
    finalise(seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(WEYL)))
}

/// A seed for an independent sequence.
pub(crate) fn derive(seed: u64, stream: u64) -> u64 {
    at(finalise(seed), stream)
}

/// A number below `bound`, from a random word (the high half of a product: the bias is below `bound` / 2^32).
#[inline]
pub(crate) fn below(word: u64, bound: u32) -> u32 {
    (((word >> 32) * u64::from(bound)) >> 32) as u32
}

#[inline]
fn finalise(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_sequence() {
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        assert_eq!([at(1234567, 0), at(1234567, 1), at(1234567, 2)], expected);
    }

    #[test]
    fn numbers_below_a_bound_are_even() {
        let mut counts = [0u32; 7];
        for i in 0..70_000 {
            counts[below(at(1, i), 7) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (9_500..10_500).contains(&count)), "{counts:?}");
    }
}
