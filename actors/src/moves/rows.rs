//! The rows of a slot: what a standby has to know of a connection and of its pairs, but for their configuration, which it has.

use std::fmt;
use std::time::Instant;

use esp::{Lifetime, LifetimeSnapshot};
use ike::config::Mode;
use prost::Message;
use snapshot::{Form, Row, Secret, SnapshotError, decode, encode, required};

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

/// A connection.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct ConnectionRow {
    #[prost(uint64, tag = "1")]
    pub(crate) uid: u64,
    /// [`ike::Snapshot`].
    #[prost(message, optional, tag = "2")]
    connection: Option<Secret>,
    /// [`LifetimeSnapshot`] of its IKE_SA.
    #[prost(bytes = "vec", tag = "3")]
    lifetime: Vec<u8>,
    /// Which ESP SPIs are reserved for it, and have no pair yet.
    #[prost(fixed32, repeated, tag = "4")]
    pub(crate) reserved: Vec<u32>,
}

impl Form for ConnectionRow {
    const OF: &'static str = "the row of a connection";
    const KIND: u8 = 8;
    const VERSION: u16 = 1;
}

impl fmt::Debug for ConnectionRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionRow(peer {})", self.uid)
    }
}

impl ConnectionRow {
    pub(crate) fn new(
        uid: u64,
        connection: &ike::Snapshot,
        lifetime: Option<&Lifetime>,
        reserved: Vec<u32>,
        now: Instant,
    ) -> Self {
        Self {
            uid,
            connection: Some(Secret::take(encode(connection))),
            lifetime: lifetime.map(|life| encode(&life.snapshot(now)).to_vec()).unwrap_or_default(),
            reserved,
        }
    }

    pub(crate) fn connection(&self) -> Result<ike::Snapshot, SnapshotError> {
        decode(required(self.connection.as_ref(), "the connection")?.octets())
    }

    /// What is left of the lifetime, of which this was said at `at`.
    pub(crate) fn lifetime(&self, at: Instant) -> Result<Option<Lifetime>, SnapshotError> {
        lifetime(&self.lifetime, at)
    }
}

fn lifetime(octets: &[u8], at: Instant) -> Result<Option<Lifetime>, SnapshotError> {
    if octets.is_empty() {
        return Ok(None);
    }
    Ok(Some(Lifetime::restore(&decode::<LifetimeSnapshot>(octets)?, at)))
}

/// A pair of ESP SAs: what the router has of it, and what is shown of it.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct PairRow {
    /// Of its connection's row.
    #[prost(fixed64, tag = "1")]
    pub(crate) connection: u64,
    /// [`router::PairSnapshot`].
    #[prost(message, optional, tag = "2")]
    pair: Option<Secret>,
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
    #[prost(bytes = "vec", tag = "9")]
    lifetime: Vec<u8>,
}

impl Form for PairRow {
    const OF: &'static str = "the row of a pair of SAs";
    const KIND: u8 = 9;
    const VERSION: u16 = 1;
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
}

impl PairRow {
    pub(crate) fn new(connection: u64, pair: &router::PairSnapshot, facts: &PairFacts, now: Instant) -> Self {
        let PairFacts { name, suite, legacy, mode, local, remote, lifetime } = facts.clone();
        Self {
            connection,
            pair: Some(Secret::take(encode(pair))),
            name,
            suite,
            legacy,
            transport: mode == Mode::Transport,
            local,
            remote,
            lifetime: encode(&lifetime.snapshot(now)).to_vec(),
        }
    }

    pub(crate) fn pair(&self) -> Result<router::PairSnapshot, SnapshotError> {
        decode(required(self.pair.as_ref(), "the pair")?.octets())
    }

    /// What was said at `at`.
    pub(crate) fn facts(&self, at: Instant) -> Result<PairFacts, SnapshotError> {
        let lifetime = lifetime(&self.lifetime, at)?.ok_or(SnapshotError::Missing("the lifetime"))?;
        Ok(PairFacts {
            name: self.name.clone(),
            suite: self.suite.clone(),
            legacy: self.legacy.clone(),
            mode: if self.transport { Mode::Transport } else { Mode::Tunnel },
            local: self.local.clone(),
            remote: self.remote.clone(),
            lifetime,
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
        class::CONNECTION => {
            let connection = decode::<ConnectionRow>(octets)?;
            connection.connection()?;
            connection.lifetime(row.at).map(drop)
        }
        class::PAIR => {
            let pair = decode::<PairRow>(octets)?;
            pair.pair()?;
            pair.facts(row.at).map(drop)
        }
        class::NUMBERS | class::WINDOW => Ok(()),
        class => Err(SnapshotError::value("a row", format!("there is no class {class} here"))),
    }
}

/// A row of a form.
pub(crate) fn row<F: Form>(class: u8, id: u64, form: &F, now: Instant) -> Row {
    Row { class, id, octets: Some(encode(form)), at: now }
}

/// That there is nothing more of it.
pub(crate) const fn gone(class: u8, id: u64, now: Instant) -> Row {
    Row { class, id, octets: None, at: now }
}

/// How far a pair may count.
pub(crate) fn numbers(spi: u32, reserve: &router::Reserve, now: Instant) -> Row {
    let last = reserve.lease.end().unwrap_or(u64::MAX);
    let octets = Some(zeroize::Zeroizing::new(last.to_be_bytes().to_vec()));
    Row { class: class::NUMBERS, id: spi.into(), octets, at: now }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the form is in the octets of a snapshot.
    const FORM: usize = 7;

    #[test]
    fn what_another_version_writes_is_not_read() {
        let (now, snapshot) = (Instant::now(), ike::Snapshot::default());
        let connection = |of: &ConnectionRow| row(class::CONNECTION, 7, of, now);
        let of = ConnectionRow::new(1, &snapshot, None, Vec::new(), now);
        assert_eq!(reads(&[connection(&of), gone(class::PAIR, 1, now)]), Ok(()));

        let mut newer = connection(&of);
        newer.octets.as_mut().unwrap()[FORM] += 1;
        assert!(reads(&[newer]).unwrap_err().contains("the row of a connection has form 2"));
        // What is inside has a form of its own.
        let mut inside = encode(&snapshot);
        inside[FORM] += 1;
        let of = ConnectionRow { connection: Some(Secret::take(inside)), ..of };
        let refused = reads(&[connection(&of)]).unwrap_err();
        assert!(refused.contains("has form") && !refused.contains("row"), "{refused}");
        assert!(reads(&[Row { class: 9, ..connection(&of) }]).unwrap_err().contains("class 9"));
    }
}
