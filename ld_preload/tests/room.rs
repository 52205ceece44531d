//! What advice counts for a block is what an arena commits for it.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::ptr::NonNull;
use tierscope_arena::{Arena, Pages, SEGMENT, Settings};
use tierscope_wire::policy::room::{HEADER_BYTES, SLACK_BYTES, room};

/// Memory that is there already.
#[derive(Debug)]
struct Mapped;

impl Pages for Mapped {
    fn commit(&self, _: usize, _: usize, _: usize) -> bool {
        true
    }
    fn decommit(&self, _: usize, address: usize, bytes: usize) {
        // SAFETY: a range of the region, which holds no block.
        unsafe { libc::madvise(address as *mut _, bytes, libc::MADV_DONTNEED) };
    }
    fn relax(&self, _: u32) {
        std::thread::yield_now();
    }
}

fn memory(bytes: usize) -> NonNull<u8> {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a fresh mapping, never unmapped.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    NonNull::new(start.cast()).unwrap()
}

fn arena() -> &'static Arena<'static, Mapped> {
    const REGION: usize = 256 << 20;
    let settings = Settings::new(1);
    let bytes = Arena::<Mapped>::metadata_bytes(REGION, &settings).unwrap();
    let region = memory(REGION + SEGMENT);
    let region = region.with_addr(region.addr().get().next_multiple_of(SEGMENT).try_into().unwrap());
    // SAFETY: mappings of our own, for ever.
    unsafe { Arena::create(region, REGION, memory(bytes), bytes, settings, Mapped) }.unwrap()
}

/// How many of the blocks an arena has room for, asked for as the shim does, and what it has committed then.
fn fill(limit: u64, sizes: impl Iterator<Item = u64>) -> (usize, u64) {
    let arena = arena();
    arena.set_limit(0, Some(limit as usize));
    let served = sizes.take_while(|bytes| arena.allocate(0, (bytes + HEADER_BYTES) as usize, 16, false, 0).is_some());
    (served.count(), arena.usage(0).unwrap().committed as u64)
}

#[test]
fn what_was_planned_fits_and_hardly_more_does() {
    let mixed: Vec<u64> = (0..40_000).map(|at| [24, 48, 200, 1000, 40, 5000][at % 6]).collect();
    let cases: [(&str, Vec<u64>); 6] = [
        ("20000 nodes of 48 bytes", vec![48; 20_000]),
        ("blocks of no bytes", vec![0; 100_000]),
        ("several sizes", mixed),
        ("just below pages of their own", vec![(128 << 10) - 17; 100]),
        ("a mebibyte each", vec![1 << 20; 40]),
        ("more than huge pages", vec![5 << 20; 8]),
    ];
    for (name, sizes) in cases {
        let planned: u64 = sizes.iter().copied().map(room).sum();
        let (served, committed) = fill(planned + SLACK_BYTES, sizes.iter().copied());
        assert_eq!(served, sizes.len(), "{name}: {planned} bytes planned");
        // Between three per cent too much and nothing too little but the ends of heaps.
        assert!(
            committed <= planned + SLACK_BYTES && planned <= committed + committed / 32,
            "{name}: {planned} {committed}"
        );
        let less = planned - planned / 16;
        let (served, _) = fill(less.saturating_sub(SLACK_BYTES), sizes.iter().copied());
        assert!(served < sizes.len(), "{name}: {planned} bytes planned, and {less} do");
    }
}
