//! `tierscope advise` on a program of which it is known what belongs in fast memory: a ring that is chased and a ledger that
//! is streamed, as large as each other (`ledger.rs`).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tierscope_policy::{Backend, Policy};
use unicode_width::UnicodeWidthStr;

use crate::harness::{Outcome, Program, read, run, tierscope};

const MIB: u64 = 1 << 20;

/// The program with its profile, recorded once for all tests.
fn recorded() -> &'static Program {
    static RECORDED: OnceLock<Program> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        let flags = ["-O", "-Cdebuginfo=line-tables-only", "--edition=2024"];
        let program = Program::compile(&rustc, &flags, "ledger.rs");
        program.record(&["-r", "2000"]).expect(0);
        program
    })
}

fn advise(options: &[&str]) -> Outcome {
    run(tierscope().arg("advise").arg(recorded().profile()).args(options).env("COLUMNS", "80"))
}

#[track_caller]
fn json(options: &[&str]) -> Value {
    let outcome = advise(&[options, &["--json"]].concat()).expect(0);
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", outcome.stdout))
}

/// The tier of the object that one of its frames names.
#[track_caller]
fn tier_of<'a>(advice: &'a Value, function: &str) -> &'a str {
    let objects = advice["objects"].as_array().unwrap().iter();
    let mut of_it = objects.filter(|object| object["site"].to_string().contains(function));
    of_it.next().unwrap_or_else(|| panic!("no {function} in {advice}"))["tier"].as_str().unwrap()
}

/// A path in a directory, as text.
fn inside(directory: &tempfile::TempDir, name: &str) -> String {
    directory.path().join(name).display().to_string()
}

#[test]
fn what_is_chased_gets_the_fast_memory_before_what_is_streamed() {
    for options in [&["--fast", "50%"][..], &["--fast", "70MiB"], &["--fast", "70MiB", "--tiers", "ddr4,optane-100x6"]]
    {
        let advice = json(options);
        assert_eq!(advice["schema"], "tierscope.advice/1");
        assert_eq!(tier_of(&advice, "allocate_ring"), advice["tiers"][0]["name"].as_str().unwrap(), "{options:?}");
        assert_eq!(tier_of(&advice, "allocate_ledger"), advice["tiers"][1]["name"].as_str().unwrap(), "{options:?}");
        let number = |key: &str| advice[key].as_f64().unwrap();
        assert!(number("predicted_slowdown") < number("all_slow_slowdown") / 2.0, "{options:?}");
        let curve = advice["curve"].as_array().unwrap();
        let slowdowns: Vec<f64> = curve.iter().map(|step| step["slowdown"].as_f64().unwrap()).collect();
        assert!(slowdowns.is_sorted_by(|a, b| a >= b), "{slowdowns:?}");
        assert_eq!(curve[0]["fast_bytes"], 0);
        assert!(advice["policy"].is_null());
    }
}

#[test]
fn a_slowdown_finds_its_budget_and_a_large_budget_holds_everything() {
    let little = json(&["--max-slowdown", "1000%"]);
    assert_eq!(little["fast_bytes"], 0);
    let much = json(&["--max-slowdown", "1%"]);
    assert!(much["fast_bytes"].as_u64().unwrap() > 64 * MIB, "{}", much["fast_bytes"]);
    assert!(much["predicted_slowdown_interval"][1].as_f64().unwrap() <= 0.01);
    let all = json(&["--fast", "64TiB"]);
    let first = all["tiers"][0]["name"].as_str().unwrap();
    assert_eq!((tier_of(&all, "allocate_ring"), tier_of(&all, "allocate_ledger")), (first, first));
    let text = advise(&["--fast", "64TiB"]).expect(0).stdout;
    assert!(text.contains("more than they"), "{text}");
}

#[test]
fn the_text_fits_its_columns_and_ends_with_the_next_command() {
    let text = advise(&["--fast", "50%", "--tiers", "ddr5,cxl-asic", "-n", "4"]).expect(0).stdout;
    let (body, next) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(body.lines().all(|line| line.width() <= 80), "{body}");
    for part in ["sampler     clock", "slower than with everything in ddr5", "> ", "what this does not know"] {
        assert!(body.contains(part), "{part} is not in\n{body}");
    }
    let profile = recorded().profile();
    let command = format!(
        "next        tierscope advise {} --fast 50% --tiers ddr5,cxl-asic -o profile.policy.toml",
        profile.display()
    );
    assert_eq!(next, command);
    // And report says how to come here.
    let report = run(tierscope().arg("report").arg(&profile)).expect(0).stdout;
    assert!(
        report.ends_with(&format!("\nnext        tierscope advise {} --fast 25%\n", profile.display())),
        "{report}"
    );
}

