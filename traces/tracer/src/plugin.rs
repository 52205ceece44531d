//! What QEMU looks for: `qemu_plugin_version`, and `qemu_plugin_install` with `config=FILE`.

use crate::callbacks;
use crate::config::TracerConfig;
use crate::qemu::{Info, Interface, PluginId};
use crate::{simulation, translate};
use std::ffi::{CStr, c_char, c_int};
use std::path::Path;

/// See [`plugin_file`](crate::plugin_file).
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "QEMU's name")]
pub(crate) static qemu_plugin_version: c_int = crate::plugin_file::PLACEHOLDER;

/// # Safety
///
/// Called by QEMU, once.
#[unsafe(no_mangle)]
unsafe extern "C" fn qemu_plugin_install(
    id: PluginId,
    info: *const Info,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: QEMU's arguments: a record, and as many strings as said.
    let result = unsafe {
        let arguments = (0..count.max(0) as usize).map(|index| CStr::from_ptr(*arguments.add(index)).to_string_lossy());
        install(id, &*info, &arguments.map(|text| text.into_owned()).collect::<Vec<_>>())
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("tierscope: {error}");
            -1
        }
    }
}

/// # Safety
///
/// With what QEMU gave.
unsafe fn install(id: PluginId, info: &Info, arguments: &[String]) -> Result<(), String> {
    // SAFETY: QEMU's string.
    let target = unsafe { CStr::from_ptr(info.target_name) }.to_string_lossy();
    if info.system_emulation || target != "x86_64" {
        return Err(format!("the tracer follows programs of x86-64 in qemu-x86_64, not {target}"));
    }
    let file = match arguments {
        [argument] => argument.strip_prefix("config="),
        _ => None,
    };
    let file = file.ok_or("the plugin takes one argument, config=FILE")?;
    let config = TracerConfig::read(Path::new(file)).map_err(|error| error.to_string())?;
    // SAFETY: QEMU's version.
    let qemu = unsafe { Interface::find(info.version) }
        .map_err(|name| format!("this QEMU's plugin interface, version {}, has no {name}", info.version))?;
    if !qemu.describes_accesses() {
        return Err(format!(
            "this QEMU's plugin interface, version {}, describes accesses in another way",
            info.version
        ));
    }
    if config.ask_for_each {
        translate::ask_for_each();
    }
    simulation::start(config)?;
    // SAFETY: within install.
    unsafe { callbacks::install(id, qemu) };
    Ok(())
}
