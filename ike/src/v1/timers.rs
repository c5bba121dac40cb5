//! Everything with a time: what is sent again, given up, or ends.

use std::time::{Duration, Instant};

use super::child::{Child, ChildState, Use};
use super::exchange::Quick;
use super::handshake::Step;
use super::{Connection, Phase};
use crate::event::{ChildEnd, Event, Transmit};
use crate::failure::Failure;
use crate::host::Host;
use crate::refusal::Refusal;
use crate::verbs::KEEPALIVE;
use crate::wire::numbers::ExchangeType;

/// How old an IKE_SA is at most on which a peer that does not answer has to be gone: longer than all that is sent again takes.
const FRESH_IKE: Duration = Duration::from_secs(60);
/// Transmissions of a quick mode by an IKE_SA that was replaced, before it is asked for by the one in its place.
const UNHEARD: u32 = 2;

impl Connection {
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Finished {
            return None;
        }
        let handshake = self
            .handshake
            .iter()
            .flat_map(|h| [h.repeat.due, h.deadline, h.refused.as_ref().map(Refusal::due)])
            .flatten();
        let sas = self.sas.iter().filter_map(|sa| sa.replaced);
        let quick = self.quick.iter().filter_map(Quick::due);
        let children = self.children.iter().filter_map(Child::due);
        // What has to wait for an answer is looked at when that has come.
        let startable = self.tasks.iter().filter(|q| self.phase == Phase::Up && self.startable(&q.task));
        let tasks = startable.map(|q| self.begins(q));
        let probe = self.probe.map(|probe| probe.due);
        let others = [self.liveness_due(), self.keepalive, self.gaps_due(), probe];
        handshake
            .chain(sas)
            .chain(quick)
            .chain(children)
            .chain(tasks)
            .chain(others.into_iter().flatten())
            .min()
    }

    pub(crate) fn run_timers(&mut self, now: Instant, host: &mut dyn Host) {
        self.run_handshake(now, host);
        self.run_quick(now, host);
        self.run_children(now, host);
        for spi in self.sas.iter().map(|sa| sa.spi_local).collect::<Vec<_>>() {
            let due = self.sa(spi).is_some_and(|sa| sa.replaced.is_some_and(|until| until <= now));
            if due {
                self.retire(now, host, spi);
            }
        }
        if self.phase == Phase::Finished {
            return;
        }
        if self.keepalive.is_some_and(|due| due <= now) {
            let (local, remote) = self.addresses();
            let bytes = vec![0xff];
            self.transmits.push_back(Transmit { local, remote, natt: true, keepalive: true, bytes });
            self.keepalive = Some(now + KEEPALIVE);
        }
        if self.probe.is_some_and(|probe| probe.due <= now) {
            self.probe_again(now, host);
        }
        if self.liveness_due().is_some_and(|due| due <= now) {
            self.check_liveness(now);
        }
        self.wear(now);
    }

    fn run_handshake(&mut self, now: Instant, host: &mut dyn Host) {
        let Some(handshake) = &mut self.handshake else { return };
        if handshake.deadline.is_some_and(|deadline| deadline <= now) {
            let failure = self.unfinished();
            return self.failed(failure);
        }
        if let Some(failure) = handshake.refused.as_ref().and_then(|refused| refused.believed_at(now)) {
            return self.phase1_failed(now, host, failure);
        }
        let fragments = handshake.peer.fragments;
        match handshake.repeat.retransmit(now) {
            None => {}
            Some(Ok(message)) => {
                self.counters.retransmissions += 1;
                self.ask(&message, fragments);
            }
            Some(Err(_)) if self.asks_for_packets(now) => {}
            Some(Err(tries)) => {
                let remote = self.addresses().1;
                let refused = self.handshake.as_ref().and_then(|h| h.refused.as_ref()).map(Refusal::told);
                let failure = refused.unwrap_or_else(|| self.unanswered(remote, tries));
                self.phase1_failed(now, host, failure);
            }
        }
    }

    /// Why phase 1 of ours has got no further.
    fn unanswered(&self, remote: std::net::SocketAddr, tries: u32) -> Failure {
        let step = self.handshake.as_ref().map(|h| &h.step);
        match step {
            // The first message that only the right key reads.
            Some(Step::MainProofSent(_)) => Failure::ProofUnanswered { remote, tries },
            _ => Failure::Timeout { exchange: self.phase1_exchange(), remote, tries },
        }
    }

    /// Why phase 1 of the peer's has got no further.
    fn unfinished(&self) -> Failure {
        let remote = self.path.remote;
        let Some(handshake) = &self.handshake else { return Failure::UnfinishedV1 { remote } };
        match &handshake.step {
            Step::AggressiveAnswered(expected) => match &expected.config {
                None => {
                    let remote_id = expected.id.told();
                    Failure::UnknownPeer { remote_id, local_id: None, from: remote }
                }
                // It has not taken our proof.
                Some(config) if handshake.objected => {
                    Failure::Authentication { id: config.remote_id.clone() }
                }
                Some(_) => Failure::UnfinishedV1 { remote },
            },
            _ => Failure::UnfinishedV1 { remote },
        }
    }

    fn run_quick(&mut self, now: Instant, host: &mut dyn Host) {
        while let Some(at) = self.quick.iter().position(|q| q.due().is_some_and(|due| due <= now)) {
            let Some(quick) = self.quick.get_mut(at) else { return };
            if quick.is_over() {
                self.quick.remove(at);
                continue;
            }
            match quick.repeat.retransmit(now) {
                Some(Ok(message)) => {
                    let spi = quick.ike;
                    if self.has_a_newer_way(at) {
                        // The peer may take nothing in by the old one any more. strongSwan does not by one that it is about to replace.
                        let quick = self.quick.remove(at);
                        self.ask_again(now, quick);
                        continue;
                    }
                    let fragments = self.sa(spi).is_some_and(|sa| sa.peer.fragments);
                    self.counters.retransmissions += 1;
                    self.ask(&message, fragments);
                }
                Some(Err(tries)) => {
                    let Some(spi) =
                        self.quick.get(at).filter(|quick| quick.asks_for().is_some()).map(|q| q.ike)
                    else {
                        let quick = self.quick.remove(at);
                        self.quick_unfinished(now, host, quick);
                        continue;
                    };
                    if self.has_spoken_since(spi, at) {
                        self.quick_unanswered(now, host, at, tries);
                        continue;
                    }
                    if self.may_be_forgotten(now, spi) {
                        self.drop_sa(now, spi);
                        continue;
                    }
                    // The peer is taken for gone.
                    let (exchange, remote) = (ExchangeType::QUICK_MODE, self.addresses().1);
                    return self.failed(Failure::Timeout { exchange, remote, tries });
                }
                None => return,
            }
        }
        if self.quick.is_empty() && self.quick.capacity() > 0 {
            self.quick = Vec::new();
        }
    }

    /// Whether the peer has said something on the IKE_SA of a quick mode since that began: then it is there, has that IKE_SA, and does not
    /// want this one. Some say nothing to a policy that they do not know, and what they say may be lost.
    fn has_spoken_since(&self, spi: u64, at: usize) -> bool {
        let since = self.quick.get(at).map(|quick| quick.since);
        since.zip(self.sa(spi)).is_some_and(|(since, sa)| sa.heard > since)
    }

    /// Whether the peer may have ended an IKE_SA without our knowing: nobody acknowledges a Delete. One that was just made is
    /// there, and who does not answer on it will not on another.
    pub(crate) fn may_be_forgotten(&self, now: Instant, spi: u64) -> bool {
        let old = self.sa(spi).is_some_and(|sa| sa.since + FRESH_IKE < now);
        old && !self.children.is_empty()
    }

    /// Whether a quick mode of ours is on an IKE_SA whose place another has taken, and nobody has answered it there twice, which may be once
    /// that a message was lost. A peer of our own answers for as long as it has the IKE_SA; of two that crossed it may have the older one alone.
    fn has_a_newer_way(&self, at: usize) -> bool {
        let twice = |quick: &&Quick| quick.asks_for().is_some() && quick.repeat.sent > UNHEARD;
        let asked = self.quick.get(at).filter(twice).map(|quick| quick.ike);
        let sa = asked.and_then(|spi| self.sa(spi));
        sa.is_some_and(|sa| sa.replaced.is_some() && !sa.peer.culvert) && self.current_sa().is_some()
    }

    fn run_children(&mut self, now: Instant, host: &mut dyn Host) {
        for spi in self.children.iter().map(|c| c.spi_in).collect::<Vec<_>>() {
            let Some(child) = self.child(spi) else { continue };
            let (state, usable) = (child.state, child.usable);
            match (state, usable) {
                (ChildState::Replaced(until), _) if until <= now => {
                    self.delete_child(now, host, spi, ChildEnd::Rekeyed);
                }
                (ChildState::Installed, _) if child.unproved.is_some_and(|at| at <= now) => {
                    self.doubt(now, spi);
                }
                (ChildState::Installed, Use::At(at) | Use::Connected(at)) if at <= now => {
                    self.activate(now, spi);
                }
                _ => {}
            }
        }
    }

    /// Tells that the IKE_SA ended, and ends it.
    pub(crate) fn retire(&mut self, now: Instant, host: &mut dyn Host, spi: u64) {
        let delete = self.sa(spi).map(super::ike_sa::IkeSa::delete);
        self.inform(host, spi, delete.into_iter().collect());
        self.drop_sa(now, spi);
    }

    /// An event for the host about a failure to renew phase 1.
    pub(crate) fn tell_not_renewed(&mut self, failure: Failure) {
        self.events.push_back(Event::IkeRekeyFailed { failure });
    }
}
