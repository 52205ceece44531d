//! A file stands for the device: it is mapped shared, locked and kept by its mapping in the same way. What only a device
//! does (granules the kernel insists on, no private mappings) is tested in the machine of `scripts/two-tier-vm`.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use super::*;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A child forked by one test has the mappings, and so the locks, of all others: they run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const GRANULE: usize = 2 << 20;
const BYTES: usize = 4 * GRANULE;

/// A file of a device's size, all of it 0xee, as somebody may have left it.
fn used_before() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![0xee; BYTES]).unwrap();
    file
}

fn traits(granule: usize) -> Traits {
    Traits { number: 0, bytes: BYTES as u64, granule }
}

/// A device over the file, in address space of its own.
fn device(path: &Path) -> Device {
    let whole = sys::map(BYTES + GRANULE, sys::PROT_NONE, sys::MAP_PRIVATE | sys::MAP_ANONYMOUS, None, 0).unwrap();
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    Device::over(&path, traits(GRANULE), (whole as usize).next_multiple_of(GRANULE), BYTES + 1).unwrap()
}

#[allow(clippy::mut_from_ref, reason = "memory that the device only says where it is")]
fn bytes_at(device: &Device, offset: usize, bytes: usize) -> &mut [u8] {
    // SAFETY: the tests ask for what they committed, and use one such slice at a time.
    unsafe { core::slice::from_raw_parts_mut((device.region + offset) as *mut u8, bytes) }
}

/// Runs `child` in a forked child between the calls that belong there; whether it was content.
fn fork(device: &Device, child: impl Fn(Result<(), i32>) -> bool, parent: impl Fn()) -> bool {
    // SAFETY: this thread forks; the child allocates nothing and ends by `_exit`.
    unsafe {
        device.prepare_fork();
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            let result = device.child_after_fork();
            libc::_exit(if child(result) { 0 } else { 1 });
        }
        device.parent_after_fork();
        parent();
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }
}

#[test]
fn what_is_committed_is_zero_and_in_the_device() {
    let _alone = alone();
    let file = used_before();
    let device = device(file.path());
    device.commit(device.region + PAGE, 3 * PAGE).unwrap();
    assert!(bytes_at(&device, PAGE, 3 * PAGE).iter().all(|byte| *byte == 0));
    bytes_at(&device, PAGE, 4)[..4].copy_from_slice(b"here");
    let in_file = std::fs::read(file.path()).unwrap();
    assert_eq!((&in_file[PAGE..PAGE + 4], in_file[PAGE - 1], in_file[4 * PAGE]), (&b"here"[..], 0xee, 0xee));
    // SAFETY: nobody uses it.
    unsafe { device.decommit(device.region + PAGE, 3 * PAGE) };
    device.commit(device.region, 2 * PAGE).unwrap();
    assert!(bytes_at(&device, 0, 2 * PAGE).iter().all(|byte| *byte == 0), "again zero");
}

#[test]
fn a_device_has_one_user_at_a_time() {
    let _alone = alone();
    let file = used_before();
    let (first, second) = (device(file.path()), device(file.path()));
    first.commit(first.region, PAGE).unwrap();
    assert_eq!(second.commit(second.region, PAGE), Err(EBUSY));
    // SAFETY: the end of the first: nothing of it is used any more.
    unsafe { sys::map_over(first.region, BYTES, sys::PROT_NONE, sys::MAP_PRIVATE | sys::MAP_ANONYMOUS, None) }.unwrap();
    assert_eq!(second.commit(second.region, PAGE), Err(EBUSY), "not asked so soon");
    second.refused_ns.store(1, Ordering::Relaxed);
    assert_eq!(second.commit(second.region, PAGE), Ok(()));
}

#[test]
fn only_what_is_committed_is_remembered() {
    let _alone = alone();
    let file = used_before();
    let device = device(file.path());
    let at = |page: usize| device.region + page * PAGE;
    for (page, pages) in [(0, 1), (60, 10), (200, 64), (GRANULE / PAGE, 3)] {
        device.commit(at(page), pages * PAGE).unwrap();
    }
    // SAFETY: nobody uses it.
    unsafe { device.decommit(at(63), 2 * PAGE) };
    let runs: Vec<_> = device.runs().map(|run| (run.start / PAGE, run.len() / PAGE)).collect();
    assert_eq!(runs, [(0, 1), (60, 3), (65, 5), (200, 64), (512, 3)]);
    assert_eq!(device.to_copy(), 2 * GRANULE, "whole granules of it");
}

