//! The agent's view of one process's shared segment.
//!
//! Everything in it is written by a program that owes us nothing. Three things make reading it safe: the memfd is sealed
//! against shrinking before we map it, so no access can fault; every offset follows from a geometry that was checked
//! against the file's size and copied out once; and every word is an atomic, so a target that changes it under our eyes
//! is a wrong number, not undefined behaviour.

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::SealFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tierscope_wire::event::{MAX_BUILD_ID_BYTES, MAX_TEXT_BYTES};
use tierscope_wire::{
    Consumer, Event, Geometry, Header, Losses, MAX_EVENT_WORDS, MAX_FRAMES, RingHeader, RingState, StackId, StackTable,
    segment,
};

/// An event that outlives the buffer it was decoded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnedEvent {
    /// Any event without text.
    Plain(Event<'static>),
    ModuleLoaded {
        start: u64,
        end: u64,
        bias: u64,
        build_id: Vec<u8>,
        path: Vec<u8>,
    },
    Mark {
        name: String,
    },
}

/// What a segment has lost, in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SegmentLosses {
    pub(super) events: Losses,
    pub(super) stacks: u64,
    pub(super) reentered: u64,
    /// Words of rings thrown away because they made no sense, and events that could not be decoded.
    pub(super) corrupt: u64,
}

/// One mapped segment.
#[derive(Debug)]
pub(super) struct Segment {
    map: MmapRaw,
    geometry: Geometry,
    corrupt: u64,
    consumed: u64,
}

