//! From the router to the actors: IKE messages on the thread that received them, for each change of a thread costs as much as what is
//! done here; events by one task. Either looks at headers and hands on.

use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use actix::prelude::{Recipient, SendError};
use culvert_proto::v1;
use ike::Failure;
use ike::reception::{Class, Receivers, classify, wrong_version_reply};
use ike::wire::WireError;
use ike::wire::numbers::ExchangeType;
use router::{Entrance, IkeDatagram, RouterEvent, TenantId, UplinkState, UplinkStatus};
use tokio::sync::mpsc;

use crate::awaited::Kept;
use crate::convert;
use crate::datagram::Deliver;
use crate::env::{NodeEnv, Uplink};
use crate::events::Whose;
use crate::host::slot_of;
use crate::mailbox::deliver;
use crate::moves::reserve_more;
use crate::rate::Rate;
use crate::reception::Doors;
use crate::refusals::{self, MAX_OWNERS};
use crate::vocabulary::{ChildNotice, ToPeer};

/// Events between the router and this task, IKE messages among them until the peers have their actors. At 1,000 tunnels that all answer at once there is room to spare; beyond it
/// the router drops IKE messages, which are sent again.
pub(crate) const EVENTS: usize = 8_192;

/// What IKE messages meet: on the router's thread that received them, as long as the actors run, and as events before.
pub(crate) struct Dispatch {
    env: Arc<NodeEnv>,
    doors: Mutex<Doors>,
    noted: Mutex<Rate>,
}

/// The way from the router's thread to actors. It is shut until there are any, and once they end.
#[derive(Default)]
pub(crate) struct Gate(RwLock<Option<Arc<Dispatch>>>);

impl Gate {
    fn open(&self, dispatch: Arc<Dispatch>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(dispatch);
    }

    /// From now on all messages are events, which nobody may hear any more.
    pub(crate) fn shut(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Entrance for Gate {
    fn take(&self, datagram: IkeDatagram) -> Option<IkeDatagram> {
        // Written to twice in a node's life, so a reader does not wait.
        let gate = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(dispatch) = &*gate else { return Some(datagram) };
        dispatch.contain(|| dispatch.ike(datagram));
        None
    }
}

/// Runs until the router is gone.
pub(crate) async fn run(
    env: Arc<NodeEnv>,
    doors: Doors,
    gate: Arc<Gate>,
    mut events: mpsc::Receiver<RouterEvent>,
) {
    let noted = Mutex::new(Rate::new(Instant::now(), refusals::RATE));
    let dispatch = Arc::new(Dispatch { env, doors: Mutex::new(doors), noted });
    gate.open(dispatch.clone());
    while let Some(event) = events.recv().await {
        dispatch.contain(|| dispatch.carry_out(event));
    }
}

impl Dispatch {
    /// A panic costs the event or message that it was about.
    fn contain(&self, work: impl FnOnce()) {
        let work = || {
            #[cfg(feature = "fault-injection")]
            self.env.faults.strike(crate::fault::Fault::Dispatcher);
            work();
        };
        if panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.env.counters.panics.up();
            tracing::error!("an event of the router made the dispatcher panic; it goes on");
        }
    }

    fn carry_out(&self, event: RouterEvent) {
        let env = &self.env;
        match event {
            RouterEvent::Ike(datagram) => self.ike(datagram),
            RouterEvent::NumbersLow { spi, sequence } => reserve_more(env, spi, sequence),
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
                    Some(peer) => deliver(&peer.to, ToPeer::Wanted(tunnel), &env.counters),
                    None => env.router.drop_held(tenant, tunnel),
                }
            }
            RouterEvent::Removed { spi, stats } => {
                env.counters.stale_router_events.add(env.early.take(Instant::now(), spi.0).len() as u64);
                env.board.add_past(&stats);
            }
            RouterEvent::Unreachable(what) => {
                let peers = env.catalog.peers_at(what.remote.ip(), MAX_OWNERS);
                env.registry.tell_peers(&peers, &env.counters, || ToPeer::Unreachable(what));
            }
            RouterEvent::Uplink { tenant, status } => uplink(env, tenant, &status),
            other => tracing::debug!(?other, "event of the router that nobody waits for"),
        }
    }

    fn ike(&self, datagram: IkeDatagram) {
        let env = &self.env;
        match classify(&datagram.bytes) {
            Ok(Class::Existing(receivers)) => match receivers.find(|spi| env.registry.ike.get(&spi)) {
                Some(to) => hand_over(env, &to, datagram),
                None => absent(env, receivers, datagram),
            },
            Ok(Class::First(opening)) => match &env.others.0 {
                Some(cluster) if cluster.begins_nothing() => match cluster.pass_first(&datagram) {
                    true => env.counters.ike_passed_on.up(),
                    false => env.counters.ike_unknown_spi.up(),
                },
                _ => lock(&self.doors).first_message(env, opening, datagram),
            },
            Err(WireError::TooLong(_)) => env.counters.init_too_long.up(),
            Err(error @ WireError::MajorVersion(_)) => {
                env.counters.ike_wrong_version.up();
                // Neither told nor answered more often than that: anybody can send it, from any address.
                if !lock(&self.noted).take(Instant::now()) {
                    return;
                }
                let failure = Failure::Malformed { exchange: ExchangeType::IKE_SA_INIT, error };
                refusals::refused(env, datagram.remote, &failure, false);
                if let Some(bytes) = wrong_version_reply(&datagram.bytes) {
                    let _ = env.router.send_ike(IkeDatagram {
                        local: datagram.local,
                        remote: datagram.remote,
                        bytes,
                    });
                }
            }
            Err(_) => env.counters.ike_malformed.up(),
        }
    }
}

