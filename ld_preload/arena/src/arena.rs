//! The arena: which of its allocators serves a request, and what happens when a tier is full.

use crate::budget::Usage;
use crate::extents::{Extents, Fresh};
use crate::heap::Heap;
use crate::layout::{CreateError, Layout, Settings};
use crate::lock::{Lock, Locked};
use crate::pages::Pages;
use crate::segments::{Kind, SegmentMap, State};
use crate::tier::Tier;
use crate::{HUGE_PAGE, PAGE, SEGMENT};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Allocators over the memory of tiers. See the [crate's page](crate) for what it promises.
#[derive(Debug)]
pub struct Arena<'m, P: Pages> {
    pub(crate) pages: P,
    start: NonNull<u8>,
    pub(crate) settings: Settings,
    pub(crate) map: SegmentMap<'m>,
    pub(crate) tiers: &'m [Tier],
    heaps: &'m [Heap<'m, P>],
    pub(crate) extents: Locked<Extents<'m>>,
    fork: Lock,
    pub(crate) forking: AtomicBool,
    pub(crate) in_flight: AtomicUsize,
}

// SAFETY: everything mutable is atomic or behind a lock; the region is handed out in disjoint blocks.
unsafe impl<P: Pages> Sync for Arena<'_, P> {}

impl<'m, P: Pages> Arena<'m, P> {
    /// How many bytes of metadata memory a region of `region_bytes` needs.
    ///
    /// # Errors
    ///
    /// [`CreateError::Settings`] and [`CreateError::Region`].
    pub fn metadata_bytes(region_bytes: usize, settings: &Settings) -> Result<usize, CreateError> {
        Layout::of::<P>(region_bytes, settings).map(|layout| layout.bytes)
    }

