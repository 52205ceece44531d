//! Everything that is known of one process while it is being recorded, and the rows that come of it.
//!
//! Items arrive here in the order of time ([`super::sequence`]), so each is judged by the state that held when it
//! happened: a sample belongs to the block alive at its time, a return address to the module mapped then.
//!
//! A process that came of a fork starts with a copy of its parent's state, as it starts with a copy of its memory; an
//! exec starts afresh. Rows are kept until the process proves worth a profile of its own (it was launched by us, or a
//! sample fell on it): a shell script's hundred short-lived children leave no hundred directories.

use super::address_space::{AddressSpace, Backing, Mapping, REFRESH_NS};
use super::blocks::{Block, Blocks};
use super::modules::{Binaries, Modules, ProcessCode, Seen};
use super::objects::{Frame, ObjectKey, Objects};
use super::segment::{OwnedEvent, Segment};
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tierscope_sampler::{Access as DecodedAccess, AccessKind, Quality, RawSample, Resolver};
use tierscope_traces::{Access, AddressQuality, AllocationRow, Attribution, CounterRow, MarkRow, SampleRow};
use tierscope_wire::event::Recorded;
use tierscope_wire::{Event, StackId};

/// Number of rsp among the general registers.
const STACK_POINTER: usize = 4;

/// Rows not yet handed to the writer.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) allocations: Vec<AllocationRow>,
    pub(super) samples: Vec<SampleRow>,
    pub(super) counters: Vec<CounterRow>,
    pub(super) marks: Vec<MarkRow>,
}

/// Counts for the summary line and the meta data.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) samples: u64,
    pub(super) user_samples: u64,
    /// Of those, with an address.
    pub(super) user_addressed: u64,
    /// Samples with an object.
    pub(super) attributed: u64,
    pub(super) allocations: u64,
}

/// One process.
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// Name and time of the latest exec or thread name of the first thread.
    pub(super) name: String,
    pub(super) started_ns: u64,
    pub(super) ended_ns: Option<u64>,
    pub(super) rows: Rows,
    pub(super) tally: Tally,
    pub(super) modules: Modules,
    pub(super) objects: Objects,
    /// Distinct instructions that samples fell on: module and ELF address.
    pub(super) instructions: FxHashSet<(u32, u64)>,
    pub(super) has_shim: bool,
    pub(super) space: AddressSpace,
    pub(super) blocks: Blocks,
    stacks: FxHashMap<u32, Range<u64>>,
    stack_sites: FxHashMap<(usize, StackId), u32>,
    resolver: Resolver,
    refreshed_ns: u64,
    next_allocation: u64,
    pub(super) mean_bytes: u64,
}

impl Process {
    pub(super) fn new(pid: u32, parent: u32, started_ns: u64) -> Self {
        Process {
            pid,
            parent,
            name: read_name(pid),
            started_ns,
            ended_ns: None,
            rows: Rows::default(),
            tally: Tally::default(),
            modules: Modules::default(),
            objects: Objects::default(),
            instructions: FxHashSet::default(),
            has_shim: false,
            space: AddressSpace::default(),
            blocks: Blocks::default(),
            stacks: FxHashMap::default(),
            stack_sites: FxHashMap::default(),
            resolver: Resolver::new(),
            refreshed_ns: 0,
            next_allocation: 0,
            mean_bytes: tierscope_wire::options::DEFAULT_MEAN_BYTES,
        }
    }

    /// The child of a fork: its memory is a copy of ours.
    pub(super) fn fork(&self, pid: u32, time_ns: u64) -> Self {
        let mut child = Process {
            name: self.name.clone(),
            modules: self.modules.clone(),
            objects: self.objects.clone(),
            space: self.space.clone(),
            blocks: self.blocks.clone(),
            stacks: self.stacks.clone(),
            next_allocation: self.next_allocation,
            mean_bytes: self.mean_bytes,
            ..Process::new(pid, self.pid, time_ns)
        };
        child.modules.mark_all_dirty();
        child.objects.mark_all_dirty();
        for (_, block) in child.blocks.iter_mut() {
            block.written = false;
        }
        child
    }

