//! CREATE_CHILD_SA requested: a new Child SA or the rekeying of one, and every way its answer can turn out
//! (RFC 7296 sections 1.3, 2.8.1, 2.25.1).

use std::sync::Arc;
use std::time::Instant;

use super::accept::{accept_child, accept_selectors, child_refusal};
use super::child::{Agreed, ChildState};
use super::initiator::NONCE_LEN;
use super::request::{ChildOffer, PutOff, Request, Tries, wanted_group};
use super::tasks::Task;
use super::{Connection, mode, resources};
use crate::config::ChildConfig;
use crate::crypto::dh::KeyPair;
use crate::event::{ChildEnd, Event};
use crate::failure::Failure;
use crate::host::{Host, random_array};
use crate::proposal::{EspProposal, negotiate};
use crate::verbs::MAX_CHILDREN;
use crate::wire::message::Payloads;
use crate::wire::numbers::{ExchangeType, NotifyType, ProtocolId, TransformType};
use crate::wire::payload::{Notify, Payload};

/// Answers of INVALID_KE_PAYLOAD in a row before the groups are given up as irreconcilable.
const MAX_GROUP_CHANGES: u32 = 4;

impl Connection {
    /// Asks for a Child SA of a policy, in place of `replaces` if given. `tries` says what has been tried.
    pub(crate) fn request_child(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        config: Arc<ChildConfig>,
        replaces: Option<u32>,
        tries: Tries,
    ) {
        if self.children.len() >= MAX_CHILDREN {
            self.child_not_made(&config.name, replaces, Failure::TooManyChildren(MAX_CHILDREN));
            return self.rekey_later(now, host, replaces, tries);
        }
        if let Some(failure) = self.mode_obstacle(&config) {
            return self.child_not_made(&config.name, replaces, failure);
        }
        let spi = self.current;
        let Some(spi_in) = self.allocate_spi(host, &config, replaces) else {
            self.child_not_made(&config.name, replaces, Failure::NoSpi);
            let task = retry_task(&config, replaces);
            return self.queue_later(task, now, host, tries, PutOff::Refused);
        };
        let before = replaces.and_then(|old| self.child(old)).and_then(|child| child.group);
        let agreed = before.or_else(|| self.choice().map(|choice| choice.group));
        let preferred = || {
            let first = config.proposals.first()?.transforms();
            let groups: Vec<u16> =
                first.iter().filter(|t| t.kind == TransformType::KE).map(|t| t.id).collect();
            // The group of the pair before, or that of the IKE_SA, suits the peer most likely. Libreswan refuses another guess
            // without saying which it wants.
            let best = agreed.filter(|group| groups.contains(group));
            best.or_else(|| groups.first().copied())
        };
        // A peer that wants NONE wants no key exchange.
        let group = tries.group.or_else(preferred).filter(|group| *group != 0);
        let dh = match group.map(|group| KeyPair::generate(group, host)).transpose() {
            Ok(dh) => dh,
            Err(error) => {
                self.events.push_back(Event::ReleaseSpi(spi_in));
                self.child_not_made(&config.name, replaces, error.into());
                return self.rekey_later(now, host, replaces, tries);
            }
        };
        let nonce = random_array::<NONCE_LEN>(host).to_vec();
        let mut out = Vec::new();
        if let Some(old) = replaces {
            // REKEY_SA names the pair by the SPI its sender receives on (section 1.3.3).
            out.push(Payload::Notify(Notify::about_esp(NotifyType::REKEY_SA, old)));
        }
        out.extend(mode::notify(config.mode));
        out.extend(resources::notify(&config));
        let transforms = config.proposals.iter().map(EspProposal::transforms);
        out.push(Payload::Sa(negotiate::offer(
            ProtocolId::ESP,
            &spi_in.to_be_bytes(),
            transforms,
            dh.is_some(),
        )));
        out.push(Payload::Nonce(nonce.clone()));
        if let Some(dh) = &dh {
            out.push(Payload::Ke { group: dh.group(), data: dh.public().to_vec() });
        }
        out.push(Payload::TsI(config.local.clone()));
        out.push(Payload::TsR(config.remote.clone()));
        let offer = ChildOffer {
            config,
            spi_in,
            nonce,
            dh,
            replaces,
            tries,
            collision: None,
            old_gone: false,
            deleted_unknown: Vec::new(),
        };
        let request = Request::Child(Box::new(offer));
        self.send_request(now, host, spi, ExchangeType::CREATE_CHILD_SA, &out, request);
    }

