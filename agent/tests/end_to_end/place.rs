//! `tierscope run`, `compile` and `shim` as a user has them: a policy, a program, and what is told of it afterwards.
//!
//! The program has three sites (`make_index` of 8 MiB, `make_table` of 16 MiB, `grow_log` to 4 MiB) and a global. Its slow tier is
//! a directory, which every machine has.

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tierscope_binary::{CallSite, Module, Symbolizer};

use crate::environment::SmallDisk;
use crate::harness::{Outcome, Running, run, source, tierscope, wait_until};
use crate::needs::{Need, have};

const MIB: u64 = 1 << 20;

/// The program and a directory for everything about it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// `None` without a compiler.
    fn new() -> Option<Self> {
        if !have(&[Need::C]) {
            return None;
        }
        let place = Place { directory: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.path("tier")).unwrap();
        place.build(&[]);
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn build(&self, flags: &[&str]) {
        self.build_from(&source("sites.c"), flags);
    }

    fn build_from(&self, source: &Path, flags: &[&str]) {
        let flags = ["-O1", "-g", "-fno-optimize-sibling-calls"].iter().chain(flags);
        let outcome = run(Command::new("gcc").args(flags).arg("-o").arg(self.path("sites")).arg(source));
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    }

    /// The call of an allocation function in one of the program's.
    fn site(&self, function: &str) -> CallSite {
        let module = Module::open(self.path("sites")).unwrap();
        let mut found = Symbolizer::default().call_sites(&module, &HashSet::from([function.to_owned()]));
        found.remove(function).unwrap_or_else(|| panic!("no call in {function}")).remove(0)
    }

    /// A policy that puts index and table into files and leaves the rest, made for the build that is there.
    fn write_policy(&self, more: &str) -> PathBuf {
        let module = Module::open(self.path("sites")).unwrap();
        let build_id: String = module.build_id().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut text = format!(
            "schema = \"tierscope.policy/1\"\n[program]\nname = \"sites\"\nbuild_id = \"{build_id}\"\n\
             [tiers.own]\nbackend = \"default\"\n\
             [tiers.slow]\nbackend = \"file\"\ndir = \"{}\"\ncapacity = \"64 MiB\"\n[default]\ntier = \"own\"\n",
            self.path("tier").display()
        );
        for function in ["make_index", "make_table"] {
            let CallSite { return_address, line, .. } = self.site(function);
            let line = line.unwrap();
            text += &format!(
                "[[rule]]\ntier = \"slow\"\nsite = [\"sites+{return_address:#x}\"]\nframes = [\"{function} sites.c:{line}\"]\n"
            );
        }
        let path = self.path("sites.policy.toml");
        std::fs::write(&path, text + more).unwrap();
        path
    }

    /// The command that runs `command` under the policy, with the counts going to a file.
    fn command(&self, options: &[&str], command: &[&str]) -> Command {
        let mut under = tierscope();
        under.args(["run", "--policy"]).arg(self.path("sites.policy.toml")).arg("--stats").arg(self.path("stats.json"));
        under.args(options).arg("--").args(command).current_dir(self.directory.path());
        under
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Outcome {
        run(&mut self.command(options, command))
    }

    fn stats(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path("stats.json")).unwrap()).unwrap()
    }
}

/// Blocks and bytes of the rule of that number.
fn placed(stats: &Value, rule: usize) -> (u64, u64) {
    let rule = &stats["rules"][rule - 1];
    (rule["blocks"].as_u64().unwrap(), rule["bytes"].as_u64().unwrap())
}

#[test]
fn the_blocks_of_a_policy_are_placed_and_no_others() {
    let Some(place) = Place::new() else { return };
    place.write_policy("");
    let alone = run(Command::new(place.path("sites")).arg("status").arg("0")).expect(0);
    let outcome = place.run(&[], &["./sites"]).expect(0);
    assert_eq!(outcome.stdout, alone.stdout);
    let stats = place.stats();
    assert_eq!((placed(&stats, 1), placed(&stats, 2)), ((1, 8 * MIB), (1, 16 * MIB)), "{stats:#}");
    let slow = &stats["tiers"][1];
    assert_eq!((&slow["name"], &slow["blocks"], &slow["bytes_peak"]), (&"slow".into(), &2.into(), &(24 * MIB).into()));
    assert_eq!((&slow["bytes_left"], &stats["processes"], &stats["gave_up"]), (&0.into(), &1.into(), &false.into()));
    for words in ["placed 2 blocks by ", "slow (files in ", "2 blocks, 24 MiB at once", "make_index sites.c:"] {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("left out") && !outcome.stderr.contains("matched nothing"), "{}", outcome.stderr);
    // The files of a tier have no names that could be left behind.
    assert_eq!(std::fs::read_dir(place.path("tier")).unwrap().count(), 0);
}

