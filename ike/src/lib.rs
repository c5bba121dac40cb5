//! IKEv2 (RFC 7296) as a sans-IO library.
#![forbid(unsafe_code)]

pub mod identity;
pub mod proposal;
pub mod wire;

pub use identity::{Identity, IdentityError};
pub use proposal::{EspProposal, IkeProposal, ProposalError};
