//! How many bytes of each object live at the instants that matter.
//!
//! Between two allocations nothing changes, so time falls into stretches with constant demand. A tier is fullest in a
//! stretch that is not dominated, that is, where no neighbouring stretch has at least as many bytes of every object; all
//! others are dropped. What is left of most programs is a handful.
//!
//! A program that allocates millions of times would still leave too many. Then stretches are joined, and an object
//! counts in a joined one with the most it had there: that can only overstate what lives together, so a placement that
//! fits these slots fits every instant. Half of the borders kept are those where most bytes come or go, half divide
//! the bytes that come and go evenly, so that neither a few large blocks nor a long stretch of small ones is blurred.

use crate::problem::{Object, Span};

/// More slots than this are not kept.
const MOST_SLOTS: usize = 512;
/// Neither are more cells (slots times objects).
const MOST_CELLS: usize = 4 << 20;

/// Bytes by object and slot.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    slots: usize,
    bytes: Vec<u64>,
}

impl Demand {
    /// How many slots there are: at least one.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// The bytes of an object in every slot.
    pub(crate) fn of(&self, object: usize) -> &[u64] {
        self.bytes.get(object * self.slots..(object + 1) * self.slots).unwrap_or_default()
    }
}

/// The demand of objects; `None` if their sizes do not add up to a number of bytes.
pub(crate) fn demand(objects: &[Object]) -> Option<Demand> {
    let most = (MOST_CELLS / objects.len().max(1)).clamp(1, MOST_SLOTS);
    let borders = borders(objects, most);
    let rows: Vec<Vec<u64>> = objects.iter().map(|object| row(object, &borders)).collect();
    let together: u128 = rows.iter().map(|row| u128::from(row.iter().copied().max().unwrap_or(0))).sum();
    if together > i64::MAX as u128 {
        return None;
    }
    let kept = undominated(&rows, borders.len());
    let cell = |row: &Vec<u64>, slot: usize| row.get(slot).copied().unwrap_or(0);
    let bytes = rows.iter().flat_map(|row| kept.iter().map(move |&slot| cell(row, slot))).collect();
    Some(Demand { slots: kept.len(), bytes })
}

/// When slots begin: ascending, the first at 0.
fn borders(objects: &[Object], most: usize) -> Vec<u64> {
    let spans = || objects.iter().filter_map(|object| object.lives.as_ref()).flatten().filter(|span| span.bytes > 0);
    let mut changes: Vec<(u64, f64)> =
        spans().flat_map(|span| [span.start_ns, end(span)].map(|time| (time, span.bytes as f64))).collect();
    changes.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    changes.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    let mut borders: Vec<u64> = if changes.len() < most {
        changes.iter().map(|change| change.0).collect()
    } else {
        largest(&changes, most - 1)
    };
    borders.push(0);
    borders.sort_unstable();
    borders.dedup();
    borders
}

/// At most `most` of the instants.
fn largest(changes: &[(u64, f64)], most: usize) -> Vec<u64> {
    let mut by_size: Vec<&(u64, f64)> = changes.iter().collect();
    by_size.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut kept: Vec<u64> = by_size.iter().take(most / 2).map(|change| change.0).collect();
    let parts = most - most / 2;
    let total: f64 = changes.iter().map(|change| change.1).sum();
    let (mut passed, mut part) = (0.0, 0);
    for &(time, bytes) in changes {
        passed += bytes;
        if passed > total * part as f64 / parts as f64 && part < parts {
            kept.push(time);
            part = (passed / total * parts as f64) as usize + 1;
        }
    }
    kept
}

fn end(span: &Span) -> u64 {
    span.end_ns.max(span.start_ns.saturating_add(1))
}

/// The most bytes of one object in each slot.
fn row(object: &Object, borders: &[u64]) -> Vec<u64> {
    let Some(lives) = &object.lives else { return vec![object.bytes; borders.len()] };
    let mut steps: Vec<(u64, i128)> = lives
        .iter()
        .flat_map(|span| [(span.start_ns, i128::from(span.bytes)), (end(span), -i128::from(span.bytes))])
        .collect();
    steps.sort_unstable();
    let mut steps = steps.into_iter().peekable();
    let mut level = 0i128;
    let mut row = Vec::with_capacity(borders.len());
    for (place, &border) in borders.iter().enumerate() {
        let next_border = borders.get(place + 1).copied();
        // What came before lives on into the slot only if it is still there after the steps at its very border.
        let mut most = 0i128;
        let mut reached = border;
        while let Some(&(time, change)) = steps.peek().filter(|step| next_border.is_none_or(|next| step.0 < next)) {
            if time > reached {
                most = most.max(level);
                reached = time;
            }
            level += change;
            steps.next();
        }
        row.push(u64::try_from(most.max(level)).unwrap_or(u64::MAX));
    }
    row
}

