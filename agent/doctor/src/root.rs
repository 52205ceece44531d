//! Reading `/proc` and `/sys`, or a tree in their likeness.
//!
//! Every file may be absent (another kernel, another architecture, a container that hides it); absence is `None` and
//! never an error.

use std::path::{Path, PathBuf};

/// The directory that stands for `/`.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl Root {
    /// A tree other than the machine's own.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path of an absolute path in this tree.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(crate) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// A file's text, bytes that are no text replaced.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read(self.path(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file of one line.
    pub(crate) fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        self.text(path).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    pub(crate) fn number(&self, path: impl AsRef<Path>) -> Option<i64> {
        self.line(path)?.parse().ok()
    }

    /// The word in brackets of a choice, as in `always [madvise] never`.
    pub(crate) fn chosen(&self, path: impl AsRef<Path>) -> Option<String> {
        let line = self.line(path)?;
        let (_, rest) = line.split_once('[')?;
        rest.split_once(']').map(|(chosen, _)| chosen.to_owned())
    }

    /// The value of a `Key: value` line, as in `/proc/self/status`.
    pub(crate) fn field(&self, path: impl AsRef<Path>, key: &str) -> Option<String> {
        let text = self.text(path)?;
        let value = |line: &str| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        };
        text.lines().find_map(value)
    }

    /// Names in a directory, sorted, numbers by value.
    pub(crate) fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(path)) else { return Vec::new() };
        let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort_by_key(|name| {
            let digits = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
            (name[..name.len() - digits.len()].to_owned(), digits.parse::<u64>().unwrap_or(0), name.clone())
        });
        names
    }
}

/// The members of a kernel list such as `0-3,8`.
pub(crate) fn members(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse::<u32>().ok()?);
        // The kernel's own limits are far below; a longer range is no list of nodes or CPUs.
        (last.saturating_sub(first) < 65_536).then_some(first..=last)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Bytes in the unit a reader would choose: `23.5 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = format!("{value:.*}", if value >= 100.0 { 0 } else { 1 });
    format!("{} {}", digits.strip_suffix(".0").unwrap_or(&digits), UNITS[unit])
}

/// `1 node`, `2 nodes`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_sizes_read_as_the_kernel_writes_them() {
        assert_eq!(members("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(members(""), [0_u32; 0]);
        assert_eq!(members("4294967295-0,0-4294967295"), [0_u32; 0]);
        assert_eq!(human(512), "512 B");
        assert_eq!(human(24 << 30), "24 GiB");
        assert_eq!(human((8 << 30) - 4096), "8 GiB");
        assert_eq!(human((23 << 30) + (1 << 29)), "23.5 GiB");
    }
}
