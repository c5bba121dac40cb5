//! The actor of one connection: the IKE_SA in use and its successors by rekeying. Hands datagrams, commands and the
//! time to [`ike::Connection`] and carries out what it says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use esp::{Lifetime, LifetimeEvent, Spi};
use ike::{Command, Connection, Datagram, Event};
use router::IkeDatagram;
use tenants::Peer;

use crate::convert;
use crate::env::Env;
use crate::host::CoreHost;
use crate::mailbox::{MAILBOX, deliver};
use crate::peer::{ConnEvent, FromConn, PeerActor};
use crate::registry::Deliver;
use crate::watch::DeathWatch;

/// A command for the connection.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Do(pub(crate) Command);

/// The configuration changed in something that running SAs can take over.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Reconfigure(pub(crate) Arc<Peer>, pub(crate) Arc<ike::config::PeerConfig>);

/// Panics, to test what follows.
#[cfg(feature = "fault-injection")]
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct InjectPanic;

/// Hosts one connection.
pub(crate) struct IkeSaActor {
    id: u64,
    env: Arc<Env>,
    peer_spec: Arc<Peer>,
    conn: Option<Connection>,
    host: Option<CoreHost>,
    lifetime: Option<Lifetime>,
    timer: Option<SpawnHandle>,
    /// Of the peer's actor, to which it reports too.
    watch: DeathWatch<PeerActor>,
    counted: ike::connection::Counters,
    /// IKE_SAs whose keys are in the key log. Empty without one.
    logged: Vec<(u64, u64)>,
}

impl IkeSaActor {
    pub(crate) fn new(id: u64, env: Arc<Env>, peer_spec: Arc<Peer>, peer: Addr<PeerActor>) -> Self {
        Self {
            id,
            env,
            peer_spec,
            conn: None,
            host: None,
            lifetime: None,
            timer: None,
            watch: DeathWatch::new(id, peer),
            counted: ike::connection::Counters::default(),
            logged: Vec::new(),
        }
    }

    /// Calls the core, then drains it.
    fn with(&mut self, ctx: &mut Context<Self>, call: impl FnOnce(&mut Connection, &mut CoreHost)) {
        if let (Some(conn), Some(host)) = (&mut self.conn, &mut self.host) {
            call(conn, host);
        }
        self.drain(ctx);
    }

    fn drain(&mut self, ctx: &mut Context<Self>) {
        self.log_keys();
        let (mut finished, mut sender_changes) = (false, false);
        while let Some(event) = self.conn.as_mut().and_then(Connection::poll_event) {
            finished |= matches!(event, Event::Finished);
            if let Some(event) = self.carry_out(event, ctx) {
                sender_changes |= event.changes_sender();
                deliver(self.watch.supervisor(), FromConn { id: self.id, event }, &self.env.counters);
            }
        }
        // Only after the events: an SA has to be in place before the peer learns of it.
        let Some(conn) = &mut self.conn else { return };
        let mut datagrams = Vec::new();
        while let Some(transmit) = conn.poll_transmit() {
            if transmit.keepalive {
                self.env.router.send_keepalive(transmit.local.ip(), transmit.remote);
                continue;
            }
            let (local, remote) = (transmit.local, transmit.remote);
            datagrams.push(IkeDatagram { local, remote, bytes: transmit.bytes });
        }
        if sender_changes && !datagrams.is_empty() {
            // And no packet is to go by an SA that the peer, once it has these, takes for deleted: the peer's actor, which
            // decides between connections, moves to the other pair first.
            let event = ConnEvent::Send(datagrams);
            deliver(self.watch.supervisor(), FromConn { id: self.id, event }, &self.env.counters);
        } else {
            datagrams.into_iter().for_each(|datagram| self.env.router.send_ike(datagram));
        }
        self.count();
        if finished {
            return ctx.stop();
        }
        self.arm(ctx);
    }

    /// Writes keys that have not been written to the key log, if there is one.
    fn log_keys(&mut self) {
        let (Some(log), Some(conn)) = (&self.env.key_log, &self.conn) else { return };
        for keys in conn.logged_keys() {
            if !self.logged.contains(&(keys.spi_i, keys.spi_r)) {
                log.ike(&keys);
                self.logged.push((keys.spi_i, keys.spi_r));
            }
        }
    }

