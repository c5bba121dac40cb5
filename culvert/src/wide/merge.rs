//! One answer made of those of several nodes.

use std::collections::BTreeMap;
use std::vec;

use actors::MAX_STRANGERS_SHOWN;
use culvert_proto::v1;

/// How a node's view of a peer compares with that of another: the one that has the connection knows best, then the one that begins
/// with the peer, then one that negotiates.
fn rank(status: &v1::PeerStatus, home: &str) -> u8 {
    match status.state() {
        v1::PeerState::Established | v1::PeerState::Degraded => 4,
        v1::PeerState::Unspecified => 0,
        _ if status.node == home => 3,
        v1::PeerState::Connecting => 2,
        _ => 1,
    }
}

/// Whether the tunnel is up.
pub(super) fn is_up(status: &v1::PeerStatus) -> bool {
    matches!(status.state(), v1::PeerState::Established | v1::PeerState::Degraded)
}

/// Takes what another node says, if it knows better. Of two that have a connection, as for a moment when a peer comes anew to
/// another node, it is the one that has it since later.
pub(super) fn better(known: &mut Option<v1::PeerStatus>, other: v1::PeerStatus, home: &str) {
    let since = |status: &v1::PeerStatus| status.since.map_or((0, 0), |since| (since.seconds, since.nanos));
    let knows = |status: &v1::PeerStatus| {
        let rank = rank(status, home);
        (rank, if rank == 4 { since(status) } else { (0, 0) })
    };
    if known.as_ref().is_none_or(|known| knows(&other) > knows(known)) {
        *known = Some(other);
    }
}

/// What all nodes know of a peer's negotiations. `has_addresses`: it comes from some alone.
///
/// A node that has no connection with the peer takes the tunnel for down, and tells of strangers who may be the peer that is missed.
/// Where another one has the connection nobody is missed.
pub(super) fn explained(
    answers: Vec<v1::ExplainPeerResponse>,
    home: &str,
    has_addresses: bool,
) -> v1::ExplainPeerResponse {
    let mut known = v1::ExplainPeerResponse::default();
    for answer in answers {
        if let Some(status) = answer.status {
            better(&mut known.status, status, home);
        }
        known.attempts.extend(answer.attempts);
        known.omitted_attempts = known.omitted_attempts.saturating_add(answer.omitted_attempts);
    }
    known.attempts.sort_by_key(|attempt| attempt.start_time.map(|start| (start.seconds, start.nanos)));
    if known.status.as_ref().is_some_and(is_up) {
        known.attempts.retain(|attempt| {
            // From where nobody is known to come.
            let nowhere = || attempt.cause.as_ref().is_some_and(|cause| cause.kind == "address");
            !attempt.unidentified || (has_addresses && !nowhere())
        });
        if !has_addresses {
            known.omitted_attempts = 0;
        }
    }
    let strangers = known.attempts.iter().filter(|attempt| attempt.unidentified).count();
    let mut too_many = strangers.saturating_sub(MAX_STRANGERS_SHOWN);
    known.omitted_attempts =
        known.omitted_attempts.saturating_add(u32::try_from(too_many).unwrap_or(u32::MAX));
    // The newest are at the end.
    known.attempts.retain(|attempt| {
        let is_left_out = attempt.unidentified && too_many > 0;
        too_many -= usize::from(is_left_out);
        !is_left_out
    });
    known
}

/// Takes what another node knows of slots: of its own how much there is, of those that it would go on with how much it keeps.
pub(super) fn add_slots(known: &mut v1::ListSlotsResponse, node: &str, other: v1::ListSlotsResponse) {
    for slot in &mut known.slots {
        let Some(theirs) = other.slots.iter().find(|theirs| theirs.number == slot.number) else { continue };
        if slot.owner == node {
            (slot.connections, slot.waiting_rows) = (theirs.connections, theirs.waiting_rows);
        }
        if slot.standby == node {
            (slot.kept_rows, slot.kept_octets) = (theirs.kept_rows, theirs.kept_octets);
        }
    }
    known.arrivals.extend(other.arrivals);
    known.arrivals.sort_by(|one, other| one.node.cmp(&other.node));
}

