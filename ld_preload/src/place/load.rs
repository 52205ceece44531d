//! From the environment variable to arenas that serve.
//!
//! Everything is done once, before the program's first block is served, and nothing of it is ever taken down. A table
//! that does not parse, address space that is not there: the process then runs as if there were no policy, and says so
//! in the statistics, if it got that far.

use super::matching::Matcher;
use super::memory::{Nodes, Source, TierPages};
use super::slots::Slots;
use super::{FAST, device, fork, mappings, near};
use crate::arch::Local;
use crate::environment::Environment;
use crate::modules::Snapshot;
use crate::sys;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tierscope_arena::{Arena, SEGMENT, Settings};
use tierscope_wire::policy::stats::{FLAG_ACTIVE, FLAG_GAVE_UP, Statistics};
use tierscope_wire::policy::{Backend, Table, VARIABLE};

type TierArena = &'static Arena<'static, TierPages>;

/// A table larger than this is none of ours.
const MOST_TABLE_BYTES: u64 = 256 << 20;
/// Address space for one tier, the first that can be had.
const REGIONS: [usize; 5] = [512 << 30, 64 << 30, 8 << 30, 1 << 30, 256 << 20];

/// A module the rules name.
#[derive(Debug)]
pub(super) struct Module {
    name: Vec<u8>,
    build_id: Vec<u8>,
    /// What to add to its own addresses; `u64::MAX` while it is not there.
    bias: AtomicU64,
    /// One of another build was there, and was counted.
    differs: AtomicBool,
}

impl Module {
    /// What to add to its own addresses, if it is loaded.
    pub(super) fn bias(&self) -> Option<u64> {
        Some(self.bias.load(Ordering::Relaxed)).filter(|bias| *bias != u64::MAX)
    }

    /// Looks for it among the loaded ones; false if it is not there (one of another build is, but it is not it).
    pub(super) fn locate(&self, snapshot: &Snapshot, statistics: &Statistics<'static>) -> bool {
        let is_named = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next() == Some(&*self.name);
        let program = PROGRAM_HEADERS.load(Ordering::Relaxed);
        let mut candidates = snapshot.modules.iter().filter(|module| match self.name.is_empty() {
            true => (module.start..module.end).contains(&program),
            false => is_named(&module.path),
        });
        let mut other_build = false;
        let found = candidates.find(|module| {
            let same = self.build_id.is_empty() || self.build_id == module.build_id();
            other_build |= !same;
            same
        });
        if found.is_none() && other_build && !self.differs.swap(true, Ordering::Relaxed) {
            statistics.general().modules_differing.fetch_add(1, Ordering::Relaxed);
        }
        self.bias.store(found.map_or(u64::MAX, |module| module.bias), Ordering::Relaxed);
        found.is_some() || other_build
    }
}

/// Where the kernel put the program's headers: the module that holds them is the program.
static PROGRAM_HEADERS: AtomicU64 = AtomicU64::new(0);

/// Everything placing needs.
#[derive(Debug)]
pub(super) struct Placing {
    pub(super) statistics: Statistics<'static>,
    pub(super) matcher: Matcher,
    pub(super) tiers: Vec<TierState>,
    pub(super) globals: Vec<mappings::Global>,
    /// The place in `tiers` of memory that is like the program's own but can be told when freed; only with slots.
    pub(super) plain: Option<usize>,
    /// Whether some tier is of swap.
    pub(super) has_swap: bool,
    first: usize,
    region_bytes: usize,
    /// Of each region in order, its tier.
    order: Vec<usize>,
}

/// A tier at work.
#[derive(Debug)]
pub(super) struct TierState {
    /// None of the tier that is the program's own allocator, and of those without address space.
    arena: Option<TierArena>,
    /// Bytes of mappings of the program's that were put into it.
    pub(super) mapped: AtomicU64,
    pub(super) capacity: Option<u64>,
    pub(super) nodes: Option<Nodes>,
    is_own: bool,
    is_swap: bool,
    /// One rule alone places blocks in it.
    has_one_rule: bool,
    /// Its memory is the parent's, and can be read only.
    is_lost: AtomicBool,
}

