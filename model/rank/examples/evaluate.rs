//! Evaluates a table, or made-up programs without one: `cargo run --release -p tierscope-rank --example evaluate -- objects.csv sets.csv`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Instant;

use tierscope_rank::{Ablation, Family, Model, Table, evaluate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let table = match files.as_slice() {
        [objects, sets] => Table::read(Path::new(objects), Path::new(sets))?,
        _ => support::table(26, 1),
    };
    for family in Family::ALL {
        let start = Instant::now();
        let model = Model::train(&table, family)?;
        println!("{family}: {} rows learnt in {:.1} s", table.rows.len(), start.elapsed().as_secs_f64());
        println!("{}", model.comparison());
        let start = Instant::now();
        let evaluation = evaluate(&table, family, &|_, _| {})?;
        println!("{evaluation}learners chosen: {:?}", evaluation.chosen);
        println!("evaluated in {:.1} s\n", start.elapsed().as_secs_f64());
        println!("{}", Ablation::run(&table, family)?);
    }
    Ok(())
}
