//! Puts blocks into the tiers a policy names.
//!
//! The policy arrives as a compiled table (`tierscope_wire::policy`), named by an environment variable. A block that a
//! rule matches comes from the tier's own arena instead of the program's allocator; any other is the program's
//! allocator's, as ever. Placing and recording know nothing of each other: either works without the other, and what
//! ends recording does not end placing.
//!
//! # What a call costs
//!
//! 1. A size that no rule allows: one subtraction and one comparison.
//! 2. A return address that no rule begins with: a bit of a filter (`matching`).
//! 3. Else the stack is taken, which a memo answers for a stack seen before, and the rules are tried in order.
//!
//! A block to be freed is ours if it lies in the one region all tiers share: again one subtraction and one comparison.
//!
//! # Why it is safe
//!
//! * A block of ours stays ours until it is freed, whatever became of the policy, of recording or of its tier meanwhile:
//!   every function that takes a block asks the region first, also in signal handlers and inside allocators.
//! * Whatever cannot be done (a full tier, a node that is not there, no address space) leaves the block to the program's
//!   allocator and is counted. Nothing is retried in a way that could wait.
//! * What calls us from inside a hook (an allocator at work, a signal handler in the middle of one) is not placed.
//! * Tiers of memory nodes are bound once, when their address space is reserved; later growth needs no system call that
//!   the program's own allocator would not make, so that a sandbox which lets the program run lets us place.
//!
//! # Non-goals
//!
//! Allocators that the program calls by other names than the standard ones, or carries inside itself. `__libc_malloc`
//! and its like, which exist to pass by functions such as ours.

mod device;
mod filter;
mod fork;
mod header;
mod load;
mod mappings;
mod matching;
mod memory;
mod near;
mod rest;
mod slots;

pub(crate) use load::{finish, start};
pub(crate) use mappings::{mapped, unmapped};

use crate::arch::{Caller, Local};
use crate::real::{self, refuse};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};
use filter::FILTER;
use header::{Header, NO_RULE, NO_SLOT};
use load::Placing;
use matching::Choice;

/// What every call looks at, on one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
struct Fast {
    /// First address of the region; its size is 0 while nothing is placed.
    first: AtomicUsize,
    bytes: AtomicUsize,
    /// The smallest size a rule allows, and how many sizes up from it; 0 while nothing is placed.
    least: AtomicUsize,
    span: AtomicUsize,
    /// Not 0 where blocks are to be looked at whoever asks for them: a rule without a stack, a default tier, or a module
    /// that is missing and whose callers are not in the filter.
    open: AtomicUsize,
    placing: AtomicPtr<Placing>,
}

static FAST: Fast = Fast {
    // Further from every address than any region is long, should a thread see the size first.
    first: AtomicUsize::new(1 << 63),
    bytes: AtomicUsize::new(0),
    least: AtomicUsize::new(0),
    span: AtomicUsize::new(0),
    open: AtomicUsize::new(0),
    placing: AtomicPtr::new(core::ptr::null_mut()),
};

/// Whether some rule may match a block of `bytes`.
#[inline(always)]
fn wants(bytes: usize) -> bool {
    bytes.wrapping_sub(FAST.least.load(Relaxed)) < FAST.span.load(Relaxed)
}

/// Whether some rule may hold for a caller.
#[inline(always)]
fn may_match(caller: Option<Caller>) -> bool {
    FAST.open.load(Relaxed) != 0 || caller.is_none_or(|caller| FILTER.may_hold(caller.return_address()))
}

/// Whether a block is ours.
#[inline(always)]
fn owns(block: *const u8) -> bool {
    (block as usize).wrapping_sub(FAST.first.load(Relaxed)) < FAST.bytes.load(Relaxed)
}

fn placing() -> Option<&'static Placing> {
    // SAFETY: set once, to what is never freed.
    unsafe { FAST.placing.load(Relaxed).as_ref() }
}

/// Places nothing more. Blocks that are placed stay so, and are freed as ever.
pub(crate) fn stop() {
    FAST.span.store(0, Relaxed);
}

