//! Initiators that share a UDP socket, in one task. What comes in is told apart by the SPIs of its receiver.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ike::Failure;
use ike::reception::{Class, classify};
use tokio_stream::{Stream, StreamExt};

use super::Command;
use super::member::{Member, Outbox, Start};
use super::port::{MAX_RECEIVED, Port, Received};
use crate::engine::meter::Meter;
use crate::host::Spis;

/// Datagrams that are sent before others are made.
const BATCH: usize = 64;
/// Calls that receive before answers are sent and timers looked at; each may bring a batch.
const CALLS: usize = 8;

/// What a group is told.
pub(crate) enum Order {
    /// One more initiator.
    Start(u32, Box<Start>),
    /// A command for one.
    Tell(u32, Command),
    /// A command for all.
    All(Command),
}

/// Where a group talks to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) address: IpAddr,
    pub(crate) ike_port: u16,
    pub(crate) natt_port: u16,
}

pub(crate) struct Group {
    server: Server,
    meter: Arc<Meter>,
    port: Port,
    members: HashMap<u32, Member>,
    spis: Spis,
    timers: BTreeSet<(Instant, u32)>,
    wakes: HashMap<u32, Instant>,
    out: Outbox,
    latencies: Vec<u64>,
}

impl Group {
    /// Opens the socket, from `source` or an address of the system's choice.
    pub(crate) fn open(server: Server, source: Option<IpAddr>, meter: Arc<Meter>) -> std::io::Result<Self> {
        let port = Port::open(SocketAddr::new(server.address, server.ike_port), source)?;
        Ok(Self {
            server,
            meter,
            port,
            members: HashMap::new(),
            spis: Spis::default(),
            timers: BTreeSet::new(),
            wakes: HashMap::new(),
            out: Vec::new(),
            latencies: Vec::new(),
        })
    }

    /// One more initiator, which starts at once.
    pub(crate) fn add(&mut self, id: u32, start: Start) -> Result<(), Failure> {
        let member = Member::start(id, start, self.meter.clone(), self.port.local(), &mut self.spis)?;
        self.members.insert(id, member);
        self.work(id, |_, _| {});
        Ok(())
    }

    /// Runs until no initiator is left and no order can come; if the orders end, all are told to close. With `once` the end
    /// of the last is the end.
    pub(crate) async fn run(
        mut self,
        mut orders: impl Stream<Item = Order> + Unpin,
        once: bool,
    ) -> std::io::Result<()> {
        let mut buffer = vec![0; MAX_RECEIVED];
        let mut ordered = true;
        self.flush().await;
        while !self.members.is_empty() || (ordered && !once) {
            let idle = Instant::now() + Duration::from_secs(3600);
            let next = self.timers.first().map_or(idle, |(at, _)| *at);
            tokio::select! {
                readable = self.port.readable() => {
                    readable?;
                    for _ in 0..CALLS {
                        let Some(Received { from, len, stride }) = self.port.try_receive(&mut buffer)? else { break };
                        let datagrams = buffer.get_mut(..len).unwrap_or_default().chunks_mut(stride);
                        datagrams.for_each(|datagram| self.receive(datagram, from));
                    }
                }
                order = orders.next(), if ordered => match order {
                    Some(order) => self.carry_out(order),
                    None => {
                        ordered = false;
                        self.carry_out(Order::All(Command::Close));
                    }
                },
                () = tokio::time::sleep_until(next.into()) => {}
            }
            self.wake_up().await;
            self.flush().await;
        }
        Ok(())
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Start(id, start) => {
                // One that cannot start has been counted as failed.
                let _ = self.add(id, *start);
            }
            Order::Tell(id, command) => self.work(id, |member, _| member.command(&command)),
            Order::All(command) => {
                let all: Vec<u32> = self.members.keys().copied().collect();
                for id in all {
                    self.work(id, |member, _| member.command(&command));
                }
            }
        }
    }

    fn receive(&mut self, bytes: &mut [u8], from: SocketAddr) {
        if from.ip() != self.server.address {
            return;
        }
        let natt = from.port() == self.server.natt_port;
        match bytes.split_first_chunk::<4>() {
            // The non-ESP marker (RFC 3948 section 2.2).
            Some(([0, 0, 0, 0], message)) if natt => self.receive_ike(from, true, message),
            Some((spi, _)) if natt => {
                let spi = u32::from_be_bytes(*spi);
                if let Some(id) = self.spis.of_esp(spi).or_else(|| self.only()) {
                    let mut latencies = std::mem::take(&mut self.latencies);
                    self.work(id, |member, _| member.receive_esp(bytes, &mut latencies));
                    self.latencies = latencies;
                }
            }
            Some(_) if from.port() == self.server.ike_port => self.receive_ike(from, false, bytes),
            _ => {}
        }
    }

    fn receive_ike(&mut self, from: SocketAddr, natt: bool, bytes: &[u8]) {
        let class = classify(bytes).ok();
        let known = match class {
            Some(Class::Existing(receivers)) => receivers.find(|spi| self.spis.of_ike(spi)),
            _ => None,
        };
        if let Some(id) = known.or_else(|| self.only()) {
            self.work(id, |member, _| member.receive_ike(class, from, natt, bytes));
        }
    }

    /// Who is alone on its socket gets what names nobody as well: the node may begin a phase 1 of IKEv1.
    fn only(&self) -> Option<u32> {
        self.members.keys().next().copied().filter(|_| self.members.len() == 1)
    }

    /// Lets everybody work who is due.
    async fn wake_up(&mut self) {
        let now = Instant::now();
        while let Some((_, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.pop_first();
            self.wakes.remove(&id);
            self.work(id, |member, out| member.wake_up(now, out));
            // A probe says when it was sent, so it does not wait for those of others.
            if self.out.len() >= BATCH {
                self.flush().await;
            }
        }
    }

    /// A turn of one, after which its timer stands anew; who has ended leaves.
    fn work(&mut self, id: u32, work: impl FnOnce(&mut Member, &mut Outbox)) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.turn(&mut self.spis, &mut self.out, work);
        let wake = member.wake();
        if member.is_finished() {
            member.publish();
            self.members.remove(&id);
            self.spis.forget(id);
        }
        let wake = wake.filter(|_| self.members.contains_key(&id));
        let old = match wake {
            Some(at) => self.wakes.insert(id, at),
            None => self.wakes.remove(&id),
        };
        if old != wake {
            old.map(|at| self.timers.remove(&(at, id)));
            wake.map(|at| self.timers.insert((at, id)));
        }
    }

    /// Sends what is to be sent, and counts what has arrived.
    async fn flush(&mut self) {
        self.port.send(&mut self.out, &self.meter).await;
        self.meter.one_way.note_all(&mut self.latencies);
    }
}