/// What SAs are in the order of: peer, kind and SPI.
pub(super) fn key(sa: &v1::Sa) -> String {
    match &sa.kind {
        Some(v1::sa::Kind::Ike(ike)) => {
            format!("{}|i|{:016x}|{:016x}", sa.peer, ike.initiator_spi, ike.responder_spi)
        }
        Some(v1::sa::Kind::Child(child)) => format!("{}|k|{}|{:08x}", sa.peer, child.name, child.inbound_spi),
        None => sa.peer.clone(),
    }
}

/// Our SPI of an SA has the slot on top that the SA is in.
fn slot(sa: &v1::Sa) -> Option<u8> {
    match sa.kind.as_ref()? {
        v1::sa::Kind::Ike(ike) => {
            let spi = if ike.initiator { ike.initiator_spi } else { ike.responder_spi };
            Some(actors::slot_of(spi))
        }
        v1::sa::Kind::Child(child) => Some(esp::Spi(child.inbound_spi).slot()),
    }
}

/// The SAs of several nodes, each of which has put its own in order. One that was told of twice, as it moved meanwhile, is the one of its
/// slot's owner.
pub(super) struct InOrder {
    owners: BTreeMap<u8, String>,
    nodes: Vec<OfNode>,
}

/// Those of one node.
struct OfNode {
    node: String,
    /// With its key.
    next: Option<(String, v1::Sa)>,
    rest: vec::IntoIter<v1::Sa>,
}

impl InOrder {
    pub(super) const fn new(owners: BTreeMap<u8, String>) -> Self {
        Self { owners, nodes: Vec::new() }
    }

    pub(super) fn add(&mut self, node: String, sas: Vec<v1::Sa>) {
        let mut of_node = OfNode { node, next: None, rest: sas.into_iter() };
        of_node.take();
        self.nodes.push(of_node);
    }
}

impl OfNode {
    fn key(&self) -> Option<&str> {
        self.next.as_ref().map(|(key, _)| key.as_str())
    }

    fn take(&mut self) -> Option<v1::Sa> {
        let next = self.rest.next().map(|sa| (key(&sa), sa));
        let (_, sa) = std::mem::replace(&mut self.next, next)?;
        Some(v1::Sa { node: self.node.clone(), ..sa })
    }
}

impl Iterator for InOrder {
    type Item = v1::Sa;

