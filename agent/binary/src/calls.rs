//! Calls by the functions they stand in: the way back from a name to return addresses.
//!
//! A return address means something in one build alone. After a rebuild what is left of it is a name: the function it was
//! in, and file and line of the call. So every call instruction of the new build is found (by decoding each function from its
//! start, as the compiler laid it out) and asked for its names, inlined functions included; those that answer to the name
//! are the return addresses sought. Because the same symboliser named the old address, names are compared as they are.
//!
//! One pass answers for any number of names: a large program has a million calls, and naming them is what takes time.
//! Only x86-64 is decoded; of other modules no call is found.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

use crate::Machine;
use crate::demangle::demangled;
use crate::headers::Class;
use crate::module::Module;
use crate::symbolize::{AddressKind, ModuleRef, Symbolizer};

/// Addresses named at once: their names are dropped before the next are asked for.
const BATCH: usize = 1 << 14;

/// A call in a function that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSite {
    /// ELF address of the instruction after the call.
    pub return_address: u64,
    /// Source file of the call in that function, as the compiler was told.
    pub file: Option<String>,
    /// Its line there.
    pub line: Option<u32>,
}

impl Module {
    /// The return addresses of all calls, ascending.
    pub fn return_addresses(&self) -> Vec<u64> {
        if self.class() != Class::Bits64 || self.machine() != Machine::X86_64 {
            return Vec::new();
        }
        let mut functions = [self.framed().ranges(), self.unframed().ranges()].concat();
        functions.sort_unstable_by_key(|range| (range.start, range.end));
        let mut found = Vec::new();
        let mut segments: Vec<_> = self.segments().filter(|segment| segment.executable).collect();
        segments.sort_by_key(|segment| segment.vaddrs.start);
        // Nothing is decoded twice, however often the tables of a hostile file cover it.
        let mut cursor = 0;
        for segment in &segments {
            let Some(text) = self.text(segment) else { continue };
            let end = segment.vaddrs.start.saturating_add(text.len() as u64);
            let first = functions.partition_point(|range| range.end <= segment.vaddrs.start);
            for function in functions.iter().skip(first).take_while(|range| range.start < end) {
                let range = function.start.max(segment.vaddrs.start).max(cursor)..function.end.min(end);
                if range.is_empty() {
                    continue;
                }
                cursor = range.end;
                let from = (range.start - segment.vaddrs.start) as usize;
                let to = (range.end - segment.vaddrs.start) as usize;
                decode(text.get(from..to).unwrap_or_default(), range.start, &mut found);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// ELF addresses of the functions of each of these demangled names, by symbols alone: not where they were inlined.
    pub fn functions_named(&self, names: &HashSet<String>) -> HashMap<String, Vec<Range<u64>>> {
        let symbols = self.symbols();
        let mut found: HashMap<String, Vec<Range<u64>>> = HashMap::new();
        for symbol in symbols.list.iter().filter(|symbol| symbol.is_function()) {
            let Some(name) = symbols.name(symbol) else { continue };
            let name = plain(&demangled(name.strip_prefix("__GI_").unwrap_or(name)));
            if !names.contains(&name) {
                continue;
            }
            let range = match symbol.bytes {
                0 => self.function(symbol.vaddr).unwrap_or(symbol.vaddr..symbol.vaddr),
                _ => symbol.vaddr..symbol.end(),
            };
            if !range.is_empty() {
                found.entry(name).or_default().push(range);
            }
        }
        found
    }
}

/// Adds the return addresses of the calls in a function's code.
fn decode(code: &[u8], start: u64, found: &mut Vec<u64>) {
    let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
            found.push(instruction.next_ip());
        }
    }
}

impl Symbolizer {
    /// The calls that stand in functions of these names, wherever they were inlined, by name. Spaces in a name count once.
    pub fn call_sites(&mut self, module: &Module, functions: &HashSet<String>) -> HashMap<String, Vec<CallSite>> {
        let wanted: HashSet<String> = functions.iter().map(|name| plain(name)).collect();
        let mut found: HashMap<String, Vec<CallSite>> = HashMap::new();
        let reference = ModuleRef { path: module.path(), build_id: module.build_id() };
        for addresses in module.return_addresses().chunks(BATCH) {
            let names = self.symbolize(reference, addresses, AddressKind::Return);
            for (&return_address, frames) in addresses.iter().zip(names) {
                for frame in frames {
                    let name = plain(&frame.function);
                    if wanted.contains(&name) {
                        let site = CallSite { return_address, file: frame.file, line: frame.line };
                        found.entry(name).or_default().push(site);
                    }
                }
            }
        }
        found
    }
}

/// A name with its spaces as a policy file has them.
fn plain(name: &str) -> String {
    if name.split(' ').any(str::is_empty) || name.contains(|letter: char| letter.is_whitespace() && letter != ' ') {
        return name.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_by_what_follows_them() {
        // call rel32; call [rip+0]; call rax; jmp rel32; ret
        let code =
            [[0xe8, 0, 0, 0, 0].as_slice(), &[0xff, 0x15, 0, 0, 0, 0], &[0xff, 0xd0], &[0xe9, 0, 0, 0, 0], &[0xc3]]
                .concat();
        let mut found = Vec::new();
        decode(&code, 0x1000, &mut found);
        assert_eq!(found, [0x1005, 0x100b, 0x100d]);
    }

    #[test]
    fn bytes_that_are_no_code_are_passed_over() {
        let mut found = Vec::new();
        decode(&[0x06; 32], u64::MAX - 40, &mut found);
        decode(&[0xe8, 1], 0, &mut found);
        assert!(found.is_empty());
    }

    #[test]
    fn spaces_of_a_name_count_once() {
        assert_eq!(plain("operator  new"), "operator new");
        assert_eq!(plain(" f<a, b>\t(int)"), "f<a, b> (int)");
        assert_eq!(plain("main"), "main");
    }
}
