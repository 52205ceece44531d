//! Policies against machines that are made up, and against this one where a system call decides.

use super::*;
use tierscope_machine::{DaxDevice, DeviceKind, MemoryLimit, Node, SwapArea};

const GIB: u64 = 1 << 30;

/// Node 0 with 4 GiB, node 2 without memory.
fn machine() -> Machine {
    let node = |number, total_bytes| Node {
        number,
        total_bytes,
        available_bytes: total_bytes.map(|bytes: u64| bytes / 2),
        cpus: Vec::new(),
        distances: Vec::new(),
        attributes: None,
    };
    Machine { nodes: vec![node(0, Some(4 * GIB)), node(2, None)], ..Machine::default() }
}

fn findings_with(tier: &str, rules: &str, machine: &Machine) -> Vec<Finding> {
    let text = format!(
        "schema = \"tierscope.policy/1\"\n[tiers.a]\n{tier}\n[tiers.own]\nbackend = \"default\"\n\
         [tiers.unused]\nbackend = \"numa\"\nnodes = [77]\n[default]\ntier = \"own\"\n\
         [[rule]]\ntier = \"a\"\nsize = \">= 1 MiB\"\n{rules}"
    );
    let policy = Policy::parse(&text).unwrap_or_else(|errors| panic!("{errors}"));
    check(&policy, &Root::at("/nonexistent"), machine)
}

fn findings(tier: &str) -> Vec<Finding> {
    findings_with(tier, "", &machine())
}

/// The one thing that is wrong, and whether it is fatal.
#[track_caller]
fn only(findings: &[Finding]) -> (&str, bool) {
    match findings {
        [one] => {
            assert_eq!(one.mend.is_some(), one.is_fatal, "{one:?}");
            (&one.text, one.is_fatal)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_that_is_there_and_a_tier_nobody_uses_are_no_trouble() {
    assert_eq!(findings("backend = \"numa\"\nnodes = [0]\ncapacity = \"1 GiB\""), []);
}

#[test]
fn nodes_that_do_not_exist_or_have_no_memory_are_named() {
    let found = findings("backend = \"numa\"\nnodes = [7]");
    assert_eq!(only(&found), ("tier `a`: there is no NUMA node 7 here (nodes with memory: 0)", true));
    let found = findings("backend = \"interleave\"\nnodes = [0, 2]");
    assert_eq!(only(&found), ("tier `a`: NUMA node 2 has no memory (nodes with memory: 0)", true));
    assert_eq!(findings("backend = \"numa\"\nnodes = [5, 6]").len(), 2);
}

/// The made-up machine has a node the real one has not: binding to it is tried, and fails.
#[test]
fn a_node_this_process_may_not_use_is_refused() {
    let mut made_up = machine();
    made_up.nodes[1].total_bytes = Some(GIB);
    made_up.nodes[1].number = 1000;
    let found = findings_with("backend = \"numa\"\nnodes = [1000]", "", &made_up);
    let (text, fatal) = only(&found);
    assert!(
        fatal && text.starts_with("tier `a`: memory cannot be placed on NUMA node 1000: Invalid argument"),
        "{text}"
    );
}

#[test]
fn more_than_the_memory_there_is_is_refused_and_more_than_is_free_is_told() {
    let found = findings("backend = \"numa\"\nnodes = [0]\ncapacity = \"5 GiB\"");
    assert_eq!(only(&found), ("tier `a`: its capacity is 5 GiB, and its nodes have 4 GiB in all", true));
    let found = findings("backend = \"numa\"\nnodes = [0]\ncapacity = \"3 GiB\"");
    assert_eq!(only(&found), ("tier `a`: its capacity is 3 GiB, and of its nodes only 2 GiB are free now", false));
    let limited =
        Machine { limit: Some(MemoryLimit { cgroup_version: 2, bytes: Some(GIB / 2), used_bytes: None }), ..machine() };
    let found = findings_with("backend = \"numa\"\nnodes = [0]\ncapacity = \"1 GiB\"", "", &limited);
    let text = "tier `a`: its capacity is 1 GiB, above this process's memory limit of 512 MiB";
    assert_eq!(only(&found), (text, false));
}

#[test]
fn a_directory_must_be_one_and_take_files() {
    let place = tempfile::tempdir().unwrap();
    let dir = |path: &Path| format!("backend = \"file\"\ndir = \"{}\"", path.display());
    assert!(findings(&dir(place.path())).iter().all(|finding| !finding.is_fatal));
    let missing = findings(&dir(&place.path().join("missing")));
    let (text, fatal) = only(&missing);
    assert!(fatal && text.contains("No such file or directory"), "{text}");
    assert!(missing[0].mend.as_ref().unwrap().starts_with("mkdir -p /"));
    std::fs::write(place.path().join("file"), "").unwrap();
    let file = findings(&dir(&place.path().join("file")));
    assert!(only(&file).1 && file[0].text.ends_with("is no directory"));
    // Where no user can make a file.
    let proc = findings(&dir(Path::new("/proc")));
    assert!(only(&proc).1 && proc[0].text.contains("no memory can be had from a file in /proc"), "{proc:?}");
}

#[test]
fn a_capacity_beyond_the_directorys_disk_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let tier = format!("backend = \"file\"\ndir = \"{}\"\ncapacity = \"900 TiB\"", place.path().display());
    let found: Vec<Finding> = findings(&tier).into_iter().filter(|finding| finding.is_fatal).collect();
    assert!(only(&found).0.contains("its capacity is 900 TiB, and "), "{found:?}");
}

#[test]
fn a_tmpfs_is_memory() {
    let found = findings("backend = \"file\"\ndir = \"/dev/shm\"");
    let (text, fatal) = only(&found);
    assert!(!fatal && text.contains("on tmpfs, which is memory itself"), "{text}");
}

#[test]
fn devices_that_are_none_are_refused() {
    for (device, why) in
        [("/dev/dax99.0", "No such file"), ("/etc/passwd", "no DAX device"), ("/dev/null", "no DAX device")]
    {
        let found = findings(&format!("backend = \"dax\"\ndevice = \"{device}\""));
        let (text, fatal) = only(&found);
        assert!(fatal && text.contains(device) && text.contains(why), "{text}");
    }
}

#[test]
fn a_device_the_kernel_has_is_a_node_and_a_small_one_is_told() {
    let with = |driver: &str| Machine {
        dax: vec![DaxDevice {
            name: "null".into(),
            bytes: Some(GIB),
            target_node: Some(3),
            driver: Some(driver.into()),
        }],
        ..machine()
    };
    let tier = "backend = \"dax\"\ndevice = \"/dev/null\"\ncapacity = \"2 GiB\"";
    let found = findings_with(tier, "", &with("kmem"));
    assert!(only(&found).1 && found[0].text.ends_with("given to the kernel, as memory of NUMA node 3"), "{found:?}");
    let found = findings_with(tier, "", &with("device_dax"));
    assert_eq!(only(&found), ("tier `a`: its capacity is 2 GiB, and /dev/null has 1 GiB", true));
}

#[test]
fn a_device_that_programs_cannot_map_is_refused() {
    let with = |driver: Option<&str>| Machine {
        dax: vec![DaxDevice {
            name: "null".into(),
            bytes: Some(GIB),
            target_node: None,
            driver: driver.map(Into::into),
        }],
        ..machine()
    };
    let tier = "backend = \"dax\"\ndevice = \"/dev/null\"";
    let found = findings_with(tier, "", &with(None));
    assert_eq!(only(&found), ("tier `a`: /dev/null has no driver that lets programs map it", true));
    // By its driver it could be; the kernel has the last word.
    let found = findings_with(tier, "", &with(Some("device_dax")));
    assert!(only(&found).1 && found[0].text.starts_with("tier `a`: /dev/null cannot be mapped: "), "{found:?}");
}

#[test]
fn a_device_that_another_process_has_is_a_warning() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [0; 4096]).unwrap();
    assert!(map_a_granule(file.path(), 4096).unwrap());
    let other = std::fs::File::open(file.path()).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(!map_a_granule(file.path(), 4096).unwrap());
}

