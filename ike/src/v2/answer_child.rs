//! CREATE_CHILD_SA answered: a new Child SA, or one that takes another's place (RFC 7296 sections 1.3.1, 1.3.3, 2.8,
//! 2.9, 2.25). IKE_AUTH uses the same lines for its first Child SA.

use std::sync::Arc;
use std::time::Instant;

use super::accept::describe_policy;
use super::child::{Agreed, ChildState};
use super::ike_sa::{SaState, dh_refusal, respond_dh};
use super::initiator::NONCE_LEN;
use super::request::{Collision, Request};
use super::resources::Asked;
use super::{Connection, mode, resources};
use crate::config::{ChildConfig, Mode};
use crate::coverage::Traffic;
use crate::crypto::prf::Prf;
use crate::event::{ChildEnd, Event, NO_POLICY};
use crate::failure::Failure;
use crate::host::{Host, random_array};
use crate::proposal::{EspChoice, EspProposal, again, negotiate};
use crate::verbs::MAX_CHILDREN;
use crate::wire::header::Header;
use crate::wire::message::Payloads;
use crate::wire::numbers::{NotifyType, ProtocolId};
use crate::wire::payload::{Notify, Payload};
use crate::wire::sa::Proposal;
use crate::wire::ts::{self, TrafficSelector};

/// A peer's request for a Child SA, whichever exchange it came by.
pub(crate) struct ChildRequest<'a> {
    pub(crate) payloads: Payloads<'a>,
    /// Nonces of initiator and responder.
    pub(crate) nonces: (&'a [u8], &'a [u8]),
    pub(crate) shared: Option<&'a [u8]>,
    /// The exchange can carry a KE payload.
    pub(crate) with_group: bool,
    /// The pair to be replaced, and so the policy.
    pub(crate) replaces: Option<u32>,
}

/// A refusal: what the peer is told, and what is reported here.
pub(crate) struct Refused {
    pub(crate) kind: NotifyType,
    pub(crate) policy: Arc<str>,
    pub(crate) failure: Failure,
}

struct Matched {
    config: Arc<ChildConfig>,
    local_ts: Vec<TrafficSelector>,
    remote_ts: Vec<TrafficSelector>,
    proposal: Proposal,
    choice: EspChoice,
}

/// A policy, and what its selectors and those of a request have in common: ours, and the peer's.
type Fitting<'a> = (&'a Arc<ChildConfig>, Vec<TrafficSelector>, Vec<TrafficSelector>);

impl Connection {
    /// A CREATE_CHILD_SA request that does not rekey the IKE_SA.
    pub(crate) fn create_child_requested(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        header: Header,
        payloads: Payloads<'_>,
    ) {
        let out = match self.serve_child_request(now, host, spi, payloads) {
            Ok(answer) => answer,
            Err(notify) => vec![Payload::Notify(notify)],
        };
        self.respond_with(now, host, spi, header.exchange, header.message_id, &out);
    }

