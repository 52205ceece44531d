//! When recording starts and stops, how often it samples, and what happens to the program when it is disturbed.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::harness::{Program, Running, read, run, tierscope, wait_until};
use crate::needs::{Need, have};
use crate::profile::Report;

/// A program that works on one array for some seconds, then on another.
fn phases(first: &str, second: &str) -> Program {
    Program::compile("gcc", &["-O2", "-g"], "phases.c").arguments(&[first, second])
}

/// The same, telling its process id at the start and that it is done at the end.
fn traced_phases(first: &str, second: &str) -> Program {
    let program = phases(first, second);
    let [pid, done] = ["pid", "done"].map(|name| program.directory.path().join(name));
    program.arguments(&[pid, done])
}

fn pid_of(program: &Program) -> String {
    let path = program.directory.path().join("pid");
    wait_until("the program has started", || read(&path).ends_with('\n'));
    read(&path).trim().to_owned()
}

fn is_done(program: &Program) -> bool {
    read(&program.directory.path().join("done")) == "done\n"
}

/// Expected: the second array, although both were allocated before recording began.
#[test]
fn a_delayed_recording_knows_what_was_allocated_before_it() {
    if !have(&[Need::C]) {
        return;
    }
    let (_, report) = phases("1", "2").compare(&["--delay", "1500ms"]);
    report.expect_on_top("heap", "allocate_second");
    assert!(report.share("allocate_first") < 0.02, "{}", report.summary());
    assert!((1.0..2.0).contains(&report.duration_s()), "{}", report.header);
}

/// Expected: the first array alone; the program runs to its end.
#[test]
fn a_limited_recording_ends_and_the_program_does_not() {
    if !have(&[Need::C]) {
        return;
    }
    let (_, report) = phases("2", "1").compare(&["-d", "1s"]);
    report.expect_on_top("heap", "allocate_first");
    assert!(report.share("allocate_second") < 0.02, "{}", report.summary());
    assert!((0.9..1.5).contains(&report.duration_s()), "{}", report.header);
    assert!(report.is_complete());
}

#[test]
fn the_rate_is_as_asked_for() {
    if !have(&[Need::C]) {
        return;
    }
    let program = phases("1", "1");
    for rate in [100.0, 2000.0] {
        program.record(&["-f", "-r", &rate.to_string()]).expect(0);
        let report = Report::of(&program.profile());
        // The machine may be busy with other tests: then the program has less time, and fewer samples.
        assert!((0.1 * 2.0 * rate..1.2 * 2.2 * rate).contains(&report.samples()), "{rate} Hz: {}", report.header);
    }
}

#[test]
fn a_profile_is_not_overwritten_unless_asked() {
    if !have(&[Need::C]) {
        return;
    }
    let program = traced_phases("0.2", "0.2");
    program.record(&[]).expect(0);
    let before = Report::of(&program.profile()).samples();
    std::fs::remove_file(program.directory.path().join("done")).unwrap();

    let refused = program.record(&[]);
    assert!(matches!(refused.code, Some(2 | 3)), "{refused:?}");
    assert!(refused.stderr.contains("profile.tsp") && refused.stderr.contains("-f"), "{}", refused.stderr);
    assert!(!is_done(&program), "the program was run although its profile could not be kept");
    assert_eq!(Report::of(&program.profile()).samples(), before);

    program.record(&["--force"]).expect(0);
    assert!(is_done(&program));
    assert!(Report::of(&program.profile()).is_complete());
}

#[test]
fn force_removes_nothing_but_profiles() {
    let program = Program::new(&["true"]);
    let precious = program.profile().join("precious");
    std::fs::create_dir(program.profile()).unwrap();
    std::fs::write(&precious, "work of years").unwrap();
    let refused = program.record(&["--force"]);
    assert!(matches!(refused.code, Some(2 | 3)), "{refused:?}");
    assert_eq!(read(&precious), "work of years");
}

#[test]
fn a_running_program_is_attached_to_and_left_as_it_was() {
    if !have(&[Need::C]) {
        return;
    }
    let program = traced_phases("2", "2");
    let target = Running::start(&mut program.command());
    let pid = pid_of(&program);
    let started = Instant::now();
    let attached = run(tierscope().args(["record", "-d", "1", "-p", &pid, "-o"]).arg(program.profile())).expect(0);
    assert!(started.elapsed() < Duration::from_secs(60), "{}", attached.stderr);
    assert!(!is_done(&program));
    let report = Report::of(&program.profile());
    assert!(report.samples() > 10.0, "{}", report.header);
    assert!((0.9..1.5).contains(&report.duration_s()), "{}", report.header);
    assert_eq!(target.wait().expect(0).stdout, "both phases done\n");
    assert!(is_done(&program));
}

#[test]
fn an_attached_recording_ends_with_its_program() {
    if !have(&[Need::C]) {
        return;
    }
    let program = traced_phases("1", "1");
    let target = Running::start(&mut program.command());
    let pid = pid_of(&program);
    run(tierscope().args(["record", "-p", &pid, "-o"]).arg(program.profile())).expect(0);
    target.wait().expect(0);
    assert!(Report::of(&program.profile()).is_complete());
}

