//! Any bytes as an ELF file: everything that can be asked of a module.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tierscope_binary::{Module, demangled, short_name};

fuzz_target!(|bytes: &[u8]| {
    let Ok(module) = Module::from_bytes("fuzz", bytes.to_vec()) else { return };
    let mut buffer = [0; 64];
    for segment in module.segments().take(16) {
        module.code(segment.vaddrs.start, &mut buffer);
        module.function(segment.vaddrs.start);
        module.bias(0x7f00_0000_0000, segment.file_offset, segment.executable);
    }
    let globals = module.globals();
    for pair in globals.windows(2) {
        assert!(pair[0].vaddr.saturating_add(pair[0].bytes) <= pair[1].vaddr);
    }
    assert!(module.return_addresses().is_sorted());
    module.functions_named(&["main".to_owned()].into());
    for global in globals.iter().take(64) {
        assert!(module.global(global.vaddr) == Some(global));
        assert!(short_name(&demangled(&global.name), 20).chars().count() <= 20);
    }
});
