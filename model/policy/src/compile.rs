//! From a policy to the table the shim places by.
//!
//! Names become addresses of the program as it is now. Where a module's build-id is the one the policy was made for, its
//! addresses stand as they are. Where the module was rebuilt, every frame in it is looked up by what it is called, as the
//! policy's [`Match`] allows, and may then have several ranges of return addresses. A module that is not found now may
//! be loaded later (a plugin): its addresses are taken as they stand if its build-id is known, which the shim checks when
//! it is loaded.
//!
//! A rule of which any part cannot be found is left out as a whole, since a shorter site would match other blocks too.
//!
//! # Frames without a line
//!
//! Most sites have frames that no debug information knows: they end in `_start` and the C library that called `main`, and begin
//! in a C++ library's `operator new`. They are not to be lost with each update of those libraries. So by [`Match::Line`] a
//! frame without a line is found by its function, if some other frame is found exactly or by its line, and no frame of the
//! program itself comes before that one: then it is still one call, reached another way. An outer frame whose function
//! is not known either may be anywhere in its module.

use std::collections::BTreeMap;

use tierscope_tiers::Backend;
use tierscope_wire::policy as wire;
use tierscope_wire::policy::{FrameSpec, GlobalSpec, ModuleSpec, RuleSpec, TableSpec, TierSpec};

use crate::parts::{FrameName, SiteEntry};
use crate::policy::{Match, Policy, Rule, Tier};

/// A module as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleFile {
    /// Its build-id; empty where it has none.
    pub build_id: Vec<u8>,
    /// Whether it is the executable itself.
    pub is_program: bool,
    /// File name a process shows it by, where that is another: what a link (`libm.so`) leads to.
    pub real_name: Option<String>,
}

/// What is known of the program as it is now: the caller's side, which reads ELF and debug information.
pub trait Resolve {
    /// The module of a file name; `None` where no such file is found.
    fn module(&self, name: &str) -> Option<ModuleFile>;

    /// ELF return addresses, `[low, high)`, that a frame of this function may have in a module: those of calls at `place`
    /// (file name and line) in it, inlined functions included, or of all its calls. Empty where there are none.
    fn return_addresses(&self, module: &str, function: &str, place: Option<(&str, u32)>) -> Vec<(u64, u64)>;

    /// ELF address and size in bytes of the globals of a name in a module.
    fn globals(&self, module: &str, symbol: &str) -> Vec<(u64, u64)>;

    /// File name of the program, for globals of a policy that names neither module nor program.
    fn program(&self) -> Option<String>;
}

/// How the objects of a rule were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// By size alone.
    Size,
    /// As the policy has them: the build-ids agree.
    Exact,
    /// As the policy has them; it says nothing of the build-id of some module, so nothing vouches for it.
    Unchecked,
    /// As the policy has them; a module of it is not found now, and its build-id is checked once it is loaded.
    Later,
    /// Some of it by function, file and line: a module was rebuilt.
    Line,
    /// Some of it by function alone: a module was rebuilt.
    Function,
    /// By the name of a global.
    Symbol,
}

/// A rule that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// Its number in the policy file, from 1.
    pub rule: u32,
    /// Why, as a sentence without a full stop.
    pub why: String,
}

/// A policy, ready for the shim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The table, with `follow` set; rules in the order of the file. `encode` it.
    pub spec: TableSpec,
    /// Of every rule that is in the table, its number and how it was found.
    pub resolved: Vec<(u32, How)>,
    /// The rules that are not.
    pub unresolved: Vec<Unresolved>,
    /// File names of modules that are not of the build the policy was made for.
    pub rebuilt: Vec<String>,
}

/// Compiles a policy for the program as `resolve` knows it.
pub fn compile(policy: &Policy, resolve: &dyn Resolve) -> Compiled {
    let mut work = Work { policy, resolve, modules: BTreeMap::new(), out: Compiled::default() };
    work.out.spec.follow = true;
    work.out.spec.tiers = policy.tiers.iter().map(tier).collect();
    // The program's own allocator needs no tier to be left alone.
    let default = policy.tiers.iter().position(|tier| tier.name == policy.default_tier && tier.backend.is_some());
    work.out.spec.default_tier = default.and_then(|index| u16::try_from(index).ok());
    for (number, rule) in (1_u32..).zip(&policy.rules) {
        match work.rule(number, rule) {
            Ok(how) => work.out.resolved.push((number, how)),
            Err(why) => work.out.unresolved.push(Unresolved { rule: number, why }),
        }
    }
    work.out
}