impl Segment {
    /// Checks a descriptor received from a target and maps it.
    pub(super) fn map(memfd: OwnedFd) -> Result<Segment, String> {
        let seals = rustix::fs::fcntl_get_seals(&memfd).map_err(|error| format!("not a memfd ({error})"))?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err("it can still be truncated".into());
        }
        let bytes = rustix::fs::fstat(memfd.as_fd()).map_err(|error| error.to_string())?.st_size;
        let bytes = usize::try_from(bytes).map_err(|error| error.to_string())?;
        if (bytes as u64) < segment::PAGE {
            return Err("it is shorter than a page".into());
        }
        let map = MmapOptions::new().len(bytes).map_raw(&memfd).map_err(|error| error.to_string())?;
        // SAFETY: the mapping is at least a page long, page aligned, lives as long as `map`, and cannot shrink; the
        // header consists of atomics, for which any bytes are valid.
        let header = unsafe { &*map.as_ptr().cast::<Header>() };
        let geometry = header.geometry(bytes as u64).map_err(|error| error.to_string())?;
        Ok(Segment { map, geometry, corrupt: 0, consumed: 0 })
    }

    fn header(&self) -> &Header {
        // SAFETY: as in `map`.
        unsafe { &*self.map.as_ptr().cast::<Header>() }
    }

    fn ring_headers(&self) -> &[RingHeader] {
        // SAFETY: `geometry.check` made sure that this many ring headers follow the first page within the file; they
        // consist of atomics, for which any bytes are valid, and 4096 is a multiple of their alignment.
        unsafe {
            let first = self.map.as_ptr().add(segment::PAGE as usize).cast::<RingHeader>();
            std::slice::from_raw_parts(first, self.geometry.rings as usize)
        }
    }

    fn words(&self, offset: u64, words: u32) -> &[AtomicU64] {
        // SAFETY: called with offsets and lengths of the checked geometry only: page aligned and within the file.
        unsafe {
            let first = self.map.as_ptr().add(offset as usize).cast::<AtomicU64>();
            std::slice::from_raw_parts(first, words as usize)
        }
    }

    /// Appends every event that has been written, with its thread, in the order of each thread.
    pub(super) fn drain(&mut self, out: &mut Vec<(u64, u32, OwnedEvent)>) {
        let mut words = [0; MAX_EVENT_WORDS];
        let mut text = [0; MAX_TEXT_BYTES + MAX_BUILD_ID_BYTES];
        let mut corrupt = 0;
        let before = out.len();
        for (index, header) in self.ring_headers().iter().enumerate() {
            if header.generation() == 0 {
                continue;
            }
            let slots = self.words(self.geometry.ring_offset(index as u32), self.geometry.ring_words);
            let Some(consumer) = Consumer::new(header, slots) else { continue };
            // A producer that writes faster than we read must not keep us here: at most one ring's worth per visit.
            let mut budget = self.geometry.ring_words as usize;
            while budget > 0 {
                match consumer.pop(&mut words) {
                    Ok(None) => break,
                    Ok(Some(length)) => {
                        budget = budget.saturating_sub(length);
                        match Event::decode(words.get(..length).unwrap_or(&[]), &mut text) {
                            Ok(event) => out.push((event.time_ns(), header.tid(), own(&event))),
                            Err(_) => corrupt += 1,
                        }
                    }
                    Err(skipped) => {
                        corrupt += skipped.words;
                        break;
                    }
                }
            }
        }
        self.corrupt += corrupt;
        self.consumed += (out.len() - before) as u64;
    }

    /// Gives the rings of dead threads back. Only when the process's thread ids are ours to read: in a pid namespace of
    /// its own a live thread would look dead.
    pub(super) fn reclaim(&self, pid: u32) {
        let tasks = format!("/proc/{pid}/task");
        if !Path::new(&tasks).exists() || !shares_pid_namespace(pid) {
            return;
        }
        for header in self.ring_headers() {
            match header.state() {
                Some(RingState::Active) if !Path::new(&format!("{tasks}/{}", header.tid())).exists() => {
                    header.orphan();
                }
                Some(RingState::Orphaned) => {}
                _ => continue,
            }
        }
        for (index, header) in self.ring_headers().iter().enumerate() {
            if header.state() == Some(RingState::Orphaned) {
                let slots = self.words(self.geometry.ring_offset(index as u32), self.geometry.ring_words);
                if Consumer::new(header, slots).is_some_and(|consumer| consumer.is_empty()) {
                    header.release();
                }
            }
        }
    }

    /// Frames of an interned stack and the epoch it was taken in.
    pub(super) fn stack(&self, id: StackId) -> Option<(Vec<u64>, u32)> {
        let words = self.words(self.geometry.stacks_offset(), self.geometry.stack_words);
        let table = StackTable::new(&self.header().stack_words_used, words);
        let mut frames = [0; MAX_FRAMES];
        let (length, epoch) = table.read(id, &mut frames)?;
        Some((frames.get(..length)?.to_vec(), epoch))
    }

    /// Mean bytes between sampled small blocks, as the shim runs with.
    pub(super) fn mean_bytes(&self) -> u64 {
        self.header().mean_bytes.load(Ordering::Relaxed).clamp(1, 1 << 40)
    }

    /// Everything lost so far.
    pub(super) fn losses(&self) -> SegmentLosses {
        let header = self.header();
        let [allocations, frees, other] = header.ringless_losses.each_ref().map(|n| n.load(Ordering::Acquire));
        let mut events = Losses { allocations, frees, other };
        for ring in self.ring_headers() {
            events += ring.losses();
        }
        SegmentLosses {
            events,
            stacks: header.lost_stacks.load(Ordering::Acquire),
            reentered: header.reentered.load(Ordering::Acquire),
            corrupt: self.corrupt,
        }
    }

    /// Events decoded so far.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Asks the shim to write nothing more.
    pub(super) fn stop(&self) {
        self.header().control.fetch_or(segment::CONTROL_STOP, Ordering::Release);
    }
}

fn own(event: &Event<'_>) -> OwnedEvent {
    match *event {
        Event::ModuleLoaded { start, end, bias, build_id, path, .. } => {
            OwnedEvent::ModuleLoaded { start, end, bias, build_id: build_id.to_vec(), path: path.to_vec() }
        }
        Event::Mark { name, .. } => OwnedEvent::Mark { name: String::from_utf8_lossy(name).into_owned() },
        ref other => other.detached().map_or(OwnedEvent::Mark { name: String::new() }, OwnedEvent::Plain),
    }
}

fn shares_pid_namespace(pid: u32) -> bool {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let ours = namespace("self");
    ours.is_some() && ours == namespace(&pid.to_string())
}