    fn serve_child_request(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        payloads: Payloads<'_>,
    ) -> Result<Vec<Payload>, Notify> {
        let temporary = || Notify::new(NotifyType::TEMPORARY_FAILURE);
        let Some(sa) = self.sas.iter().find(|sa| sa.spi_local == spi) else { return Err(temporary()) };
        let rekeying_ike = sa.exchanges.pending().any(|request| matches!(request, Request::RekeyIke(_)));
        // RFC 7296 section 2.25.2: nothing new on an IKE_SA that is being rekeyed or deleted.
        if rekeying_ike || sa.state != SaState::Active || spi != self.current {
            return Err(temporary());
        }
        let (prf, d) = (sa.prf, sa.keys.d.clone());
        let replaces = self.rekeyed_child(spi, payloads)?;
        if self.children.len() >= MAX_CHILDREN {
            return Err(Notify::new(NotifyType::NO_ADDITIONAL_SAS));
        }
        let nr = random_array::<NONCE_LEN>(host).to_vec();
        let ni = payloads.nonce().unwrap_or_default();
        // The group is settled before anything is computed with it.
        let matched =
            self.match_child(payloads, true, replaces).map_err(|refused| self.note_refusal(refused))?;
        let dh = match (matched.choice.group, payloads.ke()) {
            (None, _) => None,
            (Some(group), Some((sent, public))) if sent == group => {
                let pair = respond_dh(group, public, host);
                Some(pair.map_err(|error| Notify::new(dh_refusal(error)))?)
            }
            (Some(group), _) => {
                let data = group.to_be_bytes().to_vec();
                return Err(Notify::with_data(NotifyType::INVALID_KE_PAYLOAD, data));
            }
        };
        let shared = dh.as_ref().map(|(_, shared)| shared.as_slice());
        let request = ChildRequest { payloads, nonces: (ni, &nr), shared, with_group: true, replaces };
        let (mut out, spi_in) =
            self.answer_child(host, prf, &d, request).map_err(|refused| self.note_refusal(refused))?;
        out.insert(1, Payload::Nonce(nr.clone()));
        if let Some((ours, _)) = &dh {
            out.insert(2, Payload::Ke { group: ours.group(), data: ours.public().to_vec() });
        }
        match replaces {
            Some(old) => self.replaced_by_peer(now, spi, old, Collision::new(ni, &nr, spi_in)),
            // Nothing waits for this one to be seen: the initiator installs it when our answer arrives.
            None => self.activate(spi_in),
        }
        Ok(out)
    }

    /// Which pair the request replaces; an error when that one is gone or going.
    fn rekeyed_child(&self, ike: u64, payloads: Payloads<'_>) -> Result<Option<u32>, Notify> {
        let Some(notify) = payloads.notify(NotifyType::REKEY_SA) else { return Ok(None) };
        let gone = || Notify { kind: NotifyType::CHILD_SA_NOT_FOUND, data: Vec::new(), ..notify.clone() };
        // One of AH, or by an SPI that no ESP SA has, is well formed, and is not here (section 2.25).
        let theirs = notify.esp_spi().ok_or_else(gone)?;
        let mut asked =
            self.sas.iter().filter(|sa| sa.spi_local == ike).flat_map(|sa| sa.exchanges.pending());
        match self.child_by_peer(theirs) {
            // Perhaps the pair of an answer that has not arrived yet.
            None if asked.any(|request| matches!(request, Request::Child(_))) => {
                Err(Notify::new(NotifyType::TEMPORARY_FAILURE))
            }
            None => Err(gone()),
            Some(child) if child.state != ChildState::Installed => {
                Err(Notify::new(NotifyType::TEMPORARY_FAILURE))
            }
            Some(child) => Ok(Some(child.spi_in)),
        }
    }

    /// The peer made a pair in place of `old`. If a request of ours for the same is under way, the nonces of both
    /// exchanges will decide; otherwise the peer owes the delete of the old one, and our traffic moves over when the
    /// first packet on the new one, or that delete, shows that the peer has it installed.
    fn replaced_by_peer(&mut self, now: Instant, spi: u64, old: u32, collision: Collision<u32>) {
        let ours = self.child_offers(spi).find(|offer| offer.replaces == Some(old));
        if let Some(offer) = ours {
            // A peer that has made one already and rekeys the same pair once more owes the delete of the first.
            if let Some(before) = offer.collision.replace(collision) {
                self.replace(Some(before.passive));
                self.expect_delete(before.passive, ChildEnd::Rekeyed, now);
            }
        } else if let Some(child) = self.child_mut(old) {
            child.state = ChildState::Replaced;
            self.expect_delete(old, ChildEnd::Rekeyed, now);
        }
    }