/// What was written stays, the program goes on to its end, and the profile says that it is not whole.
#[test]
fn a_killed_recorder_loses_the_last_part_only_and_no_program() {
    if !have(&[Need::C]) {
        return;
    }
    let program = traced_phases("4", "2");
    let recorder = Running::start(&mut program.recording_command(&["-r", "4000"]));
    let pid = pid_of(&program);
    sleep(Duration::from_secs(3));
    recorder.signal(Signal::KILL);
    assert_eq!(recorder.wait().signal, Some(Signal::KILL.as_raw()));
    assert!(std::fs::exists(format!("/proc/{pid}")).unwrap(), "the program went with its recorder");
    wait_until("the program is done", || is_done(&program));

    let report = Report::of(&program.profile());
    assert!(!report.is_complete(), "{}", report.header);
    assert!(report.samples() > 0.0, "{}", report.header);
    report.expect_on_top("heap", "allocate_first");
}

/// A recorder that does not run for a while costs events, not time.
#[test]
fn a_stopped_recorder_does_not_stop_the_program() {
    if !have(&[Need::C]) {
        return;
    }
    let program = traced_phases("1", "1");
    let recorder = Running::start(&mut program.recording_command(&[]));
    pid_of(&program);
    recorder.signal(Signal::STOP);
    wait_until("the program is done", || is_done(&program));
    recorder.signal(Signal::CONT);
    recorder.wait().expect(0);
    Report::of(&program.profile());
}

/// A shell script that ends with status 5 when it is asked to, and the file that says it is ready to be asked.
fn script() -> (Program, PathBuf) {
    let text = r#"trap 'echo caught; exit 5' TERM INT; echo ready > "$0"; while :; do sleep 0.05; done"#;
    let program = Program::new(&["sh", "-c", text]);
    let ready = program.directory.path().join("ready");
    (program.arguments(&[&ready]), ready)
}

/// `kill` on the recorder reaches the program, and the recorder ends as the program does.
#[test]
fn termination_is_passed_on() {
    let (program, ready) = script();
    let recorder = Running::start(&mut program.recording_command(&[]));
    wait_until("the script is ready", || ready.exists());
    recorder.signal(Signal::TERM);
    assert_eq!(recorder.wait().expect(5).stdout, "caught\n");
    assert!(Report::of(&program.profile()).is_complete());
}

/// Ctrl-C goes to the whole group of processes, as a terminal sends it.
#[test]
fn an_interrupt_ends_both_in_good_order() {
    let (program, ready) = script();
    let recorder = Running::start(program.recording_command(&[]).process_group(0));
    wait_until("the script is ready", || ready.exists());
    let group = Pid::from_raw(recorder.pid() as i32).unwrap();
    rustix::process::kill_process_group(group, Signal::INT).unwrap();
    assert_eq!(recorder.wait().expect(5).stdout, "caught\n");
    assert!(Report::of(&program.profile()).is_complete());
}

#[test]
fn an_exit_status_is_passed_through() {
    for status in [0, 1, 7, 255] {
        let (outcome, report) = Program::new(&["sh", "-c", &format!("echo out; exit {status}")]).compare(&[]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(status), "out\n"));
        assert!(report.is_complete());
    }
}

/// A crash is the program's own: the status says so in the way of shells or by the signal itself, and the profile is kept.
#[test]
fn a_crash_is_passed_through_and_recorded() {
    if !have(&[Need::C]) {
        return;
    }
    let program = Program::compile("gcc", &["-O2", "-g"], "chase.c").arguments(&["2000000", "crash"]);
    let alone = run(&mut program.command());
    assert_eq!(alone.signal, Some(Signal::SEGV.as_raw()));
    let recorded = program.record(&[]);
    assert_eq!(alone.stdout, recorded.stdout);
    let passed = recorded.signal == alone.signal || recorded.code == Some(128 + Signal::SEGV.as_raw());
    assert!(passed, "{recorded:?}");
    let report = Report::of(&program.profile());
    report.expect_on_top("heap", "allocate_ring");
    assert!(report.is_complete());
}

/// What goes in comes out, byte for byte, and Tierscope adds nothing to stdout.
#[test]
fn standard_streams_belong_to_the_program() {
    let program = Program::new(&["cat"]);
    let input = program.directory.path().join("input");
    std::fs::write(&input, (0..100_000u32).map(|i| format!("{i}\n")).collect::<String>()).unwrap();
    let program = program.stdin(input.clone());
    let (outcome, _) = program.compare(&[]);
    assert_eq!(outcome.stdout, read(&input));
}

/// A recording says what to do next, in a form that can be pasted.
#[test]
fn the_next_command_is_printed() {
    let program = Program::new(&["true"]);
    let outcome = program.record(&[]).expect(0);
    assert!(outcome.stderr.contains("tierscope report"), "{}", outcome.stderr);
    let quiet = program.record(&["-q", "-f"]).expect(0);
    assert_eq!(quiet.stderr, "");
}

/// Without `-o`, a profile is named after its program and process, in the current directory.
#[test]
fn a_profile_has_a_name_by_default() {
    let program = Program::new(&["true"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tierscope"));
    run(command.args(["record", "--", "true"]).current_dir(program.directory.path())).expect(0);
    let [profile] = &program.profiles()[..] else { panic!("{:?}", program.profiles()) };
    assert!(profile.file_name().unwrap().to_str().unwrap().starts_with("true."), "{profile:?}");
    Report::of(profile);
}
