//! The truth about where each data object lay, for checking what a profiler says.
//!
//! A workload's `allocate_NAME` functions pass every block they make through [`Registry::add`], and the workload says
//! when a block goes, so that an address used twice can be told apart by time. Times are `CLOCK_MONOTONIC`, the clock
//! of profiles.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

/// One block of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) name: &'static str,
    /// Its number among several large blocks from one site, such as the tables of a model.
    pub(crate) ordinal: Option<usize>,
    pub(crate) address: usize,
    pub(crate) bytes: usize,
    pub(crate) allocated_ns: u64,
    pub(crate) freed_ns: Option<u64>,
}

impl Block {
    /// The object's name with the block's number, if it has one: `table.3`.
    pub(crate) fn label(&self) -> Cow<'static, str> {
        match self.ordinal {
            None => Cow::Borrowed(self.name),
            Some(ordinal) => Cow::Owned(format!("{}.{ordinal}", self.name)),
        }
    }
}

/// Every block of every object, in order of allocation.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    blocks: Vec<Block>,
    /// Lines of other processes' side files.
    adopted: Vec<Value>,
}

impl Registry {
    /// Notes a new block of the object `name`. Its capacity counts, not its length, and must not change any more.
    pub(crate) fn add<T>(&mut self, name: &'static str, data: Vec<T>) -> Vec<T> {
        self.note(name, None, data)
    }

    /// Notes a new block of a site that makes several large ones, each a logical object of its own.
    pub(crate) fn add_numbered<T>(&mut self, name: &'static str, ordinal: usize, data: Vec<T>) -> Vec<T> {
        self.note(name, Some(ordinal), data)
    }

    fn note<T>(&mut self, name: &'static str, ordinal: Option<usize>, data: Vec<T>) -> Vec<T> {
        self.blocks.push(Block {
            name,
            ordinal,
            address: data.as_ptr().addr(),
            bytes: data.capacity() * size_of::<T>(),
            allocated_ns: monotonic_ns(),
            freed_ns: None,
        });
        data
    }

    /// Frees a block that [`Registry::add`] has seen.
    pub(crate) fn free<T>(&mut self, data: Vec<T>) {
        let address = data.as_ptr().addr();
        if let Some(block) = self.blocks.iter_mut().rev().find(|block| block.address == address) {
            block.freed_ns = Some(monotonic_ns());
        }
        drop(data);
    }

    /// Takes over what another registry has noted: that of a thread which made blocks of its own.
    pub(crate) fn merge(&mut self, other: Registry) {
        self.blocks.extend(other.blocks);
        self.blocks.sort_by_key(|block| block.allocated_ns);
    }

    /// Takes over the side file of another process, and removes it. Its objects are named `label/NAME`.
    pub(crate) fn adopt(&mut self, label: &str, path: &Path) -> io::Result<()> {
        for line in std::fs::read_to_string(path)?.lines() {
            let mut block: Value = serde_json::from_str(line)?;
            let name = block["name"].as_str().map(|name| format!("{label}/{name}"));
            block["name"] = json!(name);
            self.adopted.push(block);
        }
        std::fs::remove_file(path)
    }

    /// Every block so far.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Writes one JSON line per block.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for block in &self.blocks {
            let Block { address, bytes, allocated_ns, freed_ns, .. } = block;
            let line = json!({ "name": block.label(), "address": address, "bytes": bytes,
                               "allocated_ns": allocated_ns, "freed_ns": freed_ns });
            writeln!(file, "{line}")?;
        }
        for line in &self.adopted {
            writeln!(file, "{line}")?;
        }
        file.flush()
    }
}

/// Now, by `CLOCK_MONOTONIC`.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to; this clock always exists, so that the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_lives_from_its_allocation_to_its_end() {
        let mut registry = Registry::default();
        let scores = registry.add("scores", vec![0u64; 100]);
        let address = scores.as_ptr().addr();
        registry.free(scores);
        let [block] = registry.blocks() else { panic!("one block") };
        assert_eq!((block.name, block.address, block.bytes), ("scores", address, 800));
        assert!(block.freed_ns.unwrap() >= block.allocated_ns);
    }

    #[test]
    fn what_is_merged_keeps_the_order_of_allocation() {
        let (mut one, mut other) = (Registry::default(), Registry::default());
        let blocks = [one.add("first", vec![0u8; 10]), other.add("second", vec![0; 10]), one.add("third", vec![0; 10])];
        one.merge(other);
        assert_eq!(one.blocks().iter().map(|block| block.name).collect::<Vec<_>>(), ["first", "second", "third"]);
        drop(blocks);
    }

    #[test]
    fn blocks_of_one_site_are_told_apart_by_number() {
        let mut registry = Registry::default();
        let _tables: Vec<_> = (0..2).map(|table| registry.add_numbered("table", table, vec![0u8; 9])).collect();
        let labels: Vec<_> = registry.blocks().iter().map(Block::label).collect();
        assert_eq!(labels, ["table.0", "table.1"]);
    }

    #[test]
    fn what_another_process_has_noted_is_taken_over_under_its_name() {
        let path = |name: &str| std::env::temp_dir().join(format!("tierscope-adopt-{}-{name}", std::process::id()));
        let (theirs, ours) = (path("theirs"), path("ours"));
        let mut registry = Registry::default();
        let _scores = registry.add("scores", vec![0u8; 5]);
        registry.write(&theirs).unwrap();
        let mut other = Registry::default();
        other.adopt("0.pr", &theirs).unwrap();
        assert!(!theirs.exists());
        other.write(&ours).unwrap();
        let line: Value = serde_json::from_str(std::fs::read_to_string(&ours).unwrap().trim()).unwrap();
        std::fs::remove_file(&ours).unwrap();
        assert_eq!((&line["name"], &line["bytes"]), (&json!("0.pr/scores"), &json!(5)));
        assert!(other.adopt("0.pr", &theirs).is_err());
    }

    #[test]
    fn the_side_file_is_one_json_object_a_line() {
        let mut registry = Registry::default();
        let kept = registry.add("kept", Vec::<u32>::with_capacity(10));
        let path = std::env::temp_dir().join(format!("tierscope-workloads-{}.jsonl", std::process::id()));
        registry.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let line: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&line["name"], &line["bytes"], &line["freed_ns"]), (&json!("kept"), &json!(40), &json!(null)));
        assert_eq!(line["address"], json!(kept.as_ptr().addr()));
    }
}
