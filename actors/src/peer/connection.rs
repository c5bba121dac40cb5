//! What a peer's connections report, and what follows for the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::prelude::*;
use culvert_proto::v1;
use esp::Lifetime;
use ike::config::Mode;
use ike::{ChildEnd, CloseReason, Command, Connection, Failure};
use router::IkeDatagram;
use tenants::ChildLifetime;

use super::command::Wait;
use super::{PeerActor, wall};
use crate::ike_sa::{Begin, Do, IkeSaActor};
use crate::mailbox::deliver;
use crate::status::IkeView;
use crate::watch::Died;
use ike::supervise::{ConnId, Disposal};

/// A connection of the peer.
pub(crate) struct ConnEntry {
    pub(super) addr: Addr<IkeSaActor>,
    pub(super) ike: Option<Arc<IkeView>>,
    /// It has reported its end and only lingers.
    pub(super) down: bool,
    /// We close it; its end is worth waiting for, because the peer then knows.
    pub(super) closing: bool,
}

impl ConnEntry {
    pub(super) const fn new(addr: Addr<IkeSaActor>) -> Self {
        Self { addr, ike: None, down: false, closing: false }
    }
}

impl Drop for ConnEntry {
    fn drop(&mut self) {
        // A peer's actor that panics takes its connections down, so that nobody is left unsupervised.
        if !self.down {
            let _ = self.addr.try_send(Do(Command::Close));
        }
    }
}

/// A report of a connection.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FromConn {
    pub(crate) id: ConnId,
    pub(crate) event: ConnEvent,
}

/// What is reported.
pub(crate) enum ConnEvent {
    Established {
        began: Instant,
        spis: (u64, u64),
        proposal: String,
        initiator: bool,
        initial_contact: bool,
        addresses: (SocketAddr, SocketAddr),
        encapsulated: bool,
        lifetime: Option<Lifetime>,
    },
    Rekeyed {
        spis: (u64, u64),
        initiated: bool,
        proposal: String,
        lifetime: Option<Lifetime>,
    },
    Installed(Box<Installed>),
    /// The connection sends by this pair now.
    Activated {
        spi_in: u32,
    },
    Removed {
        spi_in: u32,
        linger: Duration,
        reason: ChildEnd,
    },
    ChildFailed {
        name: Arc<str>,
        failure: Failure,
    },
    Moved(SocketAddr),
    Down(CloseReason),
    /// To be sent once the events before it are carried out.
    Send(Vec<IkeDatagram>),
    Finished,
}

impl ConnEvent {
    /// Whether the pair that is sent by may be another after it.
    pub(crate) const fn changes_sender(&self) -> bool {
        matches!(self, Self::Activated { .. } | Self::Removed { .. })
    }
}

/// A pair that the router has.
pub(crate) struct Installed {
    pub(crate) name: Arc<str>,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    pub(crate) suite: String,
    pub(crate) mode: Mode,
    pub(crate) local: Vec<String>,
    pub(crate) remote: Vec<String>,
    pub(crate) replaces: Option<u32>,
    pub(crate) lifetime: ChildLifetime,
}

/// A connection that the peer started and the reception has authenticated.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Adopt(pub(crate) Box<Connection>);

/// Perhaps the peer is not where its connection says: ask it for a sign of life.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Doubt;

impl Handler<Adopt> for PeerActor {
    type Result = ();

    fn handle(&mut self, Adopt(conn): Adopt, ctx: &mut Self::Context) {
        if !self.leaving {
            let (id, remote) = (self.next_conn, conn.addresses().1);
            self.history().begin(id, false, Some(remote));
            self.spawn_connection(ctx, Begin::Adopt(conn));
        }
    }
}

impl Handler<Doubt> for PeerActor {
    type Result = ();

    fn handle(&mut self, _: Doubt, _: &mut Self::Context) {
        if let Some(conn) = self.supervisor.current().and_then(|id| self.conns.get(&id)) {
            deliver(&conn.addr, Do(Command::Probe), &self.env.counters);
        }
    }
}

impl Handler<FromConn> for PeerActor {
    type Result = ();

