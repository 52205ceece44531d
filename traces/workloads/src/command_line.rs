//! What was typed, and what it means.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use crate::options::Options;
use crate::workload::{Workload, find};

/// How large a run is. Each workload says what its scales hold; the aim is common to all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// About 10 MiB and a second: for tests.
    Tiny,
    /// A few hundred MiB and 5 to 20 seconds on one thread: several times any last-level cache.
    Small,
    /// About 1 GiB.
    Medium,
    /// Several GiB.
    Large,
}

impl Scale {
    const ALL: [Scale; 4] = [Scale::Tiny, Scale::Small, Scale::Medium, Scale::Large];

    /// The name on the command line and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scale::Tiny => "tiny",
            Scale::Small => "small",
            Scale::Medium => "medium",
            Scale::Large => "large",
        }
    }
}

/// Which random graph a graph kernel runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GraphKind {
    /// Kronecker (R-MAT): few vertices have most of the edges.
    Kronecker,
    /// Uniform (Erdos-Renyi): all vertices have about as many.
    Uniform,
}

impl GraphKind {
    const ALL: [GraphKind; 2] = [GraphKind::Kronecker, GraphKind::Uniform];

    /// The name on the command line and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            GraphKind::Kronecker => "kron",
            GraphKind::Uniform => "urand",
        }
    }
}

/// One run, fully determined.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) workload: &'static Workload,
    pub(crate) scale: Scale,
    pub(crate) graph: GraphKind,
    pub(crate) iterations: u32,
    pub(crate) threads: u32,
    pub(crate) seed: u64,
    /// What is particular to the workload.
    pub(crate) options: Options,
    pub(crate) objects: Option<PathBuf>,
    /// Whether to wait for others before the steady state.
    pub(crate) meet: bool,
    /// Where generated graphs are kept; nowhere if `None`.
    pub(crate) cache: Option<PathBuf>,
}

/// What the user wants.
#[derive(Debug)]
pub(crate) enum Request {
    Help,
    /// What one workload does and what can be set about it.
    Describe(&'static Workload),
    List,
    Run(Settings),
}

/// More threads than any machine this runs on has cores; a typing error, then.
const MAX_THREADS: u32 = 1024;

/// Reads the arguments (without the program's name). The error is a sentence for people.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    read(Parser::from_args(arguments)).map_err(|error| error.to_string())
}

fn read(mut parser: Parser) -> Result<Request, lexopt::Error> {
    let mut workload = None;
    let mut asked_for_help = false;
    let mut set = Vec::new();
    let (mut scale, mut graph) = (Scale::Small, GraphKind::Kronecker);
    let (mut iterations, mut threads, mut seed, mut objects, mut meet) = (None, 1, 1, None, false);
    let mut cache = default_cache(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"));
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Request::Help),
            Arg::Value(name) if workload.is_none() => match name.to_str() {
                Some("list") => return Ok(Request::List),
                Some("help") if !asked_for_help => asked_for_help = true,
                name => {
                    let name = name.unwrap_or_default();
                    workload = Some(find(name).ok_or(format!("there is no workload '{name}'"))?);
                }
            },
            Arg::Long("scale") => scale = choice(&parser.value()?, "scale", &Scale::ALL, Scale::name)?,
            Arg::Long("graph") => graph = choice(&parser.value()?, "graph", &GraphKind::ALL, GraphKind::name)?,
            Arg::Long("iterations") => iterations = Some(positive(parser.value()?, "--iterations", u32::MAX)?),
            Arg::Long("threads") => threads = positive(parser.value()?, "--threads", MAX_THREADS)?,
            Arg::Long("seed") => seed = parser.value()?.parse()?,
            Arg::Long("set") => set.push(parser.value()?.string()?),
            Arg::Long("objects") => objects = Some(PathBuf::from(parser.value()?)),
            Arg::Long("meet") => meet = true,
            Arg::Long("cache") => cache = Some(PathBuf::from(parser.value()?)),
            Arg::Long("no-cache") => cache = None,
            other => return Err(other.unexpected()),
        }
    }
    let workload = match (asked_for_help, workload) {
        (true, None) => return Ok(Request::Help),
        (true, Some(workload)) => return Ok(Request::Describe(workload)),
        (false, None) => return Err("no workload named".into()),
        (false, Some(workload)) => workload,
    };
    let options = Options::read(workload.name, workload.options, &set)?;
    let iterations = iterations.unwrap_or(workload.iterations);
    Ok(Request::Run(Settings { workload, scale, graph, iterations, threads, seed, options, objects, meet, cache }))
}

/// Where graphs are kept unless told otherwise: the XDG base directory for caches, which must be absolute to count.
fn default_cache(cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base = cache_home.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".cache")))?;
    Some(base.join("tierscope/graphs"))
}

