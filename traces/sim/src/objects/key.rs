//! What makes an object one, and what it is called in another run of the same program.
//!
//! The rules are those of a recording: the blocks of a site, split by size class and slot where they are large; a global; a
//! thread's stack; a mapped file; named memory; other anonymous memory. An *identity* is a 64-bit hash that is equal between runs of
//! the same program, so that a placement can name an object before the program starts.

use serde::{Deserialize, Serialize};

/// Number of an object in one run: 1, 2, 3... as they are first seen. 0 is what lies in no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectId(pub u32);

impl ObjectId {
    /// What lies in no object.
    pub const NONE: Self = Self(0);

    /// As an index: [`ObjectId::NONE`] has 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What makes an object one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKey {
    /// Blocks of a site.
    Heap {
        /// The site's identity.
        site: u64,
        /// Size class (floor of the binary logarithm of its bytes) and slot (the smallest number that no live block of the site
        /// and class had) of a large block; None for small ones.
        place: Option<(u8, u16)>,
    },
    /// A symbol or a section of a module.
    Global {
        /// Number of the module in this run.
        module: u32,
        /// ELF address.
        elf_address: u64,
    },
    /// The stack of a thread.
    Stack {
        /// Threads are counted as they start: the main thread is 0.
        thread: u32,
    },
    /// A mapped file that is no module, by its path.
    File {
        /// Path.
        path: Box<str>,
    },
    /// Memory of no file, by the name given to it.
    Named {
        /// Name.
        name: Box<str>,
    },
    /// Memory of no file and no name, by its first address when it was first seen.
    Anonymous {
        /// First byte.
        start: u64,
    },
}

/// 64-bit FNV-1a (Fowler, Noll, Vo): small, and the same everywhere.
struct Fnv(u64);

impl Fnv {
    fn new(kind: &str) -> Self {
        Self(0xcbf2_9ce4_8422_2325).bytes(kind.as_bytes())
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        // The end is part of it: "ab" + "c" is not "a" + "bc".
        Self(add(bytes.iter().fold(self.0, add), &0xff))
    }

    fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }
}

impl ObjectKey {
    /// What it is called in any run of the same program. `module` is the path of the module of a global; only its file name
    /// counts, and it is not looked at for other objects.
    pub fn identity(&self, module: &str) -> u64 {
        let Fnv(hash) = match self {
            Self::Heap { site, place: None } => Fnv::new("site").number(*site),
            Self::Heap { site, place: Some((class, slot)) } => {
                Fnv::new("block").number(*site).number(u64::from(*class)).number(u64::from(*slot))
            }
            Self::Global { elf_address, .. } => {
                let name = module.rsplit('/').next().unwrap_or(module);
                Fnv::new("global").bytes(name.as_bytes()).number(*elf_address)
            }
            Self::Stack { thread } => Fnv::new("stack").number(u64::from(*thread)),
            Self::File { path } => Fnv::new("file").bytes(path.as_bytes()),
            Self::Named { name } => Fnv::new("named").bytes(name.as_bytes()),
            Self::Anonymous { start } => Fnv::new("anonymous").number(*start),
        };
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn different_objects_have_different_identities() {
        let keys = [
            ObjectKey::Heap { site: 1, place: None },
            ObjectKey::Heap { site: 1, place: Some((20, 0)) },
            ObjectKey::Heap { site: 1, place: Some((20, 1)) },
            ObjectKey::Heap { site: 1, place: Some((21, 0)) },
            ObjectKey::Global { module: 0, elf_address: 1 },
            ObjectKey::Stack { thread: 1 },
            ObjectKey::File { path: "a".into() },
            ObjectKey::Named { name: "a".into() },
            ObjectKey::Anonymous { start: 1 },
        ];
        let identities: BTreeSet<_> = keys.iter().map(|key| key.identity("/usr/lib/libm.so.6")).collect();
        assert_eq!(identities.len(), keys.len());
    }

    #[test]
    fn a_global_is_the_same_wherever_its_module_lies_and_whatever_its_number() {
        let first = ObjectKey::Global { module: 3, elf_address: 0x4010 };
        let second = ObjectKey::Global { module: 7, elf_address: 0x4010 };
        assert_eq!(first.identity("/home/a/bc"), second.identity("bc"));
        assert_ne!(first.identity("bc"), first.identity("bfs"));
    }

    #[test]
    fn an_identity_never_changes_between_versions() {
        assert_eq!(ObjectKey::Heap { site: 0x1234, place: Some((20, 3)) }.identity(""), IDENTITY);
    }

    /// Computed once; policies and labels on disk hold such numbers.
    const IDENTITY: u64 = 5_093_011_874_265_740_325;
}
