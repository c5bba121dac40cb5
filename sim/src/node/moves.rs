//! A node whose state goes to another one, which carries on at its addresses: what a cluster does when a node is drained, or is
//! lost. Everything goes by the octets of snapshots. Whoever is at the other end must not notice.

use std::time::Instant;

use esp::{InboundSa, Lease, Lifetime, OutboundSa, Resume};
use ike::supervise::{Senders, Supervisor};
use ike::{Connection, NotNow};
use snapshot::{Form, SnapshotError, decode, encode};

use super::Node;
use super::peer::Peer;
use super::sas::{BLOCK, Pair, Sas};
use crate::invariants::Witness;

/// How the state of a node gets to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// The node is drained: it hands everything over as it stands.
    Drained,
    /// The node is lost: what is known of outbound SAs is what it has told when it reserved its numbers. No message of IKE has
    /// left before its standby had it, so the connections are known as they are.
    Lost,
    /// The same, with the next node going on as if the last one had sent nothing since: a fault on purpose.
    Careless,
}

impl Node {
    /// Everything of this node goes to another one, which has its place from now on. Half-open negotiations stay, as a node that is
    /// drained sees them through.
    pub fn hand_over(&mut self, now: Instant, how: Handover, w: &mut Witness) {
        for peer in &mut self.peers {
            if let Err(what) = peer.hand_over(now, how) {
                w.violation(format!("tunnel {}: not to be handed over: {what}", peer.tunnel));
            }
        }
        w.handed_over();
    }
}

impl Peer {
    fn hand_over(&mut self, now: Instant, how: Handover) -> Result<(), String> {
        let config = &self.config;
        for conn in self.conns.values_mut() {
            let snapshot = match conn.core.snapshot(now) {
                Ok(snapshot) => over_the_wire(&snapshot).map_err(|error| error.to_string())?,
                Err(NotNow::HalfOpen | NotNow::Finished) => continue,
                Err(error @ NotNow::Undrained) => return Err(error.to_string()),
            };
            let resume = match how {
                Handover::Drained | Handover::Careless => ike::Resume::Exactly,
                Handover::Lost => ike::Resume::Beyond,
            };
            let restored = Connection::restore(&snapshot, now, resume, config.clone());
            conn.core = restored.map_err(|error| error.to_string())?;
            conn.lifetime = conn.lifetime.as_ref().map(|life| moved(life, now)).transpose()?;
        }
        let supervisor = over_the_wire(&self.supervisor.snapshot(now)).map_err(|error| error.to_string())?;
        self.supervisor = Supervisor::restored(&supervisor, now).map_err(|error| error.to_string())?;
        let senders = over_the_wire(&self.senders.snapshot()).map_err(|error| error.to_string())?;
        self.senders = Senders::restored(&senders);
        self.sas.hand_over(now, how)
    }
}

impl Sas {
    fn hand_over(&mut self, now: Instant, how: Handover) -> Result<(), String> {
        for pair in self.pairs.values_mut() {
            pair.hand_over(now, how)?;
        }
        Ok(())
    }
}

impl Pair {
    fn hand_over(&mut self, now: Instant, how: Handover) -> Result<(), String> {
        let inbound = over_the_wire(&self.inbound.snapshot()).map_err(|error| error.to_string())?;
        self.inbound =
            InboundSa::restore(&inbound, std::sync::Arc::new).map_err(|error| error.to_string())?;
        let (snapshot, resume) = match how {
            Handover::Drained => (self.outbound.snapshot(), Resume::Exactly),
            Handover::Lost => (self.told.clone(), Resume::Beyond(0)),
            Handover::Careless => (self.told.clone(), Resume::Exactly),
        };
        let snapshot = over_the_wire(&snapshot).map_err(|error| error.to_string())?;
        let outbound = OutboundSa::restore(&snapshot, resume, Lease::up_to(0));
        self.outbound = outbound.map_err(|error| error.to_string())?;
        self.reserve();
        self.lifetime = moved(&self.lifetime, now)?;
        Ok(())
    }

    /// Takes the next block of numbers, and tells the standby of it before any is used.
    pub(super) fn reserve(&mut self) {
        self.outbound.reserve(Lease::up_to(self.outbound.sequence() + BLOCK));
        self.told = self.outbound.snapshot();
    }
}

fn moved(lifetime: &Lifetime, now: Instant) -> Result<Lifetime, String> {
    let snapshot = over_the_wire(&lifetime.snapshot(now)).map_err(|error| error.to_string())?;
    Ok(Lifetime::restore(&snapshot, now))
}

fn over_the_wire<F: Form>(snapshot: &F) -> Result<F, SnapshotError> {
    decode(&encode(snapshot))
}
