//! Which tiers are chosen on machines that are not on the desk.

use super::choice::Choice;
use crate::cli::{AdviseArguments, Cli, Command};
use clap::Parser;
use tierscope_machine::{Attributes, DaxDevice, KernelTier, Machine, Node};
use tierscope_policy::Policy;
use tierscope_tiers::{Backend, Quantity};
use tierscope_traces::SimulatedTiers;

fn arguments(options: &[&str]) -> AdviseArguments {
    let line = ["tierscope", "advise", "app.tsp", "--fast", "25%"].iter().chain(options);
    match Cli::try_parse_from(line).unwrap().command {
        Command::Advise(arguments) => arguments,
        other => panic!("{other:?}"),
    }
}

fn node(number: u16, cpus: &[u32], latency: Option<u64>) -> Node {
    let attributes = Attributes {
        access_class: 1,
        read_latency_ns: latency,
        write_latency_ns: None,
        read_bandwidth_mbs: Some(50_000),
        write_bandwidth_mbs: None,
    };
    Node {
        number,
        total_bytes: Some(8 << 30),
        available_bytes: Some(4 << 30),
        cpus: cpus.to_vec(),
        distances: Vec::new(),
        attributes: Some(attributes).filter(|_| latency.is_some()),
    }
}

fn machine(nodes: Vec<Node>) -> Machine {
    Machine { nodes, ..Machine::default() }
}

fn chosen(options: &[&str], machine: &Machine) -> Choice {
    Choice::make(&arguments(options), machine, None, None, "2026-11-21").unwrap()
}

fn refused(options: &[&str], machine: &Machine) -> String {
    Choice::make(&arguments(options), machine, None, None, "2026-11-21").unwrap_err().to_string()
}

/// Name, nodes and latency of each tier.
fn described(choice: &Choice) -> Vec<(&str, Vec<u16>, f64)> {
    let nodes = |backend: &Option<Backend>| match backend {
        Some(Backend::Numa { nodes, .. }) => nodes.clone(),
        _ => Vec::new(),
    };
    let tier = |tier: &tierscope_tiers::Tier| tier.value(Quantity::ReadLatencyNs).unwrap();
    choice.tiers.iter().map(|each| (each.name.as_str(), nodes(&each.backend), tier(each))).collect()
}

#[test]
fn what_the_firmware_states_of_two_kinds_is_no_assumption() {
    let machine = machine(vec![node(0, &[0, 1], Some(80)), node(1, &[], Some(300))]);
    for options in [&[][..], &["--slow-node", "1"], &["--fast-node", "0", "--slow-node", "1"]] {
        let choice = chosen(options, &machine);
        assert_eq!(described(&choice), [("node0", vec![0], 80.0), ("node1", vec![1], 300.0)], "{options:?}");
        assert!(choice.assumptions.is_empty() && choice.obstacles(&machine).is_empty(), "{choice:?}");
    }
    let notes = chosen(&[], &machine).notes();
    assert_eq!(notes[1].behind.as_deref(), Some("node 1"));
    assert!(notes[1].source.as_ref().is_some_and(|source| source.starts_with("HMAT")), "{notes:?}");
}

#[test]
fn two_kinds_of_which_nothing_is_stated_borrow_the_figures_of_presets() {
    let machine = machine(vec![node(0, &[0], None), node(1, &[1], None), node(2, &[], None)]);
    let choice = chosen(&[], &machine);
    assert_eq!(described(&choice), [("node0-1", vec![0, 1], 114.0), ("node2", vec![2], 271.0)]);
    assert!(choice.assumptions[0].contains("does not say how fast") && choice.assumptions[0].contains("--measure"));
    assert_eq!(choice.tiers[0].capacity(), Some(16 << 30));
    assert!(choice.obstacles(&machine).is_empty());
}

#[test]
fn three_kinds_of_which_nothing_is_stated_must_be_measured() {
    let mut machine = machine(vec![node(0, &[0], None), node(1, &[], None), node(2, &[], None)]);
    let tier = |rank, node| KernelTier { rank, nodes: vec![node] };
    machine.kernel_tiers = vec![tier(4, 0), tier(22, 1), tier(30, 2)];
    let said = refused(&[], &machine);
    assert!(said.contains("node0, node1, node2") && said.contains("--measure"), "{said}");
    // Naming a pair is a way out, too.
    assert_eq!(described(&chosen(&["--slow-node", "1"], &machine))[1], ("cxl-asic", vec![1], 271.0));
}