#[test]
fn rules_that_do_nothing_are_named() {
    let Some(place) = Place::new() else { return };
    place.write_policy(
        "[[rule]]\ntier = \"slow\"\nsite = [\"sites+0x10\"]\nframes = [\"never sites.c:1\"]\n\
         [[rule]]\ntier = \"slow\"\nsymbol = \"nosuch\"\n[[rule]]\ntier = \"slow\"\nsymbol = \"weights\"\n",
    );
    let stderr = place.run(&[], &["./sites"]).expect(0).stderr;
    for words in [
        "rule 3 -> slow: matched nothing: never sites.c:1",
        "rule 4 -> slow was left out: global nosuch: `sites` has no global `nosuch`",
        "the global of rule 5 stays where it is",
        "rule 5 -> slow: could not be moved: Operation not supported",
    ] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
}

#[test]
fn a_rebuilt_program_is_matched_by_line_or_by_function_or_not_at_all() {
    let Some(place) = Place::new() else { return };
    place.write_policy("");
    let before = place.site("make_table").return_address;
    place.build(&["-DEXTRA"]);
    assert_ne!(place.site("make_table").return_address, before, "the rebuild moved nothing");
    let found = |stats: &Value| (stats["rules"][0]["found"].clone(), placed(stats, 1), placed(stats, 2));
    let both = ((1, 8 * MIB), (1, 16 * MIB));
    let stderr = place.run(&[], &["./sites"]).expect(0).stderr;
    assert_eq!(found(&place.stats()), ("line".into(), both.0, both.1), "{stderr}");
    assert!(stderr.contains("sites is not of the build the policy was made for"), "{stderr}");
    assert!(!stderr.contains("left out"), "{stderr}");
    // A line above moves every line below, and no function.
    std::fs::write(place.path("sites.c"), format!("\n{}", std::fs::read_to_string(source("sites.c")).unwrap()))
        .unwrap();
    place.build_from(&place.path("sites.c"), &[]);
    let stderr = place.run(&[], &["./sites"]).expect(0).stderr;
    assert!(
        stderr.contains("2 of 2 rules cannot be found") && stderr.contains("--strict function finds them"),
        "{stderr}"
    );
    place.run(&["--strict", "function"], &["./sites"]).expect(0);
    assert_eq!(found(&place.stats()), ("function".into(), both.0, both.1));
    let stderr = place.run(&["--strict", "exact"], &["./sites"]).expect(0).stderr;
    assert_eq!(found(&place.stats()), (Value::Null, (0, 0), (0, 0)));
    assert!(stderr.contains("2 of 2 rules cannot be found") && stderr.contains("`match` is \"exact\""), "{stderr}");
}

/// A whole stack, as a profile has it, ends in start-up code and the C library, of which nothing has lines.
#[test]
fn a_site_of_a_profile_holds_after_a_rebuild() {
    let Some(place) = Place::new() else { return };
    let profile = place.path("p.tsp");
    let record = |command: &mut Command| run(command.current_dir(place.directory.path())).expect(0);
    record(tierscope().arg("record").arg("-o").arg(&profile).args(["--", "./sites"]));
    let report = run(tierscope().args(["report", "--json", "-n", "100"]).arg(&profile)).expect(0).stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    let objects = report["objects"].as_array().unwrap();
    let table = objects.iter().find(|object| object["name"].as_str().is_some_and(|name| name.contains("make_table")));
    let site = table.unwrap_or_else(|| panic!("{report:#}"))["site"].as_array().unwrap();
    let frames: Vec<(&str, &str)> = site
        .iter()
        .map(|frame| frame.as_str().unwrap())
        .map(|frame| frame.split_once(' ').unwrap_or((frame, "")))
        .collect();
    assert!(frames.len() > 3, "{frames:?}");
    let (places, names): (Vec<&str>, Vec<&str>) = frames.into_iter().unzip();
    let rule = format!("[[rule]]\ntier = \"slow\"\nsite = {places:?}\nframes = {names:?}\n");
    let policy = place.write_policy("");
    let text = std::fs::read_to_string(&policy).unwrap();
    let head = text.split("[[rule]]").next().unwrap();
    std::fs::write(&policy, format!("{head}{rule}")).unwrap();

    place.run(&[], &["./sites"]).expect(0);
    assert_eq!(placed(&place.stats(), 1), (1, 16 * MIB), "{rule}{:#}", place.stats());
    place.build(&["-DEXTRA"]);
    let stderr = place.run(&[], &["./sites"]).expect(0).stderr;
    assert_eq!(placed(&place.stats(), 1), (1, 16 * MIB), "{rule}{stderr}");
}

