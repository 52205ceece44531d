//! The row types: the schema `tierscope.profile/1`, one struct per table.
//!
//! A field that is an `Option` is a nullable column, and null when the column is missing. Where a field shows a default,
//! that is what a missing column reads as. Every other column must be there.
//!
//! Only simulated profiles have rows in `counts` and `placements`.
//!
//! **Written again.** A module is written again when it is unloaded, an object when it has grown, an allocation once
//! it is freed. [`crate::Profile::tables`] keeps the last row of a module and of an object, and for an allocation the
//! one that has `freed_ns`; whoever reads the Parquet tables with other tools must do the same.

use crate::row::row;
use crate::words::{Access, AddressQuality, Attribution, Level, ObjectKind, PlacementKind, Tlb};

row! {
    /// An executable, a library, or another mapping of code. Key: `module`.
    ModuleRow in Modules {
        /// Number of the module in this profile.
        module: u32,
        /// Path as the kernel showed it.
        path: String,
        /// GNU build-id in lower-case hex.
        build_id: Option<String>,
        /// First mapped address.
        start: u64,
        /// One past the last mapped address.
        end: u64,
        /// What is added to an ELF address to get a mapped one.
        bias: u64,
        /// When it was first seen.
        loaded_ns: u64 = 0,
        /// When it was unloaded; null while it is mapped.
        unloaded_ns: Option<u64>,
    }
}

row! {
    /// One frame of the call stack of a site. Key: `site`, `depth`.
    SiteRow in Sites {
        /// Number of the site in this profile.
        site: u32,
        /// 0 is the innermost frame.
        depth: u16,
        /// Module of the frame; null where no module was mapped.
        module: Option<u32>,
        /// ELF address of the return address, or the absolute one where `module` is null.
        offset: u64,
    }
}

row! {
    /// What is placed as a unit. Key: `object`.
    ///
    /// The recorder keys heap objects by site, size class and slot, which is finer than what is shown: the summary
    /// merges them (a matrix of a million blocks is one object, eight embedding tables are eight).
    ObjectRow in Objects {
        /// Number of the object in this profile.
        object: u32,
        /// What it is made of.
        kind: ObjectKind,
        /// Where it is allocated; null for what is not allocated.
        site: Option<u32>,
        /// floor(log2(bytes)) of its blocks.
        size_class: Option<u8>,
        /// The smallest number that no live block of the same site and size class had when it was allocated.
        slot: Option<u16>,
        /// Module of a global or a file mapping.
        module: Option<u32>,
        /// Symbol, section, path, or name of the mapping; empty for heap objects.
        name: String = String::new(),
        /// First address, 0 for heap objects. For globals the ELF address, stable across runs.
        start: u64 = 0,
        /// Size of a global, stack or mapping; the largest block of a heap object.
        bytes: u64 = 0,
        /// Thread of a stack.
        tid: Option<u32>,
        /// When it was first seen.
        first_seen_ns: u64 = 0,
    }
}

row! {
    /// A block, or a sampled one that stands for others. Key: `allocation`.
    #[derive(Copy)]
    AllocationRow in Allocations {
        /// Number of the allocation in this profile.
        allocation: u64,
        /// Its object.
        object: u32,
        /// Its site.
        site: u32,
        /// First address.
        address: u64,
        /// Size asked for.
        bytes: u64,
        /// How many blocks this row stands for: 1, or more where small blocks are sampled.
        weight: f64 = 1.0,
        /// When it was allocated.
        time_ns: u64,
        /// By which thread.
        tid: u32 = 0,
        /// When it was freed; null while it is live.
        freed_ns: Option<u64>,
    }
}

