//! How far etcd has come. It never goes back, unless its data were deleted or an older copy was restored: then nothing that is known of it
//! holds, and a watch that begins where the one before has ended is silent, for it waits for revisions that come much later, if ever.

use std::sync::atomic::{AtomicI64, Ordering};

use culvert_proto::etcd::ResponseHeader;
use tokio::sync::watch;

use super::{Etcd, EtcdError};

/// The greatest revision that anything has been heard of.
#[derive(Debug)]
pub(super) struct Reach {
    known: AtomicI64,
    /// Where it was found to have gone back from, and to; zero before.
    from: AtomicI64,
    to: AtomicI64,
    went_back: watch::Sender<Option<String>>,
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            known: AtomicI64::new(0),
            from: AtomicI64::new(0),
            to: AtomicI64::new(0),
            went_back: watch::Sender::new(None),
        }
    }
}

impl Reach {
    /// To be asked for before a question.
    pub(super) fn known(&self) -> i64 {
        self.known.load(Ordering::Relaxed)
    }

    /// Etcd has been there.
    pub(super) fn raise(&self, revision: i64) {
        self.known.fetch_max(revision, Ordering::Relaxed);
    }

    /// Whether it is still what it was. Once it is not, nothing is asked any more: what it comes to later is another's.
    pub(super) fn check(&self) -> Result<(), EtcdError> {
        match self.from.load(Ordering::Acquire) {
            0 => Ok(()),
            known => Err(EtcdError::WentBack { known, now: self.to.load(Ordering::Acquire) }),
        }
    }

    /// An answer to what was asked when so much was `known`: as all that is asked goes by most of the members, it cannot be of a time before.
    pub(super) fn meet(&self, known: i64, header: Option<&ResponseHeader>) -> Result<(), EtcdError> {
        self.check()?;
        let Some(now) = header.map(|header| header.revision) else { return Ok(()) };
        self.raise(now);
        if now >= known {
            return Ok(());
        }
        self.to.store(now, Ordering::Release);
        self.from.store(known, Ordering::Release);
        let error = EtcdError::WentBack { known, now };
        self.went_back.send_if_modified(|why| {
            let is_news = why.is_none();
            why.get_or_insert_with(|| error.to_string());
            is_news
        });
        Err(error)
    }
}

impl Etcd {
    /// That etcd has lost what it knew, once that is so: every call fails from then on. One at a time may wait for it.
    pub(crate) fn went_back(&self) -> watch::Receiver<Option<String>> {
        self.reach.went_back.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use latest::Latest as _;

    use super::*;

    #[test]
    fn answers_may_overtake_each_other_and_none_is_of_a_time_before_its_question() {
        let reach = Reach::default();
        let header = |revision| Some(ResponseHeader { revision, ..ResponseHeader::default() });
        let met = |known, now| reach.meet(known, header(now).as_ref()).is_ok();
        let (first, second) = (reach.known(), reach.known());
        assert!(met(second, 9) && met(first, 7));
        assert_eq!(reach.known(), 9);
        assert!(reach.went_back.latest().is_none());
        assert!(!met(reach.known(), 8));
        assert!(reach.went_back.latest().is_some_and(|why| why.contains("was at 9")));
        assert!(!met(reach.known(), 10) && reach.check().is_err(), "and for as long as this process runs");
    }
}