    /// Makes the Child SA a request asks for. Returns the payloads of the answer, SA first, and the new pair.
    pub(crate) fn answer_child(
        &mut self,
        host: &mut dyn Host,
        prf: Prf,
        sk_d: &[u8],
        request: ChildRequest<'_>,
    ) -> Result<(Vec<Payload>, u32), Refused> {
        let matched = self.match_child(request.payloads, request.with_group, request.replaces)?;
        let policy = matched.config.name.clone();
        let refuse = |kind, failure| Refused { kind, policy: policy.clone(), failure };
        let spi_in = self
            .allocate_spi(host, &matched.config, request.replaces)
            .ok_or_else(|| refuse(NotifyType::NO_ADDITIONAL_SAS, Failure::NoSpi))?;
        let spi_out = matched.proposal.esp_spi().unwrap_or(0);
        let mut answer = vec![
            Payload::Sa(vec![Proposal {
                number: matched.proposal.number,
                protocol: ProtocolId::ESP,
                spi: spi_in.to_be_bytes().to_vec(),
                transforms: negotiate::answer(&matched.proposal, matched.choice.transforms()),
            }]),
            // TSi is the side of the exchange's initiator, the peer.
            Payload::TsI(matched.remote_ts.clone()),
            Payload::TsR(matched.local_ts.clone()),
        ];
        answer.extend(mode::notify(matched.config.mode));
        answer.extend(resources::notify(&matched.config));
        let modes = (mode::of(request.payloads), matched.config.mode);
        let agreed = Agreed {
            config: matched.config,
            spi_in,
            spi_out,
            choice: matched.choice,
            shared: request.shared,
            nonces: request.nonces,
            local_ts: matched.local_ts,
            remote_ts: matched.remote_ts,
            replaces: request.replaces,
            initiated: false,
            tfc: request.payloads.notify(NotifyType::ESP_TFC_PADDING_NOT_SUPPORTED).is_none(),
        };
        if let Err(error) = self.install_child(prf, sk_d, agreed) {
            self.events.push_back(Event::ReleaseSpi(spi_in));
            return Err(refuse(NotifyType::NO_PROPOSAL_CHOSEN, error.into()));
        }
        self.note_mode(modes.0, modes.1, spi_in);
        Ok((answer, spi_in))
    }

    /// Finds the policy that fits the request's selectors, and then its proposals.
    fn match_child(
        &self,
        payloads: Payloads<'_>,
        with_group: bool,
        replaces: Option<u32>,
    ) -> Result<Matched, Refused> {
        let replaced = replaces.and_then(|spi| self.child(spi)).map(|c| c.config.name.clone());
        // A rekeying keeps its policy even when another would fit as well.
        let configs = self.candidates(replaced.as_deref());
        let theirs = payloads.ts_i().unwrap_or_default();
        let ours = payloads.ts_r().unwrap_or_default();
        let mut fitting: Vec<_> = configs
            .iter()
            .map(|c| (c, ts::narrow(ours, &c.local), ts::narrow(theirs, &c.remote)))
            .filter(|(_, local, remote)| !local.is_empty() && !remote.is_empty())
            .collect();
        // The first selectors may be those of the packet that the peer wants an SA for: what is agreed on has to include
        // them where any policy does (RFC 7296 section 2.9).
        let has_first = |narrowed: &[TrafficSelector], offered: &[TrafficSelector]| {
            offered.first().is_some_and(|first| narrowed.iter().any(|n| n.contains(first)))
        };
        fitting.sort_by_key(|(_, local, remote)| !(has_first(local, ours) && has_first(remote, theirs)));
        if fitting.is_empty() {
            let configured = configs.iter().map(|c| describe_policy(c)).collect::<Vec<_>>().join("; ");
            let failure = Failure::Selectors {
                offered_local: ts::describe(ours),
                offered_remote: ts::describe(theirs),
                configured,
            };
            let policy = replaced.unwrap_or_else(|| NO_POLICY.into());
            return Err(Refused { kind: NotifyType::TS_UNACCEPTABLE, policy, failure });
        }
        let at = self.match_mode(mode::of(payloads), &fitting)?;
        let (config, local_ts, remote_ts) = fitting.swap_remove(at);
        let offered = payloads.sa().unwrap_or_default();
        let usable: Vec<Proposal> = offered.iter().filter(|p| p.esp_spi().is_some()).cloned().collect();
        let group = payloads.ke().map(|(group, _)| group);
        let chosen = if with_group {
            again::choose_esp(&config.proposals, &usable, group)
        } else {
            negotiate::choose_esp(&config.proposals, &usable, false)
        };
        match chosen {
            Some((proposal, choice)) => {
                let traffic = Traffic { local: local_ts, remote: remote_ts };
                let asked = match replaces {
                    None if resources::asked(payloads) => self.place_resource(config, &traffic),
                    _ => Asked::Usual,
                };
                let config = match asked {
                    Asked::Usual if replaces.is_some() => config.clone(),
                    Asked::Usual => self.place(config, &traffic).map_err(|failure| Refused {
                        kind: NotifyType::NO_ADDITIONAL_SAS,
                        policy: config.name.clone(),
                        failure,
                    })?,
                    Asked::For(resource) => resource,
                    Asked::Later => {
                        let (kind, policy) = (NotifyType::TEMPORARY_FAILURE, config.name.clone());
                        return Err(Refused { kind, policy, failure: Failure::StillBusy });
                    }
                    Asked::Enough => {
                        let failure = Failure::TooManyChildren(usize::from(config.resources));
                        let policy = config.name.clone();
                        return Err(Refused { kind: NotifyType::TS_MAX_QUEUE, policy, failure });
                    }
                };
                let Traffic { local: local_ts, remote: remote_ts } = traffic;
                Ok(Matched { config, local_ts, remote_ts, proposal, choice })
            }
            None => {
                let only_groups =
                    with_group && negotiate::choose_esp(&config.proposals, &usable, false).is_some();
                let failure = if only_groups {
                    let theirs = usable.iter().flat_map(|p| &p.transforms);
                    let ours = config.proposals.iter().flat_map(EspProposal::transforms);
                    Failure::Pfs { theirs: negotiate::groups_of(theirs), ours: negotiate::groups_of(ours) }
                } else {
                    Failure::NoProposal {
                        offered: negotiate::describe(offered),
                        configured: negotiate::describe_configured(&config.proposals),
                    }
                };
                Err(Refused { kind: NotifyType::NO_PROPOSAL_CHOSEN, policy: config.name.clone(), failure })
            }
        }
    }

