//! ELF as far as the shim needs it: symbols of a loaded module by its hash table, program headers of a file.
//!
//! Symbols are read from memory the loader itself reads, of modules it has finished mapping; nothing here checks what
//! it must have checked. Headers of files are bytes like any others, and every access is checked.

use core::ffi::CStr;

const DT_HASH: usize = 4;
const DT_STRTAB: usize = 5;
const DT_SYMTAB: usize = 6;
const DT_GNU_HASH: usize = 0x6fff_fef5;
const DT_VERSYM: usize = 0x6fff_fff0;
const VERSYM_HIDDEN: u16 = 0x8000;
const STT_GNU_IFUNC: u8 = 10;

/// One entry of a symbol table.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: usize,
    size: usize,
}

/// The dynamic section of a module that is mapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dynamic {
    bias: usize,
    strings: usize,
    symbols: usize,
    gnu_hash: usize,
    hash: usize,
    versions: usize,
}

/// The hash function of `DT_GNU_HASH`.
fn gnu_hash(name: &CStr) -> u32 {
    name.to_bytes().iter().fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(*byte)))
}

/// The hash function of `DT_HASH`.
fn sysv_hash(name: &CStr) -> u32 {
    name.to_bytes().iter().fold(0_u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(*byte));
        let high = hash & 0xf000_0000;
        (hash ^ (high >> 24)) & !high
    })
}

impl Dynamic {
    /// Reads the section at `section` of a module loaded with `bias`.
    ///
    /// # Safety
    ///
    /// `section` is the dynamic section of a mapped module.
    pub(crate) unsafe fn new(bias: usize, section: *const [usize; 2]) -> Option<Self> {
        if section.is_null() {
            return None;
        }
        let mut found = Dynamic { bias, strings: 0, symbols: 0, gnu_hash: 0, hash: 0, versions: 0 };
        let mut at = section;
        loop {
            // SAFETY: the section ends with a null entry, where the loop ends.
            let [tag, value] = unsafe { at.read() };
            // glibc adds the bias in place, musl and the kernel's vdso do not.
            let address = if value < bias { value.wrapping_add(bias) } else { value };
            match tag {
                0 => break,
                DT_STRTAB => found.strings = address,
                DT_SYMTAB => found.symbols = address,
                DT_GNU_HASH => found.gnu_hash = address,
                DT_HASH => found.hash = address,
                DT_VERSYM => found.versions = address,
                _ => {}
            }
            at = at.wrapping_add(1);
        }
        (found.strings != 0 && found.symbols != 0).then_some(found)
    }

    /// The address of a function defined here, by its default version.
    ///
    /// # Safety
    ///
    /// The module is still mapped.
    pub(crate) unsafe fn function(&self, name: &CStr) -> Option<usize> {
        // SAFETY: the tables are mapped and well-formed, or the loader could not have used them.
        unsafe {
            let symbol = if self.gnu_hash != 0 { self.by_gnu_hash(name) } else { self.by_hash(name) }?;
            let address = self.bias.wrapping_add(symbol.value);
            if symbol.info & 15 == STT_GNU_IFUNC {
                let resolver: extern "C" fn() -> usize = core::mem::transmute(address);
                return Some(resolver());
            }
            Some(address)
        }
    }

    unsafe fn matches(&self, index: usize, name: &CStr) -> Option<Symbol> {
        // SAFETY: `index` came from the hash table, and names are terminated strings in the string table.
        unsafe {
            let symbol = (self.symbols as *const Symbol).add(index).read();
            if symbol.section == 0 || symbol.value == 0 {
                return None;
            }
            if CStr::from_ptr((self.strings as *const core::ffi::c_char).add(symbol.name as usize)) != name {
                return None;
            }
            if self.versions != 0 && (self.versions as *const u16).add(index).read() & VERSYM_HIDDEN != 0 {
                return None;
            }
            Some(symbol)
        }
    }

    unsafe fn by_gnu_hash(&self, name: &CStr) -> Option<Symbol> {
        let wanted = gnu_hash(name);
        // SAFETY: layout of the table: four words, the Bloom filter, the buckets, the chains.
        unsafe {
            let header = self.gnu_hash as *const u32;
            let [buckets, first, bloom_words, shift] = header.cast::<[u32; 4]>().read();
            if buckets == 0 || bloom_words == 0 {
                return None;
            }
            let bloom = header.add(4).cast::<u64>();
            let word = bloom.add((wanted / 64 % bloom_words) as usize).read_unaligned();
            let mask = 1_u64 << (wanted % 64) | 1_u64 << (wanted >> (shift & 31) & 63);
            if word & mask != mask {
                return None;
            }
            let bucket_table = bloom.add(bloom_words as usize).cast::<u32>();
            let chains = bucket_table.add(buckets as usize);
            let mut index = bucket_table.add((wanted % buckets) as usize).read();
            if index < first {
                return None;
            }
            loop {
                let hash = chains.add((index - first) as usize).read();
                if hash | 1 == wanted | 1
                    && let Some(symbol) = self.matches(index as usize, name)
                {
                    return Some(symbol);
                }
                if hash & 1 != 0 {
                    return None;
                }
                index += 1;
            }
        }
    }

