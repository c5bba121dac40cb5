//! An etcd that is away while a node starts: after a loss of power both begin at a time.

use std::time::Duration;

use culvert_proto::etcd::RangeRequest;
use tokio::time::Instant;

use super::asking::PAUSE;
use super::{ANSWER, Etcd, EtcdError, PATIENCE, away};

impl Etcd {
    /// Waits until most of its members are there to answer, and says once that they are not. What it is asked before ends the start.
    ///
    /// # Errors
    /// If that takes longer than `within`, with what the last member said, or if it refuses to be asked.
    pub async fn answers(&self, within: Duration) -> Result<(), EtcdError> {
        let request = RangeRequest { key: self.key("head"), ..RangeRequest::default() };
        let ask = |member: super::Member| {
            let request = request.clone();
            async move { member.way().range(request).await }
        };
        let until = Instant::now() + within;
        let mut told = false;
        loop {
            // One round, so that it is said at once.
            match self.round(ANSWER, Instant::now() + PATIENCE, &ask).await? {
                Ok(_) => {
                    if told {
                        tracing::info!("etcd answers");
                    }
                    return Ok(());
                }
                Err(reason) if Instant::now() >= until => return Err(away(reason)),
                Err(reason) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(
                            reason,
                            seconds = within.as_secs(),
                            "etcd does not answer; waits for it"
                        );
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(all(test, feature = "simulated"))]
#[allow(clippy::unwrap_used, reason = "a test, which clippy does not see behind `all`")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::etcd::memory::{Memory, Path};

    #[derive(Debug)]
    struct Near;

    impl Path for Near {
        fn time(&self) -> Option<Duration> {
            Some(Duration::from_millis(1))
        }
    }

    const WITHIN: Duration = Duration::from_secs(100);

    #[tokio::test(start_paused = true)]
    async fn an_etcd_that_is_away_is_waited_for_and_not_for_ever() {
        let memory = Memory::begin();
        let etcd = memory.client(Arc::new(Near));
        memory.set_away(true);
        let begin = Instant::now();
        let waited = etcd.answers(WITHIN).await;
        assert!(matches!(waited, Err(EtcdError::Away { .. })), "{waited:?}");
        let took = begin.elapsed();
        assert!(took >= WITHIN && took < WITHIN + PATIENCE, "{took:?}");
        let waits = tokio::spawn(async move { etcd.answers(WITHIN).await });
        tokio::time::sleep(WITHIN / 2).await;
        assert!(!waits.is_finished());
        memory.set_away(false);
        waits.await.unwrap().unwrap();
    }
}
