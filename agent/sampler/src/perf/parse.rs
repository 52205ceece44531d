//! From the bytes of one perf record to a [`Record`].
//!
//! perf-event2 owns the ring and hands over each record's type, flags and body. Its own parser is not used for the
//! fields: it takes for granted that registers follow where registers were asked for, but for a thread without user
//! context the kernel writes an ABI of "none" and no registers, and it allocates for every sample. The layout is
//! fixed by what [`super::attributes`] asks for, so one cursor that can run out of bytes but cannot run past them is
//! all it takes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use perf_event_open_sys::bindings as sys;

use super::record::{Mapping, RawSample, Record, Registers};

/// Bits of `PERF_REG_X86_*` that are asked for: ax bx cx dx si di bp sp ip flags, and r8 to r15.
pub(super) const REGISTER_MASK: u64 = 0x00ff_03ff;

/// For each register in the order of the mask, its number in instruction encodings.
const ENCODING: [usize; 8] = [0, 3, 1, 2, 6, 7, 5, 4];

/// Thread, time and processor, appended to every record that is not a sample.
const TRAILER_BYTES: usize = 24;

/// Why a record yields nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// A type that is of no use here.
    Irrelevant,
    /// Shorter than its type demands.
    Malformed,
}

/// Parses the record of type `kind` whose header carried `misc` and whose body, after the header, is `body`.
pub(super) fn parse(kind: u32, misc: u16, body: &[u8], has_address: bool) -> Result<Record, Skipped> {
    match kind {
        sys::PERF_RECORD_SAMPLE => sample(misc, body, has_address).map(Record::Sample),
        sys::PERF_RECORD_MMAP => mapping(misc, body, false).map(Record::Mmap),
        sys::PERF_RECORD_MMAP2 => mapping(misc, body, true).map(Record::Mmap),
        sys::PERF_RECORD_COMM => comm(misc, body),
        sys::PERF_RECORD_FORK => {
            let ([pid, parent_pid, tid, parent_tid], time_ns) = task(body)?;
            Ok(Record::Fork { time_ns, pid, tid, parent_pid, parent_tid })
        }
        sys::PERF_RECORD_EXIT => {
            let ([pid, _, tid, _], time_ns) = task(body)?;
            Ok(Record::Exit { time_ns, pid, tid })
        }
        sys::PERF_RECORD_LOST => {
            let mut cursor = Cursor(body);
            let _event = cursor.u64()?;
            Ok(Record::Lost { count: cursor.u64()? })
        }
        sys::PERF_RECORD_LOST_SAMPLES => Ok(Record::Lost { count: Cursor(body).u64()? }),
        sys::PERF_RECORD_THROTTLE => Ok(Record::Throttled { time_ns: Cursor(body).u64()? }),
        _ => Err(Skipped::Irrelevant),
    }
}

fn sample(misc: u16, body: &[u8], has_address: bool) -> Result<RawSample, Skipped> {
    let mut cursor = Cursor(body);
    let ip = cursor.u64()?;
    let (pid, tid) = (cursor.u32()?, cursor.u32()?);
    let time_ns = cursor.u64()?;
    let address = if has_address { Some(cursor.u64()?) } else { None };
    let (cpu, _reserved) = (cursor.u32()?, cursor.u32()?);
    let registers = registers(&mut cursor)?;
    let kernel = u32::from(misc) & sys::PERF_RECORD_MISC_CPUMODE_MASK != sys::PERF_RECORD_MISC_USER;
    let ip = match registers {
        Some(registers) if kernel => registers.ip,
        _ => ip,
    };
    Ok(RawSample { time_ns, pid, tid, cpu, ip, kernel, registers, address })
}

fn registers(cursor: &mut Cursor<'_>) -> Result<Option<Registers>, Skipped> {
    let abi = cursor.u64()?;
    if abi == u64::from(sys::PERF_SAMPLE_REGS_ABI_NONE) {
        return Ok(None);
    }
    let mut registers = Registers::default();
    for number in ENCODING {
        registers.general[number] = cursor.u64()?;
    }
    registers.ip = cursor.u64()?;
    registers.flags = cursor.u64()?;
    for register in &mut registers.general[8..] {
        *register = cursor.u64()?;
    }
    Ok((abi == u64::from(sys::PERF_SAMPLE_REGS_ABI_64)).then_some(registers))
}