/// What has no room goes where it went without us, and is counted.
#[test]
fn what_finds_no_room_is_told() {
    let Some(place) = Place::new() else { return };
    let policy = place.write_policy("");
    let text = std::fs::read_to_string(&policy).unwrap().replace("64 MiB", "10 MiB");
    std::fs::write(&policy, text).unwrap();
    let outcome = place.run(&[], &["./sites"]).expect(0);
    let stats = place.stats();
    assert_eq!((placed(&stats, 1), placed(&stats, 2)), ((1, 8 * MIB), (0, 0)), "{stats:#}");
    assert_eq!(stats["rules"][1]["spilled_bytes"], 16 * MIB);
    assert!(outcome.stderr.contains("1 block (16 MiB) meant for it went elsewhere: no room"), "{}", outcome.stderr);
}

#[test]
fn the_programs_end_is_ours() {
    let Some(place) = Place::new() else { return };
    place.write_policy("");
    assert_eq!(place.run(&[], &["./sites", "status", "7"]).expect(7).signal, None);
    assert_eq!(place.stats()["exit_status"], 7);
    // By the shell's convention, as record does it; what was placed is told all the same.
    place.run(&[], &["./sites", "kill", "6"]).expect(128 + 6);
    let stats = place.stats();
    assert_eq!((&stats["signal"], placed(&stats, 2)), (&6.into(), (1, 16 * MIB)));
}

