//! `hnsw`: nearest neighbours by a hierarchy of graphs, for row 4, vector search on computational storage.
//!
//! Malkov and Yashunin's algorithm (TPAMI 2018): every vector is linked to close ones on the lowest layer, every
//! sixteenth also on the next, and so on; a search walks greedily from the one entry at the top, and on the lowest
//! layer keeps a list of the `breadth` closest found so far, whose links it follows. Each iteration is one batch of
//! queries.
//!
//! Kept: vectors, links of each layer, and the marks of visited vectors as separate objects; vectors far larger than
//! links; dependent random reads, a row of links and then the vector of each; the diversifying choice of links (the
//! paper's algorithm 4); the links of a layer in fixed rows, as the authors' library has them on the lowest layer.
//! Left out: deletion, and splitting over devices. Vectors are made, of SIFT's 128 numbers.
//!
//! Expected on top: `vectors`, eight cache lines at random for each distance; then `links.0`, two lines at random for
//! each step, which must come before the vectors they name: by the byte the first. `links.1` and above, a sixteenth
//! and less, stay in the cache; `visited` is one random word for each neighbour.
//!
//! Which vector is on which layer is settled beforehand: vector number n of the order of insertion is on every layer
//! whose size exceeds n, so that a row of links is found without a table. Where it lies among the vectors is
//! scattered.
//!
//! The result is the same with any number of threads. Vectors are inserted in groups: the threads search the links as
//! they are for all of a group, and one thread then links them, in order. The phases are `generate`, `build` and
//! `kernel`, the searches.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde_json::{Map, Value, json};

use super::matrix::{dot, fill_normal, squared_distance};
use crate::checksum;
use crate::command_line::{Scale, Settings};
use crate::options::{Declared, Values};
use crate::random::{self, Permutation};
use crate::registry::Registry;
use crate::run::Run;
use crate::shared::on_pieces;

/// Numbers in a vector.
const DIMENSION: usize = 128;

/// Each layer has one of so many vectors of the layer below.
const LAYER_RATIO: usize = 16;

/// Links of a vector on the lowest layer, and on the others.
const LINKS: [usize; 2] = [24, 12];

/// Closest vectors kept while links are searched for a new one.
const BUILD_BREADTH: usize = 24;

/// Neighbours returned for a query.
const NEIGHBOURS: usize = 10;

/// Queries of an iteration.
const QUERIES: usize = 1000;

/// Queries, or new vectors, a thread works on at a time.
const PIECE: usize = 8;

/// Vectors inserted as a group, once there are many more than that.
const GROUP: usize = 256;

/// Vectors of a cluster, on average.
const CLUSTER: u32 = 1000;

/// Directions in which vectors vary, and the noise in all others.
const LATENT: usize = 16;
const NOISE: f32 = 0.02;

/// What can be set.
pub(crate) static OPTIONS: &[Declared] = &[Declared {
    name: "breadth",
    default: "80",
    values: Values::Whole { least: 10, most: 1000 },
    help: "closest vectors kept while a query is searched: more find more",
}];

/// A distance and whose it is. Distances are not negative, so that their bits are in their order.
type Found = (u32, u32);

/// The graphs and the vectors.
#[derive(Debug)]
struct Index {
    count: usize,
    vectors: Vec<f32>,
    /// For each layer, the lowest first, and each vector of it: how many links it has, and then the links.
    layers: Vec<Vec<u32>>,
    scatter: Permutation,
}

/// What a thread needs to search.
#[derive(Debug)]
struct Walker {
    /// The number of the walk that visited a vector last, by vector.
    visited: Vec<u32>,
    walk: u32,
    distances: u64,
}

