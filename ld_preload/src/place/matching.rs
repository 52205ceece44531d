//! Which rule a block falls under.
//!
//! A rule is a range of sizes, the beginning of a call stack (or none), and perhaps a slot. Rules are tried in the order of
//! the table. Most calls must be told quickly that none matches:
//!
//! * **The filter** (`filter`) knows the callers with which some rule's stack begins. Any other call can match a rule
//!   without a stack only.
//! * **The memo** (the one recording uses, with a table of its own) gives for a stack seen before the list of rules whose
//!   frames it has. Lists are interned: there are few.
//!
//! Frames are addresses within modules, and modules are known by file name and build-id. Whenever the set of loaded
//! modules has changed, the modules the table names are looked for again; the filter only grows. As long as one of them
//! is missing, a caller never seen before is worth a look at the modules, for it may lie in the one that is missing.
//!
//! # Why a race here is harmless
//!
//! Where modules lie is read and written without a lock. A thread that reads in the middle of a change may miss a match,
//! or, if a module took the place of another at that instant, match falsely; then one block is in another tier than it
//! should be. What a memo keeps was worked out for modules known to be the present ones.

use super::FAST;
use super::filter::FILTER;
use super::header::{NO_RULE, NO_SLOT};
use super::load::Module;
use super::slots::Slots;
use crate::arch::{Caller, Local};
use crate::modules::Snapshot;
use crate::recorder;
use crate::thread::Thread;
use crate::unwind::{self, Purpose};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use tierscope_wire::StackId;
use tierscope_wire::policy::Table;
use tierscope_wire::policy::stats::Statistics;

/// Where a block goes, and what its header is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    /// The tier's place in the table; `None` for the program's allocator.
    pub(super) tier: Option<usize>,
    /// The rule's, or [`NO_RULE`].
    pub(super) rule: u16,
    /// The slot, or [`NO_SLOT`].
    pub(super) slot: u16,
    /// What the slot is one of.
    pub(super) group: u16,
}

impl Choice {
    /// The program's allocator, by no rule.
    pub(super) const NONE: Choice = Choice { tier: None, rule: NO_RULE, slot: NO_SLOT, group: 0 };
}

#[derive(Debug)]
struct Frame {
    module: u16,
    /// Return addresses, first and one past the last.
    ranges: Box<[(u64, u64)]>,
}

#[derive(Debug)]
struct Rule {
    tier: u16,
    least: u64,
    most: u64,
    ordinal: Option<u16>,
    frames: Box<[Frame]>,
}

impl Rule {
    fn allows(&self, bytes: u64) -> bool {
        (self.least..=self.most).contains(&bytes)
    }
}

const LISTS: usize = 1024;
/// A look takes a millisecond or so.
const EXTRA_LOOKS: u32 = 256;
const KNOWN: usize = 1024;

/// The rules, and what speeds them up.
#[derive(Debug)]
pub(super) struct Matcher {
    rules: Vec<Rule>,
    /// Those without a stack, in order.
    anywhere: Box<[u16]>,
    modules: Vec<Module>,
    /// Frames the longest rule has.
    depth: usize,
    default: Option<usize>,
    /// Serial number of the modules the biases are for.
    resolved: AtomicU64,
    resolving: AtomicBool,
    /// Some module the rules name is not there.
    missing: AtomicBool,
    /// Callers that lie in no missing module.
    known: Box<[AtomicU64]>,
    lists: Box<[AtomicPtr<Vec<u16>>]>,
    lists_used: AtomicUsize,
    adding: AtomicBool,
    /// Looks at the modules that are not rationed.
    extra_looks: AtomicU32,
    slots: &'static Slots,
}

fn known_place(address: u64) -> usize {
    (address ^ address >> 10) as usize % KNOWN
}

