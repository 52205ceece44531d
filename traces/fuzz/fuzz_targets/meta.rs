//! The bytes of `meta.json` of an otherwise empty profile: an error or a profile without rows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tierscope_traces::Profile;

fuzz_target!(|content: &[u8]| {
    let Ok(root) = tempfile::tempdir() else { return };
    if std::fs::write(root.path().join("meta.json"), content).is_ok() {
        if let Ok(profile) = Profile::open(root.path()) {
            assert!(profile.tables().samples.is_empty());
        }
    }
});
