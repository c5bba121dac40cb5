//! The actor of one peer: negotiates, tries again, keeps one connection of several, and restarts its SA actors when
//! one fails. What it decides stands in [`ike::supervise`].
//!
//! `mod.rs` is the actor, its start and its timer; `connection.rs` what its connections report; `child.rs` its Child
//! SAs; `command.rs` what it is asked for; `demand.rs` packets that want it up; `view.rs` what it shows.

mod child;
mod command;
mod connection;
mod demand;
mod view;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::prelude::*;
use culvert_proto::v1;
use esp::Lifetime;
use ike::Path;
use ike::config::PeerConfig;
use tenants::Peer;

use crate::convert;
use crate::env::Env;
use crate::ike_sa::{Begin, IkeSaActor};
use crate::mailbox::{MAILBOX, deliver};
use crate::registry::PeerEntry;
use crate::tenant::TenantActor;
use crate::watch::DeathWatch;
use ike::supervise::{Action, ConnId, Disposal, Few, Plan, Senders, Supervisor};

pub(crate) use child::{ChildDue, Due};
#[cfg(feature = "fault-injection")]
pub(crate) use command::InjectPanic;
pub(crate) use command::{Configure, Initiate, Rekey, RemovePeer, SecretChanged, Terminate};
pub(crate) use connection::{Adopt, ConnEvent, Doubt, FromConn, Installed};
pub(crate) use demand::{Wake, Wanted};

use child::ChildEntry;
use command::Waiter;
use connection::ConnEntry;

/// Connections of one peer at a time: one in use, one replacing it, one crossing, and room for those that linger. With
/// more of them the oldest that is not in use is forgotten.
const MAX_CONNECTIONS: usize = 8;

/// Supervises one peer.
pub(crate) struct PeerActor {
    env: Arc<Env>,
    peer: Arc<Peer>,
    /// `None` while its secret is missing.
    config: Option<Arc<PeerConfig>>,
    supervisor: Supervisor,
    conns: Few<ConnId, ConnEntry>,
    next_conn: ConnId,
    children: Few<u32, ChildEntry>,
    senders: Senders,
    /// Shared with the board until the next change.
    view: Arc<crate::status::PeerView>,
    shown_state: Option<ike::supervise::State>,
    waiters: Vec<Waiter>,
    timer: Option<SpawnHandle>,
    watch: DeathWatch<TenantActor>,
    /// Set once the peer is to go: stop when the last connection has.
    leaving: bool,
    /// When unknown ESP last made it start.
    woken: Option<Instant>,
}

impl PeerActor {
    pub(crate) fn new(env: Arc<Env>, peer: Arc<Peer>, supervisor: Addr<TenantActor>) -> Self {
        let config = convert::peer_config(&env.catalog, env.raw_esp, &peer).map(Arc::new);
        let plan = jittered_plan(&peer);
        let watch = DeathWatch::new(peer.uid, supervisor);
        Self {
            supervisor: Supervisor::new(Instant::now(), plan),
            env,
            peer,
            config,
            conns: Few::new(),
            next_conn: 1,
            children: Few::new(),
            senders: Senders::default(),
            view: Arc::default(),
            shown_state: None,
            waiters: Vec::new(),
            timer: None,
            watch,
            leaving: false,
            woken: None,
        }
    }

