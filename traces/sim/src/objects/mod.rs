//! Objects: what is placed as a unit.

mod key;

pub use key::{ObjectId, ObjectKey};
