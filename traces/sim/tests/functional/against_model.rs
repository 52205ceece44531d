//! The simulator against the slow model of `support/model.rs`: any accesses of any threads, every machine of a family.

use crate::support::model::{Model, Row};
use crate::support::{Machinery, prefetchers, second_level, small};
use proptest::prelude::*;
use tierscope_sim::machine::Translations;
use tierscope_sim::{Counts, Machine};

const OBJECTS: u64 = 4;

/// Each object has 32 lines, at the start of a page.
fn address(object: u64, offset: u64) -> u64 {
    0x10_0000 + object * 4096 + offset
}

fn row(counts: &Counts) -> Row {
    assert_eq!(counts.bytes_read % 64 + counts.bytes_written % 64, 0);
    [
        counts.loads,
        counts.stores,
        counts.l1_misses,
        counts.l2_misses,
        counts.llc_load_misses,
        counts.llc_store_misses,
        counts.tlb_walks,
        counts.bytes_read / 64,
        counts.bytes_written / 64,
    ]
}

#[derive(Debug, Clone)]
struct Step {
    core: u16,
    object: u64,
    offset: u64,
    bytes: u8,
    store: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // A few lines are hot, so that cores meet; a few accesses straddle.
    let offset = prop_oneof![3 => 0_u64..256, 2 => 0_u64..2040];
    let step = (0_u16..3, 0..OBJECTS, offset, 1_u8..9, any::<bool>());
    let step = step.prop_map(|(core, object, offset, bytes, store)| Step { core, object, offset, bytes, store });
    proptest::collection::vec(step, 0..600)
}

fn machines() -> impl Strategy<Value = Machine> {
    let shape = (0..3_usize, any::<bool>(), 0..3_u32, 0..3_u32, any::<bool>());
    shape.prop_map(|(second, llc_inclusive, llc_shift, l1_shift, translated)| {
        let mut machine = small();
        machine.l2 = [None, second_level(false), second_level(true)][second].clone();
        machine.llc.bytes <<= llc_shift;
        machine.llc.inclusive = llc_inclusive;
        machine.l1d.bytes >>= l1_shift;
        machine.dtlb = translated.then_some(Translations { entries: 3, ways: 3, latency_cycles: 0 });
        machine
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_count_of_every_object_is_the_models(steps in steps(), machine in machines(), threads in 1_u16..4) {
        let mut machinery = Machinery::new(machine.clone());
        let mut model = Model::new(&machine, OBJECTS as usize);
        for object in 0..OBJECTS {
            machinery.allocate(address(object, 0), 2048, object);
        }
        for Step { core, object, offset, bytes, store } in steps {
            let (core, at) = (core % threads, address(object, offset));
            machinery.access(core, 0, at, bytes, store);
            model.access(usize::from(core), at, bytes, store, object as u32 + 1);
        }
        let outcome = machinery.finish();
        for object in &outcome.objects {
            prop_assert_eq!(row(&object.counts), model.rows[object.object.index()], "object {}", object.object.0);
        }
        prop_assert_eq!(row(&outcome.unattributed), model.rows[0]);
        prop_assert_eq!(outcome.totals.invalidations, model.invalidations);
    }

    #[test]
    fn what_is_fed_is_what_is_counted_and_objects_add_up(steps in steps(), prefetch in prefetchers(), second: bool) {
        let mut machine = Machine { prefetch, ..Machine::default() };
        machine.l2 = machine.l2.filter(|_| second);
        let mut machinery = Machinery::new(machine);
        // The last object is never allocated: its accesses are in none.
        for object in 0..OBJECTS - 1 {
            machinery.allocate(address(object, 0), 2048, object);
        }
        let mut fed = [[0_u64; 2]; OBJECTS as usize];
        for (op, Step { core, object, offset, bytes, store }) in (0..).zip(steps) {
            machinery.access(core, op % 60, address(object, offset), bytes, store);
            fed[object as usize][usize::from(store)] += 1;
        }
        let outcome = machinery.finish();
        let mut sum = outcome.unattributed;
        for (object, fed) in outcome.objects.iter().zip(fed) {
            prop_assert_eq!([object.counts.loads, object.counts.stores], fed);
            sum.add(&object.counts);
        }
        let [loads, stores] = fed[OBJECTS as usize - 1];
        prop_assert_eq!([outcome.unattributed.loads, outcome.unattributed.stores], [loads, stores]);
        prop_assert_eq!(sum, outcome.totals.data);
    }
}
