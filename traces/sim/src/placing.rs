//! Which tier an object has under each placement.

use crate::config::Placement;
use crate::event::{Rule, Target};
use crate::objects::ObjectKey;
use rustc_hash::FxHashMap;

#[derive(Debug, Clone, Default)]
struct Rules {
    sites: FxHashMap<u64, Vec<SiteRule>>,
    globals: FxHashMap<(u32, u64), u16>,
}

#[derive(Debug, Clone, Copy)]
struct SiteRule {
    low: u64,
    high: u64,
    slot: Option<u16>,
    tier: u16,
}

/// The placements with what became known of them on the way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placing {
    placements: Vec<(Placement, Rules)>,
    tiers: usize,
}

impl Placing {
    pub(crate) fn new(placements: &[Placement], tiers: usize) -> Self {
        let placements = placements.iter().map(|placement| (placement.clone(), Rules::default()));
        Self { placements: placements.collect(), tiers }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u16 {
        self.placements.len() as u16
    }

    /// Learns a rule; false if it speaks of a placement or a tier that there is not.
    pub(crate) fn learn(&mut self, rule: Rule) -> bool {
        if usize::from(rule.tier) >= self.tiers {
            return false;
        }
        let Some((_, rules)) = self.placements.get_mut(usize::from(rule.placement)) else { return false };
        match rule.target {
            Target::Site { site, low, high, slot } => {
                rules.sites.entry(site).or_default().push(SiteRule { low, high, slot, tier: rule.tier });
            }
            Target::Global { module, elf_address } => {
                rules.globals.entry((module, elf_address)).or_insert(rule.tier);
            }
        }
        true
    }

    /// The tier of an object whose largest block so far has `bytes`: what the placement says of its identity, else the first rule
    /// that fits, else its default.
    pub(crate) fn tier(&self, placement: u16, key: &ObjectKey, identity: u64, bytes: u64) -> u16 {
        let Some((placement, rules)) = self.placements.get(usize::from(placement)) else { return 0 };
        if let Some(tier) = placement.objects.get(&identity) {
            return *tier;
        }
        let ruled = match key {
            ObjectKey::Heap { site, place } => rules.sites.get(site).and_then(|rules| {
                let slot = place.map(|(_, slot)| slot);
                let fits = |rule: &&SiteRule| {
                    (rule.low..rule.high).contains(&bytes) && rule.slot.is_none_or(|wanted| slot == Some(wanted))
                };
                rules.iter().find(fits).map(|rule| rule.tier)
            }),
            ObjectKey::Global { module, elf_address } => rules.globals.get(&(*module, *elf_address)).copied(),
            _ => None,
        };
        ruled.unwrap_or(placement.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_before_rules_before_default() {
        let named = ObjectKey::Heap { site: 3, place: None };
        let objects = [(named.identity(""), 1)].into_iter().collect();
        let mut placing = Placing::new(&[Placement { name: "p".into(), default: 2, objects }], 3);
        let site =
            |low, slot, tier| Rule { placement: 0, target: Target::Site { site: 3, low, high: u64::MAX, slot }, tier };
        assert!(placing.learn(site(1 << 20, Some(1), 0)));
        assert!(placing.learn(site(1 << 20, None, 1)));
        assert!(placing.learn(site(0, None, 0)));
        assert!(placing.learn(Rule { placement: 0, target: Target::Global { module: 1, elf_address: 16 }, tier: 0 }));
        assert!(!placing.learn(Rule { placement: 1, ..site(0, None, 0) }));
        assert!(!placing.learn(site(0, None, 3)));
        let tier = |key: &ObjectKey, bytes| placing.tier(0, key, key.identity(""), bytes);
        assert_eq!(tier(&named, 1 << 21), 1, "by identity");
        assert_eq!(tier(&ObjectKey::Heap { site: 3, place: Some((20, 1)) }, 1 << 20), 0);
        assert_eq!(tier(&ObjectKey::Heap { site: 3, place: Some((20, 2)) }, 1 << 20), 1);
        assert_eq!(tier(&ObjectKey::Heap { site: 3, place: Some((19, 2)) }, 1 << 19), 0);
        assert_eq!(tier(&ObjectKey::Heap { site: 4, place: None }, 1), 2);
        assert_eq!(tier(&ObjectKey::Global { module: 1, elf_address: 16 }, 8), 0);
        assert_eq!(tier(&ObjectKey::Stack { thread: 0 }, 8), 2);
    }
}
