//! The shim reads a table from a path in the environment: whatever file that is, it is read or refused, and what is read
//! can be walked to its end. The first bytes are made right, so that the fuzzer need not find them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tierscope_wire::WIRE_VERSION;
use tierscope_wire::policy::stats::Snapshot;
use tierscope_wire::policy::{MAGIC, Table};

/// Bytes of the header.
const HEADER_BYTES: usize = 64;
/// Words of the statistics: general, then one tier, rule and global each.
const GENERAL: u64 = 16;
const OF_TIER: u64 = 8;
const OF_RULE: u64 = 8;
const OF_GLOBAL: u64 = 2;

fn walk(bytes: &[u8]) {
    let Ok(table) = Table::parse(bytes) else { return };
    let counts = table.counts();
    assert_eq!(table.tiers().filter(|tier| tier.nodes().len() < usize::MAX).count(), counts.tiers);
    assert_eq!(table.modules().count(), counts.modules);
    assert_eq!(table.globals().count(), counts.globals);
    assert_eq!(table.rules().count(), counts.rules);
    for frame in table.rules().flat_map(|rule| rule.frames()) {
        assert!(usize::from(frame.module) < counts.modules && frame.ranges().len() > 0);
    }
    assert!(Snapshot::read(&table, bytes).is_some());
}

fuzz_target!(|data: &[u8]| {
    walk(data);
    // Ten bytes of small counts, then the body: a header that fits it, and room for the statistics.
    let Some(([tiers, modules, rules, globals, frames, ranges, text, flags, default, _], body)) =
        data.split_first_chunk::<10>()
    else {
        return;
    };
    let [tiers, modules, rules, globals, frames, ranges, text] =
        [tiers, modules, rules, globals, frames, ranges, text].map(|count| u64::from(count % 17));
    let text = text * 8;
    let words = 8 + tiers * 5 + modules * 2 + rules * 4 + frames + ranges * 2 + globals * 3;
    let statistics = (words * 8 + text).next_multiple_of(4096);
    let total = statistics + 8 * (GENERAL + tiers * OF_TIER + rules * OF_RULE + globals * OF_GLOBAL);
    let header = [
        MAGIC,
        u64::from(WIRE_VERSION) | u64::from(*flags) << 32,
        total,
        tiers | modules << 32,
        rules | globals << 32,
        frames | ranges << 32,
        text | u64::from(*default) << 32,
        statistics,
    ];
    let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(file.len(), HEADER_BYTES);
    file.extend_from_slice(body);
    file.resize(total as usize, 0);
    walk(&file);
});
