//! Generated graphs, kept in files, so that a profile shows the kernel and not the generator.
//!
//! A file is little-endian: a header of 64 bytes, then `offsets` (2^bits + 1 numbers of 8 bytes), then `neighbours` (4 bytes
//! each). The header holds the magic `TSGRAPH` and a zero byte; the version of this format and of the generator, the kind
//! (0 Kronecker, 1 uniform) and the bits, 4 bytes each; 4 zero bytes; then the seed, the number of offsets, the number of
//! neighbours and the checksum of the arrays, 8 bytes each; then zeros.
//!
//! A file is outside data. The header must be that of the graph asked for, byte for byte except for its number of
//! neighbours and its checksum, which must fit the file's length and contents; and the arrays must be rows of a graph. A
//! file that fails is an error, and its graph is generated again. It is read, not mapped: objects are blocks of the heap,
//! made at the same sites as when they are generated. It appears under its name by rename only, when it is whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::graph::{Graph, allocate_neighbours, allocate_offsets};
use crate::command_line::GraphKind;
use crate::registry::{Registry, monotonic_ns};

const MAGIC: &[u8; 8] = b"TSGRAPH\0";
const HEADER_BYTES: usize = 64;

/// Changes with the format and with what the generator makes of a seed.
const VERSION: u32 = 1;

/// Bytes read or written at a time; a multiple of both arrays' elements.
const CHUNK: usize = 1 << 18;

/// What decides which graph it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) kind: GraphKind,
    pub(crate) bits: u32,
    pub(crate) seed: u64,
}

/// A graph's place in the cache.
#[derive(Debug)]
pub(crate) struct Cached {
    key: Key,
    path: PathBuf,
}

impl Cached {
    /// Where the graph lies in that directory, or would lie.
    pub(crate) fn new(directory: &Path, key: Key) -> Self {
        let name = format!("{}-{}-seed-{}.v{VERSION}.graph", key.kind.name(), key.bits, key.seed);
        Cached { key, path: directory.join(name) }
    }

    /// Whether there is a file to be tried.
    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Reads the graph. The error is a clause for people, without its end.
    pub(crate) fn load(&self, registry: &mut Registry) -> Result<Graph, String> {
        self.read(registry).map_err(|error| format!("cannot use the graph in {}: {error}", self.path.display()))
    }

    /// Writes the graph. The error is a clause for people, without its end.
    pub(crate) fn store(&self, graph: &Graph) -> Result<(), String> {
        self.write(graph).map_err(|error| format!("cannot keep the graph in {}: {error}", self.path.display()))
    }

    fn read(&self, registry: &mut Registry) -> io::Result<Graph> {
        let mut file = File::open(&self.path)?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header)?;
        let (neighbours, checksum) = (word(&header, NEIGHBOURS_AT), word(&header, CHECKSUM_AT));
        if header != self.header(neighbours, checksum) {
            return Err(invalid("its header is not that of this graph"));
        }
        let offsets = (1u64 << self.key.bits) + 1;
        // Neighbours are numbered by u32 vertices, so that a believable number of them is far from overflowing this.
        let bytes = neighbours.checked_mul(4).and_then(|bytes| bytes.checked_add(offsets * 8 + HEADER_BYTES as u64));
        if bytes != Some(file.metadata()?.len()) {
            return Err(invalid("its length is not what its header says"));
        }
        let mut graph = Graph {
            offsets: allocate_offsets(registry, offsets as usize),
            neighbours: allocate_neighbours(registry, neighbours as usize),
        };
        let filled = fill(&mut file, &mut graph).and_then(|found| match found == checksum && graph.is_sound() {
            true => Ok(()),
            false => Err(invalid("its contents are damaged")),
        });
        if let Err(error) = filled {
            registry.free(graph.offsets);
            registry.free(graph.neighbours);
            return Err(error);
        }
        Ok(graph)
    }

    fn write(&self, graph: &Graph) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let partial = self.path.with_extension(format!("{}-{:x}.part", std::process::id(), monotonic_ns()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        let written = self.write_to(file, graph).and_then(|()| fs::rename(&partial, &self.path));
        if written.is_err() {
            // What failed is worth more words than what could not be cleaned up after it.
            let _ = fs::remove_file(&partial);
        }
        written
    }

    fn write_to(&self, file: File, graph: &Graph) -> io::Result<()> {
        let mut checksum = Checksum::default();
        for_each_chunk(graph, |bytes| {
            checksum.add(bytes);
            Ok(())
        })?;
        let mut file = BufWriter::with_capacity(CHUNK, file);
        file.write_all(&self.header(graph.neighbours.len() as u64, checksum.0))?;
        for_each_chunk(graph, |bytes| file.write_all(bytes))?;
        file.flush()
    }

    fn header(&self, neighbours: u64, checksum: u64) -> [u8; HEADER_BYTES] {
        let kind: u32 = match self.key.kind {
            GraphKind::Kronecker => 0,
            GraphKind::Uniform => 1,
        };
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&kind.to_le_bytes());
        header[16..20].copy_from_slice(&self.key.bits.to_le_bytes());
        header[24..32].copy_from_slice(&self.key.seed.to_le_bytes());
        header[32..40].copy_from_slice(&((1u64 << self.key.bits) + 1).to_le_bytes());
        header[NEIGHBOURS_AT..][..8].copy_from_slice(&neighbours.to_le_bytes());
        header[CHECKSUM_AT..][..8].copy_from_slice(&checksum.to_le_bytes());
        header
    }
}