    /// Carries out what concerns the connection alone; the rest is for the peer's actor.
    fn carry_out(&mut self, event: Event, ctx: &mut Context<Self>) -> Option<ConnEvent> {
        Some(match event {
            Event::IkeSpiAdded(spi) => {
                self.env.registry.set_ike(spi, ctx.address().recipient());
                return None;
            }
            Event::IkeSpiRemoved(spi) => {
                self.env.registry.remove_ike(spi);
                return None;
            }
            Event::ReleaseSpi(spi) => {
                self.env.router.release_spi(Spi(spi));
                return None;
            }
            Event::ActivateChild { spi_in } => ConnEvent::Activated { spi_in },
            Event::InstallChild(sa) => {
                let spi_in = sa.spi_in;
                match self.install(*sa) {
                    Some(installed) => ConnEvent::Installed(Box::new(installed)),
                    // The peer believes in it, so it is deleted in order.
                    None => {
                        ctx.notify(Do(Command::ExpireChild(spi_in)));
                        return None;
                    }
                }
            }
            Event::RemoveChild { spi_in, linger, reason } => ConnEvent::Removed { spi_in, linger, reason },
            Event::Established { local_spi, remote_spi, choice, initiator, initial_contact, .. } => {
                self.lifetime = Some(self.fresh_lifetime());
                let conn = self.conn.as_ref();
                ConnEvent::Established {
                    began: conn.map_or_else(Instant::now, Connection::began),
                    spis: if initiator { (local_spi, remote_spi) } else { (remote_spi, local_spi) },
                    proposal: choice.to_string(),
                    initiator,
                    initial_contact,
                    addresses: self.addresses(),
                    encapsulated: conn.is_none_or(Connection::encapsulates),
                    lifetime: self.lifetime.clone(),
                }
            }
            Event::IkeRekeyed { local_spi, remote_spi, initiated } => {
                self.lifetime = Some(self.fresh_lifetime());
                let choice = self.conn.as_ref().and_then(Connection::choice);
                ConnEvent::Rekeyed {
                    spis: if initiated { (local_spi, remote_spi) } else { (remote_spi, local_spi) },
                    initiated,
                    proposal: choice.map(|c| c.to_string()).unwrap_or_default(),
                    lifetime: self.lifetime.clone(),
                }
            }
            Event::ChildFailed { name, failure } => ConnEvent::ChildFailed { name, failure },
            Event::RemoteMoved(remote) => ConnEvent::Moved(remote),
            Event::Down(reason) => ConnEvent::Down(reason),
            Event::Finished => ConnEvent::Finished,
        })
    }

    /// Puts a pair into the router. It must be there before the next datagram leaves.
    fn install(&mut self, sa: ike::ChildSa) -> Option<crate::peer::Installed> {
        let spec = self.peer_spec.spec.children.iter().find(|c| *c.name == *sa.name)?.clone();
        let installed = crate::peer::Installed {
            name: sa.name.clone(),
            spi_in: sa.spi_in,
            spi_out: sa.spi_out,
            suite: sa.choice.to_string(),
            mode: sa.mode,
            local: sa.local_ts.iter().map(ToString::to_string).collect(),
            remote: sa.remote_ts.iter().map(ToString::to_string).collect(),
            replaces: sa.replaces,
            lifetime: spec.lifetime,
        };
        let suite = negotiated::suite(&sa.choice);
        if let (Some(log), Some(suite)) = (&self.env.key_log, &suite) {
            log.esp(sa.spi_in, suite, &sa.keys_in);
            log.esp(sa.spi_out, suite, &sa.keys_out);
        }
        let spi = Spi(sa.spi_in);
        let mut seed = [0; 32];
        if let Some(host) = &mut self.host {
            ike::Host::random(host, &mut seed);
        }
        let tenant = router::TenantId(self.peer_spec.tenant);
        let tunnel = convert::tunnel_id(&self.peer_spec, &sa.name)?;
        let outcome =
            convert::router_sa(sa, tenant, tunnel, &spec, seed).map(|sa| self.env.router.install(sa));
        match outcome {
            Some(Ok(())) => Some(installed),
            other => {
                let error = other.and_then(Result::err).map(|e| e.to_string());
                self.env.counters.install_failed.up();
                self.env.router.release_spi(spi);
                tracing::error!(peer = %self.peer_spec.name, %spi, ?error, "the router did not take a Child SA");
                None
            }
        }
    }

    fn addresses(&self) -> (std::net::SocketAddr, std::net::SocketAddr) {
        let unspecified = || (([0, 0, 0, 0], 0).into(), ([0, 0, 0, 0], 0).into());
        self.conn.as_ref().map_or_else(unspecified, Connection::addresses)
    }

