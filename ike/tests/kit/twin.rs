//! A connection beside a copy of it that goes to another node, and another clock, before each call: whatever a test does, and
//! whatever state it comes to by that, the two have to do the same from there on, octet for octet.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ike::config::PeerConfig;
use ike::event::CloseReason;
use ike::{Command, Connection, Datagram, Event, NotNow, Resume, Snapshot, Transmit};
use snapshot::{decode, encode, write};

use super::TestHost;

/// Connections of a test that all move, and of how many more one does: those that enumerate thousands of schedules would take twice
/// as long for little more.
const ALL_OF: usize = 16;
const ONE_OF: usize = 8;
static MADE: AtomicUsize = AtomicUsize::new(0);
/// The payload that a fragment begins with in IKEv1.
const FRAGMENT_V1: u8 = 132;
/// The one that a whole message begins with in IKEv2. What a hostile peer puts in front of a fragment may be anything else.
const WHOLE_V2: u8 = 46;
/// It is in clear, and never in fragments.
const IKE_SA_INIT: u8 = 34;
/// The other node's clock.
const AHEAD: Duration = Duration::from_secs(1_000_000);

pub struct Twin {
    stayed: Connection,
    moved: Option<Connection>,
    /// It has no copy. A fault that a test has put in, which is none of a connection, would not move with it.
    rooted: bool,
    /// Fragments have come to it.
    fragments: bool,
}

impl From<Connection> for Twin {
    fn from(stayed: Connection) -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let rooted = number >= ALL_OF && !number.is_multiple_of(ONE_OF);
        Self { stayed, moved: None, rooted, fragments: false }
    }
}

impl std::fmt::Debug for Twin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stayed.fmt(f)
    }
}

impl Deref for Twin {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.stayed
    }
}

/// What is done to one alone makes the copy useless; there is another before the next call.
impl DerefMut for Twin {
    fn deref_mut(&mut self) -> &mut Connection {
        self.moved = None;
        &mut self.stayed
    }
}

impl Twin {
    pub fn into_inner(self) -> Connection {
        self.stayed
    }

    /// The connection without a copy, from now on: for faults that a test puts in.
    pub fn alone(&mut self) -> &mut Connection {
        self.rooted = true;
        self
    }

    pub fn handle_command(&mut self, now: Instant, host: &mut TestHost, command: Command) {
        let there = match command {
            Command::Heard(Some(at)) => Command::Heard(Some(at + AHEAD)),
            ref other => other.clone(),
        };
        self.relocate(now);
        if let Some(moved) = &mut self.moved {
            let mut other = host.clone();
            moved.handle_command(now + AHEAD, &mut other, there);
            self.stayed.handle_command(now, host, command);
            host.assert_like(&other);
        } else {
            self.stayed.handle_command(now, host, command);
        }
    }

    pub fn handle_datagram(&mut self, now: Instant, host: &mut TestHost, datagram: Datagram<'_>) {
        self.both(now, host, |conn, now, host| conn.handle_datagram(now, host, datagram));
        self.fragments |= match datagram.bytes.get(16..19) {
            Some(&[next, 0x10, _]) => next == FRAGMENT_V1,
            Some(&[_, _, IKE_SA_INIT]) => false,
            Some(&[next, ..]) => next != WHOLE_V2,
            _ => false,
        };
    }

    pub fn handle_timeout(&mut self, now: Instant, host: &mut TestHost) {
        self.both(now, host, |conn, now, host| conn.handle_timeout(now, host));
    }

    pub fn expire(&mut self, now: Instant, host: &mut TestHost) {
        self.both(now, host, |conn, now, host| conn.expire(now, host));
    }

    pub fn set_config(&mut self, config: Arc<PeerConfig>) {
        self.moved.iter_mut().for_each(|moved| moved.set_config(config.clone()));
        self.stayed.set_config(config);
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        let here = self.stayed.poll_event();
        if let Some(moved) = &mut self.moved {
            assert_eq!(here.as_ref().map(told), moved.poll_event().as_ref().map(told), "after a move");
        }
        here
    }

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let here = self.stayed.poll_transmit();
        if let Some(moved) = &mut self.moved {
            assert_eq!(here, moved.poll_transmit(), "after a move");
        }
        here
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let here = self.stayed.poll_timeout();
        if let Some(moved) = &self.moved {
            assert_eq!(here.map(|at| at + AHEAD), moved.poll_timeout(), "after a move");
        }
        here
    }

    fn both(
        &mut self,
        now: Instant,
        host: &mut TestHost,
        call: impl Fn(&mut Connection, Instant, &mut TestHost),
    ) {
        self.relocate(now);
        if let Some(moved) = &mut self.moved {
            let mut other = host.clone();
            call(moved, now + AHEAD, &mut other);
            call(&mut self.stayed, now, host);
            host.assert_like(&other);
        } else {
            call(&mut self.stayed, now, host);
        }
    }

    /// The copy goes to another node, or is one from now on.
    fn relocate(&mut self, now: Instant) {
        // What is measured with this kit is one connection's work.
        if self.rooted || !cfg!(test) {
            return;
        }
        // Fragments that wait do not move, so the copy that has taken them as well stays where it is.
        let waits = |shown: String| shown.contains("Partial {") || shown.contains("Reassembly {");
        let waiting = self.fragments && waits(format!("{:?}", self.stayed));
        if waiting && self.moved.is_some() {
            return;
        }
        let here = match self.stayed.snapshot(now) {
            Ok(here) => encode(&here),
            Err(NotNow::Undrained) => return,
            Err(NotNow::HalfOpen | NotNow::Finished) => return self.moved = None,
        };
        if let Some(moved) = &self.moved {
            let there = encode(&moved.snapshot(now + AHEAD).expect("a copy that can move as well"));
            assert!(here == there, "{:?}\n{:?}", self.stayed, self.moved);
        }
        if waiting {
            return;
        }
        let snapshot: Snapshot = decode(&here).expect("what was encoded");
        let written = write::<Snapshot, _>(0, |w| self.stayed.write_snapshot(w, now));
        let written = written.expect("as just now");
        assert_eq!(written.len(), here.len(), "nothing is written that is not read");
        let config = self.stayed.config().expect("a peer").clone();
        let moved = Connection::restore(&snapshot, now + AHEAD, Resume::Exactly, config);
        self.moved = Some(moved.expect("what was a connection"));
    }
}

/// What an event says, keys included. Of failures the text counts.
fn told(event: &Event) -> String {
    match event {
        Event::InstallChild(sa) => {
            let keys = [&sa.keys_in, &sa.keys_out].map(|k| (k.encryption.to_vec(), k.integrity.to_vec()));
            format!("{sa:?} {keys:?}")
        }
        Event::Down(CloseReason::Failed(failure)) => format!("down: {failure}"),
        Event::ChildFailed { name, failure } => format!("{name}: {failure}"),
        Event::IkeRekeyFailed { failure } => format!("ike: {failure}"),
        Event::RekeyEnded { spi_in, outcome } => {
            format!("{spi_in}: {:?}", outcome.as_ref().map_err(ToString::to_string))
        }
        other => format!("{other:?}"),
    }
}

impl TestHost {
    fn assert_like(&self, other: &Self) {
        assert_eq!(self.next_esp, other.next_esp, "as many SPIs of ESP are taken after a move");
        assert_eq!(self.next_ike, other.next_ike, "as many SPIs of IKE are taken after a move");
        assert!(self.rng == other.rng, "as much is drawn after a move");
    }
}
