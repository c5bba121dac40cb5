//! The Informational exchange (RFC 2409 section 5.7): notifies and deletes. Nobody answers them, so each says what can be
//! believed at once or not at all.

use std::time::{Duration, Instant};

use super::child::{ChildState, Use};
use super::exchange::Step;
use super::ike_sa::{Of, Proof};
use super::tasks::Task;
use super::wire::{self, Exchange, Header, Notify, NotifyType, Payload, Payloads};
use super::{Connection, Phase};
use crate::event::{ChildEnd, CloseReason, Datagram, Event};
use crate::failure::Failure;
use crate::fruit::Fruit;
use crate::host::Host;
use crate::wire::numbers::ProtocolId;

/// How old an IKE_SA may be whose INITIAL-CONTACT counts that comes by itself: it is for the first message under its
/// protection, and one that somebody has kept must not take a tunnel down.
const FRESH: Duration = Duration::from_secs(30);

/// How old a pair is at least that the peer says it has not: by then it has missed the third message of quick mode, or asked for it
/// again.
const NEW_PAIR: Duration = Duration::from_secs(10);

impl Connection {
    pub(crate) fn informational(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        header: &Header,
        datagram: Datagram<'_>,
    ) {
        let id = header.message_id;
        let connected = self.quick.iter().position(|quick| quick.ike == spi && quick.id == id);
        let Some(sa) = self.sa_mut(spi) else { return self.counters.dropped += 1 };
        // CONNECTED bears the Message ID of its quick mode (RFC 2408 section 3.1).
        if connected.is_none() && sa.seen.has(id) {
            return self.counters.dropped += 1;
        }
        let iv = sa.first_iv(id);
        let opened = match sa.open(header, datagram.bytes, &iv, (Proof::First, 1)) {
            Ok(opened) => opened,
            _ => return self.counters.dropped += 1,
        };
        let of = of(&opened.payloads);
        if connected.is_none() && !sa.seen.note(id, of) {
            return self.counters.dropped += 1;
        }
        let payloads = Payloads(&opened.payloads);
        // One that may have come before is answered, and shows neither that the peer is there nor where.
        if of == Of::Rest || payloads.notifies().all(|notify| self.is_said_now(spi, notify)) {
            self.authentic(now, spi, datagram);
        }
        for notify in payloads.notifies() {
            // A refusal among them may have ended one.
            let quick = self.quick.iter().position(|quick| quick.ike == spi && quick.id == id);
            self.notified(now, host, spi, quick, notify);
        }
        for delete in payloads.deletes() {
            // What follows the delete of the IKE_SA it came by finds nothing any more.
            if self.phase == Phase::Finished || self.sa(spi).is_none() {
                return;
            }
            self.deleted(now, delete);
        }
    }

    fn notified(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        quick: Option<usize>,
        notify: &Notify,
    ) {
        match notify.kind {
            NotifyType::R_U_THERE => self.acknowledge(host, spi, notify),
            NotifyType::R_U_THERE_ACK => self.acknowledged(notify),
            NotifyType::CONNECTED => {
                let pair = quick.and_then(|at| self.quick.get(at)).and_then(|quick| match quick.step {
                    Step::Done(_, pair) => pair,
                    _ => None,
                });
                let waits = |spi: &u32| matches!(self.child(*spi).map(|c| c.usable), Some(Use::Connected(_)));
                if let Some(spi_in) = pair.filter(waits) {
                    self.activate(now, spi_in);
                }
            }
            NotifyType::INITIAL_CONTACT => self.contacted(now, spi),
            kind if kind.is_error() => {
                let spi_of = |octets: &[u8]| octets.try_into().ok().map(u32::from_be_bytes);
                let about: Option<u32> = spi_of(&notify.spi);
                // Some put it where IKEv2 has it.
                let lost = about.or_else(|| spi_of(&notify.data)).filter(|_| kind == NotifyType::INVALID_SPI);
                if let Some(spi_in) = lost.and_then(|spi| self.child_by_peer(spi)).map(|child| child.spi_in) {
                    return self.unknown_to_peer(now, spi_in);
                }
                let ours = |spi: u32| {
                    self.quick.iter().position(|q| q.asks_for().is_some() && q.spi_in() == Some(spi))
                };
                let mut waiting = self.quick.iter().enumerate().filter(|(_, q)| q.asks_for().is_some());
                let only = waiting.next().map(|(at, _)| at).filter(|_| waiting.next().is_none());
                // Not everybody says which one it is about.
                let only = only.filter(|_| kind.refuses_quick_mode());
                if let Some(at) = about.and_then(ours).or(only) {
                    self.quick_refused(now, host, at, kind);
                }
            }
            _ => {}
        }
    }

