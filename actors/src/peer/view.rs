//! What a peer shows on the board.

use std::sync::Arc;
use std::time::SystemTime;

use culvert_proto::v1;

use super::{PeerActor, wall};
use crate::history::History;
use ike::supervise::State;

impl PeerActor {
    /// The negotiations, to add to them. The board shares them until the next change.
    pub(super) fn history(&mut self) -> &mut History {
        Arc::make_mut(&mut self.view.history)
    }

    /// Puts the peer's present state on the board.
    pub(super) fn show(&mut self) {
        let state = self.supervisor.state();
        if self.shown_state != Some(state) {
            self.shown_state = Some(state);
            self.view.since = Some(SystemTime::now());
        }
        self.view.state = match state {
            State::Waiting => v1::PeerState::Waiting,
            State::Connecting => v1::PeerState::Connecting,
            State::Established => v1::PeerState::Established,
            State::BackingOff(_) => v1::PeerState::BackingOff,
            State::Terminated => v1::PeerState::Terminated,
        };
        self.view.uid = self.peer.uid;
        self.view.next_attempt = self.supervisor.poll_timeout().map(wall);
        self.view.attempts = self.supervisor.attempts();
        self.view.ike =
            self.supervisor.current().and_then(|id| self.conns.get(&id)).and_then(|c| c.ike.clone());
        self.view.ike_sas = self.conns.values().filter(|c| c.ike.is_some() && !c.down).count();
        self.view.children = self.children.values().map(|c| c.view.clone()).collect();
        self.env.board.set(&self.peer.name, self.view.clone());
    }
}
