//! How long the search takes, and how often it ends in a proof: `cargo run --release -p tierscope-placement --example solve`.
#![allow(clippy::unwrap_used, reason = "an example fails as tests do")]

use std::time::Instant;

use tierscope_placement::{Additive, Cost, Limits, Object, Optimality, Problem, Span, Tier, best, by_density, curve};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20) % limit
    }

    fn unit(&mut self) -> f64 {
        self.below(1 << 30) as f64 / f64::from(1 << 30)
    }
}

fn problem(count: u64, tiers: usize, sharing: bool, correlated: bool) -> Problem {
    let mut random = Random(42);
    let objects = (0..count).map(|number| {
        let bytes = 4096 * (1 + random.below(1 << 16));
        let slow = if correlated { bytes as f64 / 1e9 + 0.05 * random.unit() } else { random.unit() };
        let costs = (0..tiers).map(|tier| Cost::exactly(slow * tier as f64 * (0.7 + 0.3 * random.unit()))).collect();
        let lives = sharing.then(|| {
            let start_ns = random.below(1000);
            vec![Span { start_ns, end_ns: start_ns + random.below(500), bytes }]
        });
        Object { id: number.to_string(), bytes, lives, costs }
    });
    let tier = |number: usize| Tier { name: number.to_string(), capacity: None };
    Problem::new(objects.collect(), (0..tiers).map(tier).collect()).unwrap()
}

fn main() {
    println!("objects tiers sharing correlated   ms/solve  proved  worst gap  curve ms");
    for (count, tiers, sharing, correlated) in [
        (60, 2, false, false),
        (60, 2, true, false),
        (60, 3, true, false),
        (300, 2, false, false),
        (300, 2, false, true),
        (300, 2, true, false),
        (300, 3, false, false),
        (300, 3, true, true),
        (2000, 2, false, false),
    ] {
        let open = problem(count, tiers, sharing, correlated);
        let footprint = open.footprint();
        let (mut proved, mut gap) = (0, 0.0f64);
        let start = Instant::now();
        for tenth in 1..10 {
            let limited = |(number, tier): (usize, &Tier)| Tier {
                capacity: (number + 1 < tiers).then_some(footprint / 10 * tenth / (tiers as u64 - 1)),
                ..tier.clone()
            };
            let tiers = open.tiers().iter().enumerate().map(limited).collect();
            let problem = Problem::new(open.objects().to_vec(), tiers).unwrap();
            match best(&problem, &Additive, Limits::default()).unwrap().optimality {
                Optimality::Exact => proved += 1,
                Optimality::WithinFraction(part) => gap = gap.max(part),
                Optimality::Greedy => unreachable!("a search was asked for"),
            }
        }
        let solve = start.elapsed().as_secs_f64() * 1e3 / 9.0;
        let start = Instant::now();
        let points = curve(&open, &by_density(&open), &Additive, Some(Limits::default())).unwrap();
        let whole = start.elapsed().as_secs_f64() * 1e3;
        println!(
            "{count:7} {tiers:5} {sharing:7} {correlated:10} {solve:10.1}  {proved:4}/9  {:8.4} %  {whole:8.0} ({} points)",
            gap * 100.0,
            points.len()
        );
    }
}
