//! The rows of a slot: what a standby has to know of a connection and of its pairs, but for their configuration, which it has.

use std::convert::Infallible;
use std::fmt;
use std::time::Instant;

use esp::{Lifetime, LifetimeSnapshot};
use ike::config::Mode;
use ike::{Connection, NotNow};
use prost::Message;
use router::{PairSnapshot, WindowSnapshot};
use snapshot::{Due, Form, Octets, Row, SnapshotError, Writer, decode, required, write};

use super::Agreed;

/// Classes of rows.
pub(crate) mod class {
    /// [`super::ConnectionRow`], by the number that its first owner has drawn for it.
    pub(crate) const CONNECTION: u8 = 1;
    /// [`super::PairRow`], by its inbound SPI.
    pub(crate) const PAIR: u8 = 2;
    /// The last number of a pair that is reserved, by its inbound SPI: eight octets.
    pub(crate) const NUMBERS: u8 = 3;
    /// How far a pair has come, by its inbound SPI: [`router::WindowSnapshot`].
    pub(crate) const WINDOW: u8 = 4;
}

/// The form of a row with these in it. They are not written as snapshots of their own, each of which would be looked at, copied, and
/// wiped once more with every message of a handshake: so a form of theirs that is another one makes the row another one.
const fn form(own: u16, inside: u16, lifetime: u16) -> u16 {
    assert!(inside < 32 && lifetime < 32, "no room for the form");
    own << 10 | inside << 5 | lifetime
}

/// Octets that a connection with a Child SA has in a row, and some more. What is longer grows.
const CONNECTION_ROOM: usize = 1_280;
/// And a pair of SAs.
const PAIR_ROOM: usize = 640;

/// A connection.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct ConnectionRow {
    #[prost(uint64, tag = "1")]
    pub(crate) uid: u64,
    #[prost(message, optional, tag = "2")]
    connection: Option<ike::Snapshot>,
    /// Of its IKE_SA.
    #[prost(message, optional, tag = "3")]
    lifetime: Option<LifetimeSnapshot>,
    /// Which ESP SPIs are reserved for it, and have no pair yet.
    #[prost(fixed32, repeated, tag = "4")]
    pub(crate) reserved: Vec<u32>,
    /// By which configuration of its peer it was agreed on. Older versions do not say so, and do not ask.
    #[prost(message, optional, tag = "5")]
    pub(crate) agreed: Option<Agreed>,
    /// When its IKE_SA was made. Older versions do not say so.
    #[prost(message, optional, tag = "6")]
    since: Option<Due>,
}

impl Form for ConnectionRow {
    const OF: &'static str = "the row of a connection";
    const KIND: u8 = 8;
    const VERSION: u16 = form(2, ike::Snapshot::VERSION, LifetimeSnapshot::VERSION);
}

impl fmt::Debug for ConnectionRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionRow(peer {})", self.uid)
    }
}

impl ConnectionRow {
    /// The octets of one.
    ///
    /// # Errors
    /// Whether it is too early or too late for one.
    pub(crate) fn write(
        uid: u64,
        connection: &Connection,
        lifetime: Option<&Lifetime>,
        reserved: &[u32],
        (agreed, since): (Agreed, Instant),
        now: Instant,
    ) -> Result<Octets, NotNow> {
        write::<Self, _>(CONNECTION_ROOM, |w| {
            w.uint(1, uid);
            let form = w.begin(2);
            connection.write_snapshot(w, now)?;
            w.end(form);
            lifetime.map(|life| life.snapshot(now)).iter().for_each(|left| w.form(3, left));
            w.fixed32s(4, reserved);
            agreed.write(w, 5);
            w.due(6, Due::new(since, now));
            Ok(())
        })
    }

    pub(crate) fn connection(&self) -> Result<&ike::Snapshot, SnapshotError> {
        required(self.connection.as_ref(), "the connection")
    }

    /// When its IKE_SA was made; `at`, when this was said, if nobody knows.
    pub(crate) fn since(&self, at: Instant) -> Instant {
        self.since.map_or(at, |since| since.at(at))
    }

    /// What is left of the lifetime, of which this was said at `at`.
    pub(crate) fn lifetime(&self, at: Instant) -> Option<Lifetime> {
        self.lifetime.as_ref().map(|left| Lifetime::restore(left, at))
    }
}

