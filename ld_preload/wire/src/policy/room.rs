//! How much of a tier's memory a placed block takes: more than was asked for.
//!
//! Advice counts with it before a program runs, so it stands here, between those who plan and those who place. The shim's
//! header is [`HEADER_BYTES`]. What the arena's allocators add is theirs: a test of the shim holds [`room`] against what an
//! arena commits.

/// Bytes before each placed block, that the program does not see.
pub const HEADER_BYTES: u64 = 16;

/// From here on blocks have pages of their own.
const LARGE_BYTES: u64 = 128 << 10;
const PAGE: u64 = 4 << 10;
/// What heaps of small blocks grow by.
const CHUNK: u64 = 128 << 10;

/// The most that a tier has committed beyond the [`room`] of its blocks where one thread fills it up to its capacity: the
/// end of the heap's last chunk, and a chunk that the capacity is not a multiple of.
pub const SLACK_BYTES: u64 = 2 * CHUNK;

/// Bytes of a tier that a block of `bytes` takes, aligned as `malloc` aligns.
///
/// Below 128 KiB (with its header): the header, a word of the allocator's, rounded up to 16, and 32 at least: a block of 48
/// bytes takes 80. From there on whole pages.
pub const fn room(bytes: u64) -> u64 {
    let whole = bytes.saturating_add(HEADER_BYTES);
    if whole >= LARGE_BYTES {
        return whole.saturating_add(PAGE - 1) & !(PAGE - 1);
    }
    let with_word = (whole + 8 + 15) & !15;
    if with_word < 32 { 32 } else { with_word }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn small_blocks_take_sixteens_and_large_ones_pages() {
        assert_eq!([0, 1, 8, 9, 24, 48, 56, 57].map(room), [32, 32, 32, 48, 48, 80, 80, 96]);
        assert_eq!(room(LARGE_BYTES - HEADER_BYTES - 1), LARGE_BYTES + 16, "one byte less than pages of its own");
        assert_eq!([LARGE_BYTES - HEADER_BYTES, 1 << 20].map(room), [LARGE_BYTES, (1 << 20) + PAGE]);
        assert_eq!(room(u64::MAX), !(PAGE - 1));
    }
}
