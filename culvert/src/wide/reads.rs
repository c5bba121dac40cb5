//! How the tunnels of all nodes stand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cluster::Placement;
use culvert_proto::v1;
use tenants::Peer;

use super::ask::in_time;
use super::held::{Told, read};
use super::{Known, Wide, merge};
use crate::runtime::RuntimeError;

impl Wide {
    /// The state of these peers' tunnels, in their order. `None` where nothing is known yet.
    pub(crate) async fn peer_statuses(&self, peers: &[Arc<Peer>]) -> Known<Vec<Option<v1::PeerStatus>>> {
        let Some((_, placement)) = self.others() else {
            return Known { what: self.own_statuses(peers).await, away: Vec::new() };
        };
        let mut told = self.ask_statuses(&placement, peers).await;
        if self.is_to_be_asked_again(&told).await {
            told = self.ask_statuses(&placement, peers).await;
        }
        let mut known = self.at_last(told);
        for (status, peer) in known.what.iter_mut().zip(peers) {
            let Some(status) = status else { continue };
            // As the node that is asked has it, whoever says the rest.
            status.home_node = self.home_elsewhere(&placement, peer);
        }
        known
    }

    /// As [`Self::peer_statuses`], but whatever is on its way meanwhile is not waited for; `away` are those that have not answered.
    pub(super) async fn statuses_once(&self, peers: &[Arc<Peer>]) -> Told<Vec<Option<v1::PeerStatus>>> {
        match self.others() {
            Some((_, placement)) => self.ask_statuses(&placement, peers).await,
            None => {
                let known = Known { what: self.own_statuses(peers).await, away: Vec::new() };
                Told { known, held: BTreeMap::new() }
            }
        }
    }

    async fn own_statuses(&self, peers: &[Arc<Peer>]) -> Vec<Option<v1::PeerStatus>> {
        let mut what = self.0.local.peer_statuses(peers).await;
        what.resize(peers.len(), None);
        what
    }

    async fn ask_statuses(
        &self,
        placement: &Placement,
        peers: &[Arc<Peer>],
    ) -> Told<Vec<Option<v1::PeerStatus>>> {
        let before = self.held();
        let mut what = self.own_statuses(peers).await;
        let own = (placement.own.clone(), self.still(before));
        what.iter_mut().flatten().for_each(|status| status.node.clone_from(&placement.own));
        // Whoever has the connection knows best, so there is nothing to ask of what is up here.
        let wanted: Vec<usize> = what
            .iter()
            .enumerate()
            .filter(|(_, s)| !s.as_ref().is_some_and(merge::is_up))
            .map(|(at, _)| at)
            .collect();
        let names: Vec<String> =
            wanted.iter().filter_map(|at| peers.get(*at)).map(|peer| peer.name.to_string()).collect();
        if names.is_empty() {
            return Told { known: Known { what, away: Vec::new() }, held: BTreeMap::new() };
        }
        let request = v1::BatchGetPeerStatusesRequest { names };
        let (answers, away) = self
            .each(|node| {
                let request = request.clone();
                async move {
                    let mut peers = node.peers();
                    let answer = in_time(peers.batch_get_peer_statuses(request)).await?;
                    Ok((read(answer.metadata()), answer.into_inner()))
                }
            })
            .await;
        let mut held = BTreeMap::from([own]);
        for (node, (slots, answer)) in answers {
            held.insert(node.clone(), slots);
            for (at, status) in wanted.iter().zip(answer.statuses) {
                let (Some(known), Some(peer)) = (what.get_mut(*at), peers.get(*at)) else { continue };
                let status = v1::PeerStatus { node: node.clone(), ..status };
                merge::better(known, status, &self.home_of(placement, peer));
            }
        }
        Told { known: Known { what, away }, held }
    }

    /// Why the tunnel is not up: what all nodes know of it.
    pub(crate) async fn explain(&self, peer: Arc<Peer>) -> Result<v1::ExplainPeerResponse, RuntimeError> {
        let Some((_, placement)) = self.others() else { return self.0.local.explain(peer).await };
        let home = self.home_of(&placement, &peer);
        let own = of_node(self.0.local.explain(Arc::clone(&peer)).await?, &placement.own);
        let request = v1::ExplainPeerRequest { name: peer.name.to_string() };
        let (answers, away) = self
            .each(|node| {
                let request = request.clone();
                async move {
                    let mut peers = node.peers();
                    in_time(peers.explain_peer(request)).await.map(tonic::Response::into_inner)
                }
            })
            .await;
        let answers = answers.into_iter().map(|(node, answer)| of_node(answer, &node));
        let answers = std::iter::once(own).chain(answers).collect();
        let mut known = merge::explained(answers, &home, !peer.spec.remote_addresses.is_empty());
        if let Some(status) = &mut known.status {
            status.home_node = self.home_elsewhere(&placement, &peer);
        }
        Ok(v1::ExplainPeerResponse { nodes_away: away, ..known })
    }

    /// How many peers each node begins with.
    pub(crate) fn home_peers(&self, peers: &[Arc<Peer>]) -> HashMap<String, u64> {
        let mut at_home = HashMap::new();
        if let Some(placement) = self.0.local.cluster() {
            for peer in peers {
                *at_home.entry(self.home_of(&placement, peer)).or_default() += 1;
            }
        }
        at_home
    }

    /// The node that begins with a peer; empty if there is none.
    pub(super) fn home_of(&self, placement: &Placement, peer: &Peer) -> String {
        let begins = placement.begins(peer.uid, |node| self.hears(node));
        begins.map(|node| node.name.clone()).unwrap_or_default()
    }

    /// The state of a tunnel that an order has left, as the node has it that was asked to give it.
    pub(crate) fn seen_from_here(&self, peer: &Peer, mut status: v1::PeerStatus) -> v1::PeerStatus {
        if let Some((_, placement)) = self.others() {
            status.home_node = self.home_elsewhere(&placement, peer);
        }
        status
    }

    /// As [`Self::home_of`], if it is another node than this one.
    pub(super) fn home_elsewhere(&self, placement: &Placement, peer: &Peer) -> String {
        let home = self.home_of(placement, peer);
        if home == placement.own { String::new() } else { home }
    }
}

fn of_node(mut answer: v1::ExplainPeerResponse, node: &str) -> v1::ExplainPeerResponse {
    answer.status.iter_mut().for_each(|status| node.clone_into(&mut status.node));
    answer.attempts.iter_mut().for_each(|attempt| node.clone_into(&mut attempt.node));
    answer
}
