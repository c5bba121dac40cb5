//! Pairs that go to another node and come from one.

use std::net::SocketAddr;
use std::time::Instant;

use esp::{Resume, Spi};
use tokio::sync::oneshot;

use crate::command::{Command, CommandSender};
use crate::error::RouterError;
use crate::handle::RouterHandle;
use crate::model::{Reserve, SaStats};
use crate::pair_snapshot::{PairSnapshot, WindowSnapshot};
use crate::registry::Listing;
use crate::shard::Sa;

impl RouterHandle {
    /// Everything of these pairs, which go on. Those that are not there are left out.
    pub async fn snapshot_pairs(&self, spis: Vec<Spi>) -> Vec<PairSnapshot> {
        let mut all = Vec::with_capacity(spis.len());
        for (shard, some) in self.by_shard(spis) {
            let (reply, answer) = oneshot::channel();
            if shard.send(Command::Snapshot(some, reply)).is_ok() {
                // A shard that stops in between has no SAs any more.
                all.extend(answer.await.unwrap_or_default());
            }
        }
        all
    }

    /// Takes these pairs out, and says how they stood in the end and what they have come to here: nothing is sealed or opened by them
    /// after that. They are gone as after [`remove`](Self::remove), but no [`crate::RouterEvent::Removed`] follows. Whoever gives up
    /// waiting for the answer loses them.
    pub async fn extract_pairs(&self, spis: Vec<Spi>) -> Vec<(PairSnapshot, SaStats)> {
        let mut all = Vec::with_capacity(spis.len());
        for (shard, some) in self.by_shard(spis) {
            let (reply, answer) = oneshot::channel();
            let active = {
                // The lock is held until the shard is told, so that commands for one SPI reach it in order.
                let mut registry = self.registry();
                let sends = |spi| registry.tunnel_of(spi).is_some_and(|(_, tunnel)| tunnel.sends_on(spi));
                let active: Vec<Spi> = some.iter().copied().filter(|spi| sends(*spi)).collect();
                let there = some.into_iter().filter(|spi| registry.delist(*spi)).collect();
                if shard.send(Command::Extract(there, reply)).is_err() {
                    continue;
                }
                active
            };
            // The snapshots are made here, for the shard has better things to do.
            all.extend(answer.await.unwrap_or_default().into_iter().map(|sa| {
                let mut snapshot = sa.snapshot();
                snapshot.set_active(active.contains(&snapshot.spi()));
                (snapshot, sa.stats())
            }));
        }
        all
    }

    /// Goes on with a pair of another node. It receives from now on; to send on it, call [`activate`](Self::activate).
    ///
    /// Its slot must be open or [expected](Self::expect_slot), its tenant there, and its SPI free. `resume` says what the former
    /// owner may have sent since the snapshot was made, `reserve` how far this one may count. `local` is our address, if it is not
    /// the one that the former owner had. After an error nothing is installed.
    pub fn restore_pair(
        &self,
        snapshot: &PairSnapshot,
        resume: Resume,
        reserve: Reserve,
        local: Option<SocketAddr>,
    ) -> Result<(), RouterError> {
        let restored = snapshot.read(local)?;
        let (spi, now) = (restored.spi, Instant::now());
        let path = self.check(&restored.ends, &restored.selectors)?;
        let mtu = Sa::path_mtu(&restored.ends, &restored.options, now);
        let mut registry = self.registry();
        if !registry.spis.take(spi) {
            return Err(RouterError::SpiNotFree(spi));
        }
        let listing = Listing {
            spi,
            tenant: snapshot.tenant(),
            tunnel: snapshot.tunnel(),
            own: restored.own,
            selectors: &restored.selectors,
        };
        let installed = self.put(&mut registry, &listing, |enlisted| {
            Ok(Sa::restore(&restored, resume, &reserve, enlisted, path, mtu)?)
        });
        if installed.is_err() {
            registry.release_spi(spi);
        }
        installed
    }

    /// How far the pair may count from now on, and where it is to warn.
    pub fn reserve(&self, spi: Spi, reserve: Reserve) {
        let registry = self.registry();
        if registry.tunnel_of(spi).is_some() {
            self.tell(spi, Command::Reserve(spi, reserve));
        }
    }

    /// Skips `by` numbers of what the pair sends: a peer has asked for it that takes only later ones (RFC 6311). Where they go beyond those that
    /// are reserved [`RouterEvent::NumbersLow`](crate::RouterEvent::NumbersLow) comes, and where none are left
    /// [`RouterEvent::SoftLimit`](crate::RouterEvent::SoftLimit).
    pub fn advance(&self, spi: Spi, by: u64) {
        let registry = self.registry();
        if registry.tunnel_of(spi).is_some() {
            self.tell(spi, Command::Advance(spi, by));
        }
    }

    /// How far those pairs have come by which something came in since this was last called. A node of a cluster asks several
    /// times a second; without [`crate::RouterConfig::elsewhere`] there is nothing to tell.
    pub async fn changed_windows(&self) -> Vec<WindowSnapshot> {
        let mut all = Vec::new();
        for shard in &self.shared().shards {
            // As many as there were at the first question: those that come by meanwhile are for the next time, or this would have
            // no end.
            let mut left = None;
            while left != Some(0) {
                let (reply, answer) = oneshot::channel();
                let most = left.unwrap_or(PAIRS_AT_A_TIME).min(PAIRS_AT_A_TIME);
                if shard.send(Command::Windows(most, reply)).is_err() {
                    break;
                }
                let Ok((some, more)) = answer.await else { break };
                left = Some(left.map_or(more, |left: usize| left.saturating_sub(most)));
                all.extend(some);
            }
        }
        all
    }

    /// The pairs of each shard, so many that packets never wait long for them.
    fn by_shard(&self, mut spis: Vec<Spi>) -> Vec<(&CommandSender, Vec<Spi>)> {
        spis.sort_unstable_by_key(|spi| spi.shard());
        let of_shards = spis.chunk_by(|a, b| a.shard() == b.shard());
        let some = of_shards.flat_map(|of_shard| of_shard.chunks(PAIRS_AT_A_TIME));
        some.filter_map(|some| Some((self.shard(*some.first()?).ok()?, some.to_vec()))).collect()
    }
}

/// Pairs that a shard is asked about at once: some 100 µs, in which its socket holds whatever arrives.
const PAIRS_AT_A_TIME: usize = 128;