fn tier(tier: &Tier) -> TierSpec {
    let (nodes, weights, path) = match &tier.backend {
        Some(Backend::Numa { nodes, .. }) => (nodes.clone(), Vec::new(), String::new()),
        Some(Backend::Interleave { nodes, weights }) => (nodes.clone(), weights.clone(), String::new()),
        Some(Backend::File { dir: path } | Backend::Dax { device: path }) => (Vec::new(), Vec::new(), path.clone()),
        Some(Backend::Swap) | None => (Vec::new(), Vec::new(), String::new()),
    };
    let backend = match &tier.backend {
        None => wire::Backend::Default,
        Some(Backend::Numa { strict: true, .. }) => wire::Backend::NumaStrict,
        Some(Backend::Numa { .. }) => wire::Backend::Numa,
        Some(Backend::Interleave { weights, .. }) if weights.is_empty() => wire::Backend::Interleave,
        Some(Backend::Interleave { .. }) => wire::Backend::WeightedInterleave,
        Some(Backend::File { .. }) => wire::Backend::File,
        Some(Backend::Dax { .. }) => wire::Backend::Dax,
        Some(Backend::Swap) => wire::Backend::Swap,
    };
    TierSpec { name: tier.name.clone(), backend, capacity: tier.capacity, nodes, weights, path }
}

/// How the addresses of a module are to be had.
#[derive(Clone)]
struct Module {
    index: u16,
    how: Addresses,
    is_program: bool,
}

/// A frame as it is now.
struct Found {
    frame: FrameSpec,
    how: How,
    /// Whether it is as good as an address: found exactly, or as precisely as the policy asks for.
    is_certain: bool,
}

fn no_line(entry: &SiteEntry) -> String {
    let way_out = "profile it anew (`tierscope record`), or write `match = \"function\"` in [program]";
    format!("`{}` was rebuilt, and `frames` has no file and line for `{entry}`: {way_out}", entry.module)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Addresses {
    /// As they stand, and how sure that is.
    Stand(How),
    /// By name: the module was rebuilt.
    ByName,
}

struct Work<'a> {
    policy: &'a Policy,
    resolve: &'a dyn Resolve,
    /// What was found out of each module, by file name.
    modules: BTreeMap<String, Result<Module, String>>,
    out: Compiled,
}

