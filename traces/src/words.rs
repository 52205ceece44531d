//! The small vocabularies of the tables, stored as words.
//!
//! A word that a reader does not know becomes the value that claims least (`Unknown`, `None`): a newer minor version
//! may add words, and an older reader must not take them for something else.

/// A vocabulary: what a value is called in the dataset, and which value an unknown word becomes.
pub(crate) trait Word: Copy + 'static {
    const UNKNOWN: Self;
    fn word(self) -> &'static str;
    fn from_word(word: &str) -> Self;
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident else $unknown:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// The word it is stored and shown as.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl Word for $name {
            const UNKNOWN: Self = Self::$unknown;
            fn word(self) -> &'static str { self.as_str() }
            fn from_word(word: &str) -> Self {
                match word { $($word => Self::$variant,)* _ => Self::$unknown }
            }
        }
    };
}

words! {
    /// What an object is made of.
    ObjectKind else Anon {
        /// Blocks from an allocator, or mappings made by the program: keyed by site, size class and slot.
        Heap = "heap",
        /// An ELF symbol in `.data` or `.bss`, or the section where symbols are stripped.
        Global = "global",
        /// A thread's stack.
        Stack = "stack",
        /// A mapping of a file.
        File = "file",
        /// An anonymous mapping seen only in `/proc/PID/maps`.
        Anon = "anon",
    }
}
words! {
    /// What the sampled instruction did at its address.
    Access else Unknown {
        /// Read.
        Load = "load",
        /// Wrote.
        Store = "store",
        /// Read and wrote (`add [m], r`, `xchg`).
        Update = "update",
        /// Not known.
        Unknown = "unknown",
    }
}
words! {
    /// How good the sample's address is.
    AddressQuality else None {
        /// From hardware, a fault, or registers that still held what the access used.
        Exact = "exact",
        /// Reconstructed: a register was overwritten since.
        Approximate = "approximate",
        /// There is none.
        None = "none",
    }
}
words! {
    /// How the sample came to its object.
    Attribution else None {
        /// The address lies in a block of the object that was live at the time.
        Exact = "exact",
        /// The address lies near one: the object is the best guess.
        Neighbour = "neighbour",
        /// No object.
        None = "none",
    }
}
words! {
    /// What served the access, where the sampler knows.
    Level else Unknown {
        /// First-level data cache.
        L1 = "l1",
        /// A miss already under way (fill buffer, MSHR).
        FillBuffer = "fill-buffer",
        /// Second-level cache.
        L2 = "l2",
        /// Last-level cache.
        L3 = "l3",
        /// Another core's or socket's cache.
        RemoteCache = "remote-cache",
        /// Memory of the own node.
        LocalMemory = "local-memory",
        /// Memory of another node.
        RemoteMemory = "remote-memory",
        /// Persistent memory.
        PersistentMemory = "persistent-memory",
        /// Memory behind CXL.
        CxlMemory = "cxl-memory",
        /// The sampler said something else.
        Unknown = "unknown",
    }
}
words! {
    /// Where the translation came from, where the sampler knows.
    Tlb else Unknown {
        /// First-level data TLB.
        L1 = "l1",
        /// Second-level TLB.
        L2 = "l2",
        /// The page tables were walked.
        Walk = "walk",
        /// The sampler said something else.
        Unknown = "unknown",
    }
}
words! {
    /// What a placement that was simulated is.
    PlacementKind else Unknown {
        /// Everything in fast memory.
        AllFast = "all-fast",
        /// Everything in slow memory.
        AllSlow = "all-slow",
        /// One object in slow memory, everything else in fast.
        Alone = "alone",
        /// One that was asked for: a policy.
        Given = "given",
        /// A set of objects that a search tried.
        Searched = "searched",
        /// Fast memory as a cache of slow memory, that the hardware manages.
        MemoryMode = "memory-mode",
        /// A word this version does not know.
        Unknown = "unknown",
    }
}

impl Level {
    /// Whether the last-level cache of the own socket did not have it.
    #[must_use]
    pub const fn misses_llc(self) -> bool {
        matches!(
            self,
            Self::RemoteCache | Self::LocalMemory | Self::RemoteMemory | Self::PersistentMemory | Self::CxlMemory
        )
    }
}
