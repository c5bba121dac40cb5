//! What a connection does of what its core says, before the peer's actor learns of the rest.

use std::net::SocketAddr;
use std::time::Instant;

use actix::prelude::*;
use esp::{Lifetime, Spi};
use ike::config::Opening;
use ike::{Command, Connection, Event, Failure};

use super::IkeSaActor;
use crate::clock::jittered;
use crate::convert;
use crate::moves::PairFacts;
use crate::randomness::random;
use crate::vocabulary::{ConnEvent, Do, Established, Installed};

/// Why a pair is not installed whose child is none any more.
const GONE: &str = "it is not configured any more";

impl IkeSaActor {
    /// Carries out what concerns the connection alone; the rest is for the peer's actor.
    pub(super) fn carry_out(&mut self, event: Event, ctx: &mut Context<Self>) -> Option<ConnEvent> {
        Some(match event {
            // It leads here since it was allocated.
            Event::IkeSpiAdded(_) => return None,
            Event::IkeSpiRemoved(spi) => {
                self.held.release_ike(spi);
                return None;
            }
            Event::ReleaseSpi(spi) => {
                self.held.release_esp(spi);
                return None;
            }
            Event::ActivateChild { spi_in } => ConnEvent::Activated { spi_in },
            Event::InstallChild(sa) => {
                let spi_in = sa.spi_in;
                match self.install(*sa) {
                    Ok(installed) => ConnEvent::Installed(Box::new(installed)),
                    // The peer believes in it, so it is deleted in order.
                    Err(failed) => {
                        ctx.notify(Do(Command::ExpireChild(spi_in)));
                        failed
                    }
                }
            }
            Event::RemoveChild { spi_in, linger, reason } => {
                // Still held if the router did not take the pair.
                self.held.release_esp(spi_in);
                self.forget_pair(spi_in, linger);
                ConnEvent::Removed { spi_in, linger, reason }
            }
            Event::Established { local_spi, remote_spi, choice, initiator, initial_contact, .. } => {
                (self.lifetime, self.since) = (Some(self.fresh_lifetime()), Instant::now());
                let conn = self.conn.as_ref();
                ConnEvent::Established(Box::new(Established {
                    began: conn.map_or_else(Instant::now, Connection::began),
                    spis: if initiator { (local_spi, remote_spi) } else { (remote_spi, local_spi) },
                    opening: conn
                        .and_then(Connection::config)
                        .map_or(Opening::Init, |config| config.opening()),
                    choice: Some(choice),
                    initiator,
                    initial_contact,
                    addresses: self.addresses(),
                    encapsulated: conn.is_none_or(Connection::encapsulates),
                    lifetime: self.lifetime.clone(),
                    since: self.since,
                    moved: false,
                }))
            }
            Event::IkeRekeyed { local_spi, remote_spi, initiated } => {
                (self.lifetime, self.since) = (Some(self.fresh_lifetime()), Instant::now());
                ConnEvent::Rekeyed {
                    spis: if initiated { (local_spi, remote_spi) } else { (remote_spi, local_spi) },
                    initiated,
                    choice: self.conn.as_ref().and_then(Connection::choice),
                    lifetime: self.lifetime.clone(),
                }
            }
            Event::ChildFailed { name, failure } => ConnEvent::ChildFailed { name, failure },
            Event::SignOfLifeDue => {
                self.ask_router(ctx);
                return None;
            }
            Event::Coverage { policy, uncovered } => {
                let uncovered = uncovered.iter().map(ToString::to_string).collect();
                ConnEvent::Coverage { policy, uncovered }
            }
            Event::RekeyEnded { spi_in, outcome } => ConnEvent::RekeyEnded(spi_in, outcome),
            Event::IkeRekeyFailed { failure } => {
                ConnEvent::RekeyFailed(failure, self.lifetime.as_ref().and_then(Lifetime::hard))
            }
            Event::LimitedByPeer(within) => ConnEvent::LimitedByPeer(within),
            Event::AdvanceOutbound { pairs, by } => {
                // A standby learns of it by the numbers that are reserved next. Should it take over in the milliseconds before, it sends by
                // lower ones, which the peer drops until the pair is rekeyed.
                pairs.into_iter().for_each(|spi| self.env.router.advance(Spi(spi), by));
                return None;
            }
            Event::MessageIdsSynced { ours, theirs } => {
                self.env.counters.message_id_syncs.up();
                ConnEvent::Synced { ours, theirs }
            }
            Event::RemoteMoved(remote) => ConnEvent::Moved(remote),
            Event::Down(reason) => ConnEvent::Down(reason),
            Event::Finished => ConnEvent::Finished,
        })
    }

