//! Stacks taken before: an exact memo, per thread.
//!
//! A walk is a function of where it starts, of the modules, and of the words it read from the stack and used. So those
//! words are kept with the id the stack got (`trace` says which they are), and when a later walk would start at the same
//! place with the same modules, they are read again. If each still has its value, the walk would read the first of them,
//! go where it went before, read the second, and so on to the same end: the id is the answer, and nothing is unwound or
//! looked up. If one differs, there is no answer here, whatever else agrees. Nothing is guessed.
//! (One thing the unwinder does remember of its own: where a rare rule failed once, it walks by frame pointers from then on.
//! A stack kept before that stays as it was walked.)
//!
//! A place is a return address and the address it was found at. "The same modules" is a snapshot's serial number, which
//! no other snapshot of the process ever has; ids belong to a segment, so the recorder's generation is compared too,
//! which a fork changes. Only walks that read nothing but words that this thread may read directly are kept, and words
//! are read again only where they lie below the present top of the stack.
//!
//! The table is a set-associative cache of 256 stacks of a kilobyte each. It is mapped when first needed; a page of it
//! is touched when a stack comes to lie there.

use crate::sys;
use tierscope_wire::StackId;

/// Words a kept walk has used at most: 64 return addresses and half as many frame pointers.
const WORDS: usize = 96;
const SETS: usize = 64;
const WAYS: usize = 4;

/// Where a walk starts and what its outcome is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// The return address.
    pub(crate) address: u64,
    /// Where it was found.
    pub(crate) sp: u64,
    /// Of the modules' snapshot.
    pub(crate) serial: u64,
    /// Of the recorder.
    pub(crate) generation: u32,
}

/// A walk's outcome and what it depended on. All zeros is an empty one.
#[derive(Debug)]
pub(crate) struct Entry {
    key: Key,
    id: StackId,
    /// The frame pointer at the start, if it was used.
    bp: u64,
    bp_used: bool,
    count: u16,
    /// Words from the start to the highest that was used.
    highest: u16,
    /// In words from the start.
    offsets: [u16; WORDS],
    values: [u64; WORDS],
}

impl Entry {
    /// Notes that the walk from `sp` used the word at `address`; false when there is no room for it.
    pub(crate) fn uses_word(&mut self, sp: u64, address: u64, value: u64) -> bool {
        let offset = address.wrapping_sub(sp);
        let at = usize::from(self.count);
        let (Ok(words), Some(to), Some(kept)) =
            (u16::try_from(offset >> 3), self.offsets.get_mut(at), self.values.get_mut(at))
        else {
            return false;
        };
        if offset & 7 != 0 {
            return false;
        }
        (*to, *kept) = (words, value);
        self.count += 1;
        self.highest = self.highest.max(words);
        true
    }

    /// Notes that the walk used the frame pointer it started with.
    pub(crate) fn uses_bp(&mut self, bp: u64) {
        (self.bp, self.bp_used) = (bp, true);
    }

    /// The walk is over; all it used was noted.
    pub(crate) fn keep(&mut self, key: Key, id: StackId) {
        (self.key, self.id) = (key, id);
    }

    /// # Safety
    ///
    /// From `key.sp` to `high` this thread may read.
    unsafe fn holds(&self, key: &Key, bp: u64, high: u64) -> bool {
        if self.key != *key
            || self.bp_used && self.bp != bp
            || high < key.sp
            || (high - key.sp) >> 3 <= u64::from(self.highest)
        {
            return false;
        }
        let words = self.offsets.iter().zip(&self.values).take(usize::from(self.count));
        // SAFETY: at least a word below `high`, by the highest of them.
        words
            .into_iter()
            .all(|(at, value)| unsafe { (key.sp as *const u64).add((*at).into()).read_unaligned() } == *value)
    }
}

/// A thread's table. All zeros is an empty one.
#[derive(Debug)]
pub(crate) struct Memo {
    /// Which way of each set is given up next.
    next: [u8; SETS],
    sets: [[Entry; WAYS]; SETS],
}

impl Memo {
    /// A fresh table that is never freed.
    pub(crate) fn map() -> Option<*mut Memo> {
        sys::map_private(size_of::<Memo>()).map(<*mut u8>::cast)
    }

    /// The stack of an earlier walk that this one would repeat.
    ///
    /// # Safety
    ///
    /// From `key.sp` to `high` this thread may read.
    pub(crate) unsafe fn find(&mut self, key: &Key, bp: u64, high: u64) -> Option<StackId> {
        let set = set_of(key);
        let ways = self.sets.get(set)?;
        // SAFETY: the caller's promise.
        let way = ways.iter().position(|entry| unsafe { entry.holds(key, bp, high) })?;
        let next = self.next.get_mut(set)?;
        if usize::from(*next) == way {
            *next = ((way + 1) % WAYS) as u8;
        }
        ways.get(way).map(|entry| entry.id)
    }

    /// An empty entry for a walk that starts at `key`. It holds nothing unless it is [kept](Entry::keep).
    pub(crate) fn vacate(&mut self, key: &Key) -> Option<&mut Entry> {
        let set = set_of(key);
        let next = self.next.get_mut(set)?;
        let way = usize::from(*next) % WAYS;
        *next = ((way + 1) % WAYS) as u8;
        let entry = self.sets.get_mut(set)?.get_mut(way)?;
        entry.key = Key { address: 0, sp: 0, serial: 0, generation: 0 };
        (entry.count, entry.highest, entry.bp_used) = (0, 0, false);
        Some(entry)
    }
}

