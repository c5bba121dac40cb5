//! The rooms of this crate are a stack: each knows only those below it. A circle would tie them into one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::{Path, PathBuf};

/// From the ground up.
const ROOMS: [&str; 19] = [
    "config",
    "logging",
    "phase",
    "room",
    "telemetry",
    "monitoring",
    "exchange",
    "console",
    "manifest",
    "runtime",
    "status",
    "access",
    "wide",
    "services",
    "server",
    "daemon",
    "tunnels",
    "quickstart",
    "cli",
];

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_room_knows_one_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let height = |room: &str| ROOMS.iter().position(|other| *other == room);
    let (mut all, mut seen) = (Vec::new(), 0);
    files(&source, &mut all);
    for file in all {
        let path = file.strip_prefix(&source).unwrap();
        let room = path.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "bin"].contains(&room) {
            continue;
        }
        let own = height(room).unwrap_or_else(|| panic!("{room} has no place in the stack"));
        let text = std::fs::read_to_string(&file).unwrap();
        for used in text.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if let Some(theirs) = height(&used) {
                assert!(theirs <= own, "{}: {room} must not know {used}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "the test no longer finds what it looks for");
}
