//! Sites and objects of one profile, numbered as they are first seen.
//!
//! Numbers are dense and never reused, so that rows written minutes apart agree. A row is written again when it has
//! changed (an object has seen a larger block); readers take the last.

use rustc_hash::FxHashMap;
use std::sync::Arc;
use tierscope_traces::{ObjectKind, ObjectRow, SiteRow};

/// A frame: module and ELF address of the return address, or no module and the absolute one.
pub(super) type Frame = (Option<u32>, u64);

/// What makes an object one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ObjectKey {
    /// Blocks of a site, by size class and slot where they are large.
    Heap { site: u32, place: Option<(u8, u16)> },
    /// A symbol or a section of a module, by its ELF address.
    Global { module: u32, start: u64 },
    /// The stack of a thread.
    Stack { tid: u32 },
    /// A mapped file that is no module.
    File { path: Arc<std::path::PathBuf> },
    /// Memory of no file, by the name given to it.
    Named { name: Arc<str> },
    /// Memory of no file and no name, by its first address.
    Anonymous { start: u64 },
}

impl ObjectKey {
    fn kind(&self) -> ObjectKind {
        match self {
            ObjectKey::Heap { .. } => ObjectKind::Heap,
            ObjectKey::Global { .. } => ObjectKind::Global,
            ObjectKey::Stack { .. } => ObjectKind::Stack,
            ObjectKey::File { .. } => ObjectKind::File,
            ObjectKey::Named { .. } | ObjectKey::Anonymous { .. } => ObjectKind::Anon,
        }
    }
}

/// Sites and objects.
#[derive(Debug, Clone, Default)]
pub(super) struct Objects {
    sites: FxHashMap<Arc<[Frame]>, u32>,
    frames: Vec<Arc<[Frame]>>,
    sites_written: usize,
    numbers: FxHashMap<ObjectKey, u32>,
    rows: Vec<ObjectRow>,
    dirty: Vec<u32>,
}

impl Objects {
    /// The number of a site.
    pub(super) fn site(&mut self, frames: &[Frame]) -> u32 {
        if let Some(site) = self.sites.get(frames) {
            return *site;
        }
        let site = self.frames.len() as u32;
        let frames: Arc<[Frame]> = frames.into();
        self.frames.push(frames.clone());
        self.sites.insert(frames, site);
        site
    }

    /// The number of an object that is known.
    pub(super) fn get(&self, key: &ObjectKey) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// The number of an object, which is made if need be; `name` and `start` are asked for then. It is at least `bytes`
    /// large.
    pub(super) fn object(
        &mut self,
        key: ObjectKey,
        bytes: u64,
        time_ns: u64,
        describe: impl FnOnce() -> (String, u64),
    ) -> u32 {
        if let Some(number) = self.numbers.get(&key) {
            if let Some(row) = self.rows.get_mut(*number as usize)
                && row.bytes < bytes
            {
                row.bytes = bytes;
                self.dirty.push(*number);
            }
            return *number;
        }
        let number = self.rows.len() as u32;
        let (name, start) = describe();
        let (site, place) = match key {
            ObjectKey::Heap { site, place } => (Some(site), place),
            _ => (None, None),
        };
        self.rows.push(ObjectRow {
            object: number,
            kind: key.kind(),
            site,
            size_class: place.map(|(class, _)| class),
            slot: place.map(|(_, slot)| slot),
            module: if let ObjectKey::Global { module, .. } = key { Some(module) } else { None },
            name,
            start,
            bytes,
            tid: if let ObjectKey::Stack { tid } = key { Some(tid) } else { None },
            first_seen_ns: time_ns,
        });
        self.dirty.push(number);
        self.numbers.insert(key, number);
        number
    }

    /// Frames of all sites.
    pub(super) fn all_frames(&self) -> impl Iterator<Item = Frame> {
        self.frames.iter().flat_map(|frames| frames.iter().copied())
    }

    /// Site rows to write now.
    pub(super) fn take_sites(&mut self) -> impl Iterator<Item = SiteRow> {
        let from = std::mem::replace(&mut self.sites_written, self.frames.len());
        let new = self.frames.iter().enumerate().skip(from);
        new.flat_map(|(site, frames)| {
            frames.iter().enumerate().map(move |(depth, (module, offset))| SiteRow {
                site: site as u32,
                depth: depth as u16,
                module: *module,
                offset: *offset,
            })
        })
    }

    /// Object rows to write now.
    pub(super) fn take_objects(&mut self) -> impl Iterator<Item = ObjectRow> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        dirty.into_iter().filter_map(|number| self.rows.get(number as usize).cloned())
    }

    /// Everything is to be written again: into another profile.
    pub(super) fn mark_all_dirty(&mut self) {
        self.sites_written = 0;
        self.dirty = (0..self.rows.len() as u32).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_rows_are_written_when_they_change() {
        let mut objects = Objects::default();
        let site = objects.site(&[(Some(0), 0x10), (None, 0x20)]);
        assert_eq!(objects.site(&[(Some(0), 0x10), (None, 0x20)]), site);
        assert_ne!(objects.site(&[(Some(0), 0x10)]), site);
        let key = ObjectKey::Heap { site, place: Some((20, 3)) };
        let nothing = || (String::new(), 0);
        let number = objects.object(key.clone(), 100, 1, nothing);
        assert_eq!(objects.take_objects().map(|row| (row.object, row.slot)).collect::<Vec<_>>(), [(number, Some(3))]);
        objects.object(key.clone(), 50, 2, nothing);
        assert_eq!(objects.take_objects().count(), 0);
        objects.object(key, 200, 3, nothing);
        assert_eq!(objects.take_objects().map(|row| row.bytes).collect::<Vec<_>>(), [200]);
        assert_eq!(objects.take_sites().count(), 3);
        assert_eq!(objects.take_sites().count(), 0);
        objects.mark_all_dirty();
        assert_eq!((objects.take_sites().count(), objects.take_objects().count()), (3, 1));
    }
}
