//! Measure this machine, and the directories named, and print what was found: `cargo run --example here -- /mnt/tier`.

use std::ops::ControlFlow;

use tierscope_machine::{Request, Root, detect, measure, render_text};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let machine = detect(&Root::default());
    let directories = std::env::args_os().skip(1).map(Into::into).collect();
    let measured = measure(&machine, &Request { directories, ..Request::default() }, &mut |part, what| {
        eprint!("\r{:3.0} % {what:60}", part * 100.0);
        ControlFlow::Continue(())
    })?;
    eprintln!();
    println!("{}", render_text(&machine, &measured.tiers, &measured.failures, 100));
    println!("{}", measured.tiers.to_toml());
    Ok(())
}
