//! Reads the words of a stack for a walk, and notes which of them the walk depended on.
//!
//! A return address decides the rest of a walk. A saved frame pointer does so only where a frame is found by it; in code
//! without frame pointers the register holds anything, differs from call to call, and is restored frame by frame
//! without ever mattering. To tell which is the case, the unwinder is given a stand-in for the frame pointer's value: an
//! address that cannot exist. As long as it asks for nothing near the stand-in, it did not use the frame pointer, and
//! would have done the same with any value. Once it does, or once it finds the stack to end, the step is done again
//! with the real value, and the word that held it is noted as used.

use crate::memo::{Entry, Key};
use crate::sys;
use crate::thread::WINDOW_BYTES;
use framehop::x86_64::UnwindRegsX86_64;
use tierscope_wire::StackId;

/// Reads words of a stack.
pub(crate) struct Reader<'w> {
    pub(crate) pid: u32,
    /// May be read directly.
    pub(crate) low: u64,
    /// One past what may.
    pub(crate) high: u64,
    pub(crate) window: &'w mut [u8; WINDOW_BYTES],
    /// Address of the window's first byte; 0 for an empty one.
    pub(crate) window_start: u64,
}

impl Reader<'_> {
    /// Whether the word at `address` may be read directly.
    fn is_direct(&self, address: u64) -> bool {
        address >= self.low && address <= self.high.wrapping_sub(8) && address < self.high
    }

    /// The word at `address`.
    pub(crate) fn read(&mut self, address: u64) -> Result<u64, ()> {
        if self.is_direct(address) {
            // SAFETY: between the caller's stack pointer and the top of this thread's stack.
            return Ok(unsafe { (address as *const u64).read_unaligned() });
        }
        let page = address & !(WINDOW_BYTES as u64 - 1);
        if page != self.window_start || page == 0 {
            self.window_start = 0;
            if page == 0 || sys::peek(self.pid, page as usize, self.window) != WINDOW_BYTES {
                return Err(());
            }
            self.window_start = page;
        }
        let at = (address - page) as usize;
        let word = self.window.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or(())?;
        Ok(u64::from_ne_bytes(*word))
    }
}

/// Stands for a frame pointer whose value did not matter so far. No processor has such an address.
const STAND_IN: u64 = 0x6000_0000_0000_0000;
/// What is this near to it was computed from it.
const NEAR: u64 = 1 << 40;

fn is_near_stand_in(address: u64) -> bool {
    address.wrapping_sub(STAND_IN - NEAR) < 2 * NEAR
}

/// Words a step reads at most, if its walk is to be kept.
const STEP_READS: usize = 4;

/// What is known of the frame pointer in the registers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FramePointer {
    /// The value itself; where it came from is noted.
    Used,
    /// The stand-in. The value was found at an address of the stack, or, with none, in the register at the start.
    Unused { value: u64, at: Option<u64> },
}

/// A walk's dependences, on their way into a memo's entry.
pub(crate) struct Trace<'m> {
    entry: &'m mut Entry,
    sp: u64,
    bp: FramePointer,
    /// Whether everything could be noted.
    complete: bool,
    reads: [(u64, u64); STEP_READS],
    count: usize,
    /// Whether the step told the stand-in from a real value, or could not have.
    doubtful: bool,
}

impl<'m> Trace<'m> {
    /// A trace of a walk from `sp`. `registers` get the stand-in.
    pub(crate) fn new(entry: &'m mut Entry, sp: u64, registers: &mut UnwindRegsX86_64) -> Self {
        let bp = FramePointer::Unused { value: registers.bp(), at: None };
        registers.set_bp(STAND_IN);
        Trace { entry, sp, bp, complete: true, reads: [(0, 0); STEP_READS], count: 0, doubtful: false }
    }

    /// Unwinds one frame by `unwind`, which may read.
    pub(crate) fn step(
        &mut self,
        registers: &mut UnwindRegsX86_64,
        reader: &mut Reader<'_>,
        mut unwind: impl FnMut(&mut UnwindRegsX86_64, &mut dyn FnMut(u64) -> Result<u64, ()>) -> Option<u64>,
    ) -> Option<u64> {
        let mut before = *registers;
        let mut next = self.attempt(registers, reader, &mut unwind);
        if let FramePointer::Unused { value, at } = self.bp
            && (next.is_none() || self.doubtful || is_near_stand_in(registers.sp()))
        {
            before.set_bp(value);
            *registers = before;
            self.bp = FramePointer::Used;
            match at {
                Some(address) => self.note(address, value),
                None => self.entry.uses_bp(value),
            }
            next = self.attempt(registers, reader, &mut unwind);
        }
        self.settle(before.bp(), registers);
        next
    }