    fn handle(&mut self, FromConn { id, event }: FromConn, ctx: &mut Self::Context) {
        match event {
            ConnEvent::Established {
                began,
                spis,
                proposal,
                initiator,
                initial_contact,
                addresses,
                encapsulated,
                lifetime,
            } => {
                self.established(id, spis, proposal, initiator, addresses, encapsulated, lifetime.as_ref());
                let disposals = self.supervisor.established(
                    Instant::now(),
                    id,
                    began,
                    initiator,
                    spis.0,
                    initial_contact,
                );
                for disposal in disposals {
                    self.dispose(disposal);
                }
                self.view_mut().last_error.clear();
                self.history().recovered(id);
                self.resolve(Wait::Up, Ok(()));
            }
            ConnEvent::Rekeyed { spis, initiated, proposal, lifetime } => {
                self.view_mut().ike_rekeys += 1;
                self.history().step(id, format!("IKE SA rekeyed, {proposal}"));
                if let Some(ike) = self.conns.get_mut(&id).and_then(|c| c.ike.as_mut()).map(Arc::make_mut) {
                    (ike.initiator_spi, ike.responder_spi) = spis;
                    (ike.initiator, ike.proposal) = (initiated, proposal);
                    ike.installed = SystemTime::now();
                    set_times(ike, lifetime.as_ref());
                }
                tracing::info!(peer = %self.peer.name, spi_i = %hex(spis.0), spi_r = %hex(spis.1), initiated, "IKE_SA rekeyed");
                self.publish(v1::EventType::IkeSaRekeyed, format!("{} {}", hex(spis.0), hex(spis.1)));
                self.resolve(Wait::IkeRekey, Ok(()));
            }
            ConnEvent::Installed(installed) => self.child_installed(ctx, id, *installed),
            ConnEvent::Activated { spi_in } => {
                self.send_by(|senders, current| senders.activated(spi_in, current));
            }
            ConnEvent::Removed { spi_in, linger, reason } => self.child_removed(spi_in, linger, reason),
            ConnEvent::ChildFailed { name, failure } => {
                self.history().failed(id, &failure);
                self.child_failed(&name, &failure);
            }
            ConnEvent::Moved(remote) => self.moved(id, remote),
            ConnEvent::Down(reason) => self.connection_down(id, &reason),
            ConnEvent::Send(datagrams) => {
                return datagrams.into_iter().for_each(|datagram| self.env.router.send_ike(datagram));
            }
            ConnEvent::Finished => self.connection_gone(ctx, id),
        }
        self.arm(ctx);
        self.show();
    }
}

impl Handler<Died> for PeerActor {
    type Result = ();

    /// One of the peer's SA actors panicked. Connections are numbered from 1 up, SPIs of Child SAs have the slot in
    /// their top bits, so the two never meet.
    fn handle(&mut self, Died(key): Died, ctx: &mut Self::Context) {
        self.env.counters.panics.up();
        if self.conns.contains_key(&key) {
            tracing::error!(peer = %self.peer.name, connection = key, "the actor of a connection panicked");
            let spis: Vec<u32> =
                self.children.iter().filter(|(_, c)| c.conn == key).map(|(spi, _)| *spi).collect();
            for spi in spis {
                self.child_removed(spi, Duration::ZERO, ChildEnd::IkeClosed);
            }
            self.attempt_failed("the actor of the connection panicked".to_owned(), key);
            self.connection_gone(ctx, key);
        } else if let Some(child) = u32::try_from(key).ok().and_then(|spi| self.children.remove(&spi)) {
            tracing::error!(peer = %self.peer.name, child = %child.view.name, "the actor of a Child SA panicked");
            // Its pair left the router with it. Deleting it makes room for a new one.
            if let Some(conn) = self.conns.get(&child.conn) {
                deliver(&conn.addr, Do(Command::ExpireChild(child.view.spi_in)), &self.env.counters);
            }
            self.send_by(|senders, current| senders.removed(child.view.spi_in, current));
            self.supervisor.child_missing(Instant::now(), &child.view.name.as_str().into());
        }
        self.arm(ctx);
        self.show();
    }
}

