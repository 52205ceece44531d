//! Several cores.

use super::*;

const N: u64 = 4000;

fn stream(lab: &mut Lab, cpus: usize, stretch: u64) -> u64 {
    let body = block(&[load(RBX, RAX)]);
    let mut at = vec![0; cpus];
    for _ in 0..N / stretch {
        for (cpu, at) in at.iter_mut().enumerate() {
            for _ in 0..stretch {
                let address = (cpu as u64 + 1) * 0x1000_0000 + *at * 64;
                lab.run_on(cpu, &body, &[touch(0, address, Level::Memory, 1)], &[]);
                *at += 1;
            }
        }
    }
    lab.fast()
}

#[test]
fn threads_share_the_bandwidth_of_a_tier() {
    let mut config = config();
    config.tiers = vec![tier("fast", 20.0, 10.0), tier("slow", 40.0, 2.5)];
    for stretch in [1, 100, 1000] {
        let one = stream(&mut Lab::new(&config), 1, stretch);
        let two = stream(&mut Lab::new(&config), 2, stretch);
        near(one, 6.4 * N as f64, 0.02);
        near(two, 2.0 * 6.4 * N as f64, 0.05);
    }
}

#[test]
fn threads_do_not_disturb_each_other_where_there_is_enough() {
    let one = stream(&mut Lab::new(&config()), 1, 1);
    let four = stream(&mut Lab::new(&config()), 4, 1);
    // Each begins when it is first seen, a latency after the one before.
    near(four, one as f64 + 300.0, 0.01);
}

#[test]
fn who_waited_goes_on_at_the_latest_clock() {
    let mut lab = Lab::new(&config());
    let chase = block(&[load(RAX, RAX)]);
    let step = |lab: &mut Lab, cpu: usize, n: u64| {
        lab.run_on(cpu, &chase, &[touch(0, 0x100_0000 * (cpu as u64 + 1) + n * 4096, Level::Memory, 1)], &[]);
    };
    step(&mut lab, 0, 0);
    step(&mut lab, 1, 0);
    (1..100).for_each(|n| step(&mut lab, 0, n));
    // Beside the other until it waits, after it from then on.
    (1..50).for_each(|n| step(&mut lab, 1, n));
    near(lab.fast(), 10_000.0, 0.02);
    lab.0.waited(1);
    (50..150).for_each(|n| step(&mut lab, 1, n));
    near(lab.fast(), 20_000.0, 0.02);
    near(lab.slow(), 60_000.0, 0.02);
    // Counters say how long cores ran: neither what one waited nor what passed before it began.
    let counters = lab.0.counters();
    near(counters.cycles, 25_000.0, 0.02);
    near(counters.read_cycles, 25_000.0, 0.02);
    assert_eq!(counters.reads, 250);
}

#[test]
fn a_thread_begins_when_it_is_first_seen() {
    let mut lab = Lab::new(&config());
    let chase = block(&[load(RAX, RAX)]);
    for cpu in 0..3 {
        (0..100).for_each(|n| lab.run_on(cpu, &chase, &[touch(0, n * 4096, Level::Memory, 1)], &[]));
    }
    near(lab.fast(), 30_000.0, 0.02);
}
