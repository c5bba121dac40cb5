//! The asking side of a lane: questions are written as they come, many at a time, and answers come in the same order.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::coop::consume_budget;

use super::counters::Counters;
use super::frame::{Decoder, Frame, MAX_BODY, encode};
use super::peer::{Inner, Peer};
use super::stream::opening;
use super::{Lane, MeshError};

/// Questions without an answer, of a lane: a second's worth of checkpoints at the rate that a node is made for.
const MAX_OPEN: usize = 10_000;
/// Octets of their bodies.
const MAX_OPEN_OCTETS: usize = 64 << 20;
/// Questions that are written at a time.
const TOGETHER: usize = 256;
/// Lanes before streams of gRPC, which may be long.
const PRIORITY: i32 = 1;

/// What an answer's kind says.
pub(super) mod answer {
    /// The body is the answer.
    pub(in crate::mesh) const DONE: u16 = 0;
    /// The body is the reason why there is none, as text.
    pub(in crate::mesh) const REFUSED: u16 = 1;
}

/// Where questions are put.
pub(super) struct Asking {
    queue: UnboundedSender<Question>,
    open: Arc<Semaphore>,
    octets: Arc<Semaphore>,
}

struct Question {
    kind: u16,
    body: Bytes,
    waiting: Waiting,
}

/// Who waits for an answer, and the room that is taken until it is there.
struct Waiting {
    answer: oneshot::Sender<Result<Bytes, MeshError>>,
    _room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// Where they are taken from.
pub(super) struct Questions(UnboundedReceiver<Question>);

impl Asking {
    pub(super) fn new() -> (Self, Questions) {
        // Bounded by what is open, so that who asks never waits.
        let (queue, questions) = mpsc::unbounded_channel();
        let (open, octets) = (Semaphore::new(MAX_OPEN), Semaphore::new(MAX_OPEN_OCTETS));
        (Self { queue, open: Arc::new(open), octets: Arc::new(octets) }, Questions(questions))
    }

    pub(super) fn ask(
        &self,
        node: &str,
        kind: u16,
        body: Bytes,
    ) -> Result<oneshot::Receiver<Result<Bytes, MeshError>>, MeshError> {
        let length = body.len();
        let octets = u32::try_from(length).ok().filter(|_| length <= MAX_BODY);
        let octets = octets.ok_or(MeshError::TooLarge { length, most: MAX_BODY })?;
        let full = |_| MeshError::Full(node.to_owned());
        let room = (
            self.open.clone().try_acquire_owned().map_err(full)?,
            self.octets.clone().try_acquire_many_owned(octets).map_err(full)?,
        );
        let (answer, answered) = oneshot::channel();
        let question = Question { kind, body, waiting: Waiting { answer, _room: room } };
        self.queue.send(question).map_err(|_| MeshError::Away(node.to_owned()))?;
        Ok(answered)
    }
}

impl Questions {
    /// Until the connection ends or the lane cannot be read. What waits for an answer then fails, as it is dropped.
    pub(super) async fn ask(
        mut self,
        inner: Arc<Inner>,
        peer: Arc<Peer>,
        connection: Connection,
        lane: Lane,
    ) {
        let mut batch = Vec::new();
        if self.0.recv_many(&mut batch, TOGETHER).await == 0 {
            return;
        }
        let Ok((mut send, recv)) = connection.open_bi().await else { return };
        let begun = send.set_priority(PRIORITY).is_ok() && send.write_all(&[opening::of(lane)]).await.is_ok();
        if !begun {
            return;
        }
        let (waiting_in, waiting) = mpsc::unbounded_channel();
        tokio::select! {
            () = self.write(batch, send, waiting_in, &inner.counters) => {}
            () = read(recv, waiting, &inner, &peer) => {}
        }
    }

    async fn write(
        &mut self,
        mut batch: Vec<Question>,
        mut send: SendStream,
        waiting: UnboundedSender<(u64, Waiting)>,
        counters: &Counters,
    ) {
        let mut number = 0;
        let mut frames = Vec::new();
        loop {
            // Nobody waits for the answer of one that was given up before it was sent.
            for Question { kind, body, waiting: who } in
                batch.drain(..).filter(|one| !one.waiting.answer.is_closed())
            {
                number += 1;
                Counters::add(&counters.asked, 1);
                Counters::add(&counters.asked_octets, body.len());
                frames.push(Frame { number, kind, body });
                if waiting.send((number, who)).is_err() {
                    return;
                }
            }
            if send.write_all_chunks(&mut encode(&frames)).await.is_err() {
                return;
            }
            frames.clear();
            if self.0.recv_many(&mut batch, TOGETHER).await == 0 {
                return;
            }
        }
    }
}

async fn read(
    mut recv: RecvStream,
    mut waiting: UnboundedReceiver<(u64, Waiting)>,
    inner: &Inner,
    peer: &Peer,
) {
    let (mut decoder, node) = (Decoder::default(), &*peer.name);
    loop {
        let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await else { return };
        inner.hear(peer);
        decoder.feed(chunk.bytes);
        loop {
            let Frame { number, kind, body } = match decoder.take() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return tracing::warn!(node, %error, "an answer cannot be read"),
            };
            let who = waiting.try_recv().ok().filter(|(asked, _)| *asked == number);
            let Some((_, who)) = who else {
                return tracing::warn!(node, number, "an answer is to no question");
            };
            let refused = || MeshError::Refused {
                node: node.to_owned(),
                reason: String::from_utf8_lossy(&body).into_owned(),
            };
            // Who does not wait any more has said so himself.
            let _ = who.answer.send(if kind == answer::DONE { Ok(body) } else { Err(refused()) });
            consume_budget().await;
        }
    }
}