#[test]
fn the_model_is_trained_once_kept_and_trained_again_where_what_was_kept_is_damaged() {
    let cache = tempfile::tempdir().unwrap();
    let kept = || -> Vec<PathBuf> {
        let models = std::fs::read_dir(cache.path().join("tierscope/models"));
        models.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    };
    let advise = || {
        let mut command = tierscope();
        command.arg("advise").arg(recorded().profile()).args(["--fast", "50%", "--json"]);
        let outcome = run(command.env("XDG_CACHE_HOME", cache.path())).expect(0);
        assert_eq!(outcome.stderr, "", "nothing is told where nobody watches");
        serde_json::from_str::<Value>(&outcome.stdout).unwrap()
    };
    let first = advise();
    assert_eq!(
        (&first["ranker"], &first["basis"], &first["model"]["family"]),
        (&"model".into(), &"learned".into(), &"clock".into())
    );
    assert!(first["model"]["programs"].as_u64().unwrap() >= 3);
    let [file] = kept().try_into().unwrap();
    assert!(file.ends_with(format!("clock-{}.json", first["model"]["key"].as_str().unwrap())), "{file:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let written = read(&file);
    std::fs::write(&file, &written[..written.len() / 3]).unwrap();
    assert_eq!(advise(), first);
    assert_eq!(read(&file), written);
    // An unwritable cache is no error.
    std::fs::remove_dir_all(cache.path().join("tierscope")).unwrap();
    std::fs::write(cache.path().join("tierscope"), "in the way").unwrap();
    assert_eq!(advise(), first);
}

#[test]
fn of_page_faults_it_is_said_why_no_model_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let faults = directory.path().join("faults.tsp");
    let mut record = tierscope();
    record.args(["record", "--sampler", "fault", "-q", "-o"]).arg(&faults).arg("--").args(recorded().line());
    run(&mut record).expect(0);
    let outcome = run(tierscope().arg("advise").arg(&faults).args(["--fast", "50%"]).env("COLUMNS", "160")).expect(0);
    let said = "The trained model is not used: fault samples are neither time nor cache misses";
    assert!(outcome.stdout.contains(said) && outcome.stdout.contains("placed      by stall-density"), "{outcome:?}");
    let refused = run(tierscope().arg("advise").arg(&faults).args(["--fast", "50%", "--ranker", "oracle"])).expect(3);
    assert!(refused.stderr.contains("tierscope simulate --tiers"), "{refused:?}");
}

#[test]
fn every_interval_of_a_curve_contains_its_point_and_none_is_below_nothing() {
    let advice = json(&["--fast", "50%"]);
    let ends = |interval: &Value| [0, 1].map(|end| interval[end].as_f64().unwrap());
    for step in advice["curve"].as_array().unwrap() {
        let ([low, high], point) = (ends(&step["interval"]), step["slowdown"].as_f64().unwrap());
        assert!(0.0 <= low && low <= point && point <= high, "{step}");
    }
    // Each object says why it is where it is.
    for object in advice["objects"].as_array().unwrap() {
        assert!(object["why"].as_str().unwrap().ends_with('.'), "{object}");
    }
}

