//! The series of each peer: whatever is configured has them, running or not.

use actors::Traffic;

use super::definition::Definition;
use super::exit::{Exit, Number};
use super::source::{OfPeer, OfTenant, Reading, unix};
use super::table;

pub(super) fn write(reading: &Reading, exit: &mut dyn Exit, tenants: &[OfTenant<'_>]) {
    each(exit, &table::PEER_UP, tenants, &|peer| Some(is_up(peer)));
    for (tenant, peer) in all(tenants) {
        let why = peer.why();
        if !why.is_empty() {
            exit.number(&table::PEER_REASON, &[tenant, peer.peer.name.id(), why], true.into());
        }
    }
    each(exit, &table::PEER_SINCE, tenants, &|peer| peer.view?.since.map(|since| unix(since).into()));
    each(exit, &table::PEER_UPS, tenants, &|peer| Some(peer.view?.ups.into()));
    each(exit, &table::PEER_LOSSES, tenants, &|peer| Some(peer.view?.losses.into()));
    each(exit, &table::PEER_FAILURES, tenants, &|peer| Some(peer.view?.failures.into()));
    for (tenant, peer) in all(tenants) {
        let Some(view) = peer.view else { continue };
        exit.number(&table::PEER_REKEYS, &[tenant, peer.peer.name.id(), "ike"], view.ike_rekeys.into());
        exit.number(&table::PEER_REKEYS, &[tenant, peer.peer.name.id(), "child"], view.child_rekeys.into());
    }
    each(exit, &table::PEER_CHILD_SAS, tenants, &|peer| Some(peer.view?.children.len().into()));
    each(exit, &table::PEER_CHILDREN, tenants, &|peer| Some(peer.peer.spec.children.len().into()));
    let carried =
        |peer: &OfPeer<'_>| reading.figures.traffic.get(&peer.peer.uid).copied().unwrap_or_default();
    both(exit, &table::PEER_PACKETS, tenants, &|peer| {
        let Traffic { packets_in, packets_out, .. } = carried(peer);
        (packets_in, packets_out)
    });
    both(exit, &table::PEER_BYTES, tenants, &|peer| {
        let Traffic { bytes_in, bytes_out, .. } = carried(peer);
        (bytes_in, bytes_out)
    });
}

/// Where there are too many: what alerts have to know of those that fail, `most` of them.
pub(super) fn write_failing(exit: &mut dyn Exit, tenants: &[OfTenant<'_>], most: usize) {
    let failing = || all(tenants).filter(|(_, peer)| peer.fails()).take(most);
    for (tenant, peer) in failing() {
        exit.number(&table::PEER_UP, &[tenant, peer.peer.name.id()], is_up(peer));
    }
    for (tenant, peer) in failing() {
        exit.number(&table::PEER_REASON, &[tenant, peer.peer.name.id(), peer.why()], true.into());
    }
}

fn is_up(peer: &OfPeer<'_>) -> Number {
    peer.view.is_some_and(|view| view.is_up()).into()
}

fn all<'a, 'b>(tenants: &'a [OfTenant<'b>]) -> impl Iterator<Item = (&'a str, &'a OfPeer<'b>)> {
    tenants.iter().flat_map(|tenant| tenant.peers.iter().map(|peer| (tenant.id(), peer)))
}

fn each(
    exit: &mut dyn Exit,
    metric: &'static Definition,
    tenants: &[OfTenant<'_>],
    value: &dyn Fn(&OfPeer<'_>) -> Option<Number>,
) {
    for (tenant, peer) in all(tenants) {
        if let Some(value) = value(peer) {
            exit.number(metric, &[tenant, peer.peer.name.id()], value);
        }
    }
}

/// In and out.
fn both(
    exit: &mut dyn Exit,
    metric: &'static Definition,
    tenants: &[OfTenant<'_>],
    values: &dyn Fn(&OfPeer<'_>) -> (u64, u64),
) {
    for (tenant, peer) in all(tenants) {
        let (inbound, outbound) = values(peer);
        exit.number(metric, &[tenant, peer.peer.name.id(), "in"], inbound.into());
        exit.number(metric, &[tenant, peer.peer.name.id(), "out"], outbound.into());
    }
}
