//! Embedding tables, and batches of lookups in them.
//!
//! A batch holds one bag of row numbers for each table and sample, table after table, as the embedding operators of
//! production libraries take it: `indices` one after another, and `offsets` where each bag begins. Every index is a pure function of seed, table, sample and place in the bag, so
//! that the skew of a run can be counted after it without having kept anything.
//!
//! All tables come from one function, because in the systems these stand for one constructor allocates them all: telling
//! them apart is the profiler's task.

use std::ops::Range;

use serde_json::{Map, json};

use super::matrix::{add_scaled, fill_normal};
use super::skew::{Lookups, Skew, share_of_hottest};
use crate::random;
use crate::registry::Registry;
use crate::shared;

/// Shares of all rows that the tables have: production tables differ in size by orders of magnitude.
const SHARES: [f64; 8] = [0.30, 0.20, 0.15, 0.12, 0.10, 0.07, 0.04, 0.02];

/// How many tables there are.
pub(crate) const TABLES: usize = SHARES.len();

/// The tables of a model.
#[derive(Debug)]
pub(crate) struct Tables {
    /// Numbers in a row.
    pub(crate) dimension: usize,
    /// Each rows x dimension.
    pub(crate) tables: Vec<Vec<f32>>,
    source: Source,
}

/// Where lookups come from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    lookups: Vec<Lookups>,
    rows: Vec<u32>,
    pooling: [Pooling; TABLES],
    seed: u64,
}

/// How many rows the bags of a table ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pooling {
    /// From 1 to twice this less 1, evenly: this on average.
    About(usize),
    /// As many, always.
    Exactly(usize),
}

/// One batch of lookups.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) samples: usize,
    /// Row numbers.
    pub(crate) indices: Vec<u32>,
    /// Where the bag of table t and sample s begins: at `offsets[t * samples + s]`; one more for the end of the last.
    pub(crate) offsets: Vec<u32>,
}

impl Source {
    /// Lookups in tables of about `rows` rows together.
    pub(crate) fn new(rows: u32, pooling: [Pooling; TABLES], skew: Skew, ranked: bool, seed: u64) -> Self {
        let rows: Vec<_> = SHARES.iter().map(|share| ((f64::from(rows) * share) as u32).max(1)).collect();
        let lookups =
            (0..).zip(&rows).map(|(table, &rows)| Lookups::new(skew, rows, random::derive(seed, table), ranked));
        Source { lookups: lookups.collect(), rows, pooling, seed: random::derive(seed, 0x6261_6773) }
    }

    /// How many rows each bag of a sample asks for.
    fn bag_length(&self, table: usize, sample: u64) -> usize {
        match self.pooling[table] {
            Pooling::Exactly(length) => length,
            Pooling::About(mean) => {
                let word = random::at(self.seed, sample * TABLES as u64 + table as u64);
                1 + random::below(word, 2 * mean as u32 - 1) as usize
            }
        }
    }

    /// Rows of each table.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The rows that one bag asks for: at most 2^16.
    pub(crate) fn bag(&self, table: usize, sample: u64) -> impl Iterator<Item = u32> {
        let first = sample << 16;
        (0..self.bag_length(table, sample) as u64).map(move |place| self.lookups[table].row(first + place))
    }

    /// The batch of that number. Its two blocks are freed by [`Batch::free`].
    pub(crate) fn batch(&self, number: u64, samples: usize, registry: &mut Registry) -> Batch {
        let first = number * samples as u64;
        let mut offsets = allocate_offsets(registry, TABLES * samples + 1);
        let mut total = 0;
        for (bag, offset) in offsets.iter_mut().enumerate() {
            *offset = total as u32;
            if bag < TABLES * samples {
                total += self.bag_length(bag / samples, first + (bag % samples) as u64);
            }
        }
        let mut indices = allocate_indices(registry, total);
        let mut next = indices.iter_mut();
        for table in 0..TABLES {
            for sample in first..first + samples as u64 {
                next.by_ref().zip(self.bag(table, sample)).for_each(|(index, row)| *index = row);
            }
        }
        Batch { samples, indices, offsets }
    }

    /// How skewed the lookups of samples 0 to `samples` were: over all tables together, the share of the lookups that the
    /// hottest rows took, counted among all rows and among those looked up at all.
    pub(crate) fn measure(&self, samples: u64, result: &mut Map<String, serde_json::Value>) {
        let mut counts = Vec::with_capacity(self.rows.iter().map(|&rows| rows as usize).sum());
        for (table, &rows) in self.rows.iter().enumerate() {
            let first = counts.len();
            counts.resize(first + rows as usize, 0u32);
            for sample in 0..samples {
                self.bag(table, sample).for_each(|row| counts[first + row as usize] += 1);
            }
        }
        let touched: Vec<_> = counts.iter().copied().filter(|&count| count > 0).collect();
        result.insert("lookups".into(), json!(counts.iter().map(|&count| u64::from(count)).sum::<u64>()));
        result.insert("touched_rows_share".into(), json!(touched.len() as f64 / counts.len() as f64));
        result.insert("hottest_1_percent_of_touched_share".into(), json!(share_of_hottest(touched, 0.01)));
        result.insert("hottest_1_percent_share".into(), json!(share_of_hottest(counts, 0.01)));
    }
}

