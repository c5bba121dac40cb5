//! Quick mode answered (RFC 2409 section 5.5): a pair of SAs that the peer asks for, be it new or in another's place.
//!
//! The pair is in place before our answer leaves, for the peer sends by it as soon as it has that. We send by it once the
//! third message, or a packet, shows that the peer has it.

use std::time::Instant;

use super::child::{Agreed, Use};
use super::exchange::{Answered, Digest, Quick, REMEMBERED, Repeat, Step};
use super::handshake::NONCE_LEN;
use super::ike_sa::{Of, Proof};
use super::match_child::{Matched, Refused};
use super::offer;
use super::responder::says_initial_contact;
use super::wire::{Exchange, Header, Notify, NotifyType, Payload, Payloads, Sa};
use super::{Connection, keys, lifetime};
use crate::crypto::dh::{self, KeyPair};
use crate::crypto::prf::Secret;
use crate::event::{Datagram, Event};
use crate::failure::Failure;
use crate::host::{Host, random_array};
use crate::verbs::MAX_CHILDREN;
use crate::wire::numbers::ProtocolId;

/// What the peer is answered.
struct Answer {
    payloads: Vec<Payload>,
    agreed: Agreed,
    nonces: (Vec<u8>, Vec<u8>),
}

impl Connection {
    /// A message of a quick mode.
    pub(crate) fn quick_mode(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        header: &Header,
        datagram: Datagram<'_>,
    ) {
        let digest = Digest::of(datagram.bytes);
        let at = self.quick.iter().position(|quick| quick.ike == spi && quick.id == header.message_id);
        let Some(at) = at else {
            return self.quick_requested(now, host, spi, header, datagram);
        };
        match self.quick.get(at) {
            Some(quick) if quick.repeat.is_answer_to(digest) => self.answer_quick_again(now, at),
            Some(Quick { step: Step::Requested(_), .. }) => {
                self.quick_answered(now, host, at, header, datagram);
            }
            Some(Quick { step: Step::Answered(_), .. }) => self.quick_done(now, at, header, datagram),
            Some(Quick { step: Step::Done(_, Some(_)), .. }) => {
                self.quick_connected(now, at, header, datagram);
            }
            _ => self.counters.dropped += 1,
        }
    }

    /// What we have answered came again: the peer has missed it.
    fn answer_quick_again(&mut self, now: Instant, at: usize) {
        let Some(quick) = self.quick.get(at) else { return };
        let (message, spi) = (quick.repeat.message.clone(), quick.ike);
        let pair = if let Step::Done(_, pair) = quick.step { pair } else { None };
        self.counters.answered_again += 1;
        let fragments = self.sa(spi).is_some_and(|sa| sa.peer.fragments);
        self.answer(&message, fragments);
        // It does not have the pair yet.
        let waiting =
            pair.and_then(|pair| self.child(pair)).filter(|child| matches!(child.usable, Use::At(_)));
        if let Some((spi_in, name)) = waiting.map(|child| (child.spi_in, child.config.name.clone())) {
            let usable = self.usable_after(&name, now, std::time::Duration::ZERO, false);
            if let Some(child) = self.child_mut(spi_in) {
                child.usable = usable;
            }
        }
    }