/// Runs the workload.
pub(crate) fn run(settings: &Settings, run: &mut Run) -> Map<String, Value> {
    let count = match settings.scale {
        Scale::Tiny => 10_000,
        Scale::Small => 100_000,
        Scale::Medium => 1_000_000,
        Scale::Large => 6_000_000,
    };
    let threads = run.threads();
    let breadth = settings.options.whole("breadth");
    let vectors = run.phase(c"generate", |run| generate(count, settings.seed, threads, &mut run.registry));
    let index = run.phase(c"build", |run| Index::build(vectors, DIMENSION, settings.seed, threads, &mut run.registry));
    let (found, distances) = run.phase(c"kernel", |run| {
        let queries = (settings.iterations as usize, QUERIES);
        index.search_all(queries, breadth, settings.seed, threads, &mut run.registry)
    });
    let mut result = Map::new();
    result.insert("checksum".into(), json!(checksum::of(found.iter().map(|&place| u64::from(place)))));
    result.insert("vectors".into(), json!(count));
    result.insert("layers".into(), json!(index.layers.len()));
    let queries = u64::from(settings.iterations) * QUERIES as u64;
    result.insert("distances_per_query".into(), json!(distances as f64 / queries as f64));
    run.phase(c"measure", |_| {
        let recall = index.recall(&found[..50 * NEIGHBOURS], settings.seed);
        result.insert("recall_at_10".into(), json!(recall));
    });
    result
}

/// Where vectors come from. Real descriptors of many numbers vary in few directions, without which no index of this
/// kind works well on them (SIFT's 128 numbers have an intrinsic dimension of some 15): each vector is a point of
/// [`LATENT`] coordinates, around the centre of a cluster, seen through a fixed random projection, and a little noise.
#[derive(Debug)]
struct Source {
    projection: Vec<f32>,
    clusters: u32,
    seed: u64,
}

impl Source {
    fn new(count: usize, seed: u64) -> Self {
        let mut projection = vec![0.0; DIMENSION * LATENT];
        fill_normal(&mut projection, random::derive(seed, 5), (LATENT as f32).powf(-0.5));
        Source { projection, clusters: (count as u32 / CLUSTER).max(1), seed }
    }

    /// Vector `number`; from the number of vectors on, the queries.
    fn fill(&self, vector: &mut [f32], number: u64) {
        // The smaller of two draws: clusters differ in size.
        let word = random::at(random::derive(self.seed, 1), number);
        let cluster = random::below(word, self.clusters).min(random::below(word << 32, self.clusters));
        let centre = random::derive(random::derive(self.seed, 3), u64::from(cluster));
        let own = random::derive(random::derive(self.seed, 2), number);
        let coordinate = |i| random::normal(random::at(centre, i)) + 0.5 * random::normal(random::at(own, i));
        let latent: [f32; LATENT] = std::array::from_fn(|i| coordinate(i as u64));
        for ((value, row), i) in vector.iter_mut().zip(self.projection.chunks_exact(LATENT)).zip(LATENT as u64..) {
            *value = dot(row, &latent) + NOISE * random::normal(random::at(own, i));
        }
    }
}

/// All vectors.
fn generate(count: usize, seed: u64, threads: u32, registry: &mut Registry) -> Vec<f32> {
    let source = Source::new(count, seed);
    let mut vectors = allocate_vectors(registry, count * DIMENSION);
    on_pieces(
        threads,
        &mut vectors,
        DIMENSION << 8,
        || (),
        |(), piece, vectors| {
            for (number, vector) in ((piece as u64) << 8..).zip(vectors.chunks_exact_mut(DIMENSION)) {
                source.fill(vector, number);
            }
        },
    );
    vectors
}

impl Index {
    /// Links all vectors.
    fn build(vectors: Vec<f32>, dimension: usize, seed: u64, threads: u32, registry: &mut Registry) -> Self {
        let count = vectors.len() / dimension;
        let mut layers = Vec::new();
        let mut members = count;
        while members > 0 {
            let layer = layers.len();
            layers.push(allocate_links(registry, layer, members * (1 + links_on(layer))));
            members /= LAYER_RATIO;
        }
        let scatter = Permutation::new(count as u32, random::derive(seed, 4));
        let mut index = Index { count, vectors, layers, scatter };
        let mut inserted = 1;
        let mut walkers: Vec<_> = (0..threads).map(|thread| index.walker(thread, registry)).collect();
        while inserted < count {
            let group = (inserted / 4).clamp(1, GROUP).min(count - inserted);
            let mut found = vec![Vec::new(); group];
            share_walkers(&mut walkers, &mut found, |walker, at, found| {
                *found = index.find_links((inserted + at) as u32, inserted, walker);
            });
            for (number, found) in (inserted as u32..).zip(found) {
                index.insert(number, found);
            }
            inserted += group;
        }
        walkers.into_iter().for_each(|walker| registry.free(walker.visited));
        index
    }

