//! What an owner tells its standby.

use std::fmt;
use std::time::Instant;

use culvert_proto::etcd::KeyValue;
use prost::Message;
use snapshot::{Octets, Row, Secret, Writer};

use super::record::Slot;

/// A row on its way.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct RowForm {
    #[prost(uint32, tag = "1")]
    class: u32,
    #[prost(fixed64, tag = "2")]
    id: u64,
    #[prost(message, optional, tag = "3")]
    octets: Option<Secret>,
    /// How old it is, in nanoseconds.
    #[prost(uint64, tag = "4")]
    age: u64,
}

impl fmt::Debug for RowForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowForm({}/{:x})", self.class, self.id)
    }
}

impl RowForm {
    fn write(w: &mut Writer, row: &Row, now: Instant) {
        let age = now.saturating_duration_since(row.at).as_nanos();
        w.uint(1, row.class.into());
        w.fixed64(2, row.id);
        row.octets.iter().for_each(|octets| w.secret(3, octets));
        w.uint(4, u64::try_from(age).unwrap_or(u64::MAX));
    }

    pub(super) fn read(self, now: Instant) -> Row {
        let age = std::time::Duration::from_nanos(self.age);
        Row {
            class: u8::try_from(self.class).unwrap_or(u8::MAX),
            id: self.id,
            octets: self.octets.map(Secret::give),
            at: now.checked_sub(age).unwrap_or(now),
        }
    }
}

/// Rows of a slot from its owner.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Rows {
    #[prost(uint32, tag = "1")]
    pub(super) slot: u32,
    #[prost(uint64, tag = "2")]
    pub(super) term: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) rows: Vec<RowForm>,
    /// These are the last ones: of a slot that is handed over, and whoever gets them is to be the owner, or of what a standby is told as a whole.
    #[prost(bool, tag = "4")]
    pub(super) last: bool,
    /// Somebody has ordered that it is handed over, and it stays.
    #[prost(bool, tag = "5")]
    pub(super) ordered: bool,
    /// The process that is to keep them: one that was started since then knows nothing of what has become of the slot.
    #[prost(bytes = "vec", tag = "6")]
    pub(super) instance: Vec<u8>,
    /// What is told a standby: the number of what is told as a whole, from 1 in each term. What was not acknowledged is told under another, and
    /// may come late.
    #[prost(uint64, tag = "7")]
    pub(super) batch: u64,
    /// Which of its messages this is, from 0.
    #[prost(uint64, tag = "8")]
    pub(super) part: u64,
}

impl Rows {
    pub(super) fn slot(&self) -> Result<u8, String> {
        u8::try_from(self.slot).map_err(|_| format!("slot {}: there are 63", self.slot))
    }
}

/// What etcd knows of a slot since a moment.
#[derive(Clone, PartialEq, Message)]
pub(super) struct News {
    #[prost(uint32, tag = "1")]
    slot: u32,
    /// As etcd has it.
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    #[prost(int64, tag = "3")]
    revision: i64,
}

impl News {
    pub(super) fn of(slot: &Slot) -> Self {
        Self { slot: slot.number.into(), value: slot.write(), revision: slot.revision }
    }

    pub(super) fn read(body: &[u8]) -> Result<Slot, String> {
        let Self { slot, value, revision } = Self::decode(body).map_err(|error| error.to_string())?;
        let number = u8::try_from(slot).map_err(|_| format!("slot {slot}: there are 63"))?;
        let kv = KeyValue { value, mod_revision: revision, ..KeyValue::default() };
        Slot::read(number, &kv).map_err(|error| error.to_string())
    }
}

/// What is said with rows of a slot.
#[derive(Clone, Copy)]
pub(super) struct Telling<'a> {
    pub(super) slot: u8,
    pub(super) term: u64,
    pub(super) ordered: bool,
    /// The process that is to keep them.
    pub(super) instance: &'a [u8],
    /// Of what is told a standby.
    pub(super) batch: u64,
    pub(super) part: u64,
}

impl Telling<'_> {
    /// [`Rows`], written as such without a copy of each on its way.
    pub(super) fn write(&self, rows: &[Row], last: bool, now: Instant) -> Octets {
        let Self { slot, term, ordered, instance, batch, part } = *self;
        let room: usize = rows.iter().map(len).sum();
        let mut w = Writer::with_capacity(BESIDE + instance.len() + room);
        w.uint(1, slot.into());
        w.uint(2, term);
        for row in rows {
            let form = w.begin(3);
            RowForm::write(&mut w, row, now);
            w.end(form);
        }
        w.flag(4, last);
        w.flag(5, ordered);
        w.bytes(6, instance);
        w.uint(7, batch);
        w.uint(8, part);
        w.finish()
    }
}

/// Rows in one message: a few milliseconds of a network of 1 Gbit/s.
const MESSAGE: usize = 512 * 1024;
/// What a row has in a message besides its octets, and a message besides its rows, at most.
const BESIDE: usize = 64;

fn len(row: &Row) -> usize {
    row.octets.as_ref().map_or(0, |octets| octets.len()) + BESIDE
}

/// Cuts rows into messages of [`MESSAGE`] octets, or of one row that is larger. There is one at least.
pub(super) fn cut(rows: &[Row]) -> Vec<&[Row]> {
    let (mut all, mut rest) = (Vec::new(), rows);
    loop {
        let mut octets = 0;
        let fits = rest.iter().take_while(|row| {
            octets += len(row);
            octets <= MESSAGE
        });
        let (some, others) = rest.split_at(fits.count().max(1).min(rest.len()));
        all.push(some);
        if others.is_empty() {
            return all;
        }
        rest = others;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rows_come_back_with_their_age_and_large_ones_are_cut() {
        let (then, now) = (Instant::now(), Instant::now() + Duration::from_secs(5));
        let row = |id, len| Row { class: 2, id, octets: Some(vec![7; len].into()), at: then };
        let rows = [row(1, 10), row(2, 600_000), row(3, 10), Row { octets: None, ..row(4, 0) }, row(0, 0)];
        let messages = cut(&rows);
        assert_eq!(messages.iter().map(|rows| rows.len()).collect::<Vec<_>>(), [1, 1, 3]);
        assert_eq!(cut(&[]).iter().map(|rows| rows.len()).collect::<Vec<_>>(), [0]);
        let far = Instant::now() + Duration::from_secs(100);
        let telling =
            Telling { slot: 3, term: 300, ordered: true, instance: b"instance", batch: 700, part: 1 };
        let mut back = Vec::new();
        for (at, rows) in messages.iter().enumerate() {
            let octets = telling.write(rows, at == 2, now);
            assert!(octets.len() <= rows.iter().map(len).sum::<usize>() + BESIDE + telling.instance.len());
            let read = Rows::decode(&*octets).unwrap();
            assert_eq!(read.encode_to_vec(), *octets, "as the message would be written");
            assert_eq!((read.slot, read.term, read.last, read.ordered), (3, 300, at == 2, true));
            assert_eq!((&*read.instance, read.batch, read.part), (&b"instance"[..], 700, 1));
            back.extend(read.rows.into_iter().map(|form| form.read(far)));
        }
        assert_eq!(back.len(), rows.len());
        for (row, back) in rows.iter().zip(&back) {
            assert_eq!((row.class, row.id, &row.octets), (back.class, back.id, &back.octets));
            assert!(far - back.at >= Duration::from_secs(4));
        }
        assert!(!format!("{:?}", rows[0]).contains('7'));
    }
}
