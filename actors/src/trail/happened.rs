//! What the core says has happened, told where it belongs.

use std::time::Instant;

use ike::wire::numbers::ExchangeType;
use ike::{ChildEnd, CloseReason, Event, Failure};

use super::Trail;
use super::words::{closed, installed, is_informational, set_peer, set_spis};
use crate::env::ConnEnv;
use crate::outcomes::Rekeyed;
use crate::span::{Attributes, Value};

impl Trail {
    /// What the core says has happened.
    pub(crate) fn happened(&mut self, env: &ConnEnv, event: &Event) {
        match event {
            Event::Established { peer, local_spi, remote_spi, choice, initiator, nat, .. } => {
                self.end_old(env, &[ExchangeType::MAIN_MODE, ExchangeType::AGGRESSIVE_MODE]);
                if let Some(first) = &mut self.first {
                    first.up = Some(Instant::now());
                }
                if self.peer.is_none() {
                    self.peer = peer.parse().ok();
                }
                let name = self.peer.clone();
                let Some(story) = self.story() else { return };
                let (i, r) = if *initiator { (*local_spi, *remote_spi) } else { (*remote_spi, *local_spi) };
                let (choice, nat) = (*choice, *nat);
                story.root.later(move |all| {
                    if let Some(peer) = &name {
                        set_peer(all, peer);
                    }
                    set_spis(all, i, r);
                    all.set("culvert.ike.proposal", Value::shown(&choice));
                    all.set("culvert.ike.nat.local", nat.local);
                    all.set("culvert.ike.nat.remote", nat.remote);
                });
                story.root.event("authenticated", Attributes::default());
            }
            Event::InstallChild(sa) => {
                self.end_old(env, &[ExchangeType::QUICK_MODE]);
                self.child_came_or_failed();
                if sa.replaces.is_some()
                    && sa.initiated
                    && let Some(took) = self.took()
                {
                    env.outcomes.rekey(Rekeyed::Child, took);
                }
                let rekeyed = sa.replaces.is_some();
                let own = self.first.is_none();
                let Some(story) = self.story() else { return };
                if own && rekeyed {
                    story.root.name = "rekey Child SA".into();
                }
                let event = if rekeyed { "child_sa.rekeyed" } else { "child_sa.installed" };
                story.root.event(event, installed(sa));
            }
            Event::ChildFailed { name, failure } => {
                self.child_came_or_failed();
                self.failed("child_sa.failed", Some(name), failure);
            }
            Event::IkeRekeyed { local_spi, remote_spi, initiated } => {
                self.end_old(env, &[ExchangeType::MAIN_MODE, ExchangeType::AGGRESSIVE_MODE]);
                if *initiated && let Some(took) = self.took() {
                    env.outcomes.rekey(Rekeyed::Ike, took);
                }
                let (i, r) = if *initiated { (*local_spi, *remote_spi) } else { (*remote_spi, *local_spi) };
                let own = self.first.is_none();
                if let Some(story) = self.story() {
                    if own {
                        story.root.name = "rekey IKE SA".into();
                    }
                    story.root.later(move |all| set_spis(all, i, r));
                    story.root.event("ike_sa.rekeyed", Attributes::default());
                }
            }
            Event::IkeRekeyFailed { failure } => {
                self.rename("rekey IKE SA");
                self.failed("ike_sa.rekey_failed", None, failure);
            }
            Event::RekeyEnded { outcome: Err(failure), .. } => {
                self.rename("rekey Child SA");
                self.failed("child_sa.rekey_failed", None, failure);
            }
            Event::RemoveChild { spi_in, reason, .. } => {
                // What makes room for another is told by that.
                if !matches!(reason, ChildEnd::Rekeyed | ChildEnd::Redundant)
                    && let Some(story) = self.story()
                {
                    let (spi, reason) = (*spi_in, *reason);
                    let said = Attributes::of(move |all| {
                        all.set("culvert.child.spi_in", Value::hex(spi.into(), 8));
                        all.set("culvert.reason", Value::shown(&reason));
                    });
                    story.root.event("child_sa.removed", said);
                }
            }
            Event::MessageIdsSynced { ours, theirs } => {
                self.rename("synchronize Message IDs");
                if let Some(story) = self.story() {
                    let (ours, theirs) = (*ours, *theirs);
                    let said = Attributes::of(move |all| {
                        all.set("culvert.ike.next_id.ours", ours);
                        all.set("culvert.ike.next_id.theirs", theirs);
                    });
                    story.root.event("ike_sa.synchronized", said);
                }
            }
            Event::RemoteMoved(remote) => {
                if let Some(story) = self.story() {
                    let address = remote.ip();
                    let said =
                        move |all: &mut Attributes| all.set("network.peer.address", Value::shown(&address));
                    story.root.event("peer.moved", Attributes::of(said));
                }
            }
            Event::Down(reason) => self.down(reason),
            _ => {}
        }
    }

    fn child_came_or_failed(&mut self) {
        if let Some(first) = &mut self.first {
            first.child = true;
        }
    }

    fn rename(&mut self, name: &'static str) {
        if self.first.is_none()
            && let Some(story) = self.story()
        {
            story.root.name = name.into();
        }
    }

    fn failed(&mut self, event: &'static str, child: Option<&str>, failure: &Failure) {
        let Some(story) = self.story() else { return };
        let mut attributes = Attributes::default();
        attributes.set("error.message", failure.to_string());
        if let Some(name) = child {
            attributes.set("culvert.child.name", name.to_owned());
        }
        story.root.event(event, attributes);
        story.fail(failure);
    }

    /// The connection is over.
    fn down(&mut self, reason: &CloseReason) {
        self.over = true;
        let failure = match reason {
            CloseReason::Failed(failure) if *failure != Failure::Replaced => Some(failure),
            _ => None,
        };
        if let Some(first) = &mut self.first {
            match failure {
                Some(failure) => first.fail(failure),
                None => first.root.event("closed", closed(reason)),
            }
        }
        let asked = matches!(failure, Some(Failure::Timeout { .. }));
        for mut open in std::mem::take(&mut self.open) {
            if let (Some(span), Some(failure)) = (&mut open.span, failure) {
                span.error = Some(failure.to_string());
            }
            if let Some(story) = &mut open.story {
                if asked && is_informational(open.exchange) {
                    story.root.name = "liveness".into();
                }
                match failure {
                    Some(failure) => story.fail(failure),
                    None => {
                        story.root.name = "close".into();
                        story.root.event("closed", closed(reason));
                    }
                }
            }
            self.ended.push(open);
        }
    }
}
