//! What the control plane and the shards share of a tenant. Everything a packet may reach hangs below its tenant.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use esp::Spi;
use esp::run::Joined;

use crate::edition::Edition;
use crate::forwarding::Forwarding;
use crate::limiter::Limiters;
use crate::model::{TenantId, TunnelId};
use crate::policy::Policy;
use crate::sys::clear::ClearSocket;
use crate::sys::tun::Offload;
use crate::sys::virtio;
use crate::uplink::{Key, UplinkState, UplinkStatus};

/// A tenant.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    /// Its device, if it is to have one.
    device: Option<Key>,
    /// Which tunnel a destination belongs to.
    pub(crate) forwarding: Forwarding,
    /// What may leave, and how.
    pub(crate) policy: ArcSwap<Policy>,
    /// How much may pass.
    pub(crate) limiters: Limiters,
    /// The TUN device while it is there.
    attached: ArcSwapOption<Attached>,
    uplink: ArcSwap<UplinkStatus>,
    /// Those of the TUN device.
    addresses: Vec<IpAddr>,
}

/// What packets reach a TUN device by. The device goes when this does, so the device thread holds it until no shard has it.
pub(crate) struct Attached {
    /// One queue per shard.
    queues: Vec<File>,
    /// What the device can do besides packets one by one.
    offload: Offload,
    /// The way out for packets in the clear that no route can tell from others.
    clear: Option<ClearSocket>,
}

impl Attached {
    pub(crate) fn new((queues, offload): (Vec<File>, Offload), clear: Option<ClearSocket>) -> Self {
        Self { queues, offload, clear }
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
        let (forwarding, policy, attached) =
            (Forwarding::default(), ArcSwap::default(), ArcSwapOption::default());
        let state = if device.is_some() { UplinkState::Pending } else { UplinkState::Up };
        let uplink = ArcSwap::from_pointee(UplinkStatus::new(state));
        let limiters = Limiters::default();
        Self { id, device, forwarding, policy, limiters, attached, uplink, addresses }
    }

    /// Takes another policy, and gives the old one back.
    pub(crate) fn set_policy(&self, policy: Policy) -> Arc<Policy> {
        let old = self.policy.swap(Arc::new(policy));
        self.forwarding.edition().next();
        old
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
        self.attached.store(Some(device));
    }

    /// Packets find no device from now on.
    pub(crate) fn detach(&self) {
        self.attached.store(None);
    }

    /// An address of the TUN device that can speak to `peer`.
    pub(crate) fn address_for(&self, peer: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == peer.is_ipv4())
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
        self.attached.load().as_ref().map(|device| device.offload)
    }

    /// Writes one packet to the device. `None` when there is none.
    pub(crate) fn write(&self, shard: usize, packet: &[u8]) -> Option<io::Result<usize>> {
        self.write_joined(shard, &Joined::single(packet))
    }

    /// Writes a packet or a run of the kind that the device takes. `None` when there is none.
    pub(crate) fn write_joined(&self, shard: usize, joined: &Joined<'_>) -> Option<io::Result<usize>> {
        let attached = self.attached.load();
        let device = attached.as_ref()?;
        let mut queue = device.queue(shard)?;
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

/// A tunnel: which of its pairs it sends on.
pub(crate) struct Tunnel {
    pub(crate) id: TunnelId,
    /// Inbound SPI of that pair; 0 when there is none. The SPI says where the pair is, so this is the whole route.
    current: AtomicU32,
    /// A packet that finds no pair asks for one and waits for it.
    on_demand: AtomicBool,
    /// Some shard holds packets for it.
    held: AtomicBool,
    /// Of the tenant's routes: which tunnels have a pair is a part of them.
    edition: Edition,
}

impl Tunnel {
    pub(crate) fn new(id: TunnelId, edition: &Edition) -> Arc<Self> {
        Arc::new(Self {
            id,
            current: AtomicU32::new(0),
            on_demand: AtomicBool::new(false),
            held: AtomicBool::new(false),
            edition: edition.clone(),
        })
    }

    /// The pair to send on.
    pub(crate) fn current(&self) -> Option<Spi> {
        match self.current.load(Ordering::Acquire) {
            0 => None,
            spi => Some(Spi(spi)),
        }
    }

    /// Sends on this pair from now on. True when packets wait for that: the shards must be told.
    pub(crate) fn activate(&self, spi: Spi) -> bool {
        self.current.store(spi.0, Ordering::SeqCst);
        self.edition.next();
        self.held.swap(false, Ordering::SeqCst)
    }

    /// Notes that a packet waits. The pair to send on after all, when one came up meanwhile: either this sees the pair, or
    /// [`Tunnel::activate`] sees the note.
    pub(crate) fn note_held(&self) -> Option<Spi> {
        self.held.store(true, Ordering::SeqCst);
        match self.current.load(Ordering::SeqCst) {
            0 => None,
            spi => Some(Spi(spi)),
        }
    }

    /// Whether packets waited until now.
    pub(crate) fn forget_held(&self) -> bool {
        self.held.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn is_on_demand(&self) -> bool {
        self.on_demand.load(Ordering::Relaxed)
    }

    pub(crate) fn set_on_demand(&self, on_demand: bool) {
        self.on_demand.store(on_demand, Ordering::Relaxed);
        self.edition.next();
    }

    /// Stops sending on this pair, if the tunnel still does.
    pub(crate) fn retire(&self, spi: Spi) {
        // A failure means that another pair has taken over, which is as good.
        let _ = self.current.compare_exchange(spi.0, 0, Ordering::AcqRel, Ordering::Relaxed);
        self.edition.next();
    }
}
