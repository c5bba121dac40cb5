//! Whether an answer is one to what was asked: algorithms, and the subnets of quick mode.

use super::offer::{self, OfferedLife, QuickOffer};
use super::wire::Sa;
use crate::config::ChildConfig;
use crate::failure::Failure;
use crate::proposal::{EspChoice, IkeChoice, IkeProposal, negotiate};
use crate::wire::sa::Proposal;
use crate::wire::ts;

/// Checks the answer to an offer of phase 1: one transform, of ours.
pub(crate) fn phase1(proposals: &[IkeProposal], answer: &Sa) -> Result<(IkeChoice, OfferedLife), Failure> {
    let offers = offer::read_phase1(answer);
    if let ([only], [proposal]) = (offers.as_slice(), answer.proposals.as_slice())
        && proposal.transforms.len() == 1
        && only.method == offer::Method::PreSharedKey.value()
        && let Some(choice) = negotiate::accept_ike(proposals, std::slice::from_ref(&only.proposal))
    {
        return Ok((choice, only.life));
    }
    Err(not_offered(proposals, answer))
}

/// The peer has chosen what was not offered.
pub(crate) fn not_offered(proposals: &[IkeProposal], answer: &Sa) -> Failure {
    let chosen: Vec<Proposal> = offer::read_phase1(answer).into_iter().map(|offer| offer.proposal).collect();
    Failure::BadChoice {
        chosen: negotiate::describe(&chosen),
        offered: negotiate::describe_configured(proposals),
    }
}

/// Checks the answer to an offer of quick mode.
pub(crate) fn quick(
    config: &ChildConfig,
    answer: &Sa,
    short_sha256: bool,
    group: Option<u16>,
) -> Result<(EspChoice, QuickOffer), Failure> {
    let mut offers = offer::read_quick(answer, short_sha256);
    let single = answer.proposals.len() == 1 && answer.proposals.iter().all(|p| p.transforms.len() == 1);
    if let (Some(only), true) = (offers.pop().filter(|_| offers.is_empty()), single)
        && only.group == group
        && only.spi_out != 0
        && let Some(choice) = choose(config, &only, group)
    {
        return Ok((choice, only));
    }
    let chosen: Vec<Proposal> =
        offer::read_quick(answer, short_sha256).into_iter().map(|offer| offer.proposal).collect();
    Err(Failure::BadChoice {
        chosen: negotiate::describe(&chosen),
        offered: negotiate::describe_configured(&config.proposals),
    })
}

/// What is chosen of one transform.
fn choose(config: &ChildConfig, offer: &QuickOffer, group: Option<u16>) -> Option<EspChoice> {
    let proposals = std::slice::from_ref(&offer.proposal);
    let (_, choice) = negotiate::choose_esp(&config.proposals, proposals, group.is_some())?;
    Some(EspChoice { group, ..choice })
}

/// A policy as text: `local === remote`.
pub(crate) fn describe_policy(config: &ChildConfig) -> String {
    format!("{} === {}", ts::describe(&config.local), ts::describe(&config.remote))
}
