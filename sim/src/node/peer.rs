//! One peer of a simulated node: its supervisor, connections and pairs. What `actors/src/peer` does in production, with
//! the same decisions taken by the same code.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use esp::{Lifetime, LifetimeEvent};
use ike::config::{Opening, PeerConfig, Version};
use ike::supervise::{Action, ConnId, Disposal, Ended, Plan, Senders, Supervisor};
use ike::{ChildEnd, Command, Connection, Event, Path, Transmit};

use super::host::SimHost;
use super::sas::Sas;
use crate::invariants::Witness;
use crate::random::Random;

/// Connections of one peer at a time, as in production.
pub const MAX_CONNECTIONS: usize = 8;

/// Lifetimes of a peer's SAs: soft and hard.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Of an IKE_SA.
    pub ike: (Duration, Duration),
    /// Of a Child SA.
    pub child: (Duration, Duration),
}

/// A connection and the lifetime of its IKE_SA.
pub struct Conn {
    /// The connection.
    pub core: Connection,
    pub(super) lifetime: Option<Lifetime>,
    /// It has reported its end and only lingers.
    pub down: bool,
}

/// One peer.
pub struct Peer {
    /// Number of the tunnel in the world.
    pub tunnel: usize,
    /// How it is configured.
    pub config: Arc<PeerConfig>,
    /// Where we start to; `None` if we cannot.
    pub path: Option<Path>,
    start: bool,
    lifetimes: Lifetimes,
    /// Decides.
    pub supervisor: Supervisor,
    /// All connections, those that linger included.
    pub conns: BTreeMap<ConnId, Conn>,
    next_conn: ConnId,
    pub(super) senders: Senders,
    /// The ESP side.
    pub sas: Sas,
    /// When the tunnel came up last.
    pub up_since: Option<Instant>,
    /// Pairs of IKEv1 that are gone without a word, as the peer knows them.
    forgotten: Vec<u32>,
}

/// What draining a connection brought forth.
#[derive(Default)]
pub struct Output {
    /// To be sent.
    pub transmits: Vec<Transmit>,
    /// IKE SPIs that lead here now, or no longer.
    pub ike_spis: Vec<(u64, Option<ConnId>)>,
}

impl Peer {
    /// A peer that has just been configured, or whose node has just started.
    pub fn new(
        now: Instant,
        tunnel: usize,
        config: Arc<PeerConfig>,
        path: Option<Path>,
        start: bool,
        lifetimes: Lifetimes,
        first_conn: ConnId,
    ) -> Self {
        Self {
            tunnel,
            config,
            path,
            start,
            lifetimes,
            supervisor: Supervisor::new(now, Plan::starting(start)),
            conns: BTreeMap::new(),
            next_conn: first_conn,
            senders: Senders::default(),
            sas: Sas::default(),
            up_since: None,
            forgotten: Vec::new(),
        }
    }

    /// The same peer after its node was restarted: everything negotiated is gone.
    pub fn restarted(&self, now: Instant) -> Self {
        let (config, path) = (self.config.clone(), self.path);
        let new = Self::new(now, self.tunnel, config, path, self.start, self.lifetimes, self.next_conn + 100);
        let pairs = self.sas.pairs.values().map(|pair| pair.spi_out);
        Self { forgotten: self.forgotten.iter().copied().chain(pairs).collect(), ..new }
    }

    /// The peer has begun anew, and is told that what it has of before is of no use. In main mode that is part of phase 1; in
    /// aggressive mode it is said in a message of its own that nobody acknowledges (RFC 2407 section 4.6.3.3), so if something
    /// is wrong with the network just then the peer may have its half of the pairs until they are renewed.
    fn told_contact(&mut self, initiator: bool, w: &mut Witness) {
        let forgotten = std::mem::take(&mut self.forgotten);
        if !initiator && self.config.opening() == Opening::Aggressive {
            forgotten.into_iter().for_each(|theirs| w.unacknowledged(theirs));
        }
    }

