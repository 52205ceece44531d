//! What is not memory of a node and can stand in for it: DAX devices, swap, and file systems by what is below them.

use std::path::Path;

use serde::Serialize;

use crate::root::Root;

/// Bytes below which a file tier is of no use.
const LEAST_FREE: u64 = 64 << 20;

/// A device of memory that programs map directly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DaxDevice {
    /// Such as `dax0.0`.
    pub name: String,
    /// Bytes.
    pub bytes: Option<u64>,
    /// The node it is nearest to, or would become.
    pub target_node: Option<u16>,
    /// `device_dax` for a device to map, `kmem` for one that became memory of its target node.
    pub driver: Option<String>,
}

/// What is below a file system or swap area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// Memory: tmpfs.
    Memory,
    /// Persistent memory.
    Pmem,
    /// Compressed memory.
    Zram,
    /// An NVMe drive.
    Nvme,
    /// Another drive without moving parts.
    Flash,
    /// A disk of a virtual machine: what is below is the host's.
    Virtio,
    /// A file that is a device.
    Loop,
    /// A drive with moving parts.
    Rotational,
    /// Directories of another file system, as in containers.
    Overlay,
    /// The kernel does not say.
    Other,
}

impl DeviceKind {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pmem => "persistent memory",
            Self::Zram => "zram",
            Self::Nvme => "nvme",
            Self::Flash => "ssd",
            Self::Virtio => "virtio disk",
            Self::Loop => "loop device",
            Self::Rotational => "rotating disk",
            Self::Overlay => "overlay",
            Self::Other => "unknown device",
        }
    }
}

/// Compression of a zram device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Zram {
    /// Such as `zstd`.
    pub algorithm: Option<String>,
    /// Bytes it can hold before compression.
    pub disk_bytes: Option<u64>,
    /// Bytes of memory it takes now.
    pub memory_bytes: Option<u64>,
}

/// A swap area in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwapArea {
    /// The device or file.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Areas of higher priority are used first.
    pub priority: i32,
    /// What it is on; `Other` for a file.
    pub kind: DeviceKind,
    /// For compressed memory, how.
    pub zram: Option<Zram>,
}

/// A file system a file tier could be on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// Where it is mounted.
    pub directory: String,
    /// Such as `ext4`.
    pub filesystem: String,
    /// The device as the mount says it.
    pub device: String,
    /// What the device is.
    pub kind: DeviceKind,
    /// Whether mappings of its files are the memory itself (mounted with `dax`).
    pub dax: bool,
    /// Bytes.
    pub total_bytes: u64,
    /// Bytes this user may still write.
    pub free_bytes: u64,
}

/// All DAX devices.
pub fn dax_devices(root: &Root) -> Vec<DaxDevice> {
    let base = "/sys/bus/dax/devices";
    let device = |name: String| DaxDevice {
        bytes: root.unsigned(format!("{base}/{name}/size")),
        target_node: root.unsigned(format!("{base}/{name}/target_node")).and_then(|node| u16::try_from(node).ok()),
        driver: root.link_name(format!("{base}/{name}/driver")),
        name,
    };
    root.names(base).into_iter().map(device).collect()
}

/// Swap areas in use.
pub fn swap_areas(root: &Root) -> Vec<SwapArea> {
    let text = root.text("/proc/swaps").unwrap_or_default();
    let area = |line: &str| {
        let mut fields = line.split_whitespace();
        let (path, sort) = (unescaped(fields.next()?), fields.next()?);
        let mut kibibytes = || fields.next()?.parse::<u64>().ok()?.checked_mul(1024);
        let (bytes, used_bytes) = (kibibytes()?, kibibytes()?);
        let priority = fields.next()?.parse().ok()?;
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let kind =
            if sort == "partition" { kind(root, &format!("/sys/class/block/{name}")) } else { DeviceKind::Other };
        let zram = (kind == DeviceKind::Zram).then(|| zram(root, &name));
        Some(SwapArea { path, bytes, used_bytes, priority, kind, zram })
    };
    text.lines().skip(1).filter_map(area).collect()
}

fn zram(root: &Root, name: &str) -> Zram {
    let base = format!("/sys/block/{name}");
    // The third number of mm_stat is the memory in use.
    let statistics = root.line(format!("{base}/mm_stat")).unwrap_or_default();
    Zram {
        algorithm: root.chosen(format!("{base}/comp_algorithm")),
        disk_bytes: root.unsigned(format!("{base}/disksize")),
        memory_bytes: statistics.split_whitespace().nth(2).and_then(|bytes| bytes.parse().ok()),
    }
}

