//! What was fetched, translated or stored a short while ago, as far as it is the same in all lanes: which line, which page, which store.

use super::pipeline::{SLOTS, WALKS};
use super::step::Place;
use crate::machine::LINE_BYTES;

/// Lines that may still be on their way. When each is there is a time of each lane; that it was asked for is not.
#[derive(Debug, Clone)]
pub(crate) struct Arriving {
    /// For each slot the line, and how many operations are dispatched when it must be there.
    slots: Box<[(u64, u64)]>,
}

impl Arriving {
    pub(crate) fn new() -> Self {
        Self { slots: vec![(u64::MAX, 0); SLOTS].into() }
    }

    fn slot(line: u64) -> usize {
        (line ^ (line >> 10) ^ (line >> 20)) as usize % SLOTS
    }

    /// A line was asked for; it is there when `until` operations have been dispatched. Returns its slot.
    pub(crate) fn ask(&mut self, address: u64, until: u64) -> u16 {
        let line = address / LINE_BYTES;
        let slot = Self::slot(line);
        self.slots[slot] = (line, until);
        slot as u16
    }

    /// The slot of a line that may be on its way when `now` operations have been dispatched. A load waits for it, and so it is there
    /// when `until` have.
    pub(crate) fn awaited(&mut self, address: u64, now: u64, until: Option<u64>) -> Option<u16> {
        let line = address / LINE_BYTES;
        let slot = Self::slot(line);
        let entry = &mut self.slots[slot];
        if entry.0 != line || entry.1 <= now {
            return None;
        }
        if let Some(until) = until {
            entry.1 = entry.1.min(until);
        }
        Some(slot as u16)
    }

    /// Whether a line may be on its way.
    #[inline]
    pub(crate) fn is_awaited(&self, address: u64, now: u64) -> bool {
        let line = address / LINE_BYTES;
        let entry = &self.slots[Self::slot(line)];
        entry.0 == line && entry.1 > now
    }

    /// Nothing is on its way.
    pub(crate) fn forget(&mut self) {
        self.slots.fill((u64::MAX, 0));
    }
}

/// Binary logarithm of the bytes of the smallest page, as which all are remembered.
const PAGE_SHIFT: u32 = 12;

/// Pages that may still be looked for in the page tables: for each slot the page, and how many operations are dispatched when it
/// must have been found.
#[derive(Debug, Clone)]
pub(crate) struct Walking {
    slots: Box<[(u64, u64)]>,
}

impl Walking {
    pub(crate) fn new() -> Self {
        Self { slots: vec![(u64::MAX, 0); WALKS].into() }
    }

    fn slot(page: u64) -> usize {
        (page ^ (page >> 6)) as usize % WALKS
    }

    /// A walk for the page of an address begins. The operation it is for retires before `until` are dispatched. Returns its slot.
    pub(crate) fn begin(&mut self, address: u64, until: u64) -> u8 {
        let page = address >> PAGE_SHIFT;
        let slot = Self::slot(page);
        self.slots[slot] = (page, until);
        slot as u8
    }

    /// The slot of a walk that may be under way when `now` operations have been dispatched.
    #[inline]
    pub(crate) fn awaited(&self, address: u64, now: u64) -> Option<u8> {
        let page = address >> PAGE_SHIFT;
        let slot = Self::slot(page);
        let (walked, until) = self.slots[slot];
        (walked == page && until > now).then_some(slot as u8)
    }

    /// None is under way.
    pub(crate) fn forget(&mut self) {
        self.slots.fill((u64::MAX, 0));
    }
}

/// Words remembered.
const WORDS: usize = 1024;

/// The last store to each word of eight bytes, as long as it may be in the store buffer.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// The word, its last store, and which of its bytes that wrote.
    words: Box<[(u64, u64, u8)]>,
    /// Stores so far.
    count: u64,
    buffer: u64,
}

/// The words of an access, and which bytes of each.
fn words(address: u64, bytes: u8) -> impl Iterator<Item = (u64, u8)> {
    let end = address.saturating_add(u64::from(bytes.max(1)) - 1);
    (address / 8..=end / 8).map(move |word| {
        let from = address.saturating_sub(word * 8);
        let to = (end - word * 8).min(7);
        (word, ((0xff_u16 << from) & (0xff >> (7 - to))) as u8)
    })
}

