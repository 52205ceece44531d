//! `gnn-recsys`: a recommender on a graph of users and items, for row 11, graph neural networks in one large memory.
//!
//! The model is LightGCN's (He et al., SIGIR 2020): each user and item has an embedding, which is mixed along the edges
//! twice and averaged with itself; the better an item fits a user, the larger the product of the two. Each iteration is
//! one epoch over all edges: forward, the pairwise loss of every edge against another edge's item, backward, one step.
//!
//! Kept: the two kernels such systems live by, the sparse-dense product (SpMM: for each row of the graph the sum of its
//! neighbours' rows) and the sampled dense-dense product (SDDMM: for each edge the product of its two ends), forward and
//! backward, over a graph stored by user and by item; degrees as skewed as item popularity is; dense blocks of a few
//! hundred bytes per vertex that together are far larger than the graph. Left out: feature transformations (LightGCN's
//! point is that it has none), batching and sampling of neighbours.
//!
//! Expected on top: the item side's dense blocks where users gather (`item_embeddings`, `item_mixed`, `item_average`),
//! and the user side's where items do: random reads of 256 bytes, one per edge. A block is all the hotter by the byte
//! the fewer rows it has: items before users. The graph itself (`user_neighbours`, `item_neighbours`, `edges_of_item`)
//! is read in order.
//!
//! Why the backward pass is the forward one: with the normalised adjacency A of users and items together, embeddings E
//! become F = (1 + A + A^2) E / 3. A is symmetric, and so the gradient by E is (1 + A + A^2) / 3 of that by F.
//!
//! The result is the same with any number of threads: every row is written by one thread, along one row of the graph.
//! Every iteration is two phases, `forward` and `backward`; `generate` comes before.

use serde_json::{Map, Value, json};

use super::matrix::{add_scaled, checksum, dot, fill_normal, sigmoid};
use super::skew::{FORM, Lookups, Skew, share_of_hottest};
use crate::command_line::{Scale, Settings};
use crate::options::{Declared, Values};
use crate::random;
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::on_pieces;

/// Numbers in an embedding.
const DIMENSION: usize = 64;

/// Rows a thread works on at a time.
const PIECE: usize = 256;

/// Items a user has, at most; on average there are half as many, and fewer where popular ones were drawn twice.
const MOST_ITEMS: u32 = 32;

/// Step of the descent, for a user's gradient as a mean over the user's edges.
const STEP: f32 = 16.0;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[Declared {
    name: "skew",
    default: "zipf:0.8",
    values: Values::Read { form: FORM, accepts: Skew::accepts },
    help: "how popular items are",
}];

/// One direction of the graph: the neighbours of row r are `neighbours[offsets[r]..offsets[r + 1]]`.
#[derive(Debug)]
struct Rows {
    offsets: Vec<u32>,
    neighbours: Vec<u32>,
}

/// The graph. Edges are numbered in the order of users.
#[derive(Debug)]
struct Graph {
    by_user: Rows,
    by_item: Rows,
    /// Of each edge in the order of items, its number.
    edges_of_item: Vec<u32>,
    /// The user of each edge.
    users_of_edges: Vec<u32>,
}

/// A row of numbers per user and per item.
#[derive(Debug)]
struct Embeddings {
    users: Vec<f32>,
    items: Vec<f32>,
}

