//! The prefetchers that go by line and by instruction: which lines are worth having before they are asked for.
//!
//! Both watch what misses the first-level data cache (and, where they fill that one, the first use of what they brought) and
//! fill the second-level cache, or the first where there is no second, or where a streamer (`streamer.rs`) fills the second. Neither crosses a page: hardware knows only physical
//! addresses. Sources: "Intel 64 and IA-32 Architectures Optimization Reference Manual", section on data prefetching of Sandy
//! Bridge and its successors; for the table, Baer and Chen, "An effective on-chip preloading scheme to reduce data access
//! penalty", Supercomputing 1991.
//!
//! * **Next line** (the manual's DCU prefetcher: "triggered by an ascending access to very recently loaded data"): a miss of a line
//!   whose predecessor the core has brings its successor.
//! * **Stride** (the manual's IP-based prefetcher, with the reach of its streamer): a table by instruction remembers the last
//!   address and step. Two equal steps make it sure. It then runs ahead, at most [`ISSUED`] lines for each miss ("two prefetch
//!   requests on every L2 lookup") and `stride_degree` steps in all ("up to 20 lines ahead of the load request"). Steps are compared in
//!   bytes and in lines, since of a walk in steps of 40 bytes only the accesses that enter a line are seen here.

use crate::line::{address_of, line_of};
use crate::machine::LINE_BYTES;

/// Instructions remembered. The IP-based prefetcher of Intel's cores has as many.
const ENTRIES: usize = 256;

/// Most lines asked for at a time.
pub(crate) const ISSUED: usize = 2;

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    ip: u64,
    last: u64,
    step: i64,
    line_step: i64,
    /// The last two steps were equal.
    sure: bool,
    /// Steps from the last address that were asked for already.
    ahead: u8,
}

/// The stride prefetcher of a core.
#[derive(Debug, Clone)]
pub(crate) struct Stride {
    entries: Box<[Entry]>,
    degree: u8,
    page_shift: u32,
}

/// Lines to be brought in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    lines: [u64; ISSUED],
    count: usize,
}

impl Wanted {
    pub(crate) fn lines(&self) -> &[u64] {
        &self.lines[..self.count]
    }

    fn push(&mut self, line: u64) {
        self.lines[self.count] = line;
        self.count += 1;
    }
}

impl Stride {
    pub(crate) fn new(degree: u8, page_shift: u32) -> Self {
        Self { entries: vec![Entry::default(); ENTRIES].into(), degree, page_shift }
    }

    /// Learns of an access by the instruction at `ip`, and says what it will want next.
    pub(crate) fn observe(&mut self, ip: u64, address: u64) -> Wanted {
        let mut wanted = Wanted::default();
        let entry = &mut self.entries[(ip ^ ip >> 8) as usize % ENTRIES];
        if entry.ip != ip {
            *entry = Entry { ip, last: address, ..Entry::default() };
            return wanted;
        }
        let step = address.wrapping_sub(entry.last) as i64;
        let line_step = line_of(address).wrapping_sub(line_of(entry.last)) as i64;
        if step == 0 {
            return wanted;
        }
        let equal = step == entry.step || line_step == entry.line_step && line_step != 0;
        let ahead = if equal && entry.sure { entry.ahead.saturating_sub(1) } else { 0 };
        *entry = Entry { ip, last: address, step, line_step, sure: equal, ahead };
        if !equal {
            return wanted;
        }
        // At least a line at a time, in its direction.
        let least = LINE_BYTES as i64 * step.signum();
        let advance = if step.unsigned_abs() < LINE_BYTES { least } else { step };
        while wanted.count < ISSUED && entry.ahead < self.degree {
            let target = address.wrapping_add_signed(advance.wrapping_mul(i64::from(entry.ahead) + 1));
            if target >> self.page_shift != address >> self.page_shift {
                break;
            }
            entry.ahead += 1;
            wanted.push(line_of(target));
        }
        wanted
    }
}

/// The successor of a line, if it lies in the same page.
pub(crate) fn next_in_page(line: u64, page_shift: u32) -> Option<u64> {
    (address_of(line) >> page_shift == address_of(line + 1) >> page_shift).then_some(line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(stride: &mut Stride, addresses: impl IntoIterator<Item = u64>) -> Vec<u64> {
        addresses.into_iter().flat_map(|address| stride.observe(0x401000, address).lines().to_vec()).collect()
    }

    #[test]
    fn a_steady_step_is_followed_and_each_line_asked_for_once() {
        let mut stride = Stride::new(4, 12);
        let lines = wanted(&mut stride, (0..32).map(|n| 0x10000 + n * 64));
        let first = line_of(0x10000);
        assert_eq!(lines, (first + 3..first + 36).collect::<Vec<_>>());
    }

    #[test]
    fn it_stays_in_the_page_and_goes_on_in_the_next() {
        let mut stride = Stride::new(4, 12);
        let lines = wanted(&mut stride, (0..66).map(|n| n * 64));
        assert!(!lines.contains(&64), "the first line of the next page comes by itself");
        assert_eq!(lines.last(), Some(&68));
        assert!((3..64).all(|line| lines.contains(&line)));
    }

    #[test]
    fn it_follows_downwards_and_in_large_steps_and_by_lines() {
        let down = wanted(&mut Stride::new(2, 21), (0..8).map(|n| (1 << 20) - n * 64));
        assert_eq!(down, (6..16).map(|n| line_of((1 << 20) - (n - 3) * 64)).take(down.len()).collect::<Vec<_>>());
        let large = wanted(&mut Stride::new(1, 21), (0..5).map(|n| n * 1000));
        assert_eq!(large, [3000, 4000, 5000].map(line_of));
        // Steps of 40 bytes enter lines by 40 and 80 bytes in turn.
        let entering = (0..100_u64).map(|n| n * 40).filter(|at| at % 64 < 40);
        assert!(wanted(&mut Stride::new(4, 21), entering).len() > 30);
    }

    #[test]
    fn no_step_no_prefetch() {
        let scattered = [5_u64, 900, 33, 4, 1000, 77].map(|n| n * 4096);
        assert!(wanted(&mut Stride::new(4, 21), scattered).is_empty());
        assert!(wanted(&mut Stride::new(4, 21), [64, 64, 64, 64]).is_empty());
        let mut stride = Stride::new(4, 21);
        for n in 0..20 {
            assert!(stride.observe(n, n * 64).lines().is_empty(), "each by another instruction");
        }
        assert!(stride.observe(3, u64::MAX).lines().is_empty());
    }
}