    /// A first message. One that has been there before, as a whole or by its nonce, is not taken again.
    fn quick_requested(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        header: &Header,
        datagram: Datagram<'_>,
    ) {
        let full = !self.has_room_for_quick();
        let Some(sa) = self.sa_mut(spi).filter(|sa| !full && !sa.seen.has(header.message_id)) else {
            return self.counters.dropped += 1;
        };
        let iv = sa.first_iv(header.message_id);
        let opened = match sa.open(header, datagram.bytes, &iv, (Proof::First, 1)) {
            Ok(opened) => opened,
            _ => return self.counters.dropped += 1,
        };
        let payloads = Payloads(&opened.payloads);
        let nonce = payloads.nonce().unwrap_or_default();
        if !sa.seen.note(header.message_id, Of::Rest) || !sa.seen.note_nonce(nonce) {
            return self.counters.dropped += 1;
        }
        self.authentic(now, spi, datagram);
        self.make_room_for_quick();
        let digest = Digest::of(datagram.bytes);
        if says_initial_contact(payloads) {
            // Before the pair that it asks for is there, so that it is not taken for one of before.
            self.contacted(now, spi);
        }
        let mut iv = opened.iv;
        let id = header.message_id;
        match self.serve(host, spi, payloads) {
            Ok(Answer { payloads, agreed, nonces }) => {
                let spi_in = agreed.spi_in;
                let policy = self.policy_of_repeats();
                let sealed = self.sa_mut(spi).map(|sa| {
                    let proof = Proof::Second(&nonces.0);
                    sa.seal(Exchange::QUICK, id, &mut iv, proof, payloads).map(|m| (m, sa.peer.fragments))
                });
                let Some(Ok((message, fragments))) = sealed else {
                    return self.events.push_back(Event::ReleaseSpi(spi_in));
                };
                self.install_child(agreed, Use::Free, (now, now));
                self.answer(&message, fragments);
                let repeat = Repeat::asking(now, message, Some(digest), policy);
                let answered = Answered { spi_in, nonces, commit: header.commit };
                let step = Step::Answered(Box::new(answered));
                self.quick.push(Quick { ike: spi, id, iv, step, repeat, since: now });
            }
            Err(refused) => {
                self.tell_refused(&refused.policy, refused.failure);
                let theirs = payloads.sa().and_then(|sa| sa.proposals.first()).map(|p| p.spi.clone());
                let message = self.notify_message(host, spi, refused.kind, theirs.unwrap_or_default());
                let Some((message, fragments)) = message else { return };
                self.answer(&message, fragments);
                let (step, repeat) = (Step::Done(now + REMEMBERED, None), Repeat::answering(message, digest));
                self.quick.push(Quick { ike: spi, id, iv, step, repeat, since: now });
            }
        }
    }

    /// A third message: the peer has the pair, and has shown that it is there now.
    fn quick_done(&mut self, now: Instant, at: usize, header: &Header, datagram: Datagram<'_>) {
        let Some(Quick { ike, iv, step: Step::Answered(answered), .. }) = self.quick.get(at) else { return };
        let (spi, iv, (ni, nr)) = (*ike, iv.clone(), answered.nonces.clone());
        let (spi_in, commit) = (answered.spi_in, answered.commit || header.commit);
        let Some(sa) = self.sa_mut(spi) else { return };
        if sa.open(header, datagram.bytes, &iv, (Proof::Third(&ni, &nr), 3)).is_err() {
            return self.counters.dropped += 1;
        }
        self.authentic(now, spi, datagram);
        if let Some(quick) = self.quick.get_mut(at) {
            quick.step = Step::Done(now + REMEMBERED, Some(spi_in));
            quick.repeat.due = None;
        }
        if commit {
            // It says itself when the pair may be used; a packet on it says so as well.
            let name = self.child(spi_in).map(|child| child.config.name.clone()).unwrap_or_default();
            let usable = self.usable_after(&name, now, std::time::Duration::ZERO, true);
            self.child_mut(spi_in).into_iter().for_each(|child| child.usable = usable);
        } else {
            self.activate(now, spi_in);
        }
    }

    /// A fourth message. Who has set the commit bit says CONNECTED in an Informational (RFC 2408 section 3.1); some, as Windows and
    /// racoon, say it here, with the hash of one and the IV that follows our last message.
    fn quick_connected(&mut self, now: Instant, at: usize, header: &Header, datagram: Datagram<'_>) {
        let Some(Quick { ike, iv, step: Step::Done(_, Some(spi_in)), .. }) = self.quick.get(at) else {
            return;
        };
        let (spi, iv, spi_in) = (*ike, iv.clone(), *spi_in);
        let waits = matches!(self.child(spi_in).map(|child| child.usable), Some(Use::Connected(_)));
        let opened = self
            .sa_mut(spi)
            .filter(|_| waits)
            .and_then(|sa| sa.open(header, datagram.bytes, &iv, (Proof::First, 4)).ok());
        match opened {
            Some(opened) if opened.payloads.iter().any(is_connected) => {
                self.authentic(now, spi, datagram);
                self.activate(now, spi_in);
            }
            _ => self.counters.dropped += 1,
        }
    }

    /// The third message does not come. If the peer has not used the pair either, it has none.
    pub(crate) fn quick_unfinished(&mut self, now: Instant, host: &mut dyn Host, quick: Quick) {
        let Step::Answered(answered) = quick.step else { return self.release_quick(quick) };
        if self.child(answered.spi_in).is_some_and(|child| child.usable == Use::Free) {
            self.remove_unproved(now, host, answered.spi_in);
        }
    }

