//! How the control plane speaks to the router.

use std::net::{IpAddr, SocketAddr};
#[cfg(feature = "fault-injection")]
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use esp::{Mode, SelectorPair, Spi};
#[cfg(feature = "fault-injection")]
use mio::Waker;
use tokio::sync::watch;

use crate::command::{Command, CommandSender};
use crate::control::ControlPorts;
use crate::counters::{Counter, Counters, total};
use crate::directory::Directory;
use crate::elsewhere::PassedSender;
use crate::error::RouterError;
use crate::limiter::TrafficLimits;
use crate::liveness::ThreadDeath;
use crate::model::{ChildSa, Ends, IkeDatagram, TenantId, TunnelConfig, TunnelId};
use crate::options::Encapsulation;
use crate::pair_snapshot::PairSnapshot;
use crate::policy::Policy;
use crate::port::Path;
use crate::registry::{Enlisted, Listing, Registry};
use crate::shard::{Mark, Sa};
use crate::sys::netns::NamespaceId;
use crate::unreachable::Unsent;
use crate::uplink::{Book, Nudge, Nudges};

/// A handle to a running [`crate::Router`]. Cheap to clone, usable from any thread.
///
/// Order of calls for a tunnel: [`add_tenant`](Self::add_tenant) once, [`allocate_spi`](Self::allocate_spi),
/// [`install`](Self::install), [`activate`](Self::activate); for a rekey the same with a new SPI, then
/// [`retire`](Self::retire) and [`remove`](Self::remove) the old one. A pair receives from `install` to `remove`, and
/// sends from `activate` until another pair of its tunnel is activated, or `retire` or `remove`.
///
/// Calls that name an SPI no pair is installed under do nothing: removal and its causes cross on the way.
#[derive(Clone)]
pub struct RouterHandle {
    shared: Arc<Shared>,
}

/// What all handles share.
pub(crate) struct Shared {
    pub(crate) registry: Arc<Mutex<Registry>>,
    /// To the device thread.
    pub(crate) nudges: Nudges,
    pub(crate) deaths: watch::Receiver<Vec<ThreadDeath>>,
    /// Where the devices' routes are.
    pub(crate) book: Arc<Book>,
    /// The node's own, if the system says.
    pub(crate) namespace: Option<NamespaceId>,
    pub(crate) shards: Vec<CommandSender>,
    /// For packets of other nodes, as many as shards or none.
    pub(crate) passed: Vec<PassedSender>,
    pub(crate) tenants: Arc<Directory>,
    pub(crate) listen: Vec<IpAddr>,
    pub(crate) ike_port: u16,
    pub(crate) natt_port: u16,
    /// Which addresses of `listen` have raw ESP.
    pub(crate) raw: Vec<bool>,
    /// Gone once the router has stopped, so that handles left over do not keep the sockets open.
    pub(crate) ports: ArcSwapOption<ControlPorts>,
    /// Those of the threads, and last those of the handles.
    pub(crate) counters: Vec<Arc<Counters>>,
    /// For tests: makes the control thread panic, and what wakes it.
    #[cfg(feature = "fault-injection")]
    pub(crate) control_fault: (Arc<AtomicBool>, Arc<Waker>),
}

