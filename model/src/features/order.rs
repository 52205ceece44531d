//! Whether a thread goes through an object in order, from samples so far apart that it may have gone around many times.
//!
//! A thousand samples a second lie 10^5 to 10^6 accesses apart: the distance between two successive ones says nothing by its size.
//! What a prefetcher can follow moves at a steady speed, though, and starts again at the beginning when it is through. So:
//!
//! - **Where** is a place from 0 to 1 in the object: the rank of the address among the addresses this code sampled there. Ranks
//!   make places even whatever pages are hot, and do not change with the addresses that a run happens to get. Equal addresses get
//!   their ranks by lot: what stays on one line does not move.
//! - **A step** is the distance to the next sample of the same thread and code, around the end: 0.9 to 0.1 is 0.2 forward.
//! - **Steady** is how well one speed v explains the steps: the length of the mean of exp(2 pi i (step - v time)), over the speeds
//!   that samples at such distances can tell apart (a periodogram; Lomb, *Astrophysics and Space Science* 39, 1976). It is 1 for a
//!   stream, forward or backward, once around between two samples or many times; near 0 where the next place is independent of the last.
//!
//! Of the best of so many speeds some length is to be expected by chance, and is taken off ([`CHANCE`]). Code addresses with few
//! samples of an object go together. What a code address does in one object says something of what it does in the next (eight
//! tables looked up by one loop), so estimates of few steps are drawn to that of all objects with the same code.
//!
//! It does not see order within short bursts at random places (the neighbours of a vertex): samples never fall twice into one burst.
//! For that there is the dependent share. And it does not see a stream whose speed changes by more than about a tenth from
//! step to step while it goes around many times: that reads as random.

use rustc_hash::FxHashMap;
use std::f64::consts::TAU;

use super::collect::Seen;
use super::estimate::{Cut, Estimate, floor};
use crate::interval::BATCHES;

/// The order of an object's samples.
#[derive(Clone, Copy)]
pub(super) struct Order {
    pub(super) sequentiality: Estimate,
    pub(super) stride_entropy: Estimate,
    /// On how many steps it rests.
    pub(super) steps: f64,
}

/// Code addresses with fewer samples of an object go together.
const OWN_SAMPLES: usize = 24;
/// With fewer steps nothing is said.
const LEAST_STEPS: usize = 8;
/// Speeds are tried up to so many turns per median step time, forward and backward. Steps are shorter and longer than the median
/// one, so that faster ones do not look like slower ones; and what goes around more often has seldom kept its speed.
const FASTEST: f64 = 2.0;
/// So many speeds to each side. Two neighbours differ by a quarter of a turn over the longest step.
const SPEEDS: usize = 32;
/// Steps that take longer than so many median ones are left out: the thread waited, or was elsewhere.
const LONGEST: f64 = 4.0;
/// The squared length that the best of the speeds reaches by chance with n steps is this over n, in all but one of twenty
/// cases: measured over random places by the test below.
const CHANCE: f64 = 5.5;
/// So many steps' worth of what the same code does in other objects.
const POOLED_STEPS: f64 = 16.0;
/// Distances are sorted into so many bins.
const BINS: usize = 16;

type Code = (Option<u32>, u64);

/// One step.
#[derive(Clone, Copy)]
struct Step {
    /// Around, 0 to 1.
    distance: f64,
    time_ns: f64,
    /// What `exp(i step)` is on average where places are drawn without order: every other place is as likely, not its own.
    by_chance: f64,
    /// By how much ranks among so few samples let the distance vary: that between two order statistics.
    rank_variance: f64,
    block: usize,
}

/// The steps of one code address, or of all with few samples (`None`), in one object.
struct Group {
    code: Option<Code>,
    steps: Vec<Step>,
    /// Squared steadiness less chance, without each block and with all.
    steady: [f64; BATCHES + 1],
    entropy: [f64; BATCHES + 1],
    /// Mean over the steps.
    rank_variance: f64,
}

