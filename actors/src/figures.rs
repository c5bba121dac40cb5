//! What a node has to show in numbers, read when somebody asks: of the board, the router and the counters, and of no actor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use culvert_proto::v1;
use router::TenantId;
use tenants::{PeerName, TenantName};

use crate::control::Control;
use crate::convert;
use crate::dispatch;
use crate::env::NodeEnv;
use crate::outcomes::Negotiations;
use crate::reception;
use crate::status::{OfTenants, PeerView, Traffic};
use crate::sums::Troubles;

/// What waits, and how much may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// In a word.
    pub name: &'static str,
    /// What waits now.
    pub depth: u64,
    /// What may wait.
    pub limit: u64,
}

/// A node in numbers.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// What the router counts, drops by name among it.
    pub router: Vec<(&'static str, u64)>,
    /// What the control plane counts.
    pub control: Vec<(&'static str, u64)>,
    /// What negotiations have come to.
    pub negotiations: Negotiations,
    /// Negotiations of strangers that are not authenticated, and how many may be.
    pub half_open: (u64, u64),
    /// Its queues.
    pub queues: Vec<Queue>,
    /// Running peers, in the order of names.
    pub peers: Vec<(PeerName, Arc<PeerView>)>,
    /// What the tunnels of each peer have carried at this node, by the peer's number.
    pub traffic: BTreeMap<u64, Traffic>,
    /// The same of each tenant, by its number, those of peers that are gone included.
    pub carried: BTreeMap<u32, Traffic>,
    /// What was dropped in tunnels, by the tenant's number and the name of the drop.
    pub drops: BTreeMap<(u32, &'static str), u64>,
    /// What went wrong with the peers of each tenant, those that are gone included.
    pub troubles: BTreeMap<TenantName, Troubles>,
    /// Uplinks, by tenant: whether each works; `None` while that is not known.
    pub uplinks: Vec<(TenantName, Option<bool>)>,
}

/// Of a peer that another node has, or begins with.
const ELSEWHERE: &str = "elsewhere";

/// How long it is told why a tunnel failed that nobody here begins: for so long somebody may want to look, and then it is waited for, for
/// nobody can say whether its peer is broken or was switched off.
const TOLD: Duration = Duration::from_secs(3600);

/// A peer's tunnel is up or not, and why not.
impl PeerView {
    /// It has failed for this cause.
    pub(crate) fn blame(&mut self, cause: &'static str) {
        (self.last_cause, self.blamed) = (cause, Some(SystemTime::now()));
    }

    /// The cause of the last failure, for as long as it says something of now.
    fn cause(&self) -> &'static str {
        let told = |at: SystemTime| at.elapsed().is_ok_and(|since| since >= TOLD);
        let over = self.state == v1::PeerState::Waiting && self.blamed.is_some_and(told);
        if over { "" } else { self.last_cause }
    }

    /// Whether it carries traffic, if not all of what is configured.
    pub const fn is_up(&self) -> bool {
        matches!(self.state, v1::PeerState::Established | v1::PeerState::Degraded)
    }

    /// It is not up here, and another node of the cluster has it or begins with it.
    pub const fn is_anothers(&self) -> bool {
        self.elsewhere && !self.is_up()
    }

    /// Why it does not carry all that it is for, in a word of a few dozen; empty while it does.
    ///
    /// What nobody here begins is waited for an hour after it has failed.
    ///
    /// Of another node's peer `elsewhere`, for that node says it. What a peer was refused for here that nobody has this node alone knows.
    pub fn why_down(&self) -> &'static str {
        let cause = self.cause();
        match self.state {
            v1::PeerState::Established => "",
            v1::PeerState::Terminated if self.elsewhere => ELSEWHERE,
            v1::PeerState::Terminated => "terminated",
            _ if self.is_anothers() && cause.is_empty() => ELSEWHERE,
            _ if !self.is_up() && !self.elsewhere && self.conditions.secret.holds == Some(false) => {
                "secret_missing"
            }
            // As `explain` has it.
            _ if !cause.is_empty() => cause,
            v1::PeerState::Degraded => "degraded",
            v1::PeerState::Connecting => "connecting",
            _ => "waiting",
        }
    }
}

impl Control {
    /// When the node was started.
    pub fn started(&self) -> SystemTime {
        self.env().started
    }

    /// The node in numbers. Those of tunnels are read from the router, a few at a time, and not from a shard that stands still: its sums stay
    /// as they were.
    pub async fn figures(&self) -> Figures {
        let env: &NodeEnv = self.env();
        let mut sums = env.sums.lock().await;
        env.board.forget_strangers(|uid| env.registry.uids.get(&uid).is_some());
        let tenants = env.catalog.tenants();
        let numbers = tenants.iter().map(|tenant| tenant.number).collect();
        let mut traffic: BTreeMap<u64, Traffic> = env.board.all_past_here().into_iter().collect();
        let OfTenants { mut carried, mut drops } = env.board.past_of(&numbers);
        let told = env.router.read_stats().await;
        for stats in told.stats {
            traffic.entry(convert::peer_of_tunnel(stats.tunnel)).or_default().add_here(&stats);
            carried.entry(stats.tenant.0).or_default().add_here(&stats);
            for (name, count) in &stats.drops {
                *drops.entry((stats.tenant.0, *name)).or_default() += count;
            }
        }
        sums.settle(&mut traffic, &mut carried, &mut drops, told.silent.is_empty());
        let mut peers = env.board.all();
        peers.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let names = tenants.iter().map(|tenant| tenant.name.clone()).collect();
        let troubles = sums.troubles(&names, &peers, |name| env.catalog.get_peer(name).is_some());
        let uplinks = env.uplinks.all().into_iter();
        let mut uplinks: Vec<_> =
            uplinks.map(|(number, uplink)| (uplink.name, self.uplink_works(TenantId(number)))).collect();
        uplinks.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Figures {
            router: env.router.counters(),
            control: env.counters.all(),
            negotiations: env.outcomes.read(),
            half_open: (env.half_open.get(), reception::capacity(env)),
            queues: queues(env),
            peers,
            traffic,
            carried,
            drops,
            troubles,
            uplinks,
        }
    }
}

fn queues(env: &NodeEnv) -> Vec<Queue> {
    // Without the router there is nothing that could wait.
    let events = env.events.upgrade().map_or(0, |events| events.max_capacity() - events.capacity());
    vec![Queue { name: "router_events", depth: events as u64, limit: dispatch::EVENTS as u64 }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_peer_begins_is_waited_for_when_it_has_failed_for_long() {
        let mut view = PeerView { state: v1::PeerState::Waiting, ..PeerView::default() };
        assert_eq!(view.why_down(), "waiting");
        view.blame("silent");
        assert_eq!(view.why_down(), "silent");
        view.blamed = Some(SystemTime::now() - TOLD);
        assert_eq!(view.why_down(), "waiting");
        view.elsewhere = true;
        assert_eq!(view.why_down(), ELSEWHERE);
        // What is begun here fails for as long as it does.
        view = PeerView { state: v1::PeerState::BackingOff, elsewhere: false, ..view };
        assert_eq!(view.why_down(), "silent");
        // And so does what the peer tries.
        view = PeerView { state: v1::PeerState::Waiting, ..view };
        view.blame("psk");
        assert_eq!(view.why_down(), "psk");
    }
}
