//! Starting and stopping.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwapOption;
use esp::Spi;
use mio::{Poll, Token, Waker};
use tokio::sync::mpsc;

use crate::command::CommandSender;
use crate::config::RouterConfig;
use crate::control::{Control, ControlPorts, Inner};
use crate::counters::Counters;
use crate::directory::Directory;
use crate::elsewhere::PassedSender;
use crate::error::RouterError;
use crate::events::{EventSink, unknown_spi_events};
use crate::handle::{RouterHandle, Shared};
use crate::handoff;
use crate::liveness::Watchman;
use crate::model::RouterEvent;
use crate::port::Listener;
use crate::registry::Registry;
use crate::shard::{Core, CoreParts, Shard, WAKER};
use crate::shard_port::{RawPort, ShardPort};
use crate::slots::Slots;
use crate::spi_pool::first_index;
use crate::spis::Spis;
use crate::sys;
use crate::turns::take_turns;
use crate::uplink::{Book, DeviceParts, DeviceThread, Nudges};

/// A running router: its threads and sockets. Stops when shut down or dropped.
pub struct Router {
    handle: RouterHandle,
    stop: Arc<AtomicBool>,
    control_waker: Arc<Waker>,
    threads: Vec<JoinHandle<()>>,
}

impl Router {
    /// Opens the sockets and starts the threads.
    ///
    /// `events` should have room for a few thousand: IKE messages beyond it are dropped, other events are held back.
    pub fn start(config: RouterConfig, events: mpsc::Sender<RouterEvent>) -> Result<Self, RouterError> {
        validate(&config)?;
        let sockets = Sockets::open(&config)?;
        let shards = config.shards;
        let slots = Arc::new(Slots::new(config.slot));
        let tenants = Arc::<Directory>::default();

        let mut polls = Vec::new();
        let mut wakers = Vec::new();
        for _ in 0..=shards {
            let poll = Poll::new().map_err(RouterError::Io)?;
            wakers.push(Arc::new(Waker::new(poll.registry(), Token(WAKER)).map_err(RouterError::Io)?));
            polls.push(poll);
        }
        let control_waker = wakers.last().cloned().ok_or(RouterError::Stopped)?;
        let peers: Arc<[Arc<Waker>]> = wakers.into();
        // Of the shards, the control thread and the device thread, and last what all others share.
        let counters: Vec<_> = (0..shards + 3).map(|_| Arc::new(Counters::new())).collect();
        let shared_counters = counters.last().cloned().ok_or(RouterError::Stopped)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (mut senders, mut passed_senders) = (Vec::new(), Vec::new());
        let watchman = Watchman::new(stop.clone(), shared_counters);
        let (nudges, nudged) = Nudges::new();
        let mut ready: Vec<(String, Run)> = Vec::new();
        #[cfg(feature = "fault-injection")]
        let control_fault = Arc::new(AtomicBool::new(false));

        let threads = polls.into_iter().zip(handoff::connect(shards + 1)).zip(&counters).zip(&*peers);
        let all_shard_ports: Vec<Arc<[ShardPort]>> = sockets.shards.into_iter().map(Arc::from).collect();
        let mut shard_ports = all_shard_ports.iter();
        let unknown_spi = unknown_spi_events();
        for (id, (((poll, mailboxes), counters), waker)) in threads.enumerate() {
            let sink = EventSink::new(events.clone(), unknown_spi.clone(), counters.clone());
            if let Some(ports) = shard_ports.next() {
                let (sender, commands) = CommandSender::new(waker.clone());
                senders.push(sender);
                let passed = config.elsewhere.as_ref().map(|_| PassedSender::new(waker.clone()));
                let (passed_sender, passed) = passed.unzip();
                passed_senders.extend(passed_sender);
                let core = Core::new(CoreParts {
                    id,
                    slots: slots.clone(),
                    elsewhere: config.elsewhere.clone(),
                    passed,
                    slot_wait: config.slot_wait,
                    tenants: tenants.clone(),
                    ports: ports.clone(),
                    counters: counters.clone(),
                    events: sink,
                    commands,
                    mailboxes,
                    peers: peers.clone(),
                    nudges: nudges.clone(),
                });
                let shard = Shard::new(core, poll, ports.clone()).map_err(RouterError::Io)?;
                ready.push((format!("shard-{id}"), Box::new(move || shard.run())));
            } else {
                let inner = Inner {
                    counters: counters.clone(),
                    events: sink,
                    mailboxes,
                    peers: peers.clone(),
                    slots: slots.clone(),
                    elsewhere: config.elsewhere.clone(),
                    entrance: config.entrance.clone(),
                };
                let control = Control {
                    poll,
                    ports: sockets.control.clone(),
                    shard_ports: all_shard_ports.clone(),
                    inner,
                    stop: stop.clone(),
                    #[cfg(feature = "fault-injection")]
                    fault: control_fault.clone(),
                };
                ready.push((
                    "router-control".to_owned(),
                    Box::new(move || {
                        take_turns();
                        control.run()
                    }),
                ));
            }
        }

        let spis = Spis::new(slots, shards, first_index());
        let registry = Registry::new(spis, tenants.clone(), nudges.clone(), config.huge_pages.clone());
        let registry = Arc::new(Mutex::new(registry));
        let device_counters = counters.get(shards + 1).cloned().ok_or(RouterError::Stopped)?;
        let book = Arc::new(Book::default());
        let devices = DeviceThread::new(DeviceParts {
            nudges: nudged,
            registry: registry.clone(),
            shards: senders.clone(),
            events: EventSink::new(events, unknown_spi, device_counters.clone()),
            counters: device_counters,
            listen: config.listen.clone().into(),
            offload: config.tun_offload,
            book: book.clone(),
        });
        ready.push(("router-devices".to_owned(), Box::new(move || devices.run())));
        let deaths = watchman.deaths();
        let handle = RouterHandle::new(Shared {
            registry,
            nudges,
            deaths,
            book,
            namespace: sys::netns::current().ok(),
            shards: senders,
            passed: passed_senders,
            tenants,
            listen: config.listen,
            ike_port: sockets.ike_port,
            natt_port: sockets.natt_port,
            raw: sockets.raw,
            ports: ArcSwapOption::from(Some(sockets.control)),
            counters,
            #[cfg(feature = "fault-injection")]
            control_fault: (control_fault, control_waker.clone()),
        });
        // From here on a failure drops the router, which stops the threads that run.
        let mut router = Self { handle, stop, control_waker, threads: Vec::new() };
        for (name, run) in ready {
            let watchman = watchman.clone();
            let thread = thread::Builder::new()
                .name(name.clone())
                .spawn(move || watchman.watch(&name, run))
                .map_err(RouterError::Thread)?;
            router.threads.push(thread);
        }
        Ok(router)
    }

