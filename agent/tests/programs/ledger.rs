//! Follows a random ring through 64 MiB and sums a ledger of 64 MiB in order: as many reads of each.
//!
//! The ring's steps depend on each other and miss every cache; the ledger is streamed. The ring must come out on top.

const CELLS: usize = 16 << 20;

#[inline(never)]
fn allocate_ring() -> Vec<u32> {
    vec![0; CELLS]
}

#[inline(never)]
fn allocate_ledger() -> Vec<u32> {
    vec![1; CELLS]
}

fn main() {
    let mut ring = allocate_ring();
    let ledger = allocate_ledger();
    // x -> 5x + 3 modulo a power of two has full period; an odd factor renumbers its cells.
    let place = |number: u32| (number.wrapping_mul(2_654_435_769) as usize) % CELLS;
    let mut at = 0u32;
    for _ in 0..CELLS {
        let next = (at * 5 + 3) % CELLS as u32;
        ring[place(at)] = place(next) as u32;
        at = next;
    }
    let (mut at, mut sum) = (0, 0u64);
    for _ in 0..CELLS {
        at = ring[at] as usize;
    }
    for &entry in &ledger {
        sum += u64::from(entry);
    }
    println!("{at} {sum}");
}