    fn walker(&self, thread: u32, registry: &mut Registry) -> Walker {
        Walker { visited: allocate_visited(registry, thread as usize, self.count), walk: 0, distances: 0 }
    }

    /// How many of the vectors with lower numbers than `inserted` are on a layer.
    fn members(&self, layer: usize, inserted: usize) -> usize {
        inserted.min(self.layers[layer].len() / (1 + links_on(layer)))
    }

    /// The vector that `number` stands for. Above the lowest layer numbers are those of insertion, on it places.
    #[inline]
    fn vector(&self, layer: usize, number: u32) -> &[f32] {
        let place = if layer == 0 { number } else { self.scatter.apply(number) } as usize;
        let dimension = self.vectors.len() / self.count;
        &self.vectors[place * dimension..][..dimension]
    }

    /// The number of the vector number `number` of insertion on a layer.
    fn on_layer(&self, layer: usize, number: u32) -> u32 {
        if layer == 0 { self.scatter.apply(number) } else { number }
    }

    #[inline]
    fn links(&self, layer: usize, number: u32) -> &[u32] {
        let row = &self.layers[layer][number as usize * (1 + links_on(layer))..];
        &row[1..1 + row[0] as usize]
    }

    /// The entry of a search when the vectors before `inserted` are linked: the highest layer that has any, and its
    /// first vector.
    fn entry(&self, inserted: usize, query: &[f32]) -> (usize, Found) {
        let top = (0..self.layers.len()).rev().find(|&layer| self.members(layer, inserted) > 0).unwrap_or(0);
        let number = self.on_layer(top, 0);
        (top, (squared_distance(query, self.vector(top, number)).to_bits(), number))
    }

    /// On each layer of a new vector, the lowest first, the vectors close to it.
    fn find_links(&self, number: u32, inserted: usize, walker: &mut Walker) -> Vec<Vec<Found>> {
        let query = self.vector(0, self.scatter.apply(number));
        let (top, mut nearest) = self.entry(inserted, query);
        let own =
            (0..self.layers.len()).rev().find(|&layer| self.members(layer, number as usize + 1) > number as usize);
        let own = own.unwrap_or(0);
        let mut found = vec![Vec::new(); own + 1];
        for layer in (0..=top).rev() {
            if layer > own {
                nearest = self.descend(layer, nearest, query, walker);
            } else {
                found[layer] = self.search_layer(layer, nearest, query, BUILD_BREADTH, walker);
                nearest = found[layer].first().copied().unwrap_or(nearest);
            }
            if layer == 1 {
                nearest.1 = self.scatter.apply(nearest.1);
            }
        }
        found
    }

    /// Follows the closest link until none is closer.
    fn descend(&self, layer: usize, mut nearest: Found, query: &[f32], walker: &mut Walker) -> Found {
        loop {
            let links = self.links(layer, nearest.1);
            walker.distances += links.len() as u64;
            let measured =
                links.iter().map(|&link| (squared_distance(query, self.vector(layer, link)).to_bits(), link));
            match measured.min() {
                Some(closer) if closer < nearest => nearest = closer,
                _ => return nearest,
            }
        }
    }

    /// The `breadth` closest vectors that are found on a layer, the closest first.
    fn search_layer(
        &self,
        layer: usize,
        entry: Found,
        query: &[f32],
        breadth: usize,
        walker: &mut Walker,
    ) -> Vec<Found> {
        walker.walk += 1;
        walker.visited[entry.1 as usize] = walker.walk;
        let mut open = BinaryHeap::from([Reverse(entry)]);
        let mut closest = BinaryHeap::from([entry]);
        while let Some(Reverse(next)) = open.pop() {
            if closest.len() == breadth && closest.peek().is_some_and(|&farthest| next > farthest) {
                break;
            }
            for &link in self.links(layer, next.1) {
                if std::mem::replace(&mut walker.visited[link as usize], walker.walk) == walker.walk {
                    continue;
                }
                walker.distances += 1;
                let found = (squared_distance(query, self.vector(layer, link)).to_bits(), link);
                if closest.len() < breadth || closest.peek().is_some_and(|&farthest| found < farthest) {
                    open.push(Reverse(found));
                    closest.push(found);
                    if closest.len() > breadth {
                        closest.pop();
                    }
                }
            }
        }
        closest.into_sorted_vec()
    }

