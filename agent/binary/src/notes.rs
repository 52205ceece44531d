//! The build-id: the note by which a module is the same module on another machine, under another path, after `strip`.
//!
//! It is looked for in the PT_NOTE segments first, which survive when section headers are stripped, then in the note
//! sections, which are all that a separate debug file has.

use object::elf;

use crate::headers::Headers;
use crate::source::Source;

/// Notes are a few hundred bytes; core-like files with more are not read.
const NOTES_LIMIT: u64 = 1 << 20;
/// Build-ids are 16 (md5, uuid) or 20 (sha1) bytes; `--build-id=0x...` may give others.
const BUILD_ID_LIMIT: usize = 64;

pub(crate) fn build_id(source: &Source, headers: &Headers) -> Option<Vec<u8>> {
    let programs = headers.programs.iter().filter(|program| program.kind == elf::PT_NOTE);
    let sections = headers.sections.iter().filter(|section| section.kind == elf::SHT_NOTE);
    let ranges = programs.map(|program| (program.offset, program.file_bytes));
    let ranges = ranges.chain(sections.map(|section| (section.offset, section.bytes)));
    // A file of a thousand note segments is not worth a thousand reads.
    ranges.filter(|&(_, length)| length <= NOTES_LIMIT).take(32).find_map(|(offset, length)| {
        let notes = source.table(offset, length, "notes").ok()?;
        find_build_id(&notes, |word| headers.word(word))
    })
}

/// Walk notes of (name size, description size, type, name, description), each part padded to four bytes.
fn find_build_id(mut notes: &[u8], word: impl Fn([u8; 4]) -> u32) -> Option<Vec<u8>> {
    let padded = |length: u32| (length as usize).checked_next_multiple_of(4);
    loop {
        let (header, rest) = notes.split_first_chunk::<12>()?;
        let field = |index: usize| word([header[index], header[index + 1], header[index + 2], header[index + 3]]);
        let (name_length, length, kind) = (field(0), field(4), field(8));
        let name = rest.get(..name_length as usize)?;
        let rest = rest.get(padded(name_length)?..)?;
        let description = rest.get(..length as usize)?;
        if kind == elf::NT_GNU_BUILD_ID && name == b"GNU\0" {
            return (1..=BUILD_ID_LIMIT).contains(&description.len()).then(|| description.to_vec());
        }
        notes = rest.get(padded(length)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(kind: u32, name: &[u8], description: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [name.len() as u32, description.len() as u32, kind] {
            note.extend(word.to_le_bytes());
        }
        for part in [name, description] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        let mut notes = note(1, b"GNU\0", &[0; 16]);
        notes.extend(note(3, b"Go\0\0", b"abc"));
        notes.extend(note(3, b"GNU\0", b"0123456789abcdefghij"));
        assert_eq!(find_build_id(&notes, u32::from_le_bytes).as_deref(), Some(&b"0123456789abcdefghij"[..]));
        for cut in 0..notes.len() {
            assert_eq!(find_build_id(&notes[..cut], u32::from_le_bytes), None);
        }
    }

    #[test]
    fn absurd_lengths_end_the_walk() {
        let mut notes = note(1, b"GNU\0", b"");
        notes[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(find_build_id(&notes, u32::from_le_bytes), None);
        assert_eq!(find_build_id(&note(3, b"GNU\0", &[7; 65]), u32::from_le_bytes), None);
    }
}
