//! The streamer of a second-level cache: it follows what is asked for in each page, and runs ahead of it.
//!
//! Intel's "64 and IA-32 Architectures Optimization Reference Manual" says of its own, since Sandy Bridge, that it "monitors read requests from
//! the L1 cache for ascending and descending sequences of addresses" by loads, stores and the prefetchers of the first level; that what
//! it brings lies in the same page of 4 KiB; that it follows a forward and a backward stream in each; that it "may issue two prefetch requests
//! on every L2 lookup" and "can run up to 20 lines ahead of the load request"; and that "when cache lines are far ahead, it prefetches
//! to the last level cache only". It does not say what makes it begin, how far far is, or how many pages Ice Lake follows (32 streams
//! on Sandy Bridge). These were measured, by `scripts/bench-timing.d/prefetchers.c`, on an Ice Lake-SP of 3.4 GHz:
//!
//! * It begins at the tenth request of a page in its direction, be they one or six lines apart, by loads or by stores, or by the
//!   prefetcher that goes by instruction.
//! * With each request from then on it brings two lines into the second level, from the next on, and two into the last level, from
//!   the ninth on. Either kind goes on where it left off, so that it gets ahead by a line with each request.
//! * Of 48 pages gone through in turn all are followed, of 64 some, of 80 none.
//! * In a page of 4 KiB it learns anew. In one of 2 MiB it goes on from one 4 KiB to the next.

use crate::machine::PageSize;

/// Steps in one direction that make it sure: those between ten requests.
const TRAINING: u8 = 9;

/// Most lines that it is ahead of a request.
const REACH: u8 = 20;

/// How many lines ahead those are that come into the last level only.
const FAR: u8 = 9;

/// Lines brought into either level for a request.
const ISSUED: usize = 2;

/// Binary logarithm of the lines of a page of 4 KiB.
const PAGE_LINES_SHIFT: u32 = 6;

/// The last line of a page, from its first.
const LAST: u8 = (1 << PAGE_LINES_SHIFT) - 1;

/// No page has this number.
const NO_PAGE: u64 = u64::MAX;

/// A stream in one direction. Lines are counted in that direction, from 0 at the end of the page where such a stream begins.
#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    steps: u8,
    /// The next line that is to come into the second level, and into the last.
    near: u8,
    far: u8,
}

/// A page that is followed.
#[derive(Debug, Clone, Copy, Default)]
struct Page {
    last: u8,
    /// Ascending, descending.
    streams: [Stream; 2],
    used: u64,
}

/// The streamer of a core.
#[derive(Debug, Clone)]
pub(crate) struct Streamer {
    /// The numbers of the pages, apart since they are all looked at.
    numbers: Box<[u64]>,
    pages: Box<[Page]>,
    now: u64,
    /// It goes on in the next 4 KiB.
    goes_on: bool,
}

/// Lines that are to come into the second level, and into the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ahead {
    lines: [[u64; ISSUED]; 2],
    counts: [u8; 2],
}

impl Ahead {
    /// Those for the second level.
    pub(crate) fn near(&self) -> &[u64] {
        &self.lines[0][..usize::from(self.counts[0])]
    }

    /// Those for the last level.
    pub(crate) fn far(&self) -> &[u64] {
        &self.lines[1][..usize::from(self.counts[1])]
    }

    /// Takes lines from `next` on which are not beyond `end`. The next one to be taken.
    fn take(&mut self, kind: usize, next: u8, end: u8, line: impl Fn(u8) -> u64) -> u8 {
        let until = end.saturating_add(1).min(next.saturating_add(ISSUED as u8)).max(next);
        for at in next..until {
            self.lines[kind][usize::from(self.counts[kind])] = line(at);
            self.counts[kind] += 1;
        }
        until
    }
}

impl Streamer {
    /// One that follows so many pages at a time; one, if that is none.
    pub(crate) fn new(pages: u16, size: PageSize) -> Self {
        let pages = usize::from(pages.max(1));
        Self {
            numbers: vec![NO_PAGE; pages].into(),
            pages: vec![Page::default(); pages].into(),
            now: 0,
            goes_on: size == PageSize::Huge,
        }
    }

    /// Learns that the second level is asked for a line, and says which are to be brought.
    pub(crate) fn observe(&mut self, line: u64) -> Ahead {
        let mut ahead = Ahead::default();
        let (number, at) = (line >> PAGE_LINES_SHIFT, line as u8 & LAST);
        self.now += 1;
        let Some(place) = self.numbers.iter().position(|other| *other == number) else {
            self.begin(number, at);
            return ahead;
        };
        let page = &mut self.pages[place];
        page.used = self.now;
        let before = std::mem::replace(&mut page.last, at);
        if before == at {
            return ahead;
        }
        let descends = at < before;
        let stream = &mut page.streams[usize::from(descends)];
        stream.steps = (stream.steps + 1).min(TRAINING);
        if stream.steps < TRAINING {
            return ahead;
        }
        let first = number << PAGE_LINES_SHIFT;
        let nth = |at: u8| first + u64::from(if descends { LAST - at } else { at });
        let at = if descends { LAST - at } else { at };
        let end = (at + REACH).min(LAST);
        stream.near = ahead.take(0, stream.near.max(at + 1), end, nth);
        stream.far = ahead.take(1, stream.far.max(stream.near).max(at + FAR), end, nth);
        ahead
    }

