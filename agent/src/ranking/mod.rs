//! `tierscope train` and `tierscope eval`: what was learnt from the table, and how much that is worth on programs it has not seen:
//! those of the table in turn, or one from scratch (`program`). And the models that advice is given by (`models`).

mod models;
mod program;
mod told;

use crate::cli::{EvalArguments, FamilyName, TrainArguments};
use crate::commands::{print, print_json};
use crate::failure::Failure;
use crate::output::{self, Output};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;
use tierscope_rank::{Ablation, Evaluation, Family, Model, Table, evaluate, key, shipped_key};

pub(crate) use models::Models;

/// The files of a table.
const OBJECTS: &str = "objects.csv";
const SETS: &str = "sets.csv";

/// A table, and what models trained on it are stored under.
struct Read {
    table: Table,
    key: String,
}

/// The table of a directory; of none, the one that comes with this version.
fn read(directory: Option<&Path>) -> Result<Read, Failure> {
    let Some(directory) = directory else {
        let table =
            Table::shipped().map_err(|error| Failure::from_error("the table of this version is none", &error))?;
        return Ok(Read { table, key: shipped_key() });
    };
    let text = |name: &str| {
        let path = directory.join(name);
        output::read_text(&path, &path).map_err(|failure| failure.mend("tierscope label --table DIR makes a table"))
    };
    let (objects, sets) = (text(OBJECTS)?, text(SETS)?);
    let table = Table::parse(&objects, &sets)
        .map_err(|error| Failure::from_error(&format!("{} is no table", directory.display()), &error))?;
    Ok(Read { table, key: key(&objects, &sets) })
}

/// Trains, and shows what was chosen from what.
///
/// # Errors
///
/// There is no table, or too little in it.
pub(crate) fn train(arguments: &TrainArguments) -> Result<u8, Failure> {
    let families = arguments.family.families();
    let output = match &arguments.output {
        None => None,
        Some(_) if arguments.family == FamilyName::Both => {
            return Err(Failure::usage("a file holds the model of one family").mend("--family clock, or levels"));
        }
        Some(path) => Some(Output::claim(path, arguments.force, "replaces the model")?),
    };
    let Read { table, key } = read(arguments.table.as_deref())?;
    let mut told = Vec::new();
    let mut text = String::new();
    let mut written = None;
    for &family in families {
        let start = Instant::now();
        let model = trained(&table, family)?;
        let seconds = start.elapsed().as_secs_f64();
        text += &format!("{}trained in {seconds:.1} s\n\n", model.comparison());
        told.push(json!({
            "family": family.as_str(),
            "learner": model.kind().as_str(),
            "seconds": seconds,
            "compared": model.comparison(),
        }));
        written = Some(model.to_json(&key));
    }
    if let (Some(output), Some(model)) = (output, written) {
        output.write(model.as_bytes())?;
    }
    if arguments.json {
        print_json("what was trained", &json!({ "schema": "tierscope.train/1", "table": key, "models": told }))?;
    } else {
        print(text.trim_end().as_bytes())?;
        print(b"\n")?;
    }
    Ok(0)
}

fn trained(table: &Table, family: Family) -> Result<Model, Failure> {
    Model::train(table, family).map_err(|error| Failure::from_error("nothing was trained", &error))
}

/// Leaves out each program in turn, and shows how every ranker places it.
///
/// # Errors
///
/// There is no table, or too little in it.
pub(crate) fn eval(arguments: &EvalArguments) -> Result<u8, Failure> {
    if arguments.program {
        return program::eval(arguments);
    }
    let Read { table, key } = read(arguments.table.as_deref())?;
    let mut text = String::new();
    let mut told: Vec<Value> = Vec::new();
    for &family in arguments.family.families() {
        let evaluation = evaluated(&table, family, arguments.quiet)?;
        text += &format!("{evaluation}\n");
        let mut value = evaluation.to_json();
        if arguments.ablation {
            let ablation = Ablation::run(&table, family)
                .map_err(|error| Failure::from_error("features could not be compared", &error))?;
            text += &format!("{ablation}\n");
            if let Some(object) = value.as_object_mut() {
                object.insert("ablation".to_owned(), json!(ablation.rows));
            }
        }
        told.push(value);
    }
    if !arguments.json {
        print(text.as_bytes())?;
        return Ok(0);
    }
    // What a script looks at first: the figures of the samples that can be had anywhere.
    let first = told.first().cloned().unwrap_or_default();
    let document = json!({
        "schema": "tierscope.eval/1",
        "table": key,
        "summary": first["summary"],
        "rows": first["rows"],
        "families": told,
    });
    print_json("the evaluation", &document).map(|()| 0)
}

fn evaluated(table: &Table, family: Family, quiet: bool) -> Result<Evaluation, Failure> {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
    bar.set_message(format!("{family}: programs left out"));
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let evaluation = evaluate(table, family, &progress);
    bar.finish_and_clear();
    evaluation.map_err(|error| Failure::from_error("nothing was evaluated", &error))
}
