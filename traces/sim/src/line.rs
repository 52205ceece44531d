//! A cached line in one word: which line, who owns it, what state it is in.
//!
//! A model of a large cache lives or dies by how much of the host's own caches it takes, so everything that must travel with a
//! line is in eight bytes: 41 bits of line number (user space of x86-64 has 47 bits of address, 6 of them inside the line), 20 bits
//! of the object that filled or last wrote it, 3 bits of state. The owner travels along because a block may be freed, and its
//! addresses given to another, while its dirty lines are still on their way to memory.

use crate::objects::ObjectId;

/// Bits of a line number.
const LINE_BITS: u32 = 41;

/// Where the line number begins in a word.
pub(crate) const LINE_SHIFT: u32 = 64 - LINE_BITS;

/// Where the owner begins.
const OWNER_SHIFT: u32 = 3;

/// Most objects a simulation can tell apart.
pub(crate) const MOST_OBJECTS: u32 = (1 << (LINE_SHIFT - OWNER_SHIFT)) - 1;

/// Written since it was read from memory.
pub(crate) const DIRTY: u64 = 1;

/// Brought in by a prefetch and not used since.
pub(crate) const PREFETCHED: u64 = 2;

/// Another core may have it, too.
pub(crate) const SHARED: u64 = 4;

/// No line. Its number is that of the last line of user space, which Linux never maps (it is why `TASK_SIZE_MAX` is a page short).
pub(crate) const EMPTY: u64 = u64::MAX;

/// The number of the line that holds an address. Addresses beyond user space are taken modulo its size.
pub(crate) fn line_of(address: u64) -> u64 {
    (address >> 6) & ((1 << LINE_BITS) - 1)
}

/// The first byte of a line.
pub(crate) fn address_of(line: u64) -> u64 {
    line << 6
}

/// A clean line of an owner.
pub(crate) fn word(line: u64, owner: ObjectId) -> u64 {
    line << LINE_SHIFT | u64::from(owner.0) << OWNER_SHIFT
}

/// The word of the clean line of an owner that holds an address.
#[inline(always)]
pub(crate) fn word_at(address: u64, owner: ObjectId) -> u64 {
    (address >> 6) << LINE_SHIFT | u64::from(owner.0) << OWNER_SHIFT
}

/// The line of a word.
pub(crate) fn line(word: u64) -> u64 {
    word >> LINE_SHIFT
}

/// The owner of a word.
pub(crate) fn owner(word: u64) -> ObjectId {
    ObjectId((word >> OWNER_SHIFT) as u32 & MOST_OBJECTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_line_is_lost() {
        let address = 0x7fff_ffff_e040;
        let dirty = word(line_of(address), ObjectId(MOST_OBJECTS - 1)) | DIRTY;
        assert_eq!((address_of(line(dirty)), owner(dirty), dirty & 7), (address, ObjectId(MOST_OBJECTS - 1), DIRTY));
        assert_eq!(word_at(address, ObjectId(77)), word(line_of(address), ObjectId(77)));
        assert_eq!(line_of(0xffff_8000_0000_0040), 1);
        assert_eq!(word_at(0xffff_8000_0000_0040, ObjectId(77)), word(1, ObjectId(77)));
    }
}
