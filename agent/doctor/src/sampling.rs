//! Where samples can come from.

use crate::capability::{PERFMON, SYS_ADMIN};
use crate::check::{Area, Check};
use crate::machine::Machine;
use crate::probes::Errno;

const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";
/// The clock sampler's default is 1 kHz; four times that is still cheap.
const USUAL_RATE_HZ: i64 = 4000;

pub(crate) fn checks(machine: &Machine) -> Vec<Check> {
    vec![clock(machine), fault(machine), kernel(machine), rate(machine), ring(machine), pmu(machine), precise(machine)]
}

fn check(id: &'static str, title: &'static str, finding: impl Into<String>) -> Check {
    Check::ok(Area::Sampling, id, title, finding)
}

/// Why perf_event_open was refused, and what mends it.
fn refusal(machine: &Machine, errno: Errno, needed: i64) -> (String, Option<String>) {
    let paranoid = machine.root.number(PARANOID);
    let sysctl = format!("sudo sysctl -w kernel.perf_event_paranoid={needed}");
    match errno.0 {
        // The kernel answers EACCES where the knob forbids, a seccomp filter EPERM or ENOSYS.
        libc::EACCES => match paranoid {
            Some(level) => (format!("denied by perf_event_paranoid {level}"), Some(sysctl)),
            None => ("denied (EACCES)".into(), Some(sysctl)),
        },
        libc::EPERM | libc::ENOSYS if machine.is_filtered() => {
            (format!("denied by a seccomp filter ({errno})"), machine.grant("PERFMON"))
        }
        libc::EPERM => match paranoid.filter(|&level| level > needed) {
            Some(level) => (format!("denied by perf_event_paranoid {level}"), Some(sysctl)),
            None => (format!("denied ({errno})"), machine.grant("PERFMON")),
        },
        libc::ENOSYS => ("the kernel has no perf events (CONFIG_PERF_EVENTS)".into(), None),
        _ => (format!("refused ({errno})"), None),
    }
}

fn with_mend(check: Check, mend: Option<String>) -> Check {
    Check { mend, ..check }
}

fn clock(machine: &Machine) -> Check {
    match machine.probes.clock {
        Ok(()) => check("sampling.clock", "clock sampler", "perf cpu-clock opens"),
        Err(errno) => {
            let (finding, mend) = refusal(machine, errno, 2);
            with_mend(check("sampling.clock", "clock sampler", finding), mend)
                .missing("Without it nothing says where a program's time goes.")
        }
    }
}

fn fault(machine: &Machine) -> Check {
    match machine.probes.fault {
        Ok(()) => check("sampling.fault", "fault sampler", "page-fault events with addresses open"),
        Err(errno) => {
            let (finding, mend) = refusal(machine, errno, 2);
            with_mend(check("sampling.fault", "fault sampler", finding), mend)
                .missing("Page faults, and so the first touch of memory, are not seen.")
        }
    }
}

fn kernel(machine: &Machine) -> Check {
    match machine.probes.clock_kernel {
        Ok(()) => check("sampling.kernel", "kernel samples", "allowed"),
        Err(errno) => {
            let (finding, mend) = refusal(machine, errno, 1);
            with_mend(check("sampling.kernel", "kernel samples", finding), mend).limited(
                "Time in system calls and page faults is not sampled: objects that are faulted in or read and written \
                 by system calls get too small a share.",
            )
        }
    }
}

fn rate(machine: &Machine) -> Check {
    let found = |finding: String| check("sampling.rate", "sample rate", finding);
    match machine.root.number("/proc/sys/kernel/perf_event_max_sample_rate") {
        None => found("no limit is stated".into()),
        Some(rate) if rate >= USUAL_RATE_HZ => found(format!("up to {rate} Hz")),
        Some(rate) => found(format!("at most {rate} Hz"))
            .limited("Higher rates are refused; the kernel lowers this limit itself when samples take it long.")
            .mend("sudo sysctl -w kernel.perf_event_max_sample_rate=100000"),
    }
}

