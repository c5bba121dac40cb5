//! What the shards say of their pairs, and whether they answer at all.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use esp::Spi;
use tokio::sync::oneshot::{self, Receiver};
use tokio::time::{Instant, sleep, timeout_at};

use crate::command::{Command, CommandSender};
use crate::handle::RouterHandle;
use crate::model::{SaStats, TunnelId};

/// Pairs that a shard is asked about at once: some 20 µs, in which its socket holds whatever arrives.
const STATS_AT_A_TIME: usize = 128;
/// How long a shard may take for that. One that takes longer stands still, and whoever asks must not: it is its metrics that say so.
const ANSWER: Duration = Duration::from_secs(2);
/// Before a shard whose queue is full is asked again. It empties it in less.
const FULL: Duration = Duration::from_millis(5);

/// What was said of pairs.
#[derive(Debug, Default)]
pub struct Told {
    /// Their figures.
    pub stats: Vec<SaStats>,
    /// Shards that have not answered, by number. Of their pairs only those are told that were asked about before.
    pub silent: Vec<usize>,
}

/// On its way to a shard, or there.
enum Asked {
    Full(Command),
    Sent,
}

impl RouterHandle {
    /// Figures of every pair, and who has not answered.
    pub async fn read_stats(&self) -> Told {
        let spis = self.registry().all_pairs();
        self.ask_all(spis).await
    }

    /// Figures of every pair.
    pub async fn stats(&self) -> Vec<SaStats> {
        self.read_stats().await.stats
    }

    /// Figures of the pairs of these tunnels, those that linger after a rekey included.
    pub async fn stats_of_tunnels(&self, tunnels: impl IntoIterator<Item = TunnelId>) -> Vec<SaStats> {
        let spis = {
            let registry = self.registry();
            tunnels.into_iter().flat_map(|tunnel| registry.pairs_of(tunnel)).copied().collect()
        };
        self.stats_of(spis).await
    }

    /// Figures of these pairs, but for those of shards that do not answer in time.
    pub async fn stats_of(&self, spis: Vec<Spi>) -> Vec<SaStats> {
        self.ask_all(spis).await.stats
    }

    /// Asks each shard for a few at a time and waits for the answers, so that packets never wait for more than that. A shard that has not
    /// answered once is not asked any more.
    async fn ask_all(&self, mut spis: Vec<Spi>) -> Told {
        spis.sort_unstable_by_key(|spi| spi.shard());
        let mut told = Told { stats: Vec::with_capacity(spis.len()), silent: Vec::new() };
        let of_shards = spis.chunk_by(|a, b| a.shard() == b.shard());
        let mut of_shards: Vec<_> = of_shards.map(|spis| spis.chunks(STATS_AT_A_TIME)).collect();
        loop {
            let next: Vec<&[Spi]> = of_shards.iter_mut().filter_map(Iterator::next).collect();
            if next.is_empty() {
                return told;
            }
            let deadline = Instant::now() + ANSWER;
            let asked: Vec<_> = next.into_iter().filter_map(|some| self.ask(some)).collect();
            for (shard, sender, asked, answer) in asked {
                match timeout_at(deadline, answered(sender, asked, answer)).await {
                    // A shard that stops in between has no SAs any more.
                    Ok(stats) => told.stats.extend(stats.unwrap_or_default()),
                    Err(_) => told.silent.push(shard),
                }
            }
            let silent = |spis: &[Spi]| {
                spis.first().is_some_and(|spi| told.silent.contains(&usize::from(spi.shard())))
            };
            of_shards.retain(|left| !left.clone().next().is_some_and(silent));
        }
    }

    /// Asks the shard of these pairs for their figures, if it is there. Never blocks.
    fn ask(&self, spis: &[Spi]) -> Option<(usize, &CommandSender, Asked, Receiver<Vec<SaStats>>)> {
        let first = *spis.first()?;
        let shard = self.shard(first).ok()?;
        let (reply, answer) = oneshot::channel();
        let asked = match shard.offer(Command::Stats(spis.to_vec(), reply)).ok()? {
            None => Asked::Sent,
            Some(command) => Asked::Full(command),
        };
        Some((usize::from(first.shard()), shard, asked, answer))
    }

    /// Has a shard write `beat` there when it carries out its commands next, unless its queue is full; whether it has it. Never blocks.
    pub fn beat(&self, shard: usize, answered: Arc<AtomicU64>, beat: u64) -> bool {
        let shard = self.shared().shards.get(shard);
        shard.is_some_and(|shard| matches!(shard.offer(Command::Beat(answered, beat)), Ok(None)))
    }
}

/// The answer of a shard that is asked, as soon as there is room in its queue.
async fn answered(
    shard: &CommandSender,
    mut asked: Asked,
    answer: Receiver<Vec<SaStats>>,
) -> Option<Vec<SaStats>> {
    while let Asked::Full(command) = asked {
        sleep(FULL).await;
        asked = match shard.offer(command).ok()? {
            None => Asked::Sent,
            Some(command) => Asked::Full(command),
        };
    }
    answer.await.ok()
}
