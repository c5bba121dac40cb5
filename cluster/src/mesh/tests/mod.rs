//! Meshes that speak with each other on loopback. Waits are for events, never for time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod asks;
#[cfg(culvert_cost)]
mod cost;
mod identity;
mod packets;
mod pki;
mod silence;
mod streams;
mod world;

use world::*;