/// The order in each object's samples, which are in order of time.
pub(super) fn measure(of_object: &[Vec<Seen<'_>>]) -> Vec<Order> {
    let groups: Vec<Vec<Group>> = of_object.iter().map(|samples| groups(samples)).collect();
    let mut pooled: FxHashMap<Code, (f64, f64)> = FxHashMap::default();
    for group in groups.iter().flatten() {
        if let Some(code) = group.code {
            let (sum, steps) = pooled.entry(code).or_default();
            *sum += group.steady[BATCHES] * group.steps.len() as f64;
            *steps += group.steps.len() as f64;
        }
    }
    let pooled: FxHashMap<Code, f64> = pooled.into_iter().map(|(code, (sum, steps))| (code, sum / steps)).collect();
    of_object.iter().zip(groups).map(|(samples, groups)| order(samples.len(), &groups, &pooled)).collect()
}

fn order(samples: usize, groups: &[Group], pooled: &FxHashMap<Code, f64>) -> Order {
    let steps: usize = groups.iter().map(|group| group.steps.len()).sum();
    if steps < LEAST_STEPS {
        return Order { sequentiality: Estimate::UNKNOWN, stride_entropy: Estimate::UNKNOWN, steps: steps as f64 };
    }
    let mean = |value: &dyn Fn(&Group) -> f64| {
        groups.iter().map(|group| value(group) * group.steps.len() as f64).sum::<f64>() / steps as f64
    };
    let cut = Cut::new(samples);
    let sequentiality = cut.jackknife(|fold| {
        mean(&|group| {
            let own = group.steady.get(fold).copied().unwrap_or(f64::NAN);
            let others = group.code.and_then(|code| pooled.get(&code)).copied().unwrap_or(own);
            let steps = group.steps.len() as f64;
            ((steps * own + POOLED_STEPS * others) / (steps + POOLED_STEPS)).max(0.0).sqrt().min(1.0)
        })
    });
    let stride_entropy = cut.jackknife(|fold| mean(&|group| group.entropy.get(fold).copied().unwrap_or(f64::NAN)));
    // A length of a mean of n unit vectors is known to about 1/sqrt(2 n) where they are at random, and to 3/n where they agree.
    // Ranks among few samples are off by themselves, which makes steps look less even than they are.
    let spread = mean(&|group| group.rank_variance);
    let sure = |value: f64| (1.0 - value * value).max(0.0) / (2.0 * steps as f64).sqrt() + floor(1.0, steps as f64);
    let shorter = sequentiality.value * (1.0 - (-TAU * TAU / 2.0 * spread).exp()) / 2.0;
    let wider = 0.5 * (1.0 + TAU * std::f64::consts::E * spread * (BINS * BINS) as f64).ln() / (BINS as f64).ln();
    let wider = wider * (1.0 - stride_entropy.value);
    Order {
        sequentiality: sequentiality.at_least(sure(sequentiality.value).max(shorter)),
        stride_entropy: stride_entropy.at_least(floor(1.0, steps as f64).max(wider)),
        steps: steps as f64,
    }
}

/// The groups of an object, measured.
fn groups(samples: &[Seen<'_>]) -> Vec<Group> {
    let mut counts: FxHashMap<Code, usize> = FxHashMap::default();
    let addressed = || samples.iter().enumerate().filter_map(|(n, seen)| Some((n, seen, seen.row.address?)));
    addressed().for_each(|(_, seen, _)| *counts.entry(seen.code()).or_default() += 1);
    let code = |seen: &Seen<'_>| Some(seen.code()).filter(|code| counts.get(code).is_some_and(|n| *n >= OWN_SAMPLES));
    // By code and thread, each in order of time.
    let mut sorted: Vec<_> = addressed()
        .map(|(place, seen, address)| (code(seen), seen.row.tid, place, seen.row.time_ns, address))
        .collect();
    sorted.sort_unstable();
    let cut = Cut::new(samples.len());
    let mut groups: Vec<Group> = Vec::new();
    for one in sorted.chunk_by(|a, b| a.0 == b.0) {
        let mut steps = Vec::with_capacity(one.len());
        for thread in one.chunk_by(|a, b| a.1 == b.1) {
            let path: Vec<_> =
                thread.iter().map(|&(_, _, place, time_ns, address)| (place, time_ns, address)).collect();
            follow(&path, cut, &mut steps);
        }
        groups.extend(one.first().and_then(|first| measured(first.0, steps)));
    }
    groups
}

/// The steps of one thread at one code address.
fn follow(path: &[(usize, u64, u64)], cut: Cut, steps: &mut Vec<Step>) {
    let mut by_address: Vec<usize> = (0..path.len()).collect();
    by_address.sort_unstable_by_key(|&n| path.get(n).map(|&(place, _, address)| (address, lot(place))));
    let mut ranks = vec![0.0; path.len()];
    for (rank, &n) in by_address.iter().enumerate() {
        if let Some(slot) = ranks.get_mut(n) {
            *slot = rank as f64 / path.len() as f64;
        }
    }
    for (pair, ranks) in path.windows(2).zip(ranks.windows(2)) {
        if let (&[(_, from_ns, _), (place, to_ns, _)], &[from, to]) = (pair, ranks)
            && to_ns > from_ns
        {
            let distance = (to - from).rem_euclid(1.0);
            steps.push(Step {
                distance,
                rank_variance: distance * (1.0 - distance) / path.len() as f64,
                time_ns: (to_ns - from_ns) as f64,
                by_chance: -1.0 / (path.len() as f64 - 1.0),
                block: cut.of(place),
            });
        }
    }
}

/// A number that looks random.
fn lot(place: usize) -> u64 {
    let mixed = (place as u64 ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 8
}

/// How steady the steps are, and how many kinds of distances are left beside a steady speed; `None` without steps.
fn measured(code: Option<Code>, mut steps: Vec<Step>) -> Option<Group> {
    let mut times: Vec<f64> = steps.iter().map(|step| step.time_ns).collect();
    let middle = times.len().checked_sub(1)? / 2;
    let (_, &mut median, _) = times.select_nth_unstable_by(middle, f64::total_cmp);
    steps.retain(|step| step.time_ns <= LONGEST * median);
    let waves = Waves::new(&steps, median);
    let mut counts = [0.0; BATCHES];
    for step in &steps {
        if let Some(count) = counts.get_mut(step.block) {
            *count += 1.0;
        }
    }
    let all = steps.len() as f64;
    let mut steady = [0.0; BATCHES + 1];
    let mut best = 0;
    for (fold, slot) in steady.iter_mut().enumerate() {
        let left = all - counts.get(fold).copied().unwrap_or(0.0);
        let (speed, square) = waves.longest(fold);
        if fold == BATCHES {
            best = speed;
        }
        // Without enough steps nothing can be told from chance.
        let chance = CHANCE / left.max(1.0);
        *slot = if chance < 0.5 { (square / (left * left) - chance) / (1.0 - chance) } else { 0.0 };
    }
    let speed = if steady[BATCHES] > 0.0 { speed(best) / median } else { 0.0 };
    let entropy = entropy(&steps, speed);
    let rank_variance = steps.iter().map(|step| step.rank_variance).sum::<f64>() / all;
    Some(Group { code, steps, steady, entropy, rank_variance })
}

/// Turns per median step time of the speed of this number.
fn speed(number: usize) -> f64 {
    (number as f64 - SPEEDS as f64) * FASTEST / SPEEDS as f64
}

/// Sums of unit vectors for each speed: by block, and of all.
struct Waves {
    blocks: Vec<[(f64, f64); BATCHES]>,
    all: Vec<(f64, f64)>,
}

impl Waves {
    fn new(steps: &[Step], median: f64) -> Self {
        let mut blocks = vec![[(0.0, 0.0); BATCHES]; 2 * SPEEDS + 1];
        for step in steps {
            let time = step.time_ns / median;
            let (sine, cosine) = (TAU * step.distance).sin_cos();
            let (real, imaginary) = (cosine - step.by_chance, sine);
            // Turned back by what each speed would have moved: each turn is the one before and the same again.
            let (mut turn_imaginary, mut turn_real) = (-TAU * speed(0) * time).sin_cos();
            let (once_imaginary, once_real) = (-TAU * FASTEST / SPEEDS as f64 * time).sin_cos();
            for wave in &mut blocks {
                if let Some((sum_real, sum_imaginary)) = wave.get_mut(step.block) {
                    *sum_real += real * turn_real - imaginary * turn_imaginary;
                    *sum_imaginary += real * turn_imaginary + imaginary * turn_real;
                }
                (turn_real, turn_imaginary) = (
                    turn_real * once_real - turn_imaginary * once_imaginary,
                    turn_real * once_imaginary + turn_imaginary * once_real,
                );
            }
        }
        let sum = |wave: &[(f64, f64); BATCHES]| {
            wave.iter().fold((0.0, 0.0), |sum, block| (sum.0 + block.0, sum.1 + block.1))
        };
        Self { all: blocks.iter().map(sum).collect(), blocks }
    }

    /// The speed whose vectors add up to the longest without a block, and the square of the length.
    fn longest(&self, fold: usize) -> (usize, f64) {
        let squares = self.all.iter().zip(&self.blocks).map(|(all, blocks)| {
            let left_out = blocks.get(fold).copied().unwrap_or_default();
            (all.0 - left_out.0).powi(2) + (all.1 - left_out.1).powi(2)
        });
        squares.enumerate().fold((SPEEDS, 0.0), |best, one| if one.1 > best.1 { one } else { best })
    }
}

/// Entropy of the distances beside a speed over the largest, corrected for few steps as Miller (1955) does, by fold.
fn entropy(steps: &[Step], speed: f64) -> [f64; BATCHES + 1] {
    let mut bins = [[0.0; BATCHES]; BINS];
    for step in steps {
        let left = (step.distance - speed * step.time_ns).rem_euclid(1.0);
        let bin = bins.get_mut(((left * BINS as f64) as usize).min(BINS - 1));
        if let Some(count) = bin.and_then(|bin| bin.get_mut(step.block)) {
            *count += 1.0;
        }
    }
    std::array::from_fn(|fold| {
        let counts = bins.map(|bin| bin.iter().sum::<f64>() - bin.get(fold).copied().unwrap_or(0.0));
        let all: f64 = counts.iter().sum();
        let occupied = counts.iter().filter(|count| **count > 0.0).count() as f64;
        let entropy: f64 = counts.iter().filter(|count| **count > 0.0).map(|n| -n / all * (n / all).ln()).sum();
        ((entropy + (occupied - 1.0) / (2.0 * all)) / (BINS as f64).ln()).clamp(0.0, 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierscope_traces::{Access, AddressQuality, Attribution, SampleRow};

    /// A small generator of our own: tests must not depend on a library's choice of stream.
    struct Random(u64);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    fn row(time_ns: u64, tid: u32, code: u64, address: u64) -> SampleRow {
        SampleRow {
            time_ns,
            tid,
            cpu: 0,
            ip: 0,
            module: Some(0),
            offset: code,
            kernel: false,
            address: Some(address),
            access: Access::Load,
            address_quality: AddressQuality::Exact,
            attribution: Attribution::Exact,
            level: None,
            latency: None,
            dependent: None,
            tlb: None,
            weight: 1.0,
            object: Some(0),
        }
    }

    const BYTES: f64 = 64e6;

    /// Samples of an object a millisecond apart, one in `every` of the ticks, each at `place(ticks, random)`, 0 to 1 around.
    fn sampled(number: usize, every: f64, seed: u64, place: impl Fn(f64, &mut Random) -> f64) -> Vec<SampleRow> {
        let mut random = Random(seed);
        let mut rows = Vec::new();
        let mut tick = 0.0;
        while rows.len() < number {
            tick += 1.0;
            if random.uniform() < 1.0 / every {
                // The timer and the stream are not exact.
                let time = tick + 0.02 * random.uniform();
                let address = (place(time, &mut random).rem_euclid(1.0) * BYTES) as u64;
                rows.push(row((time * 1e6) as u64, 1, 7, 0x7000_0000 + address));
            }
        }
        rows
    }

    fn order_of(objects: &[Vec<SampleRow>]) -> Vec<Order> {
        let seen = |rows: &'_ [SampleRow]| -> Vec<(SampleRow, usize)> { rows.iter().map(|row| (*row, 0)).collect() };
        let owned: Vec<Vec<(SampleRow, usize)>> = objects.iter().map(|rows| seen(rows)).collect();
        let samples: Vec<Vec<Seen<'_>>> = owned
            .iter()
            .map(|rows| {
                rows.iter().map(|(row, _)| Seen { row, weight: 1.0, batch: 0, object: Some(0), gap_ns: None }).collect()
            })
            .collect();
        measure(&samples)
    }

    fn one(rows: Vec<SampleRow>) -> Order {
        order_of(&[rows])[0]
    }

    #[test]
    fn a_stream_is_in_order_however_often_it_goes_around_between_two_samples() {
        for turns_a_tick in [0.003, 0.04, 0.31, 0.77, 1.4, -0.2, 3.3] {
            for every in [1.0, 3.0] {
                let found = one(sampled(300, every, 3, |time, _| turns_a_tick * time));
                assert!(found.sequentiality.value > 0.8, "{turns_a_tick} every {every}: {:?}", found.sequentiality);
                assert!(found.stride_entropy.value < 0.75, "{turns_a_tick} every {every}: {:?}", found.stride_entropy);
            }
        }
    }

    #[test]
    fn random_places_are_not_in_order_whatever_pages_are_hot() {
        let places: [fn(&mut Random) -> f64; 3] =
            [Random::uniform, |random| random.uniform().powi(6), |random| f64::from(random.uniform() < 0.5) * 0.5];
        for place in places {
            let (mut large, mut worst) = (0, 0.0f64);
            for seed in 0..40 {
                for number in [40, 200, 1000] {
                    let found = one(sampled(number, 2.0, seed, |_, random| place(random)));
                    large += usize::from(found.sequentiality.value > 0.0);
                    worst = worst.max(found.sequentiality.value * (number as f64).sqrt());
                    assert!(found.stride_entropy.value > 0.85, "{number}: {:?}", found.stride_entropy);
                }
            }
            assert!(large <= 10 && worst < 2.6, "{large} of 120, {worst}");
        }
    }

    #[test]
    fn half_in_order_and_half_at_random_lies_between() {
        let mut random = Random(5);
        let mut rows = sampled(400, 2.0, 1, |time, _| 0.1 * time);
        for (n, row) in rows.iter_mut().enumerate() {
            if n % 2 == 0 {
                row.offset = 9;
                row.address = Some(0x7000_0000 + (random.uniform() * BYTES) as u64);
            }
        }
        let found = one(rows).sequentiality;
        assert!((found.value - 0.5).abs() < 0.15, "{found:?}");
    }

    #[test]
    fn what_the_same_code_does_elsewhere_helps_where_there_are_few_steps() {
        let at_random = |number, seed| sampled(number, 1.0, seed, |_, random| random.uniform());
        let stream = |number, seed| sampled(number, 1.0, seed, |time, _| 0.05 * time);
        let of = |objects: &[Vec<SampleRow>]| order_of(objects)[0].sequentiality.value;
        assert_eq!(of(&[at_random(30, 1)]), 0.0);
        assert!(of(&[at_random(30, 1), stream(500, 2), stream(500, 3)]) > 0.3);
        assert!(of(&[at_random(3000, 1), stream(500, 2), stream(500, 3)]) < 0.1);
    }

    #[test]
    fn few_samples_and_one_address_say_nothing() {
        assert!(one(sampled(6, 1.0, 1, |time, _| 0.05 * time)).sequentiality.value.is_nan());
        assert!(order_of(&[Vec::new()])[0].stride_entropy.value.is_nan());
        let still = one(sampled(200, 1.0, 1, |_, _| 0.5));
        assert!(still.sequentiality.value < 0.3, "{:?}", still.sequentiality);
    }
}
