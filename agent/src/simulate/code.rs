//! The code of a simulated program, from the files that it was loaded from: it is gone when its samples are looked at.
//!
//! Whether a load waited for another is found in it by the rule that clock samples go by, so that profiles of the two can be compared. Code
//! of no file (generated while the program ran) is not known, and nothing is said of loads in it.

use rustc_hash::FxHashMap;
use std::ops::Range;
use tierscope_binary::Module;
use tierscope_sampler::{Code, Resolver};
use tierscope_sim::outcome::Module as Row;
use tierscope_sim::outcome::Outcome;

/// A module where it was mapped, and its file if that can be read.
struct Loaded<'a> {
    row: &'a Row,
    number: u32,
    /// Opened when code of it is first asked for.
    file: Option<Option<Module>>,
}

/// The modules of a simulated program.
pub(super) struct Loads<'a> {
    files: Files<'a>,
    resolver: Resolver,
    /// By address of an instruction.
    known: FxHashMap<u64, Option<bool>>,
}

struct Files<'a>(Vec<Loaded<'a>>);

impl<'a> Loads<'a> {
    pub(super) fn new(outcome: &'a Outcome) -> Self {
        let rows = (0..).zip(&outcome.modules);
        let mut loaded: Vec<Loaded<'a>> = rows.map(|(number, row)| Loaded { row, number, file: None }).collect();
        loaded.sort_by_key(|loaded| (loaded.row.start, loaded.row.end));
        Self { files: Files(loaded), resolver: Resolver::new(), known: FxHashMap::default() }
    }

    /// The number of the module that an instruction is of, and its ELF address there; else its address.
    pub(super) fn place(&mut self, ip: u64) -> (Option<u32>, u64) {
        match self.files.of(ip) {
            Some(loaded) => (Some(loaded.number), ip.wrapping_sub(loaded.row.bias)),
            None => (None, ip),
        }
    }

    /// Whether the address of a load was computed from a value loaded shortly before; `None` where its code is not known.
    pub(super) fn waits_for_load(&mut self, ip: u64) -> Option<bool> {
        let Self { files, resolver, known } = self;
        *known.entry(ip).or_insert_with(|| resolver.waits_for_load(ip, files))
    }
}

impl<'a> Files<'a> {
    fn of(&mut self, address: u64) -> Option<&mut Loaded<'a>> {
        let after = self.0.partition_point(|loaded| loaded.row.start <= address);
        self.0.get_mut(after.checked_sub(1)?).filter(|loaded| address < loaded.row.end)
    }

    fn file(&mut self, address: u64) -> Option<(&Module, u64)> {
        let loaded = self.of(address)?;
        let bias = loaded.row.bias;
        let file = loaded.file.get_or_insert_with(|| {
            let module = Module::open(&loaded.row.path).ok()?;
            // Another build's code says nothing of this one's.
            let build_id = module.build_id().map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            (build_id == loaded.row.build_id).then_some(module)
        });
        Some((file.as_ref()?, bias))
    }
}

impl Code for Files<'_> {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        self.file(address).map_or(0, |(file, bias)| file.code(address.wrapping_sub(bias), buffer))
    }

    fn function(&mut self, address: u64) -> Option<Range<u64>> {
        let (file, bias) = self.file(address)?;
        let function = file.function(address.wrapping_sub(bias))?;
        Some(function.start.wrapping_add(bias)..function.end.wrapping_add(bias))
    }
}
