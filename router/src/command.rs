//! From the control plane to a shard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, sync_channel};

use esp::Spi;
use mio::Waker;
use tokio::sync::oneshot;

use crate::bell::Bell;
use crate::error::RouterError;
use crate::model::{Reserve, SaStats, TenantId, TunnelId};
use crate::options::Encapsulation;
use crate::pair_snapshot::{PairSnapshot, WindowSnapshot};
use crate::shard::Sa;
use crate::tenant::{Attached, Tenant};

/// What a shard is told to do. Commands of one sender are carried out in order.
pub(crate) enum Command {
    Install(Box<Sa>),
    Remove(Spi),
    /// The pair's hard lifetime is over.
    Expire(Spi),
    /// With what carries the packets from now on, if that changes.
    SetRemote(Spi, SocketAddr, Option<Encapsulation>),
    /// Send so many dummy packets with so many octets in each.
    SendDummies(Spi, u16, u16),
    /// Read from the tenant's TUN device.
    Attach(Arc<Tenant>, Arc<Attached>),
    /// Let go of it; dropping the sender says that this is done.
    Detach(TenantId, Sender<()>),
    #[cfg(feature = "fault-injection")]
    Panic,
    /// Send what waits for the tunnel on this pair.
    Release(TenantId, TunnelId, Spi),
    /// Pass on what waits for the tunnel: it is up at this node.
    PassHeld(Arc<Tenant>, TunnelId, u32),
    /// Drop what waits for the tunnel.
    DropHeld(TenantId, TunnelId),
    Reserve(Spi, Reserve),
    /// Skip so many numbers of what is sent.
    Advance(Spi, u64),
    Snapshot(Vec<Spi>, oneshot::Sender<Vec<PairSnapshot>>),
    /// Take these out and hand them over.
    Extract(Vec<Spi>, oneshot::Sender<Vec<Sa>>),
    /// Of at most so many pairs how far they have come, and how many are left.
    Windows(usize, oneshot::Sender<(Vec<WindowSnapshot>, usize)>),
    /// The slot is ours from now on: what waited for it can be opened.
    OpenSlot(u8),
    /// The slot is somebody else's from now on: all pairs of it go.
    CloseSlot(u8),
    Stats(Vec<Spi>, oneshot::Sender<Vec<SaStats>>),
    /// Write this there.
    Beat(Arc<AtomicU64>, u64),
    /// Stand still until the other end is dropped.
    #[cfg(feature = "fault-injection")]
    Stall(Receiver<()>),
    Stop,
}

/// The sending end. Never loses a command: when the queue is full, it wakes the shard and waits for it. A shard never
/// waits for the control plane, so this ends.
#[derive(Clone)]
pub(crate) struct CommandSender {
    sender: SyncSender<Command>,
    bell: Bell,
    /// Installs that the shard was not woken for.
    quiet: Arc<AtomicUsize>,
}

/// The end of the shard.
pub(crate) struct Commands {
    receiver: Receiver<Command>,
    bell: Bell,
}

impl CommandSender {
    pub(crate) fn new(waker: Arc<Waker>) -> (Self, Commands) {
        let (sender, receiver) = sync_channel(QUEUE_COMMANDS);
        let bell = Bell::new(waker);
        (Self { sender, bell: bell.clone(), quiet: Arc::default() }, Commands { receiver, bell })
    }

    pub(crate) fn send(&self, command: Command) -> Result<(), RouterError> {
        self.put(command)?;
        self.bell.ring();
        Ok(())
    }

    /// Sends a command, or gives it back where the queue is full. Never blocks.
    pub(crate) fn offer(&self, command: Command) -> Result<Option<Command>, RouterError> {
        let left = match self.sender.try_send(command) {
            Ok(()) => None,
            Err(TrySendError::Full(command)) => Some(command),
            Err(TrySendError::Disconnected(_)) => return Err(RouterError::Stopped),
        };
        self.bell.ring();
        Ok(left)
    }

    /// Installs a pair when the shard looks next. Nobody wakes it for that: a packet that meets no pair has it carry out its
    /// commands first. To be woken costs as much as a twentieth of all else that a new tunnel costs.
    pub(crate) fn install(&self, sa: Box<Sa>) -> Result<(), RouterError> {
        self.put(Command::Install(sa))?;
        if self.quiet.fetch_add(1, Ordering::Relaxed) % QUIET == QUIET - 1 {
            self.bell.ring();
        }
        Ok(())
    }

    fn put(&self, command: Command) -> Result<(), RouterError> {
        let sent = match self.sender.try_send(command) {
            Ok(()) => true,
            Err(TrySendError::Full(command)) => {
                self.bell.ring();
                self.sender.send(command).is_ok()
            }
            Err(TrySendError::Disconnected(_)) => false,
        };
        if sent { Ok(()) } else { Err(RouterError::Stopped) }
    }
}

impl Commands {
    /// To be called before [`Self::next`], until there is none.
    pub(crate) fn look(&self) {
        self.bell.heard();
    }

    /// The next command, if there is one.
    pub(crate) fn next(&self) -> Option<Command> {
        self.receiver.try_recv().ok()
    }
}

/// Every tunnel of a shard of a thousand rekeying in the same moment is two commands each.
const QUEUE_COMMANDS: usize = 2048;

/// So many pairs wait to be installed at most, while nothing else comes: far from where whoever installs them would wait.
const QUIET: usize = QUEUE_COMMANDS / 8;