impl PeerActor {
    #[allow(clippy::too_many_arguments)] // The fields of the event, each once.
    fn established(
        &mut self,
        id: ConnId,
        spis: (u64, u64),
        proposal: String,
        initiator: bool,
        (local, remote): (SocketAddr, SocketAddr),
        encapsulated: bool,
        lifetime: Option<&Lifetime>,
    ) {
        tracing::info!(
            peer = %self.peer.name, spi_i = %hex(spis.0), spi_r = %hex(spis.1), %local, %remote, initiator, proposal,
            "IKE_SA established"
        );
        let proposal_text = proposal.clone();
        let mut ike = IkeView {
            initiator_spi: spis.0,
            responder_spi: spis.1,
            initiator,
            proposal,
            local,
            remote,
            encapsulated,
            installed: SystemTime::now(),
            rekey_due: None,
            expires: None,
        };
        set_times(&mut ike, lifetime);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.ike = Some(Arc::new(ike));
        }
        self.history().step(id, format!("IKE SA established, {}", proposal_text));
        self.publish(v1::EventType::IkeSaEstablished, format!("{} {}", hex(spis.0), hex(spis.1)));
    }

    pub(super) fn dispose(&mut self, disposal: Disposal) {
        let (id, command) = match disposal {
            Disposal::Close(id) => (id, Command::Close),
            Disposal::Abandon(id) => (id, Command::Abandon),
        };
        if let Some(conn) = self.conns.get(&id) {
            tracing::info!(peer = %self.peer.name, ?disposal, "a newer connection takes over");
            deliver(&conn.addr, Do(command), &self.env.counters);
        }
    }

    /// The peer's address changed: all its SAs follow.
    fn moved(&mut self, id: ConnId, remote: SocketAddr) {
        tracing::info!(peer = %self.peer.name, %remote, "the peer's address changed");
        for (spi, _) in self.children.iter().filter(|(_, c)| c.conn == id) {
            self.env.router.set_remote(esp::Spi(*spi), remote);
        }
        if let Some(ike) = self.conns.get_mut(&id).and_then(|c| c.ike.as_mut()).map(Arc::make_mut) {
            ike.remote = remote;
        }
        self.history().step(id, format!("the peer moved to {remote}"));
        self.publish(v1::EventType::PeerMoved, remote.to_string());
    }

    fn connection_down(&mut self, id: ConnId, reason: &CloseReason) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.down = true;
        let was_up = conn.ike.take().is_some();
        let text = reason.to_string();
        match reason {
            CloseReason::Failed(failure) if *failure != Failure::Replaced => {
                self.history().failed(id, failure)
            }
            _ => self.history().step(id, &text),
        }
        match reason {
            CloseReason::Failed(Failure::Replaced) => {}
            CloseReason::Failed(failure) => {
                self.env.counters.failures.up();
                tracing::warn!(peer = %self.peer.name, was_up, reason = %failure, "connection failed");
                let dead = was_up && matches!(failure, Failure::Timeout { .. });
                let kind = if dead { v1::EventType::PeerDead } else { v1::EventType::NegotiationFailed };
                self.publish(kind, &text);
            }
            _ => {
                tracing::info!(peer = %self.peer.name, reason = %text, "connection closed");
                self.publish(v1::EventType::IkeSaDeleted, &text);
            }
        }
        if matches!(reason, CloseReason::Failed(failure) if *failure != Failure::Replaced) {
            self.attempt_failed(text, id);
        } else {
            self.supervisor.ended(Instant::now(), id, false, rand::random());
            self.resolve(Wait::Down, Ok(()));
        }
    }

    /// An attempt or a connection failed.
    pub(super) fn attempt_failed(&mut self, why: String, id: ConnId) {
        self.supervisor.ended(Instant::now(), id, true, rand::random());
        if self.supervisor.current().is_none() {
            self.drop_held();
        }
        for wait in [Wait::Up, Wait::IkeRekey, Wait::ChildRekey] {
            self.resolve(wait, Err(why.clone()));
        }
        self.resolve(Wait::Down, Ok(()));
        self.view_mut().last_error = why;
    }

    /// The connection's actor is gone.
    fn connection_gone(&mut self, ctx: &mut Context<Self>, id: ConnId) {
        if let Some(mut conn) = self.conns.remove(&id) {
            conn.down = true;
        }
        self.leave(ctx);
    }

    /// Ends the actor once the peer is to go and knows it. Connections that only linger do so by themselves.
    pub(super) fn leave(&self, ctx: &mut Context<Self>) {
        if self.leaving && !self.conns.values().any(|c| c.closing) {
            ctx.stop();
        }
    }
}

fn set_times(ike: &mut IkeView, lifetime: Option<&Lifetime>) {
    ike.rekey_due = lifetime.and_then(Lifetime::soft).map(wall);
    ike.expires = lifetime.and_then(Lifetime::hard).map(wall);
}

pub(super) fn hex(spi: u64) -> String {
    format!("{spi:016x}")
}