    fn next(&mut self) -> Option<v1::Sa> {
        let least = self.nodes.iter().filter_map(OfNode::key).min()?.to_owned();
        let mut found: Option<v1::Sa> = None;
        for of_node in self.nodes.iter_mut().filter(|of_node| of_node.key() == Some(&least)) {
            let Some(sa) = of_node.take() else { continue };
            if found.is_none() || slot(&sa).and_then(|slot| self.owners.get(&slot)) == Some(&sa.node) {
                found = Some(sa);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(node: &str, state: v1::PeerState, since: i64) -> v1::PeerStatus {
        let since = Some(prost_types::Timestamp { seconds: since, nanos: 0 });
        v1::PeerStatus { node: node.to_owned(), state: state.into(), since, ..v1::PeerStatus::default() }
    }

    fn best(home: &str, all: &[v1::PeerStatus]) -> String {
        let mut known = None;
        all.iter().for_each(|one| better(&mut known, one.clone(), home));
        known.map(|status| status.node).unwrap_or_default()
    }

    #[test]
    fn who_has_the_connection_knows_best_and_then_who_begins() {
        use v1::PeerState::{BackingOff, Connecting, Degraded, Established, Unspecified, Waiting};
        let (a, b, c) = (status("a", Waiting, 1), status("b", BackingOff, 1), status("c", Degraded, 1));
        assert_eq!(best("b", &[a.clone(), b.clone(), c.clone()]), "c");
        assert_eq!(best("b", &[c, b.clone(), a.clone()]), "c");
        assert_eq!(best("b", &[a.clone(), b.clone()]), "b");
        assert_eq!(best("x", &[a.clone(), b]), "a", "the one that is asked, if nobody knows more");
        assert_eq!(best("x", &[a.clone(), status("c", Connecting, 1)]), "c");
        assert_eq!(best("x", &[status("c", Unspecified, 9), a]), "a");
        let both = [status("a", Established, 5), status("b", Established, 6)];
        assert_eq!(best("a", &both), "b", "the newer one stays");
        assert_eq!(best("", &[]), "");
    }

    #[test]
    fn what_two_nodes_have_is_told_once_and_of_its_owner() {
        let ike = |initiator, initiator_spi, responder_spi| {
            let ike = v1::IkeSa { initiator, initiator_spi, responder_spi, ..v1::IkeSa::default() };
            v1::Sa { peer: "p".to_owned(), kind: Some(v1::sa::Kind::Ike(ike)), ..v1::Sa::default() }
        };
        let child = |inbound_spi| {
            let child = v1::ChildSa { inbound_spi, ..v1::ChildSa::default() };
            v1::Sa { peer: "p".to_owned(), kind: Some(v1::sa::Kind::Child(child)), ..v1::Sa::default() }
        };
        let of = |slot: u64| slot << 58 | 7;
        let all = vec![ike(true, of(1), of(2)), ike(false, of(1) + 1, of(2)), child(2 << 26), child(3 << 26)];
        let mut sas = InOrder::new([(1, "a".to_owned()), (2, "b".to_owned())].into());
        ["a", "b", "c"].into_iter().for_each(|node| sas.add(node.to_owned(), all.clone()));
        assert_eq!(
            sas.map(|sa| sa.node).collect::<Vec<_>>(),
            ["a", "b", "b", "a"],
            "the last slot is nobody's"
        );
    }

    /// What a node says that has refused so many strangers, and one whose address it does not know.
    fn told(node: &str, state: v1::PeerState, strangers: i64) -> v1::ExplainPeerResponse {
        let attempt = |second, kind: &str| v1::Attempt {
            start_time: Some(prost_types::Timestamp { seconds: second, nanos: 0 }),
            unidentified: kind != "own",
            cause: Some(v1::AttemptCause { kind: kind.to_owned(), ..v1::AttemptCause::default() }),
            node: node.to_owned(),
            ..v1::Attempt::default()
        };
        let mut attempts = vec![attempt(1, "own")];
        attempts.extend((0..strangers).map(|n| attempt(10 + n, "proposal")));
        attempts.push(attempt(90, "address"));
        let status = Some(status(node, state, 1));
        v1::ExplainPeerResponse { status, attempts, omitted_attempts: 7, ..Default::default() }
    }

    #[test]
    fn strangers_are_told_of_where_no_node_has_the_peer_and_no_more_than_of_a_single_node() {
        let shown = |state, has_addresses| {
            let answers = ["a", "b"]
                .map(|node| told(node, if node == "b" { state } else { v1::PeerState::Waiting }, 3));
            let known = explained(answers.into(), "a", has_addresses);
            let kinds = |kind: &str| {
                let of = |attempt: &&v1::Attempt| attempt.cause.as_ref().unwrap().kind == kind;
                known.attempts.iter().filter(of).count()
            };
            (kinds("own"), kinds("proposal"), kinds("address"), known.omitted_attempts)
        };
        assert_eq!(shown(v1::PeerState::Waiting, true), (2, 2, 2, 18), "the newest");
        assert_eq!(shown(v1::PeerState::Waiting, false), (2, 2, 2, 18));
        assert_eq!(shown(v1::PeerState::Established, false), (2, 0, 0, 0));
        assert_eq!(shown(v1::PeerState::Established, true), (2, 4, 0, 16), "from its very address");
    }

    #[test]
    fn of_a_slot_its_owner_and_its_standby_know_what_there_is() {
        let slot = |connections, kept_rows| v1::Slot {
            number: 3,
            owner: "b".to_owned(),
            standby: "c".to_owned(),
            connections,
            kept_rows,
            ..v1::Slot::default()
        };
        let of = |node: &str, slot| v1::ListSlotsResponse {
            slots: vec![slot],
            arrivals: vec![v1::SlotArrivals { node: node.to_owned(), ..v1::SlotArrivals::default() }],
            ..v1::ListSlotsResponse::default()
        };
        let mut known = of("b", slot(0, 0));
        add_slots(&mut known, "c", of("c", slot(99, 8)));
        add_slots(&mut known, "a", of("a", slot(99, 99)));
        assert_eq!((known.slots[0].connections, known.slots[0].kept_rows), (0, 8));
        add_slots(&mut known, "b", of("b", slot(7, 99)));
        assert_eq!((known.slots[0].connections, known.slots[0].kept_rows), (7, 8));
        assert_eq!(known.arrivals.iter().map(|one| one.node.as_str()).collect::<String>(), "abbc");
    }
}
