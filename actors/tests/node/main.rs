//! Real nodes on loopback: what becomes of them when parts of them fail, and when what is configured changes at any moment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unused_crate_dependencies
)]

mod accounts;
mod carried;
mod changes;
mod common;
mod early;
mod elsewhere;
mod healthy;
mod kept_down;
mod missing;
mod moved;
mod names;
mod narrowed;
mod orders;
mod others;
mod overtaken;
mod parts;
mod replaced;
mod resources;
mod rivals;
mod ruled;
mod shown;
mod strangers;
mod supervision;
mod underway;
mod wire;