/// The model and its training.
#[derive(Debug)]
struct Recommender {
    graph: Graph,
    /// What is trained.
    embeddings: Embeddings,
    /// After mixing once and twice.
    mixed: [Embeddings; 2],
    /// The average, and later what the embeddings change by.
    average: Embeddings,
    /// Gradients by the average.
    gradients: Embeddings,
    /// Of each edge, how far the loss falls with its margin.
    by_edge: Vec<f32>,
    dimension: usize,
    threads: u32,
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let (users, items) = match settings.scale {
        Scale::Tiny => (4000, 1500),
        Scale::Small => (150_000, 50_000),
        Scale::Medium => (450_000, 150_000),
        Scale::Large => (2_500_000, 800_000),
    };
    let skew = Skew::parse(settings.options.text("skew")).unwrap_or(Skew::Uniform);
    let threads = run.threads();
    let mut recommender = run.phase(c"generate", |run| {
        let graph = Graph::generate(users, items, skew, settings.seed, &mut run.registry);
        Recommender::new(graph, DIMENSION, settings.seed, threads, &mut run.registry)
    });
    let mut losses = Vec::new();
    for iteration in 0..u64::from(settings.iterations) {
        let shift = recommender.shift(iteration, settings.seed);
        losses.push(run.phase(c"forward", |_| recommender.forward(shift)));
        run.phase(c"backward", |_| recommender.backward(shift));
    }
    let by_item: Vec<_> = recommender.graph.by_item.offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mut result = Map::new();
    result.insert("users".into(), json!(users));
    result.insert("items".into(), json!(items));
    result.insert("edges".into(), json!(recommender.graph.by_user.neighbours.len()));
    result.insert("hottest_1_percent_of_items_share".into(), json!(share_of_hottest(by_item, 0.01)));
    result.insert("first_loss".into(), json!(losses.first()));
    result.insert("last_loss".into(), json!(losses.last()));
    result.insert("checksum".into(), json!(checksum(losses)));
    result
}

impl Graph {
    fn generate(users: u32, items: u32, skew: Skew, seed: u64, registry: &mut Registry) -> Self {
        let lookups = Lookups::new(skew, items, random::derive(seed, 1), false);
        let items_of = |user: u32| {
            let count = 1 + random::below(random::at(random::derive(seed, 2), u64::from(user)), MOST_ITEMS);
            let first = u64::from(user) * u64::from(MOST_ITEMS);
            let mut found: Vec<u32> = (first..first + u64::from(count)).map(|draw| lookups.row(draw)).collect();
            found.sort_unstable();
            found.dedup();
            found
        };
        let mut by_user = allocate_user_offsets(registry, users as usize + 1);
        for user in 0..users {
            by_user[user as usize + 1] = by_user[user as usize] + items_of(user).len() as u32;
        }
        let edges = by_user[users as usize] as usize;
        let mut items_of_user = allocate_user_neighbours(registry, edges);
        let mut users_of_edges = allocate_users_of_edges(registry, edges);
        let mut by_item = allocate_item_offsets(registry, items as usize + 1);
        for user in 0..users {
            let row = by_user[user as usize] as usize..by_user[user as usize + 1] as usize;
            items_of_user[row.clone()].copy_from_slice(&items_of(user));
            users_of_edges[row.clone()].fill(user);
            items_of_user[row].iter().for_each(|&item| by_item[item as usize + 1] += 1);
        }
        for item in 0..items as usize {
            by_item[item + 1] += by_item[item];
        }
        let mut users_of_item = allocate_item_neighbours(registry, edges);
        let mut edges_of_item = allocate_edges_of_item(registry, edges);
        let mut next = by_item.clone();
        for (edge, (&item, &user)) in (0..).zip(items_of_user.iter().zip(&users_of_edges)) {
            let slot = &mut next[item as usize];
            users_of_item[*slot as usize] = user;
            edges_of_item[*slot as usize] = edge;
            *slot += 1;
        }
        Graph {
            by_user: Rows { offsets: by_user, neighbours: items_of_user },
            by_item: Rows { offsets: by_item, neighbours: users_of_item },
            edges_of_item,
            users_of_edges,
        }
    }
}

impl Rows {
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    fn degree(&self, row: usize) -> f32 {
        (self.offsets[row + 1] - self.offsets[row]) as f32
    }

    /// For each row the sum of its neighbours' rows of `from`, each divided by the root of both degrees: SpMM.
    fn mix(&self, others: &Rows, from: &[f32], dimension: usize, threads: u32, to: &mut [f32]) {
        on_pieces(
            threads,
            to,
            PIECE * dimension,
            || (),
            |(), piece, to| {
                for (row, sum) in (piece * PIECE..).zip(to.chunks_exact_mut(dimension)) {
                    sum.fill(0.0);
                    for &neighbour in &self.neighbours[self.range(row)] {
                        let neighbour = neighbour as usize;
                        let scale = (self.degree(row) * others.degree(neighbour)).sqrt();
                        add_scaled(sum, 1.0 / scale, &from[neighbour * dimension..][..dimension]);
                    }
                }
            },
        );
    }
}

