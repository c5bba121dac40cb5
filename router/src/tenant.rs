//! What the control plane and the shards share of a tenant. Everything a packet may reach hangs below its tenant.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use esp::run::Joined;

use crate::forwarding::Forwarding;
use crate::limiter::Limiters;
use crate::model::TenantId;
use crate::policy::{self, Policy};
use crate::published::{Published, Reading};
use crate::sys::clear::ClearSocket;
use crate::sys::device_steering::DeviceSteering;
use crate::sys::prefetch::fetch;
use crate::sys::tun::{Offload, Opened};
use crate::sys::virtio;
use crate::uplink::{Key, UplinkState, UplinkStatus};

/// A tenant.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    /// Its device, if it is to have one.
    device: Option<Key>,
    /// Which tunnel a destination belongs to.
    pub(crate) forwarding: Forwarding,
    /// What may leave, and how. Nothing stands for the policy without rules, which most have.
    policy: Published<Policy>,
    /// How much may pass.
    pub(crate) limiters: Limiters,
    /// The TUN device while it is there.
    attached: ArcSwapOption<Attached>,
    /// What it can do besides packets one by one, for whoever asks with every packet; zero while there is none.
    offload: AtomicU8,
    uplink: ArcSwap<UplinkStatus>,
    /// By which queue packets come from the device, while it is there and that can be said.
    steering: ArcSwapOption<DeviceSteering>,
    /// Those of the TUN device.
    addresses: Vec<IpAddr>,
}

/// What packets reach a TUN device by. The device goes when this does, so the device thread holds it until no shard has it.
pub(crate) struct Attached {
    /// One queue per shard.
    queues: Vec<File>,
    /// Where packets go in that are not to draw their flow to a queue.
    aside: Option<File>,
    /// What the device can do besides packets one by one.
    offload: Offload,
    /// The way out for packets in the clear that no route can tell from others.
    clear: Option<ClearSocket>,
}

impl Attached {
    pub(crate) fn new(opened: Opened, clear: Option<ClearSocket>) -> Self {
        let Opened { queues, aside, offload } = opened;
        Self { queues, aside, offload, clear }
    }

    /// Where a shard writes what came through a tunnel.
    fn entry(&self, shard: usize, aside: bool) -> Option<&File> {
        self.aside.as_ref().filter(|_| aside).or_else(|| self.queue(shard))
    }

    /// What the device can do besides packets one by one.
    pub(crate) fn offload(&self) -> Offload {
        self.offload
    }

    /// The shard's queue.
    pub(crate) fn queue(&self, shard: usize) -> Option<&File> {
        self.queues.get(shard)
    }
}

impl Tenant {
    /// `device` is the one that the tenant is to have, with these addresses.
    pub(crate) fn new(id: TenantId, device: Option<Key>, addresses: Vec<IpAddr>) -> Self {
        let (forwarding, policy) = (Forwarding::default(), Published::default());
        let (attached, offload) = (ArcSwapOption::default(), AtomicU8::new(0));
        let state = if device.is_some() { UplinkState::Pending } else { UplinkState::Up };
        let uplink = ArcSwap::from_pointee(UplinkStatus::new(state));
        let (limiters, steering) = (Limiters::default(), ArcSwapOption::default());
        Self { id, device, forwarding, policy, limiters, attached, offload, uplink, steering, addresses }
    }

    /// Fetches what every packet reads of it besides itself.
    pub(crate) fn fetch_parts(&self) {
        self.forwarding.edition().fetch();
        if let Some(policy) = self.policy.read(&Reading::new()) {
            fetch(policy);
        }
    }

    /// What may leave, and how.
    pub(crate) fn policy<'r>(&self, reading: &'r Reading) -> &'r Policy {
        self.policy.read(reading).unwrap_or(&policy::DEFAULT)
    }

    /// Takes another policy.
    pub(crate) fn set_policy(&self, policy: Policy) {
        self.policy.publish((!policy.is_default()).then_some(policy));
        self.forwarding.edition().next();
    }

    /// How the uplink stands.
    pub(crate) fn uplink(&self) -> Arc<UplinkStatus> {
        self.uplink.load_full()
    }

    pub(crate) fn set_uplink(&self, status: Arc<UplinkStatus>) {
        self.uplink.store(status);
    }

    /// Packets go to this device from now on.
    pub(crate) fn attach(&self, device: Arc<Attached>) {
        let offload = device.offload as u8 + 1;
        self.attached.store(Some(device));
        self.offload.store(offload, Ordering::Release);
    }

    /// Packets find no device from now on.
    pub(crate) fn detach(&self) {
        self.offload.store(0, Ordering::Release);
        self.attached.store(None);
    }

    /// What says by which queue packets come from the device, from now on.
    pub(crate) fn steer_by(&self, steering: Option<Arc<DeviceSteering>>) {
        self.steering.store(steering);
    }

    /// Whether that can be said.
    pub(crate) fn is_steered(&self) -> bool {
        self.steering.load().as_ref().is_some_and(|steering| steering.is_asked())
    }

    /// What is for this network comes by this queue from now on.
    pub(crate) fn lead(&self, network: (IpAddr, u8), queue: u32) {
        if let Some(steering) = &*self.steering.load() {
            steering.lead(network, queue);
        }
    }

    /// What is for this network is nobody's.
    pub(crate) fn forget_lead(&self, network: (IpAddr, u8)) {
        if let Some(steering) = &*self.steering.load() {
            steering.forget(network);
        }
    }

    /// An address of the TUN device that can speak to `peer`.
    pub(crate) fn address_for(&self, peer: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == peer.is_ipv4())
    }

    /// Whether it is an address of the TUN device. Without one there is none.
    pub(crate) fn is_ours(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// The TUN device that the tenant has, or is to have.
    pub(crate) fn device(&self) -> Option<Key> {
        self.device
    }

    /// Whether packets may leave by a TUN device: whether or not it is there now.
    pub(crate) fn has_device(&self) -> bool {
        self.device.is_some()
    }

    /// What the device can do besides packets one by one. `None` when there is none.
    pub(crate) fn offload(&self) -> Option<Offload> {
        Offload::ALL.get(usize::from(self.offload.load(Ordering::Acquire)).checked_sub(1)?).copied()
    }

    /// Writes one packet to the device. `None` when there is none. `aside`: its flow is not to be drawn to this shard.
    pub(crate) fn write(&self, shard: usize, aside: bool, packet: &[u8]) -> Option<io::Result<usize>> {
        self.write_joined(shard, aside, &Joined::single(packet))
    }

    /// Writes a packet or a run of the kind that the device takes. `None` when there is none.
    pub(crate) fn write_joined(
        &self,
        shard: usize,
        aside: bool,
        joined: &Joined<'_>,
    ) -> Option<io::Result<usize>> {
        let attached = self.attached.load();
        let device = attached.as_ref()?;
        let mut queue = device.entry(shard, aside)?;
        Some(match device.offload {
            Offload::None => queue.write(joined.packet),
            Offload::Tcp | Offload::TcpAndUdp => {
                let header = virtio::header_of(joined);
                queue.write_vectored(&[IoSlice::new(&header), IoSlice::new(joined.packet)])
            }
        })
    }

    /// Sends a packet in the clear. `None` when the tenant has no device for that.
    pub(crate) fn send_clear(&self, packet: &[u8]) -> Option<io::Result<()>> {
        let attached = self.attached.load();
        attached.as_ref()?.clear.as_ref().map(|clear| clear.send(packet))
    }
}
