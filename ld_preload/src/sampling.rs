//! Which small blocks are recorded: Poisson sampling of bytes.
//!
//! Imagine sample points strewn over the stream of allocated bytes, the gaps between them exponentially distributed
//! with a mean of `mean` bytes. A block is recorded when at least one point falls on it, which for a block of `s` bytes
//! happens with probability `1 - exp(-s / mean)`: exactly the weight the agent divides by. The fast path holds the
//! bytes left to the next point and subtracts each block from them. The exponential distribution has no memory, so
//! after a recorded block the next gap may be drawn afresh from its end; several points in one block count once.
//!
//! The gap is rounded down to whole bytes: for an integer `s`, `floor(gap) < s` holds exactly when `gap < s`, and what
//! remains after a block that was passed over is again a rounded-down exponential. Nothing is biased by it.

/// Steps a 64-bit xorshift generator (Marsaglia's 13, 7, 17; multiplied as in xorshift*). Never returns to 0.
pub(crate) fn next_random(state: u64) -> (u64, u64) {
    let mut x = state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    (x, x.wrapping_mul(0x2545_f491_4f6c_dd1d))
}

/// A state for the generator, from anything; never 0.
pub(crate) fn seed(entropy: u64) -> u64 {
    let mut x = entropy.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31) | 1
}

/// Bytes to the next sample point, from 64 random bits.
pub(crate) fn gap(random: u64, mean_bytes: u64) -> i64 {
    // (0, 1]: 53 bits, never 0.
    let uniform = ((random >> 11) + 1) as f64 * (1.0 / (1_u64 << 53) as f64);
    (-natural_log(uniform) * mean_bytes as f64) as i64
}

/// `ln(x)` for `x` in (0, 1], without a mathematics library: the exponent's share, and for the mantissa `m` in [1, 2)
/// the series `ln m = 2 (z + z^3/3 + z^5/5 + ...)` with `z = (m - 1) / (m + 1) <= 1/3`, off by less than 1e-8.
fn natural_log(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) as i64 - 1023) as f64;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let mut sum = 0.0;
    for odd in [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / odd;
    }
    exponent * core::f64::consts::LN_2 + 2.0 * z * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_the_logarithm() {
        for step in 1..=10_000 {
            let x = f64::from(step) / 10_000.0;
            assert!((natural_log(x) - x.ln()).abs() < 1e-8, "{x}");
        }
        assert!((natural_log(1.0 / (1_u64 << 53) as f64) + 53.0 * 2_f64.ln()).abs() < 1e-8);
    }

    /// Records blocks of `bytes` as the fast path does, and compares their number with the promised probability.
    fn share_recorded(bytes: i64, mean: u64, blocks: u32) -> (f64, f64) {
        let mut state = seed(bytes as u64 ^ mean);
        let mut draw = || {
            let (next, random) = next_random(state);
            state = next;
            gap(random, mean)
        };
        let mut countdown = draw();
        let mut recorded = 0_u32;
        for _ in 0..blocks {
            countdown -= bytes;
            if countdown < 0 {
                recorded += 1;
                countdown = draw();
            }
        }
        (f64::from(recorded) / f64::from(blocks), -(-bytes as f64 / mean as f64).exp_m1())
    }

    #[test]
    fn blocks_are_recorded_with_the_probability_the_agent_divides_by() {
        let blocks = if cfg!(miri) { 2_000 } else { 4_000_000 };
        for (bytes, mean) in [(1, 16), (8, 64), (100, 512), (512, 512), (4096, 1024), (24, 4096), (1000, 100_000)] {
            let (share, expected) = share_recorded(bytes, mean, blocks);
            // One percent, and four standard deviations where that many blocks cannot tell one percent.
            let noise = 4.0 * (expected * (1.0 - expected) / f64::from(blocks)).sqrt();
            assert!((share - expected).abs() < (0.01 * expected).max(noise), "{bytes}/{mean}: {share} not {expected}");
        }
    }

    #[test]
    fn generators_differ_by_seed_and_never_stop() {
        let mut states: Vec<u64> = (0..100).map(seed).collect();
        states.sort_unstable();
        states.dedup();
        assert_eq!(states.len(), 100);
        assert!(states.iter().all(|state| *state != 0 && next_random(*state).0 != 0));
    }
}
