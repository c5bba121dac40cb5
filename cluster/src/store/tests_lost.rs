//! Changes whose answers are lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Mutex;
use std::time::Duration;

use tenants::store::Batch;

use super::*;
use crate::etcd::memory::{self, Memory};

/// A way by which so much gets through, and then nothing until it is opened.
#[derive(Debug, Default)]
struct Way(Mutex<Option<usize>>);

impl Way {
    fn let_through(&self, messages: Option<usize>) {
        *self.0.lock().unwrap() = messages;
    }
}

impl memory::Path for Way {
    fn time(&self) -> Option<Duration> {
        let mut left = self.0.lock().unwrap();
        let arrives = match &mut *left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        };
        arrives.then_some(Duration::from_millis(1))
    }
}

fn batch(key: &str, rows: usize) -> Batch {
    let mut batch = Batch::default();
    (0..rows).for_each(|number| batch.put(format!("{key}/{number}"), vec![1]));
    batch
}

/// A change of so many rows of which `messages` get through, the last of which makes it; others write `between` before it is tried again.
async fn lost(rows: usize, messages: usize, between: u64) -> Result<(), EtcdStoreError> {
    let memory = Memory::begin();
    let way = Arc::new(Way::default());
    let one = EtcdStore::new(memory.client(way.clone()));
    let other = EtcdStore::new(memory.client(Arc::new(Way::default())));
    way.let_through(Some(messages));
    let change = tokio::spawn(async move { one.change(&batch("one", rows), 0, 1).await });
    while other.head().await.unwrap().head.revision == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for revision in 1..=between {
        other.change(&batch("other", 1), revision, revision + 1).await.ok().unwrap();
    }
    way.let_through(None);
    let done = change.await.unwrap();
    assert_eq!(other.head().await.unwrap().head.revision, 1 + between);
    let kept = other.load_all().await.unwrap().rows.keys().filter(|key| key.starts_with("one/")).count();
    assert_eq!(kept, rows, "it was made");
    done
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_made_is_not_told_as_refused_though_others_have_written_since() {
    // The head is asked for and told, and the change arrives.
    for between in [0, 1, 16] {
        assert!(lost(1, 3, between).await.is_ok(), "{between}");
    }
    // So many are not remembered.
    assert!(matches!(lost(1, 3, 17).await, Err(EtcdStoreError::Outrun(18))));
}

#[tokio::test(start_paused = true)]
async fn nor_is_a_large_one() {
    // A part is written besides.
    for between in [0, 1, 3] {
        assert!(lost(150, 5, between).await.is_ok(), "{between}");
    }
}

#[test]
fn a_head_of_before_has_no_earlier_ones_and_each_takes_the_one_before_along() {
    let first = Head { commit: vec![1], revision: 1, ..Head::default() };
    let second = Head::read(&first.write()).unwrap().next(2, vec![2]);
    assert!(second.has(&[1]) && second.has(&[2]) && !second.has(&[]));
    let mut last = second;
    for revision in 3..100 {
        last = last.next(revision.into(), vec![revision]);
    }
    assert_eq!((last.earlier.len(), last.has(&[83]), last.has(&[82])), (16, true, false));
}

#[tokio::test(start_paused = true)]
async fn a_large_change_that_is_given_up_leaves_nothing_behind() {
    let memory = Memory::begin();
    let way = Arc::new(Way::default());
    let (one, other) =
        (EtcdStore::new(memory.client(way.clone())), EtcdStore::new(memory.client(Arc::new(Way::default()))));
    let known = one.head().await.unwrap();
    let next = known.head.next(1, Head::commit());
    // One of the parts gets there, and the rest of them not before they are given up.
    way.let_through(Some(2));
    let large = batch("one", 150_000);
    let change = async { one.begin_in_parts(&large, &known, next).await.err().is_some() };
    let opened = async {
        let folder = one.etcd.key("parts/");
        while other
            .etcd
            .all(folder.clone(), crate::etcd::end_of(folder.clone()), 0)
            .await
            .unwrap()
            .0
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Longer than a call is tried.
        tokio::time::sleep(Duration::from_secs(9)).await;
        way.let_through(None);
    };
    let (is_refused, ()) = tokio::join!(change, opened);
    let folder = one.etcd.key("parts/");
    let (left, _) = other.etcd.all(folder.clone(), crate::etcd::end_of(folder), 0).await.unwrap();
    assert!(is_refused);
    assert_eq!(left.len(), 0);
}