/// A block of `bytes` by the policy; `None` where the program's allocator is to serve. `caller` is `None` where the
/// call came from inside a hook.
#[inline(always)]
pub(crate) fn allocate(
    local: &Local,
    caller: Option<Caller>,
    bytes: usize,
    alignment: usize,
    zeroed: bool,
) -> Option<NonNull<u8>> {
    if !wants(bytes) || !may_match(caller) {
        return None;
    }
    allocate_slowly(local, caller, bytes, alignment, zeroed)
}

#[cold]
#[inline(never)]
fn allocate_slowly(
    local: &Local,
    caller: Option<Caller>,
    bytes: usize,
    alignment: usize,
    zeroed: bool,
) -> Option<NonNull<u8>> {
    let placing = placing()?;
    let Some(caller) = caller else {
        placing.statistics.general().reentered.fetch_add(1, Relaxed);
        return None;
    };
    if bytes > isize::MAX as usize || !alignment.is_power_of_two() {
        return None;
    }
    let choice = placing.matcher.choose(local, caller, bytes as u64, &placing.statistics);
    rest::mark(placing);
    placing.serve(local, choice, bytes, alignment, zeroed)
}

impl Placing {
    /// A block as it was decided.
    fn serve(
        &self,
        local: &Local,
        choice: Choice,
        bytes: usize,
        alignment: usize,
        zeroed: bool,
    ) -> Option<NonNull<u8>> {
        let tier = match choice.tier {
            Some(tier) => tier,
            // A block that is counted among its site's must be known again when it is freed.
            None if choice.slot != NO_SLOT => self.plain?,
            None => return None,
        };
        if let Some(block) = self.place(local, tier, choice, bytes, alignment, zeroed) {
            return Some(block);
        }
        self.count_spilled(choice, tier, bytes as u64);
        self.matcher.give_slot_back(choice.group, choice.slot);
        // What finds no room goes where what no rule matches goes, which need not be the program's allocator.
        let default = self.matcher.default_tier().filter(|default| *default != tier)?;
        let choice = Choice { tier: Some(default), ..Choice::NONE };
        self.place(local, default, choice, bytes, alignment, zeroed).or_else(|| {
            self.count_spilled(choice, default, bytes as u64);
            None
        })
    }

    /// A block in a tier, counted; `None` where there is no room.
    fn place(
        &self,
        local: &Local,
        tier: usize,
        choice: Choice,
        bytes: usize,
        alignment: usize,
        zeroed: bool,
    ) -> Option<NonNull<u8>> {
        let arena = self.arena(tier)?;
        let (header, whole) = Header::room(bytes, alignment)?;
        let inner = arena.allocate(0, whole, alignment.max(16), zeroed, shard(local))?;
        self.count_placed(choice, tier, bytes as u64);
        // SAFETY: a fresh block of `whole` bytes; the header and the block after it fit.
        unsafe { Some(Header::write(inner, header, bytes as u64, choice)) }
    }

    /// Counts a block with its rule or, if it has none, with its tier; and the tier's level, where that is more than the
    /// rule's.
    fn count_placed(&self, choice: Choice, tier: usize, bytes: u64) {
        let of_rule = self.statistics.rule(choice.rule.into());
        if let Some(counters) = &of_rule {
            counters.place(bytes);
        }
        if let Some(counters) = self.statistics.tier(tier).filter(|_| !self.has_one_rule(tier)) {
            if of_rule.is_none() {
                counters.place(bytes);
            }
            counters.rise(bytes);
        }
    }

    /// Takes a block out of what is there.
    fn count_released(&self, rule: u16, tier: usize, bytes: u64) {
        if let Some(counters) = self.statistics.tier(tier).filter(|_| !self.has_one_rule(tier)) {
            counters.fall(bytes);
        }
        if let Some(counters) = self.statistics.rule(rule.into()) {
            counters.release(bytes);
        }
    }

