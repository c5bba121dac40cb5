//! Packets that are for another node of the cluster, and those that another node passes on to this one.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mio::Waker;

use crate::bell::Bell;
use crate::model::TenantId;
use crate::options::Encapsulation;
use crate::port::Origin;
use crate::tenant::Tenant;

/// The way to the other nodes. Called on the thread of a shard, with one packet after the other: it never blocks. What it takes
/// no room for it refuses, and the packet is dropped and counted.
pub trait Elsewhere: Send + Sync {
    /// ESP of a slot that is not open here. Whoever has the slot gives it to [`crate::RouterHandle::passed_in`]. False when it
    /// could not be passed on.
    fn esp(&self, slot: u8, packet: &[u8], passed: Passed) -> bool;

    /// A packet of the tenant for a tunnel that is up at this node, which gives it to
    /// [`crate::RouterHandle::inner_in`]. False when it could not be passed on.
    fn inner(&self, node: u32, tenant: TenantId, packet: &[u8]) -> bool;
}

impl fmt::Debug for dyn Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

impl PartialEq for dyn Elsewhere {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self, other)
    }
}

impl Eq for dyn Elsewhere {}

/// How ESP reached the node that passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Passed {
    /// The address of the node that it was sent to.
    pub local: SocketAddr,
    /// Where it came from. The port is 0 where there is none.
    pub from: SocketAddr,
    /// What carried it.
    pub encapsulation: Encapsulation,
    /// TOS or traffic class of the outer header.
    pub class: u8,
}

impl From<Origin> for Passed {
    fn from(origin: Origin) -> Self {
        let Origin { from, local, class, encapsulation, relayed: _ } = origin;
        Self { local, from, encapsulation, class }
    }
}

impl From<Passed> for Origin {
    fn from(passed: Passed) -> Self {
        let Passed { local, from, encapsulation, class } = passed;
        Self { from, local, class, encapsulation, relayed: true }
    }
}

/// What another node passed on to a shard.
pub(crate) enum PassedIn {
    Esp(Vec<u8>, Origin),
    /// A packet of a tenant, for a tunnel.
    Inner(Arc<Tenant>, Vec<u8>),
}

/// To one shard, from any thread. Packets have a queue of their own, so that no command ever waits for them.
#[derive(Clone)]
pub(crate) struct PassedSender {
    sender: SyncSender<PassedIn>,
    bell: Bell,
}

/// The end of the shard.
pub(crate) struct PassedReceiver {
    receiver: Receiver<PassedIn>,
    bell: Bell,
}

impl PassedReceiver {
    /// To be called before [`Self::next`], until there is none.
    pub(crate) fn looks(&self) {
        self.bell.heard();
    }

    /// The next packet, if there is one.
    pub(crate) fn next(&self) -> Option<PassedIn> {
        self.receiver.try_recv().ok()
    }
}

impl PassedSender {
    pub(crate) fn new(waker: Arc<Waker>) -> (Self, PassedReceiver) {
        let (sender, receiver) = sync_channel(QUEUE_PACKETS);
        let bell = Bell::new(waker);
        (Self { sender, bell: bell.clone() }, PassedReceiver { receiver, bell })
    }

    /// False when there is no room.
    pub(crate) fn try_send(&self, packet: PassedIn) -> bool {
        let sent = self.sender.try_send(packet).is_ok();
        self.bell.ring();
        sent
    }
}

/// As many as a ring between two threads has.
const QUEUE_PACKETS: usize = crate::handoff::RING_PACKETS;
