//! The executable as a user has it, on programs as users have them.
//!
//! Each program is run twice, alone and under `tierscope record`, and must not notice: same output, same status. The
//! profile must open, hold to the contract of `report --json`, and name as the object that costs most the one that the
//! program was written to make so; each test says which and why before it looks.
//!
//! A test that needs a tool which is not there fails and names it, unless `TIERSCOPE_TESTS_WITHOUT` (a list of
//! requirements separated by commas) says that this is known; it then says loudly what was not tested.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod advise;
mod attribution;
mod compiled;
mod control;
mod damage;
mod demo;
mod environment;
mod eval_program;
mod harness;
mod interpreters;
mod label;
mod loading;
mod needs;
mod place;
mod profile;
mod redis;
mod refusals;
mod simulate;
mod tiers;