    /// The peer says that it has no such pair: another takes its place. It may be wrong of one that has just been made, for a packet
    /// may overtake the third message of quick mode; and who says it of each is not to have one made as fast as messages travel.
    fn unknown_to_peer(&mut self, now: Instant, spi_in: u32) {
        let known = self.child(spi_in).filter(|child| child.is_installed() && child.span.1 + NEW_PAIR <= now);
        if known.is_some() {
            self.queue(Task::RekeyChild(spi_in), now);
        }
    }

    /// The peer says by this IKE_SA that it has nothing else with us: what was agreed on before its phase 1 began is gone.
    pub(crate) fn contacted(&mut self, now: Instant, spi: u64) {
        let fresh = self.sa(spi).filter(|sa| sa.since + FRESH > now);
        // What was made while it was on its way is none of what was there before.
        let Some(began) = fresh.map(|sa| sa.began) else { return };
        let older = self.sas.iter().filter(|sa| sa.since < began && sa.spi_local != spi);
        for spi in older.map(|sa| sa.spi_local).collect::<Vec<_>>() {
            self.drop_sa(now, spi);
        }
        let gone = self.children.iter().filter(|child| child.span.1 < began);
        let gone: Vec<_> = gone.map(|child| (child.spi_in, child.config.name.clone())).collect();
        // One who has made the IKE_SA asks for what it wants by it.
        let ours = self.sa(spi).is_some_and(|sa| sa.initiator);
        for (spi_in, name) in gone {
            self.remove_child(spi_in, ChildEnd::LostByPeer);
            if ours && !self.queue(Task::CreateChild(name.clone()), now) {
                self.asked_not_made(&name, Failure::ChildGone(ChildEnd::LostByPeer));
            }
        }
        if ours {
            // It knows of nothing that it was asked for, and nobody else asks for what was under way.
            self.ask_for_what_is_lacking(now);
        }
    }

    fn deleted(&mut self, now: Instant, delete: &wire::Delete) {
        match delete.protocol {
            ProtocolId::ESP => {
                for spi in &delete.spis {
                    let theirs = spi.as_slice().try_into().ok().map(u32::from_be_bytes);
                    let Some(spi_in) = theirs.and_then(|spi| self.child_by_peer(spi)).map(|c| c.spi_in)
                    else {
                        continue;
                    };
                    let reason = self.end_of(spi_in, ChildEnd::DeletedByPeer);
                    self.revive_crossed(spi_in);
                    // Another pair of the policy may be there that the peer has and we do not send by yet.
                    let name = self.child(spi_in).map(|c| c.config.name.clone()).unwrap_or_default();
                    let newer = self.children.iter().rev().find(|c| {
                        c.config.name == name && c.spi_in != spi_in && c.state == ChildState::Installed
                    });
                    if let Some(newer) = newer.map(|c| c.spi_in) {
                        self.activate(now, newer);
                    }
                    let reason = if self.child(spi_in).is_some_and(|c| !c.is_installed()) {
                        ChildEnd::Rekeyed
                    } else {
                        reason
                    };
                    self.remove_child(spi_in, reason);
                }
            }
            ProtocolId::IKE => {
                for spi in &delete.spis {
                    let spis = spi.split_first_chunk::<8>().and_then(|(i, r)| {
                        let r: [u8; 8] = r.try_into().ok()?;
                        Some((u64::from_be_bytes(*i), u64::from_be_bytes(r)))
                    });
                    let named = self.sas.iter().find(|sa| Some(sa.spis()) == spis).map(|sa| sa.spi_local);
                    if let Some(spi) = named {
                        self.drop_sa(now, spi);
                    }
                }
                if self.sas.is_empty() && self.children.is_empty() && self.handshake.is_none() {
                    self.ended_by_peer(now);
                }
            }
            _ => {}
        }
    }

    /// The peer has ended everything. A connection that never had a Child SA was no success, whoever ended it.
    fn ended_by_peer(&mut self, now: Instant) {
        let reason = match &mut self.fruit {
            Fruit::None(why) => CloseReason::Failed(Failure::EndedChildless {
                after: now.saturating_duration_since(self.began).as_secs(),
                why: why.take(),
            }),
            Fruit::Some => CloseReason::DeletedByPeer,
        };
        self.down(reason);
    }