    fn count_spilled(&self, choice: Choice, tier: usize, bytes: u64) {
        // A tier that is the program's own allocator is no tier to spill from.
        if self.is_own(tier) {
            if let Some(counters) = self.statistics.rule(choice.rule.into()) {
                counters.blocks.fetch_add(1, Relaxed);
                counters.bytes_total.fetch_add(bytes, Relaxed);
                // Nobody tells when it is freed.
                counters.release(bytes);
            }
            return;
        }
        if let Some(counters) = self.statistics.tier(tier) {
            counters.spill(bytes);
        }
        if let Some(counters) = self.statistics.rule(choice.rule.into()) {
            counters.spill(bytes);
        }
    }

    fn count_gone(&self, header: &Header, tier: usize) {
        self.count_released(header.rule, tier, header.bytes);
        self.matcher.give_slot_back(header.group, header.slot);
    }
}

/// Which of an arena's heaps a thread uses: its block of thread-local memory lies where no other's does.
fn shard(local: &Local) -> usize {
    (core::ptr::from_ref(local) as usize >> 6).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61
}

/// Frees a block if it is ours.
#[inline(always)]
pub(crate) fn free(block: *mut u8) -> bool {
    owns(block) && free_slowly(block)
}

#[cold]
#[inline(never)]
fn free_slowly(block: *mut u8) -> bool {
    let (Some(placing), Some(block)) = (placing(), NonNull::new(block)) else { return false };
    let Some((tier, arena)) = placing.arena_at(block) else { return true };
    // SAFETY: the program frees what it was given: a block with a header before it. A wrong header frees nothing.
    unsafe {
        if let Some((header, inner)) = Header::before(block)
            && arena.free(inner)
        {
            placing.count_gone(&header, tier);
        }
    }
    rest::mark(placing);
    true
}

/// How many bytes of a block may be used, if it is ours.
#[inline(always)]
pub(crate) fn usable_bytes(block: *mut u8) -> Option<usize> {
    if owns(block) { Some(usable_slowly(block)) } else { None }
}

#[cold]
fn usable_slowly(block: *mut u8) -> usize {
    let usable = || {
        let block = NonNull::new(block)?;
        // SAFETY: a block of the program's, with its header.
        unsafe {
            let (header, inner) = Header::before(block)?;
            let Some((_, arena)) = placing()?.arena_at(block) else {
                // Of a tier whose memory is lost, what was asked for is known.
                return usize::try_from(header.bytes).ok();
            };
            let whole = arena.usable_size(inner)?;
            whole.checked_sub(block.addr().get() - inner.addr().get())
        }
    };
    usable().unwrap_or(0)
}

/// What `realloc` is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reallocated {
    /// This is its result, null for failure.
    Done(*mut u8),
    /// None of ours is concerned: the program's allocator does it.
    NotOurs,
}

/// `realloc` by the policy.
#[inline(always)]
pub(crate) fn reallocate(local: &Local, caller: Option<Caller>, block: *mut u8, bytes: usize) -> Reallocated {
    if owns(block) || (wants(bytes) && may_match(caller)) {
        reallocate_slowly(local, caller, block, bytes)
    } else {
        Reallocated::NotOurs
    }
}

/// The block goes where a new one of this call stack and size would go, as profiles attribute it to that.
#[cold]
#[inline(never)]
fn reallocate_slowly(local: &Local, caller: Option<Caller>, block: *mut u8, bytes: usize) -> Reallocated {
    let Some(placing) = placing() else { return Reallocated::NotOurs };
    let ours = owns(block);
    if bytes == 0 && !block.is_null() {
        // What the C library does here differs; freeing and null is what glibc does.
        return if ours && free_slowly(block) {
            Reallocated::Done(core::ptr::null_mut())
        } else {
            Reallocated::NotOurs
        };
    }
    if bytes > isize::MAX as usize {
        return if ours { Reallocated::Done(refuse()) } else { Reallocated::NotOurs };
    }
    if ours {
        // As in a profile: the old block is gone before the new one is counted among its site's.
        placing.leave_slot(block);
    }
    let choice = match caller {
        Some(caller) if wants(bytes) => placing.matcher.choose(local, caller, bytes as u64, &placing.statistics),
        _ => Choice::NONE,
    };
    // SAFETY: the program's block, which it gives to be replaced.
    unsafe {
        if ours { placing.move_ours(local, choice, block, bytes) } else { placing.take_in(local, choice, block, bytes) }
    }
}

