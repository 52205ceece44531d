//! `moe`: a mixture of experts, for row 14, serving sparse models.
//!
//! Each iteration is a batch of tokens through all layers. A layer's gate scores every expert for every token; the two
//! best each get the token, and their answers are added in the proportion of the scores.
//!
//! Kept: the experts' weights, each expert a block of its own from one site, several times any cache together; the gate,
//! which is always read; popularity that differs from expert to expert, by `skew`, and differently in each layer; few
//! tokens at a time, so that unpopular experts are often not touched at all. Left out: attention between the layers,
//! limits on how many tokens an expert may take, and the exchange between machines.
//!
//! Expected on top: the experts in the order of their popularity; an expert's weights are read once for a batch in
//! which any token has chosen it, so that the order is flatter than the shares of tokens are. `gate` is read for every
//! token and stays in the cache, as do `tokens`.
//!
//! The result is the same with any number of threads, as each number of an expert's answer is one thread's and answers
//! are added in the order of tokens. The steady state begins with the phase `kernel`.

use serde_json::{Map, Value, json};

use super::matrix::{add_scaled, checksum, dot, fill_normal, relu, softmax};
use super::weights::{Inputs, apply_floats, by_input};
use crate::command_line::{Scale, Settings};
use crate::options::{Declared, Values};
use crate::random;
use crate::registry::Registry;
use crate::run::Run;

/// Experts of a layer.
const EXPERTS: usize = 24;

/// Experts that get a token.
const CHOSEN: usize = 2;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[
    Declared {
        name: "skew",
        default: "1",
        values: Values::Number { least: 0.0, most: 4.0 },
        help: "exponent of the experts' popularity over its rank",
    },
    Declared {
        name: "batch",
        default: "16",
        values: Values::Whole { least: 1, most: 4096 },
        help: "tokens that go through the layers together",
    },
];

/// One layer.
#[derive(Debug)]
struct Layer {
    /// A row per expert, and what is added to its score.
    gate: Vec<f32>,
    bias: [f32; EXPERTS],
    /// Each a perceptron with one hidden layer: the rows that widen, and then those that narrow.
    experts: Vec<Vec<f32>>,
}

/// The model.
#[derive(Debug)]
struct Mixture {
    width: usize,
    hidden: usize,
    layers: Vec<Layer>,
    threads: u32,
}

/// Which tokens an expert gets, and in what proportion each takes its answer.
type Routes = Vec<Vec<(usize, f32)>>;

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let (layers, width, hidden) = match settings.scale {
        Scale::Tiny => (1, 128, 512),
        Scale::Small => (2, 512, 2048),
        Scale::Medium => (6, 512, 2048),
        Scale::Large => (8, 1024, 4096),
    };
    let (threads, batch) = (run.threads(), settings.options.whole("batch"));
    let skew = settings.options.number("skew") as f32;
    let mixture = run.phase(c"generate", |run| {
        Mixture::new(layers, (width, hidden), skew, settings.seed, threads, &mut run.registry)
    });
    let mut counts = vec![[0u64; EXPERTS]; layers];
    let mut touched = 0;
    let sums = run.phase(c"kernel", |run| {
        let mut tokens = allocate_tokens(&mut run.registry, batch * width);
        let mut sums = Vec::new();
        for number in 0..u64::from(settings.iterations) {
            fill_normal(&mut tokens, random::derive(random::derive(settings.seed, 9), number), 1.0);
            for (layer, counts) in mixture.layers.iter().zip(&mut counts) {
                let routes = mixture.route(layer, &tokens);
                for (routes, count) in routes.iter().zip(counts) {
                    *count += routes.len() as u64;
                    touched += u64::from(!routes.is_empty());
                }
                mixture.apply(layer, &routes, &mut tokens);
            }
            sums.push(tokens.iter().sum());
        }
        sums
    });
    let routed = f64::from(settings.iterations) * (batch * CHOSEN) as f64;
    let shares: Vec<f64> = counts.iter().flatten().map(|&count| count as f64 / routed).collect();
    let mut result = Map::new();
    result.insert("checksum".into(), json!(checksum(sums)));
    result.insert("experts".into(), json!(shares.len()));
    let hottest: Vec<f64> =
        shares.chunks_exact(EXPERTS).map(|layer| layer.iter().copied().fold(0.0, f64::max)).collect();
    result.insert("hottest_expert_share_of_layer".into(), json!(hottest));
    result.insert("hottest_quarter_of_experts_share".into(), json!(hottest_quarter(&counts)));
    result.insert("expert_share".into(), json!(shares));
    let visits = f64::from(settings.iterations) * (layers * EXPERTS) as f64;
    result.insert("experts_touched_by_batch_share".into(), json!(touched as f64 / visits));
    result
}

