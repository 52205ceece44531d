//! `tierscope label`, `train` and `eval`: from workloads to a table, and from a table to what was learnt.

use std::path::Path;

use crate::harness::{Outcome, Program, read, run, tierscope};
use crate::needs::{Need, have};

fn label(directory: &Path, more: &[&str]) -> Outcome {
    let mut command = tierscope();
    command.current_dir(directory).args(["label", "--table", "table", "--programs", "stream", "--instructions", "4M"]);
    run(command.args(["--sample", "1M,300k,100k", "--sample-every", "13"]).args(more))
}

/// Columns by name of every row.
fn rows(path: &Path) -> Vec<std::collections::HashMap<String, String>> {
    let text = read(path);
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<String>>());
    let header = lines.next().unwrap();
    lines.map(|line| header.iter().cloned().zip(line).collect()).collect()
}

#[test]
fn a_workload_becomes_rows_once() {
    if !have(&[Need::Qemu]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let told = label(directory.path(), &["--keep", "kept"]).expect(0);
    assert!(told.stderr.contains("1 cases labelled, 0 failed"), "{told:?}");
    assert_eq!(told.stdout, "", "what workloads print is for nobody");
    let objects = rows(&directory.path().join("table/objects.csv"));
    for name in ["left", "right", "summed", "target"] {
        let found: Vec<_> = objects.iter().filter(|row| row["name"] == format!("allocate_{name}")).collect();
        assert_eq!(found.len(), 2, "one for each pair of tiers: {name}: {found:#?}");
        for row in found {
            assert_eq!((row["program"].as_str(), row["movable"].as_str()), ("stream", "1"));
            assert!(row["criticality"].parse::<f64>().unwrap() > 0.0, "{row:#?}");
            // A sampler of loads sees nothing of an array that is only written.
            let is_seen = !row["levels.latency_ratio"].is_empty();
            assert!(!row["clock.share"].is_empty() && (is_seen || name == "target"), "{row:#?}");
        }
    }
    // Four objects: all fifteen sets but those that more objects would add, for two pairs.
    let sets = rows(&directory.path().join("table/sets.csv"));
    assert!(sets.len() >= 2 * 15, "{}", sets.len());
    assert!(sets.iter().all(|row| row["slowdown"].parse::<f64>().unwrap() > -0.01));

    let again = label(directory.path(), &[]).expect(0);
    assert!(again.stderr.contains("1 cases, 1 of them in the table already"), "{again:?}");
    let before = read(&directory.path().join("table/objects.csv"));
    label(directory.path(), &["--keep", "kept", "--force"]).expect(0);
    assert_eq!(read(&directory.path().join("table/objects.csv")), before, "from what was kept the same rows come");

    let mut train = tierscope();
    let refused = run(train.current_dir(directory.path()).args(["train", "--table", "table"])).expect(3);
    assert!(refused.stderr.contains("1 programs and training needs 3"), "{refused:?}");
    std::fs::write(directory.path().join("table/sets.csv"), "program\n").unwrap();
    let refused = label(directory.path(), &[]).expect(3);
    assert!(refused.stderr.contains("sets.csv"), "{refused:?}");
}

#[test]
fn what_cannot_be_labelled_is_refused_before_anything_is_run() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = tierscope();
    command.current_dir(directory.path()).args(["label", "--table", "table", "--programs", "colocate"]);
    let refused = run(&mut command).expect(2);
    assert!(
        refused.stderr.contains("no workload \"colocate\" can be labelled; there are attention-pruned"),
        "{refused:?}"
    );
    let mut command = tierscope();
    let refused = run(command.current_dir(directory.path()).args(["eval", "--table", "nowhere"])).expect(3);
    assert!(refused.stderr.contains("tierscope label --table DIR makes a table"), "{refused:?}");
}

/// Both tiers are this machine's memory, so nothing is learnt of the program; what is made of its runs is.
#[test]
fn a_program_of_the_users_is_measured_on_tiers_that_are_there() {
    if !have(&[Need::C]) {
        return;
    }
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ld_preload/include");
    let include = format!("-I{}", include.display());
    let program = Program::compile("gcc", &["-O1", "-g", &include], "patterns.c").arguments(&["scatter", "3000000"]);
    let directory = program.directory.path();
    std::fs::create_dir(directory.join("tier")).unwrap();
    let figures = |ns: u32, gbs: u32| format!("read_latency_ns = {ns}\nread_bandwidth_gbs = {gbs}\n");
    let tiers = format!(
        "schema = \"tierscope.tiers/1\"\n[tiers.near]\n{}[tiers.far]\n{}backend = \"file\"\ndir = \"{}\"\n",
        figures(100, 80),
        figures(250, 20),
        directory.join("tier").display()
    );
    std::fs::write(directory.join("tiers.toml"), tiers).unwrap();
    let measure = |options: &[&str]| {
        let mut command = tierscope();
        command.current_dir(directory).args(["label", "--table", "table"]).args(options).arg("--").args(program.line());
        run(&mut command)
    };

    let told = measure(&["--tiers", "tiers.toml", "--passes", "2"]).expect(0);
    assert!(told.stderr.contains("[2/2] all slow:") && told.stderr.contains("rows measured"), "{told:?}");
    let objects = rows(&directory.join("table/objects.csv"));
    let scatter = objects.iter().find(|row| row["name"] == "allocate_scatter").expect("a row for it");
    assert_eq!((scatter["machine"].as_str(), scatter["program"].as_str()), ("measured", "patterns"));
    assert_eq!((scatter["scale"].as_str(), scatter["tiers"].as_str()), ("scatter 3000000", "far"));
    assert_eq!((scatter["latency_x"].as_str(), scatter["bandwidth_x"].as_str()), ("2.5", "4"));
    assert!(scatter["clock.share"].parse::<f64>().unwrap() > 0.5, "{scatter:#?}");
    assert!(scatter["criticality"].parse::<f64>().unwrap().is_finite(), "{scatter:#?}");
    assert!(scatter["criticality_error"].parse::<f64>().unwrap() > 0.0, "{scatter:#?}");
    let sets = rows(&directory.join("table/sets.csv"));
    assert_eq!(sets.len(), 1, "all of them together: {sets:#?}");

    // What cannot be measured is refused.
    let refused = measure(&["--tiers", "ddr5,cxl-asic"]).expect(3);
    assert!(refused.stderr.contains("nothing can be put into cxl-asic: there is no memory behind it"), "{refused:?}");
    assert!(refused.stderr.contains("tierscope tiers --measure"), "{refused:?}");
    let refused = measure(&["--tiers", "tiers.toml", "--programs", "bc"]).expect(2);
    assert!(refused.stderr.contains("cannot be used with"), "{refused:?}");
}
