//! The thread of a shard: where packets come from, turn by turn.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use esp::run::Run;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::core::{Core, ThreadCommand};
use super::run::packets;
use crate::counters::Counter;
use crate::port::{JOINED_MAX, ReceiveBuffers};
use crate::published::Reading;
use crate::shard_port::{RawPort, ShardPort};
use crate::sys::receive::BUFFERS;
use crate::sys::tun::Offload;
use crate::sys::virtio::{HEADER_LEN, Header, Taken};
use crate::tenant::{Attached, Tenant};

/// A shard, ready to run on a thread of its own.
pub(crate) struct Shard {
    core: Core,
    poll: Poll,
    ports: Arc<[ShardPort]>,
    /// Which sockets may have datagrams, for the poll reports changes only: those of UDP, then those of raw ESP.
    readable: Vec<bool>,
    devices: Vec<Option<DeviceQueue>>,
    /// The device that is read first: of those whose packets found no room in the last turn that had one, the first. Otherwise those before it
    /// would have all the room that there is, turn by turn.
    first: usize,
    buffers: ReceiveBuffers,
    packet: Box<[u8]>,
}

/// The shard's queue of a tenant's TUN device.
struct DeviceQueue {
    tenant: Arc<Tenant>,
    device: Arc<Attached>,
    readable: bool,
    /// Read, but whoever is to seal it had no room. While it waits nothing more is read: the kernel holds the flow back.
    waiting: Option<Waiting>,
}

struct Waiting {
    packet: Vec<u8>,
    run: Option<Run>,
}

impl Waiting {
    fn packets(&self) -> u64 {
        packets(&self.packet, self.run)
    }
}

/// What a turn left undone.
#[derive(Default)]
struct Left {
    packets: bool,
    events: bool,
    /// Held packets are to be dropped then.
    expiry: Option<Instant>,
    stopped: bool,
}

