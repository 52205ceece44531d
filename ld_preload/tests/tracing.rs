//! The shim under a tracer (`trace=1`): programs behave as without it, and a tracer that looks at every system call, as the
//! simulator's does, is told of every block in order. Here the tracer is `ptrace`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by them")]

#[path = "support/build.rs"]
mod tools;

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use tierscope_wire::options::{Options, VARIABLE};
use tierscope_wire::trace::{DESCRIPTOR, Message, SYSTEM_CALL};

fn traced(name: &str) -> Command {
    let mut command = Command::new(tools::program(name));
    let options = Options { trace: true, follow: false, ..Options::default() };
    command.env("LD_PRELOAD", tools::shim()).env(VARIABLE, options.to_string()).stdin(Stdio::null());
    command
}

fn plain(name: &str) -> Output {
    Command::new(tools::program(name)).stdin(Stdio::null()).output().unwrap()
}

/// The process that a thread belongs to.
fn process_of(thread: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Tgid:")).unwrap().trim().parse().unwrap()
}

/// Runs `command` under `ptrace`: what it and its children said, by process and in order, and the status of the first.
fn messages(command: &mut Command) -> (Vec<(i32, Message)>, i32) {
    let child = || {
        // SAFETY: asks to be traced, and stops until the tracer is ready.
        unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        Ok(())
    };
    // SAFETY: only a system call between fork and exec.
    let first = unsafe { command.pre_exec(child) }.stdout(Stdio::null()).spawn().unwrap().id() as i32;
    let mut told = Vec::new();
    // System calls are reported at entry and at exit.
    let mut inside: HashMap<i32, bool> = HashMap::new();
    loop {
        let mut status = 0;
        // SAFETY: waits for whatever this thread traces.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        assert!(pid > 0, "{}", std::io::Error::last_os_error());
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            if pid == first {
                return (told, status);
            }
            continue;
        }
        let mut signal = libc::WSTOPSIG(status);
        if signal == libc::SIGTRAP | 0x80 {
            let inside = inside.entry(pid).or_default();
            *inside = !*inside;
            // SAFETY: zeros are valid registers; the process is stopped.
            let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0, &raw mut registers) };
            let r = &registers;
            if r.orig_rax == SYSTEM_CALL && r.rdi == DESCRIPTOR {
                if *inside {
                    told.push((
                        process_of(pid),
                        Message::decode([r.rsi, r.rdx, r.r10, r.r8, r.r9]).expect("a message"),
                    ));
                } else {
                    assert_eq!(r.rax as i64, -i64::from(libc::EBADF));
                }
            }
        }
        if signal & 0x7f == libc::SIGTRAP || signal == libc::SIGSTOP {
            signal = 0;
        }
        let options = libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_EXITKILL;
        // SAFETY: the process is stopped and goes on.
        unsafe {
            libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options);
            libc::ptrace(libc::PTRACE_SYSCALL, pid, 0, signal);
        }
    }
}

/// Replays what was said: sizes of the blocks alive at the end, and of all there were. Each has a stack that was told.
fn replay(told: &[(i32, Message)]) -> (HashMap<u64, u64>, Vec<u64>) {
    let (mut alive, mut all) = (HashMap::new(), Vec::new());
    let mut stacks: HashMap<u32, (u32, u32)> = HashMap::new();
    for (_, message) in told {
        if let Message::Allocated { stack, .. } | Message::Mapped { stack, .. } = message {
            let (wanted, there) = stacks.get(&stack.0).expect("a stack told before");
            assert_eq!(wanted, there);
        }
        match *message {
            Message::Stack { id, frames } => drop(stacks.insert(id.0, (frames, 0))),
            Message::Frames { id, index, frames } => {
                let (wanted, there) = stacks.get_mut(&id.0).expect("a stack told before");
                assert_eq!(*there, index);
                let some = frames.iter().filter(|frame| **frame != 0).count() as u32;
                *there += some;
                assert!(some > 0 && *there <= *wanted);
            }
            Message::Allocated { address, bytes, .. } => {
                assert_eq!(alive.insert(address, bytes), None, "{message:?} over a live block");
                all.push(bytes);
            }
            Message::Freed { address } => assert!(alive.remove(&address).is_some(), "{message:?} of nothing"),
            Message::Reallocated { old, address, bytes, .. } => {
                assert!(alive.remove(&old).is_some(), "{message:?} of nothing");
                if address != 0 {
                    assert_eq!(alive.insert(address, bytes), None, "{message:?} over a live block");
                    all.push(bytes);
                }
            }
            _ => {}
        }
    }
    (alive, all)
}

#[test]
fn programs_behave_the_same() {
    for name in
        ["plain", "entry_points", "realloc_edges", "mappings", "threads", "signals", "fork", "errno_kept", "coroutines"]
    {
        let (expected, output) = (plain(name), traced(name).output().unwrap());
        assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&expected.stdout), "{name}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&expected.stderr), "{name}");
        assert_eq!(output.status, expected.status, "{name}");
    }
}

#[test]
fn every_block_is_told_in_order() {
    let (told, status) = messages(&mut traced("plain"));
    assert_eq!(status, 0);
    assert!(matches!(told.first(), Some((_, Message::Hello { start, end })) if start < end));
    let (alive, all) = replay(&told);
    assert_eq!(all.iter().filter(|bytes| **bytes == 1 << 20).count(), 2);
    assert_eq!(alive.values().filter(|bytes| **bytes == 1 << 20).count(), 1);
    let count = |which: fn(&Message) -> bool| told.iter().filter(|(_, message)| which(message)).count();
    assert_eq!(count(|message| matches!(message, Message::Mapped { bytes: 126_976, file: false, .. })), 1);
    assert_eq!(count(|message| matches!(message, Message::Unmapped { bytes: 126_976, .. })), 1);
    assert_eq!(count(|message| matches!(message, Message::Thread { low, high, .. } if low < high)), 1);

    let (told, status) = messages(&mut traced("entry_points"));
    assert_eq!(status, 0);
    let (_, all) = replay(&told);
    for bytes in [1, 24, 2, 48, 3, 72, 13] {
        assert!(all.contains(&bytes), "small blocks are told too: {bytes}");
    }
}

#[test]
fn marks_are_told() {
    let (told, _) = messages(&mut traced("mark"));
    assert!(told.iter().any(|(_, message)| matches!(message, Message::Mark { name } if !name.as_bytes().is_empty())));
}

#[test]
fn forked_children_say_nothing() {
    let (told, _) = messages(&mut traced("fork"));
    let (first, _) = told[0];
    let others: Vec<_> = told.iter().filter(|(pid, _)| *pid != first).collect();
    assert!(others.is_empty(), "only the process itself speaks: {others:?}");
}
