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
