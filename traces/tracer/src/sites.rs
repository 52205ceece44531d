//! Call stacks as the shim tells them, and the sites they are.
//!
//! A stack has a number and addresses that hold for one run. A site's identity is a hash of its frames as (file name of the module,
//! ELF address), so that it is the same wherever the loader put things and in whichever directory the program lies. Code in no module
//! (made at run time) counts as a frame without an address.

use crate::modules::Modules;
use rustc_hash::{FxHashMap, FxHashSet};
use tierscope_sim::{Event, Frame};
use tierscope_wire::trace::FRAMES_AT_ONCE;
use tierscope_wire::{MAX_FRAMES, StackId};

/// The site of blocks whose stack is not known.
pub(crate) const UNKNOWN: u64 = 0;

#[derive(Debug)]
enum Stack {
    /// On its way: frames it will have, and those it has.
    Partial(u32, Vec<u64>),
    Site(u64),
}

/// All stacks and sites of a run.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    stacks: FxHashMap<u32, Stack>,
    told: FxHashSet<u64>,
}

/// A site seen for the first time.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) site: u64,
    pub(crate) frames: Vec<Frame>,
}

impl Fresh {
    pub(crate) fn event(&self) -> Event {
        Event::Site { site: self.site, frames: self.frames.clone().into() }
    }
}

/// A site's identity: 64-bit FNV-1a over its frames. Never [`UNKNOWN`].
pub(crate) fn identity(frames: &[Frame], modules: &Modules) -> u64 {
    let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = frames.iter().fold(0xcbf2_9ce4_8422_2325, |hash, (module, address)| {
        let (name, address) = module.map_or(("", 0), |module| (modules.name(module), *address));
        let hash = name.bytes().chain([0xff]).fold(hash, add);
        address.to_le_bytes().into_iter().fold(hash, add)
    });
    if hash == UNKNOWN { 1 } else { hash }
}

impl Sites {
    /// A stack of so many frames follows.
    pub(crate) fn begin(&mut self, id: StackId, frames: u32) {
        self.stacks.insert(id.0, Stack::Partial(frames.min(MAX_FRAMES as u32), Vec::new()));
    }

    /// Some of its frames. The site, if they are all there now and it is a new one; false if they do not belong there.
    pub(crate) fn add(
        &mut self,
        id: StackId,
        index: u32,
        frames: [u64; FRAMES_AT_ONCE],
        modules: &Modules,
    ) -> Result<Option<Fresh>, ()> {
        let Some(Stack::Partial(wanted, known)) = self.stacks.get_mut(&id.0) else { return Err(()) };
        let missing = (*wanted as usize).saturating_sub(known.len());
        if index as usize != known.len() || missing == 0 {
            return Err(());
        }
        known.extend(frames.iter().take(missing));
        if known.len() < *wanted as usize {
            return Ok(None);
        }
        let frames: Vec<Frame> = known.iter().map(|address| modules.frame(*address)).collect();
        let site = identity(&frames, modules);
        self.stacks.insert(id.0, Stack::Site(site));
        Ok(self.told.insert(site).then_some(Fresh { site, frames }))
    }

    /// The site of a stack.
    pub(crate) fn of(&self, id: StackId) -> Option<u64> {
        match self.stacks.get(&id.0)? {
            Stack::Site(site) => Some(*site),
            Stack::Partial(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_becomes_a_site_when_it_is_whole_and_is_told_once() {
        let (mut sites, modules) = (Sites::default(), Modules::default());
        sites.begin(StackId(7), 4);
        assert!(matches!(sites.add(StackId(7), 0, [1, 2, 3], &modules), Ok(None)));
        assert_eq!(sites.of(StackId(7)), None);
        let fresh = sites.add(StackId(7), 3, [4, 0, 0], &modules).unwrap().unwrap();
        assert_eq!((fresh.frames.len(), sites.of(StackId(7))), (4, Some(fresh.site)));
        sites.begin(StackId(8), 4);
        sites.add(StackId(8), 0, [5, 6, 7], &modules).unwrap();
        assert!(sites.add(StackId(8), 3, [8, 0, 0], &modules).unwrap().is_none(), "frames in no module are alike");
        assert_eq!(sites.of(StackId(8)), Some(fresh.site));
    }

    #[test]
    fn frames_of_nothing_and_out_of_order_are_refused() {
        let (mut sites, modules) = (Sites::default(), Modules::default());
        assert!(sites.add(StackId(1), 0, [1, 2, 3], &modules).is_err());
        sites.begin(StackId(1), 5);
        assert!(sites.add(StackId(1), 3, [1, 2, 3], &modules).is_err());
        sites.begin(StackId(2), 1);
        assert!(sites.add(StackId(2), 0, [1, 2, 3], &modules).unwrap().is_some());
        assert!(sites.add(StackId(2), 1, [1, 2, 3], &modules).is_err());
    }
}
