//! What came of a policy: 64-bit words at the end of the table file, which every placing process adds to.
//!
//! All are relaxed atomics: each word is right by itself, and two words read together may lie a moment apart. Words
//! only grow but for the `*_now` ones, so a reader never has to wait for a writer, and a writer that dies leaves what it
//! had counted. Children of a fork add to the same words as their parent. A process that ends without freeing its
//! blocks leaves them in `*_now`.
//!
//! ```text
//! general     16 words
//! tiers       8 words each
//! rules       8 words each
//! globals     2 words each
//! ```
//!
//! The words begin on a page, so that a tier or a rule has a cache line of its own.
//!
//! Every word added to costs a placed block some nanoseconds, and threads that place at once more. So nothing is counted
//! twice: what a rule placed is counted with the rule alone, and the reader adds it to its tier; what is there now is what
//! was placed less what was given back. Only the most that a tier ever held cannot be worked out afterwards, so a tier keeps
//! its level ([`TierCounters::rise`]), unless it has one rule and nothing else ([`Table::only_rule_of`]), whose peak is then
//! the tier's. All is added at once and where others can see it: a process that is killed loses nothing.

use super::Counts;
#[cfg(any(feature = "encode", test, doc))]
use super::Table;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bit of `flags`: at least one process placed by this table.
pub const FLAG_ACTIVE: u64 = 1;
/// Bit of `flags`: at least one process read the table and could not place; the failures say why.
pub const FLAG_GAVE_UP: u64 = 2;

const GENERAL_WORDS: usize = 16;
const TIER_WORDS: usize = 8;
const RULE_WORDS: usize = 8;
const GLOBAL_WORDS: usize = 2;

/// Number of words of a table with these counts.
pub(super) fn statistics_words(counts: Counts) -> usize {
    GENERAL_WORDS + counts.tiers * TIER_WORDS + counts.rules * RULE_WORDS + counts.globals * GLOBAL_WORDS
}