impl Placing {
    /// Takes a block of ours out of its site's slots.
    fn leave_slot(&self, block: *mut u8) {
        let Some(block) = NonNull::new(block) else { return };
        // SAFETY: the program's block, with its header, which nobody else uses.
        unsafe {
            if self.arena_at(block).is_some()
                && let Some((header, inner)) = Header::before(block).filter(|(header, _)| header.slot != NO_SLOT)
            {
                self.matcher.give_slot_back(header.group, header.slot);
                let choice = Choice { tier: None, rule: header.rule, slot: NO_SLOT, group: 0 };
                Header::write(inner, block.addr().get() - inner.addr().get(), header.bytes, choice);
            }
        }
    }

    /// Replaces a block of ours.
    ///
    /// # Safety
    ///
    /// `block` is one, and the program's to give.
    unsafe fn move_ours(&self, local: &Local, choice: Choice, block: *mut u8, bytes: usize) -> Reallocated {
        let found = NonNull::new(block).and_then(|block| {
            // SAFETY: the caller's promise.
            let (header, inner) = unsafe { Header::before(block)? };
            Some((header, inner, self.arena_at(block)))
        });
        // Without an arena, where its tier's memory is lost, the block is left where it is.
        let Some((header, inner, home)) = found else { return Reallocated::Done(refuse()) };
        let to = choice.tier.or(if choice.slot == NO_SLOT { None } else { self.plain });
        if let Some((tier, arena)) = home
            && to == Some(tier)
            && header.is_plain()
        {
            // SAFETY: as above; the arena copies what fits, the header with it.
            let moved =
                Header::room(bytes, 16).and_then(|(_, whole)| unsafe { arena.reallocate(inner, whole, shard(local)) });
            if let Some(moved) = moved {
                self.count_gone(&header, tier);
                self.count_placed(choice, tier, bytes as u64);
                // SAFETY: a block of the size asked for.
                return Reallocated::Done(unsafe { Header::write(moved, 16, bytes as u64, choice) }.as_ptr());
            }
        }
        let fresh = match self.serve(local, choice, bytes, 16, false) {
            Some(fresh) => Some(fresh.as_ptr()),
            // SAFETY: the C function.
            None => unsafe { real::malloc(bytes) }.filter(|fresh| !fresh.is_null()),
        };
        let Some(fresh) = fresh else { return Reallocated::Done(refuse()) };
        // SAFETY: two blocks at least as long; the old one is the caller's to give.
        unsafe {
            core::ptr::copy_nonoverlapping(block, fresh, usable_slowly(block).min(bytes));
            if let Some((tier, arena)) = home
                && arena.free(inner)
            {
                self.count_gone(&header, tier);
            }
        }
        Reallocated::Done(fresh)
    }

    /// Replaces a block of the program's allocator by one of ours, if that is where it belongs.
    ///
    /// # Safety
    ///
    /// `block` is one, or null, and the program's to give.
    unsafe fn take_in(&self, local: &Local, choice: Choice, block: *mut u8, bytes: usize) -> Reallocated {
        // SAFETY: the C function, on a block of its own.
        let held = if block.is_null() { Some(0) } else { unsafe { real::malloc_usable_size(block) } };
        // Where the allocator does not say how large a block is, it cannot be copied.
        let Some(held) = held.filter(|held| *held > 0 || block.is_null()) else {
            self.matcher.give_slot_back(choice.group, choice.slot);
            return Reallocated::NotOurs;
        };
        let Some(fresh) = self.serve(local, choice, bytes, 16, false) else { return Reallocated::NotOurs };
        if !block.is_null() {
            // SAFETY: two blocks at least as long; the old one is the caller's to give.
            unsafe {
                core::ptr::copy_nonoverlapping(block, fresh.as_ptr(), held.min(bytes));
                real::free(block);
            }
        }
        Reallocated::Done(fresh.as_ptr())
    }
}
