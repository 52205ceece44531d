//! perf events: opened and closed again, never enabled.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use perf_event_open_sys::bindings::{
    PERF_COUNT_HW_CPU_CYCLES, PERF_COUNT_SW_CPU_CLOCK, PERF_COUNT_SW_PAGE_FAULTS, PERF_SAMPLE_ADDR, PERF_SAMPLE_IP,
    PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, perf_event_attr,
};

use super::Errno;

/// Data pages of the ring that is tried: what the clock sampler maps for each CPU.
const RING_BYTES: usize = 512 << 10;

fn attributes(kind: u32, config: u32) -> perf_event_attr {
    let mut attributes = perf_event_attr::default();
    attributes.size = size_of::<perf_event_attr>() as u32;
    attributes.type_ = kind;
    attributes.config = config.into();
    attributes.sample_type = u64::from(PERF_SAMPLE_IP);
    attributes.__bindgen_anon_1.sample_period = 1_000_000;
    attributes.set_disabled(1);
    attributes.set_exclude_kernel(1);
    attributes.set_exclude_hv(1);
    attributes
}

fn open(mut attributes: perf_event_attr, pid: i32) -> Result<OwnedFd, Errno> {
    const PERF_FLAG_FD_CLOEXEC: u64 = 8;
    // SAFETY: the attributes are valid for the call and of the size they state.
    let descriptor =
        unsafe { perf_event_open_sys::perf_event_open(&mut attributes, pid, -1, -1, PERF_FLAG_FD_CLOEXEC) };
    if descriptor < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn clock_attributes() -> perf_event_attr {
    attributes(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK)
}

pub(super) fn clock(pid: i32, kernel: bool) -> Result<(), Errno> {
    let mut attributes = clock_attributes();
    attributes.set_exclude_kernel(u64::from(!kernel));
    open(attributes, pid).map(drop)
}

pub(super) fn fault() -> Result<(), Errno> {
    let mut attributes = attributes(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS);
    attributes.sample_type |= u64::from(PERF_SAMPLE_ADDR);
    open(attributes, 0).map(drop)
}

pub(super) fn cycles() -> Result<(), Errno> {
    open(attributes(PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES), 0).map(drop)
}

/// IBS before Linux 6.2 cannot leave the kernel out: then it is asked for with it.
pub(super) fn precise() -> Result<(), Errno> {
    let mut attributes = attributes(PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES);
    attributes.set_precise_ip(2);
    open(attributes, 0).map(drop).or_else(|errno| {
        attributes.set_exclude_kernel(0);
        attributes.set_exclude_hv(0);
        open(attributes, 0).map(drop).map_err(|second| if errno.0 == libc::EINVAL { second } else { errno })
    })
}

pub(super) fn ring() -> Result<(), Errno> {
    let event = open(clock_attributes(), 0)?;
    // SAFETY: sysconf has no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let length = page + RING_BYTES;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of a descriptor we own, at an address the kernel chooses.
    let ring = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, event.as_raw_fd(), 0) };
    if ring == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: the mapping made above, unused.
    unsafe { libc::munmap(ring, length) };
    Ok(())
}
