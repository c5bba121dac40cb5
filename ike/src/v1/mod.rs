//! IKEv1 (RFC 2409): wire codec, key schedule and proposals.
#![allow(dead_code, unused_imports)] // Until the state machine beside it uses all of it.

mod keys;
mod offer;
mod wire;

#[cfg(test)]
mod captures;
