//! The API reference of the book is that of these files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../examples/reference.rs"]
mod reference;

#[test]
fn the_reference_in_the_book_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/api.md");
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let made = reference::text().unwrap();
    assert!(made.contains("### CreatePeer") && made.contains("| `remote_identity` | string |"), "{made}");
    assert!(kept == made, "docs/src/api.md is not what the protos say: `make docs-api` writes it");
}
