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

/// A number from 0 (included) to 1 (not included), from a random word.
#[inline]
pub(crate) fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1u64 << 53) as f64
}

/// A number from the normal distribution, from a random word: the sum of four uniform numbers of 16 bits, centred and
/// scaled to variance 1. Its tails end at 3.5, which is enough for weights and noise.
#[inline]
pub(crate) fn normal(word: u64) -> f32 {
    let sum = (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
    // Four uniform numbers of width 65536 have variance 4 * 65536^2 / 12.
    const DEVIATION: f32 = 65536.0 * 0.577_350_26;
    (sum as f32 - 2.0 * 65535.0) / DEVIATION
}

/// A bijection of the numbers below some count, without a table: who was hottest, first or nearest in the order in which
/// data were made need not lie at the beginning of an array.
///
/// On the numbers below the next power of two, multiplication by an odd number and a folding of the high half into the
/// low one are each invertible; a result that is not below the count is mapped again until one is (cycle walking),
/// which ends because the count's own cycle returns to it, and takes less than two rounds on average.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permutation {
    count: u32,
    mask: u32,
    fold: u32,
    factors: [u32; 3],
}

impl Permutation {
    /// A bijection of the numbers below `count` (1 to 2^31).
    pub(crate) fn new(count: u32, seed: u64) -> Self {
        let bits = count.next_power_of_two().trailing_zeros().max(1);
        let odd = |stream| derive(seed, stream) as u32 | 1;
        let mask = ((1u64 << bits) - 1) as u32;
        Permutation { count, mask, fold: bits.div_ceil(2), factors: [odd(1), odd(2), odd(3)] }
    }

    /// Where `number` goes.
    #[inline]
    pub(crate) fn apply(&self, mut number: u32) -> u32 {
        loop {
            for factor in self.factors {
                number = number.wrapping_mul(factor).wrapping_add(factor >> 1) & self.mask;
                number ^= number >> self.fold;
            }
            if number < self.count {
                return number;
            }
        }
    }
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

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let numbers: Vec<_> = (0..100_000).map(|i| f64::from(normal(at(3, i)))).collect();
        let mean = numbers.iter().sum::<f64>() / 1e5;
        let variance = numbers.iter().map(|x| x * x).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn a_permutation_reaches_every_number_once() {
        for count in [1, 2, 3, 100, 1000, 4096] {
            let permutation = Permutation::new(count, 5);
            let mut seen = vec![false; count as usize];
            (0..count).for_each(|number| seen[permutation.apply(number) as usize] = true);
            assert!(seen.iter().all(|&seen| seen), "{count}");
        }
    }

    #[test]
    fn a_permutation_scatters_neighbours() {
        let permutation = Permutation::new(1 << 20, 1);
        let far = (0..1000).filter(|&i| permutation.apply(i).abs_diff(permutation.apply(i + 1)) > 1 << 12).count();
        assert!(far > 900, "{far}");
    }
}