/// Share of all routes that go to the most popular quarter of each layer's experts.
fn hottest_quarter(counts: &[[u64; EXPERTS]]) -> f64 {
    let (mut hottest, mut all) = (0, 0);
    for layer in counts {
        let mut layer = *layer;
        layer.sort_unstable_by(|a, b| b.cmp(a));
        hottest += layer[..EXPERTS / 4].iter().sum::<u64>();
        all += layer.iter().sum::<u64>();
    }
    hottest as f64 / all as f64
}

impl Mixture {
    fn new(
        layers: usize,
        (width, hidden): (usize, usize),
        skew: f32,
        seed: u64,
        threads: u32,
        registry: &mut Registry,
    ) -> Self {
        let layers = (0..layers).map(|layer| {
            let seed = random::derive(seed, layer as u64);
            let mut gate = allocate_gate(registry, layer, EXPERTS * width);
            fill_normal(&mut gate, random::derive(seed, 1), (width as f32).powf(-0.5));
            let order = random::Permutation::new(EXPERTS as u32, random::derive(seed, 2));
            let bias = std::array::from_fn(|expert| -skew * (1.0 + order.apply(expert as u32) as f32).ln());
            let experts = (0..EXPERTS).map(|expert| {
                let number = layer * EXPERTS + expert;
                let seed = random::derive(seed, 3 + expert as u64);
                let mut weights = allocate_expert(registry, number, 2 * width * hidden);
                let (widen, narrow) = weights.split_at_mut(width * hidden);
                fill_normal(widen, random::derive(seed, 1), (width as f32).powf(-0.5));
                fill_normal(narrow, random::derive(seed, 2), (hidden as f32).powf(-0.5));
                weights
            });
            Layer { gate, bias, experts: experts.collect() }
        });
        Mixture { width, hidden, layers: layers.collect(), threads }
    }

    /// Where the tokens go.
    fn route(&self, layer: &Layer, tokens: &[f32]) -> Routes {
        let mut routes = vec![Vec::new(); EXPERTS];
        for (token, row) in tokens.chunks_exact(self.width).enumerate() {
            let rows = layer.gate.chunks_exact(self.width).zip(layer.bias).enumerate();
            let mut scores: Vec<_> = rows.map(|(expert, (gate, bias))| (dot(gate, row) + bias, expert)).collect();
            scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
            let mut shares: [f32; CHOSEN] = std::array::from_fn(|rank| scores[rank].0);
            softmax(&mut shares);
            for ((_, expert), share) in scores.into_iter().zip(shares) {
                routes[expert].push((token, share));
            }
        }
        routes
    }

    /// Adds the answers of the experts to the tokens, and scales these to a mean square of 1.
    fn apply(&self, layer: &Layer, routes: &Routes, tokens: &mut [f32]) {
        let width = self.width;
        let before = tokens.to_vec();
        for (expert, routes) in layer.experts.iter().zip(routes) {
            if routes.is_empty() {
                continue;
            }
            let gathered: Vec<f32> =
                routes.iter().flat_map(|&(token, _)| &before[token * width..][..width]).copied().collect();
            let (widen, narrow) = expert.split_at(width * self.hidden);
            let mut wide = vec![0.0; self.hidden * routes.len()];
            apply_floats(widen, &Inputs::floats(&gathered, width), self.threads, &mut wide);
            relu(&mut wide);
            let wide = by_input(&wide, routes.len());
            let mut answers = vec![0.0; width * routes.len()];
            apply_floats(narrow, &Inputs::floats(&wide, self.hidden), self.threads, &mut answers);
            for (answer, &(token, share)) in by_input(&answers, routes.len()).chunks_exact(width).zip(routes) {
                add_scaled(&mut tokens[token * width..][..width], share, answer);
            }
        }
        for row in tokens.chunks_exact_mut(width) {
            let scale = (dot(row, row) / width as f32 + 1e-6).sqrt();
            row.iter_mut().for_each(|x| *x /= scale);
        }
    }
}

