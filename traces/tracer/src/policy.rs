//! A compiled policy as rules of a placement: what the shim would do with each site and global, told to the simulator.
//!
//! The table's rules are tried in order and the first whose frames begin the stack decides by size and slot; the simulator gets
//! every rule whose frames match, in that order, with the sizes and the slot it holds for, and decides likewise.

use crate::config::PolicyConfig;
use crate::modules::Modules;
use tierscope_sim::{Event, Frame, Rule, Target};
use tierscope_wire::policy::Table;

/// A policy, read.
#[derive(Debug)]
pub(crate) struct Policy {
    config: PolicyConfig,
    table: Vec<u8>,
}

/// Whether a module of the program is the one a table names.
fn is_module(wanted: &tierscope_wire::policy::Module<'_>, number: u32, modules: &Modules) -> bool {
    let named = match wanted.name {
        "" => Modules::is_program(number),
        name => name == modules.name(number),
    };
    let id: String = wanted.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
    named && (id.is_empty() || modules.build_id(number) == Some(&id))
}

impl Policy {
    /// Reads and checks the table.
    pub(crate) fn read(config: &PolicyConfig) -> Result<Policy, String> {
        let table = std::fs::read(&config.table)
            .map_err(|error| format!("cannot read the policy table {}: {error}", config.table.display()))?;
        match Table::parse(&table) {
            Ok(parsed) if parsed.counts().tiers != config.tiers.len() => Err(format!(
                "the policy table {} has {} tiers, and {} are given",
                config.table.display(),
                parsed.counts().tiers,
                config.tiers.len()
            )),
            Ok(_) => Ok(Policy { config: config.clone(), table }),
            Err(error) => Err(format!("{} is no policy table: {error}", config.table.display())),
        }
    }

    fn rule(&self, tier: u16, target: Target) -> Option<Event> {
        let tier = *self.config.tiers.get(usize::from(tier))?;
        Some(Event::Rule(Rule { placement: self.config.placement, target, tier }))
    }

