//! That what is read here is no older than what anybody was told, at whatever node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenants::Catalog;
use tokio::sync::Mutex;

/// Keeps those who read abreast of what other nodes write. The store is asked by one at a time, for all who want to know: a question takes a
/// thread, for milliseconds mostly and for seconds where the store is away, and others want threads too. Clones are the same.
#[derive(Clone)]
pub(crate) struct Abreast(Arc<Inner>);

struct Inner {
    catalog: Arc<Catalog>,
    /// Questions that were begun, and those of them that were answered. What is answered has begun.
    begun: AtomicU64,
    answered: AtomicU64,
    /// Of the last question. Whoever asks holds it.
    answer: Arc<Mutex<Answer>>,
}

#[derive(Clone, Copy, Default)]
struct Answer {
    /// The number of the question, from 1 on.
    question: u64,
    /// `None` where the store could not be asked.
    revision: Option<u64>,
}

impl Answer {
    /// Whether it is one for somebody before whom so many questions were begun and answered. What was begun before says nothing of what was
    /// written since; but if nothing could be said of that while somebody waited, he would hear no more.
    const fn is_for(self, begun: u64, answered: u64) -> bool {
        self.question > begun || (self.revision.is_none() && self.question > answered)
    }
}

impl Abreast {
    pub(crate) fn of(catalog: Arc<Catalog>) -> Self {
        let (begun, answered) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Inner { catalog, begun, answered, answer: Arc::default() }))
    }

    /// Waits until all is here that anybody, at whatever node, was told was written. If the store cannot be asked, or does not give it, what
    /// is here is what there is: a read is answered from it, and a write is refused by the store itself.
    pub(crate) async fn catch_up(&self) {
        let catalog = &self.0.catalog;
        if !catalog.is_shared() {
            return;
        }
        let Some(revision) = self.last_revision().await else { return };
        if let Err(error) = catalog.reach(revision).await {
            tracing::debug!(%error, "what is read may be older than what was written at other nodes");
        }
    }

    async fn last_revision(&self) -> Option<u64> {
        // In this order: or one might be answered that was not begun.
        let answered = self.0.answered.load(Ordering::SeqCst);
        let begun = self.0.begun.load(Ordering::SeqCst);
        let mut answer = Arc::clone(&self.0.answer).lock_owned().await;
        if answer.is_for(begun, answered) {
            return answer.revision;
        }
        let asks = Arc::clone(&self.0);
        let ask = move || {
            // With the answer in hand: if its caller goes away it goes on, and nobody else asks until it is done.
            let question = asks.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let revision = asks.catalog.last_revision().map_err(|error| {
                tracing::debug!(%error, "what is read may be older than what was written at other nodes");
            });
            *answer = Answer { question, revision: revision.ok() };
            asks.answered.store(question, Ordering::SeqCst);
            answer.revision
        };
        // A panic is told by the runtime.
        tokio::task::spawn_blocking(ask).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tenants::store::{Batch, Store, StoreError, Vault};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Says that it is asked, and answers when it is let to.
    struct Slow {
        asked: mpsc::Sender<()>,
        answers: std::sync::Mutex<mpsc::Receiver<Result<u64, ()>>>,
    }

    impl Store for Slow {
        fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
            Ok(Vec::new())
        }

        fn commit(&self, _: &Batch) -> Result<(), StoreError> {
            Ok(())
        }

        fn is_shared(&self) -> bool {
            true
        }

        fn last_revision(&self) -> Result<u64, StoreError> {
            self.asked.send(()).unwrap();
            let answer = self.answers.lock().unwrap().recv().unwrap();
            let (place, reason) = ("etcd".to_owned(), "no answer".to_owned());
            answer.map_err(|()| StoreError::Away { place, reason })
        }
    }

    fn slow() -> (Abreast, mpsc::Receiver<()>, mpsc::Sender<Result<u64, ()>>) {
        let ((asked, was_asked), (answer, answers)) = (mpsc::channel(), mpsc::channel());
        let store = Slow { asked, answers: std::sync::Mutex::new(answers) };
        let catalog = Catalog::with(Box::new(store), Vault::ephemeral().unwrap()).unwrap();
        (Abreast::of(Arc::new(catalog)), was_asked, answer)
    }

    /// Some who ask at a time, each of whom waits.
    async fn ask(abreast: &Abreast, many: usize) -> Vec<impl Future<Output = ()>> {
        let mut waiting = Vec::new();
        for _ in 0..many {
            let abreast = abreast.clone();
            let mut asks = Box::pin(async move { abreast.catch_up().await });
            tokio::select! {
                biased;
                () = &mut asks => panic!("nobody has answered"),
                () = std::future::ready(()) => {}
            }
            waiting.push(asks);
        }
        waiting
    }

    async fn all(waiting: Vec<impl Future<Output = ()>>) {
        for asks in waiting {
            tokio::time::timeout(PATIENCE, asks).await.expect("is answered");
        }
    }

    #[tokio::test]
    async fn the_store_is_asked_once_for_all_who_ask_while_it_is_asked() {
        let (abreast, asked, answer) = slow();
        let first = ask(&abreast, 1).await;
        asked.recv_timeout(PATIENCE).unwrap();
        // What is answered now may have been written before they came.
        let others = ask(&abreast, 1_000).await;
        answer.send(Ok(0)).unwrap();
        answer.send(Ok(0)).unwrap();
        all(first).await;
        all(others).await;
        assert_eq!(asked.try_iter().count(), 1);
    }

    #[tokio::test]
    async fn whoever_goes_away_leaves_no_second_question_beside_his() {
        let (abreast, asked, answer) = slow();
        drop(ask(&abreast, 1).await);
        asked.recv_timeout(PATIENCE).unwrap();
        for _ in 0..10 {
            drop(ask(&abreast, 10).await);
        }
        let last = ask(&abreast, 1).await;
        assert_eq!(asked.try_iter().count(), 0, "one is under way");
        answer.send(Ok(0)).unwrap();
        answer.send(Ok(0)).unwrap();
        all(last).await;
        assert_eq!(asked.try_iter().count(), 1);
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_not_asked_once_more_by_those_who_have_waited_for_that() {
        let (abreast, asked, answer) = slow();
        let first = ask(&abreast, 1).await;
        asked.recv_timeout(PATIENCE).unwrap();
        let others = ask(&abreast, 100).await;
        answer.send(Err(())).unwrap();
        all(first).await;
        all(others).await;
        assert_eq!(asked.try_iter().count(), 0);
        // Whoever comes later asks anew.
        let next = ask(&abreast, 1).await;
        answer.send(Ok(0)).unwrap();
        all(next).await;
        assert_eq!(asked.try_iter().count(), 1);
    }
}
