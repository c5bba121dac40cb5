//! The octets of a request: read with a bound by its method, in a time, and as far as there is room beside the requests of others; and weighed
//! before anybody decodes them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;

use crate::access::methods::Rule;
use crate::access::weight::{Heavy, weigh};
use crate::status;

/// Octets of a request. Larger than anything valid, so that what is too large is refused by the field it is in.
pub(crate) const MAX_REQUEST: usize = 16 << 20;
/// Of one of many objects: a hundred thousand peers of some hundred octets.
pub(crate) const MAX_BATCH_REQUEST: usize = 64 << 20;
/// What a request takes once it is decoded: the octets that it may have, twice, and many times what a tenant takes with its whole policy.
const MAX_MEMORY: usize = 4 * MAX_REQUEST;
/// One of many objects: as many as may be in one, of the usual size.
pub(crate) const MAX_BATCH_MEMORY: usize = 1 << 30;
/// Of all requests that come or are served: two of the largest.
const ROOM: usize = 2 * (MAX_BATCH_REQUEST + MAX_BATCH_MEMORY);
/// What room is counted in; what is smaller takes none.
const UNIT: usize = 64 << 10;
/// How long a request waits for room: others are served in less.
const WAIT: Duration = Duration::from_secs(10);
/// How long it may take to come, as it holds room meanwhile.
const ARRIVES: Duration = Duration::from_secs(60);
/// A message in HTTP/2: whether it is compressed, and four octets of length.
const FRAME: usize = 5;

/// Room for requests.
pub(crate) struct Room(Arc<Semaphore>);

/// What a request takes of it, for as long as this lives.
pub(crate) struct Taken {
    _octets: Option<OwnedSemaphorePermit>,
    _memory: Option<OwnedSemaphorePermit>,
}

/// A request, with its frame.
pub(crate) struct Read {
    pub(crate) body: Bytes,
    taken: Option<OwnedSemaphorePermit>,
}

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM / UNIT)))
    }
}

impl Room {
    /// Reads a request of this method.
    pub(crate) async fn read(&self, body: Body, method: &str) -> Result<Read, Status> {
        self.read_most(body, if is_batch(method) { MAX_BATCH_REQUEST } else { MAX_REQUEST }).await
    }

    /// The message of a request that is refused anyway, for what it names; `None` if it is large.
    pub(crate) async fn glance(&self, body: Body, rule: &Rule) -> Option<Bytes> {
        let Read { body, .. } = self.read_most(body, UNIT).await.ok()?;
        let message = frame(&body)?;
        weigh(&rule.request, message, true, MAX_MEMORY).ok()?;
        Some(body.slice_ref(message))
    }

    async fn read_most(&self, mut body: Body, most: usize) -> Result<Read, Status> {
        let arrives = async {
            let mut read = BytesMut::new();
            let mut taken = None;
            let mut length = None;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| Status::cancelled("the request was cut"))?;
                let Ok(data) = frame.into_data() else { continue };
                read.extend_from_slice(&data);
                if length.is_none()
                    && let Some([_, octets @ ..]) = read.first_chunk::<FRAME>()
                {
                    let octets = u32::from_be_bytes(*octets) as usize;
                    if octets > most {
                        let reason =
                            format!("the request has {octets} octets; this method takes {most} at most");
                        return Err(Status::resource_exhausted(reason));
                    }
                    taken = self.take(octets).await?;
                    length = Some(octets);
                }
                if length.is_some_and(|length| read.len() > FRAME + length) {
                    return Err(Status::invalid_argument(
                        "more than one message was sent to a method that takes one",
                    ));
                }
            }
            Ok(Read { body: read.freeze(), taken })
        };
        let late = |_| Status::deadline_exceeded(format!("the request did not come within {ARRIVES:?}"));
        tokio::time::timeout(ARRIVES, arrives).await.map_err(late)?
    }

    async fn take(&self, octets: usize) -> Result<Option<OwnedSemaphorePermit>, Status> {
        let units = u32::try_from(octets / UNIT).unwrap_or(u32::MAX);
        if units == 0 {
            return Ok(None);
        }
        let full =
            || Status::resource_exhausted("other large requests are being served; try again in a moment");
        let taken = tokio::time::timeout(WAIT, Arc::clone(&self.0).acquire_many_owned(units)).await;
        // It is never closed.
        taken.map_err(|_| full())?.map(Some).map_err(|_| full())
    }

    /// Weighs a request, and takes room for what it is decoded to. `read`: here as well.
    pub(crate) async fn weigh(
        &self,
        request: Read,
        rule: &Rule,
        method: &str,
        read: bool,
    ) -> Result<(Bytes, Taken), Status> {
        let Read { body, taken } = request;
        let most = if is_batch(method) { MAX_BATCH_MEMORY } else { MAX_MEMORY };
        let message = frame(&body).ok_or_else(no_message)?;
        let memory = weigh(&rule.request, message, read, most).map_err(|heavy| match heavy {
            Heavy::Broken => no_message(),
            Heavy::At(field) => {
                let most = most >> 20;
                status::invalid(
                    &field,
                    format!("has too many elements: the request would take more than {most} MiB"),
                )
            }
        })?;
        let memory = self.take(memory).await?;
        Ok((body, Taken { _octets: taken, _memory: memory }))
    }
}

fn is_batch(method: &str) -> bool {
    method.contains("BatchService")
}

fn no_message() -> Status {
    Status::invalid_argument("the request is no message of its method")
}

/// The one message of a request, which is not compressed as we have not said that we could read that.
pub(crate) fn frame(body: &[u8]) -> Option<&[u8]> {
    let (head, message) = body.split_first_chunk::<FRAME>()?;
    let [compressed, length @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    (*compressed == 0 && length == message.len()).then_some(message)
}

/// A request of this message.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(FRAME + message.len());
    body.put_u8(0);
    // It is not longer than the one that was read, but for the name of a tenant.
    body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    body.put_slice(message);
    body.freeze()
}
