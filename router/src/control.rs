//! The control thread: IKE in, and whatever of the NAT traversal port is not ESP of a shard.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use esp::Spi;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::counters::{Counter, Counters};
use crate::datagram::{Datagram, KEEPALIVE, NON_ESP_MARKER};
use crate::elsewhere::Elsewhere;
use crate::entrance::Entrance;
use crate::events::EventSink;
use crate::handoff::{Mailboxes, RING_PACKETS, Task};
use crate::model::IkeDatagram;
use crate::port::{Origin, Path, Port, ReceiveBuffers};
use crate::shard_port::ShardPort;
use crate::slots::{SlotState, Slots};
use crate::sys::error_queue;
use crate::unreachable::{Carries, Unreachable};

/// The sockets of IKE, one of each kind per listener. The control thread receives on them, any thread may send.
pub(crate) struct ControlPorts {
    pub(crate) ike: Vec<Port>,
    pub(crate) natt: Vec<Port>,
}

impl ControlPorts {
    /// Sends an IKE message from the port that `local_port` names.
    pub(crate) fn send(&self, path: &Path, local_port: u16, message: &[u8]) -> io::Result<()> {
        let missing = || io::Error::from(io::ErrorKind::AddrNotAvailable);
        let natt = self.natt.get(path.listener).ok_or_else(missing)?;
        if local_port == natt.local().port() {
            let marked = [&NON_ESP_MARKER, message].concat();
            natt.send(path, &marked)
        } else {
            self.ike.get(path.listener).ok_or_else(missing)?.send(path, message)
        }
    }

    /// Sends a NAT keepalive.
    pub(crate) fn send_keepalive(&self, path: &Path) -> io::Result<()> {
        let natt = self.natt.get(path.listener);
        natt.ok_or(io::ErrorKind::AddrNotAvailable)?.send(path, &KEEPALIVE)
    }
}

/// The control thread, ready to run.
pub(crate) struct Control {
    pub(crate) poll: Poll,
    pub(crate) ports: Arc<ControlPorts>,
    /// Those of the shards, for their ICMP errors.
    pub(crate) shard_ports: Vec<Arc<[ShardPort]>>,
    pub(crate) inner: Inner,
    pub(crate) stop: Arc<AtomicBool>,
    /// A test wants a panic.
    #[cfg(feature = "fault-injection")]
    pub(crate) fault: Arc<AtomicBool>,
}

/// What a datagram meets.
pub(crate) struct Inner {
    pub(crate) counters: Arc<Counters>,
    pub(crate) events: EventSink,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) peers: Arc<[Arc<Waker>]>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) elsewhere: Option<Arc<dyn Elsewhere>>,
    pub(crate) entrance: Option<Arc<dyn Entrance>>,
}

impl Control {
    /// Runs until told to stop.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let ports = self.ports.clone();
        let all: Vec<(&Port, bool)> = ports
            .ike
            .iter()
            .map(|port| (port, false))
            .chain(ports.natt.iter().map(|port| (port, true)))
            .collect();
        for (number, (port, _)) in all.iter().enumerate() {
            self.poll.registry().register(
                &mut SourceFd(&port.fd()),
                Token(FIRST_PORT + number),
                Interest::READABLE,
            )?;
        }
        let watched = self.watched();
        for (number, port) in watched.iter().enumerate().skip(all.len()) {
            error_queue::watch(self.poll.as_raw_fd(), port.fd, Token(FIRST_PORT + number))?;
        }
        let mut readable = vec![true; all.len()];
        let mut failing = vec![true; watched.len()];
        let mut buffers = ReceiveBuffers::new();
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut delivered = true;
        while !self.stop.load(Ordering::Acquire) {
            let busy = readable.contains(&true) || failing.contains(&true);
            let timeout = match (busy, delivered) {
                (true, _) => Some(Duration::ZERO),
                (false, false) => Some(EVENT_RETRY),
                (false, true) => None,
            };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            #[cfg(feature = "fault-injection")]
            if self.fault.load(Ordering::Acquire) {
                crate::liveness::injected();
            }
            for event in &events {
                let Some(number) = event.token().0.checked_sub(FIRST_PORT) else { continue };
                if let Some(readable) = readable.get_mut(number) {
                    *readable = true;
                }
                if event.is_error()
                    && let Some(failing) = failing.get_mut(number)
                {
                    *failing = true;
                }
            }
            let now = Instant::now();
            for ((port, natt), readable) in all.iter().zip(&mut readable) {
                if *readable {
                    *readable = self.inner.receive(now, port, *natt, &mut buffers);
                }
            }
            for (port, failing) in watched.iter().zip(&mut failing) {
                if *failing {
                    *failing = self.inner.take_errors(now, port);
                }
            }
            self.inner.run_inboxes(now);
            self.inner.wake_self();
            delivered = self.inner.events.flush();
        }
        Ok(())
    }
}

/// A socket whose queue of ICMP errors is read. It is open as long as [`Control`] holds its ports.
struct Watched {
    fd: RawFd,
    local: SocketAddr,
    carries: Carries,
}

