//! An answer that streams ends when the credential of its caller does.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::access::streams::Streaming;
use crate::access::{Access, Caller};

/// How often a stream on which nothing happens is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A stream of a caller.
pub(crate) struct Guarded {
    stream: Arc<Stream>,
    /// It was told why the stream ended.
    told: bool,
    /// A client that takes nothing has nobody ask for more, so somebody else looks after the stream.
    look: JoinHandle<()>,
}

struct Stream {
    caller: Arc<Caller>,
    access: Arc<Access>,
    state: Mutex<State>,
}

struct State {
    /// `None` once the credential has ended: what was not sent is gone.
    held: Option<(Body, Streaming)>,
    /// Of who waits for more.
    waits: Option<Waker>,
}

impl Guarded {
    pub(crate) fn new(body: Body, caller: Arc<Caller>, access: Arc<Access>, streaming: Streaming) -> Self {
        let state = Mutex::new(State { held: Some((body, streaming)), waits: None });
        let stream = Arc::new(Stream { caller, access, state });
        let looked = Arc::clone(&stream);
        let look = tokio::spawn(async move {
            let mut look = tokio::time::interval(LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                look.tick().await;
                if !looked.goes_on() {
                    return;
                }
            }
        });
        Self { stream, told: false, look }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.look.abort();
    }
}

impl Stream {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the credential is good. If it is not, what the stream has goes.
    fn goes_on(&self) -> bool {
        let credential = &self.caller.credential;
        if credential.is_good(&self.access.catalog, &self.access.tokens, SystemTime::now()) {
            return true;
        }
        let (held, waits) = {
            let mut state = self.state();
            (state.held.take(), state.waits.take())
        };
        if held.is_some() {
            self.access.counters.revoked();
        }
        if let Some(waits) = waits {
            waits.wake();
        }
        false
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.told {
            return Poll::Ready(None);
        }
        if self.stream.goes_on() {
            let mut state = self.stream.state();
            if let Some((body, _)) = &mut state.held {
                let polled = Pin::new(body).poll_frame(cx);
                state.waits = polled.is_pending().then(|| cx.waker().clone());
                return polled;
            }
        }
        self.told = true;
        let reason = format!("{} is no longer good", self.stream.caller.credential);
        let mut trailers = HeaderMap::new();
        let added = Status::new(Code::Unauthenticated, reason).add_header(&mut trailers);
        Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.stream.state().held {
            Some((body, _)) => body.is_end_stream(),
            None => self.told,
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_proto::v1;
    use http_body_util::{BodyExt as _, Full};
    use tenants::{Catalog, Role};

    use super::*;
    use crate::access::caller::Credential;
    use crate::access::streams::{MAX_STREAMS_OF_ONE, Streams};

    fn caller(catalog: &Catalog) -> Arc<Caller> {
        let request = v1::CreateTokenRequest {
            token_id: "t".to_owned(),
            token: Some(v1::Token { role: Role::Viewer.to_proto().into(), ..Default::default() }),
            ..Default::default()
        };
        let (token, _) = catalog.create_token(&request).unwrap();
        let (credential, from) = (Credential::Token(token), "local".to_owned());
        Arc::new(Caller { credential, role: Role::Viewer, tenant: None, from })
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_takes_goes_with_the_credential() {
        let catalog = Arc::new(Catalog::in_memory().unwrap());
        let (access, caller) = (Arc::new(Access::open(Arc::clone(&catalog))), caller(&catalog));
        let streams = Arc::new(Streams::default());
        let body = || Body::new(Full::new(Bytes::from_static(b"held")).map_err(|never| match never {}));
        let guarded = |streaming| Guarded::new(body(), Arc::clone(&caller), Arc::clone(&access), streaming);
        let begin = || streams.begin("a".to_owned());
        // Never asked for anything, as of a client whose window is closed.
        let mut all: Vec<_> = (0..MAX_STREAMS_OF_ONE).map(|_| guarded(begin().unwrap())).collect();
        tokio::time::sleep(10 * LOOK).await;
        assert!(begin().is_none());
        let delete = v1::DeleteTokenRequest { name: "tokens/t".to_owned(), ..Default::default() };
        catalog.delete_token(&delete).unwrap();
        tokio::time::sleep(2 * LOOK).await;
        assert!(begin().is_some());
        // Asked at last, it says why.
        let last = all.pop().unwrap().collect().await.unwrap();
        assert_eq!(last.trailers().unwrap()["grpc-status"], "16");
    }
}
