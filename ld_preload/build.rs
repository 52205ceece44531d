//! Links the exported shim against nothing at all: neither C library nor start files, so that the same file loads into
//! programs of any glibc and of musl. What it needs from them it finds among the loaded modules.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_EXPORT").is_none() {
        return;
    }
    for argument in ["-nostdlib", "-nostartfiles", "-Wl,--hash-style=both", "-Wl,-z,now", "-Wl,-z,nodelete"] {
        println!("cargo::rustc-cdylib-link-arg={argument}");
    }
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtierscope_preload.so");
}