    unsafe fn by_hash(&self, name: &CStr) -> Option<Symbol> {
        if self.hash == 0 {
            return None;
        }
        // SAFETY: layout of the table: counts, buckets, chains.
        unsafe {
            let table = self.hash as *const u32;
            let buckets = table.read();
            if buckets == 0 {
                return None;
            }
            let mut index = table.add(2 + (sysv_hash(name) % buckets) as usize).read();
            while index != 0 {
                if let Some(symbol) = self.matches(index as usize, name) {
                    return Some(symbol);
                }
                index = table.add(2 + (buckets + index) as usize).read();
            }
            None
        }
    }
}

/// The bytes of a file's start that are looked at: header and program headers.
pub(crate) const HEAD_BYTES: usize = 4096;

/// One program header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// `p_type`.
    pub(crate) kind: u32,
    /// `p_flags`.
    pub(crate) flags: u32,
    /// Offset in the file.
    pub(crate) offset: u64,
    /// Address in the file's own terms.
    pub(crate) address: u64,
    /// Bytes in the file.
    pub(crate) bytes: u64,
}

/// `PT_LOAD`.
pub(crate) const LOAD: u32 = 1;
/// `PT_DYNAMIC`.
pub(crate) const DYNAMIC: u32 = 2;
/// `PT_NOTE`.
pub(crate) const NOTE: u32 = 4;
/// `PT_GNU_EH_FRAME`.
pub(crate) const EH_FRAME_HEADER: u32 = 0x6474_e550;
/// `PF_X`.
pub(crate) const EXECUTABLE: u32 = 1;

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// The program headers in `head`, the first bytes of a 64-bit little-endian ELF file; empty for anything else.
pub(crate) fn segments(head: &[u8]) -> impl Iterator<Item = Segment> + '_ {
    let is_elf = head.starts_with(b"\x7fELF\x02\x01");
    let offset = bytes_at(head, 32).map_or(0, u64::from_le_bytes) as usize;
    let size = usize::from(bytes_at(head, 54).map_or(0, u16::from_le_bytes));
    let count = usize::from(bytes_at(head, 56).map_or(0, u16::from_le_bytes));
    (0..if is_elf && size >= 56 { count } else { 0 }).map_while(move |index| {
        let header = head.get(offset.checked_add(index.checked_mul(size)?)?..)?;
        Some(Segment {
            kind: u32::from_le_bytes(bytes_at(header, 0)?),
            flags: u32::from_le_bytes(bytes_at(header, 4)?),
            offset: u64::from_le_bytes(bytes_at(header, 8)?),
            address: u64::from_le_bytes(bytes_at(header, 16)?),
            bytes: u64::from_le_bytes(bytes_at(header, 32)?),
        })
    })
}

/// The GNU build-id among `notes`, the content of a note segment.
pub(crate) fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let name_bytes = u32::from_le_bytes(bytes_at(notes, 0)?) as usize;
        let id_bytes = u32::from_le_bytes(bytes_at(notes, 4)?) as usize;
        let kind = u32::from_le_bytes(bytes_at(notes, 8)?);
        let name = notes.get(12..)?.get(..name_bytes)?;
        let id_at = 12 + name_bytes.checked_next_multiple_of(4)?;
        let id = notes.get(id_at..)?.get(..id_bytes)?;
        if kind == 3 && name == b"GNU\0" {
            return Some(id);
        }
        notes = notes.get(id_at + id_bytes.checked_next_multiple_of(4)?..)?;
    }
}

/// Where `.eh_frame` begins, in the file's own addresses, from the first bytes of `.eh_frame_hdr` at `address`.
pub(crate) fn eh_frame_address(header: &[u8], address: u64) -> Option<u64> {
    const PC_RELATIVE_I32: u8 = 0x1b;
    if header.first() != Some(&1) || header.get(1) != Some(&PC_RELATIVE_I32) {
        return None;
    }
    let offset = i64::from(i32::from_le_bytes(bytes_at(header, 4)?));
    address.checked_add(4)?.checked_add_signed(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut head = b"\x7fELF\x02\x01".to_vec();
            head.extend_from_slice(&bytes);
            let _ = segments(&head).count();
            let _ = segments(&bytes).count();
            let _ = build_id(&bytes);
            let _ = eh_frame_address(&bytes, u64::MAX);
        }
    }

    #[cfg(not(miri))]
    #[test]
    fn our_own_file_is_understood() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        let head = &file[..HEAD_BYTES];
        let found: Vec<Segment> = segments(head).collect();
        assert!(found.iter().any(|s| s.kind == LOAD && s.flags & EXECUTABLE != 0));
        let note = found
            .iter()
            .filter(|s| s.kind == NOTE)
            .find_map(|s| build_id(&file[s.offset as usize..(s.offset + s.bytes) as usize]));
        assert!(note.is_none_or(|id| id.len() >= 8));
        let header = found.iter().find(|s| s.kind == EH_FRAME_HEADER).unwrap();
        let eh_frame = eh_frame_address(&file[header.offset as usize..], header.address).unwrap();
        assert!(found.iter().any(|s| s.kind == LOAD && (s.address..s.address + s.bytes).contains(&eh_frame)));
    }

    #[test]
    fn hashes_are_the_specified_ones() {
        assert_eq!(gnu_hash(c"printf"), 0x156b_2bb8);
        assert_eq!(sysv_hash(c"printf"), 0x077_905a6);
    }
}
