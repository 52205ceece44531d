//! The guest's address space, as the simulation's thread knows it: from what happened to what the simulator is told.

use crate::happening::{Happening, Loaded, Mapping};
use crate::loaded;
use crate::modules::Modules;
use crate::outcome::Losses;
use crate::policy::Policy;
use crate::sites::{Sites, UNKNOWN};
use std::collections::BTreeMap;
use tierscope_sim::{Backing, Event};
use tierscope_wire::StackId;
use tierscope_wire::trace::Message;

/// The name of what `brk` gives.
const HEAP: &str = "[heap]";
/// A stack is no larger; what is, is memory that a thread was given part of.
const LARGEST_STACK: u64 = 1 << 30;

/// Everything known of the guest.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    modules: Modules,
    sites: Sites,
    policies: Vec<Policy>,
    /// Code that was mapped, and not looked at yet.
    code: Vec<Mapping>,
    /// Mappings that the program made: start and end.
    mapped: BTreeMap<u64, u64>,
    /// End of the data segment, once known.
    data_end: Option<u64>,
    /// The shim's instructions.
    pub(crate) shim: Option<(u64, u64)>,
    /// Marks so far.
    pub(crate) marks: u64,
}

/// What is told to the simulator, in order.
type Told = Vec<Event>;

impl Guest {
    /// A guest for which these policies are evaluated.
    pub(crate) fn new(policies: Vec<Policy>) -> Guest {
        Guest { policies, ..Guest::default() }
    }

    /// What a happening means. `tid` is the thread's number, which a first happening sets.
    pub(crate) fn understand(&mut self, happening: Happening, tid: &mut u32, told: &mut Told, losses: &mut Losses) {
        if !self.code.is_empty() && !matches!(happening, Happening::Mapped { .. }) {
            self.look_at_code(told);
        }
        match happening {
            Happening::Started { tid: number, loaded } => {
                *tid = number;
                if let Some(loaded) = loaded {
                    self.load(loaded, told);
                }
                told.push(Event::ThreadStarted { tid: number });
            }
            Happening::Ended => told.push(Event::ThreadEnded),
            Happening::Waited => told.push(Event::Waited),
            Happening::Said(Ok(message)) => self.hear(message, told, losses),
            Happening::Said(Err(_)) => losses.senseless_messages += 1,
            Happening::Mapped { address, bytes, file, executable } => self.map(address, bytes, file, executable, told),
            Happening::Unmapped { address, bytes } => {
                self.forget(address, bytes);
                told.push(Event::Unmapped { address, bytes });
            }
            Happening::Remapped { old, old_bytes, address, bytes } => {
                self.forget(old, old_bytes);
                self.forget(address, bytes);
                self.mapped.insert(address, address.saturating_add(bytes));
                told.push(Event::Remapped { old_address: old, old_bytes, address, bytes, site: None });
            }
            Happening::Break(end) => self.move_break(end, told),
            Happening::CodeMapped => {}
        }
    }

    /// A thread's first access by its stack pointer: there is its stack.
    pub(crate) fn stack(&self, address: u64) -> Option<(u64, u64)> {
        let made = self.mapped.range(..=address).next_back().filter(|(_, end)| address < **end);
        let (low, high) = made.map(|(low, high)| (*low, *high)).or_else(|| loaded::mapping_of(address))?;
        (high - low <= LARGEST_STACK && !self.modules.holds(address)).then_some((low, high))
    }

    /// What was there when the program began.
    fn load(&mut self, loaded: Loaded, told: &mut Told) {
        for file in &loaded.files {
            let name = file.path.to_string_lossy().into();
            let bytes = file.end.saturating_sub(file.start);
            told.push(Event::Mapped { address: file.start, bytes, site: None, backing: Backing::File(name) });
        }
        // Its first mapping says where a module lies.
        self.code = loaded.files.into_iter().filter(|file| file.offset == 0).collect();
        self.look_at_code(told);
    }

    fn look_at_code(&mut self, told: &mut Told) {
        for mapping in std::mem::take(&mut self.code) {
            let Some(found) = self.modules.find(&mapping) else { continue };
            told.push(found.event);
            for policy in &self.policies {
                told.extend(policy.of_globals(found.module, &found.globals, &self.modules));
            }
            told.extend(found.globals);
        }
    }

    fn forget(&mut self, address: u64, bytes: u64) {
        let end = address.saturating_add(bytes);
        self.modules.unmap(address, bytes);
        let touched: Vec<(u64, u64)> = self
            .mapped
            .range(..end)
            .rev()
            .take_while(|(_, high)| **high > address)
            .map(|(low, high)| (*low, *high))
            .collect();
        for (low, high) in touched {
            self.mapped.remove(&low);
            if low < address {
                self.mapped.insert(low, address);
            }
            if high > end {
                self.mapped.insert(end, high);
            }
        }
    }

    fn map(
        &mut self,
        address: u64,
        bytes: u64,
        file: Option<(std::path::PathBuf, u64)>,
        executable: bool,
        told: &mut Told,
    ) {
        let end = address.saturating_add(bytes);
        // Parts of a module are mapped over the first mapping of it, and one known before must not be taken for gone.
        self.forget(address, bytes);
        self.mapped.insert(address, end);
        let backing = match file {
            Some((path, offset)) => {
                let name = path.to_string_lossy().into();
                if executable {
                    self.code.push(Mapping { start: address, end, offset, executable, path });
                }
                Backing::File(name)
            }
            None => Backing::Anonymous,
        };
        told.push(Event::Mapped { address, bytes, site: None, backing });
    }