impl Placing {
    /// The arena of a tier, if it can be used.
    pub(super) fn arena(&self, tier: usize) -> Option<TierArena> {
        self.tiers.get(tier).filter(|tier| !tier.is_lost.load(Ordering::Relaxed))?.arena
    }

    /// From now on a tier's blocks stay where they are, and there are no more.
    pub(super) fn lose(&self, tier: usize) {
        if let Some(tier) = self.tiers.get(tier) {
            tier.is_lost.store(true, Ordering::Relaxed);
        }
    }

    /// All of them, in the order locks are taken in.
    pub(super) fn arenas(&self) -> impl Iterator<Item = TierArena> + '_ {
        self.tiers.iter().filter_map(|tier| tier.arena)
    }

    /// The tier and the arena a block of the region is in.
    pub(super) fn arena_at(&self, block: NonNull<u8>) -> Option<(usize, TierArena)> {
        let index = block.addr().get().checked_sub(self.first)? / self.region_bytes;
        let tier = *self.order.get(index)?;
        Some((tier, self.arena(tier)?))
    }

    /// Where all arenas are.
    pub(super) fn region(&self) -> core::ops::Range<usize> {
        self.first..self.first + self.region_bytes * self.order.len()
    }

    /// Of each tier with an arena, its number and where it is.
    pub(super) fn regions(&self) -> impl Iterator<Item = (usize, core::ops::Range<usize>)> + '_ {
        self.order.iter().enumerate().map(|(place, tier)| {
            let start = self.first + place * self.region_bytes;
            (*tier, start..start + self.region_bytes)
        })
    }

    /// Whether a tier is of swap.
    pub(super) fn is_swap(&self, tier: usize) -> bool {
        self.tiers.get(tier).is_some_and(|tier| tier.is_swap)
    }

    /// Whether one rule alone places blocks in a tier.
    pub(super) fn has_one_rule(&self, tier: usize) -> bool {
        self.tiers.get(tier).is_some_and(|tier| tier.has_one_rule)
    }

    /// Whether a tier is the program's own allocator.
    pub(super) fn is_own(&self, tier: usize) -> bool {
        self.tiers.get(tier).is_none_or(|tier| tier.is_own)
    }
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// Starts placing, if the environment asks for it. Runs under the guard; a second call does nothing.
pub(crate) fn start(environment: Environment) {
    if STARTED.swap(true, Ordering::AcqRel) {
        return;
    }
    let Some(path) = environment.get(VARIABLE) else { return };
    PROGRAM_HEADERS.store(environment.auxiliary(3).unwrap_or(0) as u64, Ordering::Relaxed);
    let Some((table, statistics)) = read(path) else { return };
    let general = statistics.general();
    general.processes.fetch_add(1, Ordering::Relaxed);
    match prepare(&table, statistics) {
        Some(placing) => {
            general.flags.fetch_or(FLAG_ACTIVE, Ordering::Relaxed);
            publish(&table, placing);
        }
        None => {
            general.flags.fetch_or(FLAG_GAVE_UP, Ordering::Relaxed);
        }
    }
}

