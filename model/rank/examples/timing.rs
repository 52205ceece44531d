//! How long training takes, and inference of 10 000 objects: `cargo run --release -p tierscope-rank --example timing`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use tierscope_rank::{Family, Model, Table};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (what, table) in [("made-up programs", support::table(26, 1)), ("the shipped table", Table::shipped()?)] {
        for family in Family::ALL {
            time(what, &table, family)?;
        }
    }
    Ok(())
}

fn time(what: &str, table: &Table, family: Family) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let model = Model::train(table, family)?;
    println!("{what}, {family}: {} rows learnt in {:.2} s", table.rows.len(), start.elapsed().as_secs_f64());
    print!("{}", model.comparison());
    let known = table.rows.iter().filter(|row| row.features(family).is_some());
    let asked: Vec<_> = known.cycle().take(10_000).map(|row| support::question(row, family)).collect();
    // The least of thirty: what else the machine does is not what is timed.
    let mut least = f64::INFINITY;
    for _ in 0..30 {
        let start = Instant::now();
        model.predict(family, &asked)?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    println!("{} objects predicted in {:.1} ms", asked.len(), least * 1e3);
    Ok(())
}
