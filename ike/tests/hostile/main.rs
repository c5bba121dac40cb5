//! A peer of ours that misbehaves, in every way that has hurt an IKE implementation before and some more. Each test
//! names the defence: what is answered, what is counted, and that nothing else has changed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    unused_crate_dependencies
)]

#[path = "../kit/mod.rs"]
mod kit;
mod peer;

mod auth;
mod children;
mod counts;
mod critical;
mod early;
mod exchange_keys;
mod fragments;
mod identity;
mod lengths;
mod loops;
mod message_ids;
mod message_sync;
mod resources;
mod syntax;
mod transport;