    fn attempt(
        &mut self,
        registers: &mut UnwindRegsX86_64,
        reader: &mut Reader<'_>,
        unwind: &mut impl FnMut(&mut UnwindRegsX86_64, &mut dyn FnMut(u64) -> Result<u64, ()>) -> Option<u64>,
    ) -> Option<u64> {
        (self.count, self.doubtful) = (0, false);
        unwind(registers, &mut |mut address| {
            if let FramePointer::Unused { value, .. } = self.bp
                && is_near_stand_in(address)
            {
                // Answered truly, so that the unwinder does not come to believe that its rule is wrong.
                self.doubtful = true;
                address = address.wrapping_sub(STAND_IN).wrapping_add(value);
            }
            let word = reader.read(address);
            match (word, self.reads.get_mut(self.count)) {
                (Ok(word), Some(place)) if reader.is_direct(address) && !is_near_stand_in(word) => {
                    *place = (address, word);
                    self.count += 1;
                }
                // A step that is done again counts only then.
                _ if self.doubtful => {}
                _ => (self.complete, self.doubtful) = (false, true),
            }
            word
        })
    }

    /// Notes what the step read, but for a frame pointer just restored, which gets its stand-in.
    fn settle(&mut self, before: u64, registers: &mut UnwindRegsX86_64) {
        let bp = registers.bp();
        let reads = self.reads;
        let reads = reads.get(..self.count).unwrap_or(&[]);
        let return_at = registers.sp().wrapping_sub(8);
        let mut sources = reads.iter().filter(|(_, word)| *word == bp);
        let restored = match (sources.next(), sources.next()) {
            (Some((address, _)), None) if bp != before && *address != return_at => Some(*address),
            _ => None,
        };
        for (address, word) in reads {
            if restored != Some(*address) {
                self.note(*address, *word);
            }
        }
        if restored.is_some() {
            self.bp = FramePointer::Unused { value: bp, at: restored };
            registers.set_bp(STAND_IN);
        } else if bp != before {
            self.bp = FramePointer::Used;
        }
    }

    fn note(&mut self, address: u64, value: u64) {
        self.complete &= self.entry.uses_word(self.sp, address, value);
    }

