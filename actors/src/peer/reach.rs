//! What keeps our messages from the peer, told as soon as the system or ICMP says it, and not when nobody has answered for long.

use std::net::SocketAddr;
use std::time::Instant;

use culvert_proto::v1;
use ike::Failure;
use ike::explain::explain;
use ike::supervise::ConnId;
use router::{IcmpReason, Unreachable, Unsent};

use super::PeerActor;
use super::command::Wait;
use super::connection::REFUSAL_INTERVAL;

/// As a failure: what is told of an attempt and what is counted have the same cause.
pub(super) fn unreachable(text: &str, remote: SocketAddr) -> Failure {
    Failure::Unreachable { reason: text.to_owned(), remote }
}

impl PeerActor {
    /// The system does not send to the peer. Whoever waits for the tunnel need not wait longer; we go on trying.
    pub(super) fn unsent(&mut self, id: ConnId, why: &Unsent) {
        let text = why.to_string();
        let remote = self.conns.get(&id).and_then(|conn| conn.remote);
        self.obstacle(Some(id), why.name(), &text, remote);
        self.resolve(Wait::Up, Err(text.into()));
    }

    /// ICMP says that something sent to the peer did not get there. Anyone can say that, so it explains and ends nothing.
    pub(super) fn unreachable(&mut self, what: &Unreachable) {
        if matches!(what.reason, IcmpReason::TooBig { .. }) {
            // The kernel has learned it, and what follows is fragmented.
            return;
        }
        let connecting = self.conns.iter().rev().find(|(_, conn)| conn.ike.is_none() && !conn.down);
        let id = connecting.map(|(id, _)| *id).or_else(|| self.supervisor.current());
        self.obstacle(id, what.reason.name(), &what.to_string(), Some(what.remote));
        self.show();
    }

    fn obstacle(&mut self, id: Option<ConnId>, reason: &'static str, text: &str, remote: Option<SocketAddr>) {
        if let Some(id) = id
            && let Some(conn) = self.conns.get_mut(&id)
            && conn.obstacle.as_deref() != Some(text)
        {
            conn.obstacle = Some(text.to_owned());
            match remote {
                Some(remote) if self.supervisor.current() != Some(id) => {
                    self.history().failed(id, &unreachable(text, remote));
                }
                _ => self.history().step(id, text),
            }
        }
        if self.supervisor.current().is_some() {
            return;
        }
        let view = self.view_mut();
        text.clone_into(&mut view.last_error);
        // As the attempt has it. One that has not begun keeps the cause of the last.
        if let Some(remote) = remote {
            view.blame(explain(&unreachable(text, remote)).kind);
        }
        self.reached(false, reason, text);
        let now = Instant::now();
        if self.told_refusal.is_none_or(|at| now >= at + REFUSAL_INTERVAL) {
            self.told_refusal = Some(now);
            tracing::warn!(peer = %self.peer.name, reason = text, "the peer cannot be reached");
            self.publish(v1::EventType::NegotiationFailed, text);
        }
    }
}
