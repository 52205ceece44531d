//! Damaged and malicious files: whatever is in them, nothing panics and nothing takes long.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{compile, run};
use proptest::prelude::*;
use tierscope_binary::{AddressKind, BinaryError, DebugDirs, Module, ModuleRef, Program, Symbolizer};

/// A small real program, with symbols but no debug info; none where there is no compiler.
fn specimen() -> Option<&'static [u8]> {
    static SPECIMEN: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let build = || {
        let folder = tempfile::tempdir().unwrap();
        let path = compile(folder.path(), "globals.c", "specimen", &["-O2"])?;
        Some(std::fs::read(path).unwrap())
    };
    SPECIMEN.get_or_init(build).as_deref()
}

/// Everything there is to ask of a module.
fn exercise(bytes: Vec<u8>) {
    let start = Instant::now();
    match Module::from_bytes("mutant", bytes) {
        Ok(module) => {
            let mut buffer = [0; 64];
            for segment in module.segments() {
                for vaddr in [segment.vaddrs.start, segment.vaddrs.end.wrapping_sub(1), segment.vaddrs.start / 2] {
                    module.code(vaddr, &mut buffer);
                    module.function(vaddr);
                    module.global(vaddr);
                    module.bias(vaddr, segment.file_offset, segment.executable);
                }
            }
            let globals = module.globals();
            for pair in globals.windows(2) {
                assert!(pair[0].vaddr.saturating_add(pair[0].bytes) <= pair[1].vaddr, "{pair:x?}");
            }
            module.sections().for_each(drop);
            let names = ["main", "f"].map(str::to_owned).into();
            assert!(module.functions_named(&names).values().flatten().all(|range| !range.is_empty()));
            assert!(module.return_addresses().is_sorted());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 1500 }))]

    #[test]
    fn flipped_bytes(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let Some(specimen) = specimen() else { return Ok(()) };
        let mut bytes = specimen.to_vec();
        for (index, value) in flips {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        exercise(bytes);
    }

    /// Headers and tables are a small part of a file, so they are hit on purpose too.
    #[test]
    fn absurd_numbers_in_the_tables(
        hits in prop::collection::vec((0_usize..3, any::<prop::sample::Index>(), prop::sample::select(vec![
            0_u64, 1, 7, 0xffff, 0x7fff_ffff, u64::from(u32::MAX), 1 << 40, i64::MAX as u64, u64::MAX, u64::MAX - 4095,
        ])), 1..12),
    ) {
        let Some(specimen) = specimen() else { return Ok(()) };
        let mut bytes = specimen.to_vec();
        let sections = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
        for (place, index, value) in hits {
            let range = match place {
                0 => 16..64,
                1 => 64..64 + 13 * 56,
                _ => sections..bytes.len(),
            };
            let at = range.start + index.index(range.len() - 8) / 4 * 4;
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        exercise(bytes);
    }

    #[test]
    fn cut_anywhere(at in any::<prop::sample::Index>()) {
        let Some(specimen) = specimen() else { return Ok(()) };
        exercise(specimen[..at.index(specimen.len())].to_vec());
    }

    #[test]
    fn noise_after_the_magic(mut bytes in prop::collection::vec(any::<u8>(), 64..4096), class in 1_u8..3, order in 1_u8..3) {
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order, 1]);
        exercise(bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The symboliser hands files to a DWARF reader that is not ours.
    #[test]
    fn damaged_debug_information(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..60),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = compile(folder.path(), "globals.c", "damaged", &["-O2", "-g"]) else { return Ok(()) };
        let text = Module::open(&path).unwrap().segments().find(|segment| segment.executable).unwrap().vaddrs;
        let mut bytes = std::fs::read(&path).unwrap();
        for (index, value) in flips {
            // The first pages hold what must be right for the file to be opened at all.
            let index = 0x1000 + index.index(bytes.len() - 0x1000);
            bytes[index] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, bytes).unwrap();
        let addresses: Vec<u64> = text.step_by(7).collect();
        let start = Instant::now();
        let mut symbolizer = Symbolizer::new(DebugDirs::none());
        let frames = symbolizer.symbolize(ModuleRef { path: &path, build_id: None }, &addresses, AddressKind::Return);
        prop_assert!(frames.len() == addresses.len() && frames.iter().all(|frames| !frames.is_empty()));
        prop_assert!(start.elapsed() < Duration::from_secs(5));
        Program::inspect(&path).ok();
    }
}

#[test]
fn a_sparse_file_that_claims_terabytes_is_not_read() {
    let Some(specimen) = specimen() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let mut bytes = specimen.to_vec();
    // The section headers at the far end; every one of them huge.
    bytes[0x28..0x30].copy_from_slice(&(1_u64 << 39).to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    if file.set_len(1 << 40).is_err() {
        // A file system that has no such files has no such attack.
        return;
    }
    let start = Instant::now();
    let module = Module::open(&path).unwrap();
    assert!(module.globals().len() < 10);
    assert_eq!(module.function(0x1000), None);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_pipe_does_not_hang_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    run(std::process::Command::new("mkfifo").arg(&pipe));
    assert!(matches!(Module::open(&pipe), Err(BinaryError::NotAFile(_))));
    let missing = ModuleRef { path: Path::new("/no/such/module.so"), build_id: None };
    let frames = Symbolizer::default().symbolize(missing, &[5], AddressKind::Instruction);
    assert_eq!(frames[0][0].function, "module.so+0x5");
}
