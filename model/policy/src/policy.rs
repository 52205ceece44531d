//! What a policy says.

use std::collections::BTreeMap;

use tierscope_tiers::Backend;

use crate::parts::{FrameName, SiteEntry, Sizes};

/// A whole policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// The program it was made for.
    pub program: Program,
    /// The evidence it rests on.
    pub origin: Origin,
    /// The tiers, in the order of the file.
    pub tiers: Vec<Tier>,
    /// Name of the tier of everything no rule matches.
    pub default_tier: String,
    /// The rules, in the order of the file; the first that matches a block decides.
    pub rules: Vec<Rule>,
}

/// The program a policy was made for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// File name of the executable.
    pub name: Option<String>,
    /// Its build-id, lower-case hexadecimal.
    pub build_id: Option<String>,
    /// What to do about a module that was rebuilt.
    pub matching: Match,
    /// Build-ids, lower-case hexadecimal, of the modules that rules mention, by file name.
    pub modules: BTreeMap<String, String>,
}

impl Program {
    /// The build-id a module had when the policy was made; the executable's own may stand in either place.
    pub fn build_id_of(&self, module: &str) -> Option<&str> {
        let own = || self.build_id.as_deref().filter(|_| self.name.as_deref() == Some(module));
        self.modules.get(module).map(String::as_str).or_else(own)
    }
}

/// How the sites of a rebuilt module are found. Where the build-id agrees, addresses are taken as they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Match {
    /// Not at all.
    Exact,
    /// By function, file and line.
    #[default]
    Line,
    /// By function alone.
    Function,
}

impl Match {
    /// Every way, the strictest first.
    pub const ALL: [Match; 3] = [Match::Exact, Match::Line, Match::Function];

    /// Its name in a file.
    pub fn name(self) -> &'static str {
        match self {
            Match::Exact => "exact",
            Match::Line => "line",
            Match::Function => "function",
        }
    }
}

/// The evidence a policy rests on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    /// The profile it was advised from.
    pub profile: Option<String>,
    /// Kind of the sampler of that profile.
    pub sampler: Option<String>,
    /// Number of samples of that profile.
    pub samples: Option<u64>,
    /// The ranker that ordered the objects.
    pub ranker: Option<String>,
    /// Bytes of the fast tier the advice was for.
    pub fast: Option<u64>,
    /// Slowdown predicted against everything in fast memory: 0.041 is 4.1 %.
    pub predicted_slowdown: Option<f64>,
    /// 95 % interval of that.
    pub interval: Option<(f64, f64)>,
    /// When, as its maker wrote it.
    pub created: Option<String>,
    /// Version of tierscope that made it.
    pub tierscope: Option<String>,
}

/// A kind of memory to place in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Where its memory comes from; `None` (`backend = "default"`) for the program's own allocator, untouched.
    pub backend: Option<Backend>,
    /// The most bytes it may hold.
    pub capacity: Option<u64>,
}

/// Objects and the tier they belong in.
///
/// A rule with a `symbol` speaks of a global; one with a `site`, of the blocks allocated there; one with neither, of every
/// block of its `sizes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Name of the tier.
    pub tier: String,
    /// The frames a stack must begin with, innermost first.
    pub site: Vec<SiteEntry>,
    /// What the entries of `site` are called; as many or fewer.
    pub frames: Vec<FrameName>,
    /// Sizes of block it is narrowed to.
    pub sizes: Sizes,
    /// Slot it is narrowed to: the smallest number not live among the blocks of the site and size class.
    pub ordinal: Option<u16>,
    /// Name of a global.
    pub symbol: Option<String>,
    /// File name of the module that has the global; the program itself where there is none.
    pub module: Option<String>,
    /// Bytes of the object: of a global its size, of blocks the most that were live.
    pub bytes: Option<u64>,
    /// Why, in a sentence.
    pub why: Option<String>,
    /// Who wrote it.
    pub by: By,
}

/// Who wrote a rule.
///
/// A rule of ours carries a mark over what it says (`by = "tierscope:5f2c91aa"`). One that was changed no longer fits its
/// mark and is the person's from then on, without their having to say so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum By {
    /// An advisor; an update replaces it.
    #[default]
    Tierscope,
    /// A person, with what the file says of it; an update keeps it.
    Person(Option<String>),
}

impl Rule {
    /// Whether both speak of the same objects, whatever tier they name.
    pub fn same_objects(&self, other: &Rule) -> bool {
        (&self.site, self.sizes, self.ordinal, &self.symbol, &self.module)
            == (&other.site, other.sizes, other.ordinal, &other.symbol, &other.module)
    }

    /// The mark of a rule of ours: what the rule does, as 32 bits of FNV-1a. Evidence (`bytes`, `why`) is not in it.
    pub(crate) fn mark(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let mut lines = vec![self.tier.clone(), self.sizes.to_string(), text(&self.symbol), text(&self.module)];
        lines.push(self.ordinal.map(|ordinal| ordinal.to_string()).unwrap_or_default());
        lines.extend(self.site.iter().map(ToString::to_string));
        lines.extend(self.frames.iter().map(ToString::to_string));
        let said = lines.join("\n");
        let hash = said
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        format!("tierscope:{:08x}", (hash >> 32) as u32 ^ hash as u32)
    }
}

impl Policy {
    /// The tier of a name.
    pub fn tier(&self, name: &str) -> Option<&Tier> {
        self.tiers.iter().find(|tier| tier.name == name)
    }
}