impl Work<'_> {
    fn rule(&mut self, number: u32, rule: &Rule) -> Result<How, String> {
        let index = self.policy.tiers.iter().position(|tier| tier.name == rule.tier);
        let tier = index.and_then(|index| u16::try_from(index).ok());
        let tier = tier.ok_or_else(|| format!("there is no tier `{}`", rule.tier))?;
        if rule.symbol.is_some() {
            return self.global(number, tier, rule);
        }
        let mut how = if rule.site.is_empty() { How::Size } else { How::Exact };
        let mut frames = Vec::new();
        let mut is_certain = rule.site.is_empty();
        for (index, entry) in rule.site.iter().enumerate() {
            let found = self.frame(entry, rule.frames.get(index), is_certain)?;
            how = how.max(found.how);
            is_certain |= found.is_certain;
            frames.push(found.frame);
        }
        if let Some(entry) = rule.site.first().filter(|_| !is_certain) {
            return Err(no_line(entry));
        }
        let max_bytes = rule.sizes.high.map_or(u64::MAX, |high| high.saturating_sub(1));
        self.out.spec.rules.push(RuleSpec {
            tier,
            frames,
            min_bytes: rule.sizes.low,
            max_bytes,
            ordinal: rule.ordinal,
            number,
        });
        Ok(how)
    }

    /// Finds a frame; `is_certain` if one further in was found exactly or by its line.
    fn frame(&mut self, entry: &SiteEntry, name: Option<&FrameName>, is_certain: bool) -> Result<Found, String> {
        let Module { index, how, is_program } = self.module(&entry.module)?;
        let found = |ranges, how, is_certain| Found { frame: FrameSpec { module: index, ranges }, how, is_certain };
        let how = match how {
            Addresses::Stand(how) => {
                let ranges = vec![(entry.address, entry.address.saturating_add(1))];
                return Ok(found(ranges, how, true));
            }
            Addresses::ByName => self.policy.program.matching,
        };
        let rebuilt = format!("`{}` was rebuilt", entry.module);
        let anew = "profile it anew (`tierscope record`)";
        let function = name.map(FrameName::function).filter(|function| !function.is_empty());
        let place = name.and_then(FrameName::place);
        let by_line = match how {
            Match::Exact => return Err(format!("{rebuilt}, and `match` is \"exact\"")),
            Match::Line => place,
            Match::Function => None,
        };
        if how == Match::Line && by_line.is_none() && is_program && !is_certain {
            return Err(no_line(entry));
        }
        let look = |place| function.map(|function| self.ranges(&entry.module, function, place)).unwrap_or_default();
        let (mut ranges, mut by_line) = (look(by_line), by_line);
        // The lines of a library may have come from debug information that is not here now.
        if ranges.is_empty() && by_line.is_some() && !is_program {
            (ranges, by_line) = (look(None), None);
        }
        let called = name.map(ToString::to_string).unwrap_or_default();
        if !ranges.is_empty() && ranges.len() <= wire::MAX_RANGES {
            let is_certain = by_line.is_some() || how == Match::Function;
            return Ok(found(ranges, if how == Match::Function { How::Function } else { How::Line }, is_certain));
        }
        if is_certain && (place.is_none() || !is_program) {
            return Ok(found(vec![(0, u64::MAX)], How::Line, false));
        }
        let Some(function) = function else {
            return Err(format!("{rebuilt}, and `frames` does not name the function of `{entry}`: {anew}"));
        };
        if !ranges.is_empty() {
            return Err(format!("{rebuilt}, and `{called}` has more calls than a rule can hold"));
        }
        match by_line {
            // The lines of a file shift with every edit above; the function is often still there.
            Some((file, line)) if !self.ranges(&entry.module, function, None).is_empty() => Err(format!(
                "{rebuilt}, and `{function}` has no call at {file}:{line} any more: {anew}, or take all its calls with \
                 `match = \"function\"` in [program]"
            )),
            _ => Err(format!("{rebuilt}, and has no call in `{called}` any more: {anew}")),
        }
    }

    /// Where a frame may be in a rebuilt module, in order.
    fn ranges(&self, module: &str, function: &str, place: Option<(&str, u32)>) -> Vec<(u64, u64)> {
        let ranges = self.resolve.return_addresses(module, function, place);
        let mut ranges: Vec<(u64, u64)> = ranges.into_iter().filter(|(low, high)| low < high).collect();
        ranges.sort_unstable();
        ranges.dedup();
        ranges
    }

    fn global(&mut self, number: u32, tier: u16, rule: &Rule) -> Result<How, String> {
        let symbol = rule.symbol.as_deref().unwrap_or_default();
        let own = || self.policy.program.name.clone().or_else(|| self.resolve.program());
        let module = rule.module.clone().or_else(own);
        let module = module.ok_or("the rule names no `module`, and the program's name is not known")?;
        let Module { index, how, .. } = self.module(&module)?;
        if how == Addresses::ByName && self.policy.program.matching == Match::Exact {
            return Err(format!("`{module}` was rebuilt, and `match` is \"exact\""));
        }
        if how == Addresses::Stand(How::Later) {
            return Err(format!("`{module}` is not among the files the program starts with"));
        }
        let found = self.resolve.globals(&module, symbol);
        let sized: Vec<(u64, u64)> = found.iter().copied().filter(|(_, bytes)| rule.bytes == Some(*bytes)).collect();
        let (address, bytes) = match (found.as_slice(), sized.as_slice()) {
            ([only], _) | (_, [only]) => *only,
            ([], _) => return Err(format!("`{module}` has no global `{symbol}`")),
            (several, _) => {
                let count = several.len();
                return Err(format!("`{module}` has {count} globals `{symbol}`, and `bytes` does not tell which"));
            }
        };
        if bytes == 0 || address.checked_add(bytes).is_none() {
            return Err(format!("the global `{symbol}` of `{module}` has no size"));
        }
        self.out.spec.globals.push(GlobalSpec { tier, module: index, address, bytes, number });
        Ok(How::Symbol)
    }

    /// What is known of a module; it gets its place in the table when it is first asked for.
    fn module(&mut self, name: &str) -> Result<Module, String> {
        if let Some(known) = self.modules.get(name) {
            return known.clone();
        }
        let found = self.find(name);
        self.modules.insert(name.to_owned(), found.clone());
        found
    }

    fn find(&mut self, name: &str) -> Result<Module, String> {
        let wanted = self.policy.program.build_id_of(name).and_then(from_hex);
        let file = self.resolve.module(name);
        let real_name = file.as_ref().and_then(|file| file.real_name.clone());
        let (build_id, how, is_program) = match (file, wanted) {
            (None, None) => {
                let way_out = "write its build-id into [program.modules], or name the file as it is called";
                return Err(format!("`{name}` is not found, and nothing says of which build it should be: {way_out}"));
            }
            (None, Some(wanted)) => (wanted, Addresses::Stand(How::Later), false),
            (Some(file), None) => (file.build_id, Addresses::Stand(How::Unchecked), file.is_program),
            (Some(file), Some(wanted)) if file.build_id == wanted => {
                (wanted, Addresses::Stand(How::Exact), file.is_program)
            }
            (Some(file), Some(_)) => {
                self.out.rebuilt.push(name.to_owned());
                (file.build_id, Addresses::ByName, file.is_program)
            }
        };
        let index = u16::try_from(self.out.spec.modules.len()).ok().filter(|at| usize::from(*at) < wire::MAX_MODULES);
        let index = index.ok_or("there are more modules than a table holds")?;
        // Without a build-id "the main program" would be that of every child as well.
        let name =
            if is_program && !build_id.is_empty() { String::new() } else { real_name.unwrap_or(name.to_owned()) };
        self.out.spec.modules.push(ModuleSpec { name, build_id });
        Ok(Module { index, how, is_program })
    }
}

/// The bytes of hexadecimal digits.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
