//! Answers that are made and that their clients have not taken yet: how much there is of them, in all and of each caller, and for how long.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use crate::access::ledger::{Entry, Ledger};

/// Octets of an answer that count for nothing: what is not a page or of many objects, so that nobody is kept from that.
const SMALL: usize = 64 << 10;
/// Octets of all larger answers that wait for their clients: some hundred of the largest pages.
const MAX_UNREAD: usize = 512 << 20;
/// Those of one caller, or one tenant: many pages on their way at a time, and a fraction of what there is for all.
const MAX_UNREAD_OF_ONE: usize = 64 << 20;
/// Octets that are handed over at a time. HTTP/2 keeps what it was handed until the client has room for it, so it is handed little.
const PIECE: usize = 16 << 10;
/// For how long a client may take nothing of a larger answer: many times what a bad path takes to repeat what was lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct Answers(Arc<Ledger>);

impl Default for Answers {
    fn default() -> Self {
        Self(Ledger::new(MAX_UNREAD, MAX_UNREAD_OF_ONE))
    }
}

impl Answers {
    /// Whether a caller has not so much to read that it is to ask for nothing whose answer says what was done.
    pub(crate) fn has_room(&self, of: &str) -> bool {
        self.0.has_room(of)
    }

    /// An answer of a caller as it waits to be taken. `None` if there is no room for it; one that says what was `done` is never refused,
    /// for nobody could tell what has become of the request.
    pub(crate) async fn waiting(&self, of: String, body: Body, done: bool) -> Result<Option<Body>, Status> {
        // What does not stream is there as soon as it is asked for.
        let all = body.collect().await?;
        let trailers = all.trailers().cloned();
        let octets = all.to_bytes();
        if octets.len() <= SMALL {
            return Ok(Some(Body::new(Small { octets: Some(octets).filter(|o| !o.is_empty()), trailers })));
        }
        let mut held = Arc::clone(&self.0).entry(of);
        if !held.grow(octets.len()) {
            if !done {
                return Ok(None);
            }
            held.exceed(octets.len());
        }
        Ok(Some(Body::new(Unread::new(octets, trailers, held))))
    }
}

/// One that is handed over as it is. It knows when nothing of it is left: an answer that is an error ends with its header.
struct Small {
    octets: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for Small {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let data = self.octets.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.octets.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        exactly(self.octets.as_ref().map_or(0, Bytes::len))
    }
}

/// One that is taken piece by piece, and given up when nobody takes it.
struct Unread {
    rest: Arc<Mutex<Option<Rest>>>,
    patience: JoinHandle<()>,
}

struct Rest {
    octets: Bytes,
    trailers: Option<HeaderMap>,
    taken: Instant,
    _held: Entry,
}

fn locked(rest: &Mutex<Option<Rest>>) -> MutexGuard<'_, Option<Rest>> {
    rest.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Unread {
    fn new(octets: Bytes, trailers: Option<HeaderMap>, held: Entry) -> Self {
        let rest = Rest { octets, trailers, taken: Instant::now(), _held: held };
        let rest = Arc::new(Mutex::new(Some(rest)));
        let watched = Arc::clone(&rest);
        // A client that takes nothing has nobody ask for more, so somebody else looks after it.
        let patience = tokio::spawn(async move {
            loop {
                let until = locked(&watched).as_ref().map(|rest| rest.taken + PATIENCE);
                let Some(until) = until else { return };
                if until <= Instant::now() {
                    return drop(locked(&watched).take());
                }
                tokio::time::sleep_until(until).await;
            }
        });
        Self { rest, patience }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.patience.abort();
        // Who looked after it may be a while in going.
        drop(locked(&self.rest).take());
    }
}

impl http_body::Body for Unread {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut rest = locked(&self.rest);
        let Some(rest) = rest.as_mut() else {
            return Poll::Ready(Some(Err(Status::deadline_exceeded("the answer was not read in time"))));
        };
        if rest.octets.is_empty() {
            return Poll::Ready(rest.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        rest.taken = Instant::now();
        let piece = rest.octets.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(rest.octets.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        locked(&self.rest).as_ref().is_some_and(|rest| rest.octets.is_empty() && rest.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        locked(&self.rest).as_ref().map_or_else(SizeHint::default, |rest| exactly(rest.octets.len()))
    }
}

fn exactly(octets: usize) -> SizeHint {
    SizeHint::with_exact(u64::try_from(octets).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn body(octets: usize) -> Body {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let data = Full::new(Bytes::from(vec![7; octets])).map_err(|never| match never {});
        Body::new(data.with_trailers(std::future::ready(Some(Ok(trailers)))))
    }

    async fn waits(answers: &Answers, of: &str, octets: usize, done: bool) -> Option<Body> {
        answers.waiting(of.to_owned(), body(octets), done).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_comes_out_as_it_went_in_and_holds_its_octets_until_it_is_gone() {
        let answers = Answers::default();
        let large = 1 << 20;
        let first = waits(&answers, "a", MAX_UNREAD_OF_ONE - 10, false).await.unwrap();
        assert!(answers.has_room("a"));
        assert!(waits(&answers, "a", large, false).await.is_none(), "it has not read what it has");
        assert!(waits(&answers, "a", SMALL, false).await.is_some(), "that is for everybody");
        let done = waits(&answers, "a", large, true).await;
        assert!(done.is_some() && !answers.has_room("a") && answers.has_room("b"));
        assert!(waits(&answers, "b", large, false).await.is_some());
        drop(done);
        let read = first.collect().await.unwrap();
        assert_eq!(read.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(read.to_bytes().len(), MAX_UNREAD_OF_ONE - 10);
        assert!(waits(&answers, "a", large, false).await.is_some());
        for octets in [0, 1, SMALL] {
            let small = waits(&answers, "a", octets, false).await.unwrap().collect().await.unwrap();
            assert_eq!(small.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(small.to_bytes().len(), octets);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up_and_one_that_is_taken_slowly_is_not() {
        let answers = Answers::default();
        let mut slow = waits(&answers, "a", 3 * PIECE + SMALL, false).await.unwrap();
        let mut deaf = waits(&answers, "b", MAX_UNREAD_OF_ONE, false).await.unwrap();
        for _ in 0..4 {
            tokio::time::sleep(PATIENCE * 2 / 3).await;
            assert!(slow.frame().await.unwrap().is_ok());
        }
        assert!(answers.has_room("b"), "its octets are given back");
        assert!(deaf.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_an_error() {
        let broken = StreamBody::new(tokio_stream::iter([
            Ok(Frame::data(Bytes::from_static(b"half"))),
            Err(Status::internal("broken")),
        ]));
        let answered = Answers::default().waiting("a".to_owned(), Body::new(broken), false).await;
        assert_eq!(answered.err().map(|status| status.message().to_owned()).as_deref(), Some("broken"));
    }
}