fn ring(machine: &Machine) -> Check {
    let limit = machine.root.number("/proc/sys/kernel/perf_event_mlock_kb");
    let limit = limit.map_or_else(|| "the limit is unknown".to_owned(), |limit| format!("{limit} KiB per CPU"));
    let found = |finding: String| check("sampling.rings", "sample rings", finding);
    match machine.probes.ring {
        Ok(()) => found(format!("a ring of 512 KiB maps ({limit})")),
        // Without events there is nothing to map a ring of.
        Err(_) if machine.probes.clock.is_err() => found(format!("not tried ({limit})"))
            .limited("Rings hold samples until Tierscope reads them; they cannot be tried without perf events."),
        Err(errno) => found(format!("a ring of 512 KiB does not map: {errno} ({limit})"))
            .limited("Smaller rings are used, and more samples are lost when a program has many threads.")
            .mend("sudo sysctl -w kernel.perf_event_mlock_kb=4096"),
    }
}

/// Names of CPU PMUs: `cpu` (x86), `cpu_core` and `cpu_atom` (hybrid), `armv8_pmuv3_0`.
fn core_pmus(machine: &Machine) -> Vec<String> {
    let mut names = machine.root.names("/sys/bus/event_source/devices");
    names.retain(|name| matches!(name.as_str(), "cpu" | "cpu_core" | "cpu_atom") || name.starts_with("armv"));
    names
}

fn pmu(machine: &Machine) -> Check {
    let pmus = core_pmus(machine);
    let found = |finding: String| check("sampling.pmu", "hardware counters", finding);
    let cost = "Misses are not counted; the clock sampler does without.";
    match machine.probes.cycles {
        Ok(()) if pmus.is_empty() => found("cycles count".into()),
        Ok(()) => found(format!("{}: cycles count", pmus.join(", "))),
        Err(Errno(libc::EACCES | libc::EPERM)) if !pmus.is_empty() => {
            let errno = Errno(libc::EACCES);
            let errno = machine.probes.cycles.err().unwrap_or(errno);
            let (finding, mend) = refusal(machine, errno, 2);
            with_mend(found(finding), mend).missing(cost)
        }
        Err(_) if machine.is_virtual() => found("none: a virtual machine without a PMU".into())
            .missing(format!("{cost} It cannot be mended from inside: the host must give the machine a virtual PMU.")),
        Err(errno) => found(format!("none ({errno})")).missing(format!("{cost} This processor or kernel has none.")),
    }
}

fn precise(machine: &Machine) -> Check {
    let devices = machine.root.names("/sys/bus/event_source/devices");
    let has = |prefix: &str| devices.iter().any(|name| name.starts_with(prefix));
    let intel = core_pmus(machine).iter().any(|pmu| {
        let depth = machine.root.number(format!("/sys/bus/event_source/devices/{pmu}/caps/max_precise"));
        depth.is_some_and(|depth| depth >= 2)
    });
    let kind = match () {
        () if has("ibs_op") => Some("IBS"),
        () if has("arm_spe") => Some("SPE"),
        () if intel => Some("PEBS"),
        () => None,
    };
    let found = |finding: String| check("sampling.precise", "sampled addresses", finding);
    let cost = "Addresses of samples are computed by decoding instructions, and levels and latencies are not known.";
    match (kind, machine.probes.precise) {
        // SPE has its own device: a precise cycles event says nothing about it.
        (Some("SPE"), _) => found("SPE: addresses, levels and latencies by hardware".into()),
        (Some(kind), Ok(())) => found(format!("{kind}: addresses, levels and latencies by hardware")),
        (Some(kind), Err(errno)) => {
            let privileged = machine.has_capability(PERFMON) || machine.has_capability(SYS_ADMIN);
            // Where IBS counts the kernel too it needs more than a user has.
            let (finding, mend) =
                if privileged { (format!("refused ({errno})"), None) } else { refusal(machine, errno, 0) };
            with_mend(found(format!("{kind}: {finding}")), mend).missing(cost)
        }
        (None, _) => found("no PEBS, IBS or SPE".into()).missing(cost),
    }
}
