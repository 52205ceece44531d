//! Functions and lines of the code addresses in a profile, looked up after recording.
//!
//! During a recording nothing is symbolised: it would take the time of the program that is being measured. Afterwards
//! each distinct address is looked up once, module by module. What cannot be found here (a stripped binary, a profile
//! opened on another machine) can be looked up again later, with the directories in which the files are.

use super::output::Output;
use super::process::Process;
use crate::failure::Failure;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tierscope_binary::{AddressKind, DebugDirs, ModuleRef, Origin, Symbolizer};
use tierscope_traces::{ModuleRow, Profile, ProfileWriter, SymbolRow, Table};

/// Code addresses by module.
#[derive(Debug, Default)]
struct Wanted {
    instructions: BTreeSet<(u32, u64)>,
    returns: BTreeSet<(u32, u64)>,
}

/// Looks up what a finished recording needs, and adds it to its profile.
pub(super) fn write(output: &mut Output, process: &Process) -> Result<(), Failure> {
    let with_module = |(module, offset): (Option<u32>, u64)| Some((module?, offset));
    let wanted = Wanted {
        instructions: process.instructions.iter().copied().collect(),
        returns: process.objects.all_frames().filter_map(with_module).collect(),
    };
    let (rows, _) = look_up(process.modules.rows(), &wanted, DebugDirs::default());
    let writer = output.writer();
    rows.into_iter().for_each(|row| writer.symbols().push(row));
    writer.flush().map_err(|error| Failure::from_error("cannot write the profile", &error))
}

/// Looks everything in a profile up again, also in `directories`. Returns remarks: modules that are missing or of
/// another build.
///
/// # Errors
///
/// When the profile cannot be written.
pub fn look_up_again(profile: &Path, directories: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let failure = |error| Failure::from_error("cannot look up symbols", &error);
    let tables = Profile::open(profile).map_err(failure)?.tables();
    let wanted = Wanted {
        instructions: tables.samples.iter().filter_map(|row| Some((row.module?, row.offset))).collect(),
        returns: tables.sites.iter().filter_map(|row| Some((row.module?, row.offset))).collect(),
    };
    let dirs = DebugDirs::with(directories.iter().cloned());
    let (rows, remarks) = look_up(&tables.modules, &wanted, dirs);
    let mut writer = ProfileWriter::append(profile).map_err(failure)?;
    let was_complete = writer.meta().complete;
    writer.clear(Table::Symbols).map_err(failure)?;
    rows.into_iter().for_each(|row| writer.symbols().push(row));
    if was_complete { writer.finish() } else { writer.flush() }.map_err(failure)?;
    Ok(remarks)
}

fn look_up(modules: &[ModuleRow], wanted: &Wanted, dirs: DebugDirs) -> (Vec<SymbolRow>, Vec<String>) {
    let mut symbolizer = Symbolizer::new(dirs);
    let mut rows = Vec::new();
    let mut remarks = Vec::new();
    for module in modules {
        let build_id = module.build_id.as_deref().and_then(bytes_of_hex);
        let reference = ModuleRef { path: Path::new(&module.path), build_id: build_id.as_deref() };
        let instructions = of_module(&wanted.instructions, module.module);
        // An address may be both; the row of an instruction then serves for both.
        let returns: Vec<u64> = of_module(&wanted.returns, module.module)
            .into_iter()
            .filter(|offset| instructions.binary_search(offset).is_err())
            .collect();
        if instructions.is_empty() && returns.is_empty() {
            continue;
        }
        match symbolizer.origin(reference) {
            Origin::File(_) => {}
            Origin::Mismatch(found) => {
                remarks.push(format!("{} is of another build than {}; not used", found.display(), module.path));
            }
            Origin::Missing => remarks.push(format!("{} was not found; its functions have no names", module.path)),
        }
        for (offsets, kind) in [(instructions, AddressKind::Instruction), (returns, AddressKind::Return)] {
            let found = symbolizer.symbolize(reference, &offsets, kind);
            for (offset, frames) in offsets.iter().zip(found) {
                rows.extend(frames.into_iter().enumerate().map(|(depth, frame)| SymbolRow {
                    module: module.module,
                    offset: *offset,
                    inline_depth: u16::try_from(depth).unwrap_or(u16::MAX),
                    function: frame.function,
                    file: frame.file,
                    line: frame.line,
                }));
            }
        }
    }
    (rows, remarks)
}

fn of_module(addresses: &BTreeSet<(u32, u64)>, module: u32) -> Vec<u64> {
    addresses.range((module, 0)..=(module, u64::MAX)).map(|(_, offset)| *offset).collect()
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_ids_come_back_from_their_text() {
        assert_eq!(bytes_of_hex("00ff1a"), Some(vec![0, 255, 26]));
        assert_eq!(bytes_of_hex("0"), None);
        assert_eq!(bytes_of_hex("zz"), None);
        assert_eq!(bytes_of_hex("é"), None);
    }
}
