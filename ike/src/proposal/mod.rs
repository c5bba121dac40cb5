//! Proposals as data: a table of algorithms, their text form, and one negotiation for all of them.

pub(crate) mod again;
pub mod candidates;
pub(crate) mod iana;
pub mod ikev1;
pub mod negotiate;
pub mod table;
pub mod text;

pub use candidates::{Candidates, Likely};
pub use negotiate::{EspChoice, IkeChoice};
pub use text::{EspProposal, IkeProposal, ProposalError};
