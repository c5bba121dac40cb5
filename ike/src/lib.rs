//! IKEv1 (RFC 2409) and IKEv2 (RFC 7296) as a sans-IO library: wire codec, crypto, negotiation and the state machine of a connection.
//!
//! It is not a daemon: it opens no socket, reads no clock, starts no thread and draws no random number. The caller
//! passes datagrams, the time and a [`Host`] in, and takes datagrams, events and the next timeout out. It knows no
//! tenants and moves no ESP packet; the keys of Child SAs leave it as [`Event::InstallChild`].
//!
//! Start with [`Connection`], which is the same for every version of IKE; then `v2/mod.rs` and `v1/mod.rs` have a table
//! each of what is where, by the same names; `proposal/table.rs` has the algorithms, `wire/mod.rs` the codec of IKEv2,
//! `v1/wire/mod.rs` that of IKEv1.
#![forbid(unsafe_code)]

mod asked;
pub mod config;
pub mod connection;
pub mod coverage;
pub mod credentials;
pub mod crypto;
pub mod event;
pub mod explain;
pub mod failure;
mod fruit;
pub mod host;
pub mod identity;
mod mode;
pub mod proposal;
pub mod reception;
mod refusal;
pub mod resources;
mod silence;
mod snapshot;
pub mod supervise;
mod v1;
mod v2;
pub mod verbs;
pub mod wire;

#[cfg(feature = "test-hooks")]
pub use v1::forge;

pub use connection::Connection;
pub use event::{ChildEnd, ChildSa, CloseReason, Datagram, Event, NO_POLICY, Nat, Transmit};
pub use failure::Failure;
pub use host::{Host, NoPeer};
pub use identity::{Identity, IdentityError};
pub use proposal::{Candidates, EspProposal, IkeProposal, ProposalError};
pub use snapshot::{NotNow, RestoreError, Resume, Snapshot};
pub use verbs::{Command, Counters, InitReply, LoggedKeys, Path};