    /// Tells datagrams that arrive for this peer where to go, and with which configuration.
    fn register(&self, addr: Addr<Self>) {
        match &self.config {
            Some(config) => {
                let entry = PeerEntry { addr, config: config.clone() };
                self.env.registry.set_peer(self.peer.name.clone(), entry);
            }
            None => self.env.registry.remove_peer(&self.peer.name),
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = self.supervisor.poll_timeout().filter(|_| !self.leaving) {
            let wait = at.saturating_duration_since(Instant::now());
            self.timer = Some(ctx.run_later(wait, Self::tick));
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.timer = None;
        while let Some(action) = self.supervisor.handle_timeout(Instant::now()) {
            match action {
                Action::Connect => self.start_connection(ctx),
                Action::Restore(id, name) => self.restore_child(id, name),
                Action::Close(id) => self.dispose(Disposal::Close(id)),
            }
        }
        self.arm(ctx);
        self.show();
    }

    /// Starts the connection the supervisor asked for.
    fn start_connection(&mut self, ctx: &mut Context<Self>) {
        let begin = self.begin();
        match begin {
            Ok(begin) => {
                let remote = if let Begin::Initiate { path, .. } = &begin { Some(path.remote) } else { None };
                let conn = self.next_conn;
                self.history().begin(conn, true, remote);
                self.spawn_connection(ctx, begin);
                self.publish(v1::EventType::NegotiationStarted, "we start");
            }
            Err(why) => {
                tracing::warn!(peer = %self.peer.name, why, "cannot start a negotiation");
                self.attempt_failed(why.to_owned(), 0);
            }
        }
    }

    fn begin(&self) -> Result<Begin, &'static str> {
        let config = self.config.clone().ok_or("its secret is missing")?;
        let ike_port = self.env.config.remote_ike_port;
        let remote = self.peer.spec.initiate_to(ike_port).ok_or("it has no address to start to")?;
        let local = local_address(remote).ok_or("there is no route to it")?;
        let path = Path {
            local: SocketAddr::new(local, self.env.router.ike_port()),
            remote,
            local_natt: self.env.router.natt_port(),
            remote_natt: self.env.config.remote_natt_port,
        };
        Ok(Begin::Initiate { config, path, initial_contact: self.conns.is_empty() })
    }

    fn spawn_connection(&mut self, ctx: &mut Context<Self>, begin: Begin) {
        if self.conns.len() >= MAX_CONNECTIONS {
            // The newest matters: a peer that comes again and again has lost the others, and must not be locked out by
            // our deletes of them, which nobody answers.
            self.env.counters.half_open_limit.up();
            let current = self.supervisor.current();
            let oldest = self.conns.keys().find(|id| Some(**id) != current).copied();
            if let Some(oldest) = oldest {
                self.dispose(Disposal::Abandon(oldest));
            }
        }
        let id = self.next_conn;
        self.next_conn += 1;
        let (env, peer, me) = (self.env.clone(), self.peer.clone(), ctx.address());
        // Started in this very arbiter: what a peer's actors say to each other stays on one thread.
        let addr = IkeSaActor::new(id, env, peer, me).start();
        deliver(&addr, begin, &self.env.counters);
        self.conns.insert(id, ConnEntry::new(addr));
    }

    fn publish(&self, kind: v1::EventType, message: impl Into<String>) {
        self.env.hub.publish(v1::Event {
            r#type: kind.into(),
            peer: self.peer.name.to_string(),
            state: self.view.state.into(),
            message: message.into(),
            ..v1::Event::default()
        });
    }
}

impl Actor for PeerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.register(ctx.address());
        self.env.registry.set_uid(self.peer.uid, ctx.address());
        self.show();
        self.arm(ctx);
    }

    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        self.watch.disarm();
        self.env.registry.remove_uid(self.peer.uid, &ctx.address());
        self.env.registry.remove_peer(&self.peer.name);
        self.env.board.remove(&self.peer.name);
        Running::Stop
    }
}

/// The address of ours that the system would send from to get there. Nothing is sent.
fn local_address(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if remote.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(remote).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}

/// What is planned for a peer, its time between authentications up to a tenth shorter by chance, so that peers
/// configured together do not do it together.
fn jittered_plan(peer: &Peer) -> Plan {
    let plan = convert::plan(&peer.spec);
    let reauth = plan.reauth.map(|time| time - time / 10 * u32::from(rand::random::<u8>()) / 256);
    Plan { reauth, ..plan }
}

/// A lifetime from now on, its soft end up to a tenth earlier by chance.
pub(crate) fn jittered(rekey: Duration, life: Duration) -> Lifetime {
    let jitter = rekey / 10 * u32::from(rand::random::<u8>()) / 256;
    let soft = (!rekey.is_zero()).then_some(rekey);
    let hard = (!life.is_zero()).then_some(life);
    Lifetime::new(Instant::now(), soft, hard, jitter)
}

/// An instant as wall-clock time, for people.
pub(crate) fn wall(at: Instant) -> SystemTime {
    SystemTime::now() + at.saturating_duration_since(Instant::now())
}