    /// Links a new vector with those found close to it, in both directions.
    fn insert(&mut self, number: u32, found: Vec<Vec<Found>>) {
        for (layer, candidates) in found.into_iter().enumerate() {
            let own = self.on_layer(layer, number);
            // Half of the row is left to links that later vectors make.
            let chosen = self.choose(layer, &candidates, links_on(layer) / 2);
            for &(distance, other) in &chosen {
                let links = self.links(layer, other);
                if links.len() < links_on(layer) {
                    let row = self.row(layer, other);
                    row[0] += 1;
                    row[row[0] as usize] = own;
                } else {
                    let vector = self.vector(layer, other);
                    let mut all: Vec<_> = links
                        .iter()
                        .map(|&link| (squared_distance(vector, self.vector(layer, link)).to_bits(), link))
                        .collect();
                    all.push((distance, own));
                    all.sort_unstable();
                    let kept = self.choose(layer, &all, links_on(layer));
                    self.set_links(layer, other, &kept);
                }
            }
            self.set_links(layer, own, &chosen);
        }
    }

    /// Of candidates in order of distance, those closer to the new vector than to any chosen before, so that links lead
    /// in different directions.
    fn choose(&self, layer: usize, candidates: &[Found], most: usize) -> Vec<Found> {
        let mut chosen: Vec<Found> = Vec::with_capacity(most);
        for &(distance, candidate) in candidates {
            let vector = self.vector(layer, candidate);
            let apart = |&(_, other): &Found| squared_distance(vector, self.vector(layer, other)).to_bits() >= distance;
            if chosen.len() < most && chosen.iter().all(apart) {
                chosen.push((distance, candidate));
            }
        }
        chosen
    }

    fn row(&mut self, layer: usize, number: u32) -> &mut [u32] {
        let width = 1 + links_on(layer);
        &mut self.layers[layer][number as usize * width..][..width]
    }

    fn set_links(&mut self, layer: usize, number: u32, links: &[Found]) {
        let row = self.row(layer, number);
        row[0] = links.len() as u32;
        row[1..].iter_mut().zip(links).for_each(|(slot, &(_, link))| *slot = link);
    }

    /// The places of the vectors closest to a query, the closest first.
    fn search(&self, query: &[f32], breadth: usize, walker: &mut Walker) -> Vec<Found> {
        let (top, mut nearest) = self.entry(self.count, query);
        for layer in (1..=top).rev() {
            nearest = self.descend(layer, nearest, query, walker);
            if layer == 1 {
                nearest.1 = self.scatter.apply(nearest.1);
            }
        }
        self.search_layer(0, nearest, query, breadth, walker)
    }

    /// Searches batches of queries: the places of the [`NEIGHBOURS`] closest vectors of each query, and how many
    /// distances were computed.
    fn search_all(
        &self,
        (batches, queries): (usize, usize),
        breadth: usize,
        seed: u64,
        threads: u32,
        registry: &mut Registry,
    ) -> (Vec<u32>, u64) {
        let dimension = self.vectors.len() / self.count;
        let source = Source::new(self.count, seed);
        let mut walkers: Vec<_> = (0..threads).map(|thread| self.walker(thread, registry)).collect();
        let mut neighbours = allocate_neighbours(registry, batches * queries * NEIGHBOURS);
        for (batch, neighbours) in neighbours.chunks_exact_mut(queries * NEIGHBOURS).enumerate() {
            let mut rows: Vec<_> = neighbours.chunks_exact_mut(NEIGHBOURS).collect();
            share_walkers(&mut walkers, &mut rows, |walker, at, row| {
                let mut query = vec![0.0; dimension];
                source.fill(&mut query, (self.count + batch * queries + at) as u64);
                let found = self.search(&query, breadth, walker);
                row.iter_mut().zip(found).for_each(|(slot, (_, place))| *slot = place);
            });
        }
        let distances = walkers.iter().map(|walker| walker.distances).sum();
        walkers.into_iter().for_each(|walker| registry.free(walker.visited));
        (neighbours, distances)
    }

