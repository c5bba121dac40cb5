//! A peer that sends from elsewhere than before: its NAT has given it another address or port.

use std::net::SocketAddr;
use std::time::Instant;

use super::tasks::Task;
use super::{Connection, Phase};
use crate::event::{Datagram, Event};

impl Connection {
    /// Something authentic came from the peer, by the port of NAT traversal, and from here.
    pub(super) fn moved(&mut self, now: Instant, remote: SocketAddr) {
        if self.path.follow(self.nat, self.floated, remote) {
            return self.events.push_back(Event::RemoteMoved(remote));
        }
        // Behind a NAT ourselves we follow nobody only because its packets come from elsewhere (RFC 7296 section 2.23). But where the peer was,
        // it may be no more, and its own requests would be answered and keep it from noticing. So it is asked at both places, and is where
        // it answers (as RFC 4555 section 3.7 has it). If it is at neither, that shows.
        let strange = remote.port() != 0 && self.addresses().1 != remote;
        let may_have = strange && self.floated && self.nat.remote && matches!(self.phase, Phase::Up);
        if may_have && self.elsewhere.as_deref() != Some(&remote) {
            self.elsewhere = Some(Box::new(remote));
            self.queue(Task::Liveness, now);
        }
    }

    /// The peer has answered a request that went to both places.
    pub(super) fn answered_from(&mut self, datagram: Datagram<'_>) {
        let Some(elsewhere) = self.elsewhere.take() else { return };
        if datagram.natt && datagram.remote == *elsewhere {
            self.path.move_to(*elsewhere);
            self.events.push_back(Event::RemoteMoved(*elsewhere));
        }
    }
}
