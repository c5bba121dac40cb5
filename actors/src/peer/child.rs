//! The Child SAs of a peer: their actors, their due dates, and bringing back what should be there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use culvert_proto::v1;
use ike::config::Mode;
use ike::explain::explain;
use ike::resources::{configured, resource_of};
use ike::supervise::{ConnId, Senders};
use ike::{ChildEnd, Command, Failure, NO_POLICY};

use tenants::{ChildSpec, Cidr, IkeVersion, StartAction};

use super::PeerActor;
use super::command::Wait;
use super::not_rekeyed::Rekeying;
use crate::child_sa::ChildSaActor;
use crate::clock::{past, wall};
use crate::mailbox::deliver;
use crate::moves::PairFacts;
use crate::outcomes::Stage;
use crate::status::ChildView;
use crate::vocabulary::{Do, Due, Given, Installed, Retire};

/// A pair in place, or lingering.
pub(super) struct ChildEntry {
    pub(super) conn: ConnId,
    since: Instant,
    /// `None` once it has been told to retire; then it ends by itself.
    addr: Option<Addr<ChildSaActor>>,
    /// Its child is configured otherwise now: it goes once another pair is there.
    pub(super) outdated: bool,
    /// Its child was configured otherwise while it was agreed on: it goes once another one is there, and only then.
    pub(super) overtaken: bool,
    pub(super) view: Arc<ChildView>,
}

impl Drop for ChildEntry {
    fn drop(&mut self) {
        // Whatever ends the peer's actor takes its pairs along: nobody else would. One with a full mailbox notices by
        // itself that it has no supervisor.
        if let Some(addr) = &self.addr {
            let _ = addr.try_send(Retire(Duration::ZERO));
        }
    }
}

impl PeerActor {
    /// Something is due for a pair.
    pub(super) fn child_due(&mut self, spi: u32, due: Due) {
        let Some(child) = self.children.get(&spi) else { return };
        let id = child.conn;
        let command = match due {
            Due::Rekey => Command::RekeyChild(spi),
            Due::Expire => Command::ExpireChild(spi),
            Due::InboundSeen => Command::InboundSeen(spi),
            Due::Moved(remote) => Command::RemoteMoved(remote),
        };
        if matches!(command, Command::InboundSeen(_)) {
            self.supervisor.used(id);
            for spi in self.senders.moved(self.supervisor.sender()) {
                self.env.router.activate(esp::Spi(spi));
            }
        }
        self.command(id, command);
    }

    pub(super) fn child_installed(&mut self, ctx: &mut Context<Self>, conn: ConnId, sa: Installed) {
        let Installed { pair, spi_out, replaces, facts, config, overtaken, moved } = sa;
        let PairFacts { name, suite, legacy, mode, local, remote, lifetime, since, rekeys } = facts;
        let spi_in = pair.spi().0;
        let before = replaces.and_then(|old| self.children.get(&old));
        let (rekeys, was_outdated) = before.map_or((rekeys, false), |c| (c.view.rekeys + 1, c.outdated));
        let overtaken = self.is_overtaken(&name, config.as_ref(), overtaken);
        let view = ChildView {
            name: name.clone(),
            spi_in,
            spi_out,
            suite,
            legacy,
            mode,
            local,
            remote,
            rekeys,
            installed: past(since),
            rekey_due: lifetime.soft().map(wall),
            expires: lifetime.hard().map(wall),
        };
        let text = format!(
            "{} {:08x}/{:08x} {}{} {} === {}",
            view.name,
            view.spi_in,
            view.spi_out,
            view.suite,
            if view.mode == Mode::Transport { " transport" } else { "" },
            view.local.join(","),
            view.remote.join(",")
        );
        let rekeyed = replaces.is_some();
        self.log_child(conn, &text, rekeyed, moved);
        let what = match (moved, rekeyed) {
            (true, _) => "came from another node,",
            (false, true) => "rekeyed,",
            (false, false) => "installed,",
        };
        self.history().step(conn, format!("Child SA {what} {text}"));
        let name: Arc<str> = name.into();
        let incomplete = !self.missing().is_empty();
        if self.gaps.remove(&*name).is_some() {
            self.view_mut().last_error.clear();
        }
        self.new_keys(conn, &Rekeying::Child(name.clone()));
        if self.gaps.is_empty() {
            self.history().recovered(conn);
        }
        let (env, me) = (self.env.child.clone(), ctx.address().recipient());
        let addr = ChildSaActor::new(env, pair, lifetime, me).start();
        self.senders.installed(conn, spi_in, name.clone());
        self.supervisor.child_up(Instant::now(), conn, &name);
        self.children.insert(
            spi_in,
            ChildEntry {
                conn,
                since,
                addr: Some(addr),
                // It goes on with what it has taken the place of.
                outdated: was_outdated && overtaken,
                overtaken,
                view: Arc::new(view),
            },
        );
        if moved && self.is_overtaken_in_parts(&name) {
            self.begin_anew(conn);
        }
        self.renew_overtaken(conn, spi_in);
        if moved {
            // Nothing has been negotiated.
        } else if rekeyed {
            self.view_mut().child_rekeys += 1;
            self.env.outcomes.succeeded(Stage::Rekey);
            self.publish(v1::EventType::ChildSaRekeyed, text);
        } else {
            self.env.outcomes.succeeded(Stage::Child);
            self.publish(v1::EventType::ChildSaInstalled, text);
            if !overtaken {
                self.drop_outdated(&name);
                self.drop_overtaken(resource_of(&name).0, spi_in);
            }
            if incomplete && self.missing().is_empty() {
                self.forget_asked();
            }
        }
        if self.missing().is_empty() {
            self.resolve(Wait::Up, Ok(()));
        }
        if self.supervisor.current() == Some(conn) {
            self.made_anew(&name, Ok(()));
        }
    }