#[test]
fn a_child_has_a_copy_and_its_parent_the_device() {
    let _alone = alone();
    let file = used_before();
    let device = device(file.path());
    device.commit(device.region, 2 * PAGE).unwrap();
    device.commit(device.region + GRANULE, PAGE).unwrap();
    bytes_at(&device, 0, 1)[0] = 1;
    bytes_at(&device, GRANULE, 1)[0] = 2;
    let content = fork(
        &device,
        |result| {
            let (first, second) = (bytes_at(&device, 0, 2 * PAGE), bytes_at(&device, GRANULE, PAGE));
            let same = result.is_ok() && first[0] == 1 && first[1] == 0 && second[0] == 2;
            first.fill(7);
            second.fill(7);
            // Where its parent has been, the child has ordinary memory, and no more as long as its parent has the device.
            let ordinary =
                device.commit(device.region + 8 * PAGE, PAGE).is_ok() && bytes_at(&device, 8 * PAGE, 1)[0] == 0;
            same && ordinary && device.commit(device.region + 2 * GRANULE, PAGE) == Err(EBUSY)
        },
        || {},
    );
    assert!(content);
    assert_eq!((bytes_at(&device, 0, 1)[0], bytes_at(&device, GRANULE, 1)[0]), (1, 2));
    let in_file = std::fs::read(file.path()).unwrap();
    assert_eq!((in_file[0], in_file[GRANULE], in_file[8 * PAGE]), (1, 2, 0xee), "the device is the parent's alone");
}

#[test]
fn a_child_gets_the_device_when_its_parent_is_gone() {
    let _alone = alone();
    let file = used_before();
    let device = device(file.path());
    device.commit(device.region, PAGE).unwrap();
    bytes_at(&device, 0, 1)[0] = 1;
    // SAFETY: the end of the parent's part, in the parent, after the fork.
    let gone = || unsafe {
        sys::map_over(device.region, BYTES, sys::PROT_NONE, sys::MAP_PRIVATE | sys::MAP_ANONYMOUS, None).unwrap();
    };
    let took_over = |_| {
        let beyond = device.region + GRANULE;
        let tries = (0..5000).any(|_| {
            device.refused_ns.store(1, Ordering::Relaxed);
            sys::sleep_ns(1_000_000);
            device.commit(beyond, PAGE).is_ok()
        });
        let own = bytes_at(&device, GRANULE, PAGE);
        own[0] = 9;
        // What its own child then has is both: what it had inherited, and what it had of the device.
        // SAFETY: as in `fork`; nothing is allocated.
        let inherited = unsafe {
            device.prepare_fork();
            let pid = libc::fork();
            if pid == 0 {
                let result = device.child_after_fork();
                let there = [bytes_at(&device, 0, 1)[0], bytes_at(&device, GRANULE, 1)[0]];
                bytes_at(&device, GRANULE, 1)[0] = 3;
                libc::_exit(i32::from(!(result.is_ok() && there == [1, 9])));
            }
            device.parent_after_fork();
            let mut status = 0;
            libc::waitpid(pid, &raw mut status, 0);
            status == 0
        };
        tries && inherited && own[0] == 9
    };
    assert!(fork(&device, took_over, gone));
    let in_file = std::fs::read(file.path()).unwrap();
    assert_eq!((in_file[0], in_file[GRANULE]), (1, 9));
}

#[test]
fn without_room_for_a_copy_a_child_can_read_what_its_parent_has() {
    let _alone = alone();
    let file = used_before();
    let device = device(file.path());
    device.commit(device.region, PAGE).unwrap();
    bytes_at(&device, 0, 1)[0] = 1;
    // SAFETY: as in `fork`, but nothing is prepared, as where there is no room.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            let lost = device.child_after_fork() == Err(ENOMEM) && bytes_at(&device, 0, 1)[0] == 1;
            // Ends it.
            bytes_at(&device, 0, 1)[0] = if lost { 2 } else { libc::_exit(1) };
            libc::_exit(2);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "{status:#x}");
    }
    assert_eq!(bytes_at(&device, 0, 1)[0], 1);
}

#[test]
fn what_is_no_device_or_does_not_fit_is_refused() {
    let of = |path: &str| Traits::of(&CString::new(path).unwrap()).map(drop);
    assert_eq!(of("/nonexistent/dax0.0"), Err(sys::ENOENT));
    assert_eq!((of("/dev/null"), of("/etc/hostname")), (Err(ENODEV), Err(ENODEV)), "no size, no device");
    let over = |granule, region, bytes| Device::over(c"/dev/dax0.0", traits(granule), region, bytes).map(|d| d.bytes());
    assert_eq!(over(GRANULE, 0, GRANULE - 1), Err(ENOSPC), "a region of less than a granule");
    assert_eq!(over(1 << 30, 1 << 30, 1 << 40), Err(ENOSPC), "a device of less than a granule");
    assert_eq!(over(GRANULE, PAGE, 1 << 40), Err(EINVAL));
    assert_eq!((over(GRANULE, 0, 1 << 40), over(GRANULE, 0, 5 << 20)), (Ok(BYTES), Ok(4 << 20)));
}

#[test]
fn numbers_are_read_as_the_kernel_writes_them() {
    assert_eq!(
        (number(b"268435456\n"), number(b"2097152"), number(b"\n"), number(b"")),
        (Some(268_435_456), Some(2 << 20), None, None)
    );
    assert_eq!(number(b"99999999999999999999999"), None);
    let mut text = Vec::new();
    [0, 9, 10, 251, u64::MAX].into_iter().for_each(|value| decimal(&mut text, value));
    assert_eq!(text, b"091025118446744073709551615");
    assert!(available().is_some_and(|bytes| bytes > 1 << 20));
}
