//! Programs that break a careless preloaded library, one per hazard (see `hazards/*.c`). Each must behave under the shim
//! exactly as without it, and what was recorded of it must be what it did.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by them")]

#[path = "support/mod.rs"]
mod support;
#[path = "support/build.rs"]
mod tools;

use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::{Agency, Agent, Outcome, Recording, run, run_with};
use tierscope_wire::options::{Options, VARIABLE};
use tierscope_wire::{Event, StackId};

fn plain(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// Runs `command` without and with the shim, and demands the same of both.
fn same(command: impl Fn() -> Command, options: Options<'_>, agency: Agency) -> Outcome {
    let expected = plain(&mut command());
    let outcome = run(&mut command(), tools::shim(), options, agency);
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(shown(&outcome.stdout), shown(&expected.stdout));
    assert_eq!(shown(&outcome.stderr), shown(&expected.stderr));
    assert_eq!(outcome.status, expected.status);
    outcome.recordings.iter().for_each(adds_up);
    outcome
}

/// What was written was read, and nothing made no sense.
fn adds_up(recording: &Recording) {
    let (events, _) = recording.produced();
    assert_eq!((recording.events.len() as u64, recording.corrupt), (events, 0), "pid {}", recording.pid);
    assert_eq!(recording.pid, recording.hello.pid);
}

fn same_program(name: &str, arguments: &[&str], options: Options<'_>) -> Outcome {
    let path = tools::program(name);
    let command = || {
        let mut command = Command::new(&path);
        command.args(arguments);
        command
    };
    same(command, options, Agency::Attentive)
}

const EVERY_BLOCK: Options<'_> = Options {
    socket: "",
    mean_bytes: 1,
    large_bytes: tierscope_wire::options::DEFAULT_LARGE_BYTES,
    stacks: tierscope_wire::options::StackMode::Unwind,
    follow: true,
    trace: false,
};

fn losses(recording: &Recording) -> u64 {
    recording.produced().1.total()
}

/// Replays the events and returns the sizes of the blocks alive at the end; no block may be born over a live one.
fn alive(recording: &Recording) -> HashMap<u64, u64> {
    let mut alive = HashMap::new();
    recording.for_each(|_, event| match *event {
        Event::Allocate { address, bytes, .. } => {
            assert_eq!(alive.insert(address, bytes), None, "{event:?} over a live block");
        }
        Event::Free { address, .. } => {
            assert!(alive.remove(&address).is_some(), "{event:?} of nothing");
        }
        Event::Reallocate { old_address, address, bytes, .. } => {
            assert!(old_address == 0 || alive.remove(&old_address).is_some(), "{event:?} of nothing");
            if address != 0 {
                assert_eq!(alive.insert(address, bytes), None, "{event:?} over a live block");
            }
        }
        _ => {}
    });
    alive
}

fn of_size(recording: &Recording, wanted: u64) -> usize {
    recording.count(|event| matches!(event, Event::Allocate { bytes, .. } if *bytes == wanted))
}

/// File names of the modules a stack leads through, innermost first.
fn modules_of(recording: &Recording, stack: StackId) -> Vec<String> {
    let modules = recording.modules();
    let name = |frame: &u64| {
        modules
            .iter()
            .find(|(start, end, ..)| (*start..*end).contains(frame))
            .map_or_else(String::new, |(_, _, _, path)| path.rsplit('/').next().unwrap().to_owned())
    };
    recording.frames(stack).iter().map(name).collect()
}

#[test]
fn stacks_lead_from_the_caller_to_the_start_of_the_program() {
    let outcome = same_program("plain", &[], Options::default());
    let recording = &outcome.recordings[0];
    assert_eq!(of_size(recording, 1 << 20), 2);
    assert_eq!(alive(recording).values().collect::<Vec<_>>(), [&(1 << 20)]);
    let mut stacks = Vec::new();
    recording.for_each(|_, event| {
        if let Event::Allocate { stack, bytes: 0x10_0000, .. } = event {
            stacks.push(*stack);
        }
    });
    for stack in &stacks {
        let modules = modules_of(recording, *stack);
        assert_eq!(&modules[..3], ["plain", "plain", "plain"], "large_block, outer, main");
        assert_eq!(modules.last().unwrap(), "plain", "_start");
    }
    assert_eq!(recording.frames(stacks[0])[..2], recording.frames(stacks[1])[..2]);
    assert_ne!(stacks[0], stacks[1], "two calls in main");
    assert_eq!(recording.count(|event| matches!(event, Event::Map { bytes: 126_976, file_backed: false, .. })), 1);
    assert_eq!(recording.count(|event| matches!(event, Event::Unmap { bytes: 126_976, .. })), 1);
    assert_eq!(losses(recording), 0);
}