    fn move_break(&mut self, end: u64, told: &mut Told) {
        let before = self.data_end.replace(end).unwrap_or(end);
        if end > before {
            let backing = Backing::Named(HEAP.into());
            told.push(Event::Mapped { address: before, bytes: end - before, site: None, backing });
        } else if end < before {
            told.push(Event::Unmapped { address: end, bytes: before - end });
        }
    }

    fn site(&self, stack: StackId, losses: &mut Losses) -> u64 {
        self.sites.of(stack).unwrap_or_else(|| {
            losses.unknown_stacks += 1;
            UNKNOWN
        })
    }

    fn hear(&mut self, message: Message, told: &mut Told, losses: &mut Losses) {
        match message {
            Message::Hello { start, end } => self.shim = Some((start, end)),
            Message::Stack { id, frames } => self.sites.begin(id, frames),
            Message::Frames { id, index, frames } => match self.sites.add(id, index, frames, &self.modules) {
                Ok(None) => {}
                Ok(Some(fresh)) => {
                    told.push(fresh.event());
                    for policy in &self.policies {
                        told.extend(policy.of_site(fresh.site, &fresh.frames, &self.modules));
                    }
                }
                Err(()) => losses.senseless_messages += 1,
            },
            Message::Allocated { address, bytes, stack } => {
                told.push(Event::Allocated { address, bytes, site: self.site(stack, losses) });
            }
            Message::Freed { address } => told.push(Event::Freed { address }),
            Message::Reallocated { old, address, bytes, stack } => {
                let site = self.site(stack, losses);
                told.push(Event::Reallocated { old_address: old, address, bytes, site });
            }
            // The kernel's own word on mappings was heard already; what it does not know is who asked.
            Message::Mapped { address, bytes, stack, file: false } => {
                let site = Some(self.site(stack, losses));
                told.push(Event::Mapped { address, bytes, site, backing: Backing::Anonymous });
            }
            Message::Mapped { .. } | Message::Unmapped { .. } | Message::Remapped { .. } | Message::Thread { .. } => {}
            Message::Mark { name } => {
                self.marks += 1;
                told.push(Event::Mark { name: String::from_utf8_lossy(name.as_bytes()).into() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(guest: &mut Guest, happening: Happening) -> Told {
        let (mut told, mut tid) = (Vec::new(), 0);
        guest.understand(happening, &mut tid, &mut told, &mut Losses::default());
        told
    }

    fn mapped(address: u64, bytes: u64) -> Happening {
        Happening::Mapped { address, bytes, file: None, executable: false }
    }

    #[test]
    fn a_stack_is_the_mapping_it_lies_in() {
        let mut guest = Guest::default();
        heard(&mut guest, mapped(0x10_0000, 0x10_000));
        assert_eq!(guest.stack(0x10_8000), Some((0x10_0000, 0x11_0000)));
        heard(&mut guest, Happening::Unmapped { address: 0x10_4000, bytes: 0x1000 });
        assert_eq!(guest.stack(0x10_8000), Some((0x10_5000, 0x11_0000)));
        assert_eq!(guest.stack(0x10_2000), Some((0x10_0000, 0x10_4000)));
        heard(&mut guest, mapped(0x20_0000_0000, 2 << 30));
        assert_eq!(guest.stack(0x20_0000_8000), None, "no stack is that large");
    }

    #[test]
    fn the_data_segment_grows_and_shrinks() {
        let mut guest = Guest::default();
        assert_eq!(heard(&mut guest, Happening::Break(0x5000)), []);
        let backing = Backing::Named("[heap]".into());
        let grown = Event::Mapped { address: 0x5000, bytes: 0x2000, site: None, backing };
        assert_eq!(heard(&mut guest, Happening::Break(0x7000)), [grown]);
        let shrunk = Event::Unmapped { address: 0x6000, bytes: 0x1000 };
        assert_eq!(heard(&mut guest, Happening::Break(0x6000)), [shrunk]);
    }

    #[test]
    fn blocks_have_the_site_of_their_stack() {
        let mut guest = Guest::default();
        let say = |guest: &mut Guest, message| heard(guest, Happening::Said(Ok(message)));
        let stack = StackId(3);
        say(&mut guest, Message::Stack { id: stack, frames: 1 });
        let told = say(&mut guest, Message::Frames { id: stack, index: 0, frames: [0x1234, 0, 0] });
        let [Event::Site { site, .. }] = told.as_slice() else { panic!("{told:?}") };
        let told = say(&mut guest, Message::Allocated { address: 16, bytes: 32, stack });
        assert_eq!(told, [Event::Allocated { address: 16, bytes: 32, site: *site }]);
        let told = say(&mut guest, Message::Reallocated { old: 16, address: 64, bytes: 99, stack: StackId(9) });
        assert_eq!(told, [Event::Reallocated { old_address: 16, address: 64, bytes: 99, site: UNKNOWN }]);
    }
}