/// One view that is added to and one that was read, of the same words in the same order.
macro_rules! counters {
    ($(#[$doc:meta])* $live:ident, $read:ident, $words:ident { $($(#[$field_doc:meta])* $field:ident,)+ }) => {
        $(#[$doc])*
        ///
        /// The live words, to add to.
        #[derive(Debug, Clone, Copy)]
        pub struct $live<'a> { $($(#[$field_doc])* pub $field: &'a AtomicU64,)+ }

        $(#[$doc])*
        ///
        /// The values, read once.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $read { $($(#[$field_doc])* pub $field: u64,)+ }

        impl<'a> $live<'a> {
            #[inline]
            fn over(words: &'a [AtomicU64; $words]) -> Self {
                let [$($field,)+ ..] = words;
                $live { $($field,)+ }
            }

            /// The values as they are now, each word for itself.
            pub fn read(&self) -> $read {
                $read { $($field: self.$field.load(Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// Of the whole run.
    General, GeneralCounts, GENERAL_WORDS {
        /// Processes that read the table.
        processes,
        /// [`FLAG_ACTIVE`] and [`FLAG_GAVE_UP`].
        flags,
        /// Blocks that were looked at and matched no rule.
        unmatched_blocks,
        /// Bytes of these.
        unmatched_bytes,
        /// Modules that had another build-id than the table asks for; the rules that name them did not hold.
        modules_differing,
        /// Stacks taken for blocks some rule might match. May be added in batches.
        lookups,
        /// Of these, how many the cache of stacks answered.
        lookup_hits,
        /// Processes that could not reserve address space, and placed nothing.
        no_address_space,
        /// Blocks left to the program's allocator because the bookkeeping found no memory.
        no_metadata,
        /// Blocks whose stack could not be taken to the depth a rule needs.
        no_stack,
        /// Blocks asked for from inside the hooks, left to the program's allocator.
        reentered,
        /// `errno` of the last failure that belongs to no tier.
        last_errno,
    }
}

counters! {
    /// Of one tier. Live, blocks and bytes in all are those that no rule placed.
    TierCounters, TierCounts, TIER_WORDS {
        /// Blocks ever placed in it.
        blocks,
        /// Bytes of blocks in it now. Live, 0 where one rule alone has the tier.
        bytes_now,
        /// The most bytes it held at one time.
        bytes_peak,
        /// Bytes ever placed in it.
        bytes_total,
        /// Blocks meant for it that went elsewhere because it was full or failed.
        spilled_blocks,
        /// Bytes of these.
        spilled_bytes,
        /// Times its memory could not be had.
        failures,
        /// `errno` of the last of these.
        last_errno,
    }
}

counters! {
    /// Of one rule.
    RuleCounters, RuleCounts, RULE_WORDS {
        /// Blocks ever placed by it.
        blocks,
        /// Bytes of its blocks that were given back.
        bytes_freed,
        /// The most bytes placed by it at one time.
        bytes_peak,
        /// Bytes ever placed by it.
        bytes_total,
        /// Blocks it matched that went elsewhere because its tier was full or failed.
        spilled_blocks,
        /// Bytes of these.
        spilled_bytes,
    }
}

counters! {
    /// Of one global.
    GlobalCounters, GlobalCounts, GLOBAL_WORDS {
        /// Bytes whose pages were put into its tier, by the last process that tried.
        bytes_moved,
        /// `errno` of the last failure to do so; 0 for none.
        errno,
    }
}

/// Counts that more was given back than placed: below zero is no peak, and nothing is left. Children of a fork may free
/// what was never counted.
fn is_level(bytes: u64) -> bool {
    bytes <= i64::MAX as u64
}

fn raise(peak: &AtomicU64, bytes: u64) {
    if bytes > peak.load(Relaxed) && is_level(bytes) {
        peak.fetch_max(bytes, Relaxed);
    }
}

impl TierCounters<'_> {
    /// Counts a block that no rule placed. Its bytes are not there before [`TierCounters::rise`].
    #[inline]
    pub fn place(&self, bytes: u64) {
        self.blocks.fetch_add(1, Relaxed);
        self.bytes_total.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes that are there from now on.
    #[inline]
    pub fn rise(&self, bytes: u64) {
        raise(self.bytes_peak, self.bytes_now.fetch_add(bytes, Relaxed).wrapping_add(bytes));
    }

    /// Counts bytes that are there no more.
    #[inline]
    pub fn fall(&self, bytes: u64) {
        self.bytes_now.fetch_sub(bytes, Relaxed);
    }

    /// Counts a block that had to go elsewhere.
    #[inline]
    pub fn spill(&self, bytes: u64) {
        self.spilled_blocks.fetch_add(1, Relaxed);
        self.spilled_bytes.fetch_add(bytes, Relaxed);
    }
}

impl RuleCounters<'_> {
    /// Counts a block that was placed. Of blocks given back by other threads in this instant the peak may know already.
    #[inline]
    pub fn place(&self, bytes: u64) {
        self.blocks.fetch_add(1, Relaxed);
        let total = self.bytes_total.fetch_add(bytes, Relaxed).wrapping_add(bytes);
        raise(self.bytes_peak, total.wrapping_sub(self.bytes_freed.load(Relaxed)));
    }

    /// Counts a block that was given back.
    #[inline]
    pub fn release(&self, bytes: u64) {
        self.bytes_freed.fetch_add(bytes, Relaxed);
    }

    /// Counts a block that had to go elsewhere.
    #[inline]
    pub fn spill(&self, bytes: u64) {
        self.spilled_blocks.fetch_add(1, Relaxed);
        self.spilled_bytes.fetch_add(bytes, Relaxed);
    }
}

impl TierCounts {
    /// `bytes_now`, or 0 where more was given back than counted.
    pub fn bytes_now(&self) -> u64 {
        if is_level(self.bytes_now) { self.bytes_now } else { 0 }
    }
}

impl RuleCounts {
    /// Bytes of its blocks that are there, or 0 where more was given back than counted.
    pub fn bytes_now(&self) -> u64 {
        let now = self.bytes_total.wrapping_sub(self.bytes_freed);
        if is_level(now) { now } else { 0 }
    }
}

impl TierCounters<'_> {
    /// Counts a failure to get memory of this tier.
    pub fn fail(&self, errno: u32) {
        self.failures.fetch_add(1, Relaxed);
        self.last_errno.store(u64::from(errno), Relaxed);
    }
}

/// The words of a table's statistics, by what they count.
#[derive(Debug, Clone, Copy)]
pub struct Statistics<'a> {
    general: &'a [AtomicU64; GENERAL_WORDS],
    tiers: &'a [[AtomicU64; TIER_WORDS]],
    rules: &'a [[AtomicU64; RULE_WORDS]],
    globals: &'a [[AtomicU64; GLOBAL_WORDS]],
}

impl<'a> Statistics<'a> {
    /// The statistics of a table with these counts, over the [`super::Table::statistics_words`] words that begin at
    /// [`super::Table::statistics_offset`] of its file. `None` when there are fewer words than that.
    pub fn new(counts: Counts, words: &'a [AtomicU64]) -> Option<Self> {
        let (general, rest) = words.split_first_chunk()?;
        let (tiers, rest) = rest.split_at_checked(counts.tiers.checked_mul(TIER_WORDS)?)?;
        let (rules, rest) = rest.split_at_checked(counts.rules.checked_mul(RULE_WORDS)?)?;
        let globals = rest.get(..counts.globals.checked_mul(GLOBAL_WORDS)?)?;
        Some(Statistics {
            general,
            tiers: tiers.as_chunks().0,
            rules: rules.as_chunks().0,
            globals: globals.as_chunks().0,
        })
    }

    /// The words of the whole run.
    #[inline]
    pub fn general(&self) -> General<'a> {
        General::over(self.general)
    }

    /// The words of a tier; `None` for an index that is not there.
    #[inline]
    pub fn tier(&self, index: usize) -> Option<TierCounters<'a>> {
        self.tiers.get(index).map(TierCounters::over)
    }

    /// The words of a rule, by its place in the table; `None` for an index that is not there.
    #[inline]
    pub fn rule(&self, index: usize) -> Option<RuleCounters<'a>> {
        self.rules.get(index).map(RuleCounters::over)
    }

    /// The words of a global, by its place in the table; `None` for an index that is not there.
    #[inline]
    pub fn global(&self, index: usize) -> Option<GlobalCounters<'a>> {
        self.globals.get(index).map(GlobalCounters::over)
    }
}

