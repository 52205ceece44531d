//! How long training takes, and inference of 10 000 objects: `cargo run --release -p tierscope-rank --example timing`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use tierscope_rank::{Family, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let table = support::table(26, 1);
    for family in Family::ALL {
        let start = Instant::now();
        let model = Model::train(&table, family)?;
        println!("{family}: {} rows learnt in {:.2} s", table.rows.len(), start.elapsed().as_secs_f64());
        print!("{}", model.comparison());
        let asked: Vec<_> = table.rows.iter().cycle().take(10_000).map(|row| support::question(row, family)).collect();
        // The least of ten: what else the machine does is not what is timed.
        let mut least = f64::INFINITY;
        for _ in 0..10 {
            let start = Instant::now();
            model.predict(family, &asked)?;
            least = least.min(start.elapsed().as_secs_f64());
        }
        println!("{} objects predicted in {:.1} ms", asked.len(), least * 1e3);
    }
    Ok(())
}