    /// A message of its own on an IKE_SA. Nobody acknowledges it.
    pub(crate) fn inform(&mut self, host: &mut dyn Host, spi: u64, payloads: Vec<Payload>) {
        let Some(sa) = self.sa_mut(spi) else { return };
        let id = sa.draw_id(of(&payloads), host);
        let mut iv = sa.first_iv(id);
        let sealed = sa.seal(Exchange::INFORMATIONAL, id, &mut iv, Proof::First, payloads);
        let fragments = sa.peer.fragments;
        if let Ok(message) = sealed {
            self.ask(&message, fragments);
        }
    }

    /// Deletes a pair. Its keys go at once; the peer is told if there is an IKE_SA to tell it by.
    pub(crate) fn delete_child(&mut self, now: Instant, host: &mut dyn Host, spi_in: u32, reason: ChildEnd) {
        let Some(child) = self.child(spi_in) else { return };
        let name = child.config.name.clone();
        let reason = self.end_of(spi_in, reason);
        // The peer takes a pair that we have and do not send by yet for the one to use, from now on.
        let successor = self
            .children
            .iter()
            .rev()
            .find(|c| c.config.name == name && c.spi_in != spi_in && c.is_installed());
        if let Some(successor) =
            successor.map(|c| c.spi_in).filter(|_| self.child(spi_in).is_some_and(|c| c.active))
        {
            self.activate(now, successor);
        }
        if let Some(spi) = self.telling_sa().map(|sa| sa.spi_local) {
            self.inform(host, spi, vec![delete_esp(spi_in)]);
        }
        self.remove_child(spi_in, reason);
        self.end_if_empty();
    }

    /// Nothing is left that anybody would miss: no pair, no IKE_SA, nothing to be done.
    pub(crate) fn end_if_empty(&mut self) {
        let idle = self.sas.is_empty() && self.handshake.is_none() && self.tasks.is_empty();
        if self.phase == Phase::Up && idle && self.children.is_empty() {
            self.down(CloseReason::Failed(Failure::Expired));
        }
    }

    /// Ends everything, and tells the peer.
    pub(crate) fn close(&mut self, host: &mut dyn Host, reason: CloseReason) {
        if self.phase == Phase::Up
            && let Some(spi) = self.telling_sa().map(|sa| sa.spi_local)
        {
            let pairs: Vec<u32> = self.children.iter().map(|c| c.spi_in).collect();
            if !pairs.is_empty() {
                let spis = pairs.iter().map(|spi| spi.to_be_bytes().to_vec()).collect();
                let delete = wire::Delete { protocol: ProtocolId::ESP, spis };
                self.inform(host, spi, vec![Payload::Delete(delete)]);
            }
            for spi in self.sas.iter().map(|sa| sa.spi_local).collect::<Vec<_>>() {
                let delete = self.sa(spi).map(super::ike_sa::IkeSa::delete);
                self.inform(host, spi, delete.into_iter().collect());
            }
        }
        self.down(reason);
    }

    /// An authentic message of the peer's has arrived on an IKE_SA.
    pub(crate) fn authentic(&mut self, now: Instant, spi: u64, datagram: Datagram<'_>) {
        self.silence.broken(now);
        self.sa_mut(spi).into_iter().for_each(|sa| sa.heard = now);
        if datagram.natt {
            self.moved(datagram.remote);
        }
    }

    /// Reports that a Child SA could not be made. Until there is one, the reason is kept: the peer may end everything for it.
    pub(crate) fn tell_refused(&mut self, policy: &std::sync::Arc<str>, failure: Failure) {
        if let Fruit::None(why) = &mut self.fruit {
            *why = Some(Box::new(failure.clone()));
        }
        self.events.push_back(Event::ChildFailed { name: policy.clone(), failure });
    }
}

/// What an Informational is of.
fn of(payloads: &[Payload]) -> Of {
    let is_sign = |payload: &Payload| match payload {
        Payload::Notify(notify) => matches!(notify.kind, NotifyType::R_U_THERE | NotifyType::R_U_THERE_ACK),
        _ => false,
    };
    if !payloads.is_empty() && payloads.iter().all(is_sign) { Of::Liveness } else { Of::Rest }
}

/// The DELETE payload of a pair: our SPI, by which the peer sends.
pub(crate) fn delete_esp(spi_in: u32) -> Payload {
    let spis = vec![spi_in.to_be_bytes().to_vec()];
    Payload::Delete(wire::Delete { protocol: ProtocolId::ESP, spis })
}
