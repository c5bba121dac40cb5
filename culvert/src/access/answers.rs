//! Answers that are made and that their clients have not taken yet: how much there is of them, in all and of each caller.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

use crate::access::ledger::{Entry, Ledger};

/// Octets of all answers that wait for their clients: some hundred of the largest pages.
const MAX_UNREAD: usize = 512 << 20;
/// Those of one caller, or one tenant: many pages on their way at a time, and a fraction of what there is for all.
const MAX_UNREAD_OF_ONE: usize = 64 << 20;
/// Octets that are handed over at a time. HTTP/2 keeps what it was handed until the client has room for it, so it is handed little.
const PIECE: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Answers(Arc<Ledger>);

impl Default for Answers {
    fn default() -> Self {
        Self(Ledger::new(MAX_UNREAD, MAX_UNREAD_OF_ONE))
    }
}

impl Answers {
    /// An answer of a caller as it waits to be taken. `None` if there is no room for it; one that says what was `done` is never refused,
    /// for it is small, and nobody could tell what has become of the request.
    pub(crate) async fn waiting(&self, of: String, body: Body, done: bool) -> Result<Option<Body>, Status> {
        // What does not stream is there as soon as it is asked for.
        let all = body.collect().await?;
        let trailers = all.trailers().cloned();
        let octets = all.to_bytes();
        let mut held = Arc::clone(&self.0).entry(of);
        if !held.grow(octets.len()) && !done {
            return Ok(None);
        }
        Ok(Some(Body::new(Unread { octets, trailers, _held: held })))
    }
}

/// One that is taken piece by piece.
struct Unread {
    octets: Bytes,
    trailers: Option<HeaderMap>,
    _held: Entry,
}

impl http_body::Body for Unread {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.octets.is_empty() {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let piece = self.octets.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.octets.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.octets.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.octets.len()).unwrap_or(u64::MAX))
    }
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

    #[tokio::test]
    async fn an_answer_comes_out_as_it_went_in_and_holds_its_octets_until_it_is_gone() {
        let answers = Answers::default();
        let waits =
            async |of: &str, octets, done| answers.waiting(of.to_owned(), body(octets), done).await.unwrap();
        let first = waits("a", MAX_UNREAD_OF_ONE - 10, false).await.unwrap();
        assert!(waits("a", 11, false).await.is_none(), "it has not read what it has");
        assert!(waits("a", 11, true).await.is_some() && waits("b", 11, false).await.is_some());
        let read = first.collect().await.unwrap();
        assert_eq!(read.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(read.to_bytes().len(), MAX_UNREAD_OF_ONE - 10);
        assert!(waits("a", 3 * PIECE + 1, false).await.is_some());
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