/// The kind of a block device by its directory in sysfs, which may be a link.
fn kind(root: &Root, directory: &str) -> DeviceKind {
    let Ok(mut real) = std::fs::canonicalize(root.path(directory)) else { return DeviceKind::Other };
    // Devices may be stacked (encryption on volumes on partitions); the kernel allows no deeper stacks than this.
    for _ in 0..8 {
        let below = std::fs::read_dir(real.join("slaves")).ok().and_then(|mut entries| entries.next()?.ok());
        match below.and_then(|entry| std::fs::canonicalize(entry.path()).ok()) {
            Some(next) => real = next,
            None => break,
        }
    }
    // A partition is a directory inside that of its disk.
    if real.join("partition").exists()
        && let Some(disk) = real.parent()
    {
        real = disk.to_owned();
    }
    let name = real.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let kinds = [
        ("zram", DeviceKind::Zram),
        ("pmem", DeviceKind::Pmem),
        ("nvme", DeviceKind::Nvme),
        ("vd", DeviceKind::Virtio),
        ("xvd", DeviceKind::Virtio),
        ("loop", DeviceKind::Loop),
    ];
    if let Some((_, kind)) = kinds.into_iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return kind;
    }
    let flag = std::fs::read_to_string(real.join("queue/rotational")).unwrap_or_default();
    match flag.trim() {
        "0" => DeviceKind::Flash,
        "1" => DeviceKind::Rotational,
        _ => DeviceKind::Other,
    }
}

/// Mounted file systems on which a file tier makes sense: writable directories of this machine's own devices with some space.
/// One mount for each device, the one with the shortest path.
pub fn filesystems(root: &Root) -> Vec<Filesystem> {
    let text = root.text("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<(String, Filesystem)> = Vec::new();
    for (device, filesystem) in text.lines().filter_map(|line| mount(root, line)) {
        // A later mount at the same place hides the earlier.
        found.retain(|(_, other)| other.directory != filesystem.directory);
        match found.iter_mut().find(|(other, _)| *other == device) {
            Some((_, other)) if filesystem.directory.len() < other.directory.len() => *other = filesystem,
            Some(_) => {}
            None => found.push((device, filesystem)),
        }
    }
    let mut found: Vec<Filesystem> = found.into_iter().map(|(_, filesystem)| filesystem).collect();
    found.sort_by(|left, right| left.directory.cmp(&right.directory));
    found
}

/// The file system a directory is on, by the longest mount point above it.
pub fn filesystem_of<'a>(all: &'a [Filesystem], directory: &Path) -> Option<&'a Filesystem> {
    let above = all.iter().filter(|filesystem| directory.starts_with(&filesystem.directory));
    above.max_by_key(|filesystem| filesystem.directory.len())
}

/// A line of mountinfo: `27 1 254:0 / /mnt rw,relatime - ext4 /dev/vda rw`, with optional fields before the dash.
fn mount(root: &Root, line: &str) -> Option<(String, Filesystem)> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let (number, point) = (fields.nth(2)?, unescaped(fields.nth(1)?));
    let options = fields.next()?;
    let mut fields = after.split(' ');
    let (sort, device) = (fields.next()?, unescaped(fields.next()?));
    let more = fields.next().unwrap_or_default();
    let has = |wanted: &str| options.split(',').chain(more.split(',')).any(|option| option == wanted);
    let kind = match sort {
        "tmpfs" => DeviceKind::Memory,
        "overlay" => DeviceKind::Overlay,
        "zfs" => DeviceKind::Other,
        "squashfs" | "iso9660" | "udf" | "vfat" | "erofs" => return None,
        // btrfs and others have a number of their own instead of the device's.
        _ => match device.strip_prefix("/dev/") {
            Some(_) if !number.starts_with("0:") => kind(root, &format!("/sys/dev/block/{number}")),
            Some(name) => kind(root, &format!("/sys/class/block/{name}")),
            None => return None,
        },
    };
    let hidden = ["/proc", "/sys", "/dev", "/boot"];
    let inside = |folder: &str| point.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if has("ro") || (point != "/dev/shm" && hidden.iter().any(|folder| inside(folder))) {
        return None;
    }
    let path = root.path(&point);
    if !path.is_dir() {
        return None;
    }
    let space = rustix::fs::statvfs(&path).ok()?;
    let total_bytes = space.f_blocks.saturating_mul(space.f_frsize);
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    let dax = has("dax") || has("dax=always");
    (free_bytes >= LEAST_FREE).then(|| {
        let filesystem =
            Filesystem { directory: point, filesystem: sort.to_owned(), device, kind, dax, total_bytes, free_bytes };
        (number.to_owned(), filesystem)
    })
}

/// Text in which the kernel wrote blanks and the like as `\040`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_mount_tables_are_undone() {
        assert_eq!(unescaped("/mnt/a\\040b\\134c"), "/mnt/a b\\c");
        assert_eq!(unescaped("\\04"), "\\04");
        assert_eq!(unescaped("\\999"), "\\999");
    }
}
