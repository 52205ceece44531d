//! Any text is read or refused. What is read is written again to the same policy, and an update with itself is stable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tierscope_policy::{Policy, update};

fuzz_target!(|text: &str| {
    match Policy::parse(text) {
        Ok(policy) => {
            let written = policy.to_toml();
            assert_eq!(Policy::parse(&written).as_ref(), Ok(&policy), "{written}");
            let once = update(text, &policy).expect("what was read is updated").text;
            let twice = update(&once, &policy).expect("what was updated is updated").text;
            assert_eq!(once, twice);
        }
        Err(errors) => {
            assert!(!errors.errors.is_empty());
            let _ = errors.to_string();
        }
    }
});
