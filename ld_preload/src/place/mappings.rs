//! Memory that no allocator handed out: mappings of the program's own, and globals.
//!
//! Both are bound where they are: their address is the program's business. So only tiers of memory nodes can have them;
//! with any other tier they stay where they are, and are counted as spilled.

use super::load::Placing;
use super::matching::Choice;
use super::{near, placing, wants};
use crate::arch::{Caller, Local};
use crate::modules;
use crate::recorder;
use crate::sys::{ENOENT, ENOSPC, EOPNOTSUPP};
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering, Ordering::Relaxed};
use tierscope_arena::PAGE;
use tierscope_wire::policy;

const MOST_MAPPINGS: usize = 1024;
/// Bytes at a mapping's beginning whose page tables are made near.
const MOST_TABLES_OF_MAPPING: usize = 1 << 30;

/// A mapping that was placed.
#[derive(Debug)]
struct Mapping {
    /// 0 for none.
    address: AtomicUsize,
    bytes: AtomicU64,
    tier: AtomicU16,
    rule: AtomicU16,
}

static MAPPINGS: [Mapping; MOST_MAPPINGS] = [const {
    Mapping { address: AtomicUsize::new(0), bytes: AtomicU64::new(0), tier: AtomicU16::new(0), rule: AtomicU16::new(0) }
}; MOST_MAPPINGS];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The program mapped `bytes` of anonymous memory at `address`.
#[inline(always)]
pub(crate) fn mapped(local: &Local, caller: Caller, address: usize, bytes: usize) {
    if wants(bytes) {
        mapped_slowly(local, caller, address, bytes);
    }
}

#[cold]
fn mapped_slowly(local: &Local, caller: Caller, address: usize, bytes: usize) {
    let Some(placing) = placing() else { return };
    let choice = placing.matcher.choose(local, caller, bytes as u64, &placing.statistics);
    placing.matcher.give_slot_back(choice.group, choice.slot);
    let Some(tier) = choice.tier.filter(|_| choice.rule != super::NO_RULE) else { return };
    let whole = bytes.next_multiple_of(PAGE);
    match placing.bind(tier, address, whole) {
        Ok(()) => {
            placing.count_placed(choice, tier, bytes as u64);
            remember(placing, choice, tier, address, bytes);
        }
        Err(_) => placing.count_spilled(choice, tier, bytes as u64),
    }
}

fn remember(placing: &Placing, choice: Choice, tier: usize, address: usize, bytes: usize) {
    let place =
        MAPPINGS.iter().find(|place| place.address.compare_exchange(0, usize::MAX, Ordering::AcqRel, Relaxed).is_ok());
    let Some(place) = place else { return };
    place.bytes.store(bytes as u64, Relaxed);
    place.tier.store(tier as u16, Relaxed);
    place.rule.store(choice.rule, Relaxed);
    place.address.store(address, Ordering::Release);
    COUNT.fetch_add(1, Relaxed);
    if let Some(tier) = placing.tiers.get(tier) {
        tier.mapped.fetch_add(bytes as u64, Relaxed);
    }
}

/// The program is about to unmap `bytes` at `address`.
#[inline(always)]
pub(crate) fn unmapped(address: usize, bytes: usize) {
    if COUNT.load(Relaxed) > 0 {
        unmapped_slowly(address, bytes);
    }
}

/// A mapping counts as gone once its beginning is.
#[cold]
fn unmapped_slowly(address: usize, bytes: usize) {
    let Some(placing) = placing() else { return };
    let range = address..address.saturating_add(bytes.max(1));
    for place in &MAPPINGS {
        let start = place.address.load(Ordering::Acquire);
        if start == 0 || !range.contains(&start) {
            continue;
        }
        let (bytes, tier, rule) = (place.bytes.load(Relaxed), place.tier.load(Relaxed), place.rule.load(Relaxed));
        if place.address.compare_exchange(start, 0, Ordering::AcqRel, Relaxed).is_err() {
            continue;
        }
        COUNT.fetch_sub(1, Relaxed);
        placing.count_released(rule, tier.into(), bytes);
        if let Some(tier) = placing.tiers.get(usize::from(tier)) {
            tier.mapped.fetch_sub(bytes, Relaxed);
        }
    }
}

impl Placing {
    /// Binds a mapping to a tier's nodes, if it has any and room is left.
    fn bind(&self, tier: usize, address: usize, bytes: usize) -> Result<(), i32> {
        let state = self.tiers.get(tier).ok_or(EOPNOTSUPP)?;
        let nodes = state.nodes.ok_or(EOPNOTSUPP)?;
        if let Some(capacity) = state.capacity {
            let held = self.arena(tier).and_then(|arena| arena.usage(0)).map_or(0, |usage| usage.committed as u64);
            let all = held.saturating_add(state.mapped.load(Relaxed)).saturating_add(bytes as u64);
            if all > capacity {
                return Err(ENOSPC);
            }
        }
        nodes.bind(address, bytes, false).inspect_err(|error| {
            if let Some(counters) = self.statistics.tier(tier) {
                counters.fail(error.unsigned_abs());
            }
        })?;
        // What is larger may be address space and little memory.
        near::make_tables(address, bytes.min(MOST_TABLES_OF_MAPPING));
        Ok(())
    }
}

/// A global that is to be moved.
#[derive(Debug)]
pub(super) struct Global {
    what: policy::Global,
    done: AtomicBool,
}

impl Global {
    pub(super) fn new(what: policy::Global) -> Global {
        Global { what, done: AtomicBool::new(false) }
    }
}

/// Moves the globals of modules that are there: the pages they touch, which at either end may hold something else, too.
pub(super) fn move_globals(local: &Local, placing: &Placing) {
    if placing.globals.is_empty() {
        return;
    }
    if modules::current().is_null() {
        let here = 0_usize;
        recorder::look_at_modules(local, Caller { sp: (&raw const here) as usize, bp: 0 });
    }
    // SAFETY: at the program's start nobody replaces snapshots but us.
    let Some(snapshot) = (unsafe { modules::current().as_ref() }) else { return };
    placing.matcher.resolve(snapshot, &placing.statistics);
    for (index, global) in placing.globals.iter().enumerate() {
        let Some(counters) = placing.statistics.global(index) else { continue };
        let Some(bias) = placing.matcher.bias(global.what.module) else {
            counters.errno.store(ENOENT.unsigned_abs().into(), Relaxed);
            continue;
        };
        if global.done.swap(true, Relaxed) {
            continue;
        }
        let start = bias.wrapping_add(global.what.address) as usize;
        let (first, end) = (start & !(PAGE - 1), start.saturating_add(global.what.bytes as usize));
        let nodes = placing.tiers.get(usize::from(global.what.tier)).and_then(|tier| tier.nodes);
        let moved = match nodes {
            Some(nodes) => {
                let bytes = end.next_multiple_of(PAGE).saturating_sub(first);
                nodes.bind(first, bytes, true).inspect(|()| near::make_tables(first, bytes))
            }
            None if placing.is_own(global.what.tier.into()) => Ok(()),
            None => Err(EOPNOTSUPP),
        };
        match moved {
            Ok(()) => counters.bytes_moved.store(global.what.bytes, Relaxed),
            Err(error) => counters.errno.store(error.unsigned_abs().into(), Relaxed),
        }
    }
}
