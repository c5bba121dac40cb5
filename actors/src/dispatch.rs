//! From the router's events to the actors they are for. One task; it looks at headers and hands on.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::SystemTime;

use actix::ArbiterHandle;
use actix::prelude::*;
use culvert_proto::v1;
use ike::Failure;
use ike::reception::{Class, classify, wrong_version_reply};
use ike::wire::WireError;
use ike::wire::numbers::ExchangeType;
use router::{IkeDatagram, RouterEvent, TenantId, UplinkState, UplinkStatus};
use tenants::{Peer, RemoteAddress};
use tokio::sync::mpsc;

use crate::convert;
use crate::datagram::Deliver;
use crate::env::NodeEnv;
use crate::mailbox::{deliver, offer};
use crate::reception::{Init, Reception};
use crate::vocabulary::{ChildNotice, ToPeer};

/// Events between the router and this task. At 1,000 tunnels that all answer at once there is room to spare; beyond it
/// the router drops IKE messages, which are sent again.
pub(crate) const EVENTS: usize = 8_192;

/// Runs until the router is gone. A panic costs the event that it was about.
pub(crate) async fn run(
    env: Arc<NodeEnv>,
    mut receptions: Receptions,
    mut events: mpsc::Receiver<RouterEvent>,
) {
    while let Some(event) = events.recv().await {
        let carried_out = AssertUnwindSafe(|| carry_out(&env, &mut receptions, event));
        if panic::catch_unwind(carried_out).is_err() {
            env.counters.panics.up();
            tracing::error!("an event of the router made the dispatcher panic; it goes on");
        }
    }
}

fn carry_out(env: &Arc<NodeEnv>, receptions: &mut Receptions, event: RouterEvent) {
    #[cfg(feature = "fault-injection")]
    env.faults.strike(crate::fault::Fault::Dispatcher);
    match event {
        RouterEvent::Ike(datagram) => ike(env, receptions, datagram),
        RouterEvent::SoftLimit { spi } => child(env, spi, ChildNotice::Soft),
        RouterEvent::HardLimit { spi } => child(env, spi, ChildNotice::Hard),
        RouterEvent::FirstInbound { spi } => child(env, spi, ChildNotice::FirstInbound),
        RouterEvent::RemoteMoved { spi, remote } => child(env, spi, ChildNotice::Moved(remote)),
        RouterEvent::UnknownSpi { spi, remote } => {
            tracing::debug!(%spi, %remote, "ESP for an SPI that is not there");
            recover(env, remote);
        }
        RouterEvent::Wanted { tenant, tunnel } => {
            match env.registry.uids.get(&convert::peer_of_tunnel(tunnel)) {
                Some(peer) => deliver(&peer, ToPeer::Wanted(tunnel), &env.counters),
                None => env.router.drop_held(tenant, tunnel),
            }
        }
        RouterEvent::Removed { stats, .. } => {
            env.board.add_past(convert::peer_of_tunnel(stats.tunnel), &stats);
        }
        RouterEvent::Uplink { tenant, status } => uplink(env, tenant, &status),
        other => tracing::debug!(?other, "event of the router that nobody waits for"),
    }
}

fn ike(env: &Arc<NodeEnv>, receptions: &mut Receptions, datagram: IkeDatagram) {
    match classify(&datagram.bytes) {
        Ok(Class::Existing(spi)) => match env.registry.ike.get(&spi) {
            Some(to) => offer(&to, Deliver(datagram), &env.counters),
            None => env.counters.ike_unknown_spi.up(),
        },
        Ok(Class::Init) => receptions.offer(env, datagram),
        Err(error @ WireError::MajorVersion(_)) => {
            env.counters.ike_wrong_version.up();
            env.strangers
                .note(datagram.remote, &Failure::Malformed { exchange: ExchangeType::IKE_SA_INIT, error });
            if let Some(bytes) = wrong_version_reply(&datagram.bytes) {
                env.router.send_ike(IkeDatagram { local: datagram.local, remote: datagram.remote, bytes });
            }
        }
        Err(_) => env.counters.ike_malformed.up(),
    }
}