    fn serve(&mut self, host: &mut dyn Host, spi: u64, payloads: Payloads<'_>) -> Result<Answer, Refused> {
        #[cfg(feature = "test-hooks")]
        if self.refuses {
            let (kind, failure) = (NotifyType::NO_PROPOSAL_CHOSEN, Failure::StillBusy);
            return Err(Refused { kind, policy: crate::event::NO_POLICY.into(), failure });
        }
        let matched = self.match_child(payloads)?;
        let policy = matched.config.name.clone();
        let refuse = |kind, failure| Refused { kind, policy: policy.clone(), failure };
        if self.children.len() >= MAX_CHILDREN {
            let failure = Failure::TooManyChildren(MAX_CHILDREN);
            return Err(refuse(NotifyType::NO_PROPOSAL_CHOSEN, failure));
        }
        let failed = |error: crate::crypto::CryptoError| {
            refuse(NotifyType::INVALID_KEY_INFORMATION, Failure::from(error))
        };
        // The group is settled before anything is computed with it.
        let (ours, shared): (Option<KeyPair>, Option<Secret>) = match (matched.choice.group, payloads.ke()) {
            (None, _) => (None, None),
            (Some(group), public) => {
                let public = public.unwrap_or_default();
                dh::check_public(group, public).map_err(failed)?;
                let ours = KeyPair::generate(group, host).map_err(failed)?;
                let shared = ours.agree(public).map_err(failed)?;
                (Some(ours), Some(shared))
            }
        };
        let spi_in = host
            .allocate_esp_spi(self.addresses().1)
            .ok_or_else(|| refuse(NotifyType::NO_PROPOSAL_CHOSEN, Failure::NoSpi))?;
        match self.answer_of(host, spi, payloads, matched, (spi_in, ours, shared)) {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                self.events.push_back(Event::ReleaseSpi(spi_in));
                Err(refuse(NotifyType::NO_PROPOSAL_CHOSEN, failure))
            }
        }
    }

    fn answer_of(
        &self,
        host: &mut dyn Host,
        spi: u64,
        payloads: Payloads<'_>,
        matched: Matched,
        (spi_in, ours, shared): (u32, Option<KeyPair>, Option<Secret>),
    ) -> Result<Answer, Failure> {
        let missing = || Failure::Crypto(crate::crypto::CryptoError::Library);
        let sa = self.sa(spi).ok_or_else(missing)?;
        let offered: &Sa = payloads.sa().ok_or_else(missing)?;
        let Matched { config, traffic, offer, choice } = matched;
        let ni = payloads.nonce().unwrap_or_default().to_vec();
        let nr = random_array::<NONCE_LEN>(host).to_vec();
        let answer = offer::answer_quick(offered, &offer, spi_in).ok_or_else(missing)?;
        let mut out = vec![Payload::Sa(answer), Payload::Nonce(nr.clone())];
        out.extend(ours.iter().map(|dh| Payload::Ke(dh.public().to_vec())));
        // As they came (RFC 2409 section 5.5).
        out.extend(payloads.ids().map(|id| Payload::Id(id.clone())));
        out.extend(lifetime::shorter(offer.life, config.life, spi_in));
        let keys = keys::child(
            sa.suite,
            sa.d(),
            &choice,
            shared.as_ref().map(|shared| shared.as_slice()),
            (&ni, &nr),
            offer.spi_out,
            spi_in,
        )?;
        let spi_out = offer.spi_out;
        let limit = lifetime::limit_of(offer.life);
        let agreed = Agreed { config, spi_in, spi_out, choice, keys, traffic, initiated: false, limit };
        Ok(Answer { payloads: out, agreed, nonces: (ni, nr) })
    }

    /// A notify about a pair that is not made, in an exchange of its own.
    pub(crate) fn notify_about(&mut self, host: &mut dyn Host, spi: u64, kind: NotifyType, spi_in: u32) {
        if let Some((message, fragments)) =
            self.notify_message(host, spi, kind, spi_in.to_be_bytes().to_vec())
        {
            self.ask(&message, fragments);
        }
    }

    fn notify_message(
        &mut self,
        host: &mut dyn Host,
        spi: u64,
        kind: NotifyType,
        about: Vec<u8>,
    ) -> Option<(Vec<u8>, bool)> {
        let notify = Notify { protocol: ProtocolId::ESP, spi: about, kind, data: Vec::new() };
        let sa = self.sa_mut(spi)?;
        let id = sa.draw_id(Of::Rest, host);
        let mut iv = sa.first_iv(id);
        let payloads = vec![Payload::Notify(notify)];
        let message = sa.seal(Exchange::INFORMATIONAL, id, &mut iv, Proof::First, payloads).ok()?;
        Some((message, sa.peer.fragments))
    }
}

fn is_connected(payload: &Payload) -> bool {
    matches!(payload, Payload::Notify(notify) if notify.kind == NotifyType::CONNECTED)
}
