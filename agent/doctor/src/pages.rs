//! Watching which pages are used, and moving them.

use crate::check::{Area, Check};
use crate::machine::Machine;
use crate::probes::Errno;

pub(crate) fn checks(machine: &Machine) -> Vec<Check> {
    vec![
        movable(machine),
        advice(machine),
        huge_pages(machine),
        scan(machine),
        soft_dirty(machine),
        userfaultfd(machine),
        names(machine),
    ]
}

fn check(id: &'static str, title: &'static str, finding: impl Into<String>) -> Check {
    Check::ok(Area::Pages, id, title, finding)
}

/// Who refused a call that the kernel has.
fn blame(machine: &Machine, errno: Errno) -> String {
    match errno.0 {
        libc::EPERM | libc::ENOSYS if machine.is_filtered() => format!("denied by a seccomp filter ({errno})"),
        libc::ENOSYS => "not in this kernel".into(),
        libc::ENOTTY | libc::EINVAL => format!("not in this kernel ({errno})"),
        _ => format!("refused ({errno})"),
    }
}

fn movable(machine: &Machine) -> Check {
    let found = |finding: String| check("pages.move", "moving pages", finding);
    let (name, errno) = match (machine.probes.move_pages, machine.probes.mbind) {
        (Ok(()), Ok(())) => return found("move_pages and mbind work".into()),
        (Err(errno), _) => ("move_pages", errno),
        (Ok(()), Err(errno)) => ("mbind", errno),
    };
    let check = found(format!("{name}: {}", blame(machine, errno)))
        .missing("Objects cannot be placed on nodes: `run --policy` and `apply` only report what they would do.");
    // Docker's default filter lets these through with CAP_SYS_NICE.
    Check { mend: if machine.is_filtered() { machine.grant("SYS_NICE") } else { None }, ..check }
}

fn advice(machine: &Machine) -> Check {
    let found = |finding: String| check("pages.advise", "paging advice", finding);
    match machine.probes.process_madvise {
        Ok(()) => found("process_madvise works".into()),
        Err(errno) => found(format!("process_madvise: {}", blame(machine, errno))).limited(
            "Pages of another process cannot be cooled or paged out from outside; the shim does it from within.",
        ),
    }
}

fn huge_pages(machine: &Machine) -> Check {
    let knob = |name: &str| machine.root.chosen(format!("/sys/kernel/mm/transparent_hugepage/{name}"));
    let found = |finding: String| check("pages.huge", "huge pages", finding);
    match (knob("enabled"), knob("defrag")) {
        (None, _) => found("not in this kernel".into()),
        (Some(enabled), defrag) => {
            let defrag = defrag.map(|defrag| format!(", defrag {defrag}")).unwrap_or_default();
            let finding = found(format!("{enabled}{defrag}"));
            match enabled.as_str() {
                "never" => finding
                    .limited("Without huge pages large objects miss the TLB more, in every tier.")
                    .mend("echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"),
                _ => finding,
            }
        }
    }
}

fn scan(machine: &Machine) -> Check {
    let found = |finding: String| check("pages.scan", "page scans", finding);
    match machine.probes.pagemap_scan {
        Ok(()) => found("PAGEMAP_SCAN works".into()),
        Err(errno) => found(format!("PAGEMAP_SCAN: {}", blame(machine, errno)))
            .limited("Pages are scanned through /proc/PID/pagemap, which is slower. Linux 6.7 has the faster way."),
    }
}

fn soft_dirty(machine: &Machine) -> Check {
    let found = |finding: &str| check("pages.dirty", "soft-dirty bits", finding);
    if machine.probes.soft_dirty {
        return found("follow writes");
    }
    let instead = match machine.probes.write_tracking {
        Ok(()) => "Writes are tracked by userfaultfd instead, from within the program.",
        Err(_) => "Written pages cannot be told from read ones by scanning; sampled stores still can.",
    };
    found("stay 0 (kernel without CONFIG_MEM_SOFT_DIRTY)").limited(instead)
}

fn userfaultfd(machine: &Machine) -> Check {
    let found = |finding: String| check("pages.userfaultfd", "userfaultfd", finding);
    let kernel = match machine.root.number("/proc/sys/vm/unprivileged_userfaultfd") {
        Some(0) => ", user mode only for ordinary users",
        _ => "",
    };
    match (machine.probes.userfaultfd, machine.probes.write_tracking) {
        (Ok(()), Ok(())) => found(format!("works, with write tracking{kernel}")),
        (Ok(()), Err(_)) => found(format!("works, without write tracking{kernel}"))
            .limited("Linux 6.7 has write tracking without a handler (WP_ASYNC); older kernels do without."),
        (Err(errno), _) => {
            let filtered = machine.is_filtered();
            let check = found(blame(machine, errno)).limited("Writes cannot be tracked page by page from within.");
            Check { mend: if filtered { machine.grant("SYS_PTRACE") } else { None }, ..check }
        }
    }
}

fn names(machine: &Machine) -> Check {
    let found = |finding: String| check("pages.names", "named mappings", finding);
    match machine.probes.mapping_names {
        Ok(()) => found("PR_SET_VMA_ANON_NAME works".into()),
        Err(errno) => found(format!("no PR_SET_VMA_ANON_NAME ({errno})"))
            .limited("Mappings Tierscope makes in programs show without a name in /proc/PID/maps."),
    }
}