    /// Tells the router when another pair is to be sent by.
    pub(super) fn send_by(&mut self, change: impl FnOnce(&mut Senders, Option<ConnId>) -> Option<u32>) {
        if let Some(spi) = change(&mut self.senders, self.supervisor.sender()) {
            self.env.router.activate(esp::Spi(spi));
        }
    }

    pub(super) fn child_removed(&mut self, spi: u32, linger: Duration, reason: ChildEnd) {
        let Some(mut child) = self.children.remove(&spi) else { return };
        // Another pair takes over before this one stops sending.
        self.send_by(|senders, current| senders.removed(spi, current));
        let linger = self.supervisor.linger(child.conn, linger);
        if let Some(addr) = child.addr.take() {
            deliver(&addr, Retire(linger), &self.env.counters);
        }
        let name = child.view.name.clone();
        tracing::info!(peer = %self.peer.name, child = %name, spi = %format!("{spi:08x}"), %reason, "Child SA removed");
        let still = self.has_child(&name);
        let end = (reason, child.since.elapsed());
        self.supervisor.child_ended(Instant::now(), child.conn, &name.as_str().into(), end, still);
        match reason {
            // Another pair carries on.
            ChildEnd::Rekeyed | ChildEnd::Redundant => {}
            // What ended the IKE_SA is told once, for all its pairs.
            ChildEnd::IkeClosed => self.publish(v1::EventType::ChildSaDeleted, format!("{name}: {reason}")),
            ChildEnd::DeletedByPeer | ChildEnd::Deleted | ChildEnd::Expired | ChildEnd::LostByPeer => {
                self.publish(v1::EventType::ChildSaDeleted, format!("{name}: {reason}"));
                self.history().step(child.conn, format!("Child SA gone, {name} {spi:08x}: {reason}"));
                self.note_gap(child.conn, &name, reason);
            }
        }
    }

    /// A child has no pair any more though its IKE_SA stands. Where the next packet brings it back that is as it should be.
    fn note_gap(&mut self, conn: ConnId, name: &str, reason: ChildEnd) {
        let wanted = self.peer.spec.children.iter().any(|child| child.name == name)
            && self.peer.spec.start_action != StartAction::OnDemand;
        if wanted && self.supervisor.current() == Some(conn) && !self.has_child(name) {
            self.gaps.insert(name.into(), format!("{name}: no Child SA: {reason}"));
        }
    }

    /// A policy lost its pair though its IKE_SA stands: a new one is asked for.
    pub(super) fn restore_child(&self, id: ConnId, name: Arc<str>) {
        let there = self.has_child(&name);
        if let (false, false, Some(conn)) = (there, self.leaving, self.conns.get(&id)) {
            deliver(&conn.addr, Do(Command::CreateChild(name)), &self.env.counters);
        }
    }

    /// Whether it was a child of ours, and is none any more. What the peer asks for beyond ours has no name.
    pub(super) fn is_removed(&self, name: &str) -> bool {
        let policy = configured(name);
        name != NO_POLICY && !self.peer.spec.children.iter().any(|child| child.name == policy)
    }

    /// Nothing is missing without a child that was removed while it was asked for.
    pub(super) fn removed_child_failed(&mut self, conn: ConnId, name: &str, failure: &Failure) {
        self.history().step(conn, format!("{name}, which was removed meanwhile: {failure}"));
        self.made_anew(name, Err("there is no such Child SA any more".into()));
        if self.supervisor.current().is_some() && self.missing().is_empty() {
            self.resolve(Wait::Up, Ok(()));
        }
    }

