//! A slot goes, or its standby is to be told of everything.

use std::time::{Duration, Instant};

use snapshot::Row;
use tokio::sync::mpsc;

use super::rows::{class, row};
use super::{Moving, reserve_after};
use crate::control::Control;
use crate::mailbox::put;

/// So long a slot waits at most for what peers have begun in it: round trips between continents, and one message that is lost and sent again. Who
/// only begins, and answers nothing, holds up the slot for no longer.
const SETTLED: Duration = Duration::from_millis(1_500);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(2);

impl Control {
    /// Tells the standby of a slot of everything in it. Done when everything is put.
    pub async fn resync_slot(&self, slot: u8) {
        let (sender, mut done) = mpsc::unbounded_channel();
        self.ask_slot(slot, Moving::Resync(sender)).await;
        while done.recv().await.is_some() {}
        // What was to come here does not.
        crate::dispatch::waited(self.env(), slot);
    }

    /// Before a slot goes: waits for what peers have begun in it, for a moment. What is known of them until they are authenticated does not go with it,
    /// and one that is told of success by this node and is not known to the next one has no tunnel.
    pub async fn settle_slot(&self, slot: u8) {
        let since = Instant::now();
        let begun = || self.env().begun(slot).is_some_and(|begun| begun.get() > 0);
        while begun() && since.elapsed() < SETTLED {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends everything in a slot, and says how it stood: the node of this number goes on with it.
    pub async fn give_slot(&self, slot: u8, to: Option<u32>) -> Vec<Row> {
        // What comes for a pair that is on its way waits, and follows it.
        self.hold_packets(slot);
        self.env().awaited.give(slot, std::time::Instant::now());
        let (sender, mut rows) = mpsc::unbounded_channel();
        self.ask_slot(slot, Moving::Give(to, sender)).await;
        let mut all = Vec::new();
        while let Some(some) = rows.recv().await {
            all.extend(some);
        }
        self.close_slot(slot);
        all
    }

    /// Ends everything in a slot: the node of this number has gone on with it.
    pub async fn lose_slot(&self, slot: u8, to: Option<u32>) {
        self.close_slot(slot);
        let (sender, mut done) = mpsc::unbounded_channel();
        self.ask_slot(slot, Moving::Lose(to, sender)).await;
        while done.recv().await.is_some() {}
    }

    fn close_slot(&self, slot: u8) {
        if let Err(error) = self.env().router.close_slot(slot) {
            tracing::error!(%error, slot, "a slot cannot be closed");
        }
    }

    async fn ask_slot(&self, slot: u8, what: Moving) {
        for to in self.env().registry.moving.of(slot) {
            put(&to, what.clone()).await;
        }
    }

    /// How many connections there are in each slot of this node.
    pub fn connections_by_slot(&self) -> std::collections::BTreeMap<u8, usize> {
        self.env().registry.moving.by_slot()
    }

    /// Tells standbys how far the pairs of this node have come: to be called many times a second. How many were told of.
    pub async fn tell_progress(&self) -> usize {
        let Some(cluster) = self.env().others.0.clone() else { return 0 };
        let now = std::time::Instant::now();
        let mut by_slot: std::collections::BTreeMap<u8, Vec<Row>> = std::collections::BTreeMap::new();
        let windows = self.env().router.changed_windows().await;
        let count = windows.len();
        for window in windows {
            let slot = esp::Spi(window.spi).slot();
            if cluster.is_told(slot) {
                let row = row(class::WINDOW, window.spi.into(), window.octets.into(), now);
                by_slot.entry(slot).or_default().push(row);
            }
        }
        for (slot, rows) in by_slot {
            cluster.put(slot, rows, Box::new(|_| ()));
        }
        count
    }
}

/// Reserves further numbers for a pair that runs low: the standby learns of them first.
pub(crate) fn reserve_more(env: &crate::env::ConnEnv, spi: esp::Spi, sequence: u64) {
    let reserve = reserve_after(sequence);
    let Some(cluster) = &env.others.0 else { return };
    let router = env.router.clone();
    let row = super::rows::numbers(spi.0, &reserve, std::time::Instant::now());
    let others = std::sync::Arc::clone(cluster);
    let done = Box::new(move |kept| {
        if kept == snapshot::Kept::Lost {
            return;
        }
        router.reserve(spi, reserve);
        if kept == snapshot::Kept::Free && others.is_told(spi.slot()) {
            // Somebody is the standby since, and may have been told of the pair as it was before.
            let row = super::rows::numbers(spi.0, &reserve, std::time::Instant::now());
            others.put(spi.slot(), vec![row], Box::new(|_| ()));
        }
    });
    cluster.put(spi.slot(), vec![row], done);
}
