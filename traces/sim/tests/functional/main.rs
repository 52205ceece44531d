//! Caches, TLBs, prefetchers and objects, from outside: against a slow model, and by programs counted by hand.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

mod against_model;
mod steps;
mod support;
mod truths;
