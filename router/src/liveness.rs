//! Whether the router's threads run.
//!
//! A router that has lost one of them is of no use to the tunnels on it, and nothing in here can bring them back: the SAs
//! of a shard are gone with it. So the end of a thread is told to the host, which ends the process.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use latest::{Follow as _, Latest as _};
use tokio::sync::watch;

#[cfg(feature = "fault-injection")]
use crate::command::Command;
use crate::counters::{Counter, Counters};
use crate::handle::RouterHandle;
#[cfg(feature = "fault-injection")]
use crate::uplink::Nudge;

/// A thread that ended though nobody stopped the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadDeath {
    /// Its name: `shard-0`, `router-control` or `router-devices`.
    pub thread: String,
    /// What it died of.
    pub reason: String,
}

impl fmt::Display for ThreadDeath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the router's thread {} ended: {}", self.thread, self.reason)
    }
}

/// Where the deaths are written.
#[derive(Clone)]
pub(crate) struct Watchman {
    deaths: Arc<watch::Sender<Vec<ThreadDeath>>>,
    /// The router is being stopped: threads end as they should.
    stop: Arc<AtomicBool>,
    /// Shared by all threads.
    counters: Arc<Counters>,
}

impl Watchman {
    pub(crate) fn new(stop: Arc<AtomicBool>, counters: Arc<Counters>) -> Self {
        Self { deaths: Arc::new(watch::Sender::new(Vec::new())), stop, counters }
    }

    pub(crate) fn deaths(&self) -> watch::Receiver<Vec<ThreadDeath>> {
        self.deaths.subscribe()
    }

    /// Runs a thread to its end, which is reported unless somebody wanted it.
    pub(crate) fn watch(&self, thread: &str, run: impl FnOnce() -> io::Result<()>) {
        let reason = match panic::catch_unwind(AssertUnwindSafe(run)) {
            _ if self.stop.load(Ordering::Acquire) => return,
            Ok(Ok(())) => "it was not told to".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("panic: {}", message(&*panic)),
        };
        let death = ThreadDeath { thread: thread.to_owned(), reason };
        tracing::error!(%death, "the router does not work any more");
        self.counters.count_shared(Counter::ThreadDied);
        self.deaths.send_modify(|deaths| deaths.push(death));
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

impl RouterHandle {
    /// The threads of the router that have ended though nobody stopped it. It does not work any more when there is one:
    /// the SAs of a shard are gone with it.
    pub fn dead_threads(&self) -> Vec<ThreadDeath> {
        self.shared().deaths.latest()
    }

    /// Waits for the first thread that ends though nobody stopped the router; for ever when all is well.
    pub async fn failed(&self) -> ThreadDeath {
        let mut deaths = self.shared().deaths.clone();
        let first = match deaths.until(|deaths| !deaths.is_empty()).await {
            Ok(deaths) => deaths.first().cloned(),
            // The router was stopped, so no thread can fail any more.
            Err(_) => None,
        };
        match first {
            Some(death) => death,
            None => std::future::pending().await,
        }
    }

    /// Makes a thread of the router panic.
    #[cfg(feature = "fault-injection")]
    pub fn inject_panic(&self, thread: RouterThread) {
        match thread {
            RouterThread::Shard(number) => {
                if let Some(shard) = self.shared().shards.get(number) {
                    let _ = shard.send(Command::Panic);
                }
            }
            RouterThread::Control => {
                let (fault, waker) = &self.shared().control_fault;
                fault.store(true, Ordering::Release);
                let _ = waker.wake();
            }
            RouterThread::Devices => self.shared().nudges.send(Nudge::Panic),
        }
    }
}

#[cfg(feature = "fault-injection")]
impl RouterHandle {
    /// Has a shard stand still until what is returned is dropped.
    pub fn inject_stall(&self, shard: usize) -> std::sync::mpsc::Sender<()> {
        let (free, held) = std::sync::mpsc::channel();
        if let Some(shard) = self.shared().shards.get(shard) {
            let _ = shard.send(Command::Stall(held));
        }
        free
    }

    /// Holds the book of pairs until what is returned is dropped, as whoever waits for a shard that stands still.
    pub fn inject_hold(&self) -> std::sync::mpsc::Sender<()> {
        let (free, held) = std::sync::mpsc::channel();
        let (router, (is_held, waits)) = (self.clone(), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            let _registry = router.registry();
            let _ = is_held.send(());
            // Ends when the other end is dropped.
            let _ = held.recv();
        });
        let _ = waits.recv();
        free
    }
}

/// A thread that tests can make panic.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterThread {
    /// The shard of this number.
    Shard(usize),
    /// `router-control`.
    Control,
    /// `router-devices`.
    Devices,
}

/// The panic that was asked for.
#[cfg(feature = "fault-injection")]
#[allow(clippy::panic)] // What it is for: tests see what follows.
pub(crate) fn injected() {
    panic!("injected");
}
