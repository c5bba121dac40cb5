//! How far etcd has come. It never goes back, unless its data were deleted or an older copy was restored: then nothing that is known of it
//! holds, and a watch that begins where the one before has ended is silent, for it waits for revisions that come much later, if ever.

use std::sync::atomic::{AtomicI64, Ordering};

use culvert_proto::etcd::ResponseHeader;
use latest::Latest as _;
use tokio::sync::watch;

use super::{Etcd, EtcdError};

/// The greatest revision that anything has been heard of.
#[derive(Debug)]
pub(super) struct Reach {
    known: AtomicI64,
    went_back: watch::Sender<Option<WentBack>>,
}

/// From where it has gone back, and to where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WentBack {
    known: i64,
    now: i64,
}

impl From<WentBack> for EtcdError {
    fn from(WentBack { known, now }: WentBack) -> Self {
        Self::WentBack { known, now }
    }
}

impl Default for Reach {
    fn default() -> Self {
        Self { known: AtomicI64::new(0), went_back: watch::Sender::new(None) }
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
        self.went_back.latest().map_or(Ok(()), |back| Err(back.into()))
    }

    /// An answer to what was asked when so much was `known`: as all that is asked goes by most of the members, it cannot be of a time before.
    pub(super) fn meet(&self, known: i64, header: Option<&ResponseHeader>) -> Result<(), EtcdError> {
        if let Some(now) = header.map(|header| header.revision) {
            self.raise(now);
            if now < known {
                self.went_back.send_if_modified(|back| {
                    let is_news = back.is_none();
                    back.get_or_insert(WentBack { known, now });
                    is_news
                });
            }
        }
        self.check()
    }
}

impl Etcd {
    /// That etcd has lost what it knew, once that is so: every call fails from then on. One at a time may wait for it.
    pub(crate) fn went_back(&self) -> watch::Receiver<Option<WentBack>> {
        self.reach.went_back.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_may_overtake_each_other_and_none_is_of_a_time_before_its_question() {
        let reach = Reach::default();
        let header = |revision| Some(ResponseHeader { revision, ..ResponseHeader::default() });
        let met = |known, now| reach.meet(known, header(now).as_ref()).is_ok();
        let (first, second) = (reach.known(), reach.known());
        assert!(met(second, 9) && met(first, 7));
        assert_eq!(reach.known(), 9);
        assert!(reach.check().is_ok());
        assert!(!met(reach.known(), 8));
        assert!(reach.check().is_err_and(|why| why.to_string().contains("was at 9")));
        assert!(!met(reach.known(), 10) && reach.check().is_err(), "and for as long as this process runs");
    }
}
