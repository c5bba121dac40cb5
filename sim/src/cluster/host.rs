//! What a node does for its slots: it has tunnels in each, tells the standby of them before anybody hears, and goes on with those of others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::{Handover, Host as SlotHost, Kept, Later, Row, Slots};
use esp::Lease;
use tokio::time::Instant;

use super::scenario::Fault;
use super::tunnel::Tunnel;
use super::witness::Witness;
use crate::random::Random;

/// Numbers of ESP that are reserved at a time: few, so that histories see the ends of blocks.
const BLOCK: u64 = 8;
/// Each tunnel counts for as many when it is looked who has most: a handful is to be enough for slots to be spread.
const COUNTS_FOR: usize = 32;

/// Between one tunnel and the next of a slot that comes or goes, at most: others have something to do meanwhile.
const ONE: Duration = Duration::from_millis(3);

/// How long a node takes that is slow on purpose.
const SLOW: Duration = Duration::from_secs(3);

/// What waits until a standby has it.
#[derive(Default)]
struct Waits {
    last: u64,
    /// In which slot each of them is, and since when.
    since: BTreeMap<u64, (u8, Instant)>,
}

/// That something waits, until this is dropped.
struct Wait {
    host: Arc<Host>,
    number: u64,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.host.waits().since.remove(&self.number);
    }
}

/// The tunnels of a node.
pub struct Host {
    name: String,
    fault: Fault,
    witness: Arc<Witness>,
    chance: Mutex<Random>,
    slots: Mutex<Option<Slots>>,
    tunnels: Mutex<BTreeMap<u8, BTreeMap<u64, Tunnel>>>,
    waits: Mutex<Waits>,
}

impl Host {
    pub(super) fn new(name: &str, fault: Fault, witness: Arc<Witness>, chance: Random) -> Self {
        let (chance, slots, tunnels) = (Mutex::new(chance), Mutex::default(), Mutex::default());
        Self { name: name.to_owned(), fault, witness, chance, slots, tunnels, waits: Mutex::default() }
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something waits from now on.
    fn wait(self: &Arc<Self>, slot: u8) -> Wait {
        let mut waits = self.waits();
        waits.last += 1;
        let number = waits.last;
        waits.since.insert(number, (slot, Instant::now()));
        Wait { host: Arc::clone(self), number }
    }

    /// Slots in which something waits for longer than this: messages that are to be said, and numbers that are to be reserved.
    pub(super) fn waiting_for(&self, time: Duration) -> Vec<u8> {
        self.waits()
            .since
            .values()
            .filter(|(_, since)| since.elapsed() > time)
            .map(|(slot, _)| *slot)
            .collect()
    }

    /// Before the next tunnel of a slot has its turn.
    async fn one_after_the_other(&self) {
        let time = self.chance.lock().unwrap_or_else(PoisonError::into_inner).time_up_to(ONE);
        tokio::time::sleep(time).await;
    }

    /// Takes a tunnel of a slot away, as long as there is one.
    fn next_of(&self, slot: u8) -> Option<(u64, Tunnel)> {
        self.tunnels().get_mut(&slot)?.pop_first()
    }

    /// To be called once, before anything happens.
    pub(super) fn begin(&self, slots: Slots) {
        *self.slots.lock().unwrap_or_else(PoisonError::into_inner) = Some(slots);
    }

    /// Its process is gone. The slots have the host and the host has the slots, and one of them has to let go.
    pub(super) fn end(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn slots(&self) -> Option<Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tunnels(&self) -> MutexGuard<'_, BTreeMap<u8, BTreeMap<u64, Tunnel>>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, slot: u8, row: Row, done: impl FnOnce(Kept) + Send + 'static) {
        if let Some(slots) = self.slots() {
            slots.put(slot, vec![row], Box::new(done));
        }
    }

    /// All tunnels here, with their slots.
    pub(super) fn all(&self) -> Vec<(u8, u64)> {
        let tunnels = self.tunnels();
        tunnels.iter().flat_map(|(slot, all)| all.keys().map(|id| (*slot, *id))).collect()
    }

    /// Begins a tunnel.
    pub(super) fn begin_tunnel(self: &Arc<Self>, slot: u8, id: u64) {
        let row = match (self.tunnels().get_mut(&slot), Tunnel::new(id)) {
            (Some(all), Ok(tunnel)) => {
                let row = tunnel.row(id, Instant::now().into_std());
                all.insert(id, tunnel);
                row
            }
            (None, _) => return,
            (_, Err(error)) => return self.witness.violation(&error),
        };
        let this = Arc::clone(self);
        self.put(slot, row, move |kept| {
            // One that no standby was told of may be lost.
            if kept == Kept::Known && this.tunnels().get(&slot).is_some_and(|all| all.contains_key(&id)) {
                this.witness.began(id);
            }
        });
    }

    /// Ends a tunnel.
    pub(super) fn end_tunnel(self: &Arc<Self>, slot: u8, id: u64) {
        if self.tunnels().get_mut(&slot).and_then(|all| all.remove(&id)).is_none() {
            return;
        }
        self.witness.ended(id);
        self.put(slot, Tunnel::gone(id, Instant::now().into_std()), |_| ());
    }

    /// Says something new in a tunnel.
    pub(super) fn say(self: &Arc<Self>, slot: u8, id: u64, what: u64) {
        let (row, number) = {
            let mut tunnels = self.tunnels();
            let Some(tunnel) = tunnels.get_mut(&slot).and_then(|all| all.get_mut(&id)) else { return };
            (tunnel.message, tunnel.what) = (tunnel.message + 1, what);
            let words = format!(
                "{} wants to say {} of tunnel {id} in slot {slot}: {what:016x}",
                self.name, tunnel.message
            );
            self.witness.tell(&words);
            (tunnel.row(id, Instant::now().into_std()), tunnel.message)
        };
        if self.fault == Fault::Output {
            self.witness.said(&self.name, id, number, what);
        }
        let (this, wait) = (Arc::clone(self), self.wait(slot));
        self.put(slot, row, move |kept| {
            if this.fault == Fault::Silent {
                return std::mem::forget(wait);
            }
            drop(wait);
            if kept != Kept::Lost {
                this.witness.said(&this.name, id, number, what);
            }
        });
    }

    /// Sends packets through a tunnel, and has numbers reserved if there are none left.
    pub(super) fn send(self: &Arc<Self>, slot: u8, id: u64, packets: u64) {
        let row = {
            let mut tunnels = self.tunnels();
            let Some(tunnel) = tunnels.get_mut(&slot).and_then(|all| all.get_mut(&id)) else { return };
            if self.fault == Fault::Block {
                tunnel.outbound.reserve(Lease::UNBOUNDED);
            }
            for _ in 0..packets {
                match tunnel.send() {
                    Some(number) => self.witness.sent(&self.name, id, number),
                    None => self.witness.count("packets that waited for numbers"),
                }
            }
            if tunnel.reserving || tunnel.outbound.sequence() + BLOCK / 2 < tunnel.reserved {
                return;
            }
            tunnel.reserving = true;
            tunnel.reserved = tunnel.reserved.max(tunnel.outbound.sequence()) + BLOCK;
            (tunnel.row(id, Instant::now().into_std()), tunnel.reserved)
        };
        let ((row, reserved), this, wait) = (row, Arc::clone(self), self.wait(slot));
        self.put(slot, row, move |kept| {
            drop(wait);
            let mut tunnels = this.tunnels();
            let tunnel = tunnels.get_mut(&slot).and_then(|all| all.get_mut(&id));
            // It may have gone and come back meanwhile, and then has numbers of its own.
            if let Some(tunnel) = tunnel.filter(|tunnel| tunnel.reserving) {
                tunnel.reserving = false;
                if kept != Kept::Lost && tunnel.reserved == reserved {
                    tunnel.outbound.reserve(Lease::up_to(reserved));
                }
            }
        });
    }
}

impl SlotHost for Host {
    fn resync(&self, slot: u8) -> Later<'_, ()> {
        Box::pin(async move {
            // Those that are there by now are asked, and none that comes later.
            let asked: Vec<u64> =
                self.tunnels().get(&slot).into_iter().flat_map(BTreeMap::keys).copied().collect();
            if self.fault == Fault::Endless && !asked.is_empty() {
                return std::future::pending().await;
            }
            let but = usize::from(self.fault == Fault::Missing);
            for id in asked.into_iter().skip(but) {
                self.one_after_the_other().await;
                let now = Instant::now().into_std();
                let row = self.tunnels().get(&slot).and_then(|all| all.get(&id)).map(|of| of.row(id, now));
                if let Some(row) = row {
                    self.put(slot, row, |_| ());
                }
            }
        })
    }

