//! What an owner tells its standby.

use std::fmt;
use std::time::Instant;

use culvert_proto::etcd::KeyValue;
use prost::Message;
use snapshot::{Row, Secret};

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
    pub(super) fn new(row: Row, now: Instant) -> Self {
        Self {
            class: row.class.into(),
            id: row.id,
            octets: row.octets.map(Secret::take),
            age: u64::try_from(now.saturating_duration_since(row.at).as_nanos()).unwrap_or(u64::MAX),
        }
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

    pub(super) fn len(&self) -> usize {
        self.encoded_len()
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
    /// Of a slot that is handed over: these are the last ones, and whoever gets them is to be the owner.
    #[prost(bool, tag = "4")]
    pub(super) last: bool,
    /// Somebody has ordered that it is handed over, and it stays.
    #[prost(bool, tag = "5")]
    pub(super) ordered: bool,
    /// The process that is to keep them: one that was started since then knows nothing of what has become of the slot.
    #[prost(bytes = "vec", tag = "6")]
    pub(super) instance: Vec<u8>,
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

/// Rows in one message: a few milliseconds of a network of 1 Gbit/s.
const MESSAGE: usize = 512 * 1024;

/// Cuts rows into messages of [`MESSAGE`] octets, or of one row that is larger. There is one at least.
pub(super) fn messages(rows: impl IntoIterator<Item = Row>, now: Instant) -> Vec<Vec<RowForm>> {
    let (mut all, mut current, mut len) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let form = RowForm::new(row, now);
        if len > 0 && len + form.len() > MESSAGE {
            all.push(std::mem::take(&mut current));
            len = 0;
        }
        len += form.len();
        current.push(form);
    }
    all.push(current);
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn rows_come_back_with_their_age_and_large_ones_are_cut() {
        let (then, now) = (Instant::now(), Instant::now() + Duration::from_secs(5));
        let row = |id, len| Row { class: 2, id, octets: Some(Zeroizing::new(vec![7; len])), at: then };
        let rows = [row(1, 10), row(2, 600_000), row(3, 10), Row { octets: None, ..row(4, 0) }];
        let messages = messages(rows.clone(), now);
        assert_eq!(messages.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2]);
        let far = Instant::now() + Duration::from_secs(100);
        let back: Vec<Row> = messages.into_iter().flatten().map(|form| form.read(far)).collect();
        assert_eq!(back.len(), 4);
        for (row, back) in rows.iter().zip(&back) {
            assert_eq!((row.class, row.id, &row.octets), (back.class, back.id, &back.octets));
            assert!(far - back.at >= Duration::from_secs(4));
        }
        assert!(!format!("{:?}", rows[0]).contains('7'));
    }
}
