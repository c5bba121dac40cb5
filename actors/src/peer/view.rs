//! What a peer shows on the board.

use std::sync::Arc;
use std::time::SystemTime;

use culvert_proto::v1;

use ike::supervise::State;

use super::PeerActor;
use crate::clock::wall;
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
        let state = self.supervisor.state();
        let uid = self.peer.uid;
        let (next_attempt, attempts) = (self.supervisor.poll_timeout().map(wall), self.supervisor.attempts());
        let ike = self.supervisor.current().and_then(|id| self.conns.get(&id)).and_then(|c| c.ike.clone());
        let ike_sas = self.conns.values().filter(|c| c.ike.is_some() && !c.down).count();
        let children = self.children.values().map(|c| c.view.clone()).collect();
        let changed = self.shown_state != Some(state);
        self.shown_state = Some(state);
        let view = self.view_mut();
        if changed {
            view.since = Some(SystemTime::now());
        }
        view.state = match state {
            State::Waiting => v1::PeerState::Waiting,
            State::Connecting => v1::PeerState::Connecting,
            State::Established => v1::PeerState::Established,
            State::BackingOff(_) => v1::PeerState::BackingOff,
            State::Terminated => v1::PeerState::Terminated,
        };
        (view.uid, view.next_attempt, view.attempts) = (uid, next_attempt, attempts);
        (view.ike, view.ike_sas, view.children) = (ike, ike_sas, children);
        if let Some((_, board)) = &self.places {
            board.show(self.view.clone());
        }
    }
}