    /// Which of the policies whose selectors fit a request for a Child SA of this mode takes it.
    fn match_mode(&self, asked: Mode, fitting: &[Fitting<'_>]) -> Result<usize, Refused> {
        let mut refused = None;
        if asked == Mode::Transport {
            for (at, (config, local, remote)) in fitting.iter().enumerate() {
                match self.no_transport(local, remote) {
                    _ if config.mode != asked => {}
                    None => return Ok(at),
                    Some(failure) => refused = refused.or(Some((config.name.clone(), failure))),
                }
            }
        }
        // A request for transport mode may be answered with a tunnel (section 1.3.1), but not the other way round.
        if let Some(at) = fitting.iter().position(|(config, ..)| config.mode == Mode::Tunnel) {
            return Ok(at);
        }
        let (policy, failure) = refused.unwrap_or_else(|| {
            let policy = fitting.first().map_or_else(|| NO_POLICY.into(), |(config, ..)| config.name.clone());
            (policy, Failure::Mode { peer: asked, configured: Mode::Transport })
        });
        let kind = match failure {
            Failure::TransportHosts { .. } => NotifyType::TS_UNACCEPTABLE,
            _ => NotifyType::NO_PROPOSAL_CHOSEN,
        };
        Err(Refused { kind, policy, failure })
    }

    /// Reports a refusal; returns what the peer is told.
    fn note_refusal(&mut self, refused: Refused) -> Notify {
        // That there are enough pairs is no failure of anything (RFC 9611 section 4), nor is that one came too early.
        if !matches!(refused.kind, NotifyType::TS_MAX_QUEUE | NotifyType::TEMPORARY_FAILURE) {
            self.tell_refused(&refused.policy, refused.failure);
        }
        Notify::new(refused.kind)
    }

    /// [`Self::note_refusal`] as a payload.
    pub(crate) fn child_refused(&mut self, refused: Refused) -> Payload {
        Payload::Notify(self.note_refusal(refused))
    }
}
