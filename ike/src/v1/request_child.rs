//! Quick mode started: a new pair of SAs or one in another's place, and every way it can turn out (RFC 2409 section 5.5).

use std::sync::Arc;
use std::time::Instant;

use super::child::{Agreed, Child};
use super::exchange::{ChildOffer, Digest, Quick, REMEMBERED, Repeat, Step, Tries};
use super::handshake::NONCE_LEN;
use super::ike_sa::{Of, Proof};
use super::tasks::Task;
use super::wire::{Exchange, Header, Id, NotifyType, Payload, Payloads, Sa};
use super::{Connection, accept, keys, lifetime, offer};
use crate::config::{ChildConfig, Mode};
use crate::coverage::Traffic;
use crate::crypto::CryptoError;
use crate::crypto::dh::KeyPair;
use crate::event::{Datagram, Event};
use crate::failure::Failure;
use crate::host::{Host, random_array};
use crate::mode;
use crate::proposal::{EspProposal, negotiate};
use crate::verbs::MAX_CHILDREN;
use crate::wire::numbers::{ExchangeType, TransformType};
use crate::wire::ts;

/// The ways in which a policy does or does without a key exchange of its own, in order: the group of the pair before, or that
/// of phase 1, suits the peer most likely.
fn ways(config: &ChildConfig, likely: Option<u16>) -> Vec<Option<u16>> {
    let mut ways: Vec<Option<u16>> = Vec::new();
    for proposal in config.proposals.iter() {
        let groups = proposal.transforms().iter().filter(|t| t.kind == TransformType::KE);
        let mut of_this: Vec<Option<u16>> = groups.map(|t| Some(t.id).filter(|id| *id != 0)).collect();
        if of_this.is_empty() {
            of_this.push(None);
        }
        for way in of_this {
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
    }
    // The likely one first, the others as they are.
    ways.sort_by_key(|way| !(way.is_some() && *way == likely));
    ways
}

/// The proposals that can go this way.
fn that_go(config: &ChildConfig, way: Option<u16>) -> Vec<EspProposal> {
    let goes = |proposal: &&EspProposal| {
        let mut groups = proposal.transforms().iter().filter(|t| t.kind == TransformType::KE).peekable();
        match way {
            None => groups.peek().is_none() || groups.any(|t| t.id == 0),
            Some(group) => groups.any(|t| t.id == group),
        }
    };
    config.proposals.iter().filter(goes).cloned().collect()
}

impl Connection {
    /// Asks for a pair for a policy, in place of `replaces` if given.
    pub(crate) fn request_child(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        config: Arc<ChildConfig>,
        replaces: Option<u32>,
        tries: Tries,
    ) {
        if self.children.len() >= MAX_CHILDREN {
            return self.child_not_made(&config.name, replaces, Failure::TooManyChildren(MAX_CHILDREN));
        }
        if let Some(failure) = self.mode_obstacle(&config) {
            return self.child_not_made(&config.name, replaces, failure);
        }
        let (Some(ours), Some(theirs)) = (single(&config.local), single(&config.remote)) else {
            let (local, remote) = (ts::describe(&config.local), ts::describe(&config.remote));
            let failure = Failure::SelectorsRefused { local, remote };
            return self.child_not_made(&config.name, replaces, failure);
        };
        self.make_room_for_quick();
        let Some(spi_in) = host.allocate_esp_spi(self.addresses().1) else {
            self.child_not_made(&config.name, replaces, Failure::NoSpi);
            return self.queue_later(retry_task(&config, replaces), now, host, tries);
        };
        match self.start_quick(now, host, (&config, replaces, tries, spi_in), (ours, theirs)) {
            Ok(()) => {}
            Err(error) => {
                self.events.push_back(Event::ReleaseSpi(spi_in));
                self.child_not_made(&config.name, replaces, error.into());
                self.queue_later(retry_task(&config, replaces), now, host, tries);
            }
        }
    }

    fn start_quick(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        (config, replaces, tries, spi_in): (&Arc<ChildConfig>, Option<u32>, Tries, u32),
        ids: (Id, Id),
    ) -> Result<(), CryptoError> {
        let before = replaces.and_then(|old| self.child(old)).and_then(|child| child.group);
        let likely = before.or_else(|| self.choice().map(|choice| choice.group));
        let ways = ways(config, likely);
        let way = *ways.get(tries.way % ways.len().max(1)).ok_or(CryptoError::Unsupported)?;
        let dh = way.map(|group| KeyPair::generate(group, host)).transpose()?;
        let nonce = random_array::<NONCE_LEN>(host).to_vec();
        let proposals = that_go(config, way);
        let offer = offer::quick(&proposals, spi_in, way, config.life, config.mode, self.encapsulation());
        if offer.proposals.iter().all(|proposal| proposal.transforms.is_empty()) {
            return Err(CryptoError::Unsupported);
        }
        let mut payloads = vec![Payload::Sa(offer), Payload::Nonce(nonce.clone())];
        payloads.extend(dh.iter().map(|dh| Payload::Ke(dh.public().to_vec())));
        payloads.extend([Payload::Id(ids.0), Payload::Id(ids.1)]);
        let policy = self.policy_of_repeats();
        let Some(spi) = self.current_sa().map(|sa| sa.spi_local) else { return Err(CryptoError::Library) };
        let Some(sa) = self.sa_mut(spi) else { return Err(CryptoError::Library) };
        let id = sa.draw_id(Of::Rest, host);
        let mut iv = sa.first_iv(id);
        let message = sa.seal(Exchange::QUICK, id, &mut iv, Proof::First, payloads)?;
        let fragments = sa.peer.fragments;
        let offer = ChildOffer { config: config.clone(), spi_in, nonce, dh, replaces, tries };
        self.quick.push(Quick {
            ike: spi,
            id,
            iv,
            step: Step::Requested(Box::new(offer)),
            repeat: Repeat::asking(now, message.clone(), None, policy),
            since: now,
        });
        self.ask(&message, fragments);
        Ok(())
    }

    /// The second message: the peer's answer.
    pub(crate) fn quick_answered(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        at: usize,
        header: &Header,
        datagram: Datagram<'_>,
    ) {
        let Some(Quick { ike, iv, step: Step::Requested(offer), .. }) = self.quick.get(at) else { return };
        let (spi, iv, nonce) = (*ike, iv.clone(), offer.nonce.clone());
        let Some(sa) = self.sa_mut(spi) else { return };
        let opened = match sa.open(header, datagram.bytes, &iv, (Proof::Second(&nonce), 2)) {
            Ok(opened) => opened,
            _ => return self.counters.dropped += 1,
        };
        let mut quick = self.quick.remove(at);
        let Step::Requested(offer) = quick.step else { return };
        self.authentic(now, spi, datagram);
        let payloads = Payloads(&opened.payloads);
        let commit = header.commit;
        let (config, spi_in) = (offer.config.clone(), offer.spi_in);
        let (replaces, tries) = (offer.replaces, offer.tries);
        match self.quick_agreed(spi, *offer, payloads) {
            Ok(agreed) => {
                quick.iv = opened.iv;
                let nr = payloads.nonce().unwrap_or_default();
                let Some(sa) = self.sa_mut(spi) else { return };
                let fragments = sa.peer.fragments;
                let proof = Proof::Third(&nonce, nr);
                let sealed = sa.seal(Exchange::QUICK, quick.id, &mut quick.iv, proof, Vec::new());
                let Ok(message) = sealed else {
                    self.events.push_back(Event::ReleaseSpi(spi_in));
                    return self.child_not_made(&config.name, replaces, CryptoError::Library.into());
                };
                let round_trip = now.saturating_duration_since(quick.since);
                let usable = self.usable_after(&config.name, now, round_trip, commit);
                self.install_child(agreed, usable, (quick.since, now));
                self.ask(&message, fragments);
                quick.step = Step::Done(now + REMEMBERED, Some(spi_in));
                quick.repeat = Repeat::answering(message, Digest::of(datagram.bytes));
                self.quick.push(quick);
            }
            Err(failure) => {
                self.events.push_back(Event::ReleaseSpi(spi_in));
                self.notify_about(host, spi, NotifyType::INVALID_ID_INFORMATION, spi_in);
                let again = !mode::is_final(&failure);
                self.child_not_made(&config.name, replaces, failure);
                if again {
                    self.queue_later(retry_task(&config, replaces), now, host, tries);
                }
            }
        }
    }

    /// What the peer agreed to, with its keys.
    fn quick_agreed(&self, spi: u64, offer: ChildOffer, payloads: Payloads<'_>) -> Result<Agreed, Failure> {
        let malformed = |what| Failure::Malformed {
            exchange: ExchangeType(Exchange::QUICK.0),
            error: crate::wire::WireError::BadField(what),
        };
        let sa = self.sa(spi).ok_or(CryptoError::Library)?;
        let answer: &Sa = payloads.sa().ok_or_else(|| malformed("SA"))?;
        let group = offer.dh.as_ref().map(KeyPair::group);
        let short = self.short_sha256(&offer.config);
        let (choice, chosen) = accept::quick(&offer.config, answer, short, group)?;
        if chosen.mode.unwrap_or_default() != offer.config.mode {
            let (peer, configured) = (chosen.mode.unwrap_or_default(), offer.config.mode);
            return Err(Failure::Mode { peer, configured });
        }
        let shared = match (&offer.dh, payloads.ke()) {
            (None, None) => None,
            (Some(dh), Some(public)) => Some(dh.agree(public)?),
            _ => return Err(malformed("key exchange")),
        };
        let traffic = self.answered_ids(&offer.config, payloads)?;
        let nr = payloads.nonce().ok_or_else(|| malformed("nonce"))?;
        let keys = keys::child(
            sa.suite,
            sa.d(),
            &choice,
            shared.as_ref().map(|shared| shared.as_slice()),
            (&offer.nonce, nr),
            offer.spi_in,
            chosen.spi_out,
        )?;
        let limit = lifetime::limit_of(chosen.life).least(lifetime::of_responder(payloads));
        Ok(Agreed {
            config: offer.config,
            spi_in: offer.spi_in,
            spi_out: chosen.spi_out,
            choice,
            keys,
            traffic,
            initiated: true,
            limit,
        })
    }

    /// The subnets that the answer names have to be ours, or within them: ours first, for we have started the exchange.
    fn answered_ids(&self, config: &ChildConfig, payloads: Payloads<'_>) -> Result<Traffic, Failure> {
        let whole = || Traffic::of(config);
        let ids: Vec<_> = payloads.ids().collect();
        let (local, remote) = match ids.as_slice() {
            // Nothing said is nothing changed.
            [] => return Ok(whole()),
            [ours, theirs] => (ours.selector(), theirs.selector()),
            _ => (None, None),
        };
        let within =
            |ts: &ts::TrafficSelector, all: &[ts::TrafficSelector]| all.iter().any(|a| a.contains(ts));
        match (local, remote) {
            (Some(local), Some(remote))
                if within(&local, &config.local) && within(&remote, &config.remote) =>
            {
                Ok(Traffic { local: vec![local], remote: vec![remote] })
            }
            _ => {
                let told = |at: usize| ids.get(at).map(|id| id.told_as_subnet()).unwrap_or_default();
                Err(Failure::Selectors {
                    offered_local: told(0),
                    offered_remote: told(1),
                    configured: accept::describe_policy(config),
                })
            }
        }
    }

    /// The peer refuses what we asked for, by a notify of its own.
    pub(crate) fn quick_refused(&mut self, now: Instant, host: &mut dyn Host, at: usize, kind: NotifyType) {
        if !matches!(self.quick.get(at).map(|quick| &quick.step), Some(Step::Requested(_))) {
            return;
        }
        let quick = self.quick.remove(at);
        let Step::Requested(offer) = quick.step else { return };
        self.events.push_back(Event::ReleaseSpi(offer.spi_in));
        let ChildOffer { config, replaces, mut tries, .. } = *offer;
        let likely = replaces.and_then(|old| self.child(old)).and_then(|child| child.group);
        let ways = ways(&config, likely.or_else(|| self.choice().map(|choice| choice.group)));
        if kind == NotifyType::NO_PROPOSAL_CHOSEN && tries.way + 1 < ways.len() {
            // The peer may want another group, or none; it does not say which.
            tries.way += 1;
            return self.queue_again(retry_task(&config, replaces), now, tries);
        }
        let failure = match kind {
            NotifyType::NO_PROPOSAL_CHOSEN if config.mode == Mode::Transport => {
                Failure::TransportRefused { offered: negotiate::describe_configured(&config.proposals) }
            }
            NotifyType::NO_PROPOSAL_CHOSEN => {
                Failure::QuickRefused { offered: negotiate::describe_configured(&config.proposals) }
            }
            NotifyType::INVALID_ID_INFORMATION => Failure::ProxyRefused {
                local: ts::describe(&config.local),
                remote: ts::describe(&config.remote),
            },
            kind => Failure::NotifyV1 { exchange: ExchangeType(Exchange::QUICK.0), notify: kind.to_string() },
        };
        self.ask_later(now, host, (&config, replaces, tries), failure);
    }

    /// A policy comes to nothing for now: it is asked for again later, beginning with the first way.
    fn ask_later(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        (config, replaces, tries): (&ChildConfig, Option<u32>, Tries),
        failure: Failure,
    ) {
        self.child_not_made(&config.name, replaces, failure);
        self.queue_later(retry_task(config, replaces), now, host, Tries { way: 0, ..tries });
    }

    /// The peer says nothing to a quick mode of ours, and answers others: that policy is tried again later.
    pub(crate) fn quick_unanswered(&mut self, now: Instant, host: &mut dyn Host, at: usize, tries: u32) {
        let quick = self.quick.remove(at);
        let Step::Requested(offer) = quick.step else { return };
        self.events.push_back(Event::ReleaseSpi(offer.spi_in));
        let ChildOffer { config, replaces, tries: before, .. } = *offer;
        let (exchange, remote) = (ExchangeType::QUICK_MODE, self.addresses().1);
        let failure = Failure::Timeout { exchange, remote, tries };
        self.ask_later(now, host, (&config, replaces, before), failure);
    }

    /// A quick mode comes to nothing with its IKE_SA: what we have asked for by it is asked for by another.
    pub(crate) fn ask_again(&mut self, now: Instant, quick: Quick) {
        if let Step::Requested(offer) = &quick.step {
            // What was to be replaced may be gone by now.
            let replaces = offer.replaces.filter(|old| self.child(*old).is_some_and(Child::is_installed));
            let (task, tries) = (retry_task(&offer.config, replaces), offer.tries);
            if !self.waits(&task) {
                self.queue_again(task, now, tries);
            }
        }
        self.release_quick(quick);
    }

    /// Gives back what a quick mode holds that comes to nothing.
    pub(crate) fn release_quick(&mut self, quick: Quick) {
        if let Step::Requested(offer) = quick.step {
            self.events.push_back(Event::ReleaseSpi(offer.spi_in));
        }
    }

    /// Whether HMAC-SHA-256 is cut to 96 bits for this policy.
    pub(crate) fn short_sha256(&self, config: &ChildConfig) -> bool {
        let short = |p: &EspProposal| {
            p.transforms()
                .iter()
                .any(|t| t.id == crate::proposal::table::SHA256_96 && t.kind == TransformType::INTEG)
        };
        config.proposals.iter().any(short)
    }

    /// How a pair says whether its ESP goes in UDP.
    pub(crate) fn encapsulation(&self) -> offer::Encapsulation {
        match self.natt.filter(|_| self.encapsulates()) {
            Some(natt) => natt.encapsulation(),
            None => offer::Encapsulation::Raw,
        }
    }

    /// Whether a policy has a pair in place.
    pub(crate) fn has(&self, config: &ChildConfig) -> bool {
        let same = |c: &Child| c.is_installed() && c.config.asks_for_the_same(config);
        self.children.iter().any(same)
    }

    /// Whether a policy has a pair in place, or one is being asked for.
    pub(crate) fn has_or_awaits(&self, config: &ChildConfig) -> bool {
        self.has(config) || self.quick.iter().any(|q| q.asks_for().is_some_and(|c| c.name == config.name))
    }
}

/// What asks for the same again.
pub(crate) fn retry_task(config: &ChildConfig, replaces: Option<u32>) -> Task {
    replaces.map_or_else(|| Task::CreateChild(config.name.clone()), Task::RekeyChild)
}

fn single(selectors: &[ts::TrafficSelector]) -> Option<Id> {
    match selectors {
        [only] => Id::of_selector(only),
        _ => None,
    }
}
