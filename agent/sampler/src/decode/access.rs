//! The answer for one sample.

/// Whether memory was read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessKind {
    /// Read.
    Load,
    /// Written.
    Store,
    /// Read and written by one instruction.
    Update,
    /// Not known: no access was found, or it happened inside the kernel.
    Unknown,
}

/// How far the address can be trusted; the less, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// Computed from the operand of the instruction that was waited for.
    Exact,
    /// Lies, in all likelihood, in the object that was accessed, but need not be the address.
    Approximate,
    /// There is no address.
    None,
}

/// Which rule found the access; from the most to the least trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The kernel reported the address.
    Fault,
    /// In the kernel: the instruction at the user ip.
    Kernel,
    /// A repeated string instruction under way.
    RepeatedString,
    /// The instruction executed before the sampled one.
    Predecessor,
    /// A store waited for room in the store buffer, which this earlier one filled.
    StoreBuffer,
    /// It overwrote its own address: the part that survived points into a known object.
    SurvivingRegister,
    /// It overwrote its own address, which was computed again from what is still in memory.
    Reread,
    /// It overwrote its own address with the pointer it loaded: the next node of a chase.
    NextNode,
    /// The sampled instruction itself.
    Sampled,
    /// The call that led to the sampled instruction, or the return.
    CallOrReturn,
    /// None.
    Nothing,
}

/// The memory access a sample waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// First byte accessed, where it could be determined.
    pub address: Option<u64>,
    /// Read or written.
    pub kind: AccessKind,
    /// Width of the access; 0 if not known, the element's width for repeated string instructions.
    pub bytes: u16,
    /// How far `address` can be trusted.
    pub quality: Quality,
    /// How the access was found.
    pub rule: Rule,
    /// The accessing instruction; the sampled one where none was found.
    pub instruction: u64,
    /// Addressed by the stack or frame pointer.
    pub stack_relative: bool,
    /// Addressed by `fs` or `gs`: thread-local.
    pub thread_local: bool,
    /// The address was computed from a value loaded shortly before, other than from the stack frame: the processor
    /// could not start on it earlier.
    pub dependent: bool,
}

impl Access {
    pub(super) fn nothing(instruction: u64) -> Access {
        Access {
            address: None,
            kind: AccessKind::Unknown,
            bytes: 0,
            quality: Quality::None,
            rule: Rule::Nothing,
            instruction,
            stack_relative: false,
            thread_local: false,
            dependent: false,
        }
    }
}
