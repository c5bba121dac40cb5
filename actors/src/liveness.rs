//! Whether everything runs that must: every thread and task either is supervised, or its end is noticed here and ends the
//! process. A thread that stands still is noticed too, as it may be freed again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use actix::ArbiterHandle;
use router::RouterHandle;
use tenants::TenantName;
use tokio::sync::watch;

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What ended though it must not, and why. It stays so.
    pub failed: Option<String>,
    /// Threads that have not answered for some seconds.
    pub stalled: Vec<String>,
    /// Tenants whose uplink does not work. Their affair: the node is well all the same.
    pub uplinks: BTreeSet<TenantName>,
}

impl Health {
    /// Everything runs that must.
    pub const fn is_good(&self) -> bool {
        self.failed.is_none() && self.stalled.is_empty()
    }
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Liveness {
    health: Arc<watch::Sender<Health>>,
    stopping: Arc<AtomicBool>,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { health: Arc::new(watch::channel(Health::default()).0), stopping: Arc::default() }
    }
}

impl Liveness {
    /// For whoever wants to know.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// From here on what ends does so because it is told to.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Something ended that must not. The first is kept: what follows follows from it.
    pub(crate) fn fail(&self, what: String) {
        if self.stopping.load(Ordering::Acquire) {
            return;
        }
        tracing::error!(what, "the node cannot go on");
        self.health.send_if_modified(|health| {
            let first = health.failed.is_none();
            if first {
                health.failed = Some(what);
            }
            first
        });
    }

    /// A value to be held by what must run. Its drop is noticed, whatever the reason.
    pub(crate) fn must_run(&self, name: &'static str) -> MustRun {
        MustRun { liveness: self.clone(), name }
    }

    /// A tenant's uplink works, or not.
    pub(crate) fn uplink(&self, tenant: &TenantName, works: bool) {
        self.health.send_if_modified(|health| {
            if works { health.uplinks.remove(tenant) } else { health.uplinks.insert(tenant.clone()) }
        });
    }

    fn stalled(&self, stalled: Vec<String>) {
        self.health.send_if_modified(|health| {
            let changed = health.stalled != stalled;
            if changed && !stalled.is_empty() {
                tracing::error!(?stalled, "threads do not answer");
            }
            health.stalled = stalled;
            changed
        });
    }
}

/// See [`Liveness::must_run`].
#[derive(Debug)]
pub(crate) struct MustRun {
    liveness: Liveness,
    name: &'static str,
}

impl Drop for MustRun {
    fn drop(&mut self) {
        let how = if std::thread::panicking() { "panicked" } else { "ended" };
        self.liveness.fail(format!("{} {how}", self.name));
    }
}

/// Threads are asked for a sign of life this often. It costs them a task, or a command, that stores a number.
const BEAT: Duration = Duration::from_secs(1);
/// Beats a thread may miss. Nothing that an arbiter or a shard does takes longer than milliseconds, but a machine may be suspended or
/// overloaded for some seconds, and a node that is restarted for that only adds to the load.
const MISSED: u64 = 15;

/// A thread of its own that asks the others, for it depends on none of them. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Watchman {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Watched {
    name: String,
    asked: Asked,
    /// The last beat it has answered.
    answered: Arc<AtomicU64>,
}

/// How a thread is asked.
enum Asked {
    Arbiter(ArbiterHandle),
    /// Of this number, and with the last beat that was sent: one at a time, for its queue is what others wait for.
    Shard(RouterHandle, usize, AtomicU64),
}

impl Watched {
    /// Whether there is somebody to ask.
    fn ask(&self, beat: u64) -> bool {
        let answered = self.answered.clone();
        match &self.asked {
            Asked::Arbiter(arbiter) => arbiter.spawn(async move { answered.store(beat, Ordering::Relaxed) }),
            Asked::Shard(router, shard, sent) => {
                let done = answered.load(Ordering::Relaxed) >= sent.load(Ordering::Relaxed);
                if done && router.beat(*shard, answered, beat) {
                    sent.store(beat, Ordering::Relaxed);
                }
                // Its end is told by the router.
                true
            }
        }
    }
}

impl Watchman {
    /// Watches these threads, and the shards of the router.
    pub(crate) fn start(
        liveness: Liveness,
        threads: Vec<(String, ArbiterHandle)>,
        router: &RouterHandle,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let arbiters = threads.into_iter().map(|(name, arbiter)| (name, Asked::Arbiter(arbiter)));
        // By the names of their threads.
        let shards = (0..router.shards())
            .map(|n| (format!("shard-{n}"), Asked::Shard(router.clone(), n, AtomicU64::new(0))));
        let all = arbiters.chain(shards);
        let watched: Vec<Watched> =
            all.map(|(name, asked)| Watched { name, asked, answered: Arc::default() }).collect();
        let thread = std::thread::Builder::new().name("watchman".to_owned()).spawn(move || {
            let mut beat = 0;
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                beat += 1;
                look(&liveness, &watched, beat);
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

fn look(liveness: &Liveness, watched: &[Watched], beat: u64) {
    let mut stalled = Vec::new();
    for thread in watched {
        if thread.answered.load(Ordering::Relaxed) + MISSED < beat {
            stalled.push(thread.name.clone());
        }
        if !thread.ask(beat) {
            liveness.fail(format!("{} ended", thread.name));
        }
    }
    liveness.stalled(stalled);
}

impl Drop for Watchman {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It sleeps in the channel whose other end is gone, and cannot panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use latest::Latest as _;

    use super::*;

    #[test]
    fn the_first_end_is_told_unless_the_node_stops() {
        let liveness = Liveness::default();
        let health = liveness.health();
        let (first, second) = (liveness.must_run("a"), liveness.must_run("b"));
        assert!(health.latest().is_good());
        drop(first);
        drop(second);
        assert_eq!(health.latest().failed.as_deref(), Some("a ended"));

        let liveness = Liveness::default();
        let part = liveness.must_run("a");
        liveness.stop();
        drop(part);
        assert!(liveness.health().latest().is_good());
    }

    #[test]
    fn a_panic_is_told_as_one() {
        let liveness = Liveness::default();
        let part = liveness.must_run("a");
        let panicked = std::thread::spawn(move || {
            let _part = part;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!(liveness.health().latest().failed.as_deref(), Some("a panicked"));
    }

    #[test]
    fn a_thread_that_stands_still_is_named_until_it_moves() {
        let liveness = Liveness::default();
        let arbiter = actix::System::new().block_on(async { actix::Arbiter::new() });
        let asked = Asked::Arbiter(arbiter.handle());
        let thread = Watched { name: "x".to_owned(), asked, answered: Arc::default() };
        let (free, held) = mpsc::channel::<()>();
        arbiter.handle().spawn_fn(move || {
            // Ends when the other end is dropped.
            let _ = held.recv();
        });
        for beat in 1..=MISSED {
            look(&liveness, std::slice::from_ref(&thread), beat);
        }
        assert!(liveness.health().latest().is_good());
        look(&liveness, std::slice::from_ref(&thread), MISSED + 1);
        assert_eq!(liveness.health().latest().stalled, ["x"]);
        drop(free);
        while thread.answered.load(Ordering::Relaxed) <= MISSED {
            std::thread::yield_now();
        }
        look(&liveness, std::slice::from_ref(&thread), MISSED + 2);
        assert!(liveness.health().latest().is_good());
    }
}