#[test]
fn one_kind_of_memory_stands_for_the_fast_tier_and_nothing_for_the_slow_one() {
    let machine = machine(vec![node(0, &[0, 1], None)]);
    let choice = chosen(&[], &machine);
    assert_eq!(described(&choice), [("ddr5", vec![0], 114.0), ("cxl-asic", vec![], 271.0)]);
    assert!(choice.assumptions[0].starts_with("This machine has one kind of memory"), "{choice:?}");
    let obstacles = choice.obstacles(&machine);
    assert!(obstacles.len() == 1 && obstacles[0].contains("--slow-dir") && obstacles[0].contains("cxl-asic"));
    assert_eq!(choice.placed()[1].backend, None);
    // Where not even nodes are shown, what is fast stays with the program's own allocator.
    let bare = Machine::default();
    let choice = chosen(&[], &bare);
    assert_eq!((choice.tiers[0].backend.clone(), choice.obstacles(&bare).len()), (None, 1));
    assert_eq!(choice.notes()[0].behind.as_deref(), Some("the program's own allocator"));
}

#[test]
fn the_other_socket_is_memory_of_another_socket() {
    let machine = machine(vec![node(0, &[0], None), node(1, &[1], None)]);
    let choice = chosen(&["--slow-node", "1"], &machine);
    assert_eq!(described(&choice), [("ddr4", vec![0], 101.0), ("remote-ddr4", vec![1], 140.0)]);
    assert!(choice.assumptions[0].contains("is not known"), "{choice:?}");
    assert!(refused(&["--slow-node", "7"], &machine).contains("node 7 has no memory here"));
}

#[test]
fn files_are_slow_as_their_device_is_and_read_in_pages() {
    let machine = machine(vec![node(0, &[0], None)]);
    let folder = tempfile::tempdir().unwrap();
    let choice = chosen(&["--slow-dir", folder.path().to_str().unwrap()], &machine);
    let dir = folder.path().canonicalize().unwrap().to_str().unwrap().to_owned();
    assert_eq!(choice.tiers[1].backend, Some(Backend::File { dir: dir.clone() }));
    assert_eq!(choice.notes()[1].behind, Some(format!("files in {dir}")));
    let priced = choice.priced();
    assert!(!priced[0].paged && priced[1].paged && priced[1].latency_ns > 1e3, "{priced:?}");
    assert!(choice.obstacles(&machine).is_empty());
    // The advice says how much of the first may be used, and files take what there is room for.
    assert!(choice.placed().iter().all(|tier| tier.capacity.is_none()));
}

#[test]
fn a_device_that_programs_can_map_is_behind_the_slowest_tier() {
    let device = |name: &str, driver: &str| DaxDevice {
        name: name.into(),
        bytes: Some(16 << 30),
        target_node: Some(3),
        driver: Some(driver.into()),
    };
    let dax = |name: &str| Some(Backend::Dax { device: format!("/dev/{name}") });
    let mut machine = machine(vec![node(0, &[0], None)]);
    machine.dax = vec![device("dax0.0", "kmem"), device("dax1.0", "device_dax")];
    let choice = chosen(&[], &machine);
    assert_eq!((choice.tiers[1].backend.clone(), choice.tiers[1].capacity()), (dax("dax1.0"), Some(16 << 30)));
    assert!(choice.assumptions[0].starts_with("How fast /dev/dax1.0 is is not known"), "{choice:?}");
    // Of two, somebody has to say which.
    machine.dax.push(device("null", "device_dax"));
    assert_eq!(chosen(&[], &machine).tiers[1].backend, None);
    assert_eq!(chosen(&["--slow-dax", "/dev/null"], &machine).tiers[1].backend, dax("null"));
    assert!(refused(&["--slow-dax", "/dev/dax77.0"], &machine).contains("No such file"));
}

