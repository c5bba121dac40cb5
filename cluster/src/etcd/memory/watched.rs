//! What watches are told.

use culvert_proto::etcd::{Event, WatchResponse};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::Status;

use super::too_large;

/// An answer, or why there is none.
pub(in crate::etcd) type Told = Result<WatchResponse, Status>;

/// What a watch is told.
pub(in crate::etcd) type Answers = mpsc::UnboundedReceiver<Told>;

/// A watch.
#[derive(Debug)]
pub(super) struct Watched {
    /// The first key, and the end, which is empty for that key alone.
    pub(super) range: (Vec<u8>, Vec<u8>),
    /// The first revision that it is told of, which may be one that is not there yet.
    pub(super) from: i64,
    /// It takes what is too large for an answer in several.
    pub(super) fragment: bool,
    pub(super) tell: mpsc::UnboundedSender<Told>,
}

impl Watched {
    /// Tells of what was written, as far as it is watched, in answers of at most so many octets if that is wished.
    pub(super) fn tell_of(&self, written: &WatchResponse, most: Option<usize>) {
        let (first, end) = &self.range;
        let is_of = |key: &Vec<u8>| if end.is_empty() { key == first } else { key >= first && key < end };
        let of_it = |event: &&Event| {
            event.kv.as_ref().is_some_and(|kv| is_of(&kv.key) && kv.mod_revision >= self.from)
        };
        let events: Vec<Event> = written.events.iter().filter(of_it).cloned().collect();
        if events.is_empty() {
            return;
        }
        let whole = WatchResponse { events, ..written.clone() };
        let Some(most) = most.filter(|most| whole.encoded_len() > *most) else { return self.tell(Ok(whole)) };
        if !self.fragment || whole.events.len() < 2 {
            return self.tell(Err(too_large()));
        }
        self.tell_in_fragments(whole, most);
    }

    /// As etcd does: cut between any two events, those of one write too.
    fn tell_in_fragments(&self, whole: WatchResponse, most: usize) {
        let mut rest = whole.events.as_slice();
        while !rest.is_empty() {
            let mut octets = 0;
            let fit = rest.iter().take_while(|event| {
                octets += event.encoded_len();
                octets <= most
            });
            let (events, after) = rest.split_at(fit.count().max(1));
            rest = after;
            let (fragment, events) = (!rest.is_empty(), events.to_vec());
            self.tell(Ok(WatchResponse {
                fragment,
                events,
                header: whole.header,
                ..WatchResponse::default()
            }));
        }
    }

    fn tell(&self, told: Told) {
        // Whoever watched may be gone.
        let _ = self.tell.send(told);
    }
}
