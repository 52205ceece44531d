//! `tierscope demo`: records the shipped workload and shows the report.

use crate::cli::DemoArguments;
use crate::failure::Failure;

pub(crate) fn run(_arguments: &DemoArguments) -> Result<u8, Failure> {
    Err(Failure::cannot("not wired yet"))
}
