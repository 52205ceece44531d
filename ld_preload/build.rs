//! Links the exported shim against nothing at all: neither C library nor start files, so that the same file loads into
//! programs of any glibc and of musl. What it needs from them it finds among the loaded modules.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_EXPORT").is_none() {
        return;
    }
    for argument in ["-nostdlib", "-nostartfiles", "-Wl,--hash-style=both", "-Wl,-z,now", "-Wl,-z,nodelete"] {
        println!("cargo::rustc-cdylib-link-arg={argument}");
    }
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtierscope_preload.so");
    // A dependency of the arena's allocator names the C library to the linker, though nothing of it is used; found, it
    // would be needed by name and its symbols bound by version. An empty archive of that name is found first.
    let Some(nothing) = std::env::var_os("OUT_DIR").map(|directory| Path::new(&directory).join("no-c-library")) else {
        return;
    };
    let archives = ["c", "m", "rt", "pthread", "util", "dl", "gcc_s"].map(|name| nothing.join(format!("lib{name}.a")));
    let written = std::fs::create_dir_all(&nothing)
        .and_then(|()| archives.iter().try_for_each(|archive| std::fs::write(archive, "!<arch>\n")));
    match written {
        Ok(()) => println!("cargo::rustc-cdylib-link-arg=-L{}", nothing.display()),
        Err(error) => println!("cargo::error=cannot write {}: {error}", nothing.display()),
    }
}