#[test]
fn signals_are_passed_on() {
    use rustix::process::Signal;
    let Some(place) = Place::new() else { return };
    place.write_policy("");
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::USR1, 138), (Signal::HUP, 129)] {
        let ready = place.path("ready");
        let _ = std::fs::remove_file(&ready);
        let running = Running::start(&mut place.command(&["-q"], &["./sites", "touch", "ready", "wait"]));
        wait_until("the program waits", || ready.exists());
        running.signal(signal);
        let outcome = running.wait().expect(status);
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn children_and_what_they_execute_are_placed_and_counted_too() {
    let Some(place) = Place::new() else { return };
    place.write_policy("");
    place.run(&[], &["./sites", "fork", "again", "./sites", "status", "4"]).expect(4);
    let stats = place.stats();
    assert_eq!(placed(&stats, 1), (3, 24 * MIB), "{stats:#}");
    assert_eq!(stats["processes"], 3);
    // Through a program of the system that knows nothing of the policy.
    place.run(&[], &["timeout", "60", "./sites"]).expect(0);
    assert_eq!(placed(&place.stats(), 2), (1, 16 * MIB));
    place.run(&[], &["sh", "-c", "./sites; ./sites"]).expect(0);
    assert_eq!(placed(&place.stats(), 2), (2, 32 * MIB), "{:#}", place.stats());
}

#[test]
fn a_library_the_user_preloads_stays() {
    let Some(place) = Place::new() else { return };
    place.write_policy("");
    let mut command = place.command(&[], &["sh", "-c", "echo \"$LD_PRELOAD\"; ./sites"]);
    let stdout = run(command.env("LD_PRELOAD", "libm.so.6")).expect(0).stdout;
    let first = stdout.lines().next().unwrap();
    assert!(first.ends_with("/libtierscope_preload.so:libm.so.6"), "{first}");
    assert_eq!(placed(&place.stats(), 1), (1, 8 * MIB));
}

/// Recording a run under a policy takes one copy of the library for both.
#[test]
fn a_run_can_be_recorded() {
    let Some(place) = Place::new() else { return };
    let policy = place.write_policy("");
    let profile = place.path("p.tsp");
    let mut command = tierscope();
    command.arg("record").arg("-o").arg(&profile).arg("--").arg(env!("CARGO_BIN_EXE_tierscope"));
    command.args(["run", "--policy"]).arg(&policy).arg("--stats").arg(place.path("stats.json"));
    let outcome = run(command.args(["--", "./sites", "status", "5"]).current_dir(place.directory.path())).expect(5);
    assert_eq!(placed(&place.stats(), 1), (1, 8 * MIB), "{}", outcome.stderr);
}

#[test]
fn what_stands_against_a_policy_is_said_before_the_program_starts() {
    let Some(place) = Place::new() else { return };
    let policy = place.write_policy("");
    let good = std::fs::read_to_string(&policy).unwrap();
    let dir = format!("{}", place.path("tier").display());
    let cases: [(&str, &str, i32, &[&str]); 9] = [
        (&dir, "/nonexistent/tier", 3, &["tier `slow`", "/nonexistent/tier", "No such file", "mkdir -p"]),
        (&dir, "/proc", 3, &["no memory can be had from a file in /proc"]),
        ("64 MiB", "900 TiB", 3, &["capacity is 900 TiB", "in all"]),
        ("backend = \"default\"", "backend = \"numa\"\nnodes = [999]", 3, &["no NUMA node 999", "tierscope tiers"]),
        ("backend = \"default\"", "backend = \"dax\"\ndevice = \"/dev/dax77.0\"", 3, &["/dev/dax77.0", "No such file"]),
        ("tier = \"slow\"", "tier = \"slwo\"", 2, &["line 14, column 8", "did you mean `slow`?"]),
        ("[program]", "[program", 2, &["line 2", "not TOML"]),
        ("capacity", "capasity", 2, &["line 10, column 1", "capacity"]),
        (
            "[default]",
            "[[rule]]\ntier = \"own\"\nsite = [\"sites+0x1\"]\n[[rule]]\ntier = \"slow\"\nsite = [\"sites+0x1\"]\n[default]",
            2,
            &["line"],
        ),
    ];
    for (from, to, status, words) in cases {
        std::fs::write(&policy, good.replace(from, to)).unwrap();
        let outcome = place.run(&[], &["./sites", "touch", "started"]).expect(status);
        for word in words {
            assert!(outcome.stderr.contains(word), "{to}: '{word}' is not in: {}", outcome.stderr);
        }
        assert!(outcome.stdout.is_empty() && !place.path("started").exists(), "{to}: the program was started");
        assert!(!place.path("stats.json").exists(), "{to}: counts of nothing were left behind");
    }
    std::fs::write(&policy, good).unwrap();
    let refused = |options: &[&str], command: &[&str], word: &str| {
        let outcome = place.run(options, command).expect(3);
        assert!(outcome.stderr.contains(word), "'{word}' is not in: {}", outcome.stderr);
    };
    refused(&[], &["./nosuchprogram"], "nosuchprogram does not exist");
    std::fs::remove_file(&policy).unwrap();
    refused(&[], &["./sites"], "cannot read the policy");
}

#[test]
fn a_static_program_is_not_started() {
    if !have(&[Need::StaticLibc]) {
        return;
    }
    let Some(place) = Place::new() else { return };
    place.write_policy("");
    place.build(&["-static"]);
    let outcome = place.run(&[], &["./sites", "touch", "started"]).expect(3);
    assert!(outcome.stderr.contains("statically linked") && !place.path("started").exists(), "{}", outcome.stderr);
}

#[test]
fn a_full_directory_is_refused() {
    if !have(&[Need::Mount]) {
        return;
    }
    let Some(place) = Place::new() else { return };
    let policy = place.write_policy("");
    let disk = SmallDisk::mount().unwrap();
    let text = std::fs::read_to_string(&policy).unwrap();
    let dir = place.path("tier").display().to_string();
    std::fs::write(&policy, text.replace(&dir, &disk.path().display().to_string())).unwrap();
    let mut file = std::fs::File::create(disk.path().join("filling")).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let outcome = place.run(&[], &["./sites", "touch", "started"]).expect(3);
    assert!(outcome.stderr.contains("is full: No space left on device"), "{}", outcome.stderr);
    assert!(!place.path("started").exists());
}

#[test]
fn a_program_that_loads_no_library_of_ours_is_told() {
    let Some(place) = Place::new() else { return };
    place.write_policy("");
    let outcome = place.run(&[], &["env", "-i", "./sites"]).expect(0);
    // env itself loads it; what it starts does not.
    assert!(outcome.stderr.contains("rule 1 -> slow: matched nothing"), "{}", outcome.stderr);
    assert_eq!(place.stats()["rules"][0]["blocks"], 0);
}

#[test]
fn a_table_and_the_library_place_without_us() {
    let Some(place) = Place::new() else { return };
    let policy = place.write_policy("");
    let (table, library) = (place.path("sites.table"), place.path("shim.so"));
    let in_place = |command: &mut Command| run(command.current_dir(place.directory.path()));
    let compile = || {
        let mut command = tierscope();
        command.arg("compile").arg(&policy).arg("-o").arg(&table).args(["--", "./sites"]);
        command
    };
    let told = in_place(&mut compile()).expect(0).stdout;
    assert!(told.contains("rule 1: make_index sites.c:") && told.contains("2 of 2 rules (2 by exact)"), "{told}");
    assert_eq!(std::fs::metadata(&table).unwrap().permissions().mode() & 0o777, 0o600);
    let again = in_place(&mut compile()).expect(3);
    assert!(again.stderr.contains("is there already") && again.stderr.contains("--force"), "{}", again.stderr);

    let told = in_place(tierscope().args(["shim", "-o"]).arg(&library)).expect(0).stdout;
    assert!(told.contains(&format!("LD_PRELOAD={} TIERSCOPE_POLICY=TABLE ./app", library.display())), "{told}");
    assert_eq!(std::fs::metadata(&library).unwrap().permissions().mode() & 0o777, 0o755);
    let refused = in_place(tierscope().args(["shim", "-o", "with space.so"])).expect(3);
    assert!(refused.stderr.contains("LD_PRELOAD is split"), "{}", refused.stderr);

    let before = std::fs::read(&table).unwrap();
    let mut alone = Command::new(place.path("sites"));
    run(alone.env("LD_PRELOAD", &library).env("TIERSCOPE_POLICY", &table)).expect(0);
    let after = std::fs::read(&table).unwrap();
    assert_eq!(before.len(), after.len());
    assert_eq!(blocks_of_rule(&after, 1), 1, "the table counts what was placed");
    assert_eq!(blocks_of_rule(&before, 1), 0);
}

/// Blocks of a rule by the counts in a table file.
fn blocks_of_rule(bytes: &[u8], rule: usize) -> u64 {
    use tierscope_wire::policy::{Table, stats::Snapshot};
    let table = Table::parse(bytes).unwrap();
    Snapshot::read(&table, bytes).unwrap().rules[rule - 1].blocks
}

/// Where children go on after the program's end, their table and library stay; else nothing is left behind.
#[test]
fn nothing_is_left_behind_but_what_is_in_use() {
    let Some(place) = Place::new() else { return };
    place.write_policy("");
    let own = place.path("private");
    std::fs::create_dir(&own).unwrap();
    let run_there = |command: &[&str]| {
        let mut command = place.command(&[], command);
        run(command.env("TMPDIR", &own).env_remove("XDG_RUNTIME_DIR"))
    };
    let left = || std::fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    run_there(&["./sites"]).expect(0);
    assert!(left().is_empty());
    let outcome = run_there(&["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"]).expect(0);
    let [kept] = left().try_into().unwrap();
    assert!(kept.join("table").exists() && kept.join("libtierscope_preload.so").exists());
    assert!(outcome.stderr.contains("processes of it go on"), "{}", outcome.stderr);
    let pid = outcome.stdout.trim();
    run(Command::new("kill").arg(pid)).expect(0);
}

#[test]
fn a_file_for_the_counts_that_cannot_be_written_is_found_out_first() {
    let Some(place) = Place::new() else { return };
    let policy = place.write_policy("");
    let mut command = tierscope();
    command
        .args(["run", "--stats", "/nonexistent/s.json", "--policy"])
        .arg(policy)
        .args(["--", "./sites", "touch", "started"]);
    let outcome = run(command.current_dir(place.directory.path())).expect(3);
    assert!(outcome.stderr.contains("/nonexistent/s.json") && !place.path("started").exists(), "{}", outcome.stderr);
}
