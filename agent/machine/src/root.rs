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

    /// Whether a file or directory is there.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// A file's text, bytes that are no text replaced.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read(self.path(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file of one line.
    pub fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        self.text(path).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// A file of one number.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<i64> {
        self.line(path)?.parse().ok()
    }

    /// The name of what a symbolic link points to.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        target.file_name().map(|name| name.to_string_lossy().into_owned())
    }

    /// A file of one number that is not negative.
    pub fn unsigned(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.line(path)?.parse().ok()
    }

    /// The word in brackets of a choice, as in `always [madvise] never`.
    pub fn chosen(&self, path: impl AsRef<Path>) -> Option<String> {
        let line = self.line(path)?;
        let (_, rest) = line.split_once('[')?;
        rest.split_once(']').map(|(chosen, _)| chosen.to_owned())
    }

    /// The value of a `Key: value` line, as in `/proc/self/status`.
    pub fn field(&self, path: impl AsRef<Path>, key: &str) -> Option<String> {
        let text = self.text(path)?;
        let value = |line: &str| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        };
        text.lines().find_map(value)
    }

    /// The bytes of a `Key:   123 kB` line of a meminfo; a node's lines begin `Node 0 `.
    pub fn kibibytes(&self, path: impl AsRef<Path>, key: &str) -> Option<u64> {
        let text = self.text(path)?;
        let value = |line: &str| {
            let (name, value) = line.split_once(':')?;
            (name.split_whitespace().last() == Some(key)).then(|| value.split_whitespace().next().map(str::to_owned))?
        };
        text.lines().find_map(value)?.parse::<u64>().ok()?.checked_mul(1024)
    }

    /// Names in a directory, sorted, numbers by value.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
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
pub fn members(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse::<u32>().ok()?);
        // The kernel's own limits are far below; a longer range is no list of nodes or CPUs.
        (last.saturating_sub(first) < 65_536).then_some(first..=last)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// A kernel list of these members, ascending: `0-3,8`.
pub fn ranges(members: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &member in members {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(member) => *last = member,
            _ => ranges.push((member, member)),
        }
    }
    let range = |(first, last): (u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

/// `1 node`, `2 nodes`.
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_the_kernel_writes_them() {
        assert_eq!(members("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(ranges(&[0, 1, 2, 5]), "0-2,5");
        assert_eq!(ranges(&[]), "");
        assert_eq!(members(""), [0_u32; 0]);
        assert_eq!(members("4294967295-0,0-4294967295"), [0_u32; 0]);
    }
}
