//! Who may call what, and how much of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod bounds;
mod callers;
#[path = "../common/mod.rs"]
mod common;
mod noted;
mod tokens;
mod world;