impl Recommender {
    fn new(graph: Graph, dimension: usize, seed: u64, threads: u32, registry: &mut Registry) -> Self {
        let (users, items) = (graph.by_user.offsets.len() - 1, graph.by_item.offsets.len() - 1);
        let by_edge = allocate_by_edge(registry, graph.by_user.neighbours.len());
        let (users, items) = (users * dimension, items * dimension);
        let mut embeddings = Embeddings {
            users: allocate_user_embeddings(registry, users),
            items: allocate_item_embeddings(registry, items),
        };
        fill_normal(&mut embeddings.users, random::derive(seed, 3), 0.5);
        fill_normal(&mut embeddings.items, random::derive(seed, 4), 0.5);
        let mixed = [1, 2].map(|times| Embeddings {
            users: allocate_user_mixed(registry, times, users),
            items: allocate_item_mixed(registry, times, items),
        });
        let average =
            Embeddings { users: allocate_user_average(registry, users), items: allocate_item_average(registry, items) };
        let gradients = Embeddings {
            users: allocate_user_gradients(registry, users),
            items: allocate_item_gradients(registry, items),
        };
        Recommender { graph, embeddings, mixed, average, gradients, by_edge, dimension, threads }
    }

    /// An edge competes with the one so many places further on: by chance, and never with itself.
    fn shift(&self, iteration: u64, seed: u64) -> usize {
        let edges = self.by_edge.len() as u32;
        1 + random::below(random::at(random::derive(seed, 5), iteration), edges.saturating_sub(1).max(1)) as usize
    }

    /// (1 + A + A^2) / 3 of the embeddings, or of the gradients, in `average`.
    fn propagate(&mut self, backward: bool) {
        let Recommender { graph: Graph { by_user, by_item, .. }, mixed: [once, twice], average, .. } = self;
        let source = if backward { &self.gradients } else { &self.embeddings };
        let (dimension, threads) = (self.dimension, self.threads);
        by_user.mix(by_item, &source.items, dimension, threads, &mut once.users);
        by_item.mix(by_user, &source.users, dimension, threads, &mut once.items);
        by_user.mix(by_item, &once.items, dimension, threads, &mut twice.users);
        by_item.mix(by_user, &once.users, dimension, threads, &mut twice.items);
        let mean = |average: &mut [f32], parts: [&[f32]; 3]| {
            on_pieces(
                threads,
                average,
                PIECE * dimension,
                || (),
                |(), piece, average| {
                    let first = piece * PIECE * dimension;
                    for (value, at) in average.iter_mut().zip(first..) {
                        *value = (parts[0][at] + parts[1][at] + parts[2][at]) / 3.0;
                    }
                },
            );
        };
        mean(&mut average.users, [&source.users, &once.users, &twice.users]);
        mean(&mut average.items, [&source.items, &once.items, &twice.items]);
    }

    /// The mean loss over all edges, and in `by_edge` its derivatives by their margins: SDDMM.
    fn forward(&mut self, shift: usize) -> f32 {
        self.propagate(false);
        let (graph, average, dimension) = (&self.graph, &self.average, self.dimension);
        let items = &graph.by_user.neighbours;
        let edges = items.len();
        let mut losses = vec![0f64; edges.div_ceil(PIECE * 64)];
        let mut pieces: Vec<_> = self.by_edge.chunks_mut(PIECE * 64).zip(&mut losses).collect();
        on_pieces(
            self.threads,
            &mut pieces,
            1,
            || (),
            |(), number, piece| {
                let [(by_edge, loss)] = piece else { return };
                for (edge, derivative) in (number * PIECE * 64..).zip(by_edge.iter_mut()) {
                    let user = row(&average.users, graph.users_of_edges[edge], dimension);
                    let score = |edge: usize| dot(user, row(&average.items, items[edge % edges], dimension));
                    let margin = score(edge) - score(edge + shift);
                    **loss += f64::from((-margin).max(0.0) + (-margin.abs()).exp().ln_1p());
                    *derivative = -sigmoid(-margin) / edges as f32;
                }
            },
        );
        (losses.iter().sum::<f64>() / edges as f64) as f32
    }

