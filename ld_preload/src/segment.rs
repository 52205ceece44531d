//! Makes the shared segment and hands it to the agent.
//!
//! The memfd is sealed against shrinking before anybody else can have it, or the agent could be made to fault. The
//! mapping stays, both descriptors are closed: programs count descriptors, close them all, or expect the lowest number.
//! All of it is mapped at once because there is no descriptor left to map more with later; the rings' part is without
//! access until a thread claims one, so that `mlockall` does not fetch half a gigabyte of it.
//!
//! Where a tracer is told by system calls (`marked`), nobody shares the segment: it is private memory with the header, one ring
//! that nobody claims, and the stacks.
//!
//! A program under a limit on its address space or on the size of files (exceeding the latter would be a signal) gets
//! a segment of two megabytes, with rings for sixteen threads at a time; if even that is too much, it is not recorded.

use crate::sys::{self, Fd};
use core::sync::atomic::AtomicU64;
use tierscope_wire::hello::Hello;
use tierscope_wire::options::Options;
use tierscope_wire::{Geometry, Header, RingHeader, StackTable};

const TRACED: Geometry = Geometry { rings: 1, ring_words: 1 << 9, stack_words: 4 << 20 };
const SMALL: Geometry = Geometry { rings: 16, ring_words: 1 << 13, stack_words: 1 << 16 };

/// The segment of one process, mapped.
#[derive(Debug)]
pub(crate) struct Segment {
    base: *mut u8,
    geometry: Geometry,
    traced: bool,
}

// SAFETY: the mapping is shared memory, reached only through atomics.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// Creates the segment of process `pid` and sends it to the agent at `options.socket`. `None` when any of it fails.
    pub(crate) fn create(pid: u32, forked_from: u32, time_ns: u64, options: &Options<'_>) -> Option<Segment> {
        let file_limit = sys::limit(sys::RLIMIT_FSIZE);
        let unlimited = sys::limit(sys::RLIMIT_AS) == sys::RLIM_INFINITY;
        let choices = [Geometry::DEFAULT, SMALL];
        choices.get(usize::from(!unlimited)..)?.iter().filter(|choice| choice.total_bytes() <= file_limit).find_map(
            |geometry| {
                let (segment, file) = Segment::map(*geometry)?;
                segment.header().initialise(pid, *geometry, options);
                let hello = Hello { pid, forked_from, time_ns };
                let sent = sys::connect(options.socket.as_bytes())
                    .is_some_and(|socket| sys::send_with_fd(&socket, &hello.to_bytes(), &file));
                if !sent {
                    segment.unmap();
                    return None;
                }
                Some(segment)
            },
        )
    }

    /// A segment for stacks alone, whose events are told by system calls.
    pub(crate) fn create_traced(pid: u32, options: &Options<'_>) -> Option<Segment> {
        let bytes = usize::try_from(TRACED.total_bytes()).ok()?;
        let segment = Segment { base: sys::map_private(bytes)?, geometry: TRACED, traced: true };
        segment.header().initialise(pid, TRACED, options);
        Some(segment)
    }

    /// Whether events are told by system calls.
    pub(crate) fn is_traced(&self) -> bool {
        self.traced
    }

    fn map(geometry: Geometry) -> Option<(Segment, Fd)> {
        let name = c"tierscope";
        let file = sys::memfd(name, sys::MFD_SEALABLE | sys::MFD_NOEXEC_SEAL)
            .or_else(|| sys::memfd(name, sys::MFD_SEALABLE))
            .map(sys::raise)?;
        let bytes = geometry.total_bytes();
        if !sys::truncate_and_seal(&file, bytes) {
            return None;
        }
        let bytes = usize::try_from(bytes).ok()?;
        let base = sys::map(bytes, sys::PROT_NONE, sys::MAP_SHARED | sys::MAP_NORESERVE, Some(&file), 0)?;
        let segment = Segment { base, geometry, traced: false };
        // SAFETY: our own fresh mapping.
        let usable = unsafe {
            sys::advise(base, bytes, sys::MADV_DONTDUMP);
            sys::protect(base, geometry.rings_offset() as usize, sys::PROT_READ_WRITE)
        };
        if !usable {
            segment.unmap();
            return None;
        }
        Some((segment, file))
    }

    /// Gives the mapping up; nothing may refer to it any more.
    pub(crate) fn unmap(&self) {
        // SAFETY: it is our mapping; that nothing refers to it is the caller's promise.
        unsafe { sys::unmap(self.base, self.geometry.total_bytes() as usize) };
    }

    /// The header page.
    pub(crate) fn header(&self) -> &'static Header {
        // SAFETY: the mapping starts with it, is page-aligned, and any bytes are a valid header.
        unsafe { &*self.base.cast() }
    }

    /// The stack table.
    pub(crate) fn stacks(&self) -> StackTable<'static> {
        let count = self.geometry.stack_words as usize;
        // SAFETY: the geometry says where in the mapping it lies.
        let words = unsafe {
            core::slice::from_raw_parts(
                self.base.add(self.geometry.stacks_offset() as usize).cast::<AtomicU64>(),
                count,
            )
        };
        StackTable::new(&self.header().stack_words_used, words)
    }

    /// The headers of all rings.
    pub(crate) fn rings(&self) -> &'static [RingHeader] {
        // SAFETY: they follow the header page, aligned to cache lines; any bytes are valid.
        unsafe { core::slice::from_raw_parts(self.base.add(4096).cast(), self.geometry.rings as usize) }
    }

    /// The words of ring `index`, made accessible.
    pub(crate) fn ring_words(&self, index: usize) -> Option<&'static [AtomicU64]> {
        let offset = self.geometry.ring_offset(u32::try_from(index).ok()?) as usize;
        let bytes = self.geometry.ring_bytes() as usize;
        // SAFETY: the geometry says where in the mapping they lie.
        unsafe {
            let words = self.base.add(offset);
            sys::protect(words, bytes, sys::PROT_READ_WRITE)
                .then(|| core::slice::from_raw_parts(words.cast(), bytes / 8))
        }
    }
}
