//! The plugin as a file: what QEMU wants it to say of its version.
//!
//! QEMU refuses a plugin whose `qemu_plugin_version` is not one it knows: newer than its own, or (since QEMU 8.2) older than 2. No
//! number suits all, and the variable is read before any of our code runs. So the file is built with a number that no QEMU takes
//! and that occurs nowhere else in it, and whoever puts it on disk writes the one that its QEMU takes over it.

/// The number in the file as it is built is this one plus 1: code that looks for it is not to be found itself.
const BEFORE: i32 = 0x5e71_c3aa;

/// What `qemu_plugin_version` holds until it is written over.
#[cfg_attr(not(feature = "plugin"), allow(dead_code, reason = "the plugin's own"))]
pub(crate) const PLACEHOLDER: i32 = BEFORE + 1;

/// The interface version that a QEMU takes, by its own version (`qemu-x86_64 --version`).
pub fn interface_version(major: u32, minor: u32) -> i32 {
    if (major, minor) >= (8, 2) { 2 } else { 1 }
}

/// The plugin for a QEMU that takes `version`; `None` if `plugin` is not the plugin as it is built.
pub fn with_version(plugin: &[u8], version: i32) -> Option<Vec<u8>> {
    let wanted = std::hint::black_box(BEFORE).wrapping_add(1).to_le_bytes();
    let (words, _) = plugin.as_chunks::<4>();
    let mut places = words.iter().enumerate().filter(|(_, word)| **word == wanted).map(|(index, _)| 4 * index);
    let (Some(at), None) = (places.next(), places.next()) else { return None };
    let mut changed = plugin.to_vec();
    changed.get_mut(at..at + 4)?.copy_from_slice(&version.to_le_bytes());
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_changes() {
        let mut plugin = b"\x7fELF....".to_vec();
        plugin.extend(PLACEHOLDER.to_le_bytes());
        plugin.extend([9, 9]);
        let changed = with_version(&plugin, 2).unwrap();
        assert_eq!(changed, [b"\x7fELF....".as_slice(), &[2, 0, 0, 0, 9, 9]].concat());
        assert_eq!(with_version(b"something else", 2), None);
        assert_eq!(with_version(&changed, 1), None, "it is not there any more");
        assert_eq!(with_version(&plugin[..12].repeat(2), 2), None);
    }

    #[test]
    fn versions_are_those_qemu_takes() {
        let versions = [(7, 2), (8, 1), (8, 2), (9, 0), (10, 0)].map(|(major, minor)| interface_version(major, minor));
        assert_eq!(versions, [1, 1, 2, 2, 2]);
    }
}