const NEIGHBOURS_AT: usize = 40;
const CHECKSUM_AT: usize = 48;

fn word(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Reads both arrays and returns their checksum.
fn fill(file: &mut File, graph: &mut Graph) -> io::Result<u64> {
    let mut checksum = Checksum::default();
    let mut chunk = vec![0; CHUNK];
    for numbers in graph.offsets.chunks_mut(CHUNK / 8) {
        let bytes = &mut chunk[..size_of_val(numbers)];
        file.read_exact(bytes)?;
        checksum.add(bytes);
        for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
            *number = u64::from_le_bytes(*bytes);
        }
    }
    for numbers in graph.neighbours.chunks_mut(CHUNK / 4) {
        let bytes = &mut chunk[..size_of_val(numbers)];
        file.read_exact(bytes)?;
        checksum.add(bytes);
        for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
            *number = u32::from_le_bytes(*bytes);
        }
    }
    Ok(checksum.0)
}

/// Both arrays as bytes, in the chunks in which they are read.
fn for_each_chunk(graph: &Graph, mut with: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK);
    for numbers in graph.offsets.chunks(CHUNK / 8) {
        chunk.clear();
        chunk.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        with(&chunk)?;
    }
    for numbers in graph.neighbours.chunks(CHUNK / 4) {
        chunk.clear();
        chunk.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        with(&chunk)?;
    }
    Ok(())
}

/// Multiply and fold, a word of 8 bytes at a time: against damage, not against malice. Each array is fed in chunks of the
/// same length, the last of which may end in half a word.
#[derive(Debug, Default)]
struct Checksum(u64);

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn mix(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    const KEY: Key = Key { kind: GraphKind::Kronecker, bits: 8, seed: 3 };

    /// A directory of this test's own, removed at its end.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let name = format!("tierscope-graphs-{}-{:x}", std::process::id(), monotonic_ns());
            Directory(std::env::temp_dir().join(name).join("graphs"))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
        }
    }

    fn stored() -> (Directory, Cached, Graph) {
        let directory = Directory::new();
        let cached = Cached::new(&directory.0, KEY);
        assert!(!cached.exists());
        let graph = Graph::generate(KEY.kind, KEY.bits, KEY.seed, 1, &mut Registry::default());
        cached.store(&graph).unwrap();
        (directory, cached, graph)
    }

    #[test]
    fn what_is_stored_is_loaded_into_blocks_of_the_same_names() {
        let (directory, cached, graph) = stored();
        let mut registry = Registry::default();
        let loaded = cached.load(&mut registry).unwrap();
        assert_eq!((loaded.offsets, loaded.neighbours), (graph.offsets, graph.neighbours));
        let names: Vec<_> = registry.blocks().iter().map(|block| block.name).collect();
        assert_eq!(names, ["offsets", "neighbours"]);
        assert_eq!(fs::metadata(&directory.0).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1, "nothing but the graph is left");
    }

    #[test]
    fn a_change_of_any_byte_is_noticed() {
        let (_directory, cached, _) = stored();
        let file = OpenOptions::new().read(true).write(true).open(&cached.path).unwrap();
        let length = file.metadata().unwrap().len();
        for at in (0..HEADER_BYTES as u64).chain((HEADER_BYTES as u64..length).step_by(97)).chain([length - 1]) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 4], at).unwrap();
            let mut registry = Registry::default();
            let error = cached.load(&mut registry).unwrap_err();
            assert!(error.contains(".graph: its "), "byte {at}: {error}");
            assert!(registry.blocks().iter().all(|block| block.freed_ns.is_some()));
            file.write_all_at(&byte, at).unwrap();
        }
        cached.load(&mut Registry::default()).unwrap();
    }

    #[test]
    fn a_file_that_is_cut_short_or_goes_on_is_refused() {
        let (_directory, cached, _) = stored();
        let file = OpenOptions::new().write(true).open(&cached.path).unwrap();
        let length = file.metadata().unwrap().len();
        for other in [0, 10, HEADER_BYTES as u64, length - 1, length + 1] {
            file.set_len(other).unwrap();
            cached.load(&mut Registry::default()).unwrap_err();
        }
    }

    #[test]
    fn a_graph_of_another_seed_is_not_taken_for_this_one() {
        let (directory, cached, _) = stored();
        let other = Cached::new(&directory.0, Key { seed: 4, ..KEY });
        assert!(!other.exists());
        fs::rename(&cached.path, &other.path).unwrap();
        assert!(other.load(&mut Registry::default()).unwrap_err().contains("header"));
    }

    #[test]
    fn rows_that_are_none_are_refused_even_with_the_right_checksum() {
        let (_directory, cached, mut graph) = stored();
        graph.neighbours[5] = 1 << 8;
        cached.store(&graph).unwrap();
        assert!(cached.load(&mut Registry::default()).unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error_with_its_name() {
        let (_directory, cached, graph) = stored();
        let inside_a_file = Cached::new(&cached.path.join("x"), KEY);
        assert!(inside_a_file.store(&graph).unwrap_err().contains("cannot keep the graph in /"));
    }
}
