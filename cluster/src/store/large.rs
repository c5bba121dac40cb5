//! Changes that are too large for one transaction.
//!
//! Their rows are written to parts under a name of their own, where nobody looks. The transaction that makes the change replaces the
//! head by one that names them, if they are all there. Then the rows go to their places, each transaction on the condition that the
//! head is still that one: two who do so at a time do the same, and one who is late does nothing. The last one tidies up.

use std::sync::atomic::Ordering;

use culvert_proto::etcd::RangeRequest;
use prost::Message;
use tenants::store::Batch;

use super::{EtcdStore, EtcdStoreError, Head, Known, MAX_OCTETS, MAX_ROWS, TRIES};
use crate::etcd::{EtcdError, delete_range, end_of, exists, put, unchanged_since};

/// Parts of a change, each a comparison of the transaction that makes it: 100 MiB, some 200,000 peers.
const MAX_PARTS: usize = 100;
/// What that is in MiB.
pub(super) const LIMIT: u64 = (MAX_PARTS * MAX_OCTETS) as u64 >> 20;

/// A row of a part.
#[derive(Clone, PartialEq, Message)]
struct Row {
    #[prost(string, tag = "1")]
    key: String,
    /// Missing for one that is removed.
    #[prost(bytes = "vec", optional, tag = "2")]
    value: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Part {
    #[prost(message, repeated, tag = "1")]
    rows: Vec<Row>,
}

/// Rows by key, as a change has them.
pub(super) type Rows = Vec<RowChange>;
type RowChange = (String, Option<Vec<u8>>);

impl EtcdStore {
    /// Makes a change by way of parts. `next` is the head that it is to have.
    pub(super) async fn change_in_parts(
        &self,
        batch: &Batch,
        known: &Known,
        next: Head,
    ) -> Result<(), EtcdStoreError> {
        let made = self.begin_in_parts(batch, known, next).await?;
        // It is made. If its rows do not get to their places now, the next who writes sees to it.
        if made.head.parts > 0
            && let Err(error) = self.put_in_place(&made).await
        {
            tracing::warn!(%error, "a large change is made, and its rows are put in place with the next one");
        }
        Ok(())
    }

    /// Up to the moment when it is made: the head that names the parts.
    pub(super) async fn begin_in_parts(
        &self,
        batch: &Batch,
        known: &Known,
        mut next: Head,
    ) -> Result<Known, EtcdStoreError> {
        let error = match self.write_parts(batch, &mut next).await {
            Ok(()) => match self.name_parts(known, &next).await {
                Ok(made) => return Ok(made),
                Err(error) => error,
            },
            // Nothing was written.
            Err(EtcdStoreError::TooLarge) => return Err(EtcdStoreError::TooLarge),
            Err(error) => error,
        };
        // A hundred MiB for nobody, and as many more each time that it is tried again. One that is on its way still is found later.
        self.remains.store(true, Ordering::Relaxed);
        match self.take_back(&next).await {
            Ok(Some(made)) => Ok(made),
            Ok(None) => Err(error),
            Err(reason) => {
                tracing::debug!(%reason, "parts of a change that was not made are removed later");
                Err(error)
            }
        }
    }

    /// Removes the parts of a change that was not made. Whether it was may not have been known: the head, if it was.
    async fn take_back(&self, next: &Head) -> Result<Option<Known>, EtcdError> {
        let folder = self.etcd.key(&next.folder());
        for _ in 0..TRIES {
            let known = match self.head().await?.made(&next.commit) {
                Ok(made) => return Ok(Some(made)),
                Err(known) => known,
            };
            // Who names them late finds that they are not all there.
            let still = vec![unchanged_since(self.etcd.key("head"), known.written)];
            let remove = vec![delete_range(folder.clone(), end_of(folder.clone()))];
            if self.etcd.transact(still, remove, Vec::new()).await?.succeeded {
                return Ok(None);
            }
        }
        let place = next.folder();
        Err(EtcdError::Away { place, reason: "the head changes each time".to_owned() })
    }

    /// Writes the parts, where nobody looks.
    pub(super) async fn write_parts(&self, batch: &Batch, next: &mut Head) -> Result<(), EtcdStoreError> {
        let parts = cut(batch);
        if parts.len() > MAX_PARTS {
            return Err(EtcdStoreError::TooLarge);
        }
        next.parts = parts.len() as u32;
        for (number, part) in (0..).zip(&parts) {
            let key = self.etcd.key(&next.part(number));
            self.etcd.transact(Vec::new(), vec![put(key, part.encode_to_vec())], Vec::new()).await?;
        }
        Ok(())
    }

