//! Which node begins with a peer.

use std::collections::BTreeSet;
use std::sync::Arc;

use actors::{HomeNews, HomeRule, Homes};
use cluster::{Held, Members, Placement};
use latest::Latest as _;
use tokio::sync::watch;

use super::Nodes;

/// Which peers the actors are to begin with. Whoever has the news tells when that may be others.
pub(super) fn homes(members: &Members, nodes: Nodes, news: HomeNews) -> Homes {
    Homes::new(Rule { placement: members.placement(), held: members.held(), nodes }, news)
}

/// Tells of which peers the rule says something else with `now` than with `before`. Whom a node has a connection with changes with each
/// negotiation, and is no reason to look at all peers; whom this one has come to have one with its actors know.
pub(super) fn tell(news: &HomeNews, before: &Placement, now: &Placement) {
    if before.nodes != now.nodes {
        return news.all();
    }
    let none = Arc::default();
    let names: BTreeSet<&String> = before.held.keys().chain(now.held.keys()).collect();
    for name in names {
        let (old, new) = (before.held.get(name).unwrap_or(&none), now.held.get(name).unwrap_or(&none));
        if Arc::ptr_eq(old, new) {
            continue;
        }
        if *name == now.own {
            news.these(old.without(new));
        } else {
            news.these(old.without(new).chain(new.without(old)));
        }
    }
}

struct Rule {
    placement: watch::Receiver<Arc<Placement>>,
    held: Held,
    nodes: Nodes,
}

impl HomeRule for Rule {
    fn elsewhere(&self, uid: u64, held: bool) -> Option<String> {
        let placement = self.placement.latest();
        let other =
            placement.elsewhere(uid, held, |name| self.nodes.hears(name)).map(|node| node.name.clone());
        if self.nodes.0.is_without_slot() {
            // Not here, at any rate.
            return Some(other.unwrap_or_default());
        }
        other
    }

    fn holder(&self, uid: u64) -> Option<String> {
        let placement = self.placement.latest();
        let others =
            placement.held.iter().filter(|(name, _)| **name != placement.own && self.nodes.hears(name));
        others.filter(|(_, held)| held.contains(uid)).map(|(name, _)| name.clone()).next()
    }

    fn hold(&self, uid: u64, held: bool) {
        self.held.hold(uid, held);
    }
}
