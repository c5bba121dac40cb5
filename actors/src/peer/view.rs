//! What a peer shows on the board.

use std::sync::Arc;
use std::time::SystemTime;

use culvert_proto::v1;
use ike::supervise::State;

use super::PeerActor;
use crate::clock::wall;
use crate::events::Whose;
use crate::history::History;
use crate::status::PeerView;

impl PeerActor {
    /// The negotiations, to add to them. The board shares them until the next change.
    pub(super) fn history(&mut self) -> &mut History {
        Arc::make_mut(&mut self.view_mut().history)
    }

    /// What is shown, to change it. The board shares it until the next change.
    pub(super) fn view_mut(&mut self) -> &mut PeerView {
        Arc::make_mut(&mut self.view)
    }

    /// Puts the peer's present state on the board.
    pub(super) fn show(&mut self) {
        self.look();
        if let Some((_, board)) = &self.places {
            board.show(self.view.clone());
        }
        self.tell();
    }

    /// What is to be shown of the peer's present state.
    pub(super) fn look(&mut self) {
        let state = self.supervisor.state();
        let uid = self.peer.uid;
        let (next_attempt, attempts) = (self.supervisor.poll_timeout().map(wall), self.supervisor.attempts());
        let ike = self.supervisor.current().and_then(|id| self.conns.get(&id)).and_then(|c| c.ike.clone());
        let ike_sas = self.conns.values().filter(|c| c.ike.is_some() && !c.down).count();
        let children = self.children.values().map(|c| c.view.clone()).collect();
        let changed = self.shown_state != Some(state);
        self.shown_state = Some(state);
        self.judge(state);
        let degraded = !self.gaps.is_empty();
        let begins = self.elsewhere();
        let another_has_it = self.given.is_some() || self.env.homes.holder(self.peer.uid).is_some();
        let another_begins = begins.as_deref().is_some_and(|node| !node.is_empty());
        let elsewhere = another_begins || another_has_it;
        let home_node = begins.unwrap_or_default();
        self.lead_elsewhere(&home_node);
        let view = self.view_mut();
        if changed {
            view.since = Some(SystemTime::now());
            view.ups += u64::from(state == State::Established);
        }
        view.state = match state {
            State::Waiting => v1::PeerState::Waiting,
            State::Connecting => v1::PeerState::Connecting,
            State::Established if !degraded => v1::PeerState::Established,
            State::Established => v1::PeerState::Degraded,
            State::BackingOff(_) => v1::PeerState::BackingOff,
            State::Terminated => v1::PeerState::Terminated,
        };
        if view.state == v1::PeerState::Established || (another_has_it && !view.is_up()) {
            // What is refused from now on is another matter.
            view.last_cause = "";
        }
        (view.uid, view.next_attempt, view.attempts) = (uid, next_attempt, attempts);
        (view.ike, view.ike_sas, view.children) = (ike, ike_sas, children);
        (view.home_node, view.elsewhere) = (home_node, elsewhere);
    }

    /// Tells what has happened to those who watch, and to those who have asked for it, now that the board shows it.
    fn tell(&mut self) {
        let state = self.view.state.into();
        for event in std::mem::take(&mut self.untold) {
            self.env.hub.publish(v1::Event { state, ..event }, Whose::of(&self.peer));
        }
        for (reply, outcome) in std::mem::take(&mut self.answers) {
            // The client may have gone away; then there is nobody to tell.
            let _ = reply.send(outcome);
        }
    }

    /// What holds of the peer now, and what does not.
    fn judge(&mut self, state: State) {
        let up = state == State::Established;
        let missing = if up { self.missing() } else { Vec::new() };
        let lacks = self.config.is_none().then(|| {
            let secrets = self.peer.spec.auth.secrets().map(|(_, secret)| secret.to_string());
            format!("{} cannot be read", secrets.collect::<Vec<_>>().join(" or "))
        });
        let gaps: Vec<&str> = self.gaps.values().map(String::as_str).collect();
        let (holds, reason, text) = match (up, gaps.is_empty(), missing.is_empty()) {
            (false, ..) => (None, "Down", String::new()),
            (true, false, _) => (Some(false), "Refused", gaps.join("; ")),
            (true, true, false) => {
                (None, "InProgress", format!("no Child SA yet for {}", missing.join(", ")))
            }
            (true, true, true) => (Some(true), "Covered", String::new()),
        };
        let conditions = Arc::make_mut(&mut self.view_mut().conditions);
        conditions.covered.set(holds, reason, &text);
        match lacks {
            None => conditions.secret.set(Some(true), "Present", ""),
            Some(lacks) => conditions.secret.set(Some(false), "Missing", &lacks),
        }
        if conditions.reachable.since.is_none() {
            conditions.reachable.set(None, "NotTried", "");
        }
    }

    /// Whether the peer answers.
    pub(super) fn reached(&mut self, holds: bool, reason: &'static str, message: &str) {
        Arc::make_mut(&mut self.view_mut().conditions).reachable.set(Some(holds), reason, message);
    }
}
