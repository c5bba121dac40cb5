//! A connection that another node has had until now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use esp::Spi;
use ike::config::{Opening, PeerConfig};
use ike::{ChildEnd, CloseReason, Command, Connection, Failure, Resume};
use snapshot::Handover;

use super::IkeSaActor;
use crate::convert;
use crate::datagram::Deliver;
use crate::moves::{Moved, agreed_of};
use crate::vocabulary::{ConnEvent, Established, Installed};

/// How long a pair is kept that was on its way out at the other node.
const LINGER: Duration = Duration::from_secs(5);

impl IkeSaActor {
    /// Goes on with it. Its pairs are in the router. What is to be done about those that are not, though the peer has them: they are
    /// deleted, and asked for anew.
    pub(super) fn go_on(
        &mut self,
        moved: Moved,
        config: Arc<PeerConfig>,
        owner: &Recipient<Deliver>,
    ) -> Result<Vec<Command>, String> {
        let Moved { slot: _, row, at, handover, pairs, here, begun: _until_it_has_begun } = moved;
        let words = |error: &dyn std::error::Error| error.to_string();
        let snapshot = row.connection().map_err(|error| words(&error))?;
        let resume = match handover {
            Handover::Exact => Resume::Exactly,
            Handover::Sudden => Resume::Beyond,
        };
        let conn = Connection::restore(snapshot, at, resume, config).map_err(|error| words(&error))?;
        for spi in conn.local_spis() {
            if !self.held.reserve_ike(&self.env.registry.ike, spi, owner) {
                return Err(format!("IKE SPI {spi:016x} is in use"));
            }
        }
        for spi in row.reserved.iter().copied().map(Spi) {
            if self.env.router.reserve_spi(spi) {
                self.held.hold_esp(&self.env.router, spi);
            }
        }
        (self.lifetime, self.since) = (row.lifetime(at), row.since(at));
        self.agreed = agreed_of(&row, &self.peer_spec);
        (self.here, self.counted) = (here, conn.counters());
        let (local, remote) = conn.spis();
        let choice = conn.choice();
        // Without an IKE_SA it has no SPIs that would tell.
        let initiator = if choice.is_some() { conn.initiator_spi() == local } else { conn.is_initiator() };
        let children: Vec<(Arc<str>, u32, bool)> =
            conn.child_sas().map(|(name, spi, _, sending)| (name.clone(), spi, sending)).collect();
        let (began, opening, encapsulated) = (
            conn.began(),
            conn.config().map_or(Opening::Init, |config| config.opening()),
            conn.encapsulates(),
        );
        let (over, up, limited) = (conn.is_over(), conn.is_up(), conn.limited_by_peer());
        let unheard = conn.is_end_unheard();
        self.conn = Some(conn);
        if over {
            // The other node has told nobody here that it is. Where the peer has not said that it knows, it was that node; else it was most of the
            // time the peer, whose last request is answered again.
            let reason = if unheard { CloseReason::Local } else { CloseReason::DeletedByPeer };
            self.report(ConnEvent::Down(reason));
        } else if up {
            self.report(ConnEvent::Established(Box::new(Established {
                began,
                spis: if initiator { (local, remote) } else { (remote, local) },
                opening,
                choice,
                initiator,
                initial_contact: false,
                addresses: self.addresses(),
                encapsulated,
                lifetime: self.lifetime.clone(),
                since: self.since,
                moved: true,
            })));
            if let Some(limit) = limited {
                self.report(ConnEvent::LimitedByPeer(limit.saturating_duration_since(Instant::now())));
            }
        }
        let here: Vec<(u32, String)> =
            pairs.iter().map(|pair| (pair.pair.spi().0, pair.facts.name.clone())).collect();
        let remote = self.conn.as_ref().map(|conn| conn.addresses().1);
        let config = self.conn.as_ref().and_then(Connection::config).cloned();
        for pair in pairs {
            let (spi_in, name) = (pair.pair.spi().0, pair.facts.name.clone());
            if let Some(told) = &mut self.told {
                told.pairs.insert(spi_in, pair.facts.clone());
            }
            let (pair, spi_out, facts) = (pair.pair, pair.spi_out, pair.facts);
            // The other node was told otherwise, or had not done all of it yet: what counts is what is configured here.
            let is_gone = convert::child_of_sa(&self.peer_spec, &name).is_none();
            let overtaken = is_gone || self.conn.as_ref().is_some_and(|conn| conn.is_overtaken(spi_in));
            let installed = Installed {
                pair,
                spi_out,
                replaces: None,
                facts,
                config: config.clone(),
                overtaken,
                moved: true,
            };
            self.report(ConnEvent::Installed(Box::new(installed)));
            if let (Handover::Sudden, Some(remote)) = (handover, remote) {
                // Its row is of when it was installed, and the peer may have moved since.
                self.env.router.set_remote(Spi(spi_in), remote);
            }
            match children.iter().find(|(_, spi, _)| *spi == spi_in) {
                Some((_, _, true)) if !is_gone => self.report(ConnEvent::Activated { spi_in }),
                Some(_) => {}
                None => {
                    tracing::debug!(child = name, spi_in, "a pair that was on its way out");
                    self.forget_pair(spi_in, LINGER);
                    let reason = ChildEnd::Rekeyed;
                    self.report(ConnEvent::Removed { spi_in, linger: LINGER, reason });
                }
            }
        }
        let lost: Vec<_> =
            children.iter().filter(|(_, spi, _)| !here.iter().any(|pair| pair.0 == *spi)).collect();
        let mut commands: Vec<Command> = lost.iter().map(|(_, spi, _)| Command::ExpireChild(*spi)).collect();
        for (name, _, _) in lost.iter().filter(|(of, _, _)| !here.iter().any(|pair| *pair.1 == **of)) {
            let failure = Failure::NotInstalled("it did not come from the other node".to_owned());
            self.report(ConnEvent::ChildFailed { name: name.clone(), failure });
            // Whoever is to begin it: the peer has done so, and it is here that it was lost.
            commands.push(Command::CreateChild(name.clone()));
        }
        Ok(commands)
    }
}