impl Shard {
    pub(crate) fn new(core: Core, poll: Poll, ports: Arc<[ShardPort]>) -> io::Result<Self> {
        let udp = ports.iter().map(|port| Some(port.udp.fd()));
        let raw = ports.iter().map(|port| port.raw.as_ref().map(RawPort::fd));
        for (number, fd) in udp.chain(raw).enumerate() {
            let Some(fd) = fd else { continue };
            poll.registry().register(&mut SourceFd(&fd), Token(FIRST_PORT + number), Interest::READABLE)?;
        }
        Ok(Self {
            core,
            poll,
            readable: vec![true; ports.len() * 2],
            ports,
            devices: Vec::new(),
            first: 0,
            buffers: ReceiveBuffers::new(),
            packet: vec![0; PACKET_MAX].into_boxed_slice(),
        })
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut left = Left { packets: true, ..Left::default() };
        while !left.stopped {
            let timeout = match left {
                Left { packets: true, .. } => Some(Duration::ZERO),
                Left { events: true, .. } => Some(EVENT_RETRY),
                Left { expiry: Some(at), .. } => {
                    // A millisecond more, because the poll counts in whole ones and would find nothing due.
                    Some(at.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
                }
                _ => None,
            };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in &events {
                self.mark_readable(event.token());
            }
            left = self.turn();
        }
        Ok(())
    }

    /// One round: a batch from every source, then everything is sent.
    fn turn(&mut self) -> Left {
        // All that packets of this turn read is read within this.
        let _reading = Reading::new();
        let mut left = Left::default();
        self.core.now = Instant::now();
        left.packets |= self.receive_all();
        let (mut busy, mut without_room) = (0, None);
        let split = self.first.min(self.devices.len());
        for number in (split..self.devices.len()).chain(0..split) {
            if self.read_device(number) {
                left.packets = true;
                busy += 1;
            } else if self.found_no_room(number) {
                without_room = without_room.or(Some(number));
            }
            // Many of them at full speed leave the sockets and the other shards their share, as another turn would.
            if busy == DEVICES_TOGETHER {
                busy = 0;
                left.packets |= self.core.run_inboxes();
                self.core.finish_turn();
                self.readable.fill(true);
                left.packets |= self.receive_all();
            }
        }
        self.first = without_room.unwrap_or(self.first);
        left.packets |= self.core.run_inboxes();
        left.packets |= self.core.run_passed();
        self.core.run_commands();
        self.core.open_waiting();
        for command in std::mem::take(&mut self.core.for_thread) {
            match command {
                ThreadCommand::Attach(tenant, device) => {
                    self.attach(tenant, device);
                    left.packets = true;
                }
                ThreadCommand::Detach(tenant, done) => {
                    self.detach(|queue| queue.tenant.id == tenant);
                    drop(done);
                }
                ThreadCommand::Release(spi, tenant, tunnel) => {
                    self.core.release(spi, (tenant, tunnel));
                }
                ThreadCommand::SendDummies(spi, count, len) => self.core.send_dummies(spi, count, len),
                ThreadCommand::Stop => left.stopped = true,
            }
        }
        left.expiry = self.core.expire_held();
        left.events = !self.core.finish_turn();
        left.packets |= self.core.has_left_something();
        left
    }

    /// Takes one batch of each socket; true when there may be more.
    fn receive_all(&mut self) -> bool {
        (0..self.readable.len()).fold(false, |more, number| self.receive(number) | more)
    }

    fn mark_readable(&mut self, token: Token) {
        let readable = match token.0 {
            WAKER => None,
            number if number >= FIRST_DEVICE => {
                let queue = self.devices.get_mut(number - FIRST_DEVICE).and_then(Option::as_mut);
                queue.map(|queue| &mut queue.readable)
            }
            number => self.readable.get_mut(number - FIRST_PORT),
        };
        if let Some(readable) = readable {
            *readable = true;
        }
    }

    /// Takes one batch of a socket; true when there may be more.
    fn receive(&mut self, number: usize) -> bool {
        let Some(readable) = self.readable.get_mut(number).filter(|readable| **readable) else {
            return false;
        };
        let (core, buffers) = (&mut self.core, &mut self.buffers);
        let received = if let Some(port) = self.ports.get(number) {
            core.counters.count(Counter::ReceiveCalls);
            port.udp.receive(buffers).map(|batch| {
                let told = (batch.overflowed, batch.more);
                batch.together(|some| core.received_together(some));
                told
            })
        } else {
            let port = self.ports.get(number - self.ports.len());
            let Some(raw) = port.and_then(|port| port.raw.as_ref()) else {
                *readable = false;
                return false;
            };
            core.counters.count(Counter::ReceiveCalls);
            raw.receive(buffers, |packet, origin| core.received(packet, origin))
        };
        match received {
            Ok((overflowed, more)) => {
                core.counters.add(Counter::ReceiveBufferFull, overflowed.into());
                *readable = more;
            }
            Err(error) => *readable = core.counters.still_readable(&error),
        }
        *readable
    }

    /// Takes some packets of a device; true when there may be more.
    fn read_device(&mut self, number: usize) -> bool {
        let Some(Some(queue)) = self.devices.get_mut(number) else { return false };
        if let Some(Waiting { packet, run }) = &queue.waiting {
            if !self.core.take_from_device(&queue.tenant, packet, *run) {
                return false;
            }
            queue.waiting = None;
        }
        if !queue.readable {
            return false;
        }
        let Some(mut file) = queue.device.queue(self.core.id) else { return false };
        let offload = queue.device.offload();
        let (mut octets, mut failures) = (0, 0);
        while octets < DEVICE_OCTETS_PER_TURN {
            match file.read(&mut self.packet) {
                Ok(len) => {
                    self.core.counters.count(Counter::TunReadCalls);
                    // A packet costs its header as well.
                    octets += len + DEVICE_PACKET_COST;
                    failures = 0;
                    let Some((packet, run)) =
                        self.packet.get_mut(..len).and_then(|read| finish(read, offload))
                    else {
                        self.core.counters.count(Counter::TunRead);
                        self.core.counters.count(Counter::BadInner);
                        continue;
                    };
                    if !self.core.take_from_device(&queue.tenant, packet, run) {
                        self.core.counters.count(Counter::TunHeldBack);
                        queue.waiting = Some(Waiting { packet: packet.to_vec(), run });
                        return false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    queue.readable = false;
                    return false;
                }
                // Of one packet, which is gone: those behind it would wait for the next to come.
                Err(_) => {
                    self.core.counters.count(Counter::ReceiveFailed);
                    self.core.suspect(&queue.tenant);
                    failures += 1;
                    if failures == DEVICE_FAILURES {
                        queue.readable = false;
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Whether a packet of the device waits for room where it is to be sealed.
    fn found_no_room(&self, number: usize) -> bool {
        self.devices.get(number).and_then(Option::as_ref).is_some_and(|queue| queue.waiting.is_some())
    }

    fn attach(&mut self, tenant: Arc<Tenant>, device: Arc<Attached>) {
        let Some(file) = device.queue(self.core.id) else { return };
        let number = match self.devices.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.devices.push(None);
                self.devices.len() - 1
            }
        };
        let registered = self.poll.registry().register(
            &mut SourceFd(&file.as_raw_fd()),
            Token(FIRST_DEVICE + number),
            Interest::READABLE,
        );
        if let Err(error) = registered {
            tracing::error!(tenant = tenant.id.0, %error, "cannot poll the TUN device");
            return;
        }
        if let Some(slot) = self.devices.get_mut(number) {
            *slot = Some(DeviceQueue { tenant, device, readable: true, waiting: None });
        }
    }

    fn detach(&mut self, which: impl Fn(&DeviceQueue) -> bool) {
        for slot in &mut self.devices {
            let Some(queue) = slot.take_if(|queue| which(queue)) else { continue };
            if let Some(waiting) = &queue.waiting {
                // The only packets that are read and may never be taken.
                self.core.counters.add(Counter::HandoffFull, waiting.packets());
            }
            if let Some(file) = queue.device.queue(self.core.id)
                && let Err(error) = self.poll.registry().deregister(&mut SourceFd(&file.as_raw_fd()))
            {
                tracing::debug!(%error, "cannot stop polling a TUN device");
            }
        }
    }
}

/// Does what the kernel has left undone in a packet from a device. `None` for what it does not say.
fn finish(read: &mut [u8], offload: Offload) -> Option<(&mut [u8], Option<Run>)> {
    if offload == Offload::None {
        return Some((read, None));
    }
    let (header, packet) = Header::split(read)?;
    match header.finish(packet)? {
        Taken::Single => Some((packet, None)),
        Taken::Run(run) => Some((packet, Some(run))),
    }
}

/// Token of the waker, of the first socket, and of the first TUN device.
pub(crate) const WAKER: usize = 0;
const FIRST_PORT: usize = 1;
/// Listen addresses are few; see [`crate::RouterConfig::listen`].
const FIRST_DEVICE: usize = 1 << 16;
const EVENTS_PER_POLL: usize = 256;
/// The most that a TUN device may deliver at once, with its header.
const PACKET_MAX: usize = 65_536 + HEADER_LEN;
/// Two runs of full length, or 64 packets of 1,500 octets: what is sealed of them still is in the cache when it is sent.
const DEVICE_OCTETS_PER_TURN: usize = 128 << 10;
/// Devices that are read before the sockets have their turn again: they may bring as much as a batch of a socket.
const DEVICES_TOGETHER: usize = BUFFERS * JOINED_MAX / DEVICE_OCTETS_PER_TURN;
/// What reading a packet costs besides its octets, in octets.
const DEVICE_PACKET_COST: usize = 548;
/// Reads that fail one after the other until a device is taken for one that has nothing to say, as one that is set down.
const DEVICE_FAILURES: usize = 8;
/// How soon to offer events again that the control plane did not take.
const EVENT_RETRY: Duration = Duration::from_millis(5);