/// A peer uses an SA we do not have: it has not noticed yet that this node was restarted. Where the address names the
/// peer, a new connection is started at once rather than after its dead peer detection; its INITIAL_CONTACT clears what
/// the peer still holds. The router reports a few such packets per second at most, whatever arrives.
fn recover(env: &NodeEnv, remote: SocketAddr) {
    let ip = remote.ip().to_canonical();
    let named = |peer: &Arc<Peer>| {
        peer.spec.remote_addresses.iter().any(|a| matches!(a, RemoteAddress::Host(host, _) if *host == ip))
    };
    for peer in env.catalog.peers().iter().filter(|p| named(p)) {
        if let Some(entry) = env.registry.peers.get(&peer.name) {
            deliver(&entry.to, ToPeer::Wake, &env.counters);
        }
    }
}

/// A tenant's device came, went, or cannot be made. Whoever watches learns of it; the router tries again by itself.
fn uplink(env: &NodeEnv, tenant: TenantId, status: &UplinkStatus) {
    let Some(tenant) = env.catalog.tenants().into_iter().find(|t| t.number == tenant.0) else { return };
    env.uplinks.update(&tenant.number, |since| *since = SystemTime::now());
    let (name, state) = (&tenant.name, &status.state);
    match state {
        UplinkState::Up | UplinkState::Pending => tracing::info!(tenant = %name, %state, "uplink"),
        _ => tracing::warn!(tenant = %name, %state, "uplink"),
    }
    for refused in &status.refused {
        tracing::warn!(tenant = %name, %refused, "a network is not led to the uplink");
    }
    let message = format!("{name}: uplink: {state}");
    let kind = v1::EventType::UplinkChanged.into();
    env.hub.publish(v1::Event { r#type: kind, message, ..v1::Event::default() });
}

fn child(env: &NodeEnv, spi: esp::Spi, notice: ChildNotice) {
    match env.registry.esp.get(&spi.0) {
        Some(to) => offer(&to, notice, &env.counters),
        None => env.counters.stale_router_events.up(),
    }
}

/// The receptions, one on each arbiter.
pub(crate) struct Receptions(Vec<Recipient<Init>>);

impl Receptions {
    /// Starts them.
    pub(crate) fn start(env: &Arc<NodeEnv>) -> Self {
        Self((0u64..).zip(env.arbiters()).map(|(index, arbiter)| reception(env, index, arbiter)).collect())
    }

    /// Hands over a first message. Retransmissions come from the same address, so they meet the same reception.
    fn offer(&mut self, env: &Arc<NodeEnv>, datagram: IkeDatagram) {
        let mut hasher = DefaultHasher::new();
        datagram.remote.hash(&mut hasher);
        let index = hasher.finish() % self.0.len().max(1) as u64;
        let Some(to) = usize::try_from(index).ok().and_then(|at| self.0.get_mut(at)) else { return };
        match to.try_send(Init(datagram)) {
            Ok(()) => {}
            Err(SendError::Full(_)) => env.counters.mailbox_full.up(),
            Err(SendError::Closed(message)) => {
                // It panicked. Whatever was half open begins anew.
                env.counters.panics.up();
                tracing::error!(index, "a reception panicked and is started again");
                let Some(arbiter) = env.arbiter(index) else { return };
                *to = reception(env, index, arbiter);
                // A message is lost if it panics again at once; its sender repeats it.
                let _ = to.try_send(message);
            }
        }
    }
}

fn reception(env: &Arc<NodeEnv>, index: u64, arbiter: &ArbiterHandle) -> Recipient<Init> {
    let env = env.clone();
    Reception::start_in_arbiter(arbiter, move |_| Reception::new(env, index)).recipient()
}