/// Statistics read from a table file: the agent's side.
#[cfg(any(feature = "encode", test))]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Of the whole run.
    pub general: GeneralCounts,
    /// Of each tier, by its index.
    pub tiers: alloc::vec::Vec<TierCounts>,
    /// Of each rule, by its place in the table.
    pub rules: alloc::vec::Vec<RuleCounts>,
    /// Of each global, by its place in the table.
    pub globals: alloc::vec::Vec<GlobalCounts>,
}

#[cfg(any(feature = "encode", test))]
extern crate alloc;

#[cfg(any(feature = "encode", test))]
impl Snapshot {
    /// Reads the statistics of `table` out of `file`, the bytes of the same file at this or a later time. `None` when
    /// they are too short to be that.
    pub fn read(table: &Table<'_>, file: &[u8]) -> Option<Snapshot> {
        let bytes = file.get(usize::try_from(table.statistics_offset()).ok()?..)?;
        let words: alloc::vec::Vec<AtomicU64> =
            bytes.as_chunks().0.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect();
        let live = Statistics::new(table.counts(), &words)?;
        let rules: alloc::vec::Vec<RuleCounts> =
            live.rules.iter().map(|words| RuleCounters::over(words).read()).collect();
        let mut tiers: alloc::vec::Vec<TierCounts> =
            live.tiers.iter().map(|words| TierCounters::over(words).read()).collect();
        for (index, (of, tier)) in table.tiers().zip(&mut tiers).enumerate() {
            // Blocks left to the program's own allocator are not counted as placed.
            let placed = table.rules().zip(&rules).filter(|(rule, _)| usize::from(rule.tier) == index);
            for (_, rule) in placed.filter(|_| of.backend != super::Backend::Default) {
                tier.blocks = tier.blocks.wrapping_add(rule.blocks);
                tier.bytes_total = tier.bytes_total.wrapping_add(rule.bytes_total);
            }
            if let Some(rule) = table.only_rule_of(index).and_then(|rule| rules.get(rule)) {
                tier.bytes_now = rule.bytes_now();
                tier.bytes_peak = rule.bytes_peak;
            }
        }
        Some(Snapshot {
            general: live.general().read(),
            tiers,
            rules,
            globals: live.globals.iter().map(|words| GlobalCounters::over(words).read()).collect(),
        })
    }
}
