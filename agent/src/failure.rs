//! What ends a command without its result, and with which exit status.
//!
//! A person is told what is wrong, why, and what mends it; a script is told by the status: 2 for a command line that
//! makes no sense, 3 for something that cannot be done here. The status of a program that was run is passed through
//! and is no failure of ours.

use std::fmt;

/// Why a command ends early.
#[derive(Debug)]
pub struct Failure {
    exit: u8,
    message: String,
    mend: Option<String>,
}

impl Failure {
    /// The command line asks for something that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { exit: 2, message: message.into(), mend: None }
    }

    /// It cannot be done here. `message` says what and why.
    pub fn cannot(message: impl Into<String>) -> Self {
        Failure { exit: 3, message: message.into(), mend: None }
    }

    /// Adds the command or step that mends it.
    pub fn mend(mut self, step: impl Into<String>) -> Self {
        self.mend = Some(step.into());
        self
    }

    /// The status to exit with.
    pub fn exit_status(&self) -> u8 {
        self.exit
    }

    /// Puts an error and its causes into one sentence.
    pub fn from_error(what: &str, error: &dyn std::error::Error) -> Self {
        let mut message = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message.push_str(": ");
                message.push_str(&cause_text);
            }
            source = cause.source();
        }
        Failure::cannot(message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(mend) = &self.mend {
            write!(f, "\n  way out: {mend}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