#[test]
fn a_policy_says_where_everything_goes_and_the_command_that_carries_it_out() {
    let directory = tempfile::tempdir().unwrap();
    let (policy, slow) = (inside(&directory, "my policy.toml"), directory.path().display().to_string());
    let outcome = advise(&["--fast", "70MiB", "--slow-dir", &slow, "-o", &policy]).expect(0);
    let written = Policy::parse(&read(Path::new(&policy))).unwrap_or_else(|errors| panic!("{errors}"));
    let [fast, files] = written.tiers.as_slice() else { panic!("{:?}", written.tiers) };
    let dir = directory.path().canonicalize().unwrap().display().to_string();
    assert_eq!(files.backend, Some(Backend::File { dir }));
    assert_eq!(written.default_tier, files.name);
    assert!(written.origin.samples.is_some_and(|samples| samples > 0) && written.origin.profile.is_some());
    let ring =
        written.rules.iter().find(|rule| rule.frames.iter().any(|frame| frame.function().contains("allocate_ring")));
    let ring = ring.unwrap_or_else(|| panic!("{:?}", written.rules));
    // With its header it needs a page more.
    assert_eq!((&ring.tier, ring.bytes), (&fast.name, Some(64 * MIB + 4096)));
    assert!(ring.why.is_some() && !ring.site.is_empty());
    let program = recorded().line()[0].to_str().unwrap();
    let next = format!("next        tierscope run --policy '{policy}' -- {program}\n");
    assert!(outcome.stdout.ends_with(&next), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("`tierscope run` would leave"), "{}", outcome.stdout);
    // And that command does so: the ring is where the policy says, and the program prints what it prints.
    let stats = inside(&directory, "run.json");
    let placed = run(tierscope().args(["run", "-q", "--policy", &policy, "--stats", &stats, "--", program])).expect(0);
    assert_eq!(placed.stdout, run(&mut recorded().command()).stdout);
    let stats: Value = serde_json::from_str(&read(Path::new(&stats))).unwrap();
    let of_ring =
        stats["rules"].as_array().unwrap().iter().find(|rule| rule["objects"].to_string().contains("allocate_ring"));
    let of_ring = of_ring.unwrap_or_else(|| panic!("{stats:#}"));
    assert_eq!((&of_ring["blocks"], &of_ring["spilled_bytes"]), (&1.into(), &0.into()), "{stats:#}");
    assert!(stats["tiers"][1]["bytes_peak"].as_u64().unwrap() >= 64 * MIB, "the ledger is in files: {stats:#}");
    // It is for everyone to read, as files a person makes are.
    assert_eq!(std::fs::metadata(&policy).unwrap().permissions().mode() & 0o700, 0o600);
}

#[test]
fn an_update_keeps_what_a_person_wrote_and_what_was_behind_a_tier() {
    let directory = tempfile::tempdir().unwrap();
    let (policy, slow) = (inside(&directory, "app.toml"), directory.path().display().to_string());
    let tiers = ["--tiers", "ddr5,cxl-asic"];
    let quietly = [&["--fast", "70MiB", "--slow-dir", &slow, "-q", "-o", &policy][..], &tiers].concat();
    assert_eq!(advise(&quietly).expect(0).stdout, "");
    let first = read(Path::new(&policy));
    std::fs::write(&policy, first.replace("\n[default]\n", "\n# ours to keep\n[default]\n")).unwrap();
    let refused = advise(&[&["--fast", "0", "-o", &policy][..], &tiers].concat()).expect(3);
    assert!(
        refused.stderr.contains("it is there already") && refused.stderr.contains("-f brings"),
        "{}",
        refused.stderr
    );
    let outcome = advise(&[&["--fast", "0", "-f", "-o", &policy][..], &tiers].concat()).expect(0);
    assert!(!outcome.stdout.contains("`tierscope run` would leave"), "{}", outcome.stdout);
    let text = read(Path::new(&policy));
    assert!(text.contains("# ours to keep\n[default]"), "{text}");
    let updated = Policy::parse(&text).unwrap();
    assert!(matches!(updated.tiers[1].backend, Some(Backend::File { .. })), "{:?}", updated.tiers);
    assert!(updated.rules.iter().all(|rule| rule.symbol.is_some()), "nothing is fast any more: {text}");
}