/// Nothing is behind these locks that a panic could leave in disorder.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hand_over(env: &NodeEnv, to: &Recipient<Deliver>, datagram: IkeDatagram) {
    match to.try_send(Deliver(datagram)) {
        Ok(()) => {}
        // Its sender repeats it.
        Err(SendError::Full(_)) => env.counters.ike_overload.up(),
        Err(SendError::Closed(_)) => env.counters.ike_unknown_spi.up(),
    }
}

/// A message for a connection that is not here: it may be on its way here, or another node may have it.
fn absent(env: &NodeEnv, receivers: Receivers, datagram: IkeDatagram) {
    if let Some(datagram) = wait(env, receivers, datagram) {
        pass_on(env, receivers, &datagram);
    }
}

/// Has a message wait for its connection if that comes: what has no reason to wait.
fn wait(env: &NodeEnv, receivers: Receivers, datagram: IkeDatagram) -> Option<IkeDatagram> {
    if env.others.0.is_none() {
        return Some(datagram);
    }
    match env.awaited.keep(receivers, datagram, Instant::now(), &env.counters.awaited_late) {
        Kept::Waits => None,
        Kept::Full => {
            env.counters.awaited_full.up();
            None
        }
        Kept::Share => {
            env.counters.awaited_share.up();
            None
        }
        // It may have come since it was looked for.
        Kept::NotAwaited(datagram) => match receivers.find(|spi| env.registry.ike.get(&spi)) {
            Some(to) => {
                hand_over(env, &to, datagram);
                None
            }
            None => Some(datagram),
        },
    }
}

/// All of a slot goes on here, or does not come: hands over what has waited for it.
pub(crate) fn waited(env: &NodeEnv, slot: u8) {
    for (receivers, datagram) in env.awaited.close(slot, Instant::now(), &env.counters.awaited_late) {
        match receivers.find(|spi| env.registry.ike.get(&spi)) {
            Some(to) => hand_over(env, &to, datagram),
            None => env.counters.ike_unknown_spi.up(),
        }
    }
}

