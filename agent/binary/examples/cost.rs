//! Prints what reading one module costs: its functions, globals and code bytes, and the names of ten thousand addresses.
//!
//! ```text
//! cargo run --release -p tierscope-binary --example cost -- FILE
//! ```

use std::path::PathBuf;
use std::time::Instant;
use tierscope_binary::{AddressKind, Module, ModuleRef, Symbolizer};

fn timed<T>(what: &str, work: impl FnOnce() -> T, count: impl FnOnce(&T) -> String) -> T {
    let start = Instant::now();
    let result = work();
    println!("{:>12.3?}  {what}: {}", start.elapsed(), count(&result));
    result
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path: PathBuf = std::env::args_os().nth(1).ok_or("name a program or library")?.into();
    let module = timed("open", || Module::open(&path), |opened| format!("{}", opened.is_ok()))?;
    let text = module.segments().find(|segment| segment.executable).ok_or("no code in there")?.vaddrs;
    timed("first function", || module.function(text.start), |found| format!("{}", found.is_some()));
    let addresses = || text.clone().step_by(97).take(1_000_000);
    let functions = || addresses().filter(|&vaddr| module.function(vaddr).is_some()).count();
    timed("functions", functions, |found| format!("{found} of {} addresses", addresses().count()));
    timed("globals", || module.globals().len(), usize::to_string);
    let mut buffer = [0; 256];
    let copied = || text.clone().step_by(977).take(100_000).map(|vaddr| module.code(vaddr, &mut buffer)).sum::<usize>();
    timed("code bytes", copied, usize::to_string);
    let step = ((text.end - text.start) / 10_000).max(1) as usize;
    let addresses: Vec<u64> = text.step_by(step).take(10_000).collect();
    let module = ModuleRef { path: &path, build_id: None };
    let symbolize = || Symbolizer::default().symbolize(module, &addresses, AddressKind::Instruction);
    timed("symbols", symbolize, |frames| {
        let named = frames.iter().flat_map(|frames| frames.first()).filter(|frame| !frame.function.contains("+0x"));
        let inlined = frames.iter().filter(|frames| frames.len() > 1).count();
        format!("{} of {} addresses named, {inlined} in inlined code", named.count(), addresses.len())
    });
    Ok(())
}