/// The table, copied, and its statistics, shared where the file may be written to.
fn read(path: &core::ffi::CStr) -> Option<(Table<'static>, Statistics<'static>)> {
    let (file, shared) = match sys::open_to_write(path) {
        Ok(file) => (file, true),
        Err(_) => (sys::open(path.to_bytes_with_nul())?, false),
    };
    let file = sys::raise(file);
    let (_, _, length) = sys::identity(&file)?;
    let bytes = usize::try_from(length).ok().filter(|_| length <= MOST_TABLE_BYTES)?;
    let copy = sys::map_private(bytes.max(1))?;
    // SAFETY: a fresh mapping of that size, never unmapped.
    let whole = unsafe { core::slice::from_raw_parts_mut(copy, bytes) };
    let mut done = 0;
    while let Some(rest) = whole.get_mut(done..).filter(|rest| !rest.is_empty()) {
        done += sys::read_at(&file, rest, done as u64).filter(|count| *count > 0)?;
    }
    let table = Table::parse(whole).ok()?;
    let words = table.statistics_words();
    let counters = if shared {
        sys::map(words * 8, sys::PROT_READ_WRITE, sys::MAP_SHARED, Some(&file), table.statistics_offset())?
    } else {
        sys::map_private(words * 8)?
    };
    // SAFETY: so many words are mapped, aligned to a page, never unmapped; any bits are valid.
    let words = unsafe { core::slice::from_raw_parts(counters.cast::<AtomicU64>(), words) };
    Some((table, Statistics::new(table.counts(), words)?))
}

fn prepare(table: &Table<'static>, statistics: Statistics<'static>) -> Option<Placing> {
    let modules = table
        .modules()
        .map(|module| Module {
            name: module.name.as_bytes().to_vec(),
            build_id: module.build_id.to_vec(),
            bias: AtomicU64::new(u64::MAX),
            differs: AtomicBool::new(false),
        })
        .collect();
    let tiers: Vec<_> = table.tiers().collect();
    // A default of memory nodes is the program's own allocator on other pages.
    let default = table.default_tier().map(usize::from).filter(|tier| {
        tiers.get(*tier).is_some_and(|tier| matches!(tier.backend, Backend::File | Backend::Dax | Backend::Swap))
    });
    let slots = sys::map_private(size_of::<Slots>())?.cast::<Slots>();
    // SAFETY: all zeros is an empty table; never unmapped.
    let matcher = Matcher::new(table, modules, default, unsafe { &*slots });
    let used = |index: usize| default == Some(index) || table.rules().any(|rule| usize::from(rule.tier) == index);
    let mut order: Vec<usize> = tiers
        .iter()
        .enumerate()
        .filter(|(index, tier)| tier.backend != Backend::Default && used(*index))
        .map(|(index, _)| index)
        .collect();
    let plain = matcher.has_ordinals().then_some(tiers.len());
    order.extend(plain);
    let granules = order.iter().filter_map(|index| tiers.get(*index).filter(|tier| tier.backend == Backend::Dax));
    let granules = granules.filter_map(|tier| Some(device::Traits::of(tier.path).ok()?.granule));
    let (first, region_bytes) = reserve(order.len(), granules.max().unwrap_or(0).max(SEGMENT)).or_else(|| {
        statistics.general().no_address_space.fetch_add(1, Ordering::Relaxed);
        None
    })?;
    let mut states = Vec::new();
    for index in 0..tiers.len() + usize::from(plain.is_some()) {
        let tier = tiers.get(index);
        let region = order.iter().position(|at| *at == index).map(|place| first + place * region_bytes);
        let arena = region.and_then(|region| arena(region, region_bytes, tier, index, statistics));
        if region.is_some() && arena.is_none() {
            statistics.general().no_metadata.fetch_add(1, Ordering::Relaxed);
        }
        let capacity = tier.and_then(|tier| tier.capacity);
        if let (Some(arena), Some(capacity)) = (arena, capacity) {
            arena.set_limit(0, usize::try_from(capacity).ok());
        }
        states.push(TierState {
            arena,
            mapped: AtomicU64::new(0),
            capacity,
            nodes: tier.and_then(Nodes::of),
            is_own: tier.is_none_or(|tier| tier.backend == Backend::Default),
            is_swap: tier.is_some_and(|tier| tier.backend == Backend::Swap),
            has_one_rule: table.only_rule_of(index).is_some(),
            is_lost: AtomicBool::new(false),
        });
    }
    let globals = table.globals().map(mappings::Global::new).collect();
    Some(Placing {
        statistics,
        matcher,
        globals,
        plain,
        has_swap: states.iter().any(|tier: &TierState| tier.is_swap && tier.arena.is_some()),
        tiers: states,
        first,
        region_bytes,
        order,
    })
}

