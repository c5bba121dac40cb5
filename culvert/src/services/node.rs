//! NodeService.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use culvert_proto::v1;
use culvert_proto::v1::node_service_server::NodeService;
use prost::Message as _;
use tenants::{Catalog, Error};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::access::{self, Counters};
use crate::runtime::{ALONE, RuntimeError};
use crate::services::{blocking, note, status};
use crate::telemetry::resident_bytes;
use crate::wide::Wide;

/// NodeService over a catalog and the tunnels.
pub struct Nodes {
    catalog: Arc<Catalog>,
    tunnels: Wide,
    api: Arc<Counters>,
    started: SystemTime,
}

impl Nodes {
    /// Serves this catalog and these tunnels, and takes now for the start of the node.
    pub fn new(catalog: Arc<Catalog>, tunnels: Wide, api: Arc<Counters>) -> Self {
        Self { catalog, tunnels, api, started: SystemTime::now() }
    }
}

#[tonic::async_trait]
impl NodeService for Nodes {
    async fn get_node_status(
        &self,
        _request: Request<v1::GetNodeStatusRequest>,
    ) -> Result<Response<v1::NodeStatus>, Status> {
        let snapshot = self.catalog.snapshot();
        let mut status = self.tunnels.local().node_status().await;
        let api = self.api.all(self.catalog.audit());
        status.counters.extend(api.into_iter().map(|(name, count)| (name.to_owned(), count)));
        Ok(Response::new(v1::NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: status.start_time.or_else(|| Some(self.started.into())),
            tenants: snapshot.tenants.len() as u64,
            peers: snapshot.peers.len() as u64,
            resident_bytes: resident_bytes().unwrap_or(0),
            ..status
        }))
    }

    async fn list_nodes(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let peers = self.catalog.peers();
        let Some(placement) = self.tunnels.local().cluster() else {
            let status = self.tunnels.local().node_status().await;
            let alone = v1::ClusterNode {
                name: String::new(),
                slot: status.slot,
                addresses: status.listen_addresses,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                start_time: status.start_time.or_else(|| Some(self.started.into())),
                answers: true,
                home_peers: peers.len() as u64,
                slots: vec![status.slot],
                ..v1::ClusterNode::default()
            };
            return Ok(Response::new(v1::ListNodesResponse { nodes: vec![alone] }));
        };
        // There may be some hundred thousand, and others want this thread.
        let tunnels = self.tunnels.clone();
        let at_home = access::apart(move || tunnels.home_peers(&peers)).await;
        let at_home = at_home.map_err(|error| Status::internal(error.to_string()))?;
        let slots = self.tunnels.local().slots().slots;
        let slots_of = |name: &str| {
            slots.iter().filter(|slot| slot.owner == name).map(|slot| slot.number).collect::<Vec<_>>()
        };
        let node = |node: &cluster::Node| v1::ClusterNode {
            name: node.name.clone(),
            slot: node.slot.into(),
            addresses: node.addresses.iter().map(ToString::to_string).collect(),
            version: node.version.clone(),
            start_time: Some(node.since.into()),
            answers: node.name == placement.own,
            home_peers: at_home.get(&node.name).copied().unwrap_or_default(),
            drained: node.drained,
            slots: slots_of(&node.name),
            away: !self.tunnels.hears(&node.name),
        };
        let mut nodes: Vec<v1::ClusterNode> = placement.nodes.iter().map(node).collect();
        // Those that etcd does not know of any more, and that have tunnels: all else names them as well.
        let mut besides = self.tunnels.names();
        besides.insert(placement.own.clone());
        besides.retain(|name| placement.nodes.iter().all(|node| node.name != *name));
        nodes.extend(besides.into_iter().map(|name| v1::ClusterNode {
            slots: slots_of(&name),
            home_peers: at_home.get(&name).copied().unwrap_or_default(),
            answers: name == placement.own,
            away: !self.tunnels.hears(&name),
            name,
            ..v1::ClusterNode::default()
        }));
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Response::new(v1::ListNodesResponse { nodes }))
    }

    async fn list_slots(
        &self,
        _request: Request<v1::ListSlotsRequest>,
    ) -> Result<Response<v1::ListSlotsResponse>, Status> {
        Ok(Response::new(self.tunnels.slots().await))
    }

    async fn move_slot(
        &self,
        request: Request<v1::MoveSlotRequest>,
    ) -> Result<Response<v1::MovedSlot>, Status> {
        let v1::MoveSlotRequest { name, to } = request.into_inner();
        let number = slot_number(&name)?;
        let placement = self.placement()?;
        self.known_node(&placement, "to", &to)?;
        let slots = self.tunnels.local().slots().slots;
        let Some(slot) = slots.into_iter().find(|slot| slot.number == u32::from(number)) else {
            return Err(status::of_runtime(&RuntimeError::Refused("it is no node's".to_owned()), &name));
        };
        if slot.owner == to {
            return Err(status::invalid("to", format!("{name} is at {to} already")));
        }
        let moved = self.tunnels.move_slot(&slot.owner, number, &to).await;
        moved.map(Response::new).map_err(|error| status::of_runtime(&error, &name))
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let name = request.into_inner().name;
        let placement = self.placement()?;
        self.known_node(&placement, "name", &name)?;
        let takes =
            |node: &&cluster::Node| node.name != name && !node.drained && self.tunnels.hears(&node.name);
        if placement.nodes.iter().find(takes).is_none() {
            let reason = "there is no other node that is heard and was not drained itself";
            return Err(status::of_runtime(&RuntimeError::Refused(reason.to_owned()), &name));
        }
        let drained = self.tunnels.drain(&name).await;
        drained.map(Response::new).map_err(|error| status::of_runtime(&error, &name))
    }

    type BackupStoreStream = Pin<Box<dyn Stream<Item = Result<v1::BackupStoreResponse, Status>> + Send>>;

    async fn backup_store(
        &self,
        _request: Request<v1::BackupStoreRequest>,
    ) -> Result<Response<Self::BackupStoreStream>, Status> {
        let rows = blocking(&self.catalog, "BackupStore", Catalog::backup).await?;
        let rows = rows.map_err(|error| {
            let error = Error::Store(error);
            note("BackupStore", &error);
            status::of_error(&error)
        })?;
        Ok(Response::new(Box::pin(tokio_stream::iter(parts(rows).map(Ok)))))
    }
}

