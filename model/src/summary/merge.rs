//! Which recorded objects are one object to a person.
//!
//! A recorder cannot know how often a site will allocate, so it keys heap objects finely: by site, size class, and slot (the
//! smallest number no live block of that site and class had). Here the whole run is known:
//!
//! - **A few large blocks stay apart.** The embedding tables of a DLRM, or numpy arrays, all come from one stack; each has
//!   its own use and its own best place. Blocks of 64 KiB and more are split by size class and slot. Slots make that
//!   stable: a table that is freed and allocated anew takes the slot of the one before.
//! - **Many blocks are one thing.** A matrix of a million rows, a tree, a site whose sizes churn: more than 16 slots or
//!   more than 24 keyed objects, and the site is one object. So are blocks below 64 KiB, which no one places one by one.
//! - **Blocks that replace each other are one thing.** A vector that grows passes through many size classes, but two of
//!   its blocks live at once only while it copies. Where on average no more than 1.05 large blocks of a site are live
//!   while any is, the site is one object.
//!
//! Everything else (globals, stacks, mappings) is merged only where the identity is the same.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use tierscope_traces::{ObjectKind, ObjectRow, Tables};

use super::frames::{Frame, Symbols, user_frame};
use super::identity::Identity;

/// Blocks of this size class and above are told apart: 2^16 = 64 KiB.
const LARGE_CLASS: u8 = 16;
/// More slots than this, and a site is one object.
const MOST_SLOTS: usize = 16;
/// More keyed objects than this, and a site is one object.
const MOST_KEYED: usize = 24;
/// Up to this many large blocks live on average are blocks that replace each other.
const REPLACING: f64 = 1.05;

/// Which blocks of a site an object is made of, where the site has several objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The blocks of one size class and slot.
    Block {
        /// floor(log2(bytes)).
        size_class: u8,
        /// Which of those live at once, from 0.
        slot: u16,
        /// Whether the class tells it from its siblings.
        by_class: bool,
        /// Whether the slot tells it from its siblings.
        by_slot: bool,
    },
    /// The blocks below 64 KiB.
    Small,
}

impl Part {
    /// What follows the name of the site: `64-128 MiB #2`, only as much as tells it from its siblings.
    #[must_use]
    pub fn label(&self) -> String {
        match *self {
            Self::Small => "< 64 KiB".to_owned(),
            Self::Block { size_class, slot, by_class, by_slot } => {
                let class = by_class.then(|| class_label(size_class));
                let slot = by_slot.then(|| format!("#{slot}"));
                class.into_iter().chain(slot).collect::<Vec<_>>().join(" ")
            }
        }
    }

    fn suffix(self) -> String {
        match self {
            Self::Small => "#small".to_owned(),
            Self::Block { size_class, slot, .. } => format!("#{size_class}.{slot}"),
        }
    }
}

/// The sizes of a class: `64-128 MiB`.
fn class_label(class: u8) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = UNITS.get(usize::from(class / 10)).copied().unwrap_or("B");
    let low = 1u64 << (class % 10);
    format!("{low}-{} {unit}", low * 2)
}

/// Recorded objects that are shown as one.
pub(super) struct Group {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: ObjectKind,
    pub(super) part: Option<Part>,
    pub(super) site: Vec<Frame>,
    pub(super) module: Option<String>,
    /// Numbers of the recorded objects.
    pub(super) objects: Vec<u32>,
    /// What their rows say of their size, together.
    pub(super) bytes: u64,
    pub(super) first_seen_ns: u64,
}

