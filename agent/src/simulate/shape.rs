//! The machine to model: this one, with what the command line changes.
//!
//! What the kernel says of this machine's caches is taken as it is, as far as it can be modelled: a cache's sets must be a
//! power of two (an address selects one by its bits), so where a size and its ways do not make one (a slice of a hashed
//! cache, a virtual machine's fiction) the ways are changed and the size kept.

use crate::cli::{Shape, SimulateArguments};
use crate::failure::Failure;
use tierscope_sim::Machine;
use tierscope_sim::machine::{Cache, LINE_BYTES, MAX_CORES, Prefetch};
use tierscope_traces::Host;

/// The machine to model.
pub(super) fn machine(arguments: &SimulateArguments, host: &Host) -> Result<Machine, Failure> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut machine = of_host(host, &cpuinfo);
    if let Some(Shape::Of { bytes, ways }) = arguments.l1d {
        machine.l1d = shaped(&machine.l1d, bytes, ways);
    }
    if let Some(Shape::Of { bytes, ways }) = arguments.llc {
        machine.llc = shaped(&machine.llc, bytes, ways);
    }
    if [arguments.l1d, arguments.llc].contains(&Some(Shape::None)) {
        return Err(Failure::usage("--l1d and --llc cannot be none: accesses are served by something"));
    }
    let default = Machine::default();
    machine.l2 = match arguments.l2 {
        None => machine.l2,
        Some(Shape::None) => None,
        Some(Shape::Of { bytes, ways }) => machine.l2.or(default.l2).map(|cache| shaped(&cache, bytes, ways)),
    };
    machine.l1i = match arguments.l1i {
        Some(Shape::Of { bytes, ways }) => Some(shaped(&Cache { ways: 8, ..default.l1d }, bytes, ways)),
        _ => None,
    };
    let caches = [Some(&mut machine.l1d), machine.l2.as_mut(), Some(&mut machine.llc), machine.l1i.as_mut()];
    for cache in caches.into_iter().flatten() {
        cache.replacement = arguments.replacement.into();
    }
    machine.llc.inclusive = arguments.inclusive;
    machine.page = arguments.pages.into();
    if arguments.no_tlb {
        (machine.dtlb, machine.stlb) = (None, None);
    }
    if arguments.no_prefetch {
        machine.prefetch = Prefetch::OFF;
    }
    machine.ghz = arguments.ghz.unwrap_or(machine.ghz);
    machine.check().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(machine)
}

/// The machine around the host's processor, or the default one where that is not known, with the host's caches and clock.
fn of_host(host: &Host, cpuinfo: &str) -> Machine {
    let field = |name: &str| {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
        found.next()
    };
    let number = |name: &str| field(name)?.parse().ok();
    let known = || Machine::of_processor(field("vendor_id")?, number("cpu family")?, number("model")?);
    let mut machine = known().unwrap_or_default();
    let find = |level: u8| {
        let data = |kind: &str| kind == "data" || kind == "unified";
        host.caches.iter().find(|cache| cache.level == level && data(&cache.kind) && cache.bytes > 0)
    };
    let fit = |cache: &Cache, level| {
        find(level).map_or_else(|| cache.clone(), |found| shaped(cache, found.bytes, Some(found.ways)))
    };
    machine.l1d = fit(&machine.l1d, 1);
    // Where there is no third level, the second is the last.
    if find(3).is_some() {
        machine.l2 = machine.l2.as_ref().map(|cache| fit(cache, 2));
        machine.llc = fit(&machine.llc, 3);
    } else if find(2).is_some() {
        machine.llc = fit(&machine.llc, 2);
        machine.l2 = None;
    }
    if let Some(shared) = find(3).map(|cache| cache.shared_cpus).filter(|shared| *shared > 0) {
        machine.cores = u16::try_from(shared).unwrap_or(MAX_CORES).clamp(1, MAX_CORES);
    }
    machine.ghz = clock_of(cpuinfo).unwrap_or(machine.ghz);
    machine
}

/// The fastest processor's clock, in GHz: slower ones are idle.
fn clock_of(cpuinfo: &str) -> Option<f64> {
    let clocks = cpuinfo.lines().filter(|line| line.starts_with("cpu MHz")).filter_map(|line| line.split_once(':'));
    let clocks = clocks.filter_map(|(_, megahertz)| megahertz.trim().parse::<f64>().ok()).map(|clock| clock / 1e3);
    clocks.filter(|clock| (0.1..=10.0).contains(clock)).reduce(f64::max)
}

/// A cache like another, of so many bytes, whose sets are a power of two.
fn shaped(like: &Cache, bytes: u64, ways: Option<u32>) -> Cache {
    let wanted = ways.filter(|ways| *ways > 0).unwrap_or(like.ways);
    let lines = bytes / LINE_BYTES;
    let fits = |ways: &u32| lines.is_multiple_of(u64::from(*ways)) && (lines / u64::from(*ways)).is_power_of_two();
    let nearest = (1..=64).filter(fits).min_by_key(|ways| ways.abs_diff(wanted));
    Cache { bytes, ways: nearest.unwrap_or(wanted), ..like.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierscope_traces::Cache as Found;

    fn host(caches: &[(u8, &str, u64, u32)]) -> Host {
        let found = |&(level, kind, bytes, ways): &(u8, &str, u64, u32)| Found {
            level,
            kind: kind.into(),
            bytes,
            line: 64,
            ways,
            shared_cpus: 12,
        };
        Host { caches: caches.iter().map(found).collect(), ..Host::default() }
    }

    #[test]
    fn a_host_is_modelled_as_it_says_it_is() {
        let host = host(&[
            (1, "data", 48 << 10, 12),
            (1, "instruction", 32 << 10, 8),
            (2, "unified", 2 << 20, 16),
            (3, "unified", 30 << 20, 12),
        ]);
        let machine = of_host(&host, "");
        machine.check().unwrap();
        assert_eq!((machine.l1d.bytes, machine.l1d.ways), (48 << 10, 12));
        assert_eq!(machine.l2.map(|cache| cache.bytes), Some(2 << 20));
        // 30 MiB of 12 ways make 40960 sets; of 15 they make 32768.
        assert_eq!((machine.llc.bytes, machine.llc.ways, machine.cores), (30 << 20, 15, 12));
    }

    #[test]
    fn a_host_without_a_third_level_has_its_second_as_the_last() {
        let machine = of_host(&host(&[(1, "data", 32 << 10, 8), (2, "unified", 1 << 20, 16)]), "");
        assert_eq!((machine.l2, machine.llc.bytes), (None, 1 << 20));
        of_host(&Host::default(), "").check().unwrap();
    }

    #[test]
    fn a_known_processor_has_its_own_core_and_an_unknown_one_the_default() {
        let xeon =
            "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\nmodel name\t: Xeon\ncpu MHz\t\t: 2793.4\n";
        let machine = of_host(&Host::default(), xeon);
        machine.check().unwrap();
        assert_ne!(machine.core, Machine::default().core);
        assert!((machine.ghz - 2.7934).abs() < 1e-9);
        assert_eq!(Some(machine.core), Machine::of_processor("GenuineIntel", 6, 106).map(|machine| machine.core));
        let other = of_host(&Host::default(), &xeon.replace("106", "1"));
        assert_eq!(other.core, Machine::default().core);
    }

    #[test]
    fn the_fastest_processor_gives_the_clock() {
        assert_eq!(clock_of("cpu MHz\t\t: 2400.5\ncpu MHz : 3700.0\n"), Some(3.7));
        assert_eq!(clock_of("cpu MHz : fast\n"), None);
    }
}
