//! Rekeyings that the node is asked for, so many a second, one tunnel after the other.

use std::sync::Arc;
use std::time::Instant;

use culvert_proto::v1;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::{Api, Place};
use crate::engine::causes::Causes;
use crate::engine::due::due;
use crate::engine::meter::{Count, Latencies};
use crate::engine::summary::Summary;
use crate::initiator::timed_from;

/// Orders under way at a time: more would measure the API.
const UNDER_WAY: u32 = 256;

/// What is rekeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Which {
    /// Child SAs
    Child,
    /// IKE_SAs
    Ike,
    /// One or the other, by chance
    Both,
}

/// What came of the orders.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    done: Count,
    failed: Count,
    latency: Latencies,
    pub(crate) causes: Causes,
}

/// Rekeyings that go on until they are stopped.
pub(crate) struct Rekeys {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    room: Arc<Semaphore>,
    outcome: Arc<Outcome>,
}

impl Rekeys {
    /// Orders `rate` a second, of these tunnels in an order that the seed says, again and again.
    pub(crate) fn order(api: &Api, mut places: Vec<Place>, which: Which, rate: f64, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        places.shuffle(&mut rng);
        let (stop, stopped) = oneshot::channel();
        let outcome = Arc::new(Outcome::default());
        let room = Arc::new(Semaphore::new(UNDER_WAY as usize));
        let orders = go_on(api.clone(), places, which, rate, rng, room.clone(), outcome.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                () = orders => {}
                _ = stopped => {}
            }
        });
        Self { stop, task, room, outcome }
    }

    /// Orders no more, and waits for those under way.
    pub(crate) async fn stop(self) -> Arc<Outcome> {
        // It waits for nothing else, or has ended.
        let _ = self.stop.send(());
        let _ = self.task.await;
        // Each has its permit until it has ended.
        let _ = self.room.acquire_many(UNDER_WAY).await;
        self.outcome
    }
}

async fn go_on(
    api: Api,
    places: Vec<Place>,
    which: Which,
    rate: f64,
    mut rng: StdRng,
    room: Arc<Semaphore>,
    outcome: Arc<Outcome>,
) {
    let begin = Instant::now();
    for (place, number) in places.iter().cycle().zip(0u32..) {
        let due = due(begin, f64::from(number), rate);
        tokio::time::sleep_until(due.into()).await;
        // The semaphore is never closed.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let child = match which {
            Which::Child => true,
            Which::Ike => false,
            Which::Both => rng.random(),
        };
        let target = if child { v1::RekeyTarget::Child } else { v1::RekeyTarget::Ike };
        let (api, place, outcome) = (api.clone(), *place, outcome.clone());
        tokio::spawn(async move {
            let begin = timed_from(due, Instant::now());
            match api.rekey(place, target).await {
                Ok(()) => {
                    outcome.latency.note(begin.elapsed());
                    outcome.done.add(1);
                }
                Err(status) => {
                    outcome.causes.note(&format!("rekeying: {}", status.message()));
                    outcome.failed.add(1);
                }
            }
            drop(permit);
        });
    }
}

impl Outcome {
    pub(crate) fn failed(&self) -> u64 {
        self.failed.get()
    }

    /// Those that have an answer.
    pub(crate) fn ordered(&self) -> u64 {
        self.done.get() + self.failed.get()
    }

    pub(crate) fn tell(&self, summary: &mut Summary) {
        summary.count("rekeysOrdered", "rekeyings ordered", self.ordered());
        summary.count("rekeysFailed", "of them failed", self.failed.get());
        summary.latency("rekey", "ordered to rekeyed", self.latency.copy());
        summary.causes(&self.causes);
    }
}
