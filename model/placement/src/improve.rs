//! A good placement before the search for the best: the better the known one, the more the search can skip.
//!
//! Benefit per byte overlooks that bytes at a crowded time are worth more than bytes at a quiet one. The prices of
//! [`crate::multipliers`] know that: objects go first which lose most if they do not get what they would choose at those
//! prices. Then whatever single move or exchange of two objects makes the placement cheaper is done, until none does.

use crate::multipliers::Relaxed;
use crate::problem::Problem;
use crate::usage::Usage;

/// What an object would choose, the cheapest first.
struct Choices {
    object: usize,
    /// What it loses if it does not get the first.
    regret: f64,
    /// Charges with their tiers.
    charges: Vec<(f64, usize)>,
}

/// A placement by price; `None` where the prices lead into a corner without room.
pub(crate) fn by_price(relaxed: &Relaxed<'_>) -> Option<Vec<usize>> {
    let mut choices: Vec<Choices> = relaxed
        .options
        .iter()
        .enumerate()
        .map(|(object, options)| {
            let mut charges: Vec<(f64, usize)> =
                options.iter().rev().map(|&tier| (relaxed.charge(object, tier), tier)).collect();
            charges.sort_by(|a, b| a.0.total_cmp(&b.0));
            let regret = match charges.as_slice() {
                [first, second, ..] => second.0 - first.0,
                _ => f64::INFINITY,
            };
            Choices { object, regret, charges }
        })
        .collect();
    choices.sort_by(|a, b| b.regret.total_cmp(&a.regret).then(a.object.cmp(&b.object)));
    let mut usage = Usage::new(relaxed.problem);
    let mut placed = vec![0; choices.len()];
    for Choices { object, charges, .. } in choices {
        let &(_, tier) = charges.iter().find(|&&(_, tier)| usage.has_room(object, tier))?;
        usage.add(object, tier);
        *placed.get_mut(object)? = tier;
    }
    Some(placed)
}

/// Moves and exchanges that save, as long as there are any and there is work left; `work` counts looked-at slots.
pub(crate) fn improve(problem: &Problem, placed: &mut [usize], mut work: u64) {
    let slots = problem.demand().slots() as u64;
    let mut usage = Usage::of(problem, placed);
    let objects = placed.len();
    loop {
        let mut saved = false;
        for a in 0..objects {
            for tier in 0..problem.tiers().len() {
                let Some(from) = placed.get(a).copied() else { return };
                if saves(problem.cost(a, from), problem.cost(a, tier)) && usage.has_room(a, tier) {
                    usage.remove(a, from);
                    usage.add(a, tier);
                    set(placed, a, tier);
                    saved = true;
                }
            }
            for b in 0..a {
                let (Some(here), Some(there)) = (placed.get(a).copied(), placed.get(b).copied()) else { return };
                let now = problem.cost(a, here) + problem.cost(b, there);
                if here == there || !saves(now, problem.cost(a, there) + problem.cost(b, here)) {
                    continue;
                }
                let Some(left) = work.checked_sub(4 * slots) else { return };
                work = left;
                usage.remove(a, here);
                usage.remove(b, there);
                let fits = usage.has_room(a, there) && usage.has_room(b, here);
                let (to_a, to_b) = if fits { (there, here) } else { (here, there) };
                usage.add(a, to_a);
                usage.add(b, to_b);
                set(placed, a, to_a);
                set(placed, b, to_b);
                saved |= fits;
            }
        }
        let Some(left) = work.checked_sub((objects * objects) as u64).filter(|_| saved) else { return };
        work = left;
    }
}

/// Rounding is no saving: it could go on for ever.
fn saves(now: f64, then: f64) -> bool {
    then < now - now * 1e-12
}

fn set(placed: &mut [usize], object: usize, tier: usize) {
    if let Some(slot) = placed.get_mut(object) {
        *slot = tier;
    }
}
