//! Which branches a core would have guessed wrong.
//!
//! Three textbook parts. Directions: a bimodal and a gshare table of two-bit counters and a third that learns, by branch, which of
//! the two to believe (McFarling, "Combining Branch Predictors", DEC WRL TN-36, 1993). Targets of indirect jumps and calls:
//! a target cache indexed by the branch and the recent history (Chang, Hao, Patt, "Target Prediction for Indirect Jumps",
//! ISCA 1997). Returns: a stack. Direct jumps and calls are always right: a target buffer large enough for the program.
//!
//! Cores of today predict better, with TAGE and perceptrons; large tables make up for some of that. What a branch resolves to does not
//! depend on where memory lies, so this is done once for all lanes.

/// Counters of each direction table: 2^16, of 2 bits.
const COUNTERS: usize = 1 << 16;
/// Outcomes that gshare looks back at.
const HISTORY_BITS: u32 = 14;
/// Entries of the target cache.
const TARGETS: usize = 1 << 12;
/// Return addresses held: AMD's Zen 4 has 32 (Software Optimization Guide 57647, 2.8.1.3).
const RETURNS: usize = 32;

/// The end of a block, as far as prediction is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Taken or not: to `next` or to what follows.
    Conditional,
    /// Through a register or memory.
    Indirect,
    /// A call through a register or memory.
    CallIndirect,
    /// A call of a fixed place.
    Call,
    /// A return.
    Return,
}

/// The predictor of one core.
#[derive(Debug, Clone)]
pub(crate) struct Predictor {
    bimodal: Box<[u8]>,
    global: Box<[u8]>,
    chooser: Box<[u8]>,
    targets: Box<[u64]>,
    returns: [u64; RETURNS],
    depth: usize,
    history: u64,
}

impl Predictor {
    pub(crate) fn new() -> Self {
        Self {
            bimodal: vec![1; COUNTERS].into(),
            global: vec![1; COUNTERS].into(),
            chooser: vec![1; COUNTERS].into(),
            targets: vec![0; TARGETS].into(),
            returns: [0; RETURNS],
            depth: 0,
            history: 0,
        }
    }

    /// Learns that the branch at `address` went to `next`, `follows` being the instruction behind it. Returns whether that had been
    /// predicted.
    pub(crate) fn resolve(&mut self, ending: Ending, address: u64, follows: u64, next: u64) -> bool {
        match ending {
            Ending::Conditional => self.direction(address, next != follows),
            Ending::Indirect => self.target(address, next),
            Ending::CallIndirect => {
                self.push(follows);
                self.target(address, next)
            }
            Ending::Call => {
                self.push(follows);
                true
            }
            Ending::Return => self.pop() == next,
        }
    }

    fn direction(&mut self, address: u64, taken: bool) -> bool {
        let own = (address ^ (address >> 16)) as usize % COUNTERS;
        let shared = (address ^ (address >> 16) ^ (self.history << 2)) as usize % COUNTERS;
        let (by_branch, by_history) = (self.bimodal[own] >= 2, self.global[shared] >= 2);
        let predicted = if self.chooser[own] >= 2 { by_history } else { by_branch };
        if by_branch != by_history {
            count(&mut self.chooser[own], by_history == taken);
        }
        count(&mut self.bimodal[own], taken);
        count(&mut self.global[shared], taken);
        self.history = ((self.history << 1) | u64::from(taken)) & ((1 << HISTORY_BITS) - 1);
        predicted == taken
    }

    fn target(&mut self, address: u64, next: u64) -> bool {
        let entry = &mut self.targets[(address ^ (address >> 12) ^ self.history) as usize % TARGETS];
        let right = *entry == next;
        *entry = next;
        self.history = ((self.history << 2) ^ (next >> 2)) & ((1 << HISTORY_BITS) - 1);
        right
    }

    fn push(&mut self, address: u64) {
        self.depth = (self.depth + 1) % RETURNS;
        self.returns[self.depth] = address;
    }

    fn pop(&mut self) -> u64 {
        let address = self.returns[self.depth];
        self.depth = (self.depth + RETURNS - 1) % RETURNS;
        address
    }
}

/// A two-bit counter, one step up or down.
fn count(counter: &mut u8, up: bool) {
    *counter = if up { (*counter + 1).min(3) } else { counter.saturating_sub(1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misses(outcomes: impl Iterator<Item = bool>) -> usize {
        let mut predictor = Predictor::new();
        outcomes
            .filter(|taken| {
                !predictor.resolve(Ending::Conditional, 0x1000, 0x1010, if *taken { 0x2000 } else { 0x1010 })
            })
            .count()
    }

    #[test]
    fn a_loop_is_wrong_at_its_start_and_end() {
        assert!(misses((0..1000).map(|i| i != 999)) <= 3);
    }

    #[test]
    fn a_repeated_pattern_is_learnt_and_chance_is_not() {
        assert!(misses((0..10_000).map(|i| i % 7 < 3)) < 100);
        let mut state = 1u64;
        let coin = (0..10_000).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 63 == 1
        });
        let wrong = misses(coin);
        assert!((4000..6000).contains(&wrong), "{wrong}");
    }

    #[test]
    fn returns_go_back_to_their_calls() {
        let mut predictor = Predictor::new();
        for depth in 0..20 {
            assert!(predictor.resolve(Ending::Call, depth, 100 + depth, 7));
        }
        for depth in (0..20).rev() {
            assert!(predictor.resolve(Ending::Return, 5, 6, 100 + depth));
        }
        assert!(!predictor.resolve(Ending::Return, 5, 6, 12345));
    }

    #[test]
    fn an_indirect_jump_that_always_goes_to_one_place_is_learnt() {
        let mut predictor = Predictor::new();
        let wrong = (0..100).filter(|_| !predictor.resolve(Ending::Indirect, 0x40, 0x44, 0x9000)).count();
        assert!(wrong <= 8, "{wrong}");
    }
}