#[test]
fn other_ways_of_taking_stacks_work() {
    use tierscope_wire::options::StackMode;
    for (mode, least) in [(StackMode::FramePointer, 1), (StackMode::Caller, 1)] {
        let outcome = same_program("plain", &[], Options { stacks: mode, ..Options::default() });
        outcome.recordings[0].for_each(|_, event| {
            if let Event::Allocate { stack, .. } = event {
                let frames = outcome.recordings[0].frames(*stack);
                assert!(frames.len() >= least && (mode != StackMode::Caller || frames.len() == 1));
            }
        });
    }
}

#[test]
fn every_entry_point_is_recorded() {
    let outcome = same_program("entry_points", &[], EVERY_BLOCK);
    let recording = &outcome.recordings[0];
    assert!(alive(recording).values().all(|bytes| *bytes <= 4096), "only the C library's own buffers are left");
    assert_eq!(losses(recording), 0);
    // malloc, its start of realloc, memalign, aligned_alloc (rounded up), posix_memalign, valloc.
    assert!(of_size(recording, 3_000_000) >= 5);
    assert_eq!(of_size(recording, 9_000_000), 1, "calloc");
    assert_eq!(of_size(recording, 3_002_368), 1, "pvalloc");
}

#[test]
fn functions_a_library_lacks_are_mended() {
    let outcome = same_program("probe", &[], EVERY_BLOCK);
    assert!(alive(&outcome.recordings[0]).values().all(|bytes| *bytes <= 4096));
}

#[test]
fn realloc_keeps_the_books() {
    for options in [EVERY_BLOCK, Options::default()] {
        let outcome = same_program("realloc_edges", &[], options);
        let recording = &outcome.recordings[0];
        assert!(alive(recording).values().all(|bytes| *bytes <= 4096), "{:?}", alive(recording));
        assert!(recording.count(|event| matches!(event, Event::Reallocate { .. })) >= 2000);
    }
}

#[test]
fn an_allocator_that_asks_the_loader_works() {
    let library = tools::compile("cc", "malloc_at_load.c", "libmalloc_at_load.so", &["-shared", "-fPIC"]);
    let program = tools::program("plain");
    let both = format!("{}:{}", tools::shim().display(), library.display());
    let outcome = run(&mut Command::new(&program), Path::new(&both), Options::default(), Agency::Attentive);
    assert_eq!((outcome.status.success(), &*outcome.stdout), (true, &b"1\n"[..]));
    assert_eq!(of_size(&outcome.recordings[0], 40_000), 1, "the constructor's block");
    assert_eq!(of_size(&outcome.recordings[0], 1 << 20), 2);
}

fn jemalloc() -> Option<&'static str> {
    let path = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
    tools::have("libjemalloc2", Path::new(path).exists()).then_some(path)
}

#[test]
fn jemalloc_behind_the_shim_is_not_taken_for_the_program() {
    let Some(jemalloc) = jemalloc() else { return };
    let both = format!("{}:{jemalloc}", tools::shim().display());
    for name in ["plain", "entry_points", "realloc_edges", "fork"] {
        let program = tools::program(name);
        let expected = plain(Command::new(&program).env("LD_PRELOAD", jemalloc));
        let outcome = run(&mut Command::new(&program), Path::new(&both), EVERY_BLOCK, Agency::Attentive);
        assert_eq!((outcome.status, &outcome.stdout), (expected.status, &expected.stdout), "{name}");
        outcome.recordings.iter().for_each(adds_up);
        if name == "plain" {
            let maps = outcome.recordings[0].count(|event| matches!(event, Event::Map { .. }));
            assert_eq!(maps, 1, "the program maps once; jemalloc's mappings are its own business");
        }
    }
}

