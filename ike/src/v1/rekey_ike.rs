//! A phase 1 that takes another's place. IKEv1 has no rekeying of the IKE_SA: phase 1 is done anew, by whichever side needs it,
//! and the pairs stay. With a peer that is asked whether it is alive a new one is made before the old one ends, for there has
//! to be one to ask by; with another it is made when it is next needed.

use std::time::{Duration, Instant};

use super::tasks::Task;
use super::{Connection, Phase};
use crate::event::{CloseReason, Event};
use crate::failure::Failure;
use crate::host::{Host, random_array};

/// Failures in a row to renew phase 1 before a peer is taken for gone that has pairs with us: they are of no use without a way
/// to renew them, and each has gone through all retransmissions or was refused by word.
const MAX_REOPEN_FAILURES: u32 = 3;

/// How long a peer whose phase 1 took the place of ours has to ask for what it wants, which is what we would ask for.
const PEER_ASKS: Duration = Duration::from_secs(2);

impl Connection {
    /// The soft lifetime of the IKE_SA is over, or a command wants a new one.
    pub(crate) fn renewal_due(&mut self, now: Instant) {
        self.order(Task::RekeyIke, now);
    }

    /// It has carried or seen so much that another one should take its place.
    pub(crate) fn wear(&mut self, now: Instant) {
        let worn = self.current_sa().is_some_and(super::ike_sa::IkeSa::is_worn);
        if worn && self.handshake.is_none() {
            self.queue(Task::RekeyIke, now);
        }
    }

    /// One that can take in nothing more ends, rather than be deaf: the peer learns of it, and whoever next needs one makes it.
    pub(crate) fn retire_full(&mut self, now: Instant, host: &mut dyn Host) {
        while let Some(spi) = self.sas.iter().find(|sa| sa.seen.is_full()).map(|sa| sa.spi_local) {
            self.retire(now, host, spi);
        }
    }

    /// Starts phase 1 anew.
    pub(crate) fn renew(&mut self, now: Instant, host: &mut dyn Host) {
        if self.handshake.is_some() {
            return;
        }
        if let Err(failure) = self.start_phase1(now, host) {
            self.renewal_failed(now, host, failure, false);
        }
    }

    /// Phase 1 was not renewed. What there is stays for the time being. `heard` if packets have come by the pairs since it began.
    pub(crate) fn renewal_failed(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        failure: Failure,
        heard: bool,
    ) {
        self.reopen_failures += 1;
        let silent = matches!(failure, Failure::Timeout { .. } | Failure::ProofUnanswered { .. });
        // A peer that begins alone says nothing to phase 1 of ours, and sends by the pairs: they serve until their lifetime ends.
        let serves = silent && heard && !self.children.is_empty();
        // Without an IKE_SA and packets, silence is all there is to know of the peer. One that was replaced, and that is kept for those
        // who hold pairs by it, is no sign of life.
        if self.current_sa().is_none() && !serves && (silent || self.reopen_failures >= MAX_REOPEN_FAILURES) {
            return self.failed(failure);
        }
        let tries = super::exchange::Tries { put_off: self.reopen_failures, way: 0 };
        self.tell_not_renewed(failure);
        self.queue_later(Task::RekeyIke, now, host, tries);
    }

    /// The hard lifetime of the IKE_SA ends. The pairs have lifetimes of their own.
    pub(crate) fn expire(&mut self, now: Instant, host: &mut dyn Host) {
        if self.phase != Phase::Up {
            return self.close(host, CloseReason::Failed(Failure::Expired));
        }
        for spi in self.sas.iter().map(|sa| sa.spi_local).collect::<Vec<_>>() {
            self.retire(now, host, spi);
        }
        self.end_if_empty();
    }

    /// Whether it belongs into a connection of the same peer rather than beside it, where that one is up or not yet: the peer
    /// has made a new IKE_SA. One that has lost all it had says so, and begins anew.
    pub(crate) const fn joins(&self, up: bool) -> bool {
        !up || !self.initial_contact
    }

    /// Takes over the IKE_SA of another connection of the same peer. If there is nothing left to join, that is given back.
    pub(crate) fn absorb(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        other: Box<Self>,
    ) -> Result<(), Box<Self>> {
        if self.phase == Phase::Finished || other.phase != Phase::Up {
            return Err(other);
        }
        let Self { sas, mut quick, children, transmits, path, floated, nat, natt, counters, .. } = *other;
        debug_assert!(children.is_empty(), "a connection with pairs joins another");
        let before = self.esp_end();
        (self.path, self.floated, self.nat, self.natt) = (path, floated, nat, natt);
        // What comes next from there is from where the peer is already, and would tell nothing.
        if let Some(now_at) = self.esp_end().filter(|end| before.is_some_and(|before| before != *end)) {
            self.events.push_back(Event::RemoteMoved(now_at));
        }
        self.counters.join(counters);
        self.transmits.extend(transmits);
        self.reopen_failures = 0;
        let newest = sas.last().map(|sa| (sa.spi_local, sa.spi_remote, sa.choice));
        for sa in sas {
            self.add_sa(now, sa);
        }
        self.quick.append(&mut quick);
        self.make_room_for_quick();
        self.keep_few_sas(now, host);
        self.silence.broken(now);
        self.probe = None;
        self.keepalive = self.nat.local.then_some(now + crate::verbs::KEEPALIVE);
        if let (Some((local_spi, remote_spi, choice)), Some(config)) = (newest, self.config.clone()) {
            if self.phase == Phase::Handshake {
                self.phase = Phase::Up;
                if self.initiator {
                    // Phase 1 of ours would have been the one to ask by. The peer asks as well, and sooner, unless ours was
                    // taken in on its side as its own is here.
                    let jitter = u32::from(random_array::<1>(host)[0]);
                    self.ask_for_what_is_lacking(now + PEER_ASKS + PEER_ASKS * jitter / 256);
                }
                let (peer, nat) = (config.name.clone(), self.nat);
                self.events.push_back(Event::Established {
                    peer,
                    local_spi,
                    remote_spi,
                    choice,
                    initiator: false,
                    initial_contact: false,
                    nat,
                });
            } else if self.sa(local_spi).is_some_and(|sa| sa.replaced.is_none()) {
                self.counters.ike_rekeys += 1;
                self.events.push_back(Event::IkeRekeyed { local_spi, remote_spi, initiated: false });
            }
        }
        self.settle(now, host);
        Ok(())
    }
}
