//! The machine itself: what a reader of a report wants to know about it.

use crate::check::{Area, Check};
use crate::machine::{Container, Machine};
use tierscope_machine::count;
use tierscope_tiers::human_bytes as human;

/// The simulator runs programs in this.
const EMULATOR: &str = "qemu-x86_64";
/// The clock sampler opens an event for each thread on each CPU.
const USUAL_THREADS: u64 = 64;

pub(crate) fn checks(machine: &Machine) -> Vec<Check> {
    let mut checks = vec![kernel(machine), cpu(machine), caches(machine), memory(machine), place(machine)];
    checks.extend([descriptors(machine), emulator(machine)]);
    checks
}

fn check(id: &'static str, title: &'static str, finding: impl Into<String>) -> Check {
    Check::ok(Area::Host, id, title, finding)
}

fn kernel(machine: &Machine) -> Check {
    let release = machine.root.line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    let version = numbers.next().flatten().zip(numbers.next().flatten());
    let found = check("host.kernel", "kernel", format!("Linux {release}"));
    match version {
        Some(version) if version < (5, 10) => {
            found.limited("Linux 5.10 or later is wanted: process_madvise and pidfds are missing before.")
        }
        _ => found,
    }
}

fn cpu(machine: &Machine) -> Check {
    let field = |name| machine.root.field("/proc/cpuinfo", name);
    let model = field("model name").or_else(|| field("CPU part").map(|part| format!("ARM part {part}")));
    let model = model.unwrap_or_else(|| "unknown".into());
    check("host.cpu", "processor", format!("{model}, {}", count(machine.cpus(), "CPU")))
}

fn caches(machine: &Machine) -> Check {
    let base = "/sys/devices/system/cpu/cpu0/cache";
    let cache = |index: String| {
        let read = |file: &str| machine.root.line(format!("{base}/{index}/{file}"));
        let (level, kind, size) = (read("level")?, read("type")?, read("size")?);
        let name = match kind.as_str() {
            "Data" => format!("L{level}d"),
            "Instruction" => return None,
            _ => format!("L{level}"),
        };
        let kibibytes: Option<u64> = size.strip_suffix('K').and_then(|size| size.parse().ok());
        Some(format!("{name} {}", kibibytes.map_or(size, |size| human(size.saturating_mul(1024)))))
    };
    let indexes = machine.root.names(base).into_iter().filter(|name| name.starts_with("index"));
    let caches: Vec<String> = indexes.filter_map(cache).collect();
    let found = |finding: String| check("host.caches", "caches", finding);
    match caches.is_empty() {
        false => found(caches.join(", ")),
        true => {
            found("not shown".into()).limited("The simulator takes its default cache sizes; give --llc to change them.")
        }
    }
}

fn memory(machine: &Machine) -> Check {
    let bytes = |name: &str| {
        let value = machine.root.field("/proc/meminfo", name)?;
        value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let finding = match (bytes("MemTotal"), bytes("MemAvailable")) {
        (Some(total), Some(available)) => format!("{}, {} available", human(total), human(available)),
        (Some(total), None) => human(total),
        (None, _) => "unknown".into(),
    };
    check("host.memory", "memory", finding)
}

/// Bare metal, virtual machine, container.
fn place(machine: &Machine) -> Check {
    let container = machine.container().map(|container| match container {
        Container::Docker => "docker container",
        Container::Podman => "podman container",
        Container::Kubernetes => "kubernetes pod",
        Container::Lxc => "lxc container",
        Container::Other => "container",
    });
    let below = if machine.is_virtual() { "virtual machine" } else { "no hypervisor seen" };
    let filter = if machine.is_filtered() { ", system calls filtered (seccomp)" } else { "" };
    let finding = match container {
        Some(container) => format!("{container}, {below}{filter}"),
        None => format!("{below}{filter}"),
    };
    check("host.place", "runs in", finding)
}

fn descriptors(machine: &Machine) -> Check {
    let limits = machine.root.text("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    // Soft, then hard; Tierscope raises its own soft limit.
    let hard = line.and_then(|line| line.split_whitespace().nth(1)).map(|hard| hard.parse().unwrap_or(u64::MAX));
    let found = |finding: String| check("host.descriptors", "open files", finding);
    let Some(hard) = hard else { return found("limit unknown".into()) };
    let threads = hard.saturating_sub(64) / machine.cpus() as u64;
    if hard == u64::MAX || threads > 100_000 {
        return found("enough for any number of threads".into());
    }
    let finding = found(format!("{hard}: events for {threads} threads on {}", count(machine.cpus(), "CPU")));
    match threads < USUAL_THREADS {
        true => finding
            .limited("The clock sampler opens one event for each thread on each CPU; threads beyond are not sampled.")
            .mend("sudo prlimit --pid $$ --nofile=1048576"),
        false => finding,
    }
}

fn emulator(machine: &Machine) -> Check {
    let folders = ["/usr/bin", "/usr/local/bin", "/bin"];
    let found = |finding: String| check("host.emulator", "emulator", finding);
    match folders.iter().map(|folder| format!("{folder}/{EMULATOR}")).find(|path| machine.root.exists(path)) {
        Some(path) => found(path),
        None => found(format!("{EMULATOR} is not installed"))
            .limited("`tierscope simulate` needs it; nothing else does.")
            .mend(install(machine)),
    }
}

/// The package manager's command, by the distribution's family.
fn install(machine: &Machine) -> &'static str {
    let release = machine.root.text("/etc/os-release").unwrap_or_default();
    let family: Vec<&str> = release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|ids| ids.trim_matches('"').split(' '))
        .collect();
    let is = |names: &[&str]| family.iter().any(|id| names.contains(id));
    match () {
        () if is(&["fedora", "rhel", "centos"]) => "sudo dnf install qemu-user",
        () if is(&["arch"]) => "sudo pacman -S qemu-user",
        () if is(&["suse", "opensuse"]) => "sudo zypper install qemu-linux-user",
        () if is(&["alpine"]) => "sudo apk add qemu-x86_64",
        () => "sudo apt install qemu-user",
    }
}