    /// Asks the router when ESP arrived last by this connection: once for each interval of liveness checks, and for its own
    /// pairs alone.
    fn ask_router(&self, ctx: &mut Context<Self>) {
        let pairs = self.conn.iter().flat_map(Connection::child_sas).map(|(_, spi, ..)| Spi(spi)).collect();
        let router = self.env.router.clone();
        let asked = async move { router.stats_of(pairs).await }.into_actor(self);
        ctx.spawn(asked.map(|stats, this, ctx| {
            let heard = stats.iter().filter_map(|pair| pair.last_used_in).max();
            this.with(ctx, |conn, host| conn.handle_command(Instant::now(), host, Command::Heard(heard)));
        }));
    }

    /// Puts a pair into the router. It must be there before the next datagram leaves.
    fn install(&mut self, sa: ike::ChildSa) -> Result<Installed, ConnEvent> {
        let spi = Spi(sa.spi_in);
        let name = sa.name.clone();
        if convert::child_of_sa(&self.peer_spec, &name).is_none() {
            // Its child was removed while it was agreed on.
            let failure = Failure::NotInstalled(GONE.to_owned());
            return Err(ConnEvent::ChildFailed { name, failure });
        }
        self.offer_to_router(sa).map_err(|error| {
            self.env.counters.install_failed.up();
            tracing::error!(peer = %self.peer_spec.name, %spi, child = %name, error, "the router did not take a Child SA");
            ConnEvent::ChildFailed { name, failure: Failure::NotInstalled(error) }
        })
    }

    fn offer_to_router(&mut self, mut sa: ike::ChildSa) -> Result<Installed, String> {
        sa.local = self.our_address(sa.local);
        let spec = convert::child_of_sa(&self.peer_spec, &sa.name);
        let spec = spec.ok_or(GONE)?;
        let tunnel = self.peer_spec.tunnel_id(&sa.name).ok_or("it has no number in the router")?;
        let suite = negotiated::suite(&sa.choice);
        if let (Some(log), Some(suite)) = (&self.env.key_log, &suite) {
            log.esp(sa.spi_in, suite, &sa.keys_in);
            log.esp(sa.spi_out, suite, &sa.keys_out);
        }
        let mut seed = [0; 32];
        random(&mut seed);
        let tenant = router::TenantId(self.peer_spec.tenant);
        let (name, spi_in, spi_out, mode, replaces) =
            (sa.name.clone(), sa.spi_in, sa.spi_out, sa.mode, sa.replaces);
        let text =
            |selectors: &[ike::wire::TrafficSelector]| selectors.iter().map(ToString::to_string).collect();
        let legacy = sa.choice.legacy().iter().map(ToString::to_string).collect();
        let suite = sa.choice.to_string();
        let (local, remote) = (text(&sa.local_ts), text(&sa.remote_ts));
        let limit = sa.limit;
        // Of the two ends of an IKE_SA one has begun it, and each knows which.
        let follows = self.conn.as_ref().is_some_and(|conn| !conn.is_initiator());
        let sa =
            convert::router_sa(sa, tenant, tunnel, spec, seed, follows).ok_or("ESP has no such algorithm")?;
        // The SPI belongs to the pair from here on, also if it is refused.
        let pair = self.held.installed(spi_in).ok_or("its SPI is not reserved")?;
        let time = spec.lifetime.within(limit.time, limit.octets).time;
        let lifetime = jittered(time.rekey, time.life);
        // Told to others alone: here whoever shows it has seen them.
        let before = self.told.as_ref().zip(replaces).and_then(|(told, old)| told.pairs.get(&old));
        let rekeys = before.map_or(0, |before| before.rekeys + 1);
        let (name, since) = (name.to_string(), Instant::now());
        let facts = PairFacts { name, suite, legacy, mode, local, remote, lifetime, since, rekeys };
        self.give_to_router(sa, &facts).map_err(|error| error.to_string())?;
        let conn = self.conn.as_ref();
        let config = conn.and_then(Connection::config).cloned();
        let overtaken = conn.is_some_and(|conn| conn.is_overtaken(spi_in));
        Ok(Installed { pair, spi_out, replaces, facts, config, overtaken, moved: false })
    }

    pub(super) fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let unspecified = || (([0, 0, 0, 0], 0).into(), ([0, 0, 0, 0], 0).into());
        let (local, remote) = self.conn.as_ref().map_or_else(unspecified, Connection::addresses);
        (self.our_address(local), remote)
    }

    /// The lifetime of a new IKE_SA: no longer than the peer keeps it, where that is agreed on.
    fn fresh_lifetime(&self) -> Lifetime {
        let agreed = self.conn.as_ref().and_then(Connection::agreed_lifetime);
        let span = self.peer_spec.spec.ike.lifetime.within(agreed);
        jittered(span.rekey, span.life)
    }
}