fn mapping(misc: u16, body: &[u8], second: bool) -> Result<Mapping, Skipped> {
    let (body, time_ns) = split_trailer(body)?;
    let mut cursor = Cursor(body);
    let (pid, tid) = (cursor.u32()?, cursor.u32()?);
    let (start, bytes, file_offset) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
    let (mut build_id, mut inode, mut protection, mut flags) = (None, None, None, None);
    if second {
        let identity = cursor.take(24)?;
        if u32::from(misc) & sys::PERF_RECORD_MISC_MMAP_BUILD_ID != 0 {
            let length = usize::from(identity[0]).min(20);
            build_id = Some(identity[4..4 + length].to_vec());
        } else {
            let mut identity = Cursor(identity);
            inode = Some((identity.u32()?, identity.u32()?, identity.u64()?));
        }
        protection = Some(cursor.u32()?);
        flags = Some(cursor.u32()?);
    }
    let path = PathBuf::from(OsString::from_vec(until_nul(cursor.0).to_vec()));
    let executable = u32::from(misc) & sys::PERF_RECORD_MISC_MMAP_DATA == 0;
    Ok(Mapping { time_ns, pid, tid, start, bytes, file_offset, protection, flags, build_id, inode, path, executable })
}

fn comm(misc: u16, body: &[u8]) -> Result<Record, Skipped> {
    let (body, time_ns) = split_trailer(body)?;
    let mut cursor = Cursor(body);
    let (pid, tid) = (cursor.u32()?, cursor.u32()?);
    let exec = u32::from(misc) & sys::PERF_RECORD_MISC_COMM_EXEC != 0;
    Ok(Record::Comm { time_ns, pid, tid, name: until_nul(cursor.0).to_vec(), exec })
}

/// The process, its parent, the thread, its creator; and the time.
fn task(body: &[u8]) -> Result<([u32; 4], u64), Skipped> {
    let mut cursor = Cursor(body);
    let ids = [cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?];
    Ok((ids, cursor.u64()?))
}