/// Another node may have a connection, as its SPI says.
fn pass_on(env: &NodeEnv, receivers: Receivers, datagram: &IkeDatagram) {
    let passed = env.others.0.as_ref().map_or(0, |cluster| {
        // All of them: what the wrong node gets it drops.
        receivers.spis().filter(|spi| cluster.pass_on(slot_of(*spi), datagram)).count()
    });
    match passed {
        0 => env.counters.ike_unknown_spi.up(),
        _ => env.counters.ike_passed_on.up(),
    }
}

/// A message that another node has received. It is not passed on once more, unless its slot has gone from here a moment ago.
pub(crate) fn passed_in(env: &NodeEnv, datagram: IkeDatagram) {
    env.counters.ike_passed_in.up();
    let to = match classify(&datagram.bytes) {
        Ok(Class::Existing(receivers)) => match receivers.find(|spi| env.registry.ike.get(&spi)) {
            None => {
                let Some(datagram) = wait(env, receivers, datagram) else { return };
                let now = Instant::now();
                return match receivers.spis().any(|spi| env.awaited.was_given(slot_of(spi), now)) {
                    true => pass_on(env, receivers, &datagram),
                    false => env.counters.ike_unknown_spi.up(),
                };
            }
            here => here,
        },
        Ok(Class::First(_)) if env.others.0.as_ref().is_some_and(|cluster| !cluster.begins_nothing()) => {
            // As one that has come by our own socket.
            let events = env.events.upgrade();
            if events.is_none_or(|events| events.try_send(RouterEvent::Ike(datagram)).is_err()) {
                env.counters.ike_overload.up();
            }
            return;
        }
        _ => None,
    };
    match to {
        Some(to) => hand_over(env, &to, datagram),
        None => env.counters.ike_unknown_spi.up(),
    }
}

/// A peer uses an SA we do not have: it has not noticed yet that this node was restarted. Where the address names the
/// peer, a new connection is started at once rather than after its dead peer detection; its INITIAL_CONTACT clears what
/// the peer still holds. The router reports a few such packets per second at most, whatever arrives.
fn recover(env: &NodeEnv, remote: SocketAddr) {
    let peers = env.catalog.peers_at(remote.ip(), MAX_OWNERS);
    if peers.is_empty() {
        return env.counters.recover_no_peer.up();
    }
    env.registry.tell_peers(&peers, &env.counters, || ToPeer::Wake);
}

/// A tenant's device came, went, or cannot be made. Whoever watches learns of it; the router tries again by itself.
fn uplink(env: &NodeEnv, tenant: TenantId, status: &UplinkStatus) {
    env.uplinks.update(&tenant.0, |uplink| uplink.since = SystemTime::now());
    let Some(Uplink { name, .. }) = env.uplinks.get(&tenant.0) else { return };
    let (name, state) = (&name, &status.state);
    match state {
        UplinkState::Up | UplinkState::Pending => {
            env.liveness.uplink(name, true);
            tracing::info!(tenant = %name, %state, "uplink");
        }
        UplinkState::Down | UplinkState::Failed(_) | UplinkState::Lost(_) => {
            env.liveness.uplink(name, false);
            tracing::warn!(tenant = %name, %state, "uplink");
        }
    }
    for refused in &status.refused {
        tracing::warn!(tenant = %name, %refused, "a network is not led to the uplink");
    }
    let message = format!("{name}: uplink: {state}");
    let (kind, name) = (v1::EventType::UplinkChanged.into(), name.to_string());
    let event = v1::Event { r#type: kind, tenant: name, message, ..v1::Event::default() };
    env.hub.publish(event, Whose { tenant: tenant.0, peer: 0 });
}

/// Something is to be said to the actor of a pair, or kept until it has one.
fn child(env: &NodeEnv, spi: esp::Spi, notice: ChildNotice) {
    let (told, stale) = env.early.tell(Instant::now(), &env.registry.esp, spi.0, notice);
    env.counters.stale_router_events.add(stale);
    if let Some((to, notices)) = told {
        notices.into_iter().for_each(|notice| deliver(&to, notice, &env.counters));
    }
}