impl Control {
    /// Those of IKE, those of the NAT traversal port in the order of [`ControlPorts`], and then those of the shards.
    fn watched(&self) -> Vec<Watched> {
        let of = |carries| move |port: &Port| Watched { fd: port.fd(), local: port.local(), carries };
        let shards = || self.shard_ports.iter().flat_map(|ports| ports.iter());
        let raw = shards().filter_map(|ports| ports.raw.as_ref()).map(|raw| Watched {
            fd: raw.fd(),
            local: SocketAddr::new(raw.address(), 0),
            carries: Carries::Esp,
        });
        let natt = self.ports.natt.iter().chain(shards().flat_map(ShardPort::udp_ports));
        self.ports
            .ike
            .iter()
            .map(of(Carries::Ike))
            .chain(natt.map(of(Carries::MarkedIke)))
            .chain(raw)
            .collect()
    }
}

impl Inner {
    /// Takes one batch of a socket; true when there may be more.
    fn receive(&mut self, now: Instant, port: &Port, natt: bool, buffers: &mut ReceiveBuffers) -> bool {
        let batch = match port.receive(buffers) {
            Ok(batch) => batch,
            Err(error) => return self.counters.still_readable(&error),
        };
        self.counters.add(Counter::ReceiveBufferFull, batch.overflowed.into());
        let more = batch.more;
        batch.each(|datagram, origin| {
            if natt {
                self.natt(now, datagram, origin);
            } else {
                self.ike(datagram, origin.local, origin.from);
            }
        });
        more
    }

    /// Takes some ICMP errors of a socket; true when there may be more.
    fn take_errors(&mut self, now: Instant, port: &Watched) -> bool {
        error_queue::take(port.fd, |reported, quoted| {
            self.events.unreachable(now, Unreachable::new(reported, quoted, port.local, port.carries));
        })
    }

    fn natt(&mut self, now: Instant, datagram: &[u8], origin: Origin) {
        match Datagram::classify(datagram) {
            Datagram::Ike => {
                if let Some(message) = datagram.get(NON_ESP_MARKER.len()..) {
                    self.ike(message, origin.local, origin.from);
                }
            }
            Datagram::Esp(spi) => self.esp(now, spi, datagram, origin),
            Datagram::Keepalive => self.counters.count(Counter::NatKeepalive),
            Datagram::Runt => self.counters.count(Counter::Runt),
        }
    }

    fn ike(&mut self, message: &[u8], local: SocketAddr, remote: SocketAddr) {
        if message.is_empty() {
            return self.counters.count(Counter::Runt);
        }
        let datagram = IkeDatagram { local, remote, bytes: message.to_vec() };
        let left = match &self.entrance {
            Some(entrance) => entrance.take(datagram),
            None => Some(datagram),
        };
        match left {
            None => self.counters.count(Counter::IkeReceived),
            Some(datagram) => self.events.send_ike(datagram),
        }
    }

    /// ESP comes here when no shard has its number, be it of another node or of none, or when the kernel joined it with an IKE message.
    fn esp(&mut self, now: Instant, spi: Spi, datagram: &[u8], origin: Origin) {
        if let Some(elsewhere) = &self.elsewhere
            && Slots::is_one(spi.slot())
            && self.slots.state(spi.slot()) == SlotState::Closed
        {
            self.counters.count(Counter::EspReceived);
            let passed = elsewhere.esp(spi.slot(), datagram, origin.into());
            return self.counters.count(if passed { Counter::PassedOn } else { Counter::NotPassedOn });
        }
        let (shard, shards) = (usize::from(spi.shard()), self.peers.len() - 1);
        let outbox = self.mailboxes.outboxes.get_mut(shard).filter(|_| shard < shards);
        let Some(outbox) = outbox else {
            self.counters.count(Counter::EspReceived);
            self.counters.count(Counter::UnknownSpi);
            return self.events.unknown_spi(now, spi, origin.from);
        };
        let taken = outbox.push(Task::Datagram(origin), datagram);
        self.counters.count(if taken { Counter::HandedOver } else { Counter::HandoffFull });
        if taken && let Some(peer) = self.peers.get(shard) {
            wake(peer);
        }
    }

    /// Takes the IKE messages that shards found among their ESP.
    fn run_inboxes(&mut self, now: Instant) {
        for from in 0..self.mailboxes.inboxes.len() {
            for _ in 0..RING_PACKETS {
                let Some(handoff) = self.mailboxes.inboxes.get_mut(from).and_then(|inbox| inbox.pop()) else {
                    break;
                };
                if let Task::Datagram(origin) = handoff.task {
                    self.natt(now, &handoff.packet, origin);
                }
                if let Some(inbox) = self.mailboxes.inboxes.get_mut(from) {
                    inbox.recycle(handoff.packet);
                }
            }
        }
    }

    fn wake_self(&self) {
        if self.mailboxes.inboxes.iter().any(|inbox| !inbox.is_empty())
            && let Some(own) = self.peers.last()
        {
            // More came in than one turn takes.
            wake(own);
        }
    }
}

fn wake(peer: &Waker) {
    if let Err(error) = peer.wake() {
        tracing::debug!(%error, "cannot wake another thread");
    }
}

/// Token of the first socket; the waker's is the one before.
const FIRST_PORT: usize = crate::shard::WAKER + 1;
const EVENTS_PER_POLL: usize = 64;
/// How soon to offer events again that the control plane did not take.
const EVENT_RETRY: Duration = Duration::from_millis(5);