row! {
    /// One observed memory access.
    #[derive(Copy)]
    SampleRow in Samples {
        /// When.
        time_ns: u64,
        /// Thread.
        tid: u32,
        /// Processor it ran on.
        cpu: u16 = 0,
        /// Instruction, as an absolute address.
        ip: u64,
        /// Module of the instruction.
        module: Option<u32>,
        /// ELF address of the instruction, or the absolute one where `module` is null.
        offset: u64 = 0,
        /// Whether the sample fell in the kernel (the instruction is the user's then, where it is known).
        kernel: bool = false,
        /// Address accessed; null where there is none.
        address: Option<u64>,
        /// What was done there.
        access: Access,
        /// How good the address is.
        address_quality: AddressQuality,
        /// How the object was found.
        attribution: Attribution,
        /// What served it; null where the sampler does not say.
        level: Option<Level>,
        /// Cycles it took; null where the sampler does not say.
        latency: Option<u32>,
        /// Whether the address was computed from a value loaded shortly before, so that the access had to wait for that
        /// one; null where the sampler does not say.
        dependent: Option<bool>,
        /// Where the translation came from; null where the sampler does not say.
        tlb: Option<Tlb>,
        /// How many samples this row stands for.
        weight: f32 = 1.0,
        /// The object; null where none was found.
        object: Option<u32>,
    }
}

row! {
    /// One value of one time series: `rss_bytes`, `psi_some_us`, `numa0_read_bytes`, or one of [`series`](crate::series).
    CounterRow in Counters {
        /// When.
        time_ns: u64,
        /// Which series.
        name: String,
        /// The value.
        value: f64,
    }
}

row! {
    /// The start of a phase, as the program announced it.
    MarkRow in Marks {
        /// When.
        time_ns: u64,
        /// By which thread.
        tid: u32 = 0,
        /// Name of the phase that begins.
        name: String,
    }
}

row! {
    /// What a simulation counted of one object: every access, none sampled. Key: `object`.
    CountRow in Counts {
        /// The object; null for the accesses that are in none.
        object: Option<u32>,
        /// Reads.
        loads: u64,
        /// Writes.
        stores: u64,
        /// Accesses that missed the first-level data cache.
        l1_misses: u64,
        /// Those of them that missed the second level.
        l2_misses: u64,
        /// Reads that missed the last level.
        llc_load_misses: u64,
        /// Writes that missed the last level.
        llc_store_misses: u64,
        /// Accesses whose translation was in no TLB, so that page tables were walked.
        tlb_walks: u64,
        /// Bytes that memory was read for it, prefetches included.
        bytes_read: u64,
        /// Bytes that were written back to memory.
        bytes_written: u64,
        /// Cycles in which the oldest instruction waited for a load of it, everything in fast memory; null where time was
        /// not modelled.
        stall_cycles: Option<u64>,
    }
}

row! {
    /// One placement that a simulation timed. Key: `placement`.
    PlacementRow in Placements {
        /// Number of the placement in this profile.
        placement: u32,
        /// What kind of placement.
        kind: PlacementKind,
        /// Name of the pair of tiers, as in `meta.json`.
        tiers: String = String::new(),
        /// Name of a placement that was given.
        name: String = String::new(),
        /// The object that is alone in slow memory; null for placements of all.
        object: Option<u32>,
        /// Cycles of the run.
        cycles: f64,
        /// Cycles by which that exceeds the same run with everything in fast memory; not the difference of two estimates
        /// where windows were timed, but the estimate of the difference.
        extra_cycles: f64,
        /// Half the width of the 95 % interval of `extra_cycles`: 0 where every instruction was timed.
        extra_cycles_error: f64 = 0.0,
        /// Whether it is what the model says, or a bound: the placement was not followed to the end.
        is_bound: bool = false,
    }
}

row! {
    /// A function at a code address; several rows where functions are inlined. Key: `module`, `offset`, `inline_depth`.
    SymbolRow in Symbols {
        /// Module.
        module: u32,
        /// ELF address as it stands in `sites` and `samples` (a return address where that is one).
        offset: u64,
        /// 0 is the innermost inlined function.
        inline_depth: u16 = 0,
        /// Demangled name.
        function: String,
        /// Source file.
        file: Option<String>,
        /// Line in it.
        line: Option<u32>,
    }
}
