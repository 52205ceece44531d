//! A server, under load.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::harness::{Outcome, Program, Running, run, wait_until};
use crate::interpreters::say_addressed;
use crate::needs::{Need, have, on_path};
use crate::profile::{Object, Report};

/// A port that was free a moment ago.
fn free_port() -> String {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string()
}

/// A server that keeps nothing and listens on this machine only.
///
/// It is one program with several names, and does what it is called by: so it is found where only the tools are
/// installed, and no package has to start a service.
fn server(port: &str) -> Program {
    let options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no", "--port", port];
    let program = Program::new(&["./redis-server"]).arguments(&options);
    symlink(on_path("redis-check-rdb").unwrap(), program.directory.path().join("redis-server")).unwrap();
    program
}

/// A dialogue whose answers do not depend on time.
fn dialogue(port: &str) -> Vec<String> {
    let questions: [&[&str]; 6] = [
        &["set", "colour", "green"],
        &["get", "colour"],
        &["rpush", "numbers", "3", "1", "2"],
        &["sort", "numbers"],
        &["incrby", "count", "42"],
        &["strlen", "colour"],
    ];
    questions.iter().map(|question| client(port, question).expect(0).stdout).collect()
}

fn client(port: &str, question: &[&str]) -> Outcome {
    run(Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", port]).args(question))
}

/// Starts a server, loads it, asks it, and stops it.
fn serve(command: &mut Command, port: &str) -> (Vec<String>, Outcome) {
    let mut server = Running::start(command);
    wait_until("redis answers", || {
        assert!(server.is_running(), "redis-server ended: {}", server.stderr());
        client(port, &["ping"]).stdout.trim() == "PONG"
    });
    let load = ["-t", "set,get", "-n", "1500000", "-r", "1000000", "-d", "64", "-P", "32", "-q"];
    run(Command::new("redis-benchmark").args(["-h", "127.0.0.1", "-p", port]).args(load)).expect(0);
    let answers = dialogue(port);
    client(port, &["shutdown", "nosave"]);
    (answers, server.wait())
}

/// Expected: what a look-up touches. Half a million and more keys, taken at random, are over 100 MiB of table, entries,
/// keys and values: far above any cache, where the clients' buffers and the stack are not. So the first heap object, and
/// most of the heap's time, comes from the dictionary and the strings (`dict*`, `dbAdd`, `create*StringObject`).
#[test]
fn redis_spends_its_memory_time_on_its_keys() {
    if !have(&[Need::Redis]) {
        return;
    }
    let port = free_port();
    let program = server(&port);
    let (answers_alone, alone) = serve(&mut program.command(), &port);
    let (answers, recorded) = serve(&mut program.recording_command(&[]), &port);
    assert_eq!(answers_alone, answers);
    assert_eq!((alone.code, alone.signal), (recorded.code, recorded.signal), "{}", recorded.stderr);

    let report = Report::of(&program.profile());
    say_addressed("redis-server under redis-benchmark", &program.profile(), &report);
    let of_keys = |object: &Object| ["dict", "dbAdd", "StringObject"].iter().any(|word| object.mentions(word));
    assert!(of_keys(report.top("heap")), "{}", report.summary());
    let heap = || report.objects.iter().filter(|object| object.kind == "heap");
    let all: f64 = heap().map(|object| object.samples).sum();
    let keys: f64 = heap().filter(|object| of_keys(object)).map(|object| object.samples).sum();
    assert!(keys > 0.5 * all, "{keys} of {all} samples\n{}", report.summary());
}