    /// Replaces the head by one that names the parts, if they are all there.
    pub(super) async fn name_parts(&self, known: &Known, next: &Head) -> Result<Known, EtcdStoreError> {
        let head = self.etcd.key("head");
        let mut compare = vec![unchanged_since(head.clone(), known.written)];
        // Somebody who starts may have taken them for remains.
        compare.extend((0..next.parts).map(|number| exists(self.etcd.key(&next.part(number)))));
        let answer = self.etcd.transact(compare, vec![put(head, next.write())], Vec::new()).await?;
        // A second try finds what the first has made.
        match self.head().await?.made(&next.commit) {
            Ok(made) => Ok(made),
            // More have come since than are remembered.
            Err(_) if answer.succeeded => Ok(Known::default()),
            Err(now) => Err(EtcdStoreError::Outrun(now.head.revision)),
        }
    }

    /// Puts the rows of the head's parts in their places and removes the parts.
    pub(super) async fn put_in_place(&self, known: &Known) -> Result<(), EtcdError> {
        let head = self.etcd.key("head");
        let still = || vec![unchanged_since(head.clone(), known.written)];
        let rows = self.rows_in_parts(&known.head, known.at).await?;
        for chunk in chunks(&rows) {
            let chunk = chunk.iter().map(|(key, value)| self.row(key, value.as_deref()));
            if !self.etcd.transact(still(), chunk.collect(), Vec::new()).await?.succeeded {
                return Ok(());
            }
        }
        let tidy = Head { parts: 0, ..known.head.clone() };
        let folder = self.etcd.key(&known.head.folder());
        let done = vec![put(head.clone(), tidy.write()), delete_range(folder.clone(), end_of(folder))];
        self.etcd.transact(still(), done, Vec::new()).await?;
        Ok(())
    }

    /// The rows of the head's parts, at a revision of etcd; 0 for now.
    pub(super) async fn rows_in_parts(&self, head: &Head, revision: i64) -> Result<Rows, EtcdError> {
        let mut rows = Vec::new();
        for number in 0..head.parts {
            let key = head.part(number);
            let corrupt = |reason: String| EtcdError::Corrupt { key: key.clone(), reason };
            let request = RangeRequest { key: self.etcd.key(&key), revision, ..RangeRequest::default() };
            let found = self.etcd.range(request).await?;
            let kv = found.kvs.first().ok_or_else(|| corrupt("is missing".to_owned()))?;
            let part = Part::decode(kv.value.as_slice()).map_err(|error| corrupt(error.to_string()))?;
            rows.extend(part.rows.into_iter().map(|row| (row.key, row.value)));
        }
        Ok(rows)
    }
}

fn cut(batch: &Batch) -> Vec<Part> {
    let (mut parts, mut octets) = (vec![Part::default()], 0);
    for (key, value) in batch.rows() {
        let row = Row { key: key.to_owned(), value: value.map(<[u8]>::to_vec) };
        let len = row.encoded_len();
        if octets > 0 && octets + len > MAX_OCTETS {
            parts.push(Part::default());
            octets = 0;
        }
        octets += len;
        if let Some(part) = parts.last_mut() {
            part.rows.push(row);
        }
    }
    parts
}

/// As many rows at a time as a transaction takes.
fn chunks(mut rows: &[RowChange]) -> Vec<&[RowChange]> {
    let mut chunks = Vec::new();
    while !rows.is_empty() {
        let mut octets = 0;
        let fit = rows.iter().take(MAX_ROWS).take_while(|(key, value)| {
            octets += key.len() + value.as_ref().map_or(0, Vec::len);
            octets <= MAX_OCTETS
        });
        let (chunk, rest) = rows.split_at(fit.count().max(1));
        chunks.push(chunk);
        rows = rest;
    }
    chunks
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_are_in_parts_and_chunks_that_fit() {
        let mut batch = Batch::default();
        for number in 0..1000 {
            batch.put(format!("{number:04}"), vec![7; 4000]);
        }
        batch.put("large", vec![1; MAX_OCTETS + 1]);
        batch.delete("zz");
        let parts = cut(&batch);
        assert!(parts.len() >= 4 && parts.iter().map(|part| part.rows.len()).sum::<usize>() == 1002);
        let rows: Rows =
            parts.into_iter().flat_map(|part| part.rows).map(|row| (row.key, row.value)).collect();
        let cut = chunks(&rows);
        assert_eq!(cut.iter().map(|chunk| chunk.len()).sum::<usize>(), 1002);
        assert!(cut.iter().all(|chunk| chunk.len() <= MAX_ROWS));
    }
}
