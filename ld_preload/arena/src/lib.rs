//! Allocators over the memory of tiers, for use inside the shim.
//!
//! An [`Arena`] hands out blocks of memory that lies in a chosen tier. It runs inside other people's programs, in place
//! of their `malloc`: no std, no allocator under it, no C library, no thread-locals, no panics. Memory comes from what
//! implements [`Pages`]; what the arena must remember lies apart from the blocks, out of reach of a program's overruns
//! by a few bytes (but for the words between small blocks).
//!
//! # The interface
//!
//! ```text
//! Arena::metadata_bytes(region_bytes, &settings) -> Result<usize, CreateError>
//! unsafe Arena::create(region, region_bytes, metadata, metadata_bytes, settings, pages) -> Result<&Arena, CreateError>
//! allocate(tier, bytes, alignment, zeroed, shard) -> Option<NonNull<u8>>
//! unsafe free(block) -> bool                          false: no block there, nothing happened
//! unsafe usable_size(block) -> Option<usize>
//! unsafe reallocate_in_place(block, bytes) -> bool
//! unsafe reallocate(block, bytes, shard) -> Option<NonNull<u8>>      in place, or moved within the tier
//! contains(address) -> bool, tier_of(address) -> Option<usize>
//! set_limit(tier, Option<usize>), usage(tier) -> Option<Usage>, trim(tier)
//! prepare_fork(), unsafe parent_after_fork(), unsafe child_after_fork()
//! ```
//!
//! # How memory is divided
//!
//! One region of addresses, reserved by the caller, in segments of 4 MiB; a map outside of it says what each is for.
//!
//! * Small blocks (below 128 KiB, aligned to at most 4 KiB): a `dlmalloc` per tier and shard, on chunks of 128 KiB.
//! * Medium blocks (below 2 MiB): runs of pages, lowest first, several blocks to a segment.
//! * Huge blocks: whole segments, so aligned to 4 MiB (or to what was asked for), and committed only as far as they
//!   reach. Transparent huge pages serve them as they would a mapping of the program's own.
//!
//! Every search is bounded: by 64 segments with room, by the bits of a segment, or by the bitmap of the region (32 KiB
//! for a terabyte).
//!
//! # Why `dlmalloc`
//!
//! The shim is one file for glibc and musl of any age and imports nothing, so allocators in C (jemalloc, mimalloc,
//! memkind) are out: they bring thread-locals, `pthread` and their own `mmap`. Of the allocators in Rust that work
//! without std, `dlmalloc` is the one with decades behind its design, kept up by people of the Rust project, which ships
//! it as the allocator of WebAssembly. Its state is inline, its memory comes through a trait, and it frees by pointer
//! alone. What is given up are per-thread caches: a small block costs a lock nobody else wants, most of the time, and
//! threads are spread over shards. Like any `dlmalloc` it returns the end of its memory and runs that are wholly
//! free, never pages in the middle of one.
//!
//! On Unix the crate depends on crate `libc` for an allocator of its own that is not used here. None of its code stays,
//! but its link attributes name the C library to the linker; `ld_preload/build.rs` keeps that out of the shim.
//!
//! # What is accounted
//!
//! Per tier the committed bytes, exactly: charged before they are committed, given back after they were decommitted,
//! never above the limit. Freed memory stays committed up to [`Settings::retained_bytes`], so that a loop of `malloc` and
//! `free` makes no system calls; it is given back when the tier's limit is reached, before anything is refused.
//!
//! # Locks
//!
//! In this order, of which nobody holds two heaps but `fork`: fork, heaps by number, extents (which also guards the
//! bitmap and the lists). The lock of a tier's kept runs is taken with none of the others held. Who finds a lock taken
//! looks 64 times and then calls [`Pages::relax`]. Huge blocks are committed and decommitted without a lock, announced
//! by a count that `fork` waits for.
//!
//! # Non-goals
//!
//! Signal handlers that allocate while their own thread is inside the arena (no allocator promises that). Moving blocks
//! between tiers. Hardening against a program that writes over the words between its small blocks.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the arena counts on 64-bit addresses");

mod arena;
mod budget;
mod chunks;
mod extents;
mod heap;
mod huge;
mod layout;
mod lock;
mod pages;
mod runs;
mod segments;
mod sync;
mod tier;

pub use arena::Arena;
pub use budget::Usage;
pub use layout::{CreateError, Settings};
pub use pages::Pages;

/// What is committed and decommitted is a multiple of this.
pub const PAGE: usize = 4 << 10;
/// What a region is divided into, and what it must be aligned to.
pub const SEGMENT: usize = 4 << 20;

/// Blocks from this size on are aligned for huge pages.
const HUGE_PAGE: usize = 2 << 20;
const PAGES_PER_SEGMENT: usize = SEGMENT / PAGE;
/// What heaps grow by.
const CHUNK: usize = 128 << 10;
const CHUNKS_PER_SEGMENT: usize = SEGMENT / CHUNK;
/// The largest bound of small blocks that can be set.
const LARGEST_SMALL: usize = 1 << 20;