#[inline(never)]
fn allocate_gate(registry: &mut Registry, layer: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("gate", layer, vec![0.0; length])
}

#[inline(never)]
fn allocate_expert(registry: &mut Registry, number: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("expert", number, vec![0.0; length])
}

#[inline(never)]
fn allocate_tokens(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("tokens", vec![0.0; length])
}

#[cfg(test)]
mod tests {
    use super::super::matrix::close;
    use super::*;

    fn mixture(skew: f32, threads: u32) -> Mixture {
        Mixture::new(1, (32, 64), skew, 1, threads, &mut Registry::default())
    }

    fn tokens(count: usize) -> Vec<f32> {
        let mut tokens = vec![0.0; count * 32];
        fill_normal(&mut tokens, 3, 1.0);
        tokens
    }

    #[test]
    fn the_mixture_is_the_dense_evaluation_of_the_chosen_experts() {
        let mixture = mixture(1.0, 1);
        let layer = &mixture.layers[0];
        let before = tokens(20);
        let mut after = before.clone();
        mixture.apply(layer, &mixture.route(layer, &before), &mut after);
        for (x, found) in before.chunks(32).zip(after.chunks(32)) {
            let product = |rows: &[f32], x: &[f32]| -> Vec<f32> {
                rows.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
            };
            let mut scores: Vec<_> =
                product(&layer.gate, x).iter().zip(layer.bias).map(|(score, bias)| score + bias).zip(0..).collect();
            scores.sort_by(|a, b| b.0.total_cmp(&a.0));
            let ratio = (scores[1].0 - scores[0].0).exp();
            let mut expected = x.to_vec();
            for (share, expert) in [(1.0 / (1.0 + ratio), scores[0].1), (ratio / (1.0 + ratio), scores[1].1)] {
                let (widen, narrow) = layer.experts[expert as usize].split_at(32 * 64);
                let wide: Vec<_> = product(widen, x).iter().map(|h| h.max(0.0)).collect();
                expected.iter_mut().zip(product(narrow, &wide)).for_each(|(slot, answer)| *slot += share * answer);
            }
            let scale = (expected.iter().map(|x| x * x).sum::<f32>() / 32.0 + 1e-6).sqrt();
            expected.iter_mut().for_each(|x| *x /= scale);
            assert!(close(found, &expected, 1e-4));
        }
    }

    #[test]
    fn every_token_goes_to_two_experts_whose_shares_sum_to_one() {
        let mixture = mixture(1.0, 1);
        let routes = mixture.route(&mixture.layers[0], &tokens(50));
        for token in 0..50 {
            let shares: Vec<_> =
                routes.iter().flatten().filter(|route| route.0 == token).map(|route| route.1).collect();
            assert_eq!(shares.len(), 2);
            assert!((shares[0] + shares[1] - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn popularity_follows_the_skew() {
        let hottest = |skew| {
            let mixture = mixture(skew, 1);
            let routes = mixture.route(&mixture.layers[0], &tokens(2000));
            let mut counts = [0; EXPERTS];
            counts.iter_mut().zip(routes).for_each(|(count, routes)| *count = routes.len() as u64);
            hottest_quarter(&[counts])
        };
        assert!(hottest(0.0) < 0.4 && hottest(1.0) > 0.6, "{} {}", hottest(0.0), hottest(1.0));
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let apply = |threads| {
            let mixture = mixture(1.0, threads);
            let mut tokens = tokens(9);
            let routes = mixture.route(&mixture.layers[0], &tokens);
            mixture.apply(&mixture.layers[0], &routes, &mut tokens);
            tokens
        };
        assert_eq!(apply(1), apply(3));
    }
}
