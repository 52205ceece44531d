//! What came of a policy: the policy's rules and tiers beside the counts that processes left in the table file.
//!
//! Serialises as `tierscope.run/1` (`docs/run-json.md`). Everything the policy has is here, also what nothing happened to:
//! a rule that matched no block is a result.

use super::Prepared;
use super::kernel::Moves;
use crate::launch::Ended;
use serde::Serialize;
use std::path::{Path, PathBuf};
use tierscope_binary::short_name;
use tierscope_policy::{FrameName, How, Rule, Sizes, Tier};
use tierscope_wire::policy::stats::{FLAG_GAVE_UP, GeneralCounts, Snapshot};

/// The schema of the JSON.
pub(super) const SCHEMA: &str = "tierscope.run/1";

/// A run under a policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Outcome {
    pub(super) schema: &'static str,
    pub(super) policy: PathBuf,
    pub(super) command: Vec<String>,
    /// By the shell's convention.
    pub(super) exit_status: u8,
    /// The signal that ended the program.
    pub(super) signal: Option<i32>,
    pub(super) duration_s: f64,
    /// Processes that read the table.
    pub(super) processes: u64,
    /// Whether one of them could not place.
    pub(super) gave_up: bool,
    pub(super) default_tier: String,
    pub(super) tiers: Vec<TierOutcome>,
    pub(super) rules: Vec<RuleOutcome>,
    pub(super) unmatched: Unmatched,
    pub(super) modules: Modules,
    pub(super) stacks: Stacks,
    pub(super) failures: Failures,
    /// `None` where the kernel counts no such moves.
    pub(super) kernel: Option<Moves>,
    pub(super) warnings: Vec<String>,
}

/// What was placed in a tier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TierOutcome {
    pub(super) name: String,
    pub(super) backend: &'static str,
    /// Nodes, directory or device, as people write them.
    pub(super) place: String,
    pub(super) capacity: Option<u64>,
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    pub(super) bytes_peak: u64,
    pub(super) bytes_left: u64,
    pub(super) spilled_blocks: u64,
    pub(super) spilled_bytes: u64,
    pub(super) failures: u64,
    pub(super) last_error: Option<String>,
}

/// What a rule did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct RuleOutcome {
    /// From 1, in the order of the policy.
    pub(super) rule: u32,
    pub(super) tier: String,
    /// What it speaks of, in a line.
    pub(super) objects: String,
    pub(super) site: Vec<String>,
    pub(super) symbol: Option<String>,
    /// How it was found in the program; `None` where it was not.
    pub(super) found: Option<&'static str>,
    /// Why it was not.
    pub(super) why_not: Option<String>,
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    pub(super) bytes_peak: u64,
    pub(super) spilled_blocks: u64,
    pub(super) spilled_bytes: u64,
    /// Of a global, bytes whose pages were put into its tier.
    pub(super) bytes_moved: Option<u64>,
    /// Of a global, why they were not.
    pub(super) error: Option<String>,
}

impl RuleOutcome {
    /// Whether it was found in the program, and nothing came of it.
    pub(super) fn did_nothing(&self) -> bool {
        self.found.is_some() && self.blocks == 0 && self.spilled_blocks == 0 && self.bytes_moved.unwrap_or(0) == 0
    }
}

/// Blocks that no rule matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Unmatched {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
}

/// Modules that are not of the build the policy was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Modules {
    /// Before the program started: their sites were looked up by name.
    pub(super) rebuilt: Vec<String>,
    /// How many processes met as they were loaded: rules that name them did not hold there.
    pub(super) differing: u64,
}

/// Stacks taken to match sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Stacks {
    pub(super) taken: u64,
    /// Of these, how many were known from before.
    pub(super) remembered: u64,
}

/// What kept the shim from placing, that belongs to no tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Failures {
    pub(super) no_address_space: u64,
    pub(super) no_metadata: u64,
    pub(super) no_stack: u64,
    pub(super) reentered: u64,
    pub(super) last_error: Option<String>,
}

impl Failures {
    fn of(general: &GeneralCounts) -> Self {
        Failures {
            no_address_space: general.no_address_space,
            no_metadata: general.no_metadata,
            no_stack: general.no_stack,
            reentered: general.reentered,
            last_error: error_text(general.last_errno),
        }
    }
}

/// How a run ended.
pub(super) struct End {
    pub(super) ended: Ended,
    pub(super) duration_s: f64,
    pub(super) kernel: Option<Moves>,
}

