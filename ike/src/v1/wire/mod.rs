//! The wire codec of IKEv1 (RFC 2408 section 3, with RFC 2407 for IPsec, RFC 3947 for NAT and RFC 3706 for liveness).
//!
//! The cursor, the writer and the errors are those of [`crate::wire`]; nothing here knows keys or state. Unlike in IKEv2
//! an encrypted message has no integrity check of its own, so the parser is also what notices a wrong key: it lets no
//! reserved bit pass that RFC 2408 section 5.3 tells to check.

pub(crate) mod header;
pub(crate) mod id;
pub(crate) mod numbers;
pub(crate) mod parse;
pub(crate) mod payload;
pub(crate) mod rules;
pub(crate) mod sa;
pub(crate) mod vendor;

pub(crate) use header::{HEADER_LEN, Header, opening};
pub(crate) use id::Id;
pub(crate) use numbers::{Exchange, NotifyType, PayloadType};
pub(crate) use parse::{Chain, parse_chain};
pub(crate) use payload::{Delete, Notify, Payload, Payloads, encode, write_chain};
pub(crate) use sa::{Attribute, Sa, SaProposal, SaTransform, parse_attributes, write_attributes};

#[cfg(test)]
mod tests;