    /// A handle for the control plane.
    pub fn handle(&self) -> RouterHandle {
        self.handle.clone()
    }

    /// Stops the threads and waits for them. Keys are wiped. Handles that are left return errors or do nothing.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.handle.stop();
        if let Err(error) = self.control_waker.wake() {
            tracing::debug!(%error, "cannot wake the control thread");
        }
        for thread in self.threads.drain(..) {
            // Panics were reported when they happened.
            let _ = thread.join();
        }
    }
}

/// What a thread does until it is told to stop.
type Run = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// All sockets, sorted by the thread that they are for.
struct Sockets {
    control: Arc<ControlPorts>,
    /// By shard, then by listener.
    shards: Vec<Vec<ShardPort>>,
    /// Which listeners have raw ESP.
    raw: Vec<bool>,
    ike_port: u16,
    natt_port: u16,
}

impl Sockets {
    fn open(config: &RouterConfig) -> Result<Self, RouterError> {
        let (mut ike_port, mut natt_port) = (config.ike_port, config.natt_port);
        let mut control = ControlPorts { ike: Vec::new(), natt: Vec::new() };
        let mut raw = Vec::new();
        let mut shards: Vec<Vec<ShardPort>> = (0..config.shards).map(|_| Vec::new()).collect();
        for address in &config.listen {
            let listener = Listener::open(*address, ike_port, natt_port, config.shards)?;
            // A port that the system chose for the first address is wanted for the others, too.
            ike_port = listener.ike.local().port();
            natt_port = listener.natt_control.local().port();
            control.ike.push(listener.ike);
            control.natt.push(listener.natt_control);
            let raws = if config.raw_esp { raw_ports(*address, config.shards) } else { None };
            raw.push(raws.is_some());
            let raws = raws.into_iter().flatten().map(Some).chain(std::iter::repeat_with(|| None));
            let natt = listener.natt_shards.into_iter().zip(listener.natt_fragmenting).zip(raws);
            for (ports, ((udp, fragmenting), raw)) in shards.iter_mut().zip(natt) {
                ports.push(ShardPort::new(udp, fragmenting, raw));
            }
        }
        Ok(Self { control: Arc::new(control), shards, raw, ike_port, natt_port })
    }
}

/// The sockets for raw ESP, one per shard; `None` where it is not to be had, which is no reason not to start.
fn raw_ports(address: IpAddr, shards: usize) -> Option<Vec<RawPort>> {
    let ports = (0..shards).map(|shard| RawPort::open(address, shard, shards));
    match ports.collect() {
        Ok(ports) => Some(ports),
        Err(error) => {
            tracing::warn!(%address, %error, "no raw ESP (it needs CAP_NET_RAW); ESP goes in UDP");
            None
        }
    }
}

fn validate(config: &RouterConfig) -> Result<(), RouterError> {
    let refuse = |field, reason: String| Err(RouterError::Config { field, reason });
    if config.listen.is_empty() || config.listen.len() > MAX_LISTEN {
        return refuse("listen", format!("1 to {MAX_LISTEN} addresses are needed"));
    }
    if config.shards == 0 || config.shards > usize::from(Spi::MAX_SHARD) + 1 {
        return refuse("shards", format!("{} is not in 1..=64", config.shards));
    }
    let from = u8::from(config.elsewhere.is_none());
    if config.slot < from || config.slot > Spi::MAX_SLOT {
        return refuse("slot", format!("{} is not in {from}..=63", config.slot));
    }
    if config.ike_port == config.natt_port && config.ike_port != 0 {
        return refuse("natt_port", "must differ from ike_port".to_owned());
    }
    Ok(())
}

/// Each address costs two sockets and two to four per shard, and a buffer of 4 MiB for each.
const MAX_LISTEN: usize = 64;