/// Address space for so many regions, aligned: where it begins and how large each is. No regions need none.
fn reserve(count: usize, alignment: usize) -> Option<(usize, usize)> {
    if count == 0 {
        return Some((SEGMENT, SEGMENT));
    }
    // A program that is held to so much address space must keep most of it.
    let most = match sys::limit(sys::RLIMIT_AS) {
        sys::RLIM_INFINITY => usize::MAX,
        limit => usize::try_from(limit / 8).unwrap_or(usize::MAX),
    };
    REGIONS.iter().filter(|bytes| bytes.saturating_mul(count) <= most).find_map(|bytes| {
        let whole = bytes.checked_mul(count)?.checked_add(alignment)?;
        let flags = sys::MAP_PRIVATE | sys::MAP_ANONYMOUS | sys::MAP_NORESERVE;
        let start = sys::map(whole, sys::PROT_NONE, flags, None, 0)?;
        // SAFETY: a fresh mapping of ours.
        unsafe { sys::advise(start, whole, sys::MADV_DONTDUMP) };
        Some(((start as usize).next_multiple_of(alignment), *bytes))
    })
}

fn arena(
    region: usize,
    region_bytes: usize,
    tier: Option<&tierscope_wire::policy::Tier<'_>>,
    index: usize,
    statistics: Statistics<'static>,
) -> Option<TierArena> {
    let source = Source::of(tier, region, region_bytes);
    if let Source::None(error) = source
        && let Some(counters) = statistics.tier(index)
    {
        counters.fail(error.unsigned_abs());
    }
    let settings = Settings::new(1);
    let region_bytes = source.bytes(region_bytes);
    let metadata_bytes = Arena::<TierPages>::metadata_bytes(region_bytes, &settings).ok()?;
    let metadata = NonNull::new(sys::map_private(metadata_bytes)?)?;
    let pages = TierPages { source, tier: index, statistics };
    // SAFETY: address space and zeroed memory of our own, for ever; what the pages do is above.
    unsafe {
        Arena::create(NonNull::new(region as *mut u8)?, region_bytes, metadata, metadata_bytes, settings, pages).ok()
    }
}

fn publish(table: &Table<'static>, placing: Placing) {
    let default = table.default_tier().and_then(|tier| placing.tiers.get(usize::from(tier)));
    if let Some((nodes, counters)) = default
        .and_then(|tier| tier.nodes)
        .zip(table.default_tier().and_then(|tier| placing.statistics.tier(tier.into())))
    {
        match nodes.make_default() {
            Ok(()) => near::is_called_for(),
            Err(error) => counters.fail(error.unsigned_abs()),
        }
    }
    let sizes = placing.matcher.sizes();
    let (first, bytes) = (placing.first, placing.region().len());
    let placing = Box::into_raw(Box::new(placing));
    // SAFETY: just made.
    let open = unsafe { (*placing).matcher.is_open() };
    FAST.open.store(usize::from(open), Ordering::Relaxed);
    FAST.placing.store(placing, Ordering::Release);
    FAST.first.store(first, Ordering::Relaxed);
    FAST.bytes.store(bytes, Ordering::Release);
    if let Some((least, most)) = sizes {
        FAST.least.store(usize::try_from(least).unwrap_or(usize::MAX), Ordering::Relaxed);
        let span = most.saturating_sub(least).saturating_add(1);
        FAST.span.store(usize::try_from(span).unwrap_or(usize::MAX), Ordering::Release);
    }
}

/// Once the loader is done: what needs the C library, or the modules the program starts with.
pub(crate) fn finish(local: &Local) {
    if let Some(placing) = super::placing() {
        fork::register();
        near::keep(placing);
        mappings::move_globals(local, placing);
    }
}