    /// Gradients, and a step.
    fn backward(&mut self, shift: usize) {
        self.differentiate(shift);
        let scale = STEP * self.by_edge.len() as f32 / (self.graph.by_user.offsets.len() - 1) as f32;
        add_scaled(&mut self.embeddings.users, -scale, &self.average.users);
        add_scaled(&mut self.embeddings.items, -scale, &self.average.items);
    }

    /// The gradients by the embeddings, in `average`, after [`Recommender::forward`].
    fn differentiate(&mut self, shift: usize) {
        let Recommender { graph, average, gradients, by_edge, dimension, threads, .. } = self;
        let (dimension, edges) = (*dimension, by_edge.len());
        let items = &graph.by_user.neighbours;
        on_pieces(
            *threads,
            &mut gradients.users,
            PIECE * dimension,
            || (),
            |(), piece, gradients| {
                for (user, gradient) in (piece * PIECE..).zip(gradients.chunks_exact_mut(dimension)) {
                    gradient.fill(0.0);
                    for edge in graph.by_user.range(user) {
                        add_scaled(gradient, by_edge[edge], row(&average.items, items[edge], dimension));
                        add_scaled(
                            gradient,
                            -by_edge[edge],
                            row(&average.items, items[(edge + shift) % edges], dimension),
                        );
                    }
                }
            },
        );
        on_pieces(
            *threads,
            &mut gradients.items,
            PIECE * dimension,
            || (),
            |(), piece, gradients| {
                for (item, gradient) in (piece * PIECE..).zip(gradients.chunks_exact_mut(dimension)) {
                    gradient.fill(0.0);
                    for &edge in &graph.edges_of_item[graph.by_item.range(item)] {
                        let rival = (edge as usize + edges - shift % edges) % edges;
                        let user = |edge: usize| row(&average.users, graph.users_of_edges[edge], dimension);
                        add_scaled(gradient, by_edge[edge as usize], user(edge as usize));
                        add_scaled(gradient, -by_edge[rival], user(rival));
                    }
                }
            },
        );
        self.propagate(true);
    }
}

#[inline]
fn row(rows: &[f32], number: u32, dimension: usize) -> &[f32] {
    &rows[number as usize * dimension..][..dimension]
}

#[inline(never)]
fn allocate_user_offsets(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("user_offsets", vec![0; length])
}

#[inline(never)]
fn allocate_user_neighbours(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("user_neighbours", vec![0; length])
}

#[inline(never)]
fn allocate_item_offsets(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("item_offsets", vec![0; length])
}

#[inline(never)]
fn allocate_item_neighbours(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("item_neighbours", vec![0; length])
}

#[inline(never)]
fn allocate_users_of_edges(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("users_of_edges", vec![0; length])
}

#[inline(never)]
fn allocate_edges_of_item(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("edges_of_item", vec![0; length])
}

#[inline(never)]
fn allocate_by_edge(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("by_edge", vec![0.0; length])
}

/// Of users and items, the rows' lengths being told together.
#[inline(never)]
fn allocate_user_embeddings(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("user_embeddings", vec![0.0; length])
}

#[inline(never)]
fn allocate_item_embeddings(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("item_embeddings", vec![0.0; length])
}

#[inline(never)]
fn allocate_user_average(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("user_average", vec![0.0; length])
}

#[inline(never)]
fn allocate_item_average(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("item_average", vec![0.0; length])
}

#[inline(never)]
fn allocate_user_gradients(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("user_gradients", vec![0.0; length])
}

#[inline(never)]
fn allocate_item_gradients(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("item_gradients", vec![0.0; length])
}

#[inline(never)]
fn allocate_user_mixed(registry: &mut Registry, times: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("user_mixed", times, vec![0.0; length])
}

