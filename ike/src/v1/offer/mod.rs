//! Proposals as data, and the SA payloads of IKEv1: what is configured becomes an offer, and an offer becomes proposals
//! with IKEv2's numbers, so that there is one negotiation for both.

mod life;
mod numbers;
mod phase1;
mod quick;

pub(crate) use life::{OfferedLife, phase1_life, phase2_life};
pub(crate) use numbers::Method;
pub(crate) use phase1::{Phase1Offer, answer_phase1, phase1, read_phase1};
pub(crate) use quick::{Encapsulation, QuickOffer, answer_quick, quick, read_quick};

/// Transforms in one offer. A configuration that makes sense has under 20 combinations; with more, messages would be torn
/// into fragments of IP, which many a path does not carry.
const MAX_OFFERED: usize = 64;
