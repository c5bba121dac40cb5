//! A side that answers first messages beside the connection it has, as hosts do: in IKEv1 phase 1 of a peer comes anew as a
//! stranger's does, and joins the connection once it is known whose it is.

use std::net::SocketAddr;
use std::time::Instant;

use ike::config::Opening;
use ike::reception::{Class, classify};
use ike::{Command, Connection, Datagram, Event, InitReply, Transmit};

use super::Side;
use super::twin::Twin;

/// A negotiation that a peer has started.
pub struct HalfOpen {
    pub conn: Twin,
    /// Where it came from.
    remote: SocketAddr,
    /// Its first message.
    first: Vec<u8>,
}

fn spi_i(message: &[u8]) -> Option<&[u8]> {
    message.get(..8)
}

impl Side {
    /// Takes in a datagram of IKEv1. False if it is none.
    pub fn many(&mut self, now: Instant, datagram: Datagram<'_>) -> bool {
        if datagram.bytes.get(17).is_none_or(|version| version >> 4 != 1) {
            return false;
        }
        match classify(datagram.bytes) {
            Ok(Class::First(opening)) => self.first_message(now, opening, datagram),
            Ok(Class::Existing(receivers)) => {
                let conn = self.conn.as_mut().filter(|conn| !conn.is_finished());
                let of_conn =
                    |conn: &Connection| receivers.find(|spi| conn.local_spis().contains(&spi).then_some(()));
                if let Some(conn) = conn.filter(|conn| of_conn(conn).is_some()) {
                    conn.handle_datagram(now, &mut self.host, datagram);
                } else if let Some(at) = self.half_open.iter().position(|h| of_conn(&h.conn).is_some()) {
                    self.go_on(now, at, datagram);
                } else {
                    self.refused.push("a message to nobody".into());
                }
            }
            Err(error) => self.refused.push(error.to_string()),
        }
        true
    }

    fn first_message(&mut self, now: Instant, opening: Opening, datagram: Datagram<'_>) {
        let same = |h: &HalfOpen| h.remote == datagram.remote && spi_i(&h.first) == spi_i(datagram.bytes);
        if let Some(at) = self.half_open.iter().position(same) {
            return self.go_on(now, at, datagram);
        }
        if self.settled.iter().any(|first| first == datagram.bytes) {
            return self.refused.push("a first message that is settled".into());
        }
        let before = self.pretend_connected();
        let force = self.forces.unwrap_or(self.config.force_encapsulation);
        let reply = Connection::respond(
            now,
            &mut self.host,
            opening,
            datagram,
            (4500, 4500),
            &self.candidates,
            force,
        );
        self.host.connected = before;
        match reply {
            InitReply::Accepted(conn) => {
                let (remote, first) = (datagram.remote, datagram.bytes.to_vec());
                self.half_open.push(HalfOpen { conn: (*conn).into(), remote, first });
                self.drain_half_open();
            }
            InitReply::Refused(bytes, failure) => {
                self.refused.push(failure.to_string());
                let (local, remote) = (datagram.local, datagram.remote);
                self.outbox.push_back(Transmit {
                    local,
                    remote,
                    natt: datagram.natt,
                    keepalive: false,
                    bytes,
                });
            }
            InitReply::Dropped(failure) => self.refused.push(failure.to_string()),
        }
    }

    /// Lets the host say that the connection there is is the peer's. What it said before.
    fn pretend_connected(&mut self) -> Option<SocketAddr> {
        let up = self.conn.as_ref().filter(|conn| conn.is_up()).map(|conn| conn.addresses().1);
        let before = self.host.connected;
        self.host.connected = before.or(up);
        before
    }

    fn go_on(&mut self, now: Instant, at: usize, datagram: Datagram<'_>) {
        let before = self.pretend_connected();
        self.half_open[at].conn.handle_datagram(now, &mut self.host, datagram);
        self.host.connected = before;
        if self.half_open[at].conn.is_up() {
            let HalfOpen { conn, first, .. } = self.half_open.remove(at);
            self.settled.push(first);
            self.take_in(now, conn);
        }
        self.drain_half_open();
    }

    /// A negotiation that has come up: it joins the connection there is, or takes its place.
    fn take_in(&mut self, now: Instant, mut conn: Twin) {
        let Some(home) = self.conn.as_mut().filter(|home| !home.is_finished()) else {
            self.conn = Some(conn);
            return self.drain();
        };
        if conn.joins(home.is_up()) {
            self.log.push("joined".into());
            // What it has told of itself is known, and its answer waits.
            while let Some(event) = conn.poll_event() {
                if let Event::IkeSpiAdded(spi) = event {
                    self.registered.insert(spi);
                }
            }
            assert!(
                home.absorb(now, &mut self.host, conn.into_inner()).is_ok(),
                "a connection that is up is taken in"
            );
            return self.drain();
        }
        home.handle_command(now, &mut self.host, Command::Abandon);
        self.drain();
        self.conn = Some(conn);
        self.drain();
    }

    /// What half-open negotiations have to say and to send.
    pub fn drain_half_open(&mut self) {
        for half_open in &mut self.half_open {
            while let Some(event) = half_open.conn.poll_event() {
                match event {
                    Event::Down(reason) => self.refused.push(reason.to_string()),
                    Event::IkeSpiAdded(spi) => {
                        self.registered.insert(spi);
                    }
                    Event::IkeSpiRemoved(spi) => {
                        self.registered.remove(&spi);
                    }
                    _ => {}
                }
            }
            while let Some(transmit) = half_open.conn.poll_transmit() {
                self.outbox.push_back(transmit);
            }
        }
        let over = self.half_open.extract_if(.., |h| h.conn.is_finished());
        self.settled.extend(over.map(|h| h.first));
    }

    pub fn half_open_timeouts(&mut self, now: Instant) {
        for half_open in &mut self.half_open {
            half_open.conn.handle_timeout(now, &mut self.host);
        }
        self.drain_half_open();
    }
}