/// The objects to show, in no particular order.
pub(super) fn groups(tables: &Tables, symbols: &Symbols<'_>) -> Vec<Group> {
    let stacks = stacks(tables, symbols);
    let mut heap: BTreeMap<String, (Vec<Frame>, Vec<&ObjectRow>)> = BTreeMap::new();
    let mut others: BTreeMap<String, Vec<&ObjectRow>> = BTreeMap::new();
    let mut unnamed: FxHashMap<ObjectKind, u64> = FxHashMap::default();
    for object in in_order_of_appearance(&tables.objects) {
        if object.kind == ObjectKind::Heap {
            let site = object.site.and_then(|site| stacks.get(&site)).cloned().unwrap_or_default();
            let id = Identity::new().frames(&site).text(&object.name).id(object.kind.as_str());
            heap.entry(id).or_insert_with(|| (site, Vec::new())).1.push(object);
        } else {
            others.entry(other_id(object, symbols, &mut unnamed)).or_default().push(object);
        }
    }
    let lives = Lives::new(tables);
    let mut groups: Vec<Group> = others.into_iter().filter_map(|(id, members)| other(id, &members, symbols)).collect();
    for (id, (site, members)) in heap {
        split(&id, &site, &members, &lives, &mut groups);
    }
    groups
}

/// Numbers are given out in order of appearance, but a hostile table has them as it likes.
fn in_order_of_appearance(objects: &[ObjectRow]) -> Vec<&ObjectRow> {
    let mut sorted: Vec<&ObjectRow> = objects.iter().collect();
    sorted.sort_by_key(|object| (object.first_seen_ns, object.object));
    sorted
}

fn stacks(tables: &Tables, symbols: &Symbols<'_>) -> FxHashMap<u32, Vec<Frame>> {
    let mut by_site: FxHashMap<u32, Vec<(u16, Frame)>> = FxHashMap::default();
    for row in &tables.sites {
        by_site.entry(row.site).or_default().push((row.depth, symbols.frame(row.module, row.offset)));
    }
    by_site
        .into_iter()
        .map(|(site, mut frames)| {
            frames.sort_by_key(|&(depth, _)| depth);
            frames.dedup_by_key(|&mut (depth, _)| depth);
            (site, frames.into_iter().map(|(_, frame)| frame).collect())
        })
        .collect()
}

/// What is not allocated is known by its name; what has none, by its place among the nameless of its kind.
fn other_id(object: &ObjectRow, symbols: &Symbols<'_>, unnamed: &mut FxHashMap<ObjectKind, u64>) -> String {
    let module = symbols.module(object.module);
    let mut identity = Identity::new().text(&object.name);
    if object.kind == ObjectKind::Global {
        let build_id = module.and_then(|row| row.build_id.as_deref());
        identity = identity.module(module.map(|row| row.path.as_str()), build_id).number(object.start);
    } else if object.name.is_empty() || object.kind == ObjectKind::Stack {
        let ordinal = unnamed.entry(object.kind).or_default();
        identity = identity.number(*ordinal);
        *ordinal += 1;
    }
    identity.id(object.kind.as_str())
}

fn other(id: String, members: &[&ObjectRow], symbols: &Symbols<'_>) -> Option<Group> {
    let first = members.first()?;
    let name = match (first.kind, first.name.as_str()) {
        (ObjectKind::Stack, "") => first.tid.map_or_else(|| "stack".to_owned(), |tid| format!("stack of thread {tid}")),
        (_, "") => {
            format!("{} mapping without a name", if first.kind == ObjectKind::File { "file" } else { "anonymous" })
        }
        (_, name) => name.to_owned(),
    };
    let mut group = group(id, name, members, None, &[]);
    group.module = symbols.module(first.module).map(|row| row.path.clone());
    Some(group)
}

fn group(id: String, name: String, members: &[&ObjectRow], part: Option<Part>, site: &[Frame]) -> Group {
    Group {
        id,
        name,
        kind: members.first().map_or(ObjectKind::Anon, |object| object.kind),
        part,
        site: site.to_vec(),
        module: None,
        objects: members.iter().map(|object| object.object).collect(),
        bytes: members.iter().fold(0, |sum, object| sum.saturating_add(object.bytes)),
        first_seen_ns: members.iter().map(|object| object.first_seen_ns).min().unwrap_or(u64::MAX),
    }
}

