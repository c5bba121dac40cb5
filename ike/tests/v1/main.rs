//! IKEv1 between two of our own: phase 1 in both modes, quick mode, renewal, and everything that can differ or go wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr
)]
#![allow(
    clippy::type_complexity,
    clippy::cast_possible_truncation,
    missing_docs,
    unused_crate_dependencies,
    unreachable_pub
)]

#[path = "../kit/mod.rs"]
mod kit;

mod fragments;
#[cfg(feature = "test-hooks")]
mod hostile_quick;
#[cfg(feature = "test-hooks")]
mod informational;
mod interleavings;
mod lifetimes;
#[cfg(feature = "test-hooks")]
mod liveness;
mod matrix;
#[allow(dead_code)] // Named for the whole of them.
mod message;
mod nat;
#[cfg(feature = "test-hooks")]
mod peer;
mod phase1;
mod phase1_fields;
#[cfg(feature = "test-hooks")]
mod phase1_late;
mod phase1_paths;
mod quick;
mod quick_ids;
mod quick_offers;
mod renewed;
mod traffic;

use ike::config::Phase1;
use kit::{Pair, Spec};

/// Both sides of IKEv1, of the same mode.
fn specs(mode: Phase1) -> [Spec; 2] {
    [Spec::left().v1(mode), Spec::right().v1(mode)]
}

/// Both up, with everything that is configured.
fn up(left: &Spec, right: &Spec) -> Pair {
    let mut pair = Pair::up(left, right);
    pair.run(4);
    pair
}

const MODES: [Phase1; 2] = [Phase1::Main, Phase1::Aggressive];
