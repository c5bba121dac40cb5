//! ESP that meets no pair of this shard: it may be for another node, or earlier than its pair.

use esp::Spi;

use super::core::Core;
use super::sa::Mark;
use super::waiting::{Kind, Packet};
use crate::came_from::CameFrom;
use crate::counters::Counter;
use crate::elsewhere::PassedIn;
use crate::port::Origin;
use crate::slots::{SlotState, Slots};

impl Core {
    /// Does what the mark of a pair says before a packet of it is opened. False when the packet waits.
    #[cold]
    pub(super) fn look_at(&mut self, spi: Spi, packet: &[u8], origin: Origin) -> bool {
        if self.table.get(spi).is_some_and(|sa| sa.mark == Mark::Early) {
            self.run_commands();
            self.open_waiting();
        }
        let Some(sa) = self.table.get_mut(spi) else { return self.look_again(spi, packet, origin) };
        match sa.mark {
            Mark::Quiet => {}
            Mark::Clean => sa.note_moved(&mut self.moved),
            Mark::Early => {
                self.wait(spi, packet, origin);
                return false;
            }
        }
        true
    }

    /// Looks again for the pair of a packet that met none. False when the packet is dealt with: it waits, or was passed on.
    #[cold]
    pub(super) fn look_again(&mut self, spi: Spi, packet: &[u8], origin: Origin) -> bool {
        loop {
            // Before the commands: what was installed before a slot was opened is among them then.
            let state = self.slots.state(spi.slot());
            self.run_commands();
            self.open_waiting();
            if self.table.contains(spi) {
                return self.look_at(spi, packet, origin);
            }
            if self.slots.state(spi.slot()) == state {
                return match state {
                    SlotState::Open => true,
                    SlotState::Expected => {
                        self.wait(spi, packet, origin);
                        false
                    }
                    SlotState::Closed => {
                        if self.waiting.has_esp(spi.slot()) {
                            // It has just gone, and what waits for that goes before this.
                            self.close_waiting(spi.slot());
                        }
                        !self.pass_on(spi, packet, origin)
                    }
                };
            }
        }
    }

    /// Whether ESP with this SPI is for another node.
    pub(super) fn is_elsewhere(&self, spi: Spi) -> bool {
        self.elsewhere.is_some() && self.slots.state(spi.slot()) == SlotState::Closed
    }

    /// Passes a packet on to the node that has its slot. False where there is no such node, as when this one is alone.
    pub(super) fn pass_on(&self, spi: Spi, packet: &[u8], origin: Origin) -> bool {
        let Some(elsewhere) = self.elsewhere.as_ref().filter(|_| Slots::is_one(spi.slot())) else {
            return false;
        };
        self.counters.count(Counter::EspReceived);
        self.counters.count(if !self.may_pass_on(spi.slot(), origin) {
            Counter::PassedTwice
        } else if elsewhere.esp(spi.slot(), packet, origin.into()) {
            Counter::PassedOn
        } else {
            Counter::NotPassedOn
        });
        true
    }

    /// Two nodes that each take the other for the owner would send a packet to and fro. But who was the owner a moment ago passes
    /// on what others sent when they did not know better.
    fn may_pass_on(&self, slot: u8, origin: Origin) -> bool {
        !origin.relayed || self.slots.was_ours_lately(slot, self.now)
    }

    fn wait(&mut self, spi: Spi, packet: &[u8], origin: Origin) {
        if !self.keep_waiting(Kind::Esp(spi.slot(), origin), packet) {
            self.counters.count(Counter::EspReceived);
        }
    }

    /// Has a packet wait, in the place of others if need be. False where there is no room.
    pub(super) fn keep_waiting(&mut self, kind: Kind, packet: &[u8]) -> bool {
        let (held, gone) = self.waiting.push(self.now, kind, packet);
        self.counters.count(if held { Counter::SlotHeld } else { Counter::SlotHoldFull });
        for packet in gone {
            if matches!(packet.kind, Kind::Esp(..)) {
                self.counters.count(Counter::EspReceived);
            }
            self.counters.count(Counter::SlotHoldFull);
        }
        held
    }

    /// Opens what waited for slots that are open now. Not while another packet is being opened.
    pub(super) fn open_waiting(&mut self) {
        for slot in std::mem::take(&mut self.opened) {
            // Not sooner: what comes for these pairs goes behind what waits for them.
            self.clear_early(slot);
            self.open_here |= Slots::bit(slot);
            for Packet { kind, mut octets, .. } in self.waiting.take(slot) {
                match kind {
                    Kind::Esp(_, origin) => self.received(&mut octets, origin),
                    Kind::Inner(tenant, from) => self.inner_in(&tenant, from, octets),
                }
            }
        }
    }

    /// The slot is somebody else's: so is what waited for it.
    pub(super) fn close_waiting(&mut self, slot: u8) {
        self.open_here &= !Slots::bit(slot);
        for Packet { kind, octets, .. } in self.waiting.take(slot) {
            match kind {
                Kind::Esp(_, origin) => self.wait_no_more(&octets, origin),
                Kind::Inner(tenant, from) => self.inner_in(&tenant, from, octets),
            }
        }
    }

    /// Lets nobody wait too long.
    pub(super) fn expire_waiting(&mut self) {
        for Packet { kind, octets, .. } in self.waiting.expire(self.now) {
            match kind {
                Kind::Esp(_, origin) => self.wait_no_more(&octets, origin),
                Kind::Inner(tenant, from) => self.inner_waited(&tenant, from, octets),
            }
        }
    }

    fn wait_no_more(&self, packet: &[u8], origin: Origin) {
        let spi = packet.first_chunk().map(|spi| Spi(u32::from_be_bytes(*spi)));
        let passed =
            spi.is_some_and(|spi| self.may_pass_on(spi.slot(), origin) && self.pass_on(spi, packet, origin));
        if !passed {
            self.counters.count(Counter::EspReceived);
            self.counters.count(Counter::SlotHoldExpired);
        }
    }

    /// Takes what other nodes passed on; true when something is left.
    pub(super) fn run_passed(&mut self) -> bool {
        let Some(passed) = self.passed.take() else { return false };
        passed.looks();
        let mut left = true;
        for _ in 0..PASSED_AT_A_TIME {
            let Some(packet) = passed.next() else {
                left = false;
                break;
            };
            self.counters.count(Counter::PassedIn);
            match packet {
                PassedIn::Esp(mut packet, origin) => self.received(&mut packet, origin),
                PassedIn::Inner(tenant, packet) => self.inner_in(&tenant, CameFrom::Node, packet),
            }
        }
        self.passed = Some(passed);
        left
    }
}

/// As many as one receiving system call brings of a busy socket.
const PASSED_AT_A_TIME: usize = 256;
