//! What a node does for its slots: their tunnels.

use std::collections::BTreeMap;

use snapshot::{Handover, Row};

use actors::Cluster as _;
use cluster::{Ask, Host, Later, Wire};

use super::{Nodes, passing};

impl Host for Nodes {
    fn resync(&self, slot: u8) -> Later<'_, ()> {
        Box::pin(async move {
            if let Some(control) = self.0.control.get() {
                control.resync_slot(slot).await;
            }
        })
    }

    fn take(&self, slot: u8, rows: Vec<Row>, handover: Handover) -> Later<'_, ()> {
        let Some(control) = self.0.control.get().cloned() else { return Box::pin(std::future::ready(())) };
        // Not by the thread that asks for it: that may be the one by which the others hear this node, and thousands of tunnels take a while.
        let taking = self.0.runtime.spawn(async move {
            let taken = control.take_slot(slot, rows, handover).await;
            let (connections, pairs, lost) = (taken.connections, taken.pairs, taken.lost);
            tracing::info!(slot, ?handover, connections, pairs, lost, "tunnels of another node go on here");
        });
        Box::pin(async move {
            if let Err(error) = taking.await {
                tracing::error!(%error, slot, "the tunnels of a slot are lost");
            }
        })
    }

    fn reads(&self, rows: &[Row]) -> Result<(), String> {
        actors::reads(rows)
    }

    fn lose<'a>(&'a self, slot: u8, to: Option<&'a str>) -> Later<'a, ()> {
        Box::pin(async move {
            if let Some(control) = self.0.control.get() {
                control.lose_slot(slot, to.and_then(|node| self.number(node))).await;
            }
        })
    }

    fn settle(&self, slot: u8) -> Later<'_, ()> {
        Box::pin(async move {
            if let Some(control) = self.0.control.get() {
                control.settle_slot(slot).await;
            }
        })
    }

    fn give<'a>(&'a self, slot: u8, to: &'a str) -> Later<'a, Vec<Row>> {
        Box::pin(async move {
            match self.0.control.get() {
                Some(control) => control.give_slot(slot, self.number(to)).await,
                None => Vec::new(),
            }
        })
    }

    fn expect(&self, slot: u8, _: &str) {
        if let Some(control) = self.0.control.get() {
            control.expect_slot(slot);
        }
    }

    fn begin_in(&self, slot: u8) {
        if let Some(control) = self.0.control.get() {
            control.open_slot(slot);
        }
        // Where there was none, peers wait for it.
        self.0.news.all();
    }

    fn connections(&self) -> BTreeMap<u8, usize> {
        self.0.control.get().map(actors::Control::connections_by_slot).unwrap_or_default()
    }
}

impl Wire for Nodes {
    fn ask(
        &self,
        node: &str,
        ask: Ask,
        body: snapshot::Octets,
        patience: std::time::Duration,
    ) -> Later<'_, Result<Vec<u8>, String>> {
        let lane = match ask {
            Ask::Put => cluster::mesh::Lane::Checkpoint,
            Ask::Expect | Ask::Hand | Ask::News | Ask::Want | Ask::Load => cluster::mesh::Lane::Control,
        };
        let asked = self
            .0
            .mesh
            .get()
            .map(|mesh| mesh.ask(node, lane, passing::of_slots(ask), body.shared(), patience));
        Box::pin(async move {
            let Some(asked) = asked else { return Err("nothing is connected yet".to_owned()) };
            asked.await.map(|answer| answer.to_vec()).map_err(|error| error.to_string())
        })
    }

    fn spawn(&self, task: Later<'static, ()>) {
        match self.0.mesh.get() {
            Some(mesh) => mesh.spawn(task),
            None => drop(self.0.runtime.spawn(task)),
        }
    }
}
