//! Two connections and the messages between them, delivered one at a time, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    unreachable_pub
)]
#![allow(clippy::disallowed_methods, missing_docs)]

mod host;
pub mod many;
pub mod schedules;
mod side;
mod spec;
pub mod tap;
pub mod twin;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ike::reception::{Class, classify};
use ike::{Command, Connection, Datagram, InitReply, Path, Transmit};

pub use host::TestHost;
// Not everybody who uses the kit needs all of it.
#[allow(unused_imports)]
pub use side::{Installed, Side};
#[allow(unused_imports)]
pub use spec::{Spec, ts};
use twin::Twin;

pub struct Pair {
    pub now: Instant,
    pub a: Side,
    pub b: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    A,
    B,
}
pub use Who::{A, B};

impl Pair {
    pub fn new(left: &Spec, right: &Spec) -> Self {
        Self {
            now: Instant::now(),
            a: Side::new(1, left, "192.0.2.1:500"),
            b: Side::new(2, right, "192.0.2.2:500"),
        }
    }

    pub fn side(&mut self, who: Who) -> &mut Side {
        if who == A { &mut self.a } else { &mut self.b }
    }

    pub fn initiate(&mut self) {
        self.initiate_from(A);
    }

    pub fn initiate_from(&mut self, who: Who) {
        let (now, remote) = (self.now, self.side(if who == A { B } else { A }).addr);
        let side = self.side(who);
        let path = Path { local: side.addr, remote, local_natt: 4500, remote_natt: 4500 };
        let conn = Connection::initiate(now, &mut side.host, side.config.clone(), path).unwrap();
        side.conn = Some(conn.into());
        side.drain();
    }

    /// A and B established with one Child SA.
    pub fn up(left: &Spec, right: &Spec) -> Self {
        let mut pair = Self::new(left, right);
        pair.initiate();
        pair.settle();
        pair
    }

    pub fn command(&mut self, who: Who, command: Command) {
        let now = self.now;
        let side = self.side(who);
        side.conn.as_mut().unwrap().handle_command(now, &mut side.host, command);
        side.drain();
    }

    /// `who` rekeys its pair.
    pub fn rekey(&mut self, who: Who) {
        let spi = self.spi(who);
        self.command(who, Command::RekeyChild(spi));
    }

    /// `who` deletes its pair.
    pub fn delete(&mut self, who: Who) {
        let spi = self.spi(who);
        self.command(who, Command::DeleteChild(spi));
    }

    /// Takes the next message `from` wants to send.
    pub fn take(&mut self, from: Who) -> Transmit {
        self.side(from).outbox.pop_front().unwrap_or_else(|| panic!("{from:?} has nothing to send"))
    }

    /// Hands a message of `from` to the other side.
    pub fn put(&mut self, from: Who, message: &Transmit) {
        let now = self.now;
        let side = self.side(if from == A { B } else { A });
        let datagram = Datagram {
            local: message.remote,
            remote: message.local,
            natt: message.natt,
            bytes: &message.bytes,
        };
        if side.many(now, datagram) {
            return side.drain();
        }
        match &mut side.conn {
            Some(conn) => conn.handle_datagram(now, &mut side.host, datagram),
            None => {
                let proposals = side.candidates.clone();
                let force = side.forces.unwrap_or(side.config.force_encapsulation);
                let Ok(Class::First(opening)) = classify(&message.bytes) else {
                    side.refused.push("not a first message".into());
                    return;
                };
                let host = &mut side.host;
                match Connection::respond(now, host, opening, datagram, (4500, 4500), &proposals, force) {
                    InitReply::Accepted(conn) => side.conn = Some((*conn).into()),
                    InitReply::Refused(bytes, failure) => {
                        side.refused.push(failure.to_string());
                        let (local, remote) = (message.remote, message.local);
                        side.outbox.push_back(Transmit {
                            local,
                            remote,
                            natt: false,
                            keepalive: false,
                            bytes,
                        });
                    }
                    InitReply::Dropped(failure) => side.refused.push(failure.to_string()),
                }
            }
        }
        side.drain();
    }

