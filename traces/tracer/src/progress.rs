//! How far a simulation is: a few words in a file, written over and over by the tracer, read by whoever waits.
//!
//! The words are written by one call each time and are small enough that a reader sees them whole; one that does not sees a
//! check that fails, and looks again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = u64::from_le_bytes(*b"tierprog");
const WORDS: usize = 5;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Instructions executed.
    pub instructions: u64,
    /// Instructions that are in the counts.
    pub counted_instructions: u64,
    /// Marks announced so far.
    pub phase: u64,
}

impl Progress {
    fn words(&self) -> [u64; WORDS] {
        let Progress { instructions, counted_instructions, phase } = *self;
        let check = MAGIC ^ instructions ^ counted_instructions.rotate_left(16) ^ phase;
        [MAGIC, instructions, counted_instructions, phase, check]
    }

    /// Reads the file; `None` while there is none, or it is being written.
    pub fn read(file: &Path) -> Option<Progress> {
        let bytes = std::fs::read(file).ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let words: [u64; WORDS] =
            words.get(..WORDS)?.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>().try_into().ok()?;
        let [_, instructions, counted_instructions, phase, _] = words;
        let progress = Progress { instructions, counted_instructions, phase };
        (progress.words() == words).then_some(progress)
    }

    /// Writes it over what was there. A full disk is no reason to stop.
    pub(crate) fn write(&self, file: &File) {
        let mut bytes = [0_u8; WORDS * 8];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.words()) {
            *to = word.to_le_bytes();
        }
        let _ = file.write_at(&bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_back_and_nonsense_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p");
        assert_eq!(Progress::read(&path), None);
        let progress = Progress { instructions: 5, counted_instructions: 4, phase: 2 };
        let file = File::create(&path).unwrap();
        Progress::default().write(&file);
        progress.write(&file);
        assert_eq!(Progress::read(&path), Some(progress));
        std::fs::write(&path, [1; 48]).unwrap();
        assert_eq!(Progress::read(&path), None);
        std::fs::write(&path, [1; 5]).unwrap();
        assert_eq!(Progress::read(&path), None);
    }
}