#[inline(never)]
fn allocate_item_mixed(registry: &mut Registry, times: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("item_mixed", times, vec![0.0; length])
}

#[cfg(test)]
mod tests {
    use super::super::matrix::close;
    use super::*;

    fn recommender(threads: u32) -> Recommender {
        let mut registry = Registry::default();
        let graph = Graph::generate(40, 25, Skew::Zipf { exponent: 0.8 }, 1, &mut registry);
        Recommender::new(graph, 6, 1, threads, &mut registry)
    }

    #[test]
    fn both_directions_hold_the_same_edges() {
        let graph = recommender(1).graph;
        let by_user: Vec<_> = (0..40)
            .flat_map(|user| {
                graph.by_user.neighbours[graph.by_user.range(user)].iter().map(move |&item| (user as u32, item))
            })
            .collect();
        assert!(by_user.is_sorted_by(|a, b| a < b));
        let mut seen = vec![false; by_user.len()];
        for item in 0..25 {
            for at in graph.by_item.range(item) {
                let edge = graph.edges_of_item[at] as usize;
                assert_eq!(by_user[edge], (graph.by_item.neighbours[at], item as u32));
                assert_eq!(graph.users_of_edges[edge], graph.by_item.neighbours[at]);
                seen[edge] = true;
            }
        }
        assert!(seen.iter().all(|&seen| seen));
    }

    #[test]
    fn propagation_is_that_of_dense_matrices() {
        let mut recommender = recommender(2);
        recommender.propagate(false);
        let graph = &recommender.graph;
        // Users first, then items.
        let mut adjacency = vec![0f32; 65 * 65];
        for user in 0..40 {
            for &item in &graph.by_user.neighbours[graph.by_user.range(user)] {
                let weight = 1.0 / (graph.by_user.degree(user) * graph.by_item.degree(item as usize)).sqrt();
                adjacency[user * 65 + 40 + item as usize] = weight;
                adjacency[(40 + item as usize) * 65 + user] = weight;
            }
        }
        let times = |x: &[f32]| -> Vec<f32> {
            (0..65 * 6).map(|i| (0..65).map(|k| adjacency[i / 6 * 65 + k] * x[k * 6 + i % 6]).sum()).collect()
        };
        let zero = [&recommender.embeddings.users[..], &recommender.embeddings.items].concat();
        let once = times(&zero);
        let twice = times(&once);
        let expected: Vec<_> = (0..65 * 6).map(|i| (zero[i] + once[i] + twice[i]) / 3.0).collect();
        let found = [&recommender.average.users[..], &recommender.average.items].concat();
        assert!(close(&found, &expected, 1e-4));
    }

    #[test]
    fn gradients_are_differences_over_small_steps() {
        let mut recommender = recommender(1);
        recommender.forward(7);
        recommender.differentiate(7);
        let gradients = [recommender.average.users.clone(), recommender.average.items.clone()].concat();
        let users = recommender.embeddings.users.len();
        for (at, gradient) in gradients.iter().enumerate().step_by(5) {
            let mut loss = |step: f32| {
                let Embeddings { users: of_users, items } = &mut recommender.embeddings;
                let value = if at < users { &mut of_users[at] } else { &mut items[at - users] };
                *value += step;
                recommender.forward(7)
            };
            let (up, down) = (loss(0.05), loss(-0.1));
            loss(0.05);
            let slope = (up - down) / 0.1;
            assert!((slope - gradient).abs() < 2e-4 + 0.02 * slope.abs(), "{at}: {slope} {gradient}");
        }
    }

    #[test]
    fn the_loss_falls_and_is_the_same_for_any_number_of_threads() {
        let losses = |threads| -> Vec<f32> {
            let mut recommender = recommender(threads);
            (0..8)
                .map(|iteration| {
                    let shift = recommender.shift(iteration, 1);
                    let loss = recommender.forward(shift);
                    recommender.backward(shift);
                    loss
                })
                .collect()
        };
        let one = losses(1);
        assert!(one[7] < one[0], "{one:?}");
        assert_eq!(one, losses(3));
    }
}