impl Batch {
    /// The rows that a sample asks of a table.
    #[inline]
    pub(crate) fn bag(&self, table: usize, sample: usize) -> &[u32] {
        let bag = table * self.samples + sample;
        &self.indices[self.offsets[bag] as usize..self.offsets[bag + 1] as usize]
    }

    /// Frees both blocks.
    pub(crate) fn free(self, registry: &mut Registry) {
        registry.free(self.indices);
        registry.free(self.offsets);
    }
}

impl Tables {
    /// Tables for the lookups of `source`.
    pub(crate) fn new(source: Source, dimension: usize, threads: u32, registry: &mut Registry) -> Self {
        const PIECE: usize = 1 << 16;
        let mut tables = Vec::with_capacity(TABLES);
        for (number, &rows) in source.rows.iter().enumerate() {
            let mut table = allocate_table(registry, number, rows as usize * dimension);
            let seed = random::derive(source.seed, number as u64);
            let deviation = (dimension as f32).powf(-0.5);
            shared::on_pieces(
                threads,
                &mut table,
                PIECE,
                || (),
                |(), piece, numbers| {
                    fill_normal(numbers, random::derive(seed, piece as u64), deviation);
                },
            );
            tables.push(table);
        }
        Tables { dimension, tables, source }
    }

    /// Where the lookups come from.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Adds the rows of a bag into `pooled`.
    #[inline]
    pub(crate) fn pool(&self, table: usize, bag: &[u32], pooled: &mut [f32]) {
        pooled.fill(0.0);
        let rows = &self.tables[table];
        for &row in bag {
            add_scaled(pooled, 1.0, &rows[row as usize * self.dimension..][..self.dimension]);
        }
    }

    /// Pools the bags of some samples of a batch: for each sample one vector per table, with room before them for one
    /// more, as [`super::dlrm_model::Model::predict`] takes it.
    pub(crate) fn gather(&self, batch: &Batch, samples: Range<usize>, vectors: &mut [f32]) {
        let width = (TABLES + 1) * self.dimension;
        for table in 0..TABLES {
            for (sample, vectors) in samples.clone().zip(vectors.chunks_exact_mut(width)) {
                let pooled = &mut vectors[(table + 1) * self.dimension..][..self.dimension];
                self.pool(table, batch.bag(table, sample), pooled);
            }
        }
    }
}

#[inline(never)]
fn allocate_table(registry: &mut Registry, number: usize, length: usize) -> Vec<f32> {
    registry.add_numbered("table", number, vec![0.0; length])
}

#[inline(never)]
fn allocate_offsets(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("offsets", vec![0; length])
}

#[inline(never)]
fn allocate_indices(registry: &mut Registry, length: usize) -> Vec<u32> {
    registry.add("indices", vec![0; length])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Tables {
        Tables::new(
            Source::new(400, [Pooling::About(3); TABLES], Skew::Zipf { exponent: 1.0 }, false, 2),
            4,
            1,
            &mut Registry::default(),
        )
    }

    #[test]
    fn a_gathered_vector_is_the_sum_of_the_rows_of_its_bag() {
        let tables = tables();
        let batch = tables.source().batch(1, 6, &mut Registry::default());
        let mut vectors = vec![0.0; 3 * (TABLES + 1) * 4];
        tables.gather(&batch, 2..5, &mut vectors);
        for sample in 2..5 {
            for table in 0..TABLES {
                let rows: Vec<_> = tables.source().bag(table, 6 + sample as u64).collect();
                assert_eq!(batch.bag(table, sample), rows);
                assert!((1..=5).contains(&rows.len()));
                for column in 0..4 {
                    let expected: f32 = rows.iter().map(|&row| tables.tables[table][row as usize * 4 + column]).sum();
                    assert_eq!(vectors[((sample - 2) * (TABLES + 1) + table + 1) * 4 + column], expected);
                }
            }
        }
    }

    #[test]
    fn tables_share_a_site_and_are_told_apart_by_number() {
        let mut registry = Registry::default();
        let tables =
            Tables::new(Source::new(400, [Pooling::About(3); TABLES], Skew::Uniform, false, 2), 4, 2, &mut registry);
        let batch = tables.source().batch(0, 2, &mut registry);
        batch.free(&mut registry);
        let labels: Vec<_> = registry.blocks().iter().map(|block| block.label()).collect();
        assert_eq!((labels[0].as_ref(), labels[7].as_ref()), ("table.0", "table.7"));
        assert_eq!(labels[8..], ["offsets", "indices"]);
        assert!(registry.blocks().iter().all(|block| block.freed_ns.is_some() == (block.name != "table")));
    }

    #[test]
    fn the_measured_skew_is_that_of_the_lookups() {
        let mut result = Map::new();
        Source::new(100_000, [Pooling::About(4); TABLES], Skew::Uniform, false, 1).measure(2000, &mut result);
        assert!(result["hottest_1_percent_share"].as_f64().unwrap() < 0.1);
        let mean = result["lookups"].as_f64().unwrap() / 2000.0 / TABLES as f64;
        assert!((mean - 4.0).abs() < 0.1, "{mean}");
    }
}
