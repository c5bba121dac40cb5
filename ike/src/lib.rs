//! IKEv2 (RFC 7296) as a sans-IO library.
#![forbid(unsafe_code)]

pub mod config;
pub mod crypto;
pub mod host;
pub mod identity;
pub mod proposal;
pub mod wire;

pub use host::Host;
pub use identity::{Identity, IdentityError};
pub use proposal::{EspProposal, IkeProposal, ProposalError};