    /// When something is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let conns = self
            .conns
            .values()
            .flat_map(|c| [c.core.poll_timeout(), c.lifetime.as_ref().and_then(Lifetime::poll_timeout)]);
        conns.chain([self.supervisor.poll_timeout(), self.sas.next_timeout()]).flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        host: &mut SimHost,
        chance: &mut Random,
        out: &mut Output,
        w: &mut Witness,
    ) {
        while let Some(action) = self.supervisor.handle_timeout(now) {
            match action {
                Action::Connect => self.connect(now, host, chance, out, w),
                Action::Close(id) => self.command(now, host, chance, id, Command::Close, out, w),
                Action::Restore(id, name) => {
                    if !self.has(id, &name) {
                        self.command(now, host, chance, id, Command::CreateChild(name), out, w);
                    }
                }
            }
        }
        for spi in self.sas.expire(now) {
            host.release(spi);
            w.removed(spi);
        }
        let mut due = Vec::new();
        for (spi, pair) in self.sas.pairs.iter_mut().filter(|(_, p)| p.until.is_none()) {
            while let Some(event) = pair.lifetime.handle_timeout(now) {
                due.push((
                    pair.conn,
                    match event {
                        LifetimeEvent::Soft => Command::RekeyChild(*spi),
                        LifetimeEvent::Hard => Command::ExpireChild(*spi),
                    },
                ));
            }
        }
        for (id, command) in due {
            self.command(now, host, chance, id, command, out, w);
        }
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            while let Some(event) = conn.lifetime.as_mut().and_then(|l| l.handle_timeout(now)) {
                match event {
                    LifetimeEvent::Soft => conn.core.handle_command(now, host, Command::RekeyIke),
                    LifetimeEvent::Hard => conn.core.expire(now, host),
                }
            }
            conn.core.handle_timeout(now, host);
            self.drain(now, host, chance, id, out, w);
        }
    }

    fn connect(
        &mut self,
        now: Instant,
        host: &mut SimHost,
        chance: &mut Random,
        out: &mut Output,
        w: &mut Witness,
    ) {
        let started = self
            .path
            .filter(|_| self.conns.len() < MAX_CONNECTIONS)
            .and_then(|path| Connection::initiate(now, host, self.config.clone(), path).ok());
        match started {
            Some(core) => self.host_connection(now, host, chance, core, out, w),
            None => self.supervisor.ended(now, 0, Ended::Failed, jitter(chance)),
        }
    }

    /// A connection that the peer started and that is authenticated: it joins the one there is, or stands beside it.
    pub fn take_in(
        &mut self,
        now: Instant,
        host: &mut SimHost,
        chance: &mut Random,
        core: Connection,
        out: &mut Output,
        w: &mut Witness,
    ) {
        let home = self.home_of(&core).and_then(|id| Some((id, self.conns.get_mut(&id)?)));
        let Some((id, home)) = home else { return self.host_connection(now, host, chance, core, out, w) };
        let spis = core.local_spis();
        match home.core.absorb(now, host, core) {
            Ok(()) => {
                w.joined();
                out.ike_spis.extend(spis.into_iter().map(|spi| (spi, Some(id))));
                self.drain(now, host, chance, id, out, w);
            }
            Err(core) => self.host_connection(now, host, chance, core, out, w),
        }
    }

    /// The connection that one joins, if it does.
    fn home_of(&self, joining: &Connection) -> Option<ConnId> {
        let there = |id: &ConnId| self.conns.get(id).is_some_and(|conn| !conn.down);
        let is_up = |id: &ConnId| self.conns.get(id).is_some_and(|conn| conn.core.is_up());
        let begun = || self.conns.iter().rev().find(|(_, conn)| !conn.core.is_up()).map(|(id, _)| *id);
        let home = self.supervisor.current().filter(there).or_else(begun).filter(there);
        home.filter(|id| joining.joins(is_up(id)))
    }

    /// A connection of ours, or one the peer started and that stands by itself.
    pub fn host_connection(
        &mut self,
        now: Instant,
        host: &mut SimHost,
        chance: &mut Random,
        core: Connection,
        out: &mut Output,
        w: &mut Witness,
    ) {
        let id = self.next_conn;
        self.next_conn += 1;
        out.ike_spis.extend(core.local_spis().into_iter().map(|spi| (spi, Some(id))));
        self.conns.insert(id, Conn { core, lifetime: None, down: false });
        self.drain(now, host, chance, id, out, w);
    }

    /// Gives a command to a connection.
    #[allow(clippy::too_many_arguments)]
    pub fn command(
        &mut self,
        now: Instant,
        host: &mut SimHost,
        chance: &mut Random,
        id: ConnId,
        command: Command,
        out: &mut Output,
        w: &mut Witness,
    ) {
        if matches!(command, Command::InboundSeen(_)) {
            self.supervisor.used(id);
            for spi in self.senders.moved(self.supervisor.sender()) {
                self.sas.activate(spi);
            }
        }
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.core.handle_command(now, host, command);
            self.drain(now, host, chance, id, out, w);
        }
    }

    /// Carries out what a connection says, then takes what it sends.
    pub fn drain(
        &mut self,
        now: Instant,
        host: &mut SimHost,
        chance: &mut Random,
        id: ConnId,
        out: &mut Output,
        w: &mut Witness,
    ) {
        let mut finished = false;
        while let Some(event) = self.conns.get_mut(&id).and_then(|c| c.core.poll_event()) {
            finished |= matches!(event, Event::Finished);
            self.carry_out(now, host, chance, id, event, out, w);
        }
        let up = self.current().and_then(|id| self.conns.get(&id)).map(|conn| conn.core.addresses().1);
        host.note_connected(&self.config.name, up);
        if let Some(conn) = self.conns.get_mut(&id) {
            w.check_connection(self.tunnel, &conn.core);
            while let Some(transmit) = conn.core.poll_transmit() {
                w.ike_sent(self.tunnel, &conn.core, &transmit.bytes);
                out.transmits.push(transmit);
            }
        }
        if finished {
            self.conns.remove(&id);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn carry_out(
        &mut self,
        now: Instant,
        host: &mut SimHost,
        chance: &mut Random,
        id: ConnId,
        event: Event,
        out: &mut Output,
        w: &mut Witness,
    ) {
        if w.trace {
            let up = self.conns.get(&id).map(|c| c.core.is_up());
            w.tell(
                self.tunnel,
                host.held.last().copied().unwrap_or(0),
                &format!("conn {id} up {up:?}: {event:?}"),
            );
        }
        match event {
            Event::IkeSpiAdded(spi) => out.ike_spis.push((spi, Some(id))),
            Event::IkeSpiRemoved(spi) => out.ike_spis.push((spi, None)),
            Event::ReleaseSpi(spi) => host.release(spi),
            Event::InstallChild(sa) => {
                w.installed(self.tunnel, &sa);
                // In IKEv1 the peer may want an end sooner than we do.
                let (soft, hard) = self.lifetimes.child;
                let hard = sa.limit.time.map_or(hard, |limit| hard.min(limit));
                let lifetime = lifetime(now, (soft.min(hard - hard / 10), hard), chance);
                self.senders.installed(id, sa.spi_in, sa.name.clone());
                self.supervisor.child_up(now, id, &sa.name);
                if self.sas.install(now, *sa, id, lifetime).is_none() {
                    w.violation(format!("tunnel {}: a suite that ESP does not have", self.tunnel));
                }
            }
            Event::ActivateChild { spi_in } => {
                if let Some(spi) = self.senders.activated(spi_in, self.supervisor.sender()) {
                    self.sas.activate(spi);
                }
            }
            Event::RemoveChild { spi_in, linger, reason } => {
                let name = self.sas.pairs.get(&spi_in).map(|p| p.name.clone());
                let theirs = self.sas.pairs.get(&spi_in).map(|p| p.spi_out);
                let lasted = self.sas.pairs.get(&spi_in).map_or(Duration::ZERO, |p| now - p.since);
                if self.config.version != Version::V2 {
                    theirs.into_iter().for_each(|theirs| w.unacknowledged(theirs));
                    self.forgotten.extend(theirs.filter(|_| reason == ChildEnd::IkeClosed));
                }
                if let Some(spi) = self.senders.removed(spi_in, self.supervisor.sender()) {
                    self.sas.activate(spi);
                }
                self.sas.retire(spi_in, now + self.supervisor.linger(id, linger));
                w.retired(self.tunnel, spi_in, reason);
                if let Some(name) = name {
                    let still = self.supervisor.current().is_some_and(|current| self.has(current, &name));
                    self.supervisor.child_ended(now, id, &name, (reason, lasted), still);
                }
                for spi in self.sas.expire(now) {
                    host.release(spi);
                    w.removed(spi);
                }
            }
            Event::Established { initiator, initial_contact, .. } => {
                let Some(conn) = self.conns.get_mut(&id) else { return };
                conn.lifetime = Some(lifetime(now, self.lifetimes.ike, chance));
                let (began, spi) = (conn.core.began(), conn.core.initiator_spi());
                let disposals = self.supervisor.established(now, id, began, initiator, spi, initial_contact);
                self.up_since = Some(now);
                self.told_contact(initiator, w);
                for disposal in disposals {
                    let (other, command) = match disposal {
                        Disposal::Close(other) => (other, Command::Close),
                        Disposal::Abandon(other) => (other, Command::Abandon),
                    };
                    self.command(now, host, chance, other, command, out, w);
                }
            }
            Event::IkeRekeyed { .. } => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.lifetime = Some(lifetime(now, self.lifetimes.ike, chance));
                }
                self.supervisor.ike_rekeyed(id);
            }
            Event::IkeRekeyFailed { .. } => {
                let ends = self.conns.get(&id).and_then(|conn| conn.lifetime.as_ref()?.hard());
                if let (Version::V2, Some(ends)) = (self.config.version, ends) {
                    self.supervisor.ike_rekey_refused(now, id, ends);
                }
            }
            Event::LimitedByPeer(within) => self.supervisor.limited_by_peer(now, id, within),
            Event::ChildFailed { name, .. } => {
                let by_auth = self.config.version == Version::V2;
                match self.supervisor.current().is_some_and(|current| self.has(current, &name)) {
                    true => self.supervisor.rekey_refused(&name, by_auth),
                    false => self.supervisor.child_refused(now, &name, by_auth),
                }
            }
            Event::Down(reason) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.down = true;
                    conn.lifetime = None;
                }
                self.supervisor.ended(now, id, (&reason).into(), jitter(chance));
                w.down(self.tunnel, &reason);
            }
            Event::SignOfLifeDue => {
                let heard =
                    self.sas.pairs.values().filter(|pair| pair.conn == id).filter_map(|pair| pair.heard);
                let heard = Command::Heard(heard.max());
                self.command(now, host, chance, id, heard, out, w);
            }
            Event::RekeyEnded { .. } | Event::Coverage { .. } => {}
            // No simulated node is a cluster of another make: none asks for it.
            Event::MessageIdsSynced { .. } | Event::AdvanceOutbound { .. } => {}
            Event::RemoteMoved(_) | Event::Finished => {}
        }
    }

    /// Whether a connection has a pair of the policy.
    fn has(&self, id: ConnId, name: &str) -> bool {
        self.sas.pairs.values().any(|pair| pair.conn == id && *pair.name == *name && pair.until.is_none())
    }

    /// The connection that carries the tunnel.
    pub fn current(&self) -> Option<ConnId> {
        self.supervisor.current().filter(|id| self.conns.get(id).is_some_and(|c| !c.down && c.core.is_up()))
    }
}

fn jitter(chance: &mut Random) -> u8 {
    u8::try_from(chance.below(256)).unwrap_or(0)
}

/// A lifetime from now on, its soft end up to a tenth earlier.
fn lifetime(now: Instant, (soft, hard): (Duration, Duration), chance: &mut Random) -> Lifetime {
    Lifetime::new(now, Some(soft), Some(hard), chance.time_up_to(soft / 10))
}