    /// The process becomes another program: its memory is gone.
    pub(super) fn exec(&mut self, name: String, time_ns: u64) {
        let dead: Vec<_> = self.blocks.iter_mut().map(|(start, block)| (start, *block)).collect();
        for (start, block) in dead {
            self.bury(start, &block, time_ns);
        }
        self.blocks.clear();
        self.space.clear();
        self.modules.unload(0..u64::MAX, time_ns);
        self.stacks.clear();
        self.resolver = Resolver::new();
        self.has_shim = false;
        self.name = name;
    }

    /// Reads the maps: at the start of an attachment, and where the table had no answer.
    pub(super) fn refresh(&mut self, binaries: &mut Binaries, time_ns: u64) -> bool {
        if self.ended_ns.is_some() || (self.refreshed_ns != 0 && time_ns < self.refreshed_ns + REFRESH_NS) {
            return false;
        }
        self.refreshed_ns = time_ns.max(1);
        for (start, mapping) in self.space.refresh(self.pid) {
            self.load_mapping(binaries, start, &mapping, time_ns);
        }
        true
    }

    fn load_mapping(&mut self, binaries: &mut Binaries, start: u64, mapping: &Mapping, time_ns: u64) {
        if let Backing::File(path) = &mapping.backing {
            let seen = Seen::Mapping { start, end: mapping.end, file_offset: mapping.file_offset };
            if let Some(range) = self.modules.load(binaries, self.pid, path, &seen, time_ns) {
                self.resolver.invalidate(range);
            }
        }
    }

    /// The kernel says that something was mapped.
    pub(super) fn mapped(&mut self, binaries: &mut Binaries, start: u64, mapping: Mapping, time_ns: u64) {
        if mapping.executable {
            self.load_mapping(binaries, start, &mapping, time_ns);
            if !matches!(mapping.backing, Backing::File(_)) {
                self.resolver.invalidate(start..mapping.end);
            }
        }
        self.space.insert(start, mapping);
    }

    /// Handles an event of the shim.
    pub(super) fn shim_event(
        &mut self,
        binaries: &mut Binaries,
        segments: &[Segment],
        segment: usize,
        time_ns: u64,
        tid: u32,
        event: OwnedEvent,
    ) {
        let event = match event {
            OwnedEvent::Plain(event) => event,
            OwnedEvent::ModuleLoaded { start, end, bias, build_id, path } => {
                let path = Path::new(std::ffi::OsStr::from_bytes(&path));
                let seen = Seen::Extent { range: start..end, bias, build_id: &build_id };
                if path.is_absolute()
                    && let Some(range) = self.modules.load(binaries, self.pid, path, &seen, time_ns)
                {
                    self.resolver.invalidate(range);
                }
                return;
            }
            OwnedEvent::Mark { name } => {
                self.rows.marks.push(MarkRow { time_ns, tid, name });
                return;
            }
        };
        match event {
            Event::Allocate { address, bytes, stack, recorded, .. } => {
                let site = self.site(binaries, segments, segment, stack, time_ns);
                self.born(address, bytes, site, weight(bytes, recorded, self.mean_bytes), time_ns, tid, false);
            }
            Event::Free { address, .. } => {
                if let Some(block) = self.blocks.remove(address) {
                    self.bury(address, &block, time_ns);
                }
            }
            Event::Reallocate { old_address, address, bytes, stack, recorded, .. } => {
                let old = if old_address == 0 { None } else { self.blocks.remove(old_address) };
                if let Some(block) = &old {
                    self.bury(old_address, block, time_ns);
                }
                if address != 0 {
                    let site = self.site(binaries, segments, segment, stack, time_ns);
                    let weight = weight(bytes, recorded, self.mean_bytes);
                    self.born(address, bytes, site, weight, time_ns, tid, false);
                }
            }
            Event::Map { address, bytes, stack, protection, file_backed, .. } => {
                if !file_backed {
                    let executable = protection & libc::PROT_EXEC as u32 != 0;
                    let end = address.saturating_add(bytes);
                    let mapping = Mapping { end, file_offset: 0, executable, backing: Backing::Anonymous };
                    self.mapped(binaries, address, mapping, time_ns);
                    let site = self.site(binaries, segments, segment, stack, time_ns);
                    self.born(address, bytes, site, 1.0, time_ns, tid, true);
                }
            }
            Event::Unmap { address, bytes, .. } => {
                let range = address..address.saturating_add(bytes);
                self.space.remove(range.clone());
                self.unmap_blocks(range, time_ns);
            }
            Event::Remap { old_address, old_bytes, address, bytes, stack, .. } => {
                let old = old_address..old_address.saturating_add(old_bytes);
                self.space.remove(old.clone());
                self.unmap_blocks(old, time_ns);
                let end = address.saturating_add(bytes);
                let mapping = Mapping { end, file_offset: 0, executable: false, backing: Backing::Anonymous };
                self.space.insert(address, mapping);
                let site = self.site(binaries, segments, segment, stack, time_ns);
                self.born(address, bytes, site, 1.0, time_ns, tid, true);
            }
            Event::ThreadStarted { tid, stack_low, stack_high, .. } => {
                if stack_low < stack_high {
                    self.stacks.insert(tid, stack_low..stack_high);
                }
            }
            Event::ModuleUnloaded { start, .. } => {
                if let Some(end) = self.modules.find(start).map(|loaded| loaded.end) {
                    self.modules.unload(start..end, time_ns);
                    self.resolver.invalidate(start..end);
                }
            }
            Event::Forked { .. } | Event::ModuleLoaded { .. } | Event::Mark { .. } => {}
        }
    }