impl Stored {
    pub(crate) fn new(buffer: usize) -> Self {
        Self { words: vec![(u64::MAX, 0, 0); WORDS].into(), count: 0, buffer: buffer as u64 }
    }

    /// A store.
    pub(crate) fn store(&mut self, address: u64, bytes: u8) {
        self.count += 1;
        for (word, mask) in words(address, bytes) {
            self.words[word as usize % WORDS] = (word, self.count, mask);
        }
    }

    /// Where a load finds its data, if the store buffer may have it or a part: and the place of that store in it.
    #[inline]
    pub(crate) fn load(&self, address: u64, bytes: u8) -> Option<(Place, u16)> {
        let mut last = 0;
        let mut whole = true;
        for (n, (word, mask)) in words(address, bytes).enumerate() {
            let (stored, store, wrote) = self.words[word as usize % WORDS];
            let pending = stored == word && store + self.buffer > self.count && wrote & mask != 0;
            whole &= pending && wrote & mask == mask && (n == 0 || store == last);
            if pending {
                last = last.max(store);
            }
        }
        if last == 0 {
            return None;
        }
        Some((if whole { Place::Forwarded } else { Place::Blocked }, ((last - 1) % self.buffer) as u16))
    }
}

/// Pages remembered.
const PAGES: usize = 64;

/// The line last read in each of the pages used lately: memory has the row open that lies next to it.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    lines: Box<[u64]>,
}

impl Rows {
    pub(crate) fn new() -> Self {
        Self { lines: vec![u64::MAX - 8; PAGES].into() }
    }

    /// Whether a line lies within two of the one last read in its page, which it becomes.
    pub(crate) fn near(&mut self, address: u64) -> bool {
        let line = address / LINE_BYTES;
        let page = line / 64;
        let last = &mut self.lines[(page ^ (page >> 6)) as usize % PAGES];
        let near = line.abs_diff(*last) <= 2;
        *last = line;
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_awaited_until_it_must_be_there() {
        let mut arriving = Arriving::new();
        let slot = arriving.ask(0x1000, 100);
        assert_eq!(arriving.awaited(0x103f, 99, None), Some(slot));
        assert_eq!(arriving.awaited(0x1040, 99, None), None);
        assert_eq!(arriving.awaited(0x1000, 100, None), None);
        arriving.ask(0x1000, u64::MAX);
        assert_eq!(arriving.awaited(0x1000, 500, Some(820)), Some(slot));
        assert_eq!(arriving.awaited(0x1000, 820, None), None);
    }

    #[test]
    fn a_page_is_walked_to_until_the_operation_that_asked_must_have_retired() {
        let mut walking = Walking::new();
        let slot = walking.begin(0x12_3000, 100);
        assert_eq!(walking.awaited(0x12_3fff, 99), Some(slot));
        assert_eq!((walking.awaited(0x12_4000, 99), walking.awaited(0x12_3000, 100)), (None, None));
        walking.begin(0x12_3000, 200);
        walking.forget();
        assert_eq!(walking.awaited(0x12_3000, 99), None);
    }

    #[test]
    fn a_load_inside_a_store_is_given_its_data_and_one_across_is_not() {
        let mut stored = Stored::new(4);
        stored.store(0x100, 8);
        assert_eq!(stored.load(0x100, 8), Some((Place::Forwarded, 0)));
        assert_eq!(stored.load(0x104, 4), Some((Place::Forwarded, 0)));
        assert_eq!(stored.load(0x104, 8), Some((Place::Blocked, 0)));
        assert_eq!(stored.load(0x108, 8), None);
        stored.store(0x120, 32);
        assert_eq!(stored.load(0x130, 16), Some((Place::Forwarded, 1)));
        stored.store(0x121, 1);
        assert_eq!(stored.load(0x120, 16), Some((Place::Blocked, 2)));
        assert_eq!(stored.load(0x128, 8), Some((Place::Forwarded, 1)));
        assert_eq!(stored.load(0x122, 1), None);
        stored.store(0x500, 8);
        stored.store(0x600, 8);
        // Four stores later the first has left the buffer.
        assert_eq!(stored.load(0x100, 8), None);
    }

    #[test]
    fn neighbours_share_a_row() {
        let mut rows = Rows::new();
        let near: Vec<bool> = [0x1000, 0x1040, 0x1080, 0x1800, 0x17c0].map(|address| rows.near(address)).into();
        assert_eq!(near, [false, true, true, false, true]);
    }
}
