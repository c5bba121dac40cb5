//! Where first messages are put: one door for each reception, chosen by the prefix that they come from.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use actix::ArbiterHandle;
use actix::prelude::*;
use ike::config::Opening;
use ike::reception::{Prefix, Settled};
use router::IkeDatagram;

use super::Reception;
use crate::env::NodeEnv;

/// First messages among them. The rest of the room is for negotiations that are under way.
const MAX_WAITING: usize = 1_024;
/// A first message.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Init(pub(super) Opening, pub(super) IkeDatagram, #[allow(dead_code)] pub(super) Ticket);

/// A place among the first messages that wait. Dropping it gives it to another.
pub(super) struct Ticket(Arc<AtomicUsize>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where first messages are put for one reception.
struct Door {
    number: u64,
    thread: ArbiterHandle,
    to: Recipient<Init>,
    waiting: Arc<AtomicUsize>,
}

/// All receptions.
pub(crate) struct Doors {
    doors: Vec<Door>,
    settled: Arc<Mutex<Settled>>,
}

impl Doors {
    /// Opens one for every two threads of peers, each on a thread of its own: then what strangers cost competes with what
    /// tunnels need for the processor alone, and there the system shares it out.
    pub(crate) fn open(env: &Arc<NodeEnv>) -> Self {
        let arbiters = env.arbiters().len();
        let count = Self::count(env);
        let settled: Arc<Mutex<Settled>> = Arc::default();
        let door = |index: usize| {
            // Numbered on from the threads of peers.
            let number = u64::try_from(arbiters + index).unwrap_or(0);
            let thread = Arbiter::new().handle();
            let to = Reception::open(env, number, &thread, &settled);
            Door { number, thread, to, waiting: Arc::default() }
        };
        Self { doors: (0..count).map(door).collect(), settled }
    }

    /// How many there are.
    pub(super) fn count(env: &NodeEnv) -> usize {
        env.arbiters().len().div_ceil(2).max(1)
    }

    /// Their threads.
    pub(crate) fn threads(&self) -> impl Iterator<Item = ArbiterHandle> + use<'_> {
        self.doors.iter().map(|door| door.thread.clone())
    }

    /// Hands a first message to the reception of its prefix, which keeps the accounts of that.
    pub(crate) fn first_message(&mut self, env: &Arc<NodeEnv>, opening: Opening, datagram: IkeDatagram) {
        let count = self.doors.len().max(1);
        let mut hasher = DefaultHasher::new();
        Prefix::of(datagram.remote.ip()).hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % count as u64).unwrap_or(0);
        let Some(door) = self.doors.get_mut(at) else { return };
        let ticket = Ticket(door.waiting.clone());
        if door.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            return env.counters.init_waiting.up();
        }
        match door.to.try_send(Init(opening, datagram, ticket)) {
            Ok(()) => {}
            Err(SendError::Full(_)) => env.counters.ike_overload.up(),
            Err(SendError::Closed(message)) => {
                // It panicked. Whatever was half open begins anew.
                env.counters.panics.up();
                tracing::error!(number = door.number, "a reception panicked and is started again");
                door.to = Reception::open(env, door.number, &door.thread, &self.settled);
                // A message is lost if it panics again at once; its sender repeats it.
                if door.to.try_send(message).is_err() {
                    env.counters.ike_overload.up();
                }
            }
        }
    }
}