    /// Follows a page in place of the one that was asked for longest ago.
    fn begin(&mut self, number: u64, at: u8) {
        let mut streams = [Stream::default(); 2];
        if self.goes_on {
            for (direction, neighbour) in [number.wrapping_sub(1), number + 1].into_iter().enumerate() {
                let place = self.numbers.iter().position(|other| *other == neighbour);
                streams[direction].steps = place.map_or(0, |place| self.pages[place].streams[direction].steps);
            }
        }
        let oldest = (0..self.pages.len()).min_by_key(|place| self.pages[*place].used).unwrap_or(0);
        self.numbers[oldest] = number;
        self.pages[oldest] = Page { last: at, streams, used: self.now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, VecDeque};

    fn all(streamer: &mut Streamer, lines: impl IntoIterator<Item = u64>) -> (Vec<u64>, Vec<u64>) {
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for line in lines {
            let ahead = streamer.observe(line);
            near.extend_from_slice(ahead.near());
            far.extend_from_slice(ahead.far());
        }
        (near, far)
    }

    #[test]
    fn it_begins_at_the_tenth_request_as_was_measured() {
        let mut streamer = Streamer::new(64, PageSize::Small);
        assert_eq!(all(&mut streamer, 0..9), (vec![], vec![]));
        assert_eq!(all(&mut streamer, 9..10), (vec![10, 11], vec![18, 19]));
        assert_eq!(all(&mut streamer, 10..12), (vec![12, 13, 14, 15], vec![20, 21, 22, 23]));
    }

    #[test]
    fn it_never_leaves_its_page_and_brings_each_line_once_into_each_level() {
        let mut streamer = Streamer::new(64, PageSize::Small);
        let (near, far) = all(&mut streamer, 64..128);
        assert_eq!(near, (74..128).collect::<Vec<_>>());
        // By then those for the second level are as far ahead as any may be.
        assert_eq!(far, (82..111).collect::<Vec<_>>());
    }

    #[test]
    fn it_is_at_most_twenty_lines_ahead() {
        let mut streamer = Streamer::new(64, PageSize::Small);
        for line in 0..64 {
            let ahead = streamer.observe(line);
            assert!(ahead.near().iter().chain(ahead.far()).all(|brought| (line + 1..=line + 20).contains(brought)));
        }
    }

    #[test]
    fn it_follows_downwards_as_it_does_upwards() {
        let up = all(&mut Streamer::new(64, PageSize::Small), 0..64);
        let down = all(&mut Streamer::new(64, PageSize::Small), (0..64).rev());
        let mirrored = |lines: Vec<u64>| lines.into_iter().map(|line| 63 - line).collect::<Vec<_>>();
        assert_eq!(up, (mirrored(down.0), mirrored(down.1)));
    }

    #[test]
    fn it_follows_as_many_pages_as_it_is_told() {
        let interleaved = |pages: u64| (0..64).flat_map(move |line| (0..pages).map(move |page| page * 64 + line));
        let followed = |pages| all(&mut Streamer::new(64, PageSize::Small), interleaved(pages)).0.len() as u64;
        assert_eq!((followed(64), followed(65)), (64 * 54, 0));
    }

    #[test]
    fn in_a_huge_page_it_goes_on() {
        let near = |size| all(&mut Streamer::new(64, size), 0..128).0.len();
        assert_eq!(near(PageSize::Small), 2 * 54);
        assert_eq!(near(PageSize::Huge), 54 + 62);
    }

    /// A page as the list below has it: its number, what it was asked for, and the next line each kind and direction brings.
    type Listed = (u64, Vec<i64>, BTreeMap<(bool, i64), i64>);

    proptest! {
        /// Against a list of pages in order of use, of which each remembers what it was asked for and what it brought.
        #[test]
        fn it_does_what_one_written_apart_does(
            requests in prop::collection::vec((0_u64..6, 0_u64..64, 1_usize..12), 0..120), pages in 1_usize..6,
        ) {
            let mut streamer = Streamer::new(pages as u16, PageSize::Small);
            let mut list: VecDeque<Listed> = VecDeque::new();
            let lines = requests.into_iter().flat_map(|(page, start, run)| {
                (start..64).take(run).map(move |line| (page, line as i64))
            });
            for (page, line) in lines {
                let (mut near, mut far) = (Vec::new(), Vec::new());
                let place = list.iter().position(|(other, ..)| *other == page);
                let (_, mut asked, mut next) = place.and_then(|place| list.remove(place)).unwrap_or_default();
                if asked.last().is_some_and(|last| *last != line) {
                    let way = (line - asked[asked.len() - 1]).signum();
                    asked.push(line);
                    if asked.windows(2).filter(|two| (two[1] - two[0]).signum() == way).count() >= 9 {
                        let mut bring = |far: bool, least: i64, into: &mut Vec<u64>| {
                            // Lines times the direction grow as it goes on.
                            let mut at = next.get(&(far, way)).copied().unwrap_or(i64::MIN).max(least);
                            while into.len() < 2 && at <= line * way + 20 && (0..64).contains(&(at * way)) {
                                into.push(page * 64 + (at * way) as u64);
                                at += 1;
                            }
                            next.insert((far, way), at);
                            at
                        };
                        let beyond = bring(false, line * way + 1, &mut near);
                        bring(true, beyond.max(line * way + 9), &mut far);
                    }
                } else if asked.is_empty() {
                    asked.push(line);
                }
                list.push_front((page, asked, next));
                list.truncate(pages);
                let ahead = streamer.observe(page * 64 + line as u64);
                prop_assert_eq!((ahead.near(), ahead.far()), (&near[..], &far[..]));
            }
        }
    }
}