    pub(super) fn child_failed(&mut self, name: &Arc<str>, failure: &Failure) {
        self.env.counters.failures.up();
        let cause = self.env.outcomes.failed(Stage::Child, failure);
        self.view_mut().failures += 1;
        tracing::warn!(peer = %self.peer.name, child = %name, reason = %failure, "no Child SA");
        // What the peer asks for may be none of ours, and has no name then.
        let ours = self.peer.spec.children.iter().any(|child| child.name == configured(name));
        let what = if ours { name } else { "a Child SA that the peer asked for was refused" };
        self.view_mut().last_error = format!("{what}: {failure}");
        self.publish(v1::EventType::NegotiationFailed, self.view.last_error.clone());
        self.resolve(Wait::Up, Err(self.view.last_error.clone().into()));
        self.drop_outdated(name);
        let by_auth = matches!(self.peer.spec.ike.version, IkeVersion::V2);
        if self.has_child(name) {
            let why = self.view.last_error.clone();
            self.not_rekeyed(Rekeying::Child(name.clone()), &why);
            self.supervisor.rekey_refused(name, by_auth);
        } else {
            self.gaps.insert(name.clone(), self.view.last_error.clone());
            self.made_anew(name, Err(self.view.last_error.clone().into()));
            self.view_mut().blame(cause);
            self.supervisor.child_refused(Instant::now(), name, by_auth);
        }
    }

    /// What the peer has asked for that is no child of ours is history: one side was changed, so that they fit. If it wants that as
    /// well as what it has now, it asks for it again.
    pub(super) fn forget_asked(&mut self) {
        let children = &self.peer.spec.children;
        let is_ours = |gap: &str| children.iter().any(|child| child.name == configured(gap));
        let asked: Vec<Arc<str>> = self.gaps.keys().filter(|gap| !is_ours(gap)).cloned().collect();
        for gap in &asked {
            self.gaps.remove(&**gap);
        }
        if !asked.is_empty() {
            self.view_mut().last_error.clear();
        }
    }

    /// The peer carries less of a policy than is configured, or all of it again.
    pub(super) fn coverage_changed(&mut self, id: ConnId, policy: &Arc<str>, uncovered: &[String]) {
        if !self.has_child(policy) || self.supervisor.current() != Some(id) {
            // It has none, which is told for itself; or it is one that goes, and the one in its place has its own.
            return;
        }
        if uncovered.is_empty() {
            self.history().step(id, format!("{policy}: all of its traffic has a way"));
            if let Some(why) = self.gaps.remove(policy) {
                self.forget_error(id, &why);
            }
            tracing::info!(peer = %self.peer.name, child = %policy, "the policy is covered");
            return;
        }
        let configured = self.peer.spec.children.iter().find(|child| child.name == **policy);
        let networks = |nets: &[Cidr]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let sides =
            |c: &ChildSpec| format!("{} === {}", networks(&c.local_subnets), networks(&c.remote_subnets));
        let failure = Failure::Narrowed {
            policy: policy.clone(),
            uncovered: uncovered.join("; "),
            configured: configured.map(sides).unwrap_or_default(),
        };
        tracing::warn!(peer = %self.peer.name, reason = %failure, "the policy is not covered");
        self.history().failed(id, &failure);
        self.gaps.insert(policy.clone(), failure.to_string());
        let view = self.view_mut();
        view.last_error = failure.to_string();
        view.blame(explain(&failure).kind);
    }

    /// The pairs of a connection that another node goes on with: they are not in the router any more.
    pub(super) fn pairs_given(&mut self, conn: ConnId) {
        let spis: Vec<u32> =
            self.children.iter().filter(|(_, c)| c.conn == conn).map(|(spi, _)| *spi).collect();
        for spi in spis {
            let Some(mut child) = self.children.remove(&spi) else { continue };
            if let Some(addr) = child.addr.take() {
                deliver(&addr, Given, &self.env.counters);
            }
            // Which other one would be sent by is for the node that has them.
            self.senders.removed(spi, None);
        }
    }

    /// The pairs of a policy, newest first, that a rekeying may be asked for.
    pub(super) fn pairs(&self, name: Option<&str>) -> Vec<(u32, ConnId, String)> {
        let mut pairs: Vec<_> = self
            .children
            .iter()
            .filter(|(_, c)| name.is_none_or(|n| resource_of(&c.view.name).0 == n))
            .map(|(spi, c)| (c.view.installed, *spi, c.conn, c.view.name.clone()))
            .collect();
        pairs.sort_by_key(|p| std::cmp::Reverse(p.0));
        let mut seen = Vec::new();
        pairs.retain(|p| {
            !seen.contains(&p.3) && {
                seen.push(p.3.clone());
                true
            }
        });
        pairs.into_iter().map(|(_, spi, conn, name)| (spi, conn, name)).collect()
    }
}
