//! Which policy a quick mode of the peer's is for, and what of its offer that takes (RFC 2409 section 5.5).

use std::sync::Arc;

use super::offer::{self, QuickOffer};
use super::wire::{Id, NotifyType, Payloads};
use super::{Connection, accept};
use crate::config::{ChildConfig, Mode};
use crate::coverage::Traffic;
use crate::event::NO_POLICY;
use crate::failure::Failure;
use crate::proposal::{EspChoice, EspProposal, negotiate};
use crate::wire::sa::Proposal;
use crate::wire::ts::TrafficSelector;

/// A refusal: what the peer is told, and what is reported here.
pub(super) struct Refused {
    pub(super) kind: NotifyType,
    pub(super) policy: Arc<str>,
    pub(super) failure: Failure,
}

/// What a request and a policy have in common.
pub(super) struct Matched {
    pub(super) config: Arc<ChildConfig>,
    pub(super) traffic: Traffic,
    pub(super) offer: QuickOffer,
    pub(super) choice: EspChoice,
}

impl Connection {
    /// Finds the policy that fits the request's subnets, and then its proposals. IKEv1 narrows nothing: what the peer names is
    /// taken as a whole, or not at all.
    pub(super) fn match_child(&self, payloads: Payloads<'_>) -> Result<Matched, Refused> {
        let ids: Vec<&Id> = payloads.ids().collect();
        let (local, remote) = (self.addresses().0.ip(), self.addresses().1.ip());
        let host = |ip| Some(TrafficSelector::range(ip, ip));
        // The initiator's comes first; who says nothing means the two ends (RFC 2409 section 5.5).
        let (theirs, ours) = match ids.as_slice() {
            [] => (host(remote), host(local)),
            [theirs, ours] => (theirs.selector(), ours.selector()),
            _ => (None, None),
        };
        let told = |at: usize, end: std::net::IpAddr| {
            ids.get(at).map_or_else(|| end.to_string(), |id| id.told_as_subnet())
        };
        let no_policy = |configured: String| Refused {
            kind: NotifyType::INVALID_ID_INFORMATION,
            policy: NO_POLICY.into(),
            failure: Failure::Selectors {
                offered_local: told(1, local),
                offered_remote: told(0, remote),
                configured,
            },
        };
        let policies = self.policies();
        let configured = policies.iter().map(|c| accept::describe_policy(c)).collect::<Vec<_>>().join("; ");
        let (Some(theirs), Some(ours)) = (theirs, ours) else { return Err(no_policy(configured)) };
        let traffic = Traffic { local: vec![ours], remote: vec![theirs] };
        let fitting: Vec<&Arc<ChildConfig>> =
            policies.iter().filter(|policy| Traffic::of(policy).contains(&traffic)).collect();
        if fitting.is_empty() {
            return Err(no_policy(configured));
        }
        let mut refused = None;
        for policy in fitting {
            match self.match_offer(policy, payloads) {
                Ok((offer, choice)) => {
                    let config = self.place(policy, &traffic).map_err(|failure| Refused {
                        kind: NotifyType::NO_PROPOSAL_CHOSEN,
                        policy: policy.name.clone(),
                        failure,
                    })?;
                    return Ok(Matched { config, traffic, offer, choice });
                }
                Err((kind, failure)) => {
                    refused.get_or_insert(Refused { kind, policy: policy.name.clone(), failure });
                }
            }
        }
        Err(refused.unwrap_or_else(|| no_policy(configured)))
    }

    /// What of an offer a policy takes.
    fn match_offer(
        &self,
        policy: &ChildConfig,
        payloads: Payloads<'_>,
    ) -> Result<(QuickOffer, EspChoice), (NotifyType, Failure)> {
        let no = |failure| (NotifyType::NO_PROPOSAL_CHOSEN, failure);
        let empty = Vec::new();
        let all = payloads.sa().map_or(empty, |sa| offer::read_quick(sa, self.short_sha256(policy)));
        if let Some(failure) = self.mode_obstacle(policy) {
            return Err(no(failure));
        }
        let of_mode: Vec<&QuickOffer> =
            all.iter().filter(|o| o.mode.unwrap_or_default() == policy.mode && o.spi_out != 0).collect();
        if let (true, Some(other)) = (of_mode.is_empty(), all.first()) {
            let (peer, configured) = (other.mode.unwrap_or_default(), policy.mode);
            return Err(no(Failure::Mode { peer, configured }));
        }
        // A group has to come with its key, and a key with its group.
        let has_key = payloads.ke().is_some();
        let in_udp = self.encapsulates();
        // Offers that differ in what is no algorithm have equal proposals, so one is looked for among these only.
        let fitting: Vec<&QuickOffer> = of_mode
            .iter()
            .filter(|o| o.group.is_some() == has_key)
            .filter(|o| (o.encapsulation != offer::Encapsulation::Raw) == in_udp)
            .copied()
            .collect();
        let usable: Vec<Proposal> = fitting.iter().map(|o| o.proposal.clone()).collect();
        let chosen = negotiate::choose_esp(&policy.proposals, &usable, true);
        let found = chosen.and_then(|(proposal, choice)| {
            let offer = fitting.into_iter().find(|o| o.proposal == proposal)?;
            Some((offer.clone(), choice))
        });
        found.ok_or_else(|| {
            let ours = policy.proposals.iter().flat_map(EspProposal::transforms);
            let theirs = of_mode.iter().flat_map(|o| &o.proposal.transforms);
            let without_group = negotiate::choose_esp(&policy.proposals, &usable, false).is_some();
            if without_group {
                let (theirs, ours) = (negotiate::groups_of(theirs), negotiate::groups_of(ours));
                return no(Failure::Pfs { theirs, ours });
            }
            let offered: Vec<Proposal> = all.iter().map(|o| o.proposal.clone()).collect();
            no(Failure::NoProposal {
                offered: negotiate::describe(&offered),
                configured: negotiate::describe_configured(&policy.proposals),
            })
        })
    }

    /// Why a policy's mode is not possible, if it is not.
    pub(crate) fn mode_obstacle(&self, config: &ChildConfig) -> Option<Failure> {
        let (local, remote) = self.addresses();
        let check = || {
            crate::mode::no_transport(
                self.encapsulates(),
                (local.ip(), remote.ip()),
                (&config.local, &config.remote),
            )
        };
        (config.mode == Mode::Transport).then(check).flatten()
    }
}
