//! Real programs with everything they allocate in another arena: the same results as without.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by them")]

#[path = "support/table.rs"]
mod table;
#[path = "support/build.rs"]
mod tools;

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use table::{all_in, file, nodes, run_with, scratch};
use tierscope_wire::policy::stats::Snapshot;
use tierscope_wire::policy::{Table, TableSpec, VARIABLE};

const COMMANDS: usize = 500_000;

/// Key and value of a command: values from a byte to some kilobytes, most of them short.
fn pair(number: usize) -> (String, String) {
    let mixed = number.wrapping_mul(2_654_435_761);
    let length = if mixed.is_multiple_of(100) { 4000 + mixed % 3000 } else { 1 + mixed % 60 };
    (format!("key:{number}"), format!("{number}-").chars().cycle().take(length).collect())
}

/// Sends all commands, and calls `each` for every answer, at the same time.
fn converse(socket: &Path, command: impl Fn(usize) -> String + Send, mut each: impl FnMut(usize, &mut dyn BufRead)) {
    let stream = UnixStream::connect(socket).unwrap();
    let answers = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut out = BufWriter::new(stream);
            (0..COMMANDS).for_each(|number| out.write_all(command(number).as_bytes()).unwrap());
            out.flush().unwrap();
        });
        let mut answers = BufReader::new(answers);
        (0..COMMANDS).for_each(|number| each(number, &mut answers));
    });
}

fn line(from: &mut dyn BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Half a million SETs, as many GETs, each value looked at; a snapshot in a forked child in between.
#[test]
fn redis_keeps_its_data() {
    // The server's program by the name it has in the package of its tools.
    if !tools::have_command("redis-check-rdb") {
        return;
    }
    let directory = scratch();
    let program = directory.path().join("redis-server");
    let path = std::env::var_os("PATH").unwrap();
    let tool = std::env::split_paths(&path).map(|at| at.join("redis-check-rdb")).find(|file| file.exists()).unwrap();
    std::os::unix::fs::symlink(tool, &program).unwrap();
    let spec = all_in(nodes("other"));
    let table = directory.path().join("table");
    let bytes = spec.encode().unwrap();
    std::fs::write(&table, &bytes).unwrap();
    let short = tempfile::tempdir().unwrap();
    let socket = short.path().join("redis");
    let mut server = Command::new(&program)
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--dbfilename", "dump.rdb", "--dir"])
        .arg(directory.path())
        .arg("--unixsocket")
        .arg(&socket)
        .env("LD_PRELOAD", tools::shim())
        .env(VARIABLE, &table)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < deadline && server.try_wait().unwrap().is_none(), "the server does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    let set = |number| {
        let (key, value) = pair(number);
        format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len())
    };
    converse(&socket, set, |_, answer| assert_eq!(line(answer), "+OK"));
    let mut stream = BufReader::new(UnixStream::connect(&socket).unwrap());
    stream.get_mut().write_all(b"BGSAVE\r\n").unwrap();
    assert!(line(&mut stream).starts_with("+Background saving started"));
    let get = |number| {
        let (key, _) = pair(number);
        format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())
    };
    converse(&socket, get, |number, answer| {
        let (_, value) = pair(number);
        assert_eq!(line(answer), format!("${}", value.len()));
        let mut found = vec![0; value.len() + 2];
        answer.read_exact(&mut found).unwrap();
        assert_eq!(found[..value.len()], *value.as_bytes(), "key:{number}");
    });
    let deadline = Instant::now() + Duration::from_secs(120);
    while !directory.path().join("dump.rdb").exists() {
        assert!(Instant::now() < deadline, "the forked child does not save");
        std::thread::sleep(Duration::from_millis(50));
    }
    stream.get_mut().write_all(b"SHUTDOWN NOSAVE\r\n").unwrap();
    assert!(server.wait().unwrap().success());
    let stats = Snapshot::read(&Table::parse(&bytes).unwrap(), &std::fs::read(&table).unwrap()).unwrap();
    assert!(stats.tiers[0].blocks > 2 * COMMANDS as u64, "{:?}", stats.tiers);
    assert_eq!((stats.general.processes, stats.tiers[0].spilled_blocks), (2, 0));
}

/// What a command prints, without its timings, with and without a policy.
fn same(spec: &TableSpec, command: impl Fn() -> Command) -> Snapshot {
    let tidy = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines()
            .filter(|line| {
                !["Ran ", "0:00:", "Total duration", "== Tests result"].iter().any(|word| line.contains(word))
            })
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let expected = command().stdin(Stdio::null()).output().unwrap();
    let ran = run_with(spec, &mut command());
    assert_eq!(tidy(&ran.output.stdout), tidy(&expected.stdout));
    assert_eq!(tidy(&ran.output.stderr), tidy(&expected.stderr));
    assert_eq!((ran.output.status.code(), expected.status.code()), (Some(0), Some(0)));
    ran.stats
}

#[test]
fn python_passes_a_part_of_its_own_tests() {
    let suite = Command::new("/usr/bin/python3").args(["-c", "import test.test_json"]).stderr(Stdio::null()).status();
    let suite = suite.is_ok_and(|status| status.success());
    if !tools::have("python-tests", suite) {
        return;
    }
    let directory = scratch();
    for tier in [nodes("other"), file("disk", directory.path())] {
        let stats = same(&all_in(tier), || {
            let mut command = Command::new("/usr/bin/python3");
            command
                .args(["-m", "unittest", "-q"])
                .args(["json", "dict", "re", "array", "bytes"].map(|name| format!("test.test_{name}")))
                .env("PYTHONMALLOC", "malloc")
                .current_dir(directory.path());
            command
        });
        assert!(stats.tiers[0].blocks > 1_000_000, "{:?}", stats.tiers);
    }
}

#[test]
fn sqlite_imports_and_finds_its_database_sound() {
    if !tools::have_command("sqlite3") {
        return;
    }
    let directory = scratch();
    let rows = directory.path().join("rows.csv");
    let mut out = BufWriter::new(std::fs::File::create(&rows).unwrap());
    for number in 0..2_000_000_u64 {
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        writeln!(
            out,
            "{number},{mixed},{:x},a text of some length that belongs to row {number} and to no other,{}",
            mixed >> 7,
            mixed % 1000
        )
        .unwrap();
    }
    out.flush().unwrap();
    drop(out);
    assert!(std::fs::metadata(&rows).unwrap().len() > 200 << 20);
    let stats = same(&all_in(nodes("other")), || {
        let mut command = Command::new("sqlite3");
        command
            .arg(":memory:")
            .arg("CREATE TABLE t(id INTEGER PRIMARY KEY, mixed, hex, text, class INTEGER)")
            .arg(format!(".import --csv {} t", rows.display()))
            .arg("CREATE INDEX by_class ON t(class)")
            .arg("PRAGMA integrity_check")
            .arg("SELECT class, count(*), sum(id), max(text) FROM t GROUP BY class ORDER BY class LIMIT 20");
        command
    });
    assert!(stats.tiers[0].bytes_peak > 200 << 20, "{:?}", stats.tiers);
}