impl RouterHandle {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shared.shards.len()
    }

    /// Installs a pair of SAs. It receives from now on; to send on it, call [`activate`](Self::activate).
    ///
    /// The SPI must come from [`allocate_spi`](Self::allocate_spi), and belongs to the pair from here on: after an error
    /// nothing is installed and the SPI is free again.
    pub fn install(&self, sa: ChildSa) -> Result<(), RouterError> {
        self.install_with(sa, |_| ())
    }

    /// As [`install`](Self::install), and what another node needs to go on with the pair, as it is before its first packet.
    ///
    /// # Errors
    /// As those of [`install`](Self::install).
    pub fn install_told(&self, sa: ChildSa) -> Result<PairSnapshot, RouterError> {
        self.install_with(sa, Sa::snapshot)
    }

    fn install_with<T>(&self, sa: ChildSa, look: impl FnOnce(&Sa) -> T) -> Result<T, RouterError> {
        let spi = sa.inbound_spi;
        let ends = sa.ends();
        let checked = self.check(&ends, &sa.selectors);
        let mtu = Sa::path_mtu(&ends, &sa.options, Instant::now());
        // The lock is held until the command is sent, so that commands for one SPI reach its shard in order.
        let mut registry = self.registry();
        let mut looked = None;
        let outcome = checked.and_then(|path| {
            self.put(&mut registry, &Listing::from(&sa), |enlisted| {
                let pair = Sa::new(&sa, enlisted, path, mtu)?;
                looked = Some(look(&pair));
                Ok(pair)
            })
        });
        if outcome.is_err() {
            // Does nothing to an SPI that belongs to another pair, or to nobody.
            registry.release_spi(spi);
        }
        outcome.and_then(|()| looked.ok_or(RouterError::Stopped))
    }

    /// Enters a pair and gives it to its shard, or does neither.
    pub(crate) fn put(
        &self,
        registry: &mut Registry,
        listing: &Listing<'_>,
        make: impl FnOnce(Enlisted) -> Result<Sa, RouterError>,
    ) -> Result<(), RouterError> {
        let spi = listing.spi;
        let pair = make(registry.enlist(listing)?);
        let sent = pair.and_then(|mut pair| {
            if registry.expects(spi.slot()) {
                pair.mark = Mark::Early;
            }
            self.shard(spi)?.install(Box::new(pair))
        });
        if sent.is_err() {
            registry.delist(spi);
        }
        sent
    }

    /// What can be said of a pair without the registry: the way of its packets.
    pub(crate) fn check(&self, ends: &Ends, selectors: &SelectorPair) -> Result<Path, RouterError> {
        let Ends { local, remote, encapsulation, mode } = *ends;
        let mut path = Path::find(&self.shared.listen, local, remote).ok_or(RouterError::NotLocal(local))?;
        path.encapsulation = encapsulation;
        if encapsulation == Encapsulation::Raw && !self.has_raw_esp(local) {
            return Err(RouterError::NoRawEsp(local));
        }
        if mode == Mode::Transport && ends.hosts(selectors).is_none() {
            return Err(RouterError::NotHosts);
        }
        if let Some(device) = self.swallower(remote.ip()) {
            return Err(RouterError::Swallowed { remote: remote.ip(), device });
        }
        Ok(path)
    }

    /// Makes the pair the one that its tunnel sends on, instead of the one before; of a pair that is a shard's own, the one that
    /// this shard sends on. Packets that wait for it are sent.
    pub fn activate(&self, spi: Spi) {
        let waits = self.registry().activate(spi);
        self.release(spi, waits);
    }

    /// The same for a pair of another node, unless its tunnel sends on another pair: the peer has begun anew before anybody went on with what
    /// it had, and whoever sends on that is not told.
    pub fn activate_first(&self, spi: Spi) {
        let waits = self.registry().activate_first(spi);
        self.release(spi, waits);
    }

    /// Sends what waits. The registry is not held while the shards are told.
    fn release(&self, spi: Spi, waits: Option<(TenantId, TunnelId)>) {
        if let Some((tenant, tunnel)) = waits {
            self.tell_all(|| Command::Release(tenant, tunnel, spi));
        }
    }

    /// Stops sending on the pair, if its tunnel did; it still receives.
    pub fn retire(&self, spi: Spi) {
        if let Some((_, tunnel)) = self.registry().tunnel_of(spi) {
            tunnel.retire(spi);
        }
    }

    /// Gives a tenant this policy instead of the one before. Running SAs stay; every packet meets the old policy or the
    /// new one.
    pub fn set_policy(&self, tenant: TenantId, policy: Policy) -> Result<(), RouterError> {
        self.registry().set_policy(tenant, policy)
    }

    /// From now on this much of the tenant's packets may pass per second, each way. What is beyond is dropped and counted
    /// (`drop_tenant_limit_in`, `drop_tenant_limit_out`).
    pub fn set_limits(&self, tenant: TenantId, limits: TrafficLimits) -> Result<(), RouterError> {
        self.registry().set_limits(tenant, limits)
    }

    /// Tells of a tunnel as it is configured, whether or not it is up, or of a change. From then on what it protects goes
    /// through it or nowhere, and its tenant's TUN device has routes for it.
    pub fn declare_tunnel(&self, config: TunnelConfig) -> Result<(), RouterError> {
        self.registry().declare(config)
    }

    /// Undoes [`declare_tunnel`](Self::declare_tunnel). Pairs that are installed stay until they are removed, but carry
    /// nothing outwards.
    pub fn undeclare_tunnel(&self, tenant: TenantId, tunnel: TunnelId) {
        if self.registry().undeclare(tenant, tunnel) {
            self.tell_all(|| Command::DropHeld(tenant, tunnel));
        }
    }

    /// Drops the packets that wait for a tunnel: no SA will come.
    pub fn drop_held(&self, tenant: TenantId, tunnel: TunnelId) {
        if self.registry().forget_held(tenant, tunnel) {
            self.tell_all(|| Command::DropHeld(tenant, tunnel));
        }
    }

    /// Ends the use of a pair at once, in both directions: its hard lifetime in seconds is over. What still comes or would go
    /// is dropped and counted (`esp_inbound_expired`, `esp_outbound_expired`). The SPI stays in use until
    /// [`remove`](Self::remove), for the peer may not know yet.
    pub fn expire(&self, spi: Spi) {
        let registry = self.registry();
        if registry.tunnel_of(spi).is_some() {
            self.tell(spi, Command::Expire(spi));
        }
    }

    /// Removes the pair: its keys are wiped and its SPI is free for reuse, as late as possible.
    /// [`crate::RouterEvent::Removed`] follows.
    pub fn remove(&self, spi: Spi) {
        let there = self.registry().strike_out(spi);
        if there {
            self.remove_struck_out(&[spi]);
        }
    }

    /// Takes pairs out of their shards that are struck out of the registry. Their SPIs stay reserved until that is under way,
    /// so that no new pair of the same SPI is taken for the old one. Not under the lock, for a shard may have much to do.
    pub(crate) fn remove_struck_out(&self, pairs: &[Spi]) {
        for some in pairs.chunks(RELEASED_AT_A_TIME) {
            for spi in some {
                self.tell(*spi, Command::Remove(*spi));
            }
            let mut registry = self.registry();
            for spi in some {
                registry.release_spi(*spi);
            }
        }
    }

    /// Sends to `remote` from now on, unless a tenant's device would take what is sent there ([`Self::swallower`]): then it stays with
    /// where it was.
    pub fn set_remote(&self, spi: Spi, remote: SocketAddr) {
        self.send_elsewhere(spi, remote, None);
    }

    /// Sends to `remote` by this encapsulation from now on: a NAT appeared or went. Raw ESP needs
    /// [`has_raw_esp`](Self::has_raw_esp) at our address of the pair; without it what is sent is dropped and counted.
    pub fn set_path(&self, spi: Spi, remote: SocketAddr, encapsulation: Encapsulation) {
        self.send_elsewhere(spi, remote, Some(encapsulation));
    }

    fn send_elsewhere(&self, spi: Spi, remote: SocketAddr, encapsulation: Option<Encapsulation>) {
        // What a device takes comes back as a packet of its tenant's, is sealed and sent there once more, without end.
        if let Some(device) = self.swallower(remote.ip()) {
            return tracing::warn!(%spi, %remote, device, "the peer is not followed there, where a device takes what is sent");
        }
        let registry = self.registry();
        if registry.tunnel_of(spi).is_some() {
            self.tell(spi, Command::SetRemote(spi, remote, encapsulation));
        }
    }

    /// Sends `count` dummy packets (RFC 4303 section 2.6) of `len` octets each, or as large as the path takes, on the pair.
    /// The peer drops them; an onlooker cannot tell them from others. At most [`MAX_DUMMIES`] at once.
    pub fn send_dummies(&self, spi: Spi, count: u16, len: u16) {
        let registry = self.registry();
        if registry.tunnel_of(spi).is_some() {
            self.tell(spi, Command::SendDummies(spi, count.min(MAX_DUMMIES), len));
        }
    }

    /// Whether ESP can be sent and received without UDP at this address of ours.
    pub fn has_raw_esp(&self, local: IpAddr) -> bool {
        let path = Path::find(&self.shared.listen, local, SocketAddr::new(local, 0));
        path.and_then(|path| self.shared.raw.get(path.listener)).is_some_and(|raw| *raw)
    }

    /// Whether there is a socket to send from this address.
    pub fn listens_on(&self, local: IpAddr) -> bool {
        Path::find(&self.shared.listen, local, SocketAddr::new(local, 0)).is_some()
    }

    /// The first address of the family of `remote` that there is a socket for, if it is a certain one.
    pub fn listens_as(&self, remote: IpAddr) -> Option<IpAddr> {
        let fits = |own: &&IpAddr| own.is_ipv4() == remote.is_ipv4() && !own.is_unspecified();
        self.shared.listen.iter().find(fits).copied()
    }

    /// Sends an IKE message; from the NAT traversal port with the marker of RFC 3948. Never blocks.
    ///
    /// A message that the system does not take, or that would go into a tenant's device ([`swallower`](Self::swallower)), is
    /// dropped and counted as one lost on the way would be, and the reason is the result. What becomes of a message on its way
    /// may be told by [`crate::RouterEvent::Unreachable`] later on.
    pub fn send_ike(&self, datagram: IkeDatagram) -> Result<(), Unsent> {
        let sent = self.try_send_ike(&datagram);
        self.count(match &sent {
            Ok(()) => Counter::IkeSent,
            Err(Unsent::Swallowed { .. }) => Counter::IkeSwallowed,
            Err(_) => Counter::IkeSendFailed,
        });
        if let Err(reason) = &sent {
            tracing::debug!(remote = %datagram.remote, %reason, "cannot send an IKE message");
        }
        sent
    }

    fn try_send_ike(&self, datagram: &IkeDatagram) -> Result<(), Unsent> {
        let (local, remote) = (datagram.local.ip(), datagram.remote.ip());
        if let Some(device) = self.swallower(remote) {
            return Err(Unsent::Swallowed { remote, device });
        }
        let ports = self.shared.ports.load();
        let ports = ports.as_ref().ok_or(Unsent::Stopped)?;
        let path = Path::find(&self.shared.listen, local, datagram.remote).ok_or(Unsent::NotLocal(local))?;
        let sent = ports.send(&path, datagram.local.port(), &datagram.bytes);
        sent.map_err(|error| Unsent::new(&error, local, remote, datagram.bytes.len()))
    }

    /// Sends a NAT keepalive (RFC 3948 section 4) from the NAT traversal port, to keep a mapping open that is on our side.
    /// `local` is our address.
    pub fn send_keepalive(&self, local: IpAddr, remote: SocketAddr) {
        let path = Path::find(&self.shared.listen, local, remote);
        if let (Some(path), Some(ports)) = (path, &*self.shared.ports.load()) {
            // The next one follows soon, so a lost one is of no account.
            let _ = ports.send_keepalive(&path);
        }
    }

    /// Every counter, summed over the threads.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        total(self.shared.counters.iter().map(AsRef::as_ref))
    }

    /// The UDP port of IKE.
    pub fn ike_port(&self) -> u16 {
        self.shared.ike_port
    }

    /// The UDP port of IKE and ESP with NAT traversal.
    pub fn natt_port(&self) -> u16 {
        self.shared.natt_port
    }

    /// For the router that stops.
    pub(crate) fn stop(&self) {
        self.shared.ports.store(None);
        for shard in &self.shared.shards {
            // One that has stopped needs not be told.
            let _ = shard.send(Command::Stop);
        }
        self.shared.nudges.send(Nudge::Stop);
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        // A panic under the lock leaves a book that is at worst out of date by one entry.
        self.shared.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shard(&self, spi: Spi) -> Result<&CommandSender, RouterError> {
        self.shared.shards.get(usize::from(spi.shard())).ok_or(RouterError::SpiNotReserved(spi))
    }

    pub(crate) fn tell(&self, spi: Spi, command: Command) {
        if let Err(error) = self.shard(spi).and_then(|shard| shard.send(command)) {
            tracing::debug!(%spi, %error, "command to a shard that is not there");
        }
    }

    pub(crate) fn tell_all(&self, command: impl Fn() -> Command) {
        for shard in &self.shared.shards {
            // A shard that has stopped needs not be told.
            let _ = shard.send(command());
        }
    }

    pub(crate) fn count(&self, counter: Counter) {
        if let Some(own) = self.shared.counters.last() {
            own.count_shared(counter);
        }
    }
}

/// SPIs given back under one hold of the lock: a few microseconds.
const RELEASED_AT_A_TIME: usize = 128;

/// One batch, so that dummies never hold up a turn of the shard.
pub const MAX_DUMMIES: u16 = 64;
