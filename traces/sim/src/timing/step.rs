//! What the lanes are told to do: a batch of steps, with all that is the same in every lane worked out.

use super::units::Port;
use super::vector::V;

/// Registers of a pipeline, as numbers a step can hold: those of [`crate::Registers`], then these.
pub(crate) mod register {
    /// When the last branch was executed.
    pub(crate) const BRANCH: u64 = 1 << 59;
    /// Between the steps of one operation with more sources or destinations than fit into one.
    pub(crate) const BETWEEN: u64 = 1 << 63;
    /// The number that stands for none among sources: always ready.
    pub(crate) const NONE: u8 = 64;
    /// The number that stands for none among what is written: nothing reads it.
    pub(crate) const SINK: u8 = 65;
    /// Numbers of [`BRANCH`] and [`BETWEEN`].
    pub(crate) const BRANCH_NUMBER: usize = 59;
    pub(crate) const BETWEEN_NUMBER: u8 = 63;
}

/// What kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// An operation without references.
    Plain,
    /// The same, and it waits for others besides its sources.
    Ordered,
    /// One load that the first-level cache serves.
    Load,
    /// One load that the store buffer serves: `first` is its place there.
    Forwarded,
    /// One store to a line in the first-level cache: `first` is how many ticks after the one before it may enter it.
    Store,
    /// An operation with references.
    Memory,
    /// One iteration of a `rep` instruction: no place in the reorder buffer.
    Iteration,
    /// Registers become ready with the latest of others: part of an operation that did not fit into one step.
    Merge,
    /// The branch before was mispredicted.
    Restart,
    /// Instructions are fetched from memory.
    Fetch,
}

/// What an operation waits for besides its sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Nothing.
    Free,
    /// The stores before it are in the cache.
    Stores,
    /// Everything before it is retired and the stores are in the cache; what follows waits for it.
    All,
}

/// One step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    pub(crate) order: Order,
    pub(crate) port: Port,
    /// It is a branch: [`register::BRANCH`] is among its destinations.
    pub(crate) branches: bool,
    /// Ticks of dispatch that it takes.
    pub(crate) dispatch: u8,
    pub(crate) sources: [u8; 4],
    pub(crate) addresses: [u8; 3],
    pub(crate) destinations: [u8; 3],
    /// References, those that read first in the batch's list.
    pub(crate) loads: u16,
    pub(crate) stores: u16,
    /// Ticks from its start to its result, and until the next may start on its unit.
    pub(crate) latency: u32,
    pub(crate) busy: u32,
    /// The first of its references.
    pub(crate) first: u32,
}

/// Where a reference finds its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Place {
    /// In the first-level cache.
    Near,
    /// In the store buffer, whole: the store in `ring`.
    Forwarded,
    /// In the store buffer, in part: the store in `ring`.
    Blocked,
    /// In the second-level cache.
    L2,
    /// In the last-level cache.
    Llc,
    /// In its tier.
    Memory,
    /// Nowhere: it goes around the caches.
    Around,
}

/// Where the translation was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Translation {
    Near,
    Second,
    Walk,
    /// A walk for an access before is under way: it is done when the place in `walk` says.
    Awaited,
}

/// A line to be read from or written to its tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) address: u64,
    /// Index of its object; 0 for none.
    pub(crate) object: u32,
    /// It lies next to one read just before.
    pub(crate) near: bool,
    /// The first of its [`crate::memory_mode::Found`]s in the batch, one for each Memory Mode.
    pub(crate) modes: u32,
}

/// One reference to memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference {
    pub(crate) place: Place,
    pub(crate) translation: Translation,
    /// The line may still be on its way: it is there when `slot` says.
    pub(crate) awaited: bool,
    /// `slot` is to say when the line is there.
    pub(crate) fetched: bool,
    /// It lies in two lines: two accesses of the cache.
    pub(crate) straddles: bool,
    /// A store to the line of the store before.
    pub(crate) same_line: bool,
    /// It is to be told when and how long it took, with this number.
    pub(crate) observed: u32,
    /// Where the end of its page's walk is kept, if it begins or awaits one.
    pub(crate) walk: u8,
    pub(crate) slot: u16,
    pub(crate) ring: u16,
    /// Lines moved because of it: how many, and the first.
    pub(crate) moves: u16,
    pub(crate) first_move: u32,
    pub(crate) line: Line,
}

/// [`Reference::observed`] of those that are not.
pub(crate) const UNOBSERVED: u32 = u32::MAX;

/// What moves a line besides the reference that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Why {
    /// Read ahead: it is there when the slot says.
    Ahead(u16),
    /// Read, and waited for as well.
    Half,
    /// Written.
    Back,
}

/// A line moved because of a reference.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move {
    pub(crate) why: Why,
    pub(crate) line: Line,
}

/// Steps that are done together, for one cpu.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    pub(crate) steps: Vec<Step>,
    pub(crate) references: Vec<Reference>,
    pub(crate) moves: Vec<Move>,
    pub(crate) modes: Vec<crate::memory_mode::Found>,
    /// By how many ticks the times of a lane can grow through it at most.
    pub(crate) worst: u64,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.steps.clear();
        self.references.clear();
        self.moves.clear();
        self.modes.clear();
        self.worst = 0;
    }
}

/// When something observed happened, in the all-fast lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) number: u32,
    /// When it was issued, and how long it took, in ticks of the pipeline's epoch.
    pub(crate) issued: u32,
    pub(crate) took: u32,
}

/// Registers in a file, so that any number a step can hold is inside.
pub(crate) type File = [V; 256];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_small() {
        assert!(size_of::<Step>() <= 32);
        assert!(size_of::<Reference>() <= 56);
    }
}
