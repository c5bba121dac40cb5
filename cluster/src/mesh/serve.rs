//! The answering side of a lane: one question after the other, and as many answers written at a time as there are.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};

use tokio::task::coop::consume_budget;

use super::Lane;
use super::ask::answer;
use super::counters::Counters;
use super::frame::{Decoder, Frame, MAX_BODY, encode};
use super::peer::{Inner, Peer};

/// Octets of answers that wait for others to be written with them.
const TOGETHER: usize = 256 << 10;

/// Until the stream ends. A question that has been begun is carried to its end.
pub(super) async fn serve(
    inner: &Inner,
    peer: &Peer,
    connection: &Connection,
    lane: Lane,
    send: SendStream,
    mut recv: RecvStream,
) {
    let [checkpoint, control] = &peer.answering;
    let answering = match lane {
        Lane::Checkpoint => checkpoint,
        Lane::Control => control,
    };
    let (mut decoder, mut answers) = (Decoder::default(), Answers { send, frames: Vec::new(), octets: 0 });
    loop {
        let Frame { number, kind, body } = match decoder.take() {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                if answers.write().await.is_none() {
                    return;
                }
                let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await else { return };
                inner.hear(peer);
                decoder.feed(chunk.bytes);
                continue;
            }
            Err(error) => return tracing::warn!(node = %peer.name, %error, "a question cannot be read"),
        };
        // Streams that have something are never waited for, and tasks that this one wakes are on its thread.
        consume_budget().await;
        // The last one of an earlier connection may still be at work.
        let turn = match answering.try_lock() {
            Ok(turn) => turn,
            Err(_) => tokio::join!(answers.write(), answering.lock()).1,
        };
        // Whoever asked has been told by now that it is lost, and may have asked again by another connection.
        if connection.close_reason().is_some() {
            return;
        }
        Counters::add(&inner.counters.answered, 1);
        Counters::add(&inner.counters.answered_octets, body.len());
        let mut answer = inner.handler.ask(&peer.name, lane, kind, body);
        // What is answered at once is written together with what comes behind it; nobody waits for one that takes longer.
        let answered = match at_once(&mut answer).await {
            Some(answered) => answered,
            None => tokio::join!(answers.write(), answer).1,
        };
        drop(turn);
        answers.push(number, answered);
        if answers.octets > TOGETHER && answers.write().await.is_none() {
            return;
        }
    }
}

/// Answers that are not written yet.
struct Answers {
    send: SendStream,
    frames: Vec<Frame>,
    octets: usize,
}

impl Answers {
    fn push(&mut self, number: u64, answered: Result<Bytes, String>) {
        let fits = |body: Bytes| match body.len() {
            ..=MAX_BODY => Ok(body),
            length => Err(format!("the answer has {length} octets; at most {MAX_BODY} may be sent")),
        };
        let (kind, body) = match answered.and_then(fits) {
            Ok(body) => (answer::DONE, body),
            Err(reason) => (answer::REFUSED, Bytes::from(reason)),
        };
        self.octets += body.len();
        self.frames.push(Frame { number, kind, body });
    }

    /// None if the stream has ended.
    async fn write(&mut self) -> Option<()> {
        self.octets = 0;
        self.send.write_all_chunks(&mut encode(&std::mem::take(&mut self.frames))).await.ok()
    }
}

/// What it comes to if it need not wait.
pub(super) async fn at_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *future).poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}
