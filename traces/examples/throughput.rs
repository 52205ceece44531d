//! How fast samples are written and read: `cargo run --release -p tierscope-traces --example throughput [ROWS]`.
//!
//! Prints rows per second and bytes per row; the directory is a temporary one.

use std::error::Error;
use std::time::Instant;

use tierscope_traces::{Access, AddressQuality, Attribution, Meta, Profile, ProfileWriter, SampleRow};

fn main() -> Result<(), Box<dyn Error>> {
    let rows: u64 = std::env::args().nth(1).map_or(Ok(3_000_000), |rows| rows.parse())?;
    let root = std::env::temp_dir().join(format!("tierscope-throughput-{}", std::process::id()));
    let mut writer = ProfileWriter::create(&root, false, Meta::default())?;
    let mut random = 1u64;
    let start = Instant::now();
    for n in 0..rows {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        writer.samples().push(SampleRow {
            time_ns: n * 250_000 + (random >> 50),
            tid: 4711 + (random >> 60) as u32,
            cpu: (random >> 62) as u16,
            ip: 0x5555_0000_0000 + (random >> 57),
            module: Some(1),
            offset: random >> 57,
            kernel: false,
            address: Some(0x7f00_0000_0000 + (random >> 36)),
            access: if random & 1 == 0 { Access::Load } else { Access::Store },
            address_quality: AddressQuality::Exact,
            attribution: Attribution::Exact,
            level: None,
            latency: None,
            dependent: None,
            tlb: None,
            weight: 1.0,
            object: Some((random >> 60) as u32),
        });
        if writer.needs_flush() {
            writer.flush()?;
        }
    }
    writer.finish()?;
    let written = start.elapsed().as_secs_f64();

    let mut bytes = 0;
    for part in std::fs::read_dir(root.join("samples.parquet"))? {
        bytes += part?.metadata()?.len();
    }
    let start = Instant::now();
    let read = Profile::open(&root)?.rows::<SampleRow>().len();
    let elapsed = start.elapsed().as_secs_f64();
    println!("written {:.2} M rows/s, {:.1} bytes a row", rows as f64 / written / 1e6, bytes as f64 / rows as f64);
    println!("read    {:.2} M rows/s, {read} rows", read as f64 / elapsed / 1e6);
    std::fs::remove_dir_all(&root)?;
    Ok(())
}