fn zeros(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

impl Matcher {
    /// The matcher of a table, over its modules. Blocks that no rule matches go to tier `default`, if there is one.
    pub(super) fn new(
        table: &Table<'_>,
        modules: Vec<Module>,
        default: Option<usize>,
        slots: &'static Slots,
    ) -> Matcher {
        let rules: Vec<Rule> = table
            .rules()
            .map(|rule| Rule {
                tier: rule.tier,
                least: rule.min_bytes,
                most: rule.max_bytes,
                ordinal: rule.ordinal,
                frames: rule
                    .frames()
                    .map(|frame| Frame { module: frame.module, ranges: frame.ranges().collect() })
                    .collect(),
            })
            .collect();
        let anywhere = (0_u16..).zip(&rules).filter(|(_, rule)| rule.frames.is_empty()).map(|(at, _)| at).collect();
        let depth = rules.iter().map(|rule| rule.frames.len()).max().unwrap_or(0);
        Matcher {
            anywhere,
            modules,
            depth,
            default,
            resolved: AtomicU64::new(0),
            resolving: AtomicBool::new(false),
            missing: AtomicBool::new(depth > 0),
            known: zeros(KNOWN),
            lists: (0..LISTS).map(|_| AtomicPtr::new(core::ptr::null_mut())).collect(),
            lists_used: AtomicUsize::new(0),
            adding: AtomicBool::new(false),
            extra_looks: AtomicU32::new(EXTRA_LOOKS),
            slots,
            rules,
        }
    }

    /// The least and the most bytes of a block that some rule may match; `None` if none can.
    pub(super) fn sizes(&self) -> Option<(u64, u64)> {
        if self.default.is_some() {
            return Some((0, u64::MAX));
        }
        let rules = || self.rules.iter().filter(|rule| rule.least <= rule.most);
        Some((rules().map(|rule| rule.least).min()?, rules().map(|rule| rule.most).max()?))
    }

    /// What to add to the addresses of a module of the table, if it is loaded.
    pub(super) fn bias(&self, module: u16) -> Option<u64> {
        self.modules.get(usize::from(module)).and_then(Module::bias)
    }

    /// The tier of what no rule matches, where that is not the program's allocator.
    pub(super) fn default_tier(&self) -> Option<usize> {
        self.default
    }

    /// Whether a block may match whoever asks for it, as far as the filter can tell.
    pub(super) fn is_open(&self) -> bool {
        self.default.is_some() || !self.anywhere.is_empty() || self.missing.load(Ordering::Relaxed)
    }

    /// Whether some rule asks for a slot.
    pub(super) fn has_ordinals(&self) -> bool {
        self.rules.iter().any(|rule| rule.ordinal.is_some())
    }

    /// Gives a slot back that a block had.
    pub(super) fn give_slot_back(&self, group: u16, slot: u16) {
        if slot != NO_SLOT {
            self.slots.give_back(group, slot);
        }
    }

    /// Where a block of `bytes` that `caller` asks for goes.
    #[inline]
    pub(super) fn choose(&self, local: &Local, caller: Caller, bytes: u64, statistics: &Statistics<'static>) -> Choice {
        let address = caller.return_address();
        let by_stack = self.depth > 0 && (FILTER.may_hold(address) || self.is_news(address));
        let choice =
            if by_stack { self.by_stack(local, caller, bytes, statistics) } else { self.pick(&[], None, bytes) };
        if choice.rule == NO_RULE {
            let general = statistics.general();
            general.unmatched_blocks.fetch_add(1, Ordering::Relaxed);
            general.unmatched_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        choice
    }

    /// Whether a caller may lie in a module that was missing when the modules were last looked at.
    fn is_news(&self, address: u64) -> bool {
        if !self.missing.load(Ordering::Relaxed) {
            return false;
        }
        self.known.get(known_place(address)).is_some_and(|known| known.load(Ordering::Relaxed) != address)
    }

    #[cold]
    fn by_stack(&self, local: &Local, caller: Caller, bytes: u64, statistics: &Statistics<'static>) -> Choice {
        let general = statistics.general();
        general.lookups.fetch_add(1, Ordering::Relaxed);
        // What a fork left is dealt with before this thread's own part is used.
        let session = recorder::present_session(local);
        let generation = session.map_or(0, |session| session.generation);
        let mut lookup =
            Lookup { matcher: self, session, statistics, found: Found::Nothing, walked: false, in_code: true, caller };
        recorder::contained(local, || {
            let Some(thread) = Thread::of(local, crate::sys::process_id, generation) else { return };
            // SAFETY: this thread's own, under the guard, and used here only.
            let own = unsafe { thread.own() };
            let id = unwind::take_for(&mut lookup, thread, own, local, caller);
            if let Some(index) = (id.0 as usize).checked_sub(1) {
                lookup.found = Found::List(index);
            }
        });
        if !lookup.walked {
            general.lookup_hits.fetch_add(1, Ordering::Relaxed);
        }
        let address = caller.return_address();
        if let Some(known) = self.known.get(known_place(address)).filter(|_| lookup.in_code) {
            known.store(address, Ordering::Relaxed);
        }
        match &lookup.found {
            Found::List(index) => self.pick(self.list(*index), u32::try_from(*index).ok(), bytes),
            Found::Loose(list) => self.pick(list, None, bytes),
            Found::Nothing => {
                general.no_stack.fetch_add(1, Ordering::Relaxed);
                self.pick(&[], None, bytes)
            }
        }
    }

    fn list(&self, index: usize) -> &[u16] {
        let pointer = self.lists.get(index).map_or(core::ptr::null_mut(), |list| list.load(Ordering::Acquire));
        // SAFETY: lists are never freed.
        unsafe { pointer.as_ref() }.map_or(&[], Vec::as_slice)
    }

    /// The first rule that matches, among those of a stack and those without one. `site` numbers the stack's slots.
    fn pick(&self, of_stack: &[u16], site: Option<u32>, bytes: u64) -> Choice {
        let allowed = |at: &&u16| self.rules.get(usize::from(**at)).is_some_and(|rule| rule.allows(bytes));
        let asks_slot = of_stack
            .iter()
            .filter(allowed)
            .any(|at| self.rules.get(usize::from(*at)).is_some_and(|r| r.ordinal.is_some()));
        let (group, slot) = match site.filter(|_| asks_slot) {
            Some(site) => self.slots.take(site << 6 | bytes.max(1).ilog2()).unwrap_or((0, NO_SLOT)),
            None => (0, NO_SLOT),
        };
        let fits = |at: &&u16| {
            self.rules.get(usize::from(**at)).is_some_and(|rule| {
                rule.allows(bytes) && rule.ordinal.is_none_or(|ordinal| ordinal == slot && slot != NO_SLOT)
            })
        };
        let by_stack = of_stack.iter().find(fits);
        let by_size = self.anywhere.iter().find(fits);
        match by_stack.into_iter().chain(by_size).min() {
            Some(at) => {
                let tier = self.rules.get(usize::from(*at)).map(|rule| usize::from(rule.tier));
                Choice { tier, rule: *at, slot, group }
            }
            None => Choice { tier: self.default, rule: NO_RULE, slot, group },
        }
    }

    /// The rules whose frames a stack begins with.
    fn matching(&self, frames: &[u64]) -> Vec<u16> {
        let holds = |frame: &Frame, address: u64| {
            self.bias(frame.module).is_some_and(|bias| {
                let address = address.wrapping_sub(bias);
                frame.ranges.iter().any(|(low, high)| (*low..*high).contains(&address))
            })
        };
        let matches = |rule: &Rule| {
            !rule.frames.is_empty()
                && rule.frames.len() <= frames.len()
                && rule.frames.iter().zip(frames).all(|(frame, address)| holds(frame, *address))
        };
        (0_u16..).zip(&self.rules).filter(|(_, rule)| matches(rule)).map(|(at, _)| at).collect()
    }

    /// The place of a list among the interned, which it joins if it can.
    fn intern(&self, list: &[u16]) -> Option<usize> {
        let find = || (0..self.lists_used.load(Ordering::Acquire)).find(|index| self.list(*index) == list);
        if let Some(found) = find() {
            return Some(found);
        }
        if self.adding.swap(true, Ordering::Acquire) {
            return None;
        }
        let added = find().or_else(|| {
            let index = self.lists_used.load(Ordering::Relaxed);
            let place = self.lists.get(index)?;
            place.store(Box::into_raw(Box::new(list.to_vec())), Ordering::Release);
            self.lists_used.store(index + 1, Ordering::Release);
            Some(index)
        });
        self.adding.store(false, Ordering::Release);
        added
    }

    /// Sees to it that the modules of a snapshot are those the rules are held against; false where another thread is at
    /// that now.
    pub(super) fn resolve(&self, snapshot: &Snapshot, statistics: &Statistics<'static>) -> bool {
        if self.resolved.load(Ordering::Acquire) == snapshot.serial {
            return true;
        }
        if self.resolving.swap(true, Ordering::Acquire) {
            return false;
        }
        let mut missing = false;
        for module in &self.modules {
            missing |= !module.locate(snapshot, statistics);
        }
        for frame in self.rules.iter().filter_map(|rule| rule.frames.first()) {
            if let Some(bias) = self.bias(frame.module) {
                FILTER
                    .admit(frame.ranges.iter().map(|(low, high)| (bias.wrapping_add(*low), bias.wrapping_add(*high))));
            }
        }
        self.missing.store(missing, Ordering::Relaxed);
        FAST.open.store(usize::from(self.is_open()), Ordering::Relaxed);
        self.resolved.store(snapshot.serial, Ordering::Release);
        self.resolving.store(false, Ordering::Release);
        true
    }
}

/// What a look at the stack came to.
#[derive(Debug)]
enum Found {
    Nothing,
    List(usize),
    /// Of a list that found no room among the interned.
    Loose(Vec<u16>),
}

/// One look at a stack, as the unwinder wants it.
struct Lookup<'a> {
    matcher: &'a Matcher,
    session: Option<&'static recorder::Session>,
    statistics: &'a Statistics<'static>,
    found: Found,
    /// The memo did not have it.
    walked: bool,
    /// The caller lies in a module, or in other code that was there when the modules were last looked at.
    in_code: bool,
    caller: Caller,
}

impl Purpose for Lookup<'_> {
    const MEMO: usize = 1;

    fn mode(&self) -> tierscope_wire::options::StackMode {
        tierscope_wire::options::StackMode::Unwind
    }

    fn generation(&self) -> u32 {
        // Lists stay what they are in a forked child.
        1
    }

    fn process(&self) -> u32 {
        crate::sys::process_id()
    }

    fn depth(&self) -> usize {
        self.matcher.depth
    }

    fn may_look(&self, depth: usize) -> bool {
        let extra = || {
            let left = |left: u32| left.checked_sub(1);
            self.matcher.extra_looks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
        };
        // A caller in code that was not there before: a library just loaded, whose first block may be its largest.
        crate::modules::may_look(recorder::now_ns()) || depth == 1 && extra()
    }

    fn look_again(&mut self, local: &Local, own: &mut crate::thread::Own) {
        match self.session {
            Some(session) => {
                recorder::attach(session, own, local, self.caller);
                unwind::look_again(session, own);
            }
            None => {
                crate::modules::refresh(recorder::now_ns(), recorder::now_ns, crate::thread::uses);
            }
        }
    }

    fn value(&mut self, frames: &[u64], snapshot: Option<&Snapshot>) -> StackId {
        self.walked = true;
        let Some(snapshot) = snapshot else { return StackId::NONE };
        self.in_code = frames.first().is_some_and(|address| snapshot.is_code(address.wrapping_sub(1)));
        let present = self.matcher.resolve(snapshot, self.statistics);
        let list = self.matcher.matching(frames);
        match self.matcher.intern(&list).filter(|_| present) {
            Some(index) => StackId(index as u32 + 1),
            None => {
                self.found = Found::Loose(list);
                StackId::NONE
            }
        }
    }
}