    /// The walk is over, and its stack has this id.
    pub(crate) fn keep(self, key: Key, id: StackId) {
        if self.complete {
            self.entry.keep(key, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memo::Memo;

    /// What a made-up frame says of its caller's.
    #[derive(Clone, Copy)]
    enum Rule {
        /// So many words up, the last is the return address; the frame pointer lies in this one.
        Restore { words: u64, bp_at: u64 },
        /// By the frame pointer.
        FramePointer,
        /// The outermost.
        End,
    }

    fn apply(
        rule: Rule,
        registers: &mut UnwindRegsX86_64,
        read: &mut dyn FnMut(u64) -> Result<u64, ()>,
    ) -> Option<u64> {
        let (sp, bp) = match rule {
            Rule::End => return None,
            Rule::Restore { words, bp_at } => (registers.sp() + 8 * words, read(registers.sp() + 8 * bp_at).ok()?),
            Rule::FramePointer if registers.bp() <= registers.sp() => return None,
            Rule::FramePointer => (registers.bp() + 16, read(registers.bp()).ok()?),
        };
        let address = read(sp - 8).ok()?;
        registers.set_sp(sp);
        registers.set_bp(bp);
        Some(address)
    }

    /// A walk over `stack` by `rules`, by way of the memo or afresh.
    struct Walker {
        memo: Box<Memo>,
        rules: Vec<Rule>,
        hits: usize,
        ids: Vec<Vec<u64>>,
    }

    impl Walker {
        fn new(rules: &[Rule]) -> Self {
            // SAFETY: zeros are an empty table.
            let memo = unsafe { Box::from_raw(std::alloc::alloc_zeroed(std::alloc::Layout::new::<Memo>()).cast()) };
            Walker { memo, rules: rules.to_vec(), hits: 0, ids: Vec::new() }
        }

        fn walk(&mut self, stack: &[u64], bp: u64) -> Vec<u64> {
            let low = stack.as_ptr().expose_provenance() as u64;
            let high = low + 8 * stack.len() as u64;
            let start = || UnwindRegsX86_64::new(stack[0], low + 8, bp);
            let key = Key { address: stack[0], sp: low, serial: 1, generation: 1 };
            let mut window = [0; WINDOW_BYTES];
            let mut reader = Reader { pid: std::process::id(), low, high, window: &mut window, window_start: 0 };
            let mut registers = start();
            let mut rules = self.rules.iter();
            let fresh: Vec<u64> =
                core::iter::from_fn(|| apply(*rules.next()?, &mut registers, &mut |address| reader.read(address)))
                    .collect();
            // SAFETY: the range is `stack`.
            if let Some(id) = unsafe { self.memo.find(&key, bp, high) } {
                self.hits += 1;
                assert_eq!(self.ids[id.0 as usize - 1], fresh, "remembered otherwise");
                return fresh;
            }
            let mut registers = start();
            let mut trace = Trace::new(self.memo.vacate(&key).unwrap(), low, &mut registers);
            let mut rules = self.rules.iter();
            let traced: Vec<u64> = core::iter::from_fn(|| {
                let rule = *rules.next()?;
                trace.step(&mut registers, &mut reader, |registers, read| apply(rule, registers, read))
            })
            .collect();
            assert_eq!(traced, fresh, "the stand-in led astray");
            self.ids.push(traced);
            trace.keep(key, StackId(self.ids.len() as u32));
            fresh
        }
    }

    fn stack() -> Vec<u64> {
        (0..64).map(|n| 0x40_0000 + n * 16).collect()
    }

    #[test]
    fn a_frame_pointer_that_is_only_passed_on_does_not_matter() {
        let restore = Rule::Restore { words: 4, bp_at: 1 };
        let (mut walker, mut stack) = (Walker::new(&[restore, restore, restore]), stack());
        assert_eq!(walker.walk(&stack, 1).len(), 3);
        for value in 0..10 {
            // Where the three frames' saved registers lie.
            (stack[2], stack[6], stack[10]) = (value, value * 3, !value);
            walker.walk(&stack, value);
        }
        assert_eq!(walker.hits, 10);
        stack[8] += 1;
        walker.walk(&stack, 1);
        assert_eq!(walker.hits, 10, "another return address");
    }

    #[test]
    fn a_saved_frame_pointer_that_leads_to_a_frame_matters() {
        let rules = [Rule::Restore { words: 4, bp_at: 1 }, Rule::FramePointer, Rule::End];
        let (mut walker, mut stack) = (Walker::new(&rules), stack());
        let low = stack.as_ptr().expose_provenance() as u64;
        // Each return address stays as it is; only the word that tells which of them counts changes.
        for frame in [20, 30, 20, 30, 40] {
            stack[2] = low + 8 * frame;
            assert_eq!(walker.walk(&stack, 0)[1], stack[frame as usize + 1]);
        }
        assert_eq!(walker.hits, 2);
        assert_eq!(walker.ids.len(), 3);
    }

    #[test]
    fn a_frame_pointer_in_the_register_matters_where_it_is_used() {
        let (mut walker, stack) = (Walker::new(&[Rule::FramePointer, Rule::End]), stack());
        let low = stack.as_ptr().expose_provenance() as u64;
        for (frame, hits) in [(10, 0), (10, 1), (12, 1), (12, 2)] {
            assert_eq!(walker.walk(&stack, low + 8 * frame), [stack[frame as usize + 1]]);
            assert_eq!(walker.hits, hits);
        }
        assert_eq!(walker.walk(&stack, 0), [0; 0], "leads downwards");
    }

    #[test]
    fn a_program_that_keeps_the_stand_in_itself_is_walked_rightly() {
        let rules = [Rule::Restore { words: 4, bp_at: 1 }, Rule::FramePointer];
        let (mut walker, mut stack) = (Walker::new(&rules), stack());
        let low = stack.as_ptr().expose_provenance() as u64;
        stack[2] = STAND_IN;
        assert_eq!(walker.walk(&stack, low + 8 * 20).len(), 1);
        walker.walk(&stack, low + 8 * 20);
        assert_eq!(walker.hits, 0, "such a walk is not kept");
    }

    #[cfg(not(miri))]
    #[test]
    fn a_walk_that_read_another_stack_is_not_kept() {
        let (mut walker, memory) = (Walker::new(&[Rule::FramePointer, Rule::End]), stack());
        let (own, other) = memory.split_at(32);
        let bp = other.as_ptr().expose_provenance() as u64;
        for _ in 0..3 {
            assert_eq!(walker.walk(own, bp), [other[1]]);
        }
        assert_eq!(walker.hits, 0);
    }
}
