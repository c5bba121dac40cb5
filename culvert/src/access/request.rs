//! The octets of a request: read with a bound by its method, in a time, and as far as there is room beside the requests of others; and weighed
//! before anybody decodes them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use crate::access::budget::{Budget, Share};
use crate::access::methods::Rule;
use crate::access::weight::{Heavy, weigh};
use crate::status;

/// Octets of a request that only asks: a thousand names are a tenth of it.
const MAX_QUESTION: usize = 1 << 20;
/// Of one that changes something. Larger than anything valid, so that what is too large is refused by the field it is in.
pub(crate) const MAX_REQUEST: usize = 16 << 20;
/// Of one of many objects: a hundred thousand peers of some hundred octets.
pub(crate) const MAX_BATCH_REQUEST: usize = 64 << 20;
/// Of one that is refused anyway, which is read to note what it is about: a name and some more.
const MAX_REFUSED: usize = 16 << 10;
/// What a request takes once it is decoded: the octets that it may have, twice, and many times what a tenant takes with its whole policy.
const MAX_MEMORY: usize = 4 * MAX_REQUEST;
/// One of many objects: as many as may be in one, of the usual size. Such are served one at a time.
pub(crate) const MAX_BATCH_MEMORY: usize = 1 << 30;
/// How long a request may stand still before it is whole: many times what a bad path takes to repeat what was lost.
const STALL: Duration = Duration::from_secs(10);
/// How long it may take in all: the largest of them at 2 Mbit/s.
const WHOLE: Duration = Duration::from_secs(300);
/// A message in HTTP/2: whether it is compressed, and four octets of length.
const FRAME: usize = 5;

/// What a request holds of the node, for as long as this lives.
pub(crate) struct Held {
    _share: Share,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// What has come of it, and its turn if it is worth one.
    pub(super) const fn new(share: Share, turn: Option<OwnedSemaphorePermit>) -> Self {
        Self { _share: share, _turn: turn }
    }
}

/// Reads a request of this method, with its frame, and weighs it. `read`: it is decoded here as well.
pub(crate) async fn receive(
    body: Body,
    rule: &Rule,
    method: &str,
    read: bool,
    budget: &Arc<Budget>,
    mut share: Share,
) -> Result<(Bytes, Held), Status> {
    let (octets, memory) = match (is_batch(method), rule.is_audited()) {
        (true, _) => (MAX_BATCH_REQUEST, MAX_BATCH_MEMORY),
        (false, true) => (MAX_REQUEST, MAX_MEMORY),
        (false, false) => (MAX_QUESTION, MAX_MEMORY),
    };
    let body = whole(body, octets, &mut share).await?;
    let message = frame(&body).ok_or_else(no_message)?;
    let weight = weigh(&rule.request, message, read, memory).map_err(|heavy| match heavy {
        Heavy::Broken => no_message(),
        Heavy::At(field) => {
            let most = memory >> 20;
            status::invalid(
                &field,
                format!("has too many elements: the request would take more than {most} MiB"),
            )
        }
    })?;
    let busy = || Status::resource_exhausted("other large requests are being served; try again in a moment");
    let turn = budget.turn(share.caller(), weight).await.ok_or_else(busy)?;
    Ok((body, Held::new(share, turn)))
}

/// Whether a method is about many objects at once.
pub(crate) fn is_batch(method: &str) -> bool {
    method.contains("BatchService")
}

/// The message of a request that is refused anyway, for what it names; `None` if it is large.
pub(crate) async fn glance(body: Body, rule: &Rule, mut share: Share) -> Option<Bytes> {
    let body = whole(body, MAX_REFUSED, &mut share).await.ok()?;
    let message = frame(&body)?;
    weigh(&rule.request, message, true, MAX_MEMORY).ok()?;
    Some(body.slice_ref(message))
}

async fn whole(body: Body, most: usize, share: &mut Share) -> Result<Bytes, Status> {
    let late = |_| Status::deadline_exceeded("the request took too long to come");
    timeout(WHOLE, arrival(body, most, share)).await.map_err(late)?
}

async fn arrival(mut body: Body, most: usize, share: &mut Share) -> Result<Bytes, Status> {
    let mut received = BytesMut::new();
    loop {
        let stalled = |_| Status::deadline_exceeded("the request stopped coming");
        let data = match timeout(STALL, body.frame()).await.map_err(stalled)? {
            None => return Ok(received.freeze()),
            Some(Err(_)) => return Err(Status::cancelled("the request was cut")),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        if !share.grow(data.len()) {
            let reason = "too many large requests at a time; try again a moment later";
            return Err(Status::resource_exhausted(reason));
        }
        received.extend_from_slice(&data);
        // What says that it is larger is not waited for.
        let announced = received.first_chunk::<FRAME>().map(|[_, length @ ..]| u32::from_be_bytes(*length));
        let announced = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        let octets = announced.max(received.len().saturating_sub(FRAME));
        if octets > most {
            let reason = format!("the request has {octets} octets; this method takes {most} at most");
            return Err(Status::resource_exhausted(reason));
        }
    }
}

/// The answer to what is no message of its method.
pub(crate) fn no_message() -> Status {
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