    /// The rules that hold for a site.
    pub(crate) fn of_site(&self, site: u64, frames: &[Frame], modules: &Modules) -> Vec<Event> {
        let Ok(table) = Table::parse(&self.table) else { return Vec::new() };
        let named: Vec<_> = table.modules().collect();
        let holds = |rule: &tierscope_wire::policy::Rule<'_>| {
            rule.frames().len() <= frames.len()
                && rule.frames().zip(frames).all(|(wanted, (module, address))| {
                    let module = module.zip(named.get(usize::from(wanted.module)));
                    module.is_some_and(|(number, named)| is_module(named, number, modules)) && wanted.holds(*address)
                })
        };
        let matching = table.rules().filter(holds);
        matching
            .filter_map(|rule| {
                let high = rule.max_bytes.saturating_add(1);
                self.rule(rule.tier, Target::Site { site, low: rule.min_bytes, high, slot: rule.ordinal })
            })
            .collect()
    }

    /// The rules that hold for globals of a module, each an [`Event::Global`].
    pub(crate) fn of_globals(&self, module: u32, globals: &[Event], modules: &Modules) -> Vec<Event> {
        let Ok(table) = Table::parse(&self.table) else { return Vec::new() };
        let named: Vec<_> = table.modules().collect();
        let of_module =
            |index: u16| named.get(usize::from(index)).is_some_and(|named| is_module(named, module, modules));
        let mut rules = Vec::new();
        for wanted in table.globals().filter(|wanted| of_module(wanted.module)) {
            let range = wanted.address..wanted.address.saturating_add(wanted.bytes);
            for global in globals {
                if let Event::Global { elf_address, .. } = global
                    && range.contains(elf_address)
                {
                    rules.extend(self.rule(wanted.tier, Target::Global { module, elf_address: *elf_address }));
                }
            }
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::own_code;
    use tierscope_wire::policy::{Backend, FrameSpec, GlobalSpec, ModuleSpec, RuleSpec, TableSpec, TierSpec};

    fn tier(name: &str) -> TierSpec {
        TierSpec {
            name: name.into(),
            backend: Backend::Numa,
            capacity: None,
            nodes: vec![0],
            weights: vec![],
            path: String::new(),
        }
    }

    fn rule(tier: u16, frames: &[(u16, u64)], (min_bytes, max_bytes): (u64, u64), ordinal: Option<u16>) -> RuleSpec {
        let frame =
            |(module, address): &(u16, u64)| FrameSpec { module: *module, ranges: vec![(*address, address + 1)] };
        RuleSpec { tier, frames: frames.iter().map(frame).collect(), min_bytes, max_bytes, ordinal, number: 0 }
    }

    fn policy(spec: &TableSpec) -> (tempfile::TempDir, Policy) {
        let directory = tempfile::tempdir().unwrap();
        let table = directory.path().join("table");
        std::fs::write(&table, spec.encode().unwrap()).unwrap();
        let policy = Policy::read(&PolicyConfig { table, placement: 3, tiers: vec![5, 8] }).unwrap();
        (directory, policy)
    }

    #[test]
    fn a_site_gets_the_rules_whose_frames_begin_its_stack() {
        let mut modules = Modules::default();
        modules.find(&own_code()).unwrap();
        let named = |name: &str| ModuleSpec { name: name.into(), build_id: vec![] };
        let (_directory, policy) = policy(&TableSpec {
            tiers: vec![tier("fast"), tier("slow")],
            modules: vec![named(""), named("elsewhere.so")],
            rules: vec![
                rule(0, &[(0, 0x10), (0, 0x20)], (100, 200), Some(2)),
                rule(0, &[(1, 0x10)], (0, u64::MAX), None),
                rule(0, &[(0, 0x11)], (0, u64::MAX), None),
                rule(1, &[], (0, u64::MAX), None),
            ],
            ..TableSpec::default()
        });
        let frames = [(Some(0), 0x10), (Some(0), 0x20), (None, 0x30)];
        let of = |low, high, slot, tier| {
            Event::Rule(Rule { placement: 3, target: Target::Site { site: 9, low, high, slot }, tier })
        };
        let both = vec![of(100, 201, Some(2), 5), of(0, u64::MAX, None, 8)];
        assert_eq!(policy.of_site(9, &frames, &modules), both);
        assert_eq!(policy.of_site(9, &frames[..1], &modules), both[1..], "the stack is shorter than the rule's");
    }

    #[test]
    fn globals_are_matched_by_where_they_lie_in_the_module_of_the_right_build() {
        let mut modules = Modules::default();
        let found = modules.find(&own_code()).unwrap();
        let Some(Event::Global { elf_address, bytes, .. }) = found.globals.first() else { unreachable!() };
        let of_build = |build_id: Vec<u8>| {
            let (_directory, policy) = policy(&TableSpec {
                tiers: vec![tier("fast"), tier("slow")],
                modules: vec![ModuleSpec { name: String::new(), build_id }],
                globals: vec![GlobalSpec { tier: 1, module: 0, address: *elf_address, bytes: *bytes, number: 0 }],
                ..TableSpec::default()
            });
            policy.of_globals(0, &found.globals, &modules)
        };
        let target = Target::Global { module: 0, elf_address: *elf_address };
        assert_eq!(of_build(vec![]), [Event::Rule(Rule { placement: 3, target, tier: 8 })]);
        assert_eq!(of_build(vec![1, 2, 3]), []);
    }

    #[test]
    fn a_table_that_does_not_fit_is_refused() {
        let config = |table: std::path::PathBuf| PolicyConfig { table, placement: 0, tiers: vec![0] };
        let error = Policy::read(&config("/nonexistent".into())).unwrap_err();
        assert!(error.starts_with("cannot read the policy table /nonexistent"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("t");
        std::fs::write(&file, "nonsense").unwrap();
        assert!(Policy::read(&config(file.clone())).unwrap_err().contains("is no policy table"));
        std::fs::write(
            &file,
            TableSpec { tiers: vec![tier("a"), tier("b")], ..TableSpec::default() }.encode().unwrap(),
        )
        .unwrap();
        assert!(Policy::read(&config(file)).unwrap_err().ends_with("has 2 tiers, and 1 are given"));
    }
}
