//! The slots as the API shows them, and what it orders of those of this node; the other nodes as those that are asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cluster::Placement;
use cluster::mesh::Incoming;
use culvert_proto::v1;
use latest::Latest as _;
use tokio::sync::{oneshot, watch};
use tonic::transport::{Channel, Endpoint};

use super::Nodes;
use crate::runtime::{ORDER_ENDED, RuntimeError};
use crate::telemetry::metrics::ClusterFigures;
use crate::wide::Others;

/// Whoever has the connections of a drained node says so within this, and goes on with their peers. Until then these stay at home here,
/// or another node would begin with them.
const SETTLE: Duration = Duration::from_secs(1);

/// It has no slots yet that could go.
const NEW: &str = "this node has only just begun";

/// A slot of which nothing but the number is known.
pub fn slot_of(number: u32) -> v1::Slot {
    v1::Slot { name: format!("slots/{number}"), number, ..v1::Slot::default() }
}

impl Nodes {
    /// Who is there.
    pub fn placement(&self) -> Arc<Placement> {
        self.0.placement.latest()
    }

    /// All slots, with what this node knows of its own and of those that it would go on with.
    pub(crate) fn shown_slots(&self) -> v1::ListSlotsResponse {
        let Some(slots) = self.0.slots.get() else { return v1::ListSlotsResponse::default() };
        let connections = self.connections();
        let table = slots.table().latest();
        let shown = table.values().map(|slot| {
            let (ours, number) = (slots.holds(slot.number), slot.number);
            let standby = slot.standby.as_ref().map(|standby| standby.node.clone()).unwrap_or_default();
            let (rows, octets) = if standby == self.0.name { slots.kept(number) } else { (0, 0) };
            v1::Slot {
                owner: slot.owner.node.clone(),
                standby,
                ready: slot.ready,
                connections: if ours { connections(number) } else { 0 },
                waiting_rows: if ours { slots.waiting(number) as u64 } else { 0 },
                kept_rows: rows as u64,
                kept_octets: octets as u64,
                ..slot_of(number.into())
            }
        });
        let (sudden, exact) = slots.arrivals();
        let arrivals = vec![v1::SlotArrivals { node: self.0.name.clone(), sudden, exact }];
        v1::ListSlotsResponse { slots: shown.collect(), arrivals, nodes_away: Vec::new() }
    }

    /// How this node stands among the others.
    pub fn figures(&self) -> ClusterFigures {
        let Some((slots, mesh)) = self.0.slots.get().zip(self.0.mesh.get()) else {
            return ClusterFigures::default();
        };
        let there = self.placement();
        let others = || there.nodes.iter().filter(|node| node.name != there.own);
        let counted = mesh.counters();
        let mut figures = ClusterFigures {
            etcd_is_away: slots.etcd_is_away(),
            is_behind: slots.is_behind(),
            joined: others().count(),
            heard: others().filter(|node| self.hears(&node.name)).count(),
            arrivals: slots.arrivals(),
            sent: (counted.packets_sent, counted.packets_sent_octets),
            received: (counted.packets_received, counted.packets_received_octets),
            ..ClusterFigures::default()
        };
        let connections = self.connections();
        for slot in slots.mine() {
            figures.waiting += slots.waiting(slot);
            let sum =
                if slots.is_protected(slot) { &mut figures.protected } else { &mut figures.unprotected };
            *sum = (sum.0 + 1, sum.1 + connections(slot));
        }
        for slot in slots.table().latest().keys() {
            let (rows, octets) = slots.kept(*slot);
            figures.kept = (figures.kept.0 + rows, figures.kept.1 + octets);
        }
        figures
    }

    /// What else is counted between the nodes.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.0.mesh.get().map(|mesh| mesh.counters().counts()).unwrap_or_default()
    }

    /// Moves a slot of this node.
    pub(crate) async fn move_slot(&self, slot: u8, to: &str) -> Result<v1::MovedSlot, String> {
        let slots = self.0.slots.get().ok_or(NEW)?;
        let connections = self.connections()(slot);
        slots.move_slot(slot, to).await?;
        Ok(self.moved(slot, to.to_owned(), connections))
    }

    /// Moves all slots of this node, which takes none and begins with nobody from now on.
    pub(crate) async fn drain_for_good(&self) -> Result<v1::DrainNodeResponse, RuntimeError> {
        let slots = self.0.slots.get().ok_or_else(|| RuntimeError::Refused(NEW.to_owned()))?;
        let (before, connections) = (slots.mine(), self.connections());
        let (draining, drained) = (slots.clone(), self.0.drained.clone());
        // Whoever waits for it may go away.
        let (tell, told) = oneshot::channel();
        self.0.runtime.spawn(async move {
            let staying = draining.drain().await;
            let now = draining.mine();
            let _ = tell.send((staying, now));
            tokio::time::sleep(SETTLE).await;
            drained.set();
        });
        let (staying, now) = told.await.map_err(|_| ORDER_ENDED)?;
        // One that nothing was in has gone nowhere.
        let moved = before.difference(&now).filter_map(|slot| {
            let to = slots.elsewhere(*slot)?;
            Some(self.moved(*slot, to, connections(*slot)))
        });
        let staying = staying.into_iter();
        Ok(v1::DrainNodeResponse {
            moved: moved.collect(),
            staying: staying
                .map(|(slot, reason)| v1::StayingSlot { name: format!("slots/{slot}"), reason })
                .collect(),
        })
    }

    fn moved(&self, slot: u8, to: String, connections: u64) -> v1::MovedSlot {
        v1::MovedSlot { name: format!("slots/{slot}"), from: self.0.name.clone(), to, connections }
    }

    /// How many connections each slot has now.
    fn connections(&self) -> impl Fn(u8) -> u64 + use<> {
        let by_slot = self.0.control.get().map(actors::Control::connections_by_slot).unwrap_or_default();
        move |slot| by_slot.get(&slot).map_or(0, |count| *count as u64)
    }
}

impl Others for Nodes {
    fn placement(&self) -> watch::Receiver<Arc<Placement>> {
        self.0.placement.clone()
    }

    fn names(&self) -> BTreeSet<String> {
        self.others()
    }

    fn hears(&self, node: &str) -> bool {
        Self::hears(self, node)
    }

    fn channel(&self, node: &str, endpoint: &Endpoint) -> Channel {
        match self.0.mesh.get() {
            Some(mesh) => mesh.channel(node, endpoint),
            // Nobody is heard yet, so nobody asks for one.
            None => endpoint.connect_lazy(),
        }
    }

    fn incoming(&self) -> Option<Incoming> {
        self.0.mesh.get()?.incoming()
    }
}
