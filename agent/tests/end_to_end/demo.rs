//! `tierscope demo`: the first journey from end to end, on its smallest graph.

use crate::harness::{run, tierscope};

#[test]
fn the_demo_records_advises_places_and_compares() {
    // On a disk: files of a slow tier do not go into a temporary directory that is memory.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let profile = directory.path().join("demo.tsp");
    let mut command = tierscope();
    let outcome = run(command.args(["demo", "--scale", "tiny", "-o"]).arg(&profile)).expect(0);
    for said in ["allocate_neighbours", "fast memory", "what this does not know", "Compared: "] {
        assert!(outcome.stdout.contains(said), "{said:?} is not in\n{}", outcome.stdout);
    }
    assert!(outcome.stderr.contains("tierscope: placed "), "{}", outcome.stderr);
    // What is to come next can be run when the demo is over.
    let next = outcome.stdout.lines().find_map(|line| line.strip_prefix("next ")).expect("a next command").trim();
    run(tierscope().args(next.split(' ').skip(1)).current_dir(directory.path())).expect(0);
    assert!(outcome.stderr.contains("allocate_path_counts"), "{}", outcome.stderr);
    // The workload prints its result in the recording and in the run placed: the same.
    let sums: Vec<_> = outcome
        .stdout
        .lines()
        .filter_map(|line| Some(line.split_once("\"checksum\":\"")?.1.get(..16)?.to_owned()))
        .collect();
    assert_eq!(sums.len(), 2, "{}", outcome.stdout);
    assert_eq!(sums[0], sums[1]);
    let policy = std::fs::read_to_string(directory.path().join("demo.policy.toml")).unwrap();
    assert!(policy.contains("[[rule]]"), "{policy}");
    assert_eq!(
        std::fs::read_dir(directory.path().join("demo.slow")).unwrap().count(),
        0,
        "files of the tier have no name"
    );
}
