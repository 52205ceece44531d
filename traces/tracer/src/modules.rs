//! The program's modules: which code lies where, and what its data is called.

use crate::happening::Mapping;
use std::path::{Path, PathBuf};
use tierscope_binary::Module as Elf;
use tierscope_sim::{Event, Frame};

/// A module where it is mapped.
#[derive(Debug)]
struct Mapped {
    start: u64,
    end: u64,
    bias: u64,
    number: u32,
}

/// One that was seen, whether it is still mapped or not.
#[derive(Debug)]
struct Seen {
    path: PathBuf,
    build_id: Option<Box<str>>,
    /// File name, as policies and identities know it.
    name: String,
}

/// All modules of a run.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    seen: Vec<Seen>,
    /// By address, without overlap.
    mapped: Vec<Mapped>,
}

/// A module that was just found, and its globals.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) module: u32,
    pub(crate) event: Event,
    /// [`Event::Global`], each.
    pub(crate) globals: Vec<Event>,
}

fn hexadecimal(bytes: &[u8]) -> Box<str> {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

impl Modules {
    /// Code of a file was mapped. `None` if it is no module, or a known one at its place.
    pub(crate) fn find(&mut self, mapping: &Mapping) -> Option<Found> {
        let elf = Elf::open(&mapping.path).ok()?;
        let bias = elf.bias(mapping.start, mapping.offset, mapping.executable)?;
        let low = elf.segments().map(|segment| segment.vaddrs.start).min()? & !4095;
        let high = elf.segments().map(|segment| segment.vaddrs.end).max()?.checked_next_multiple_of(4096)?;
        let (start, end) = (low.wrapping_add(bias), high.wrapping_add(bias));
        if start >= end {
            return None;
        }
        let build_id = elf.build_id().map(hexadecimal);
        let number = self.number(&mapping.path, build_id.as_deref());
        if self.mapped.iter().any(|mapped| (mapped.start, mapped.bias, mapped.number) == (start, bias, number)) {
            return None;
        }
        self.unmap(start, end - start);
        let at = self.mapped.partition_point(|mapped| mapped.start < start);
        self.mapped.insert(at, Mapped { start, end, bias, number });
        let path = mapping.path.to_string_lossy().into();
        let event = Event::Module { module: number, path, build_id, start, end, bias };
        let globals = elf.globals().iter().map(|global| Event::Global {
            module: number,
            name: global.name.as_str().into(),
            address: global.vaddr.wrapping_add(bias),
            bytes: global.bytes,
            elf_address: global.vaddr,
        });
        Some(Found { module: number, event, globals: globals.collect() })
    }

    fn number(&mut self, path: &Path, build_id: Option<&str>) -> u32 {
        let known = self.seen.iter().position(|seen| seen.path == path && seen.build_id.as_deref() == build_id);
        known.unwrap_or_else(|| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.seen.push(Seen { path: path.into(), build_id: build_id.map(Into::into), name });
            self.seen.len() - 1
        }) as u32
    }

    /// A range is unmapped: modules that begin in it are gone.
    pub(crate) fn unmap(&mut self, address: u64, bytes: u64) {
        let range = address..address.saturating_add(bytes);
        self.mapped.retain(|mapped| !range.contains(&mapped.start));
    }

    /// A return address as a frame.
    pub(crate) fn frame(&self, address: u64) -> Frame {
        let after = self.mapped.partition_point(|mapped| mapped.start <= address);
        let mapped = after.checked_sub(1).and_then(|at| self.mapped.get(at)).filter(|mapped| address < mapped.end);
        match mapped {
            Some(mapped) => (Some(mapped.number), address.wrapping_sub(mapped.bias)),
            None => (None, address),
        }
    }

    /// Whether an address lies in a module.
    pub(crate) fn holds(&self, address: u64) -> bool {
        self.frame(address).0.is_some()
    }

    /// A module's file name.
    pub(crate) fn name(&self, number: u32) -> &str {
        self.seen.get(number as usize).map_or("", |seen| &seen.name)
    }

    /// Its build-id.
    pub(crate) fn build_id(&self, number: u32) -> Option<&str> {
        self.seen.get(number as usize)?.build_id.as_deref()
    }

    /// Whether it is the program itself, the first that is found.
    pub(crate) fn is_program(number: u32) -> bool {
        number == 0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn own_code() -> Mapping {
        let own = std::env::current_exe().unwrap();
        let elf = Elf::open(&own).unwrap();
        let code = elf.segments().find(|segment| segment.executable).unwrap();
        let (low, offset) = (code.vaddrs.start & !4095, code.file_offset & !4095);
        let start = 0x5500_0000_0000 + low;
        Mapping { start, end: start + 4096, offset, executable: true, path: own }
    }

    #[test]
    fn a_module_is_found_once_at_each_place_and_keeps_its_number() {
        let mut modules = Modules::default();
        let code = own_code();
        let found = modules.find(&code).unwrap();
        assert!(matches!(found.event, Event::Module { module: 0, bias: 0x5500_0000_0000, .. }), "{:?}", found.event);
        assert!(!found.globals.is_empty());
        assert!(modules.find(&code).is_none());
        assert!(
            matches!(modules.frame(code.start + 8), (Some(0), address) if address == code.start + 8 - 0x5500_0000_0000)
        );
        assert!(modules.name(0).starts_with("tierscope_tracer"));
        let Event::Module { start, end, .. } = found.event else { unreachable!() };
        modules.unmap(start, end - start);
        assert!(!modules.holds(code.start));
        let elsewhere = Mapping { start: code.start + 0x10_0000_0000, end: code.end + 0x10_0000_0000, ..code };
        assert_eq!(modules.find(&elsewhere).unwrap().module, 0);
    }

    #[test]
    fn what_is_no_module_is_not_found() {
        let mut modules = Modules::default();
        assert!(modules.find(&Mapping { path: "/etc/passwd".into(), ..own_code() }).is_none());
        assert!(modules.find(&Mapping { path: "/nonexistent".into(), ..own_code() }).is_none());
        assert_eq!(modules.frame(0x1234), (None, 0x1234));
    }
}
