//! A model as text, and back: what is read is outside data, whoever wrote it.

use thiserror::Error;

use super::Model;
use crate::learn::inputs::Target;

/// What a stored model says it is.
pub(super) const SCHEMA: &str = "tierscope.rank-model/3";

/// Longest text that is read: far more than any model has.
const LONGEST: usize = 64 << 20;

/// Why a stored model is not taken.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It was trained on something else, or by another version.
    #[error("the stored model belongs to another table or version: train again with tierscope train")]
    Stale,
    /// It is no model, or one that cannot be walked.
    #[error("the stored model is damaged ({0}): train again with tierscope train")]
    Damaged(String),
}

/// What a model trained on these files by this version is stored under: 16 hexadecimal digits.
#[must_use]
pub fn key(objects_csv: &str, sets_csv: &str) -> String {
    let parts = [env!("CARGO_PKG_VERSION"), SCHEMA, objects_csv, sets_csv];
    let bytes = parts.iter().flat_map(|part| part.bytes().map(u64::from).chain([0x100]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ byte).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

impl Model {
    /// The model as one line of JSON, under a key.
    #[must_use]
    pub fn to_json(&self, key: &str) -> String {
        let keyed = Self { key: key.into(), ..self.clone() };
        // Neither keys that are no text nor numbers that are none are in it.
        serde_json::to_string(&keyed).unwrap_or_default()
    }

    /// Reads a model that was stored under `key`.
    ///
    /// # Errors
    /// [`StoreError`] where it is something else, or could not be followed safely.
    pub fn from_json(text: &str, key: &str) -> Result<Self, StoreError> {
        let damaged = |what: &str| StoreError::Damaged(what.into());
        if text.len() > LONGEST {
            return Err(damaged("it is too long"));
        }
        let mut model: Self = serde_json::from_str(text).map_err(|error| StoreError::Damaged(error.to_string()))?;
        if model.schema != SCHEMA || model.key != key {
            return Err(StoreError::Stale);
        }
        model.ensemble.inputs.resolve().map_err(|name| damaged(&format!("there is no feature {name}")))?;
        let sound = model.ensemble.is_sound()
            && model.ensemble.target == Target::Correction
            && model.bias.is_finite()
            && model.conformal.is_sound()
            && model.fallback.is_sound()
            && model.forecast.is_sound();
        if !sound {
            return Err(damaged("its numbers cannot be"));
        }
        model.key = String::new();
        Ok(model)
    }
}
