//! Whether what is to stand behind a tier is on this machine.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Access, access};
use tierscope_tiers::Backend;

use crate::detect::Machine;

/// Why a back end cannot be had on this machine, as a clause; None where nothing speaks against it.
///
/// Directories and devices are looked at now, as this process may use them.
pub fn missing(machine: &Machine, backend: &Backend) -> Option<String> {
    match backend {
        Backend::Numa { nodes, .. } | Backend::Interleave { nodes, .. } => {
            let with_memory = |number: &u16| {
                machine
                    .nodes
                    .iter()
                    .any(|node| node.number == *number && node.total_bytes.is_some_and(|bytes| bytes > 0))
            };
            let absent = nodes.iter().find(|&number| !with_memory(number))?;
            let known: Vec<String> =
                machine.nodes.iter().map(|node| node.number).filter(with_memory).map(|n| n.to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Some(format!("node {absent} has no memory here (nodes that have: {known})"))
        }
        Backend::File { dir } => directory(Path::new(dir)),
        Backend::Dax { device } => match std::fs::metadata(device) {
            Err(error) => Some(format!("{device}: {error}")),
            Ok(found) if !found.file_type().is_char_device() => Some(format!("{device} is no device")),
            Ok(_) => None,
        },
        Backend::Swap => machine.swap.is_empty().then(|| "no swap area is in use here (see swapon)".to_owned()),
    }
}

fn directory(dir: &Path) -> Option<String> {
    let shown = dir.display();
    match std::fs::metadata(dir) {
        Err(error) => Some(format!("{shown}: {error}")),
        Ok(found) if !found.is_dir() => Some(format!("{shown} is no directory")),
        Ok(_) => access(dir, Access::WRITE_OK | Access::EXEC_OK)
            .err()
            .map(|error| format!("{shown} cannot be written to: {}", std::io::Error::from(error))),
    }
}
