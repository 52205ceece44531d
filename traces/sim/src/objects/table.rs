//! The objects of a run, numbered as they are first seen.

use super::{ObjectId, ObjectKey};
use crate::counts::Counts;
use crate::line::MOST_OBJECTS;
use crate::outcome::Object;
use rustc_hash::FxHashMap;

/// What is known of an object before anything of it is counted.
#[derive(Debug, Clone)]
struct Entry {
    key: ObjectKey,
    identity: u64,
    name: Box<str>,
    start: u64,
    tid: Option<u32>,
    bytes: u64,
    allocations: u64,
    live_bytes: u64,
    live_bytes_max: u64,
    first_seen: u64,
}

/// How an object is described when it is made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Description {
    /// Path of the module of a global; anything for others.
    pub(crate) module: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) start: u64,
    pub(crate) tid: Option<u32>,
}

/// Objects by key and by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    numbers: FxHashMap<ObjectKey, ObjectId>,
    entries: Vec<Entry>,
    pub(crate) without_room: u64,
}

impl Table {
    /// The number of an object, which is made if need be; [`ObjectId::NONE`] if there is no room.
    pub(crate) fn object(&mut self, key: ObjectKey, now: u64, describe: impl FnOnce() -> Description) -> ObjectId {
        if let Some(object) = self.numbers.get(&key) {
            return *object;
        }
        if self.entries.len() as u32 >= MOST_OBJECTS - 1 {
            self.without_room += 1;
            return ObjectId::NONE;
        }
        let Description { module, name, start, tid } = describe();
        let identity = key.identity(&module);
        self.entries.push(Entry {
            key: key.clone(),
            identity,
            name,
            start,
            tid,
            bytes: 0,
            allocations: 0,
            live_bytes: 0,
            live_bytes_max: 0,
            first_seen: now,
        });
        let object = ObjectId(self.entries.len() as u32);
        self.numbers.insert(key, object);
        object
    }

    fn entry(&mut self, object: ObjectId) -> Option<&mut Entry> {
        self.entries.get_mut(object.index().checked_sub(1)?)
    }

    /// A block of an object was born.
    pub(crate) fn born(&mut self, object: ObjectId, bytes: u64) {
        if let Some(entry) = self.entry(object) {
            entry.allocations += 1;
            entry.bytes = entry.bytes.max(bytes);
            entry.live_bytes = entry.live_bytes.saturating_add(bytes);
            entry.live_bytes_max = entry.live_bytes_max.max(entry.live_bytes);
        }
    }

    /// So many bytes of an object died.
    pub(crate) fn died(&mut self, object: ObjectId, bytes: u64) {
        if let Some(entry) = self.entry(object) {
            entry.live_bytes = entry.live_bytes.saturating_sub(bytes);
        }
    }

    /// An object that is there once, or in pieces, has at least so many bytes.
    pub(crate) fn extends(&mut self, object: ObjectId, bytes: u64) {
        if let Some(entry) = self.entry(object) {
            entry.allocations = 1;
            entry.bytes = entry.bytes.max(bytes);
            entry.live_bytes_max = entry.live_bytes_max.max(bytes);
        }
    }

    /// Key, identity and size of an object.
    pub(crate) fn get(&self, object: ObjectId) -> Option<(&ObjectKey, u64, u64)> {
        let entry = self.entries.get(object.index().checked_sub(1)?)?;
        Some((&entry.key, entry.identity, entry.bytes))
    }

    /// How many there are; their numbers are 1 to this.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All, with their counts by number.
    pub(crate) fn into_objects(self, counts: &[Counts]) -> Vec<Object> {
        let numbered = self.entries.into_iter().zip(1..);
        let object = |(entry, number): (Entry, u32)| Object {
            object: ObjectId(number),
            key: entry.key,
            identity: entry.identity,
            name: entry.name.into(),
            start: entry.start,
            tid: entry.tid,
            bytes: entry.bytes,
            allocations: entry.allocations,
            live_bytes_max: entry.live_bytes_max,
            first_seen: entry.first_seen,
            counts: counts.get(number as usize).copied().unwrap_or_default(),
        };
        numbered.map(object).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_never_change() {
        let mut table = Table::default();
        let (a, b) = (ObjectKey::Stack { thread: 0 }, ObjectKey::Stack { thread: 1 });
        assert_eq!(table.object(a.clone(), 5, Description::default), ObjectId(1));
        assert_eq!(table.object(b, 6, Description::default), ObjectId(2));
        assert_eq!(table.object(a, 7, || unreachable!()), ObjectId(1));
        let objects = table.into_objects(&[Counts::default(), Counts { loads: 3, ..Counts::default() }]);
        assert_eq!(
            objects.iter().map(|o| (o.object.0, o.first_seen, o.counts.loads)).collect::<Vec<_>>(),
            [(1, 5, 3), (2, 6, 0)]
        );
    }

    #[test]
    fn bytes_live_at_the_same_time_are_added() {
        let mut table = Table::default();
        let object = table.object(ObjectKey::Heap { site: 1, place: None }, 0, Description::default);
        table.born(object, 100);
        table.born(object, 50);
        table.died(object, 100);
        table.born(object, 20);
        table.born(ObjectId::NONE, 1);
        table.died(ObjectId(77), 1);
        let objects = table.into_objects(&[]);
        assert_eq!((objects[0].bytes, objects[0].allocations, objects[0].live_bytes_max), (100, 3, 150));
    }
}