#[test]
fn operators_are_recorded_whoever_defines_them() {
    assert!(tools::have_command("c++"));
    let program = tools::compile("c++", "operators.cpp", "operators", &["-std=c++17"]);
    let shim = tools::shim().display().to_string();
    for library in [None, jemalloc()] {
        let preloaded = library.map_or(shim.clone(), |library| format!("{shim}:{library}"));
        let mut command = Command::new(&program);
        if let Some(library) = library {
            command.env("LD_PRELOAD", library);
        }
        let expected = plain(&mut command);
        let outcome = run(&mut Command::new(&program), Path::new(&preloaded), EVERY_BLOCK, Agency::Attentive);
        assert_eq!((outcome.status, &outcome.stdout), (expected.status, &expected.stdout));
        let recording = &outcome.recordings[0];
        adds_up(recording);
        assert!(alive(recording).values().all(|bytes| *bytes < 100_000), "{:?}", alive(recording));
        assert_eq!(of_size(recording, 1_234_567), 10, "recorded also after exceptions passed through");
        // libstdc++ rounds an aligned block up to its alignment.
        assert_eq!(of_size(recording, 50_000) + of_size(recording, 50_176), 200);
    }
}

#[test]
fn threads_come_and_go() {
    let outcome = same_program("threads", &[], Options::default());
    let recording = &outcome.recordings[0];
    assert!(recording.produced().1.total() > 0, "2000 threads at once found 1024 rings");
    assert!(recording.count(|event| matches!(event, Event::ThreadStarted { .. })) > 10_000);
}

#[test]
fn what_threads_attempted_is_read_or_counted() {
    for (many, turns) in [(100, 300), (1500, 0)] {
        let outcome = same_program("threads", &[&many.to_string(), &turns.to_string()], Options::default());
        let recording = &outcome.recordings[0];
        let (_, lost) = recording.produced();
        let allocated = of_size(recording, 20_000) + of_size(recording, 30_000);
        // The list of threads is a block too; where it is large it is recorded.
        assert_eq!(allocated as u64 + lost.allocations, many * 20 + turns, "{lost:?}");
        let freed = recording.count(|event| matches!(event, Event::Free { .. })) as u64 + lost.frees;
        assert!(freed >= allocated as u64);
    }
}

#[test]
fn a_flood_is_read_or_counted_and_nobody_waits() {
    let count = 400_000_u64;
    let program = tools::program("flood");
    for agency in [Agency::Slow, Agency::Stopped] {
        let command = || {
            let mut command = Command::new(&program);
            command.arg(count.to_string());
            command
        };
        let outcome = same(command, EVERY_BLOCK, agency);
        let recording = &outcome.recordings[0];
        let (_, lost) = recording.produced();
        assert!(lost.allocations > 0 && lost.frees > 0, "no flood: {lost:?}");
        let blocks = of_size(recording, 32) as u64;
        // Every block of 32 bytes, and the few of other sizes that the C library makes (a thread's tables, a buffer).
        let others = recording.count(|event| matches!(event, Event::Allocate { bytes, .. } if *bytes != 32)) as u64;
        let attempted = blocks + lost.allocations;
        assert!((2 * count..=2 * count + 4).contains(&(attempted + others)), "{attempted} and {others}");
        assert!(outcome.elapsed.as_secs() < 20);
    }
}