    /// Delivers the next message of `from`.
    pub fn deliver(&mut self, from: Who) {
        let message = self.take(from);
        self.put(from, &message);
    }

    /// Delivers everything until both are silent.
    pub fn settle(&mut self) {
        self.settle_many(200);
    }

    /// The same where so many messages may be needed for it.
    pub fn settle_many(&mut self, most: usize) {
        for _ in 0..most {
            match (self.a.outbox.is_empty(), self.b.outbox.is_empty()) {
                (false, _) => self.deliver(A),
                (_, false) => self.deliver(B),
                _ => return,
            }
        }
        panic!("the two never fall silent");
    }

    /// Lets time pass, firing timers; nothing is delivered.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let (mut looks, mut last) = (0, self.now);
        loop {
            looks = if self.now > last { 0 } else { looks + 1 };
            last = self.now;
            assert!(
                looks < 1_000,
                "what is due at {last:?} is due again at once: {:?} {:?}",
                self.a.log,
                self.b.log
            );
            let sides = [&self.a, &self.b];
            let conns = sides.iter().flat_map(|s| s.conn.iter().chain(s.half_open.iter().map(|h| &h.conn)));
            let due = conns.filter_map(Twin::poll_timeout).min();
            let Some(at) = due.filter(|t| *t <= end) else { break };
            self.now = self.now.max(at);
            for who in [A, B] {
                let now = self.now;
                let side = self.side(who);
                if let Some(conn) = &mut side.conn {
                    conn.handle_timeout(now, &mut side.host);
                }
                side.half_open_timeouts(now);
                side.drain();
            }
        }
        self.now = end;
    }

    /// Lets time pass and delivers everything sent meanwhile.
    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
            self.settle();
        }
    }

    pub fn spi(&mut self, who: Who) -> u32 {
        *self.side(who).installed.iter().find(|(_, sa)| sa.active).expect("an active pair").0
    }

    /// Both ends have the same pairs with the same keys, `count` of them, and send by matching ones.
    pub fn assert_children(&self, count: usize) {
        assert_eq!(self.a.installed.len(), count, "A: {:?}", self.a.log);
        assert_eq!(self.b.installed.len(), count, "B: {:?}", self.b.log);
        for (spi, sa) in &self.a.installed {
            let other = self.b.installed.get(&sa.spi_out).expect("B knows the pair");
            assert_eq!(other.spi_out, *spi);
            assert_eq!((&sa.keys[0], &sa.keys[1]), (&other.keys[1], &other.keys[0]));
            assert_eq!(sa.mode, other.mode);
        }
        for side in [&self.a, &self.b] {
            let policies: BTreeSet<_> = side.installed.values().map(|sa| &sa.policy).collect();
            for policy in policies {
                let active = side.installed.values().filter(|sa| sa.active && sa.policy == *policy);
                assert_eq!(active.count(), 1, "{policy} is sent by one pair");
            }
        }
    }

    pub fn assert_ike(&self, count: usize) {
        for side in [&self.a, &self.b] {
            let conn = side.conn.as_ref().unwrap();
            assert_eq!(conn.ike_sas(), count, "{:?}", side.log);
        }
        let (a, b) = (self.a.conn.as_ref().unwrap().spis(), self.b.conn.as_ref().unwrap().spis());
        assert_eq!((a.0, a.1), (b.1, b.0), "both use the same IKE_SA");
    }

    /// Both ends still understand each other.
    pub fn assert_alive(&mut self) {
        for who in [A, B] {
            let spi = self.spi(who);
            self.command(who, Command::RekeyChild(spi));
            self.settle();
            self.assert_children(1);
        }
    }

    /// The same where the end of an exchange takes its time.
    pub fn assert_alive_in_time(&mut self) {
        for who in [A, B] {
            let spi = self.spi(who);
            self.command(who, Command::RekeyChild(spi));
            self.settle();
            // Longer than it takes to notice that the other has forgotten the IKE_SA.
            self.run(60);
            self.assert_children(self.a.installed.len());
            assert_eq!(self.side(who).ended.last(), Some(&(spi, Ok(()))));
        }
    }
}