/// A pair of ESP SAs: what the router has of it, and what is shown of it.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct PairRow {
    /// Of its connection's row.
    #[prost(fixed64, tag = "1")]
    pub(crate) connection: u64,
    #[prost(message, optional, tag = "2")]
    pair: Option<PairSnapshot>,
    /// Of its policy.
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, tag = "4")]
    pub(crate) suite: String,
    #[prost(string, repeated, tag = "5")]
    pub(crate) legacy: Vec<String>,
    #[prost(bool, tag = "6")]
    transport: bool,
    #[prost(string, repeated, tag = "7")]
    pub(crate) local: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    pub(crate) remote: Vec<String>,
    #[prost(message, optional, tag = "9")]
    lifetime: Option<LifetimeSnapshot>,
    /// When it was made. Older versions do not say so.
    #[prost(message, optional, tag = "10")]
    since: Option<Due>,
    #[prost(uint64, tag = "11")]
    rekeys: u64,
}

impl Form for PairRow {
    const OF: &'static str = "the row of a pair of SAs";
    const KIND: u8 = 9;
    const VERSION: u16 = form(2, PairSnapshot::VERSION, LifetimeSnapshot::VERSION);
}

impl fmt::Debug for PairRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairRow({})", self.name)
    }
}

/// What is known of a pair besides what the router has of it.
#[derive(Clone, Debug)]
pub(crate) struct PairFacts {
    pub(crate) name: String,
    pub(crate) suite: String,
    pub(crate) legacy: Vec<String>,
    pub(crate) mode: Mode,
    pub(crate) local: Vec<String>,
    pub(crate) remote: Vec<String>,
    pub(crate) lifetime: Lifetime,
    /// When it was made.
    pub(crate) since: Instant,
    /// How many there were before it, each in the place of another.
    pub(crate) rekeys: u64,
}

impl PairRow {
    /// The octets of one.
    pub(crate) fn write(connection: u64, pair: &PairSnapshot, facts: &PairFacts, now: Instant) -> Octets {
        let PairFacts { name, suite, legacy, mode, local, remote, lifetime, since, rekeys } = facts;
        let written = write::<Self, Infallible>(PAIR_ROOM, |w| {
            let texts = |w: &mut Writer, tag, texts: &[String]| {
                texts.iter().for_each(|text| w.bytes_always(tag, text.as_bytes()));
            };
            w.fixed64(1, connection);
            w.form(2, pair);
            w.bytes(3, name.as_bytes());
            w.bytes(4, suite.as_bytes());
            texts(w, 5, legacy);
            w.flag(6, *mode == Mode::Transport);
            texts(w, 7, local);
            texts(w, 8, remote);
            w.form(9, &lifetime.snapshot(now));
            w.due(10, Due::new(*since, now));
            w.uint(11, *rekeys);
            Ok(())
        });
        match written {
            Ok(octets) => octets,
        }
    }

    pub(crate) fn pair(&self) -> Result<&PairSnapshot, SnapshotError> {
        required(self.pair.as_ref(), "the pair")
    }

    /// What was said at `at`.
    pub(crate) fn facts(&self, at: Instant) -> Result<PairFacts, SnapshotError> {
        let lifetime = Lifetime::restore(required(self.lifetime.as_ref(), "the lifetime")?, at);
        Ok(PairFacts {
            name: self.name.clone(),
            suite: self.suite.clone(),
            legacy: self.legacy.clone(),
            mode: if self.transport { Mode::Transport } else { Mode::Tunnel },
            local: self.local.clone(),
            remote: self.remote.clone(),
            lifetime,
            since: self.since.map_or(at, |since| since.at(at)),
            rekeys: self.rekeys,
        })
    }
}

/// Whether this node reads what such rows are of: one of another version may write them in another form.
///
/// # Errors
/// With what it cannot read.
pub fn reads(rows: &[Row]) -> Result<(), String> {
    let with_octets = rows.iter().filter_map(|row| Some((row, row.octets.as_ref()?)));
    with_octets.into_iter().try_for_each(|(row, octets)| read(row, octets).map_err(|error| error.to_string()))
}

fn read(row: &Row, octets: &[u8]) -> Result<(), SnapshotError> {
    match row.class {
        class::CONNECTION => decode::<ConnectionRow>(octets)?.connection().map(drop),
        class::PAIR => {
            let pair = decode::<PairRow>(octets)?;
            pair.pair()?;
            pair.facts(row.at).map(drop)
        }
        class::NUMBERS if octets.len() != size_of::<u64>() => Err(SnapshotError::value(
            "the numbers of a pair",
            format!("{} octets, 8 are needed", octets.len()),
        )),
        class::NUMBERS => Ok(()),
        class::WINDOW => WindowSnapshot::check(octets),
        class => Err(SnapshotError::value("a row", format!("there is no class {class} here"))),
    }
}

/// A row with these octets.
pub(crate) const fn row(class: u8, id: u64, octets: Octets, now: Instant) -> Row {
    Row { class, id, octets: Some(octets), at: now }
}