/// Separates a body from the trailer; the time is the trailer's second field.
fn split_trailer(body: &[u8]) -> Result<(&[u8], u64), Skipped> {
    let at = body.len().checked_sub(TRAILER_BYTES).ok_or(Skipped::Malformed)?;
    let (body, trailer) = body.split_at(at);
    let mut cursor = Cursor(trailer);
    let _thread = cursor.u64()?;
    Ok((body, cursor.u64()?))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// What is left of a body.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Skipped> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Skipped::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Skipped> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Skipped::Malformed)?;
        self.0 = rest;
        Ok(u32::from_ne_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64, Skipped> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Skipped::Malformed)?;
        self.0 = rest;
        Ok(u64::from_ne_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn pair(low: u32, high: u32) -> u64 {
        u64::from(low) | u64::from(high) << 32
    }

    fn sample_body(abi: u64, registers: &[u64]) -> Vec<u8> {
        let mut body = words(&[0x1111, pair(7, 8), 99, pair(3, 0), abi]);
        body.extend(words(registers));
        body
    }

    #[test]
    fn a_user_sample_carries_registers_in_encoding_order() {
        let values: Vec<u64> = (0..18).collect();
        let Ok(Record::Sample(sample)) = parse(sys::PERF_RECORD_SAMPLE, 2, &sample_body(2, &values), false) else {
            panic!("not a sample")
        };
        assert_eq!((sample.ip, sample.pid, sample.tid, sample.cpu, sample.time_ns), (0x1111, 7, 8, 3, 99));
        assert!(!sample.kernel);
        let registers = sample.registers.unwrap();
        // The kernel's order is ax bx cx dx si di bp sp ip flags r8..r15.
        assert_eq!(registers.general, [0, 2, 3, 1, 7, 6, 4, 5, 10, 11, 12, 13, 14, 15, 16, 17]);
        assert_eq!((registers.ip, registers.flags), (8, 9));
    }

    #[test]
    fn a_kernel_sample_is_placed_at_the_user_instruction() {
        let values: Vec<u64> = (0..18).map(|value| value + 100).collect();
        let Ok(Record::Sample(sample)) = parse(sys::PERF_RECORD_SAMPLE, 1, &sample_body(2, &values), false) else {
            panic!("not a sample")
        };
        assert!(sample.kernel);
        assert_eq!(sample.ip, 108);
    }

    #[test]
    fn a_thread_without_user_context_has_no_registers_and_no_bytes_for_them() {
        let Ok(Record::Sample(sample)) = parse(sys::PERF_RECORD_SAMPLE, 1, &sample_body(0, &[]), false) else {
            panic!("not a sample")
        };
        assert_eq!(sample.registers, None);
    }

    #[test]
    fn a_fault_carries_its_address() {
        let body = words(&[0x1111, pair(7, 8), 99, 0xdead_beef, pair(3, 0), 0]);
        let Ok(Record::Sample(sample)) = parse(sys::PERF_RECORD_SAMPLE, 2, &body, true) else { panic!("not a sample") };
        assert_eq!(sample.address, Some(0xdead_beef));
    }

    #[test]
    fn a_mapping_has_a_build_id_or_an_inode() {
        let mut with_inode = words(&[pair(1, 2), 0x4000, 0x1000, 0x200, pair(8, 1), 42, 0, pair(5, 2)]);
        with_inode.extend(b"/usr/bin/true\0\0\0");
        with_inode.extend(words(&[pair(1, 2), 77, 0]));
        let Ok(Record::Mmap(mapping)) = parse(sys::PERF_RECORD_MMAP2, 2, &with_inode, false) else {
            panic!("not a mapping")
        };
        assert_eq!((mapping.start, mapping.bytes, mapping.file_offset, mapping.time_ns), (0x4000, 0x1000, 0x200, 77));
        assert_eq!(mapping.inode, Some((8, 1, 42)));
        assert_eq!((mapping.protection, mapping.flags), (Some(5), Some(2)));
        assert_eq!(mapping.path, PathBuf::from("/usr/bin/true"));
        assert!(mapping.executable && mapping.build_id.is_none());

        let mut with_build_id = with_inode.clone();
        with_build_id[32] = 20;
        let misc = (sys::PERF_RECORD_MISC_MMAP_BUILD_ID | sys::PERF_RECORD_MISC_MMAP_DATA) as u16;
        let Ok(Record::Mmap(mapping)) = parse(sys::PERF_RECORD_MMAP2, misc, &with_build_id, false) else {
            panic!("not a mapping")
        };
        assert_eq!(mapping.build_id.map(|id| id.len()), Some(20));
        assert!(!mapping.executable && mapping.inode.is_none());
    }

    #[test]
    fn exec_is_told_from_a_mere_new_name() {
        let mut body = words(&[pair(1, 2)]);
        body.extend(b"true\0\0\0\0");
        body.extend(words(&[pair(1, 2), 5, 0]));
        let misc = sys::PERF_RECORD_MISC_COMM_EXEC as u16;
        assert_eq!(
            parse(sys::PERF_RECORD_COMM, misc, &body, false),
            Ok(Record::Comm { time_ns: 5, pid: 1, tid: 2, name: b"true".to_vec(), exec: true })
        );
    }

    #[test]
    fn threads_come_and_go() {
        let body = words(&[pair(10, 11), pair(12, 13), 5]);
        assert_eq!(
            parse(sys::PERF_RECORD_FORK, 0, &body, false),
            Ok(Record::Fork { time_ns: 5, pid: 10, parent_pid: 11, tid: 12, parent_tid: 13 })
        );
        assert_eq!(parse(sys::PERF_RECORD_EXIT, 0, &body, false), Ok(Record::Exit { time_ns: 5, pid: 10, tid: 12 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_refused(
            kind in 0u32..24, misc: u16, body in proptest::collection::vec(any::<u8>(), 0..300), has_address: bool,
        ) {
            let _ = parse(kind, misc, &body, has_address);
        }
    }
}
