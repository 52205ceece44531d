//! Objects: what is placed as a unit, and which of them lies at an address.

mod intervals;
mod key;
mod shadow;
mod slots;
mod space;
mod table;

pub use key::{ObjectId, ObjectKey};
pub(crate) use shadow::{Changed, SPACE, Shadow, Within};
pub use slots::{LAST_SLOT, Place, SLOTTED_BYTES, Slots};
pub(crate) use space::{Now, Space};
