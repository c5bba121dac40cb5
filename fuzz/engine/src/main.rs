//! libFuzzer around the targets. One program holds them all; `CULVERT_FUZZ_TARGET` names the one to run.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("CULVERT_FUZZ_TARGET").unwrap_or_default();
    let known: Vec<&str> = fuzz::TARGETS.iter().map(|t| t.name).collect();
    match fuzz::target(&name) {
        Some(target) => target.run,
        None => panic!("CULVERT_FUZZ_TARGET is {name:?}, expected one of {known:?}"),
    }
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