    /// Makes an arena at the start of `metadata`, whose rest it uses too.
    ///
    /// # Errors
    ///
    /// See [`CreateError`]; nothing was written then.
    ///
    /// # Safety
    ///
    /// * The region, `region_bytes` from `region` on, is address space nobody else uses, reserved for as long as the
    ///   arena or a block of it is used. It need not be accessible: `pages` makes it so.
    /// * The metadata memory is readable, writable, all zero, used by nobody else and stays mapped for `'m`.
    /// * `pages` does what [`Pages`] says.
    pub unsafe fn create(
        region: NonNull<u8>,
        region_bytes: usize,
        metadata: NonNull<u8>,
        metadata_bytes: usize,
        settings: Settings,
        pages: P,
    ) -> Result<&'m Self, CreateError> {
        let layout = Layout::of::<P>(region_bytes, &settings)?;
        let origin = region.addr().get();
        if !origin.is_multiple_of(SEGMENT) || origin.checked_add(region_bytes).is_none() {
            return Err(CreateError::Region);
        }
        if !metadata.addr().get().is_multiple_of(PAGE) || metadata_bytes < layout.bytes {
            return Err(CreateError::Metadata);
        }
        let arena = metadata.cast::<Self>().as_ptr();
        let (tiers, heaps) = (settings.tiers, settings.tiers * settings.shards);
        // SAFETY: the layout's places are disjoint, aligned and within the metadata memory, which is ours. Zeros are
        // valid atomics and descriptions of pages; tiers and heaps are written before slices of them are made.
        unsafe {
            let at = |offset: usize| metadata.as_ptr().add(offset);
            for tier in 0..tiers {
                at(layout.tiers).cast::<Tier>().add(tier).write(Tier::new());
                for shard in 0..settings.shards {
                    let place = at(layout.heaps).cast::<Heap<'m, P>>().add(tier * settings.shards + shard);
                    Heap::write(place, arena, State { kind: Kind::Small, tier, shard });
                }
            }
            let map = SegmentMap {
                states: core::slice::from_raw_parts(at(layout.states).cast::<AtomicU32>(), layout.segments),
                details: core::slice::from_raw_parts(at(layout.details).cast::<AtomicU64>(), layout.segments),
                links: core::slice::from_raw_parts(at(layout.links).cast::<[AtomicU32; 2]>(), layout.segments),
                taken: core::slice::from_raw_parts(at(layout.taken).cast::<AtomicU64>(), layout.segments.div_ceil(64)),
                origin: origin / SEGMENT,
            };
            arena.write(Arena {
                pages,
                start: region,
                settings,
                map,
                tiers: core::slice::from_raw_parts(at(layout.tiers).cast(), tiers),
                heaps: core::slice::from_raw_parts(at(layout.heaps).cast(), heaps),
                extents: Locked::new(Extents::new(core::slice::from_raw_parts_mut(
                    at(layout.runs).cast(),
                    layout.runs_count,
                ))),
                fork: Lock::new(),
                forking: AtomicBool::new(false),
                in_flight: AtomicUsize::new(0),
            });
            Ok(&*arena)
        }
    }

    /// Where its memory comes from.
    pub fn pages(&self) -> &P {
        &self.pages
    }

    pub(crate) fn relax(&self) -> impl Fn(u32) + '_ {
        |rounds| self.pages.relax(rounds)
    }

    pub(crate) fn segment_of(&self, address: usize) -> Option<usize> {
        let segment = address.checked_sub(self.start.addr().get())? / SEGMENT;
        (segment < self.map.len()).then_some(segment)
    }

    pub(crate) fn address_of(&self, segment: usize) -> usize {
        self.start.addr().get() + segment * SEGMENT
    }

    /// The pointer to an address of the region.
    pub(crate) fn pointer(&self, address: usize) -> *mut u8 {
        self.start.as_ptr().with_addr(address)
    }

    /// A heap; any number is a shard.
    fn heap(&self, tier: usize, shard: usize) -> Option<&'m Heap<'m, P>> {
        let shards = self.settings.shards;
        // Most are smaller, and a division is slow.
        let shard = if shard < shards { shard } else { shard % shards };
        self.heaps.get(tier * shards + shard)
    }

    /// Whether an address lies in the region: one subtraction and one comparison.
    pub fn contains(&self, address: usize) -> bool {
        self.segment_of(address).is_some()
    }

    /// The tier of the block that `address` lies in, anywhere in it. Where no block is, the tier of the memory around
    /// it, or `None`.
    pub fn tier_of(&self, address: usize) -> Option<usize> {
        let state = self.map.state(self.segment_of(address)?);
        (state.kind != Kind::Free).then_some(state.tier)
    }

    /// Sets how many bytes of a tier may be committed; `None` for no limit. Above a limit set too late nothing is
    /// taken from the program: nothing is added.
    pub fn set_limit(&self, tier: usize, bytes: Option<usize>) {
        if let Some(tier) = self.tiers.get(tier) {
            tier.budget.set_limit(bytes);
        }
    }

    /// What a tier holds; `None` if there is no such tier.
    pub fn usage(&self, tier: usize) -> Option<Usage> {
        self.tiers.get(tier).map(|tier| tier.budget.usage())
    }

    /// How many segments of 4 MiB are taken, whatever for.
    pub fn segments_taken(&self) -> usize {
        let _extents = self.extents.lock(self.relax());
        self.map.taken()
    }

    /// A block of at least `bytes` bytes (0 counts as 1) of `tier`, aligned to `alignment`, a power of two, and to 16.
    /// With `zeroed`, the first `bytes` bytes are zero.
    ///
    /// `shard` picks one of the tier's heaps, so that threads that give different numbers do not wait for each other;
    /// any number will do.
    ///
    /// `None` when the tier's limit or the region is exhausted, when `pages` refuses, or when there is no such tier or
    /// alignment. Nothing is held then; the caller goes elsewhere.
    pub fn allocate(
        &self,
        tier: usize,
        bytes: usize,
        alignment: usize,
        zeroed: bool,
        shard: usize,
    ) -> Option<NonNull<u8>> {
        if tier >= self.tiers.len() || !alignment.is_power_of_two() {
            return None;
        }
        let bytes = bytes.max(1);
        let attempt = || {
            if bytes < self.settings.large_bytes && alignment <= PAGE {
                return self.allocate_small(tier, bytes, alignment, shard);
            }
            self.allocate_large(tier, bytes.checked_next_multiple_of(PAGE)? / PAGE, alignment)
        };
        let fresh = attempt().or_else(|| if self.reclaim(tier, bytes) { attempt() } else { None })?;
        let block = NonNull::new(self.pointer(fresh.address))?;
        if zeroed && !fresh.zero {
            // SAFETY: a block of at least so many bytes that nobody else knows yet.
            unsafe { block.write_bytes(0, bytes) };
        }
        Some(block)
    }

    /// From the heap of the shard or, if that has no room, from the tier's others.
    fn allocate_small(&self, tier: usize, bytes: usize, alignment: usize, shard: usize) -> Option<Fresh> {
        let from = |shard: usize| {
            let block = self.heap(tier, shard)?.small.lock(self.relax()).allocate(bytes, alignment)?;
            Some(Fresh { address: block.addr().get(), zero: false })
        };
        from(shard).or_else(|| (1..self.settings.shards).find_map(|further| from(shard.wrapping_add(further))))
    }

    fn allocate_large(&self, tier: usize, pages: usize, alignment: usize) -> Option<Fresh> {
        let medium = if pages < HUGE_PAGE / PAGE && alignment <= HUGE_PAGE {
            self.allocate_medium(tier, pages, alignment / PAGE)
        } else {
            None
        };
        medium.or_else(|| self.allocate_huge(tier, pages, alignment / SEGMENT))
    }

    /// Frees a block. False if there is none at `block`, in which case nothing happened: not in the region, in the
    /// middle of a large block, in a free segment, or freed before and that still shows. (It always shows for blocks of
    /// 2 MiB and more; for others until the pages are used again; for small ones mostly.)
    ///
    /// # Safety
    ///
    /// If `block` is a block of this arena, nobody uses it any more. If it is not, it lies outside the region, or the
    /// caller accepts that a wrong pointer into a small block may destroy the heap, as anywhere.
    pub unsafe fn free(&self, block: NonNull<u8>) -> bool {
        let address = block.addr().get();
        let Some(segment) = self.segment_of(address) else { return false };
        let state = self.map.state(segment);
        match state.kind {
            Kind::Small => self.heap(state.tier, state.shard).is_some_and(|heap| heap.free(address, self.relax())),
            Kind::Medium => self.free_medium(segment, address),
            Kind::Huge => self.free_huge(segment, address),
            Kind::Free | Kind::Tail | Kind::Busy | Kind::Retained => false,
        }
    }

    /// How many bytes of a block may be written: what was asked for, or more. `None` if there is no block at `block`.
    ///
    /// # Safety
    ///
    /// As [`Arena::free`], but that the block stays used.
    pub unsafe fn usable_size(&self, block: NonNull<u8>) -> Option<usize> {
        let address = block.addr().get();
        let segment = self.segment_of(address)?;
        let state = self.map.state(segment);
        match state.kind {
            Kind::Small => self.heap(state.tier, state.shard)?.small.lock(self.relax()).usable(address),
            Kind::Medium => self.medium_bytes(segment, address),
            Kind::Huge => self.huge_bytes(segment, address),
            Kind::Free | Kind::Tail | Kind::Busy | Kind::Retained => None,
        }
    }

    /// Makes a block hold `bytes` bytes without moving it; false if it must move, and then nothing happened. A large
    /// block that becomes an eighth smaller gives the rest back. A small one neither grows nor shrinks here:
    /// [`Arena::reallocate`] does that in place where it can.
    ///
    /// # Safety
    ///
    /// As [`Arena::free`], but that the block stays used; nothing beyond `bytes` is used any more.
    pub unsafe fn reallocate_in_place(&self, block: NonNull<u8>, bytes: usize) -> bool {
        let address = block.addr().get();
        let Some(segment) = self.segment_of(address) else { return false };
        let Some(pages) = bytes.max(1).checked_next_multiple_of(PAGE).map(|bytes| bytes / PAGE) else { return false };
        match self.map.state(segment).kind {
            Kind::Medium => self.resize_medium(segment, address, pages),
            Kind::Huge => self.resize_huge(segment, address, pages),
            // SAFETY: the caller's promise.
            _ => unsafe { self.usable_size(block) }.is_some_and(|usable| bytes <= usable),
        }
    }

    /// Makes a block hold `bytes` bytes (0 counts as 1), in its place if possible, else elsewhere in its tier: what was
    /// in it is in the block returned, as far as that reaches, and `block` is no more unless it is the same. The
    /// alignment kept is 16, as `realloc` promises. `None` where the tier has no room (or `block` is none): the block
    /// is as it was, and the caller may copy it elsewhere.
    ///
    /// # Safety
    ///
    /// As [`Arena::free`].
    pub unsafe fn reallocate(&self, block: NonNull<u8>, bytes: usize, shard: usize) -> Option<NonNull<u8>> {
        let address = block.addr().get();
        let bytes = bytes.max(1);
        let state = self.map.state(self.segment_of(address)?);
        if state.kind == Kind::Small {
            if bytes < self.settings.large_bytes {
                let moved = self.heap(state.tier, state.shard)?.small.lock(self.relax()).reallocate(address, bytes);
                if moved.is_some() {
                    return moved;
                }
            }
        // A large block that is to be small moves, or its page would be all that is left of it.
        // SAFETY: the caller's promise.
        } else if bytes >= self.settings.large_bytes && unsafe { self.reallocate_in_place(block, bytes) } {
            return Some(block);
        }
        // SAFETY: the caller's promise.
        let usable = unsafe { self.usable_size(block) }?;
        let moved = self.allocate(state.tier, bytes, 1, false, shard)?;
        // SAFETY: two blocks, both at least as long; the old one is the caller's to give.
        unsafe {
            moved.copy_from_nonoverlapping(NonNull::new(self.pointer(address))?, usable.min(bytes));
            self.free(block);
        }
        Some(moved)
    }

    /// Gives back all memory of a tier that no block needs: what is retained, the free ends of heaps, and heaps with
    /// no block. The next block pays for it; a program need not call this, a full tier does it by itself.
    pub fn trim(&self, tier: usize) {
        self.trim_heaps(tier, |_| true);
        self.flush(tier);
    }

    fn trim_heaps(&self, tier: usize, wanted: impl Fn(&Heap<'m, P>) -> bool) {
        for shard in 0..self.settings.shards {
            if let Some(heap) = self.heap(tier, shard).filter(|heap| tier < self.tiers.len() && wanted(heap)) {
                heap.small.lock(self.relax()).trim();
            }
        }
    }

    /// Gives back what a tier retains.
    fn flush(&self, tier: usize) {
        if tier >= self.tiers.len() || self.tiers.get(tier).is_some_and(|tier| tier.budget.is_tight()) {
            return;
        }
        self.flush_huge(tier);
        let mut extents = self.extents.lock(self.relax());
        self.flush_medium(&mut extents, tier);
        for shard in 0..self.settings.shards {
            if let Some(heap) = self.heap(tier, shard) {
                self.flush_chunks(tier, &heap.partial);
            }
        }
    }

    /// After a refusal: gives back what may be in the way, and says whether anything was. A full tier refuses often, so
    /// only those heaps are looked through where it may help.
    fn reclaim(&self, tier: usize, bytes: usize) -> bool {
        let Some(of) = self.tiers.get(tier) else { return false };
        let held = || self.tiers.iter().map(|tier| tier.budget.usage().committed).sum::<usize>();
        let before = held();
        self.trim_heaps(tier, |heap| heap.is_worth_trimming.swap(false, Ordering::Relaxed));
        self.flush(tier);
        if !of.budget.would_refuse(bytes) {
            // Not the limit: addresses, or mappings.
            for other in 0..self.tiers.len() {
                self.flush(other);
            }
        }
        held() < before
    }

    /// Before `fork`: waits until no other thread is inside the arena, and keeps them out.
    ///
    /// Handlers that `pthread_atfork` runs before ours may still allocate, those after it must not: register first, so
    /// that this one runs last and the other two run first. Between this call and the next the calling thread must
    /// not call the arena.
    pub fn prepare_fork(&self) {
        self.fork.acquire(self.relax());
        self.forking.store(true, Ordering::SeqCst);
        let mut rounds = 0_u32;
        while self.in_flight.load(Ordering::SeqCst) > 0 {
            self.pages.relax(rounds);
            rounds = rounds.saturating_add(1);
        }
        for heap in self.heaps {
            heap.small.raw().acquire(self.relax());
        }
        self.extents.raw().acquire(self.relax());
    }

    /// After `fork`, in the parent.
    ///
    /// # Safety
    ///
    /// The calling thread called [`Arena::prepare_fork`], and neither of the two that end it since.
    pub unsafe fn parent_after_fork(&self) {
        self.extents.raw().release();
        for heap in self.heaps {
            heap.small.raw().release();
        }
        self.forking.store(false, Ordering::SeqCst);
        self.fork.release();
    }

    /// After `fork`, in the child: its only thread is the one that prepared, so it holds all locks there are. The child
    /// has a copy of every block and of the accounts, and goes on from there. What it writes reaches the parent or not
    /// as the mappings of `pages` are shared or private.
    ///
    /// # Safety
    ///
    /// As [`Arena::parent_after_fork`].
    pub unsafe fn child_after_fork(&self) {
        // Threads of the parent that were on their way in had announced themselves, and are not here to take it back.
        self.in_flight.store(0, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { self.parent_after_fork() };
    }
}