/// That there is nothing more of it.
pub(crate) const fn gone(class: u8, id: u64, now: Instant) -> Row {
    Row { class, id, octets: None, at: now }
}

/// How far a pair may count.
pub(crate) fn numbers(spi: u32, reserve: &router::Reserve, now: Instant) -> Row {
    let last = reserve.lease.end().unwrap_or(u64::MAX);
    row(class::NUMBERS, spi.into(), last.to_be_bytes().to_vec().into(), now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Where the form is in the octets of a snapshot.
    const FORM: usize = 7;

    #[test]
    fn what_another_version_writes_is_not_read() {
        let now = Instant::now();
        let of =
            ConnectionRow { uid: 1, connection: Some(ike::Snapshot::default()), ..ConnectionRow::default() };
        let connection = row(class::CONNECTION, 7, snapshot::encode(&of), now);
        assert_eq!(reads(&[connection.clone(), gone(class::PAIR, 1, now)]), Ok(()));

        let mut newer = connection.octets.as_ref().unwrap().to_vec();
        newer[FORM] += 1;
        let newer = row(class::CONNECTION, 7, newer.into(), now);
        assert!(reads(&[newer]).unwrap_err().contains("the row of a connection has form"));
        assert!(reads(&[Row { class: 9, ..connection }]).unwrap_err().contains("class 9"));
    }

    /// A connection's row as it was before it said what it was agreed on by.
    #[derive(Clone, PartialEq, Message)]
    #[prost(skip_debug)]
    struct Before {
        #[prost(uint64, tag = "1")]
        uid: u64,
        #[prost(message, optional, tag = "2")]
        connection: Option<ike::Snapshot>,
    }

    impl fmt::Debug for Before {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Before(peer {})", self.uid)
        }
    }

    impl Form for Before {
        const OF: &'static str = ConnectionRow::OF;
        const KIND: u8 = ConnectionRow::KIND;
        const VERSION: u16 = ConnectionRow::VERSION;
    }

    /// Nodes are exchanged one after the other, and go on with each other's tunnels meanwhile.
    #[test]
    fn a_row_of_a_version_before_and_one_after_are_read() {
        let before = Before { uid: 1, connection: Some(ike::Snapshot::default()) };
        let read: ConnectionRow = decode(&snapshot::encode(&before)).unwrap();
        assert_eq!((read.uid, read.agreed), (1, None));
        let after = ConnectionRow { agreed: Some(Agreed::default()), ..read };
        assert_eq!(decode::<Before>(&snapshot::encode(&after)).unwrap().uid, 1);
    }

    #[test]
    fn what_is_written_of_a_pair_is_read_and_nothing_is_left() {
        let (now, text) = (Instant::now(), |text: &str| text.to_owned());
        let lifetime = Lifetime::restore(&LifetimeSnapshot::default(), now);
        let facts = PairFacts {
            name: text("net"),
            suite: text("aes128gcm16"),
            legacy: vec![text("3des"), text("")],
            mode: Mode::Transport,
            local: vec![text("10.1.0.0/16"), text("10.2.0.0/16")],
            remote: vec![text("10.3.0.0/16")],
            lifetime,
            since: now.checked_sub(Duration::from_secs(7)).unwrap(),
            rekeys: 3,
        };
        let octets = PairRow::write(7, &PairSnapshot::default(), &facts, now);
        let read: PairRow = decode(&octets).unwrap();
        assert!(snapshot::encode(&read) == octets, "as the message is written");
        assert_eq!(read.connection, 7);
        assert_eq!(format!("{:?}", read.facts(now).unwrap()), format!("{facts:?}"));
    }

    #[test]
    fn windows_and_numbers_that_nobody_could_go_on_with_are_not_read() {
        let of = |class, octets: &[u8]| Row {
            class,
            id: 1,
            octets: Some(octets.to_vec().into()),
            at: Instant::now(),
        };
        assert_eq!(reads(&[of(class::NUMBERS, &[0; 8]), of(class::WINDOW, &[])]), Ok(()));
        assert!(reads(&[of(class::NUMBERS, &[0; 9])]).unwrap_err().contains("9 octets, 8 are needed"));
        assert!(reads(&[of(class::WINDOW, &[10, 9, 1])]).unwrap_err().contains("the replay window"));
    }

    #[test]
    fn what_is_inside_makes_the_form_another_one() {
        let forms = [form(2, 1, 1), form(2, 2, 1), form(2, 1, 2), form(3, 1, 1), form(2, 31, 31)];
        for (at, one) in forms.iter().enumerate() {
            assert!(!forms[..at].contains(one), "{forms:?}");
        }
    }
}
