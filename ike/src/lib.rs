//! IKEv2 (RFC 7296) as a sans-IO library: wire codec, crypto, negotiation and the state machine of a connection.
//!
//! It is not a daemon: it opens no socket, reads no clock, starts no thread and draws no random number. The caller
//! passes datagrams, the time and a [`Host`] in, and takes datagrams, events and the next timeout out. It knows no
//! tenants and moves no ESP packet; the keys of Child SAs leave it as [`Event::InstallChild`].
//!
//! Start with [`Connection`], which is the same for every version of IKE; then `v2/mod.rs` has a table of what is where in
//! IKEv2, `proposal/table.rs` the algorithms, `wire/mod.rs` the codec.
#![forbid(unsafe_code)]

pub mod config;
pub mod connection;
pub mod coverage;
pub mod crypto;
pub mod event;
pub mod explain;
pub mod failure;
pub mod host;
pub mod identity;
pub mod proposal;
pub mod reception;
pub mod supervise;
mod v1;
mod v2;
pub mod verbs;
pub mod wire;

pub use connection::Connection;
pub use event::{ChildEnd, ChildSa, CloseReason, Datagram, Event, Nat, Transmit};
pub use failure::Failure;
pub use host::{Host, NoPeer};
pub use identity::{Identity, IdentityError};
pub use proposal::{Candidates, EspProposal, IkeProposal, ProposalError};
pub use verbs::{Command, Counters, InitReply, LoggedKeys, Path};