    /// The answer to our request for a Child SA.
    pub(crate) fn child_answered(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        mut offer: ChildOffer,
        payloads: Payloads<'_>,
    ) {
        if let Some(error) = payloads.error() {
            self.events.push_back(Event::ReleaseSpi(offer.spi_in));
            return self.child_request_failed(now, host, &offer, error);
        }
        let before = self.gap_of(&offer.config.name);
        match self.child_agreed(spi, &mut offer, payloads) {
            Ok(()) => {
                self.settle_child(now, &offer, payloads.nonce().unwrap_or_default());
                self.note_silence_on_resource(&offer, payloads);
                self.ask_for_rest(&offer.config.name, &before, now);
            }
            Err(failure) => {
                // Where the peer has made one in its place, the old pair is the peer's to delete.
                let crossed = self.is_outdone(&offer);
                if let (true, Some(old)) = (crossed, offer.replaces) {
                    self.replace(Some(old));
                    self.expect_delete(old, ChildEnd::Rekeyed, now);
                }
                let again = !crate::mode::is_final(&failure)
                    && !crossed
                    && !self.resource_refused(now, host, &offer, false);
                self.events.push_back(Event::ReleaseSpi(offer.spi_in));
                self.child_not_made(&offer.config.name, offer.replaces, failure);
                // The peer has installed what it answered, so it is told to take it away.
                self.queue_first(Task::DeleteStray(offer.spi_in), now);
                if again {
                    let task = retry_task(&offer.config, offer.replaces);
                    self.queue_later(task, now, host, offer.tries, PutOff::Refused);
                }
            }
        }
    }

    /// Installs what the peer agreed to.
    fn child_agreed(
        &mut self,
        spi: u64,
        offer: &mut ChildOffer,
        payloads: Payloads<'_>,
    ) -> Result<(), Failure> {
        let answer = payloads.sa().unwrap_or_default();
        let (choice, spi_out) = accept_child(&offer.config, answer, offer.dh.is_some())?;
        let (local_ts, remote_ts) = accept_selectors(&offer.config, payloads.ts_i(), payloads.ts_r())?;
        self.check_mode(&offer.config, payloads)?;
        self.check_resource(&offer.config, &local_ts, &remote_ts)?;
        let shared = match (choice.group, &offer.dh, payloads.ke()) {
            (None, ..) => None,
            (Some(group), Some(dh), Some((sent, public))) if group == dh.group() && sent == group => {
                Some(dh.agree(public)?)
            }
            (Some(wanted), ..) => {
                return Err(Failure::NoGroup { wanted, offered: "the one of our KE payload".to_owned() });
            }
        };
        let Some(sa) = self.sas.iter().find(|sa| sa.spi_local == spi) else { return Err(Failure::Replaced) };
        let (prf, d) = (sa.prf, sa.keys.d.clone());
        let agreed = Agreed {
            config: offer.config.clone(),
            spi_in: offer.spi_in,
            spi_out,
            choice,
            shared: shared.as_ref().map(|s| s.as_slice()),
            nonces: (&offer.nonce, payloads.nonce().unwrap_or_default()),
            local_ts,
            remote_ts,
            replaces: offer.replaces,
            initiated: true,
            tfc: payloads.notify(NotifyType::ESP_TFC_PADDING_NOT_SUPPORTED).is_none(),
        };
        Ok(self.install_child(prf, &d, agreed)?)
    }

    /// The new pair is installed. Decides which of the pairs stay, and who deletes what.
    fn settle_child(&mut self, now: Instant, offer: &ChildOffer, nr: &[u8]) {
        let new = offer.spi_in;
        let spi_out = self.child(new).map_or(0, |c| c.spi_out);
        // Where the peer has taken its own away meanwhile, ours is the one that is left.
        let lost = self.is_outdone(offer)
            && offer.collision.as_ref().is_some_and(|c| c.ours_is_redundant(&offer.nonce, nr));
        if offer.deleted_unknown.contains(&spi_out) {
            // The peer deleted it before its answer arrived.
            self.remove_child(new, ChildEnd::DeletedByPeer);
        } else if lost {
            // Ours holds the lowest nonce: we delete what we made, the peer deletes the old one (section 2.8.1).
            self.replace(offer.replaces);
            if let Some(old) = offer.replaces {
                self.expect_delete(old, ChildEnd::Rekeyed, now);
            }
            if let Some(child) = self.child_mut(new) {
                child.state = ChildState::Replaced;
            }
            return self.queue_first(Task::DeleteChild(new, ChildEnd::Redundant), now);
        } else {
            self.activate(new);
            if let Some(passive) = offer.collision.as_ref().map(|c| c.passive) {
                // The peer's is redundant and the peer deletes it.
                self.replace(Some(passive));
                self.expect_delete(passive, ChildEnd::Redundant, now);
            }
        }
        if let Some(old) = offer.replaces.filter(|&old| self.child(old).is_some()) {
            self.replace(Some(old));
            self.queue_first(Task::DeleteChild(old, ChildEnd::Rekeyed), now);
        }
    }

