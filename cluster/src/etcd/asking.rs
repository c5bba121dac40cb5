//! Which members are asked, and how long they are waited for.
//!
//! What may be asked twice is asked of another member soon ([`SOON`]), and the first is waited for all the same: a write may take etcd long, and
//! the question that is dropped and asked anew is a write that takes as long. What may not be is asked of one after the other: a lease,
//! of which each member that is asked makes one, and a transaction that does not compare.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::member::Member;
use super::{Etcd, EtcdError, away, is_passing, refused};

/// An answer of one member. A member without a leader waits itself for a while.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
/// All tries of a call. An election takes some 1.6 s, and on a busy machine several times that.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// An answer of one member, where it is known that none has answered of late.
pub(super) const GLANCE: Duration = Duration::from_millis(500);
/// Between rounds over all members.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// Before another member is asked as well. Etcd answers within milliseconds; a machine that is gone says nothing, and a take-over waits for it.
const SOON: Duration = Duration::from_millis(300);

/// A question that is under way, and to which member.
type Asked<F> = (usize, Pin<Box<F>>);

impl Etcd {
    /// Asks members one after the other until one answers.
    pub(super) async fn call<T, F>(&self, ask: impl Fn(Member) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.round(ANSWER, until, &ask).await? {
                Ok(answer) => return Ok(answer),
                Err(reason) if Instant::now() >= until => return Err(away(reason)),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Asks each member once, until one answers; else what the last one said.
    pub(super) async fn round<T, F>(
        &self,
        answer: Duration,
        until: Instant,
        ask: &impl Fn(Member) -> F,
    ) -> Result<Result<T, String>, EtcdError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut reason = String::new();
        for (at, member) in self.in_turn() {
            match tokio::time::timeout(answer, ask(member.clone())).await {
                Ok(Ok(answer)) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok(Ok(answer));
                }
                Ok(Err(status)) if is_passing(&status) => {
                    reason = format!("{}: {}", member.url(), member.words(&status));
                }
                Ok(Err(status)) => return Err(refused(member, &status)),
                Err(_) => reason = format!("{} does not answer", member.url()),
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(Err(reason))
    }

    /// Asks members until one answers, several of them at a time where that takes long. Where another answer than a `best` one comes first, the others have a
    /// moment: a change that was made is answered as such once, and else found to have been made by another.
    pub(super) async fn call_several<T, F>(
        &self,
        ask: impl Fn(Member) -> F,
        best: impl Fn(&T) -> bool,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let begun = Instant::now();
        let until = begun + PATIENCE;
        let all: Vec<(usize, &Member)> = self.in_turn().collect();
        // From when on each may be asked, in their turn. At most PATIENCE / ANSWER questions are under way to each.
        let mut free = vec![begun; all.len()];
        let (mut asked, mut next): (Vec<Asked<F>>, _) = (Vec::new(), begun);
        let (mut reason, mut kept): (String, Option<Result<T, EtcdError>>) = (String::new(), None);
        loop {
            let now = Instant::now();
            let first = free.iter_mut().enumerate().min_by_key(|(_, free)| **free);
            if let Some((turn, free)) = first
                && kept.is_none()
                && now >= next.max(*free)
                && let Some((_, member)) = all.get(turn)
            {
                asked.push((turn, Box::pin(ask((*member).clone()))));
                *free = now + ANSWER;
                next = now + SOON;
            }
            let soonest = free.iter().min().map_or(next, |free| next.max(*free));
            let wake = if kept.is_some() { next } else { soonest.min(until) };
            let (turn, answer) = tokio::select! {
                biased;
                answer = first_of(&mut asked) => answer,
                () = tokio::time::sleep_until(wake) => {
                    match kept {
                        Some(answer) => return answer,
                        None if wake < until => continue,
                        None => {}
                    }
                    let silent = asked.last().and_then(|(turn, _)| all.get(*turn));
                    let silent = silent.map(|(_, member)| format!("{} does not answer", member.url()));
                    return Err(away(silent.unwrap_or(reason)));
                }
            };
            let Some((at, member)) = all.get(turn) else { continue };
            match answer {
                Ok(answer) if best(&answer) || (asked.is_empty() && kept.is_none()) => {
                    self.current.store(*at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(answer) => {
                    if !matches!(kept, Some(Ok(_))) {
                        self.current.store(*at, Ordering::Relaxed);
                        next = Instant::now() + SOON;
                        kept = Some(Ok(answer));
                    }
                }
                Err(status) if is_passing(&status) => {
                    reason = format!("{}: {}", member.url(), member.words(&status));
                    // The next one at once, and this one again after a while.
                    if kept.is_none() {
                        next = Instant::now();
                    }
                    if let Some(free) = free.get_mut(turn) {
                        *free = Instant::now() + PAUSE;
                    }
                }
                // What another was asked before may be done all the same: until that says so, or nobody does, it is not known to be refused.
                Err(status) if kept.is_none() => {
                    next = until;
                    kept = Some(Err(refused(member, &status)));
                }
                Err(_) => {}
            }
            if asked.is_empty()
                && let Some(answer) = kept
            {
                return answer;
            }
        }
    }

    /// All members, beginning with the one that answered last.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (usize, &Member)> {
        let all = self.members.iter().enumerate();
        all.cycle().skip(self.current.load(Ordering::Relaxed)).take(self.members.len())
    }
}

/// The first answer, and whose it is. In the order in which they were asked, so that what a simulation does depends on its seed alone.
async fn first_of<F: Future>(asked: &mut Vec<Asked<F>>) -> (usize, F::Output) {
    std::future::poll_fn(|context| {
        let mut answers = asked.iter_mut().enumerate();
        let answer = answers.find_map(|(at, (turn, question))| match question.as_mut().poll(context) {
            Poll::Ready(answer) => Some((at, *turn, answer)),
            Poll::Pending => None,
        });
        match answer {
            Some((at, turn, answer)) => {
                drop(asked.remove(at));
                Poll::Ready((turn, answer))
            }
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(all(test, feature = "simulated"))]
#[allow(clippy::unwrap_used, reason = "a test, which clippy does not see behind `all`")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::etcd::memory::{AtOnce, Memory, Path};
    use crate::etcd::{put, unchanged_since};
    use crate::slots::{Changed, Process, Slot};

    /// All of it takes as long, or for ever.
    #[derive(Debug)]
    struct Slow(Option<Duration>);

    impl Path for Slow {
        fn time(&self) -> Option<Duration> {
            self.0
        }
    }

    fn of(paths: [Option<Duration>; 2]) -> Etcd {
        Memory::begin().client_of(paths.map(|time| Arc::new(Slow(time)) as Arc<dyn Path>))
    }

    fn slot() -> Slot {
        Slot::new(1, Process { node: "a".to_owned(), ..Process::default() }, 0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_takes_longer_than_an_answer_is_waited_for() {
        let long = Some(Duration::from_millis(1_500));
        for paths in [[long, long], [long, None], [None, long]] {
            let changed = slot().change(&of(paths)).await;
            assert!(matches!(changed, Ok(Changed::Done(_))), "{paths:?}: {changed:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_is_gone_costs_less_than_half_a_second_and_is_not_the_first_any_more() {
        let etcd = of([None, Some(Duration::from_millis(1))]);
        let begun = Instant::now();
        assert!(matches!(slot().change(&etcd).await, Ok(Changed::Done(_))));
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
        let begun = Instant::now();
        etcd.get("slots/1").await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_was_made_is_told_as_made_though_its_refusal_comes_first() {
        // The first arrives before the second, and is answered after it.
        #[derive(Debug)]
        struct Lame(std::sync::atomic::AtomicBool);
        impl Path for Lame {
            fn time(&self) -> Option<Duration> {
                let back = self.0.swap(true, Ordering::Relaxed);
                Some(Duration::from_millis(if back { 500 } else { 1 }))
            }
        }
        let paths: [Arc<dyn Path>; 2] = [Arc::new(Lame(false.into())), Arc::new(AtOnce)];
        let etcd = Memory::begin().client_of(paths);
        let key = etcd.key("x");
        let compare = vec![unchanged_since(key.clone(), 0)];
        assert!(etcd.transact(compare, vec![put(key, vec![1])], Vec::new()).await.unwrap().succeeded);
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_member_does_late_is_not_told_as_refused_by_another() {
        let (etcd, asked) = (of([None, None]), std::sync::atomic::AtomicUsize::new(0));
        let ask = |_: Member| {
            let turn = asked.fetch_add(1, Ordering::Relaxed);
            async move {
                if turn > 0 {
                    return Err(Status::resource_exhausted("too many requests"));
                }
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                Ok(7)
            }
        };
        assert!(matches!(etcd.call_several(&ask, |_| true).await, Ok(7)));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        // With nobody else to wait for it is said at once.
        let begun = Instant::now();
        assert!(matches!(etcd.call_several(&ask, |_| true).await, Err(EtcdError::Refused { .. })));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_answers_that_is_told_in_time() {
        let (etcd, begun) = (of([None, None]), Instant::now());
        let told = etcd.get("x").await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told.contains("does not answer"), "{told}");
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