fn positive(value: OsString, option: &str, at_most: u32) -> Result<u32, lexopt::Error> {
    match value.parse()? {
        number if (1..=at_most).contains(&number) => Ok(number),
        number => Err(format!("{option} takes 1 to {at_most}, not {number}").into()),
    }
}

fn choice<T: Copy>(value: &OsString, what: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, lexopt::Error> {
    let chosen = all.iter().copied().find(|&one| value.to_str() == Some(name(one)));
    chosen.ok_or_else(|| {
        let names: Vec<_> = all.iter().copied().map(name).collect();
        format!("{} is no {what}; there are {}", value.display(), names.join(", ")).into()
    })
}

/// The text of `--help`.
pub(crate) fn help() -> String {
    "\
Real kernels on real data structures, to be profiled.

Usage: tierscope-workloads NAME [OPTIONS]
       tierscope-workloads list
       tierscope-workloads help NAME

Options:
  --scale SCALE      tiny (10 MiB, a second), small (hundreds of MiB, 5 to 20 s), medium (1 GiB) or
                     large (several GiB) [default: small]
  --graph GRAPH      kron (skewed) or urand (uniform), for graph kernels [default: kron]
  --iterations N     how often the kernel runs [default: as listed per workload]
  --threads N        threads of the kernel; the result is the same [default: 1]
  --seed N           seed of the generated data [default: 1]
  --set KEY=VALUE    what is particular to a workload; 'help NAME' lists it; may be repeated
  --objects FILE     write where each data object lay, one JSON line each:
                     name, address, bytes, allocated_ns, freed_ns (CLOCK_MONOTONIC; null: never freed)
  --cache DIR        where generated graphs are kept, about 0.13 GiB at small and 4 GiB at large
                     [default: ${XDG_CACHE_HOME:-~/.cache}/tierscope/graphs]
  --meet             before the kernel print 'ready' and wait for a line on stdin, so that several
                     runs start together
  --no-cache         generate the graph anew and keep nothing
  -h, --help         this text

The result is one line of JSON on stdout: seconds and CPU seconds per phase, bytes of each object's
largest block, a checksum, peak resident memory.
"
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &str) -> Result<Settings, String> {
        match parse(line.split_whitespace().map(OsString::from))? {
            Request::Run(settings) => Ok(settings),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn defaults_are_the_demo() {
        let settings = settings("bc").unwrap();
        assert_eq!((settings.scale, settings.graph, settings.threads), (Scale::Small, GraphKind::Kronecker, 1));
        assert_eq!(settings.iterations, settings.workload.iterations);
    }

    #[test]
    fn options_are_read_in_any_order_and_spelling() {
        let settings =
            settings("--scale=tiny --seed 9 bc --threads 2 --iterations=3 --graph urand --objects o --cache c")
                .unwrap();
        assert_eq!((settings.scale, settings.graph, settings.seed), (Scale::Tiny, GraphKind::Uniform, 9));
        assert_eq!((settings.threads, settings.iterations), (2, 3));
        assert_eq!((settings.objects, settings.cache), (Some(PathBuf::from("o")), Some(PathBuf::from("c"))));
    }

    #[test]
    fn graphs_are_kept_in_the_directory_for_caches_or_nowhere() {
        let at = |cache_home: Option<&str>, home: Option<&str>| {
            default_cache(cache_home.map(Into::into), home.map(Into::into))
        };
        assert_eq!(at(Some("/x"), Some("/home/u")), Some("/x/tierscope/graphs".into()));
        assert_eq!(at(None, Some("/home/u")), Some("/home/u/.cache/tierscope/graphs".into()));
        assert_eq!(at(Some("relative"), Some("/home/u")), Some("/home/u/.cache/tierscope/graphs".into()));
        assert_eq!((at(None, None), at(Some(""), Some(""))), (None, None));
        assert_eq!(settings("bc --no-cache").unwrap().cache, None);
    }

    #[test]
    fn help_is_general_or_about_one_workload() {
        let request = |line: &str| parse(line.split_whitespace().map(OsString::from)).unwrap();
        assert!(matches!(request("help"), Request::Help));
        assert!(matches!(request("help bc"), Request::Describe(workload) if workload.name == "bc"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (line, reason) in [
            ("", "no workload named"),
            ("nosuch", "no workload 'nosuch'"),
            ("bc --scale huge", "tiny, small, medium, large"),
            ("bc --threads 0", "--threads takes 1 to"),
            ("bc --seed x", "x"),
            ("bc more", "more"),
            ("bc --nosuch", "--nosuch"),
            ("bc --set", "--set"),
            ("bc --set nosuch=1", "bc has no setting 'nosuch'"),
        ] {
            let error = settings(line).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
