//! One answer made of those of several nodes.

use std::vec;

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

/// Takes what another node knows of a peer's negotiations.
pub(super) fn add_attempts(known: &mut v1::ExplainPeerResponse, other: v1::ExplainPeerResponse) {
    known.attempts.extend(other.attempts);
    known.omitted_attempts = known.omitted_attempts.saturating_add(other.omitted_attempts);
    known.attempts.sort_by_key(|attempt| attempt.start_time.map(|start| (start.seconds, start.nanos)));
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

/// The SAs of several nodes, each of which has put its own in order.
#[derive(Default)]
pub(super) struct InOrder(Vec<OfNode>);

/// Those of one node.
struct OfNode {
    node: String,
    /// With its key.
    next: Option<(String, v1::Sa)>,
    rest: vec::IntoIter<v1::Sa>,
}

impl InOrder {
    pub(super) fn add(&mut self, node: String, sas: Vec<v1::Sa>) {
        let mut of_node = OfNode { node, next: None, rest: sas.into_iter() };
        of_node.take();
        self.0.push(of_node);
    }
}

impl OfNode {
    fn take(&mut self) -> Option<v1::Sa> {
        let next = self.rest.next().map(|sa| (key(&sa), sa));
        let (_, sa) = std::mem::replace(&mut self.next, next)?;
        Some(v1::Sa { node: self.node.clone(), ..sa })
    }
}

impl Iterator for InOrder {
    type Item = v1::Sa;

    fn next(&mut self) -> Option<v1::Sa> {
        let nexts = self.0.iter_mut().filter(|of_node| of_node.next.is_some());
        // Of several that are alike the one of the first node.
        let least = nexts.reduce(|least, other| {
            let is_less = other.next.as_ref().map(|(key, _)| key) < least.next.as_ref().map(|(key, _)| key);
            if is_less { other } else { least }
        });
        least?.take()
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