/// The objects of one site, by the rules above.
fn split(id: &str, site: &[Frame], members: &[&ObjectRow], lives: &Lives, groups: &mut Vec<Group>) {
    let name = site_name(site, members);
    let (large, small): (Vec<&ObjectRow>, Vec<&ObjectRow>) =
        members.iter().copied().partition(|object| object.size_class.is_some_and(|class| class >= LARGE_CLASS));
    let mut blocks: BTreeMap<(u8, u16), Vec<&ObjectRow>> = BTreeMap::new();
    for object in &large {
        blocks.entry((object.size_class.unwrap_or(0), object.slot.unwrap_or(0))).or_default().push(object);
    }
    let slots: FxHashSet<u16> = members.iter().filter_map(|object| object.slot).collect();
    let parts = blocks.len() + usize::from(!small.is_empty());
    let one = parts < 2
        || slots.len() > MOST_SLOTS
        || members.len() > MOST_KEYED
        || blocks.is_empty()
        || lives.replace(&large);
    if one {
        groups.push(group(id.to_owned(), name, members, None, site));
        return;
    }
    let classes: FxHashSet<u8> = blocks.keys().map(|&(class, _)| class).collect();
    let by_slot = blocks.keys().any(|&(_, slot)| slot > 0);
    for (&(size_class, slot), members) in &blocks {
        let part = Part::Block { size_class, slot, by_class: classes.len() > 1 || !by_slot, by_slot };
        groups.push(group(
            id.to_owned() + &part.suffix(),
            format!("{name} {}", part.label()),
            members,
            Some(part),
            site,
        ));
    }
    if !small.is_empty() {
        let part = Part::Small;
        groups.push(group(
            id.to_owned() + &part.suffix(),
            format!("{name} {}", part.label()),
            &small,
            Some(part),
            site,
        ));
    }
}

fn site_name(site: &[Frame], members: &[&ObjectRow]) -> String {
    if let Some(name) = members.iter().map(|object| &object.name).find(|name| !name.is_empty()) {
        return name.clone();
    }
    match user_frame(site) {
        Some((_, frame)) => frame.function().map_or_else(|| frame.location(), |function| function.name.clone()),
        None => "heap blocks without a call stack".to_owned(),
    }
}

/// When the blocks of recorded objects were live.
struct Lives(FxHashMap<u32, Vec<(u64, u64)>>);

impl Lives {
    fn new(tables: &Tables) -> Self {
        let large: FxHashSet<u32> = tables
            .objects
            .iter()
            .filter(|object| object.size_class.is_some_and(|class| class >= LARGE_CLASS))
            .map(|object| object.object)
            .collect();
        let end = tables.allocations.iter().map(|row| row.freed_ns.unwrap_or(row.time_ns)).max().unwrap_or(0);
        let end = tables.samples.iter().map(|row| row.time_ns).max().unwrap_or(0).max(end);
        let mut lives: FxHashMap<u32, Vec<(u64, u64)>> = FxHashMap::default();
        for row in tables.allocations.iter().filter(|row| large.contains(&row.object)) {
            let freed = row.freed_ns.unwrap_or(end).max(row.time_ns);
            lives.entry(row.object).or_default().push((row.time_ns, freed));
        }
        Self(lives)
    }

    /// Whether the blocks of these objects replace each other: time lived in sum against time that any lived.
    fn replace(&self, objects: &[&ObjectRow]) -> bool {
        let mut spans: Vec<(u64, u64)> =
            objects.iter().filter_map(|object| self.0.get(&object.object)).flatten().copied().collect();
        spans.sort_unstable();
        let (mut summed, mut covered, mut reached) = (0u128, 0u128, 0u64);
        for (start, end) in spans {
            summed += u128::from(end - start);
            let start = start.max(reached);
            covered += u128::from(end.saturating_sub(start));
            reached = reached.max(end);
        }
        covered > 0 && summed as f64 <= REPLACING * covered as f64
    }
}
