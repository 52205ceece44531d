//! Tiers that are known from publications, embedded as the files a reader can print and edit.

use crate::error::{TiersError, did_you_mean};
use crate::tier::{Tier, Tiers};

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        const PRESETS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../presets/", $name, ".toml")))),*];
    };
}

// From memory to storage, the order in which they are listed.
presets!(
    "ddr4",
    "ddr5",
    "remote-ddr4",
    "cxl-asic",
    "cxl-ddr5",
    "optane-100x6",
    "optane-100x1",
    "3dxp-ssd",
    "z-nand",
    "nand-nvme",
);

/// Names of all presets, from memory to storage.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// The file of a preset, as it is.
pub fn text(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The tier of a preset.
///
/// # Errors
///
/// There is no preset of this name; the message has the nearest and all names.
pub fn preset(name: &str) -> Result<Tier, TiersError> {
    let Some(text) = text(name) else {
        let all = names().collect::<Vec<_>>().join(", ");
        let shown: String = name.chars().filter(|letter| !letter.is_control()).take(64).collect();
        let near = did_you_mean(name, names());
        return Err(TiersError::Preset(format!("no tier preset is called `{shown}`{near} (presets: {all})")));
    };
    let mut tiers = Tiers::parse(text)?.0;
    // A preset file has exactly the tier it is named after; a test holds them to it.
    tiers.pop().ok_or_else(|| TiersError::Preset(format!("the preset `{name}` is empty")))
}

impl Tiers {
    /// The tiers of a list of presets, fastest first: `ddr4,optane-100x6`.
    ///
    /// # Errors
    ///
    /// An unknown name, one named twice, or none.
    pub fn of_presets(list: &str) -> Result<Self, TiersError> {
        let mut tiers: Vec<Tier> = Vec::new();
        for name in list.split(',').map(str::trim) {
            if name.is_empty() {
                let message =
                    "a list of tier presets is names with commas between, the fastest first: ddr4,optane-100x6";
                return Err(TiersError::Preset(message.into()));
            }
            let tier = preset(name)?;
            if tiers.iter().any(|known| known.name == tier.name) {
                return Err(TiersError::Preset(format!("the tier preset `{name}` is named twice; name it once")));
            }
            tiers.push(tier);
        }
        Ok(Self(tiers))
    }
}
