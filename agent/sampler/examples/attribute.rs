//! Runs a command, or attaches to a process for some seconds, and prints where its samples fall.
//!
//! ```text
//! attribute [-r HZ] [-s SECONDS] (-p PID | -- COMMAND ARGUMENTS...)
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tierscope_sampler::{Quality, Record, Rule, Sampler, SamplerConfig, Target};

#[path = "../tests/support/mod.rs"]
mod support;

use support::{Attribution, Child, drain_until, maps};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = SamplerConfig::default();
    let (mut pid, mut seconds) = (None, f64::INFINITY);
    let mut words = std::env::args().skip(1);
    let mut command = Vec::new();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or("a value is missing");
        match word.as_str() {
            "-r" => config.rate_hz = value()?.parse()?,
            "-s" => seconds = value()?.parse()?,
            "-p" => pid = Some(value()?.parse::<u32>()?),
            "--" => command.extend(words.by_ref()),
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut child = None;
    let target = match pid {
        Some(pid) => Target::Attach { pid },
        None => {
            let launched = Child::stopped(&arguments, None, None);
            let target = Target::Launch { pid: launched.pid };
            child = Some(launched);
            target
        }
    };
    let (Target::Attach { pid } | Target::Launch { pid }) = target;
    let mut sampler = Sampler::open(target, &config)?;
    if let Some(child) = &mut child {
        child.release();
    }

    let mut attribution = Attribution::new(pid);
    let mut tally = Tally::default();
    let start = Instant::now();
    drain_until(&mut sampler, |records| {
        attribution.refresh();
        for record in records {
            if let Record::Sample(sample) = record
                && sample.pid == pid
            {
                if sample.kernel {
                    tally.kernel += 1;
                    continue;
                }
                let access = attribution.resolve(sample);
                tally.add(access.quality, access.rule, access.instruction, access.stack_relative);
            }
        }
        start.elapsed() > Duration::from_secs_f64(seconds.min(1e6))
    });
    tally.print(pid, attribution.spent);
    println!("{:?}, kernel excluded: {}", sampler.losses(), sampler.excludes_kernel());
    Ok(())
}

#[derive(Default)]
struct Tally {
    kernel: usize,
    user: usize,
    addressed: usize,
    exact: usize,
    stack: usize,
    rules: HashMap<Rule, usize>,
    unaddressed: HashMap<u64, usize>,
}

impl Tally {
    fn add(&mut self, quality: Quality, rule: Rule, instruction: u64, stack: bool) {
        self.user += 1;
        self.exact += usize::from(quality == Quality::Exact);
        self.stack += usize::from(stack);
        *self.rules.entry(rule).or_default() += 1;
        if quality == Quality::None {
            *self.unaddressed.entry(instruction).or_default() += 1;
        } else {
            self.addressed += 1;
        }
    }

    fn print(&self, pid: u32, spent: Duration) {
        let share = |count: usize| 100.0 * count as f64 / self.user.max(1) as f64;
        println!(
            "{} user samples ({} in the kernel): {:.1} % addressed, {:.1} % exact, {:.1} % of the stack; {:.2} us each",
            self.user,
            self.kernel,
            share(self.addressed),
            share(self.exact),
            share(self.stack),
            spent.as_secs_f64() * 1e6 / self.user.max(1) as f64,
        );
        let mut rules: Vec<_> = self.rules.iter().collect();
        rules.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (rule, count) in rules {
            println!("  {:5.1} %  {rule:?}", share(*count));
        }
        let maps = maps(pid);
        let mut worst: Vec<_> = self.unaddressed.iter().collect();
        worst.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (ip, count) in worst.iter().take(12) {
            let map = maps.iter().find(|map| map.range.contains(ip));
            let place = map.map(|map| format!("{}+{:#x}", map.path.display(), **ip - map.range.start + map.offset));
            println!("  unaddressed {count:5} at {ip:#x} {}", place.unwrap_or_default());
        }
    }
}
