//! What a block costs in the arena and in the C library: nanoseconds of CPU time per pair of `malloc` and `free`.
//!
//!     cargo bench -p tierscope-arena [-- PAIRS]
//!
//! Each thread keeps 64 blocks, as programs do, and replaces the oldest; the median of five rounds is printed. The last
//! lines are what a refusal costs, when a tier is full and its blocks go elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot be made ends the program")]

use std::ptr::{NonNull, null_mut};
use tierscope_arena::{Arena, Pages, SEGMENT, Settings};

const REGION: usize = 64 << 30;
const WINDOW: usize = 64;
const SIZES: [usize; 8] = [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10];

struct Mapped;

impl Pages for Mapped {
    fn commit(&self, _: usize, address: usize, bytes: usize) -> bool {
        // SAFETY: a range of the region, which is ours.
        unsafe { libc::mprotect(address as *mut _, bytes, libc::PROT_READ | libc::PROT_WRITE) == 0 }
    }

    fn decommit(&self, _: usize, address: usize, bytes: usize) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: a range of the region, which is ours, and holds no block.
        unsafe { libc::mmap(address as *mut _, bytes, libc::PROT_NONE, flags, -1, 0) };
    }

    fn relax(&self, _: u32) {
        std::thread::yield_now();
    }
}

fn reserve(bytes: usize, protection: i32) -> NonNull<u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh mapping.
    let address = unsafe { libc::mmap(null_mut(), bytes + SEGMENT, protection, flags, -1, 0) };
    assert_ne!(address, libc::MAP_FAILED);
    NonNull::new((address as usize).next_multiple_of(SEGMENT) as *mut u8).unwrap()
}

fn arena() -> &'static Arena<'static, Mapped> {
    let settings = Settings::new(1);
    let bytes = Arena::<Mapped>::metadata_bytes(REGION, &settings).unwrap();
    let metadata = reserve(bytes, libc::PROT_READ | libc::PROT_WRITE);
    let region = reserve(REGION, libc::PROT_NONE);
    // SAFETY: fresh mappings that stay.
    unsafe { Arena::create(region, REGION, metadata, bytes, settings, Mapped) }.unwrap()
}

fn cpu_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a structure of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Nanoseconds per pair on one thread.
fn pairs(count: usize, allocate: impl Fn() -> *mut u8, free: impl Fn(*mut u8)) -> f64 {
    let mut window: [*mut u8; WINDOW] = std::array::from_fn(|_| allocate());
    let begun = cpu_ns();
    for number in 0..count {
        let slot = &mut window[number % WINDOW];
        free(*slot);
        *slot = std::hint::black_box(allocate());
    }
    let ns = (cpu_ns() - begun) / count as f64;
    window.into_iter().for_each(free);
    ns
}

/// Median over five rounds of the mean over threads.
fn measure(threads: usize, pair: impl Fn(usize) -> f64 + Sync) -> f64 {
    let pair = &pair;
    let mut rounds: Vec<f64> = (0..5)
        .map(|_| {
            std::thread::scope(|scope| {
                let running: Vec<_> = (0..threads).map(|shard| scope.spawn(move || pair(shard))).collect();
                running.into_iter().map(|thread| thread.join().unwrap()).sum::<f64>() / threads as f64
            })
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[2]
}

fn main() {
    let pairs_wanted = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(2_000_000);
    let arena = arena();
    let of_arena = |bytes: usize, shard: usize, count: usize| {
        let allocate = || arena.allocate(0, bytes, 16, false, shard).map_or(null_mut(), NonNull::as_ptr);
        // SAFETY: a live block.
        pairs(count, allocate, |block| assert!(unsafe { arena.free(NonNull::new(block).unwrap()) }))
    };
    let of_library = |bytes: usize, count: usize| {
        // SAFETY: a live block.
        pairs(count, || unsafe { libc::malloc(bytes) }.cast(), |block| unsafe { libc::free(block.cast()) })
    };
    println!("{:>8} {:>8} {:>10} {:>14} {:>10}", "bytes", "threads", "arena ns", "same shard ns", "glibc ns");
    for bytes in SIZES {
        let count = if bytes < 16 << 10 { pairs_wanted } else { pairs_wanted / 10 };
        for threads in [1, 2] {
            println!(
                "{bytes:>8} {threads:>8} {:>10.1} {:>14.1} {:>10.1}",
                measure(threads, |shard| of_arena(bytes, shard, count)),
                measure(threads, |_| of_arena(bytes, 0, count)),
                measure(threads, |_| of_library(bytes, count)),
            );
        }
    }
    arena.trim(0);
    arena.set_limit(0, Some(64 << 20));
    for bytes in [64, 256 << 10] {
        let mut held = Vec::new();
        while let Some(block) = arena.allocate(0, bytes, 16, false, 0) {
            held.push(block);
        }
        let refusal = measure(1, |_| {
            let begun = cpu_ns();
            for _ in 0..10_000 {
                assert!(arena.allocate(0, bytes, 16, false, 0).is_none());
            }
            (cpu_ns() - begun) / 1e4
        });
        println!("a refusal of {bytes} bytes: {refusal:.1} ns");
        // SAFETY: live blocks.
        held.into_iter().for_each(|block| assert!(unsafe { arena.free(block) }));
    }
}