    fn site(
        &mut self,
        binaries: &mut Binaries,
        segments: &[Segment],
        segment: usize,
        stack: StackId,
        time_ns: u64,
    ) -> u32 {
        if let Some(site) = self.stack_sites.get(&(segment, stack)) {
            return *site;
        }
        let stack_frames = segments.get(segment).and_then(|segment| segment.stack(stack)).map_or(Vec::new(), |s| s.0);
        if stack_frames.iter().any(|address| self.modules.find(address.wrapping_sub(1)).is_none()) {
            self.refresh(binaries, time_ns);
        }
        // A return address may be the first byte after its function: it is the call before it that was executed.
        let locate = |address: &u64| {
            let (module, offset) = self.modules.locate(address.wrapping_sub(1));
            (module, offset.wrapping_add(1))
        };
        let frames: Vec<Frame> = stack_frames.iter().map(locate).collect();
        let site = self.objects.site(&frames);
        self.stack_sites.insert((segment, stack), site);
        site
    }

    #[allow(clippy::too_many_arguments, reason = "the facts of one event")]
    fn born(&mut self, address: u64, bytes: u64, site: u32, weight: f64, time_ns: u64, tid: u32, mapped: bool) {
        let place = self.blocks.take_slot(site, bytes);
        let object = self.objects.object(ObjectKey::Heap { site, place }, bytes, time_ns, || (String::new(), 0));
        let allocation = self.next_allocation;
        self.next_allocation += 1;
        self.tally.allocations += 1;
        let block = Block {
            end: address.saturating_add(bytes.max(1)),
            allocation,
            object,
            site,
            place,
            weight,
            time_ns,
            tid,
            mapped,
            written: false,
        };
        for (start, dead) in self.blocks.insert(address, block) {
            self.bury(start, &dead, time_ns);
        }
    }

    fn bury(&mut self, start: u64, block: &Block, time_ns: u64) {
        self.rows.allocations.push(allocation_row(start, block, Some(time_ns)));
    }

    /// Unmaps a range; what a mapping has outside it lives on as the same object.
    fn unmap_blocks(&mut self, range: Range<u64>, time_ns: u64) {
        for (start, block) in self.blocks.remove_mapped(range.clone()) {
            self.bury(start, &block, time_ns);
            for rest in [start..range.start, range.end..block.end] {
                if !rest.is_empty() {
                    let allocation = self.next_allocation;
                    self.next_allocation += 1;
                    let rest_block = Block { end: rest.end, allocation, time_ns, written: false, ..block };
                    self.blocks.insert(rest.start, rest_block);
                }
            }
        }
    }

    /// Works out what a sample waited for. To be called as soon as the sample is here: what must be read from the
    /// process's memory (the stack slot a register was loaded from) is soon overwritten.
    pub(super) fn resolve(&mut self, binaries: &mut Binaries, raw: &RawSample) -> DecodedAccess {
        if self.modules.find(raw.ip).is_none() && self.space.find(raw.ip).is_none() {
            self.refresh(binaries, raw.time_ns);
        }
        let (blocks, space, modules) = (&self.blocks, &self.space, &self.modules);
        let known = |address| blocks.holds(address) || modules.find(address).is_some() || space.find(address).is_some();
        let mut code = ProcessCode { pid: self.pid, modules };
        self.resolver.resolve(raw, &mut code, &known)
    }

