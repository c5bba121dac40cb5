//! Whether an answer is one to what was asked: algorithms, selectors, refusals. IKE_AUTH and CREATE_CHILD_SA alike.

use crate::config::{ChildConfig, Mode};
use crate::failure::Failure;
use crate::proposal::negotiate;
use crate::wire::numbers::{ExchangeType, NotifyType};
use crate::wire::ts;

/// An error notify about a Child SA as a failure that names what was refused.
pub(crate) fn child_refusal(exchange: ExchangeType, notify: NotifyType, config: &ChildConfig) -> Failure {
    match notify {
        NotifyType::NO_PROPOSAL_CHOSEN if config.mode == Mode::Transport => {
            Failure::TransportRefused { offered: negotiate::describe_configured(&config.proposals) }
        }
        NotifyType::NO_PROPOSAL_CHOSEN => {
            Failure::ProposalRefused { offered: negotiate::describe_configured(&config.proposals) }
        }
        NotifyType::TS_UNACCEPTABLE => Failure::SelectorsRefused {
            local: ts::describe(&config.local),
            remote: ts::describe(&config.remote),
        },
        notify => Failure::Notify { exchange, notify },
    }
}

/// Checks the answer to an ESP offer; returns the choice and the peer's SPI.
pub(crate) fn accept_child(
    config: &ChildConfig,
    answer: &[crate::wire::sa::Proposal],
    with_group: bool,
) -> Result<(crate::proposal::EspChoice, u32), Failure> {
    negotiate::accept_esp(&config.proposals, answer, with_group)
        .zip(answer.first().and_then(crate::wire::sa::Proposal::esp_spi))
        .ok_or_else(|| Failure::BadChoice {
            chosen: negotiate::describe(answer),
            offered: negotiate::describe_configured(&config.proposals),
        })
}

/// Checks that the answered selectors lie within the offered ones (RFC 7296 section 2.9).
pub(crate) fn accept_selectors(
    config: &ChildConfig,
    local: Option<&[ts::TrafficSelector]>,
    remote: Option<&[ts::TrafficSelector]>,
) -> Result<(Vec<ts::TrafficSelector>, Vec<ts::TrafficSelector>), Failure> {
    let within = |answer: &[ts::TrafficSelector], offer: &[ts::TrafficSelector]| {
        !answer.is_empty() && answer.iter().all(|a| offer.iter().any(|o| o.contains(a)))
    };
    let (local, remote) = (local.unwrap_or_default(), remote.unwrap_or_default());
    if !within(local, &config.local) || !within(remote, &config.remote) {
        return Err(Failure::Selectors {
            offered_local: ts::describe(local),
            offered_remote: ts::describe(remote),
            configured: describe_policy(config),
        });
    }
    Ok((local.to_vec(), remote.to_vec()))
}

/// A policy as text: `local === remote`.
pub(crate) fn describe_policy(config: &ChildConfig) -> String {
    format!("{} === {}", ts::describe(&config.local), ts::describe(&config.remote))
}
