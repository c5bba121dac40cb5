//! Packets that are passed on, as datagrams of a connection.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use quinn::{Connection, SendDatagramError};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::MeshError;
use super::counters::Counters;
use super::datagram::{Datagram, WHOLE_HEADER, read, split, whole};
use super::joiner::{Joiner, MAX_PACKET};
use super::peer::{Inner, Peer};
use super::serve::at_once;

/// Packets that wait to be given to the connection: what threads pass on between two turns of the one that sends.
const MAX_WAITING: usize = 4_096;
/// Octets of them.
const MAX_WAITING_OCTETS: usize = 4 << 20;
/// Datagrams that are read before others have their turn.
const TURN: u64 = 1_024;
/// Packets that are taken at a time.
const TOGETHER: usize = 64;

/// Where packets are put, by any thread.
pub(super) struct Passing {
    queue: mpsc::Sender<Bytes>,
    octets: Arc<AtomicUsize>,
}

/// Where they are taken from.
pub(super) struct Packets {
    queue: mpsc::Receiver<Bytes>,
    octets: Arc<AtomicUsize>,
}

impl Passing {
    pub(super) fn new() -> (Self, Packets) {
        let (sender, queue) = mpsc::channel(MAX_WAITING);
        let octets = Arc::<AtomicUsize>::default();
        (Self { queue: sender, octets: octets.clone() }, Packets { queue, octets })
    }

    pub(super) fn pass(
        &self,
        node: &str,
        kind: u8,
        packet: &[u8],
        counters: &Counters,
    ) -> Result<(), MeshError> {
        let length = packet.len();
        if length > MAX_PACKET {
            Counters::add(&counters.packets_too_large, 1);
            return Err(MeshError::TooLarge { length, most: MAX_PACKET });
        }
        let fits = self.octets.fetch_add(length, Ordering::Relaxed) + length <= MAX_WAITING_OCTETS;
        if !fits || self.queue.try_send(whole(kind, packet)).is_err() {
            self.octets.fetch_sub(length, Ordering::Relaxed);
            Counters::add(&counters.packets_queue_full, 1);
            return Err(MeshError::Full(node.to_owned()));
        }
        Ok(())
    }
}

impl Packets {
    /// Until the connection ends.
    pub(super) async fn send(mut self, connection: Connection, counters: Arc<Counters>) {
        let (mut batch, mut number) = (Vec::new(), 0u32);
        while self.queue.recv_many(&mut batch, TOGETHER).await > 0 {
            for packet in batch.drain(..) {
                let length = packet.len() - WHOLE_HEADER;
                self.octets.fetch_sub(length, Ordering::Relaxed);
                number = number.wrapping_add(1);
                if send(&connection, packet, number).await.is_some() {
                    Counters::add(&counters.packets_sent, 1);
                    Counters::add(&counters.packets_sent_octets, length);
                } else {
                    Counters::add(&counters.packets_unsendable, 1);
                }
            }
        }
    }
}

/// Waits for room, so that it is those which come later that are dropped.
async fn send(connection: &Connection, packet: Bytes, number: u32) -> Option<()> {
    let most = connection.max_datagram_size()?;
    if packet.len() <= most {
        match connection.send_datagram_wait(packet.clone()).await {
            // The path takes less than a moment ago.
            Err(SendDatagramError::TooLarge) => {}
            sent => return sent.ok(),
        }
    }
    let most = connection.max_datagram_size()?;
    for part in split(&packet, number, most)? {
        connection.send_datagram_wait(part).await.ok()?;
    }
    Some(())
}

/// Until the connection ends.
pub(super) async fn read_datagrams(inner: Arc<Inner>, peer: Arc<Peer>, connection: Connection) {
    let mut joiner = Joiner::default();
    let counters = &inner.counters;
    let mut unread = Unread::default();
    loop {
        let mut next = pin!(connection.read_datagram());
        let datagram = match at_once(&mut next).await {
            Some(datagram) => datagram,
            None => {
                Counters::add(&counters.datagrams_unread, unread.all_read(&connection));
                next.await
            }
        };
        let Ok(datagram) = datagram else { return };
        inner.hear(&peer);
        unread.read += 1;
        let (kind, packet) = match read(datagram) {
            Some(Datagram::Heartbeat { hears }) => {
                unread.due = true;
                if peer.hears_us.swap(hears, Ordering::Relaxed) != hears {
                    inner.news.notify_one();
                }
                continue;
            }
            Some(Datagram::Whole { kind, packet }) => (kind, packet),
            Some(Datagram::Part(part)) => {
                let whole = joiner.join(part, Instant::now());
                Counters::add(&counters.packets_incomplete, joiner.dropped());
                let Some(whole) = whole else { continue };
                whole
            }
            None => {
                Counters::add(&counters.datagrams_malformed, 1);
                continue;
            }
        };
        Counters::add(&counters.packets_received, 1);
        Counters::add(&counters.packets_received_octets, packet.len());
        inner.handler.packet(&peer.name, kind, packet);
        // A turn has to take more than what comes by one of the connection, which is some hundred.
        if unread.read.is_multiple_of(TURN) {
            yield_now().await;
        }
    }
}

/// Counts what QUIC has dropped because nobody read it: where nothing waits, that is what came and was not read.
#[derive(Default)]
struct Unread {
    read: u64,
    told: u64,
    /// Once for each heartbeat is enough.
    due: bool,
}

impl Unread {
    /// Nothing waits now: how many are lost since this was asked last.
    fn all_read(&mut self, connection: &Connection) -> usize {
        if !std::mem::take(&mut self.due) {
            return 0;
        }
        let lost = connection.stats().frame_rx.datagram.saturating_sub(self.read);
        let more = lost.saturating_sub(self.told);
        self.told += more;
        usize::try_from(more).unwrap_or(usize::MAX)
    }
}
