//! What came of a quickstart.

use std::collections::BTreeMap;
use std::time::Duration;

use culvert_proto::v1;
use serde::Serialize;

use crate::console::Failure;
use crate::console::table::bytes;
use crate::quickstart::cluster::Outcome;
use crate::quickstart::fleet::Fleet;
use crate::quickstart::plan::Plan;

/// Totals, and a line for each branch.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    #[serde(rename = "type")]
    kind: &'static str,
    /// Everything was as it should be.
    ok: bool,
    seconds: f32,
    tunnels_established: usize,
    child_sa_rekeys: u64,
    ike_sa_rekeys: u64,
    packets_sent: u64,
    packets_received: u64,
    packets_lost: u64,
    packets_duplicated: u64,
    cross_tenant_packets: u64,
    bytes_switched: u64,
    /// With several nodes.
    #[serde(flatten)]
    cluster: Option<Outcome>,
    peers: Vec<PeerSummary>,
    /// Counters of the concentrator that are not zero.
    counters: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct PeerSummary {
    name: String,
    established: u64,
    child_sa_rekeys: u64,
    ike_sa_rekeys: u64,
    packets_sent: u64,
    packets_lost: u64,
}

impl Summary {
    pub(crate) fn new(
        plan: &Plan,
        statuses: &BTreeMap<String, (v1::PeerStatus, u64)>,
        fleet: &Fleet,
        counters: &BTreeMap<String, u64>,
        elapsed: Duration,
    ) -> Self {
        let reports = fleet.reports();
        let mut peers = Vec::new();
        for (branch, report) in plan.branches.iter().zip(&reports) {
            let status = statuses.get(&branch.name).map(|s| s.0.clone()).unwrap_or_default();
            let arrived: u64 = reports.iter().filter_map(|r| r.received.get(&branch.flow)).map(|r| r.0).sum();
            peers.push(PeerSummary {
                name: branch.name.clone(),
                established: report.established,
                child_sa_rekeys: status.child_rekeys,
                ike_sa_rekeys: status.ike_rekeys,
                packets_sent: report.sent + report.unsent,
                packets_lost: (report.sent + report.unsent).saturating_sub(arrived),
            });
        }
        let sum = |f: fn(&PeerSummary) -> u64| peers.iter().map(f).sum::<u64>();
        let (_, received) = fleet.totals();
        let duplicated = reports.iter().flat_map(|r| r.received.values()).map(|r| r.1).sum();
        // Anything that arrived on a flow that is not the branch's own.
        let astray = plan.branches.iter().zip(&reports).map(|(branch, report)| {
            let others =
                report.received.iter().filter(|(flow, _)| **flow != branch.reverse).map(|(_, r)| r.0);
            report.strangers + others.sum::<u64>()
        });
        let cross_tenant_packets = astray.sum();
        let mut this = Self {
            kind: "summary",
            ok: false,
            seconds: elapsed.as_secs_f32(),
            tunnels_established: reports.iter().filter(|r| r.established > 0).count(),
            child_sa_rekeys: sum(|p| p.child_sa_rekeys),
            ike_sa_rekeys: sum(|p| p.ike_sa_rekeys),
            packets_sent: sum(|p| p.packets_sent),
            packets_received: received,
            packets_lost: sum(|p| p.packets_lost),
            packets_duplicated: duplicated,
            cross_tenant_packets,
            bytes_switched: statuses.values().map(|(s, _)| s.bytes_out).sum(),
            cluster: None,
            peers,
            counters: counters.clone(),
        };
        this.ok = this.faults().is_empty();
        this
    }

    /// With what has come of nodes that went.
    pub(crate) fn of_cluster(mut self, outcome: Outcome) -> Self {
        self.cluster = Some(outcome);
        self.ok = self.faults().is_empty();
        self
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.tunnels_established < self.peers.len() {
            faults.push(format!("{} of {} tunnels came up", self.tunnels_established, self.peers.len()));
        }
        for peer in &self.peers {
            if peer.child_sa_rekeys == 0 || peer.ike_sa_rekeys == 0 {
                faults.push(format!("{} was not rekeyed", peer.name));
            }
        }
        let explained = self.cluster.as_ref().map_or(0, Outcome::lost);
        if self.packets_lost > explained {
            faults.push(format!("{} packets lost", self.packets_lost - explained));
        }
        faults.extend(self.cluster.iter().flat_map(Outcome::faults));
        if self.cross_tenant_packets > 0 {
            faults.push(format!("{} packets crossed between tenants", self.cross_tenant_packets));
        }
        faults
    }

    pub(crate) fn text(&self) -> String {
        let cluster = self.cluster.as_ref().map(Outcome::text).unwrap_or_default();
        format!(
            "\n{} tunnels of 2 tenants with the same subnets\n\
             {} Child SA rekeys and {} IKE SA rekeys under traffic\n\
             {} packets sent, {} lost, {} duplicated, {} crossed between tenants ({} switched)\n{cluster}",
            self.tunnels_established,
            self.child_sa_rekeys,
            self.ike_sa_rekeys,
            self.packets_sent,
            self.packets_lost,
            self.packets_duplicated,
            self.cross_tenant_packets,
            bytes(self.bytes_switched),
        )
    }

    /// The exit status.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        match self.faults() {
            faults if faults.is_empty() => Ok(()),
            faults => Err(Failure::failed(faults.join("; "))),
        }
    }
}
