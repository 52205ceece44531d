//! `tierscope report`: opens a profile, summarises it, shows it.

use crate::cli::ReportArguments;
use crate::failure::Failure;

pub(crate) fn run(_arguments: &ReportArguments) -> Result<u8, Failure> {
    Err(Failure::cannot("not wired yet"))
}