#[test]
fn nothing_is_given_up_to_swap_where_there_is_none_or_not_enough() {
    let found = findings("backend = \"swap\"");
    assert_eq!(only(&found), ("tier `a`: no swap is in use here, so nothing can be given up to it", true));
    let area =
        SwapArea { path: "/swap".into(), bytes: GIB, used_bytes: 0, priority: 0, kind: DeviceKind::Other, zram: None };
    let with_swap = Machine { swap: vec![area], ..machine() };
    assert_eq!(findings_with("backend = \"swap\"", "", &with_swap), []);
    let found = findings_with("backend = \"swap\"\ncapacity = \"2 GiB\"", "", &with_swap);
    assert_eq!(only(&found), ("tier `a`: its capacity is 2 GiB, and the swap areas have 1 GiB in all", true));
}

#[test]
fn weights_are_the_machines() {
    let tree = tempfile::tempdir().unwrap();
    let weights = tree.path().join("sys/kernel/mm/mempolicy/weighted_interleave");
    let mut checks = Checks { root: &Root::at(tree.path()), machine: &machine(), tier: "a", findings: Vec::new() };
    checks.weights(&[0, 1], &[3, 1]);
    assert!(checks.findings[0].text.contains("no weighted interleaving"));
    std::fs::create_dir_all(&weights).unwrap();
    std::fs::write(weights.join("node0"), "3\n").unwrap();
    std::fs::write(weights.join("node1"), "2\n").unwrap();
    checks.findings.clear();
    checks.weights(&[0, 1], &[3, 2]);
    assert_eq!(checks.findings, []);
    checks.weights(&[0, 1], &[3, 1]);
    let (text, fatal) = only(&checks.findings);
    assert!(!fatal && text.contains("node 1 has weight 2 on this machine, not 1 (`echo 1 > /sys/kernel"), "{text}");
}

#[test]
fn a_global_for_a_file_is_told_to_stay() {
    let place = tempfile::tempdir().unwrap();
    let tier = format!("backend = \"file\"\ndir = \"{}\"", place.path().display());
    let found = findings_with(&tier, "[[rule]]\ntier = \"a\"\nsymbol = \"u0\"\nmodule = \"x\"\n", &machine());
    let stays: Vec<&Finding> =
        found.iter().filter(|finding| finding.text.contains("the global of rule 2 stays")).collect();
    assert!(stays.len() == 1 && !stays[0].is_fatal, "{found:?}");
}