impl Outcome {
    /// Puts together what was meant and what was counted.
    pub(super) fn new(
        policy_path: &Path,
        command: Vec<String>,
        prepared: &Prepared,
        counts: &Snapshot,
        end: &End,
    ) -> Self {
        let Prepared { policy, compiled, .. } = prepared;
        let tier = |(index, tier): (usize, &Tier)| {
            let counts = counts.tiers.get(index).copied().unwrap_or_default();
            TierOutcome {
                name: tier.name.clone(),
                backend: tier.backend.as_ref().map_or("default", tierscope_policy::Backend::name),
                place: place(tier),
                capacity: tier.capacity,
                blocks: counts.blocks,
                bytes: counts.bytes_total,
                bytes_peak: counts.bytes_peak,
                bytes_left: counts.bytes_now(),
                spilled_blocks: counts.spilled_blocks,
                spilled_bytes: counts.spilled_bytes,
                failures: counts.failures,
                last_error: match tier.backend {
                    Some(tierscope_policy::Backend::Dax { .. }) if counts.last_errno == libc::EBUSY as u64 => {
                        Some("another process has the device, and only one can".to_owned())
                    }
                    _ => error_text(counts.last_errno),
                },
            }
        };
        let rule = |(number, rule): (u32, &Rule)| {
            let in_table = compiled.spec.rules.iter().position(|spec| spec.number == number);
            let blocks = in_table.and_then(|index| counts.rules.get(index)).copied().unwrap_or_default();
            let global = compiled.spec.globals.iter().position(|spec| spec.number == number);
            let global = global.and_then(|index| counts.globals.get(index));
            RuleOutcome {
                rule: number,
                tier: rule.tier.clone(),
                objects: objects(rule),
                site: rule.site.iter().map(ToString::to_string).collect(),
                symbol: rule.symbol.clone(),
                found: compiled.resolved.iter().find(|(of, _)| *of == number).map(|(_, how)| how_name(*how)),
                why_not: compiled.unresolved.iter().find(|left| left.rule == number).map(|left| left.why.clone()),
                blocks: blocks.blocks,
                bytes: blocks.bytes_total,
                bytes_peak: blocks.bytes_peak,
                spilled_blocks: blocks.spilled_blocks,
                spilled_bytes: blocks.spilled_bytes,
                bytes_moved: global.map(|counts| counts.bytes_moved),
                error: global.and_then(|counts| error_text(counts.errno)),
            }
        };
        let general = counts.general;
        Outcome {
            schema: SCHEMA,
            policy: policy_path.to_path_buf(),
            command,
            exit_status: end.ended.as_status(),
            signal: match end.ended {
                Ended::Killed(signal) => Some(signal),
                Ended::Exited(_) => None,
            },
            duration_s: end.duration_s,
            processes: general.processes,
            gave_up: general.flags & FLAG_GAVE_UP != 0,
            default_tier: policy.default_tier.clone(),
            tiers: policy.tiers.iter().enumerate().map(tier).collect(),
            rules: (1_u32..).zip(&policy.rules).map(rule).collect(),
            unmatched: Unmatched { blocks: general.unmatched_blocks, bytes: general.unmatched_bytes },
            modules: Modules { rebuilt: compiled.rebuilt.clone(), differing: general.modules_differing },
            stacks: Stacks { taken: general.lookups, remembered: general.lookup_hits },
            failures: Failures::of(&general),
            kernel: end.kernel,
            warnings: prepared.warnings.clone(),
        }
    }
}

/// What the system says of an error number; `None` for 0, which is none.
fn error_text(errno: u64) -> Option<String> {
    let errno = i32::try_from(errno).ok().filter(|errno| *errno != 0)?;
    Some(std::io::Error::from_raw_os_error(errno).to_string())
}

/// How a rule was found, in a word.
pub(super) fn how_name(how: How) -> &'static str {
    match how {
        How::Size => "size",
        How::Exact => "exact",
        How::Unchecked => "unchecked",
        How::Later => "later",
        How::Line => "line",
        How::Function => "function",
        How::Symbol => "symbol",
    }
}

/// Where a tier's memory is.
pub(super) fn place(tier: &Tier) -> String {
    use tierscope_policy::Backend;
    let list = |nodes: &[u16]| nodes.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    match &tier.backend {
        None => "the program's own allocator".into(),
        Some(Backend::Numa { nodes, strict: true }) => format!("node {} only", list(nodes)),
        Some(Backend::Numa { nodes, .. }) => format!("node {}", list(nodes)),
        Some(Backend::Interleave { nodes, .. }) => format!("nodes {} in turn", list(nodes)),
        Some(Backend::File { dir }) => format!("files in {dir}"),
        Some(Backend::Dax { device }) => device.clone(),
        Some(Backend::Swap) => "swap".into(),
    }
}

/// The last of a text that is too long: of a module and an address, the address.
fn ending(text: &str, width: usize) -> String {
    match text.char_indices().rev().nth(width - 1) {
        Some((start, _)) if start > 0 => {
            format!("…{}", text.get(start..).unwrap_or_default().chars().skip(1).collect::<String>())
        }
        _ => text.to_owned(),
    }
}

/// What a rule speaks of, in a line: innermost frames by name, or where they have none by address.
pub(super) fn objects(rule: &Rule) -> String {
    const FRAMES: usize = 2;
    const WIDTH: usize = 40;
    if let Some(symbol) = &rule.symbol {
        return match &rule.module {
            Some(module) => format!("global {symbol} of {module}"),
            None => format!("global {symbol}"),
        };
    }
    let frame = |(index, entry): (usize, &tierscope_policy::SiteEntry)| {
        // Where a profile knew no function, it has the address again.
        let nameless = |name: &&FrameName| name.function().is_empty() || name.function().contains("+0x");
        let Some(name) = rule.frames.get(index).filter(|name| !nameless(name)) else {
            return ending(&entry.to_string(), WIDTH);
        };
        let function = short_name(name.function(), WIDTH);
        name.place().map_or(function.clone(), |(file, line)| format!("{function} {file}:{line}"))
    };
    let mut text = rule.site.iter().enumerate().take(FRAMES).map(frame).collect::<Vec<_>>().join(" < ");
    if rule.site.len() > FRAMES {
        text += " < ...";
    }
    if rule.sizes != Sizes::ALL {
        let any = if text.is_empty() { "any block of " } else { ", " };
        text += &format!("{any}{}", rule.sizes);
    } else if text.is_empty() {
        text += "any block";
    }
    if let Some(ordinal) = rule.ordinal {
        text += &format!(", slot {ordinal}");
    }
    text
}
