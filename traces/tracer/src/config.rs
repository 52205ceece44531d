//! What the tracer is asked for, in a file that whoever starts QEMU writes.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A policy that is to be evaluated as a placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyConfig {
    /// A compiled table (`tierscope_wire::policy`), of which rules and globals are read.
    pub table: PathBuf,
    /// Index of the placement in [`tierscope_sim::Config::placements`]; its default is what no rule matches.
    pub placement: u16,
    /// For each tier of the table, in order, its index in [`tierscope_sim::Config::tiers`].
    pub tiers: Vec<u16>,
}

/// Everything the tracer needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TracerConfig {
    /// What is simulated.
    pub simulator: tierscope_sim::Config,
    /// An existing directory, for what comes of it; absolute, for programs change theirs.
    pub directory: PathBuf,
    /// Policies to evaluate.
    #[serde(default)]
    pub policies: Vec<PolicyConfig>,
    /// Each access is told by the emulator, and none follows from another: slower, and the same. For tests.
    #[serde(default)]
    pub ask_for_each: bool,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is no configuration.
    #[error("{path} is no configuration of the tracer: {error}")]
    Parse {
        /// The file.
        path: String,
        /// Why.
        error: serde_json::Error,
    },
    /// The simulator refuses it.
    #[error("the configuration makes no sense: {0}")]
    Simulator(#[from] tierscope_sim::ConfigError),
    /// A field of the tracer's own.
    #[error("the configuration makes no sense: {0}")]
    Field(String),
}

impl TracerConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn read(file: &Path) -> Result<TracerConfig, ConfigError> {
        let path = || file.display().to_string();
        let text = std::fs::read(file).map_err(|error| ConfigError::Read { path: path(), error })?;
        let config: TracerConfig =
            serde_json::from_slice(&text).map_err(|error| ConfigError::Parse { path: path(), error })?;
        config.check()?;
        Ok(config)
    }

    /// Whether it can be used.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], naming the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.simulator.check()?;
        if !self.directory.is_absolute() {
            return Err(ConfigError::Field(format!("directory: {} is not absolute", self.directory.display())));
        }
        for (index, policy) in self.policies.iter().enumerate() {
            if usize::from(policy.placement) >= self.simulator.placements.len() {
                return Err(ConfigError::Field(format!(
                    "policies[{index}].placement: there is no placement {}, only {} from 0",
                    policy.placement,
                    self.simulator.placements.len()
                )));
            }
            if let Some(tier) = policy.tiers.iter().find(|tier| usize::from(**tier) >= self.simulator.tiers.len()) {
                return Err(ConfigError::Field(format!(
                    "policies[{index}].tiers: there is no tier {tier}, only {} from 0",
                    self.simulator.tiers.len()
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_and_the_field_named() {
        let valid = TracerConfig {
            simulator: Default::default(),
            directory: "/run/x".into(),
            policies: Vec::new(),
            ask_for_each: false,
        };
        valid.check().unwrap();
        let relative = TracerConfig { directory: "x".into(), ..valid.clone() };
        assert!(relative.check().unwrap_err().to_string().contains("directory: x is not absolute"));
        let policy = PolicyConfig { table: "/t".into(), placement: 0, tiers: Vec::new() };
        let without = TracerConfig { policies: vec![policy], ..valid };
        assert!(without.check().unwrap_err().to_string().contains("policies[0].placement: there is no placement 0"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = TracerConfig::read(Path::new("/nonexistent/config.json")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the configuration /nonexistent/config.json: No such file"), "{error}");
    }
}