/// The slots that no neighbour dominates.
fn undominated(rows: &[Vec<u64>], slots: usize) -> Vec<usize> {
    let covers = |a: usize, b: usize| rows.iter().all(|row| row.get(a) >= row.get(b));
    let mut kept: Vec<usize> = Vec::new();
    for slot in 0..slots {
        while kept.last().is_some_and(|&last| covers(slot, last)) {
            kept.pop();
        }
        if kept.last().is_none_or(|&last| !covers(last, slot)) {
            kept.push(slot);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(lives: &[(u64, u64, u64)]) -> Object {
        let spans = lives.iter().map(|&(start_ns, end_ns, bytes)| Span { start_ns, end_ns, bytes }).collect();
        Object { id: String::new(), bytes: 0, lives: Some(spans), costs: Vec::new() }
    }

    #[test]
    fn lives_that_meet_share_a_slot_and_lives_that_follow_each_other_do_not() {
        let found = demand(&[object(&[(0, 10, 5)]), object(&[(10, 20, 7)]), object(&[(15, 30, 1)])]).unwrap();
        assert_eq!(found.slots(), 2);
        assert_eq!((found.of(0), found.of(1), found.of(2)), (&[5, 0][..], &[0, 7][..], &[0, 1][..]));
    }

    #[test]
    fn blocks_of_one_object_add_up_while_they_live_together() {
        let found = demand(&[object(&[(0, 10, 5), (5, 15, 5), (20, 30, 7)])]).unwrap();
        assert_eq!(found.of(0), [10]);
    }

    #[test]
    fn a_span_without_length_lives_for_an_instant() {
        let found = demand(&[object(&[(10, 10, 5)]), object(&[(20, 3, 6)])]).unwrap();
        assert_eq!(found.slots(), 2);
    }

    #[test]
    fn what_is_always_there_is_in_every_slot() {
        let always = Object { bytes: 3, lives: None, ..object(&[]) };
        let found = demand(&[always.clone(), object(&[(5, 6, 1)]), object(&[(7, 8, 1)])]).unwrap();
        assert_eq!(found.of(0), [3, 3]);
        assert_eq!(demand(&[always]).unwrap().of(0), [3]);
        assert_eq!(demand(&[]).unwrap().slots(), 1);
    }

    #[test]
    fn an_object_counts_in_a_slot_with_the_most_it_has_there() {
        for (lives, expected) in [
            (&[(0, 5, 3)][..], [3, 3, 0]),
            (&[(0, 4, 3), (4, 6, 1)], [3, 1, 0]),
            (&[(0, 5, 3), (6, 7, 9)], [3, 9, 0]),
            (&[(1, 2, 3), (2, 3, 4), (9, 20, 1)], [4, 0, 1]),
        ] {
            assert_eq!(row(&object(lives), &[0, 4, 8]), expected, "{lives:?}");
        }
    }

    #[test]
    fn joined_slots_never_understate() {
        // 100,000 blocks of one object, one after the other, with two large ones that never meet.
        let small: Vec<(u64, u64, u64)> = (0..100_000).map(|n| (n * 10, n * 10 + 9, 1 + n % 7)).collect();
        let objects = [object(&small), object(&[(0, 400_003, 1 << 30)]), object(&[(400_003, 999_999, 1 << 30)])];
        let found = demand(&objects).unwrap();
        assert!(found.slots() <= MOST_SLOTS);
        assert_eq!(found.of(0).iter().max(), Some(&7));
        let together = |slot: usize| found.of(1)[slot] + found.of(2)[slot];
        assert_eq!((0..found.slots()).map(together).max(), Some(1 << 30), "their border was kept");
    }

    #[test]
    fn sizes_beyond_all_memory_are_refused() {
        assert!(demand(&[object(&[(0, 1, u64::MAX)]), object(&[(0, 1, u64::MAX)])]).is_none());
        assert!(demand(&[object(&[(0, 9, u64::MAX), (0, 9, u64::MAX)])]).is_none());
    }
}