/// Each is refused before anything is written: the reason, where there is a place the place, and the way out.
#[test]
fn what_cannot_be_advised_is_refused_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = inside(&directory, name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let misspelt = file("misspelt.toml", "schema = \"tierscope.tiers/1\"\n[tiers.a]\nread_latancy_ns = 100\n");
    let broken = file("broken.toml", "schema = \n");
    let single = file("single.toml", "schema = \"tierscope.tiers/1\"\n[tiers.a]\nread_latency_ns = 100\n");
    let reversed = file(
        "reversed.toml",
        "schema = \"tierscope.tiers/1\"\n[tiers.a]\nread_latency_ns = 300\n[tiers.b]\nread_latency_ns = 100\n",
    );
    let unknown = file("unknown.toml", "schema = \"tierscope.tiers/1\"\n[tiers.a]\nread_latency_ns = 100\n[tiers.b]\n");
    let notes = file("notes.toml", "schema = \"tierscope.policy/1\"\n[defualt]\n");
    let nowhere = inside(&directory, "no/such/place.toml");
    let output = inside(&directory, "output.toml");
    let cases: [(i32, &[&str]); 17] = [
        (2, &[]),
        (2, &["--fast", "101%"]),
        (2, &["--fast", "25"]),
        (2, &["--max-slowdown", "5"]),
        (2, &["--fast", "25%", "--ranker", "hottest"]),
        (3, &["--fast", "25%", "--ranker", "llc-misses"]),
        (2, &["--fast", "25%", "--tiers", "ddr5,cxl"]),
        (3, &["--fast", "25%", "--tiers", &misspelt]),
        (3, &["--fast", "25%", "--tiers", &broken]),
        (3, &["--fast", "25%", "--tiers", &single]),
        (3, &["--fast", "25%", "--tiers", &reversed]),
        (3, &["--fast", "25%", "--tiers", &unknown]),
        (3, &["--fast", "25%", "--tiers", "ddr5,cxl-ddr5"]),
        (2, &["--fast", "25%", "--fast-node", "0", "--slow-node", "0"]),
        (3, &["--fast", "25%", "--slow-dir", &nowhere]),
        (3, &["--fast", "25%", "-f", "-o", &notes]),
        (3, &["--fast", "25%", "-o", &nowhere]),
    ];
    let mut said = String::new();
    for (code, options) in cases {
        let with_output: &[&str] = if options.contains(&"-o") { &[] } else { &["-o", &output] };
        let outcome = advise(&[options, with_output].concat()).expect(code);
        assert_eq!(outcome.stdout, "", "{options:?}");
        assert!(!Path::new(&output).exists(), "{options:?} wrote a policy");
        said += &format!("$ advise {}\n{}\n", options.join(" "), outcome.stderr);
    }
    let said = said.replace(&directory.path().display().to_string(), "DIR");
    let said = said.replace(&recorded().profile().display().to_string(), "PROFILE");
    insta::assert_snapshot!(said);
    assert!(read(Path::new(&notes)).contains("[defualt]"), "what is no policy is left alone");
}

#[test]
fn nodes_that_are_not_there_are_refused() {
    let outcome = advise(&["--fast", "25%", "--slow-node", "999"]).expect(3);
    assert!(outcome.stderr.contains("node 999 has no memory here"), "{}", outcome.stderr);
}

#[test]
fn what_is_no_profile_and_what_has_nothing_to_place_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let absent = run(tierscope().args(["advise", "--fast", "25%"]).arg(directory.path().join("absent.tsp"))).expect(3);
    assert!(absent.stderr.contains("absent.tsp"), "{}", absent.stderr);
    // Without the shim there are no heap objects, and this program has no large globals.
    let bare: PathBuf = directory.path().join("bare.tsp");
    let mut record = tierscope();
    record.args(["record", "--no-shim", "-q", "-o"]).arg(&bare).arg("--").args(recorded().line());
    run(&mut record).expect(0);
    let outcome = run(tierscope().arg("advise").arg(&bare).args(["--fast", "25%"])).expect(3);
    assert!(outcome.stderr.contains("no object that can be placed"), "{}", outcome.stderr);
}

#[test]
fn an_incomplete_profile_is_advised_on_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("cut.tsp");
    run(Command::new("cp").arg("-r").arg(recorded().profile()).arg(&copy)).expect(0);
    let meta = copy.join("meta.json");
    let mut value: Value = serde_json::from_str(&read(&meta)).unwrap();
    assert_eq!(value["complete"], true);
    value["complete"] = false.into();
    std::fs::write(&meta, value.to_string()).unwrap();
    let outcome = run(tierscope().arg("advise").arg(&copy).args(["--fast", "50%"])).expect(0);
    assert!(outcome.stdout.contains("! This profile is incomplete"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("did not end in good order"), "{}", outcome.stdout);
}