    /// Whether the peer has rekeyed the same pair meanwhile, and what it made, or what that was rekeyed to, is still in place.
    fn is_outdone(&self, offer: &ChildOffer) -> bool {
        let other = |c: &super::Child| {
            c.config.name == offer.config.name
                && c.state == ChildState::Installed
                && c.spi_in != offer.spi_in
                && offer.replaces != Some(c.spi_in)
        };
        offer.collision.is_some() && self.children.iter().any(other)
    }

    pub(super) fn replace(&mut self, spi_in: Option<u32>) {
        let child = spi_in.and_then(|spi| self.child_mut(spi));
        if let Some(child) = child.filter(|c| c.state == ChildState::Installed) {
            child.state = ChildState::Replaced;
        }
    }

    fn child_request_failed(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        offer: &ChildOffer,
        error: &Notify,
    ) {
        // The peer replaced or deleted the pair meanwhile: nothing is left to do (RFC 7296 section 2.25.1).
        let outdone = self.is_outdone(offer);
        let moot = outdone || offer.old_gone;
        if let (true, Some(old)) = (outdone, offer.replaces) {
            self.replace(Some(old));
            self.expect_delete(old, ChildEnd::Rekeyed, now);
        }
        let busy = error.kind == NotifyType::TEMPORARY_FAILURE;
        match error.kind {
            _ if moot => {}
            // Another group is worth a try for a resource as well.
            kind if kind != NotifyType::INVALID_KE_PAYLOAD
                && self.resource_refused(now, host, offer, busy) => {}
            NotifyType::TEMPORARY_FAILURE => {
                let task = retry_task(&offer.config, offer.replaces);
                self.queue_later(task, now, host, offer.tries, PutOff::Busy);
            }
            NotifyType::CHILD_SA_NOT_FOUND if offer.replaces.is_some() => {
                // The peer lost the pair: make a new one instead of it. (Of a new one it makes no sense, and trying
                // again at once would go round for ever.)
                if let Some(old) = offer.replaces {
                    self.remove_child(old, ChildEnd::LostByPeer);
                }
                if !self.queue_create(&offer.config.name, now) {
                    let gone = Failure::ChildGone(ChildEnd::LostByPeer);
                    self.child_not_made(&offer.config.name, None, gone);
                }
            }
            NotifyType::INVALID_KE_PAYLOAD if offer.tries.groups < MAX_GROUP_CHANGES => {
                let wanted = wanted_group(error);
                let known = || offer.config.proposals.iter().flat_map(EspProposal::transforms);
                let is_known = |group| known().any(|t| t.kind == TransformType::KE && t.id == group);
                if let Some(group) = wanted.filter(|&group| is_known(group)) {
                    let task = retry_task(&offer.config, offer.replaces);
                    return self.queue_again(task, now, offer.tries.with_group(group));
                }
                let wanted = wanted.unwrap_or(0);
                let offered = negotiate::describe_configured(&offer.config.proposals);
                self.child_failed(now, host, offer, Failure::NoGroup { wanted, offered });
            }
            // The peer has made this Child SA: what it takes no more is the key exchange that comes on top, or its lack.
            NotifyType::NO_PROPOSAL_CHOSEN if offer.replaces.is_some() => {
                let proposals = &offer.config.proposals;
                let failure = Failure::RekeyRefused {
                    offered: negotiate::describe_configured(proposals),
                    groups: negotiate::groups_of(proposals.iter().flat_map(EspProposal::transforms)),
                };
                self.child_failed(now, host, offer, failure);
            }
            kind => {
                let failure = child_refusal(ExchangeType::CREATE_CHILD_SA, kind, &offer.config);
                self.child_failed(now, host, offer, failure);
            }
        }
    }

    fn child_failed(&mut self, now: Instant, host: &mut dyn Host, offer: &ChildOffer, failure: Failure) {
        self.child_not_made(&offer.config.name, offer.replaces, failure);
        if offer.replaces.is_none() {
            self.part_refused(&offer.config.name, now);
        }
        self.rekey_later(now, host, offer.replaces, offer.tries);
    }

    /// A pair in use is worth another try before its hard lifetime ends; a new policy is the host's to try again.
    fn rekey_later(&mut self, now: Instant, host: &mut dyn Host, replaces: Option<u32>, tries: Tries) {
        if let Some(old) = replaces {
            self.queue_later(Task::RekeyChild(old), now, host, tries, PutOff::Refused);
        }
    }
}

/// What to do again after a failure that may pass.
fn retry_task(config: &ChildConfig, replaces: Option<u32>) -> Task {
    replaces.map_or_else(|| Task::CreateChild(config.name.clone()), Task::RekeyChild)
}