fn set_of(key: &Key) -> usize {
    let mixed = (key.address ^ key.sp.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - SETS.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zeroed() -> Box<Memo> {
        // SAFETY: zeros are an empty table.
        unsafe { Box::from_raw(std::alloc::alloc_zeroed(std::alloc::Layout::new::<Memo>()).cast()) }
    }

    /// A stack of numbers, and the key of a walk from its first.
    fn stack(words: usize) -> (Vec<u64>, Key) {
        let stack: Vec<u64> = (0..words as u64).map(|n| n * 1000).collect();
        let key = Key { address: 77, sp: stack.as_ptr().expose_provenance() as u64, serial: 1, generation: 1 };
        (stack, key)
    }

    fn keep(memo: &mut Memo, stack: &[u64], key: Key, used: &[usize], id: u32) {
        let entry = memo.vacate(&key).unwrap();
        assert!(used.iter().all(|at| entry.uses_word(key.sp, key.sp + 8 * *at as u64, stack[*at])));
        entry.keep(key, StackId(id));
    }

    fn find(memo: &mut Memo, stack: &[u64], key: Key, bp: u64) -> Option<StackId> {
        // SAFETY: keys start at the first word of `stack`.
        unsafe { memo.find(&key, bp, key.sp + 8 * stack.len() as u64) }
    }

    #[test]
    fn a_stack_is_found_while_the_words_it_used_stay() {
        let (mut memo, (mut stack, key)) = (zeroed(), stack(40));
        keep(&mut memo, &stack, key, &[0, 3, 39], 5);
        assert_eq!(find(&mut memo, &stack, key, 1), Some(StackId(5)));
        stack[4] += 1;
        assert_eq!(find(&mut memo, &stack, key, 2), Some(StackId(5)), "a word that was not used");
        for used in [0, 3, 39] {
            stack[used] += 1;
            assert_eq!(find(&mut memo, &stack, key, 1), None, "word {used}");
            stack[used] -= 1;
        }
        assert_eq!(find(&mut memo, &stack, key, 1), Some(StackId(5)));
    }

    #[test]
    fn another_start_snapshot_or_process_has_other_stacks() {
        let (mut memo, (stack, key)) = (zeroed(), stack(40));
        keep(&mut memo, &stack, key, &[1, 2], 5);
        for other in [
            Key { address: 78, ..key },
            Key { sp: key.sp + 8, ..key },
            Key { serial: 2, ..key },
            Key { generation: 2, ..key },
        ] {
            assert_eq!(find(&mut memo, &stack[1..], other, 0), None, "{other:?}");
        }
    }

    #[test]
    fn a_frame_pointer_that_was_used_is_compared() {
        let (mut memo, (stack, key)) = (zeroed(), stack(40));
        let entry = memo.vacate(&key).unwrap();
        entry.uses_bp(9);
        entry.keep(key, StackId(6));
        assert_eq!(find(&mut memo, &stack, key, 9), Some(StackId(6)));
        assert_eq!(find(&mut memo, &stack, key, 10), None);
    }

    #[test]
    fn no_word_is_read_above_the_top_of_the_stack() {
        let (mut memo, (stack, key)) = (zeroed(), stack(40));
        keep(&mut memo, &stack, key, &[20], 5);
        assert_eq!(find(&mut memo, &stack[..21], key, 0), Some(StackId(5)));
        assert_eq!(find(&mut memo, &stack[..20], key, 0), None);
        assert_eq!(find(&mut memo, &stack[..0], key, 0), None);
    }

    #[test]
    fn stacks_of_one_place_share_a_set_and_the_one_just_found_stays() {
        let (mut memo, (mut stack, key)) = (zeroed(), stack(40));
        for id in 0..WAYS as u64 {
            stack[7] = id;
            keep(&mut memo, &stack, key, &[7], id as u32 + 1);
        }
        for id in 0..WAYS as u64 {
            stack[7] = id;
            assert_eq!(find(&mut memo, &stack, key, 0), Some(StackId(id as u32 + 1)));
        }
        let hot = WAYS as u64 - 1;
        for id in 100..120 {
            stack[7] = hot;
            assert_eq!(find(&mut memo, &stack, key, 0), Some(StackId(hot as u32 + 1)));
            stack[7] = id;
            keep(&mut memo, &stack, key, &[7], id as u32);
        }
    }

    #[test]
    fn a_walk_that_does_not_fit_is_not_noted() {
        let (mut memo, (_, key)) = (zeroed(), stack(1));
        let entry = memo.vacate(&key).unwrap();
        assert!(!entry.uses_word(key.sp, key.sp + 4, 0), "between words");
        assert!(!entry.uses_word(key.sp, key.sp + (1 << 19), 0), "too far");
        assert!(!entry.uses_word(key.sp, key.sp - 8, 0), "below the start");
        for at in 0..WORDS as u64 {
            assert!(entry.uses_word(key.sp, key.sp + 8 * at, 0));
        }
        assert!(!entry.uses_word(key.sp, key.sp, 0), "too many");
    }
}