impl Nodes {
    fn placement(&self) -> Result<Arc<cluster::Placement>, Status> {
        self.tunnels.local().cluster().ok_or_else(|| status::of_runtime(&ALONE, ""))
    }

    /// One that [`NodeService::list_nodes`] shows.
    fn known_node(&self, placement: &cluster::Placement, field: &str, name: &str) -> Result<(), Status> {
        if self.tunnels.is_single() {
            // Another node asks, which has looked, and may know of some that this one does not.
            return Ok(());
        }
        let mut known = self.tunnels.names();
        known.insert(placement.own.clone());
        known.extend(placement.nodes.iter().map(|node| node.name.clone()));
        if known.contains(name) {
            return Ok(());
        }
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        Err(status::invalid(field, format!("there is no node {name:?}; expected one of {known}")))
    }
}

/// The number in `slots/{number}`.
fn slot_number(name: &str) -> Result<u8, Status> {
    let number = name.strip_prefix("slots/").and_then(|number| number.parse().ok());
    number.filter(|number| cluster::SLOTS.contains(number)).ok_or_else(|| {
        let (first, last) = (cluster::SLOTS.start(), cluster::SLOTS.end());
        status::invalid("name", format!("{name:?} is no slot; expected slots/{first} to slots/{last}"))
    })
}

/// Octets of rows in a message of a backup; one row that is larger is a message of its own. With the largest row there is it stays
/// below the 4 MiB that clients take by default.
const PART: usize = 1 << 20;

/// Messages of a backup.
fn parts(rows: Vec<(String, Vec<u8>)>) -> impl Iterator<Item = v1::BackupStoreResponse> {
    let mut rows = rows.into_iter().map(|(key, value)| v1::StoredRow { key, value }).peekable();
    std::iter::from_fn(move || {
        let first = rows.next()?;
        let mut octets = first.encoded_len();
        let mut part = vec![first];
        while let Some(row) = rows.next_if(|row| octets + row.encoded_len() <= PART) {
            octets += row.encoded_len();
            part.push(row);
        }
        Some(v1::BackupStoreResponse { rows: part })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_a_backup_stays_below_what_clients_take_by_default() {
        let sizes = [100, PART / 2, PART, 2 * PART, 3, 4];
        let rows: Vec<_> = (0..300)
            .zip(sizes.into_iter().cycle())
            .map(|(number, size)| (format!("tenants/{number:04}"), vec![7; size]))
            .collect();
        let mut all = Vec::new();
        for part in parts(rows.clone()) {
            assert!(
                part.encoded_len() < 4 << 20,
                "{} octets in {} rows",
                part.encoded_len(),
                part.rows.len()
            );
            all.extend(part.rows.into_iter().map(|row| (row.key, row.value)));
        }
        assert!(all == rows);
        assert_eq!(parts(Vec::new()).count(), 0);
    }
}