#[test]
fn forked_children_write_to_segments_of_their_own() {
    let outcome = same_program("fork", &[], Options::default());
    let parent = outcome.recordings.iter().find(|recording| recording.hello.forked_from == 0).unwrap();
    let child = outcome.recordings.iter().find(|recording| recording.hello.forked_from == parent.pid).unwrap();
    let grandchild = outcome.recordings.iter().find(|recording| recording.hello.forked_from == child.pid).unwrap();
    assert_eq!((of_size(parent, 80_000), of_size(child, 80_000), of_size(grandchild, 80_000)), (0, 1, 0));
    assert_eq!((of_size(parent, 90_000), of_size(child, 90_000), of_size(grandchild, 90_000)), (0, 0, 1));
    assert_eq!(of_size(child, 60_000), 1, "the child's thread");
    for recording in [child, grandchild] {
        let told = recording.count(
            |event| matches!(event, Event::Forked { parent, child, .. } if (*parent, *child) == (recording.hello.forked_from, recording.pid)),
        );
        assert_eq!(told, 1);
        assert!(!recording.modules().is_empty(), "modules are told again");
    }
    let inherited = parent.count(|event| matches!(event, Event::Allocate { bytes: 70_000, .. }));
    assert_eq!(inherited, 1);
    assert_eq!(
        child.count(|event| matches!(event, Event::Free { .. })) as u64,
        2,
        "the inherited block and its thread's"
    );
    assert_eq!(outcome.recordings.len(), 53);
}

#[test]
fn children_that_are_not_followed_stay_silent() {
    let outcome = same_program("fork", &[], Options { follow: false, ..Options::default() });
    assert_eq!(outcome.recordings.len(), 1);
    assert_eq!(of_size(&outcome.recordings[0], 80_000), 0);
}

#[test]
fn each_image_of_an_exec_chain_is_recorded() {
    let outcome = same_program("vfork_exec", &[], Options::default());
    let chain: Vec<_> = outcome.recordings.iter().filter(|recording| of_size(recording, 200_000) == 1).collect();
    assert_eq!(chain.len(), 4);
    assert!(chain.iter().all(|recording| recording.pid == chain[0].pid && recording.hello.forked_from == 0));
    let outcome = same_program("vfork_exec", &[], Options { follow: false, ..Options::default() });
    assert_eq!(outcome.recordings.len(), 1);
}

#[test]
fn no_descriptor_is_left_open() {
    let outcome = same_program("descriptors", &[], Options::default());
    assert_eq!(of_size(&outcome.recordings[0], 70_000), 1, "recorded after everything was closed");
}

#[test]
fn the_environment_shows_nothing_unless_children_are_followed() {
    let program = tools::program("environment");
    let options = Options { follow: false, ..Options::default() };
    let outcome = same(|| Command::new(&program), options, Agency::Attentive);
    assert_eq!(outcome.recordings.len(), 1);
    // The user's own preloaded library stays.
    let library = tools::compile("cc", "malloc_at_load.c", "libmalloc_of_user.so", &["-shared", "-fPIC"]);
    let expected = plain(Command::new(&program).env("LD_PRELOAD", &library));
    let both = format!("{}:{}", tools::shim().display(), library.display());
    let outcome = run(&mut Command::new(&program), Path::new(&both), options, Agency::Attentive);
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&expected.stdout));
}

#[test]
fn mappings_are_told_as_the_program_made_them() {
    let outcome = same_program("mappings", &[], Options::default());
    let recording = &outcome.recordings[0];
    assert_eq!(recording.count(|event| matches!(event, Event::Map { .. })), 5);
    assert_eq!(recording.count(|event| matches!(event, Event::Map { file_backed: true, .. })), 2);
    let (mut replaced, mut over) = (None, None);
    recording.for_each(|_, event| match *event {
        Event::Unmap { address, bytes: 32_768, time_ns } => replaced = replaced.or(Some((address, time_ns))),
        Event::Map { address, bytes: 32_768, time_ns, .. } => over = Some((address, time_ns)),
        _ => {}
    });
    let ((gone, gone_ns), (new, new_ns)) = (replaced.unwrap(), over.unwrap());
    assert!(gone == new && gone_ns <= new_ns, "MAP_FIXED ends what was there");
    assert!(recording.count(|event| matches!(event, Event::Remap { .. })) >= 2);
}