    /// Handles a sample, and what it waited for, by the state that held at its time.
    pub(super) fn sample(&mut self, binaries: &mut Binaries, raw: &RawSample, access: &DecodedAccess, reach: u64) {
        let stack_pointer = raw.registers.as_ref().map(|registers| registers.general[STACK_POINTER]);
        let (object, attribution) = match access.address {
            None => (None, Attribution::None),
            Some(address) => {
                let found = self.attribute(address, raw.tid, stack_pointer, reach, raw.time_ns);
                match found {
                    None if self.refresh(binaries, raw.time_ns) => {
                        self.attribute(address, raw.tid, stack_pointer, reach, raw.time_ns)
                    }
                    found => found,
                }
                .map_or((None, Attribution::None), |(object, attribution)| (Some(object), attribution))
            }
        };
        let (module, offset) = self.modules.locate(access.instruction);
        if let Some(module) = module {
            self.instructions.insert((module, offset));
        }
        self.tally.samples += 1;
        self.tally.user_samples += u64::from(!raw.kernel);
        self.tally.user_addressed += u64::from(!raw.kernel && access.address.is_some());
        self.tally.attributed += u64::from(object.is_some());
        self.rows.samples.push(SampleRow {
            time_ns: raw.time_ns,
            tid: raw.tid,
            cpu: raw.cpu as u16,
            ip: access.instruction,
            module,
            offset,
            kernel: raw.kernel,
            address: access.address,
            access: match access.kind {
                AccessKind::Load => Access::Load,
                AccessKind::Store => Access::Store,
                AccessKind::Update => Access::Update,
                AccessKind::Unknown => Access::Unknown,
            },
            address_quality: match access.quality {
                Quality::Exact => AddressQuality::Exact,
                Quality::Approximate => AddressQuality::Approximate,
                Quality::None => AddressQuality::None,
            },
            attribution,
            level: None,
            latency: None,
            dependent: access.address.map(|_| access.dependent),
            tlb: None,
            weight: 1.0,
            object,
        });
    }

    /// Adds a value to a time series.
    pub(super) fn count(&mut self, time_ns: u64, name: &str, value: f64) {
        self.rows.counters.push(CounterRow { time_ns, name: name.to_string(), value });
    }

    /// Rows that wait to be written.
    pub(super) fn waiting_rows(&self) -> usize {
        self.rows.samples.len() + self.rows.allocations.len()
    }

    /// Range of a thread's stack, where the shim told it.
    pub(super) fn stack_of(&self, tid: u32) -> Option<&Range<u64>> {
        self.stacks.get(&tid)
    }

    /// The thread whose stack, as the shim told it, holds an address.
    pub(super) fn thread_of_stack(&self, address: u64) -> Option<(u32, Range<u64>)> {
        self.stacks.iter().find(|(_, range)| range.contains(&address)).map(|(tid, range)| (*tid, range.clone()))
    }

    /// Rows of blocks that live and were not written yet.
    pub(super) fn write_live_blocks(&mut self) {
        for (start, block) in self.blocks.iter_mut().filter(|(_, block)| !block.written) {
            block.written = true;
            self.rows.allocations.push(allocation_row(start, block, None));
        }
    }
}

fn allocation_row(address: u64, block: &Block, freed_ns: Option<u64>) -> AllocationRow {
    AllocationRow {
        allocation: block.allocation,
        object: block.object,
        site: block.site,
        address,
        bytes: block.end - address,
        weight: block.weight,
        time_ns: block.time_ns,
        tid: block.tid,
        freed_ns,
    }
}

/// How many blocks a recorded one stands for: the inverse of the probability with which Poisson sampling of bytes
/// with this mean hits a block of this size.
fn weight(bytes: u64, recorded: Recorded, mean_bytes: u64) -> f64 {
    match recorded {
        Recorded::Always => 1.0,
        Recorded::Sampled => 1.0 / -f64::exp_m1(-(bytes.max(1) as f64) / mean_bytes as f64),
    }
}

/// The name of a process as it is now.
fn read_name(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_unbiased() {
        for bytes in [16, 1000, 100_000] {
            let mean = 65_536;
            let probability = 1.0 - (-(bytes as f64) / mean as f64).exp();
            assert!((weight(bytes, Recorded::Sampled, mean) * probability - 1.0).abs() < 1e-9);
        }
        assert_eq!(weight(5, Recorded::Always, 100), 1.0);
    }
}