#[test]
fn a_file_of_tiers_brings_its_back_ends_and_options_go_before_them() {
    let machine = machine(vec![node(0, &[0], None)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let text = "schema = \"tierscope.tiers/1\"\n[tiers.near]\nread_latency_ns = 100\n\
                [tiers.middling]\nread_latency_ns = 200\ncapacity = \"1 GiB\"\nbackend = \"dax\"\ndevice = \"/dev/dax9.9\"\n\
                [tiers.unknown]\n[tiers.far]\nread_latency_ns = 300\nbackend = \"numa\"\nnodes = [5]\n";
    std::fs::write(&file, text).unwrap();
    let named = ["--tiers", file.to_str().unwrap()];
    let choice = chosen(&named, &machine);
    assert_eq!(described(&choice), [("near", vec![0], 100.0), ("middling", vec![], 200.0), ("far", vec![5], 300.0)]);
    assert!(choice.assumptions[0].starts_with("unknown is left out"), "{choice:?}");
    let obstacles = choice.obstacles(&machine).join("\n");
    assert!(obstacles.contains("/dev/dax9.9") && obstacles.contains("node 5 has no memory here"), "{obstacles}");
    // What is between must not hold more than was planned with.
    let capacities: Vec<Option<u64>> = choice.placed().into_iter().map(|tier| tier.capacity).collect();
    assert_eq!(capacities, [None, Some(1 << 30), None]);
    let dir = folder.path().to_str().unwrap();
    let choice = chosen(&[&named[..], &["--slow-dir", dir]].concat(), &machine);
    assert!(matches!(choice.tiers[2].backend, Some(Backend::File { .. })), "{choice:?}");
}

#[test]
fn tiers_that_are_equally_fast_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("equal.toml");
    let text = "schema = \"tierscope.tiers/1\"\n[tiers.a]\nread_latency_ns = 100\n[tiers.b]\nread_latency_ns = 100\n\
                [tiers.c]\nread_latency_ns = 100\nread_bandwidth_gbs = 10\n";
    std::fs::write(&file, text).unwrap();
    let choice = chosen(&["--tiers", file.to_str().unwrap()], &machine(vec![node(0, &[0], None)]));
    assert_eq!(choice.assumptions.len(), 1, "{choice:?}");
    assert!(choice.assumptions[0].starts_with("a and b are equally fast"), "{choice:?}");
}

#[test]
fn an_earlier_policy_says_what_is_behind_tiers_of_the_same_names() {
    let machine = machine(vec![node(0, &[0], None)]);
    let text = "schema = \"tierscope.policy/1\"\ndefault.tier = \"cxl-asic\"\n\
                [tiers.ddr5]\nbackend = \"default\"\n[tiers.cxl-asic]\nbackend = \"swap\"\n";
    let earlier = Policy::parse(text).unwrap();
    let choice = Choice::make(&arguments(&[]), &machine, None, Some(&earlier), "2026-11-21").unwrap();
    assert_eq!(choice.tiers[1].backend, Some(Backend::Swap));
    assert!(choice.obstacles(&machine)[0].contains("no swap area"), "{choice:?}");
}

#[test]
fn a_simulated_profile_is_advised_on_with_the_tiers_it_was_modelled_with() {
    let simulated = SimulatedTiers {
        name: "cxl".into(),
        fast: "ddr5".into(),
        slow: "cxl".into(),
        fast_figures: serde_json::json!({"read_latency_ns": 110.0, "read_bandwidth_gbs": 200.0}),
        slow_figures: serde_json::json!({"read_latency_ns": 271.0}),
    };
    let machine = Machine::default();
    let choice = Choice::make(&arguments(&[]), &machine, Some(&simulated), None, "2026-11-21").unwrap();
    let tiers: Vec<(&str, Option<f64>)> =
        choice.tiers.iter().map(|tier| (tier.name.as_str(), tier.value(Quantity::ReadLatencyNs))).collect();
    assert_eq!(tiers, [("ddr5", Some(110.0)), ("cxl", Some(271.0))]);
    let asked = arguments(&["--tiers", "ddr4,optane-100x6"]);
    let asked = Choice::make(&asked, &machine, Some(&simulated), None, "2026-11-21").unwrap();
    assert_eq!(asked.tiers[0].name, "ddr4");
}
