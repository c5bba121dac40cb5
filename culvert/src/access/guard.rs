//! An answer that streams ends when the credential of its caller does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::access::{Access, Caller};

/// How often a stream on which nothing happens is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A stream of a caller.
pub(crate) struct Guarded {
    body: Option<Body>,
    caller: Arc<Caller>,
    access: Arc<Access>,
    look: Interval,
}

impl Guarded {
    pub(crate) fn new(body: Body, caller: Arc<Caller>, access: Arc<Access>) -> Self {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { body: Some(body), caller, access, look }
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // The tick also wakes the stream for the next look.
        while self.look.poll_tick(cx).is_ready() {}
        let caller = Arc::clone(&self.caller);
        let credential = &caller.credential;
        if self.body.is_some()
            && !credential.is_good(&self.access.catalog, &self.access.tokens, SystemTime::now())
        {
            self.body = None;
            self.access.counters.revoked();
            let status = Status::new(Code::Unauthenticated, format!("{credential} is no longer good"));
            let mut trailers = HeaderMap::new();
            let added = status.add_header(&mut trailers);
            return Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))));
        }
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}