    /// Which share of the truly closest vectors is among `found`, the results of the first queries.
    fn recall(&self, found: &[u32], seed: u64) -> f64 {
        let dimension = self.vectors.len() / self.count;
        let source = Source::new(self.count, seed);
        let mut hits = 0;
        for (query_number, found) in found.chunks_exact(NEIGHBOURS).enumerate() {
            let mut query = vec![0.0; dimension];
            source.fill(&mut query, (self.count + query_number) as u64);
            let mut all: Vec<Found> = (0..self.count as u32)
                .map(|place| (squared_distance(&query, self.vector(0, place)).to_bits(), place))
                .collect();
            let (closest, _, _) = all.select_nth_unstable(NEIGHBOURS);
            hits += closest.iter().filter(|(_, place)| found.contains(place)).count();
        }
        hits as f64 / found.len() as f64
    }
}

/// Links in a row of a layer.
fn links_on(layer: usize) -> usize {
    LINKS[layer.min(1)]
}

/// Works on each element of `data` with one of the walkers, which are as many as there are threads.
fn share_walkers<T: Send>(walkers: &mut [Walker], data: &mut [T], work: impl Fn(&mut Walker, usize, &mut T) + Sync) {
    let threads = walkers.len() as u32;
    let spare = std::sync::Mutex::new(walkers.iter_mut());
    let take = || spare.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    on_pieces(threads, data, PIECE, take, |walker, piece, data| {
        let Some(walker) = walker else { return };
        for (at, one) in (piece * PIECE..).zip(data) {
            work(walker, at, one);
        }
    });
}

#[inline(never)]
fn allocate_vectors(registry: &mut Registry, length: usize) -> Vec<f32> {
    registry.add("vectors", vec![0.0; length])
}

#[inline(never)]
fn allocate_links(registry: &mut Registry, layer: usize, length: usize) -> Vec<u32> {
    registry.add_numbered("links", layer, vec![0; length])
}

#[inline(never)]
fn allocate_visited(registry: &mut Registry, thread: usize, length: usize) -> Vec<u32> {
    registry.add_numbered("visited", thread, vec![0; length])
}

#[inline(never)]
fn allocate_neighbours(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("neighbours", vec![0; length])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(count: usize, threads: u32, registry: &mut Registry) -> Index {
        let vectors = generate(count, 1, threads, registry);
        Index::build(vectors, DIMENSION, 1, threads, registry)
    }

    #[test]
    fn nine_of_ten_neighbours_are_those_of_brute_force() {
        let index = index(2000, 2, &mut Registry::default());
        let (found, distances) = index.search_all((1, 40), 64, 1, 2, &mut Registry::default());
        let recall = index.recall(&found, 1);
        assert!(recall > 0.9, "{recall}");
        assert!(distances < 40 * 1500, "{distances}: most vectors are looked at");
    }

    #[test]
    fn links_join_members_of_the_layer_and_nobody_with_itself() {
        let index = index(600, 1, &mut Registry::default());
        assert_eq!(index.layers.len(), 3);
        for layer in 0..3 {
            let members = index.members(layer, 600) as u32;
            assert_eq!(members, [600, 37, 2][layer]);
            for number in 0..members {
                let links = index.links(layer, number);
                assert!(links.len() <= links_on(layer) && !links.is_empty());
                assert!(links.iter().all(|&link| link < members && link != number), "{layer} {number}: {links:?}");
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (one, three) = (index(500, 1, &mut Registry::default()), index(500, 3, &mut Registry::default()));
        assert_eq!(one.layers, three.layers);
        let search = |index: &Index, threads| index.search_all((2, 20), 20, 1, threads, &mut Registry::default());
        assert_eq!(search(&one, 1), search(&three, 3));
    }

    #[test]
    fn vectors_and_the_links_of_each_layer_are_objects_of_their_own() {
        let mut registry = Registry::default();
        index(300, 1, &mut registry);
        let labels: Vec<_> = registry.blocks().iter().map(|block| block.label()).collect();
        assert_eq!(labels, ["vectors", "links.0", "links.1", "links.2", "visited.0"]);
    }
}