    fn take(&self, slot: u8, rows: Vec<Row>, handover: Handover) -> Later<'_, ()> {
        Box::pin(async move {
            self.witness.tell(&format!(
                "{} takes slot {slot} with {} tunnels ({handover:?})",
                self.name,
                rows.len()
            ));
            self.witness.count(match handover {
                Handover::Sudden => "slots taken over",
                Handover::Exact => "slots handed over",
            });
            if self.fault == Fault::Slow {
                tokio::time::sleep(SLOW).await;
            }
            if self.tunnels().insert(slot, BTreeMap::new()).is_some() {
                self.witness.violation(&format!("slot {slot} comes to {} that has it", self.name));
            }
            for row in &rows {
                self.one_after_the_other().await;
                match Tunnel::of(row, handover) {
                    Ok(tunnel) => {
                        if tunnel.message > 0 {
                            // Whoever asked and has heard no answer asks again.
                            self.witness.said(&self.name, row.id, tunnel.message, tunnel.what);
                        }
                        // Whether or not the slot is still there, as a connection does that begins late.
                        self.tunnels().entry(slot).or_default().insert(row.id, tunnel);
                    }
                    Err(error) => self.witness.violation(&format!("a tunnel does not go on: {error}")),
                }
            }
        })
    }

    fn reads(&self, _: &[Row]) -> Result<(), String> {
        Ok(())
    }

    fn lose<'a>(&'a self, slot: u8, to: Option<&'a str>) -> Later<'a, ()> {
        Box::pin(async move {
            let mut count = 0;
            while self.next_of(slot).is_some() {
                count += 1;
                self.one_after_the_other().await;
            }
            if self.tunnels().remove(&slot).is_some() {
                self.witness.tell(&format!("{} loses slot {slot} with {count} tunnels to {to:?}", self.name));
            }
        })
    }

    fn give<'a>(&'a self, slot: u8, to: &'a str) -> Later<'a, Vec<Row>> {
        Box::pin(async move {
            let mut rows = Vec::new();
            while let Some((id, tunnel)) = self.next_of(slot) {
                rows.push(tunnel.row(id, Instant::now().into_std()));
                self.one_after_the_other().await;
            }
            self.tunnels().remove(&slot);
            let count = rows.len();
            self.witness.tell(&format!("{} gives slot {slot} with {count} tunnels to {to}", self.name));
            rows
        })
    }

    fn expect(&self, _: u8, _: &str) {}

    fn begin_in(&self, slot: u8) {
        self.tunnels().entry(slot).or_default();
    }

    fn connections(&self) -> BTreeMap<u8, usize> {
        let tunnels = self.tunnels();
        let counts = tunnels.iter().map(|(slot, all)| (*slot, all.len() * COUNTS_FOR));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}
