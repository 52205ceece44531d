//! One number for a whole result, to be compared between runs.
//!
//! FNV-1a, taken over words instead of bytes: every word changes all that follows, and a result of a million words costs
//! a few milliseconds.

/// The checksum of a sequence of words, as it stands in a result: 16 hexadecimal digits.
pub(crate) fn of(words: impl IntoIterator<Item = u64>) -> String {
    let hash = words.into_iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, word| {
        // Multiplication carries upwards only: high bits are folded down first.
        (hash ^ word ^ (word >> 32)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_every_bit_matter() {
        let sums = [of([1, 2]), of([2, 1]), of([1, 2, 0]), of([1, 2 | 1 << 63]), of([])];
        for (index, sum) in sums.iter().enumerate() {
            assert_eq!(sum.len(), 16);
            assert!(!sums[index + 1..].contains(sum));
        }
    }
}