#[test]
fn modules_come_and_go() {
    let library = tools::compile("cc", "plugin.c", "libplugin.so", &["-shared", "-fPIC"]);
    let run_path = format!("-Wl,-rpath,{}", library.parent().unwrap().display());
    let program = tools::compile("cc", "dlopen_loop.c", "dlopen_loop", &[&run_path, "-ldl"]);
    let outcome = same(|| Command::new(&program), Options::default(), Agency::Attentive);
    let recording = &outcome.recordings[0];
    assert_eq!((of_size(recording, 50_000), of_size(recording, 60_000)), (300, 300));
    assert!(recording.modules().iter().any(|(.., path)| path.ends_with("libplugin.so")));
    let gone = recording.count(|event| matches!(event, Event::ModuleUnloaded { .. }));
    assert!(gone > 0, "the last dlclose is noticed");
    assert!(alive(recording).values().all(|bytes| *bytes < 50_000));
}

#[test]
fn signal_handlers_may_allocate_and_jump() {
    let outcome = same_program("signals", &[], Options::default());
    let recording = &outcome.recordings[0];
    let lost = recording.produced().1;
    assert_eq!(of_size(recording, 777_000) as u64 + lost.allocations.min(100), 100 + lost.allocations.min(100));
}

#[test]
fn coroutines_have_stacks_too() {
    let outcome = same_program("coroutines", &[], Options::default());
    let recording = &outcome.recordings[0];
    let mut deep = 0;
    let mut all = 0;
    recording.for_each(|_, event| {
        if let Event::Allocate { bytes: 30_000..30_100, stack, .. } = event {
            all += 1;
            deep += usize::from(recording.frames(*stack).len() >= 2);
        }
    });
    assert_eq!(all, 1000);
    assert_eq!(deep, all, "stacks of coroutines are read by copying");
}

/// Runs under `sh -c "ulimit ...; exec program"`, the shell being without the shim.
fn limited(limit: &str) -> Outcome {
    let program = tools::program("limits");
    let shim = tools::shim().display().to_string();
    let agent = Agent::listen(8);
    let options = Options { socket: agent.path().to_str().unwrap(), ..Options::default() }.to_string();
    let script = format!("ulimit {limit} && LD_PRELOAD={shim} {VARIABLE}='{options}' exec {}", program.display());
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &script]);
    run_with(&mut command, Path::new(""), Options::default(), Agency::Attentive, &agent)
}

#[test]
fn limits_are_kept() {
    for (limit, recorded) in [("-f 0", false), ("-f 4096", true), ("-v 100000", true), ("-n 4", false), ("-n 8", true)]
    {
        let outcome = limited(limit);
        assert_eq!((outcome.status.code(), &*outcome.stdout), (Some(0), &b"done\n"[..]), "ulimit {limit}");
        assert_eq!(!outcome.recordings.is_empty(), recorded, "ulimit {limit}");
        for recording in &outcome.recordings {
            adds_up(recording);
            assert_eq!(of_size(recording, 1 << 20), 100);
        }
    }
}

#[test]
fn locked_memory_stays_small() {
    same_program("mlocked", &[], Options::default());
}

#[test]
fn an_absent_or_deaf_agent_costs_nothing_but_the_recording() {
    let program = tools::program("plain");
    let expected = plain(&mut Command::new(&program));
    // Nobody listens; not a socket; a path too long for one.
    let long = format!("/tmp/{}", "x".repeat(200));
    for socket in ["/nonexistent/agent", "/dev/null", &long, ""] {
        let options = Options { socket, ..Options::default() }.to_string();
        let mut command = Command::new(&program);
        command.env("LD_PRELOAD", tools::shim()).env(VARIABLE, options);
        let output = plain(&mut command);
        assert_eq!((output.status, output.stdout, output.stderr), (expected.status, expected.stdout.clone(), vec![]));
    }
    // An agent that accepts nobody: the first fit into the backlog, the others must not wait.
    let agent = Agent::listen(1);
    for _ in 0..8 {
        let options = Options { socket: agent.path().to_str().unwrap(), ..Options::default() }.to_string();
        let output = plain(Command::new(&program).env("LD_PRELOAD", tools::shim()).env(VARIABLE, options));
        assert_eq!(output.status, expected.status);
    }
    assert!(agent.accept().is_some(), "the first one got through");
}

#[test]
fn without_options_the_shim_passes_everything_on() {
    let program = tools::program("entry_points");
    let expected = plain(&mut Command::new(&program));
    let output = plain(Command::new(&program).env("LD_PRELOAD", tools::shim()));
    assert_eq!((output.status, output.stdout), (expected.status, expected.stdout));
}