    /// The lifetime of a new IKE_SA, jittered so that the two ends and many peers do not rekey in step.
    fn fresh_lifetime(&self) -> Lifetime {
        let span = self.peer_spec.spec.ike.lifetime;
        crate::peer::jittered(span.rekey, span.life)
    }

    fn count(&mut self) {
        let Some(now) = self.conn.as_ref().map(Connection::counters) else { return };
        let c = &self.env.counters;
        c.retransmissions.add(now.retransmissions - self.counted.retransmissions);
        c.answered_again.add(now.answered_again - self.counted.answered_again);
        c.ike_dropped.add(now.dropped - self.counted.dropped);
        self.counted = now;
    }

    /// One timer for the connection and for the lifetime of its IKE_SA.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let lifetime = self.lifetime.as_ref().and_then(Lifetime::poll_timeout);
        let conn = self.conn.as_ref().and_then(Connection::poll_timeout);
        if let Some(at) = lifetime.into_iter().chain(conn).min() {
            let wait = at.saturating_duration_since(Instant::now());
            self.timer = Some(ctx.run_later(wait.max(Duration::from_millis(1)), Self::tick));
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.timer = None;
        let now = Instant::now();
        while let Some(event) = self.lifetime.as_mut().and_then(|l| l.handle_timeout(now)) {
            self.with(ctx, |conn, host| match event {
                LifetimeEvent::Soft => conn.handle_command(now, host, Command::RekeyIke),
                LifetimeEvent::Hard => conn.expire(now, host),
            });
        }
        self.with(ctx, |conn, host| conn.handle_timeout(now, host));
    }
}

impl Actor for IkeSaActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.host = Some(CoreHost {
            env: self.env.clone(),
            owner: ctx.address().recipient(),
            arbiter: self.peer_spec.uid,
        });
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        self.watch.disarm();
        Running::Stop
    }
}

impl Drop for IkeSaActor {
    fn drop(&mut self) {
        // Also after a panic: no SPI may lead to an actor that is gone.
        if let Some(conn) = &self.conn {
            for spi in conn.local_spis() {
                self.env.registry.remove_ike(spi);
            }
        }
    }
}

/// Begin: either start a negotiation, or go on with one that the reception has brought to the end.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Begin {
    /// We start.
    Initiate {
        /// With this configuration.
        config: Arc<ike::config::PeerConfig>,
        /// Over this path.
        path: ike::Path,
        /// There is no other connection with the peer.
        initial_contact: bool,
    },
    /// The peer started; IKE_AUTH is verified, its answer waits to be sent.
    Adopt(Box<Connection>),
}

impl Handler<Begin> for IkeSaActor {
    type Result = ();

    fn handle(&mut self, begin: Begin, ctx: &mut Self::Context) {
        match begin {
            Begin::Initiate { config, path, initial_contact } => {
                let Some(host) = &mut self.host else { return };
                match Connection::initiate(Instant::now(), host, config, path, initial_contact) {
                    Ok(conn) => self.conn = Some(conn),
                    Err(failure) => {
                        let event = ConnEvent::Down(ike::CloseReason::Failed(failure));
                        deliver(self.watch.supervisor(), FromConn { id: self.id, event }, &self.env.counters);
                        return ctx.stop();
                    }
                }
            }
            Begin::Adopt(conn) => {
                self.env.registry.set_ike(conn.spis().0, ctx.address().recipient());
                self.conn = Some(*conn);
            }
        }
        self.drain(ctx);
    }
}

impl Handler<Deliver> for IkeSaActor {
    type Result = ();

    fn handle(&mut self, Deliver(datagram): Deliver, ctx: &mut Self::Context) {
        let natt = datagram.local.port() == self.env.router.natt_port();
        self.with(ctx, |conn, host| {
            let IkeDatagram { local, remote, bytes } = &datagram;
            conn.handle_datagram(
                Instant::now(),
                host,
                Datagram { local: *local, remote: *remote, natt, bytes },
            );
        });
    }
}

impl Handler<Do> for IkeSaActor {
    type Result = ();

    fn handle(&mut self, Do(command): Do, ctx: &mut Self::Context) {
        self.with(ctx, |conn, host| conn.handle_command(Instant::now(), host, command));
    }
}

impl Handler<Reconfigure> for IkeSaActor {
    type Result = ();

    fn handle(&mut self, Reconfigure(spec, config): Reconfigure, ctx: &mut Self::Context) {
        self.peer_spec = spec;
        self.with(ctx, |conn, _| conn.set_config(config));
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<InjectPanic> for IkeSaActor {
    type Result = ();

    #[allow(clippy::panic)]
    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        panic!("injected into the connection of {}", self.peer_spec.name);
    }
}