#[test]
fn a_killed_program_leaves_a_readable_segment() {
    let outcome = same_program("killed", &[], Options::default());
    assert!(outcome.recordings[0].count(|event| matches!(event, Event::Allocate { .. })) > 0);
}

#[test]
fn a_sandbox_does_not_notice() {
    let outcome = same_program("seccomp", &[], Options::default());
    assert_eq!(of_size(&outcome.recordings[0], 300_000), 200);
}

#[test]
fn errno_stays() {
    same_program("errno_kept", &[], EVERY_BLOCK);
}

#[test]
fn marks_are_told() {
    let outcome = same_program("mark", &[], Options::default());
    let mut names = Vec::new();
    outcome.recordings[0].for_each(|_, event| {
        if let Event::Mark { name, .. } = event {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    });
    assert_eq!(names, ["build", "serve"]);
}

#[test]
fn the_same_file_serves_musl() {
    if !tools::have_command("musl-gcc") {
        return;
    }
    for name in ["plain", "entry_points", "realloc_edges", "threads", "fork", "mappings", "errno_kept"] {
        let arguments: &[&str] = if name == "threads" { &["100", "500"] } else { &[] };
        let program = tools::compile("musl-gcc", &format!("{name}.c"), &format!("{name}-musl"), &["-pthread"]);
        let command = || {
            let mut command = Command::new(&program);
            command.args(arguments);
            command
        };
        let outcome = same(command, Options::default(), Agency::Attentive);
        assert!(outcome.recordings.iter().any(|recording| recording.events.len() > 3), "{name}");
    }
}

#[test]
fn static_and_privileged_programs_are_left_alone() {
    let program = tools::compile("cc", "plain.c", "plain-static", &["-static"]);
    let outcome = same(|| Command::new(&program), Options::default(), Agency::Attentive);
    assert!(outcome.recordings.is_empty());
    // SAFETY: asks who we are.
    let root = unsafe { libc::geteuid() } == 0;
    if !tools::have("root", root) || !tools::have_command("setpriv") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let privileged = directory.path().join("plain-setuid");
    std::fs::copy(tools::program("plain"), &privileged).unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&privileged, Permissions::from_mode(0o4755)).unwrap();
    let agent = Agent::listen(8);
    let options = Options { socket: agent.path().to_str().unwrap(), ..Options::default() }.to_string();
    let output = plain(
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "env"])
            .arg(format!("LD_PRELOAD={}", tools::shim().display()))
            .arg(format!("{VARIABLE}={options}"))
            .arg(&privileged),
    );
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"1\n"[..]));
    assert!(agent.accept().is_none(), "the loader ignores us there, and so do we");
}

#[test]
fn the_shim_never_allocates_from_the_allocator_it_watches() {
    let library = tools::compile("cc", "counting.c", "libcounting.so", &["-shared", "-fPIC"]);
    for (name, arguments) in [("realloc_edges", &[][..]), ("threads", &["20", "50"][..]), ("plain", &[][..])] {
        let program = tools::program(name);
        let expected = plain(Command::new(&program).args(arguments).env("LD_PRELOAD", &library));
        let both = format!("{}:{}", tools::shim().display(), library.display());
        let outcome = run(Command::new(&program).args(arguments), Path::new(&both), EVERY_BLOCK, Agency::Attentive);
        assert!(!outcome.recordings[0].events.is_empty());
        assert_eq!(String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&expected.stdout), "{name}");
    }
}

#[test]
fn the_shim_depends_on_nothing() {
    assert!(tools::have_command("readelf"));
    let output = plain(Command::new("readelf").arg("-dW").arg("--dyn-syms").arg(tools::shim()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("(NEEDED)"), "{text}");
    assert!(!text.contains("(TEXTREL)"));
    // Weak ones may be absent; of the others every C library has all.
    let strong: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(" UND ") && line.contains("GLOBAL"))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    let harmless = ["memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen"];
    assert!(strong.iter().all(|name| harmless.contains(name)), "{strong:?}");
}
