//! The trail of a connection: which exchanges are under way and how long they take, and what a trace tells of each negotiation.
//! The core knows nothing of it: exchanges are told from the headers of what is sent and received, the rest from the core's
//! events.
//!
//! One trace for each negotiation: the first until it has come to a Child SA, then one for each exchange. `message.rs` reads
//! headers, `open.rs` is an exchange, `happened.rs` the core's events, `story.rs` holds spans until a negotiation is over, `words.rs` says how they are called.

mod happened;
mod message;
mod open;
mod story;
mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ike::Failure;
use ike::config::{Opening, PeerConfig};
use ike::wire::numbers::ExchangeType;
use router::IkeDatagram;
use tenants::PeerName;

use crate::env::ConnEnv;
use crate::span::{Attributes, Span, SpanContext, SpanKind, Value};
use message::{Key, Message};
use open::{Open, which_of_old};
use words::{is_informational, name_of, octets, offered, offers, set_ends, set_opening, set_peer, title};

pub(crate) use story::Story;

/// Exchanges of one connection that are watched at a time: a window in each direction, and some.
const MAX_OPEN: usize = 24;
/// Exchanges of IKEv1 whose end is remembered, as their last message may come after it.
const REMEMBERED: usize = 4;
/// How long the first negotiation is waited for to come to a Child SA once the peer is authenticated: longer than quick mode takes
/// with messages lost.
const CHILD_WAIT: Duration = Duration::from_secs(60);

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Taken,
    AnsweredAgain,
    Dropped,
}

impl Received {
    /// By what the connection has counted since.
    pub(crate) const fn of(before: &ike::Counters, after: &ike::Counters) -> Self {
        if after.taken > before.taken {
            Self::Taken
        } else if after.answered_again > before.answered_again {
            Self::AnsweredAgain
        } else {
            Self::Dropped
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Trail {
    open: Vec<Open>,
    /// Exchanges that ended in this turn: what happens in it is theirs.
    ended: Vec<Open>,
    /// None before there is one, which of IKEv2 is never: there are many trails, and most are empty.
    remembered: Option<Box<[Option<Key>; REMEMBERED]>>,
    turn: u32,
    peer: Option<PeerName>,
    /// The first negotiation while it lasts.
    first: Option<Box<Story>>,
    /// Its span once it is over, for later ones to refer to.
    origin: Option<Box<SpanContext>>,
    over: bool,
}

impl Default for Trail {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Trail {
    const fn new(peer: Option<PeerName>, first: Option<Box<Story>>) -> Self {
        Self {
            open: Vec::new(),
            ended: Vec::new(),
            remembered: None,
            turn: 0,
            peer,
            first,
            origin: None,
            over: false,
        }
    }

    /// Of a connection that we begin.
    pub(crate) fn initiate(
        env: &ConnEnv,
        peer: &PeerName,
        config: &Arc<PeerConfig>,
        path: &ike::Path,
        (parent, link): (Option<SpanContext>, Option<SpanContext>),
    ) -> Self {
        let mut first = Story::begin(env, "negotiate", SpanKind::Client, parent, link);
        if let Some(story) = &mut first {
            let (peer, config) = (peer.clone(), config.clone());
            let (local, remote) = (path.local, path.remote);
            story.root.later(move |all| {
                set_peer(all, &peer);
                set_ends(all, local, remote);
                set_opening(all, config.opening());
                all.set("culvert.ike.role", "initiator");
                all.set("culvert.ike.proposals.offered", Value::all_shown(&config.ike_proposals));
                all.set("culvert.child.proposals.offered", offers(&config));
            });
        }
        Self::new(Some(peer.clone()), first)
    }

    /// Of a connection that somebody begins with this message.
    pub(crate) fn respond(env: &ConnEnv, opening: Opening, message: &IkeDatagram) -> Self {
        let IkeDatagram { local, remote, bytes } = message;
        let mut first = Story::begin(env, "negotiate", SpanKind::Server, None, None);
        if let Some(story) = &mut first {
            let (local, remote, bytes) = (*local, *remote, bytes.clone());
            story.root.later(move |all| {
                set_ends(all, local, remote);
                set_opening(all, opening);
                all.set("culvert.ike.role", "responder");
                if opening == Opening::Init {
                    all.set("culvert.ike.proposals.offered", offered(&bytes));
                }
            });
        }
        Self::new(None, first)
    }

    /// Of a connection that another node has had until now: its first negotiation was told there.
    pub(crate) fn moved(peer: &PeerName) -> Self {
        Self::new(Some(peer.clone()), None)
    }

    /// It is known whose it is.
    pub(crate) fn set_peer(&mut self, peer: &PeerName) {
        self.peer = Some(peer.clone());
    }

    /// It was refused at once.
    pub(crate) fn refused(&mut self, env: &ConnEnv, bytes: &[u8], failure: &Failure) {
        self.received(env, bytes, Received::Taken);
        self.over = true;
        if let Some(first) = &mut self.first {
            first.fail(failure);
        }
        self.ended.append(&mut self.open);
        self.end_turn();
    }

    /// The span that what happens now belongs to.
    pub(crate) fn context(&self) -> Option<SpanContext> {
        let own = self.ended.last().or_else(|| self.open.iter().rfind(|open| open.turn == self.turn));
        let own = own.and_then(|open| open.story.as_deref());
        self.first.as_deref().or(own).map(Story::context)
    }

    /// The first negotiation, while it lasts.
    pub(crate) fn first_mut(&mut self) -> Option<&mut Story> {
        self.first.as_deref_mut()
    }

    /// The connection is called.
    pub(crate) fn begin_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        for mut open in self.open.extract_if(.., |open| open.is_stale()).collect::<Vec<_>>() {
            if let Some(story) = &mut open.story {
                story.root.event("abandoned", Attributes::default());
            }
            self.tell(open);
        }
    }

    /// A datagram arrived.
    pub(crate) fn received(&mut self, env: &ConnEnv, bytes: &[u8], what: Received) {
        let Some(message) = Message::of(bytes, false) else { return };
        match (what, self.find(&message.key)) {
            (Received::Dropped, _) => {}
            (Received::AnsweredAgain, at) => {
                if let Some(span) = at.and_then(|at| self.span_of(at)) {
                    span.event("answered_again", Attributes::default());
                }
            }
            (Received::Taken, Some(at)) if message.answers => self.end(env, at),
            (Received::Taken, Some(at)) => {
                if let Some(open) = self.open.get_mut(at) {
                    open.heard = self.turn;
                }
            }
            // An answer that ended nothing is one in parts, or late.
            (Received::Taken, None) if message.answers => {}
            (Received::Taken, None) => self.begin(env, &message, false),
        }
    }

    /// A datagram is sent.
    pub(crate) fn sent(&mut self, env: &ConnEnv, bytes: &[u8]) {
        let Some(message) = Message::of(bytes, true) else { return };
        let turn = self.turn;
        match self.find(&message.key) {
            Some(at) if message.answers => self.end(env, at),
            Some(at) => {
                let again = self.open.get_mut(at).is_some_and(|open| {
                    let again = open.turn != turn && (!message.old || open.ours);
                    open.turn = turn;
                    again
                });
                // The messages of an exchange of IKEv1 all look the same.
                if again
                    && !message.old
                    && let Some(span) = self.span_of(at)
                {
                    let octets = octets(bytes);
                    span.event(
                        "retransmission",
                        Attributes::of(move |all| all.set("culvert.ike.octets", octets)),
                    );
                }
            }
            // The answer to what came again, or the rest of an answer in fragments.
            None if message.answers => {}
            None => self.begin(env, &message, true),
        }
    }

    /// The core says that it has sent something again. In IKEv1 nothing else tells.
    pub(crate) fn sent_again(&mut self) {
        let old = |open: &Open| open.key.is_old();
        if let Some(at) = self.open.iter().rposition(old)
            && let Some(span) = self.span_of(at)
        {
            span.event("retransmission", Attributes::default());
        }
    }

    fn remembers(&self, key: &Key) -> bool {
        self.remembered.as_deref().is_some_and(|keys| keys.contains(&Some(*key)))
    }

    fn find(&self, key: &Key) -> Option<usize> {
        self.open.iter().position(|open| open.key == *key)
    }

    fn span_of(&mut self, at: usize) -> Option<&mut Span> {
        let open = self.open.get_mut(at)?;
        open.span.as_deref_mut().or_else(|| open.story.as_deref_mut().map(|story| &mut story.root))
    }

    fn begin(&mut self, env: &ConnEnv, message: &Message, ours: bool) {
        if self.open.len() >= MAX_OPEN || self.remembers(&message.key) {
            return;
        }
        let kind = if ours { SpanKind::Client } else { SpanKind::Server };
        let (mut span, mut story) = (None, None);
        match &self.first {
            Some(first) => {
                let mut part = first.part(title(message.exchange), kind);
                part.set("culvert.ike.message_id", message.id);
                span = Some(Box::new(part));
            }
            // What lingers answers, and nothing else.
            None if self.over => {}
            None => {
                story =
                    Story::begin(env, name_of(message.exchange), kind, None, self.origin.as_deref().copied());
                if let Some(story) = &mut story {
                    let (peer, exchange, id) = (self.peer.clone(), message.exchange, message.id);
                    story.root.later(move |all| {
                        if let Some(peer) = &peer {
                            set_peer(all, peer);
                        }
                        all.set("culvert.ike.exchange", Value::shown(&exchange));
                        all.set("culvert.ike.message_id", id);
                    });
                    story.quiet = is_informational(message.exchange);
                }
            }
        }
        let (key, exchange, turn) = (message.key, message.exchange, self.turn);
        let open = Open { key, exchange, ours, began: Instant::now(), turn, heard: turn, span, story };
        if message.exchange == ExchangeType::INFORMATIONAL_V1 {
            // Nobody answers it.
            self.ended.push(open);
        } else {
            self.open.push(open);
        }
    }

    fn end(&mut self, env: &ConnEnv, at: usize) {
        let open = self.open.swap_remove(at);
        if open.ours {
            env.outcomes.exchange(open.exchange, open.began.elapsed());
        }
        self.ended.push(open);
    }

    /// An exchange of IKEv1 has come to what it is for; its last message may still be under way.
    fn end_old(&mut self, env: &ConnEnv, exchanges: &[ExchangeType]) {
        if let Some(at) = which_of_old(&self.open, exchanges, self.turn) {
            let remembered = self.remembered.get_or_insert_default();
            remembered.rotate_right(1);
            if let (Some(slot), Some(open)) = (remembered.first_mut(), self.open.get(at)) {
                *slot = Some(open.key);
            }
            self.end(env, at);
        }
    }

    /// How long the exchange took that ended in this turn and was begun by us.
    fn took(&self) -> Option<Duration> {
        self.ended.iter().rev().find(|open| open.ours).map(|open| open.began.elapsed())
    }

    /// The story that what happens now belongs to.
    fn story(&mut self) -> Option<&mut Story> {
        if self.first.is_some() {
            return self.first.as_deref_mut();
        }
        let turn = self.turn;
        let now = self.open.iter_mut().rev().find(|open| open.turn == turn && open.story.is_some());
        self.ended.last_mut().or(now).and_then(|open| open.story.as_deref_mut())
    }

    fn tell(&mut self, ended: Open) {
        match (&mut self.first, ended.span, ended.story) {
            (Some(first), Some(span), _) => first.add(*span),
            (_, _, Some(story)) => story.finish(),
            _ => {}
        }
    }

    /// All of a turn is done: what has ended in it is told.
    pub(crate) fn end_turn(&mut self) {
        for open in std::mem::take(&mut self.ended) {
            self.tell(open);
        }
        let idle = self.open.is_empty();
        let came_to_something = |first: &mut Box<Story>| {
            first.up.is_some_and(|up| (first.child && idle) || up.elapsed() > CHILD_WAIT)
        };
        let over = self.over;
        if let Some(first) = self.first.take_if(|first| over || came_to_something(first)) {
            self.origin = Some(Box::new(first.context()));
            first.finish();
        }
        if self.open.is_empty() {
            // It is empty nearly always, and there are many.
            (self.open, self.ended) = (Vec::new(), Vec::new());
        }
    }

    /// Another connection joins: what it has told ends here.
    pub(crate) fn join(&mut self, other: &mut Self) {
        if let Some(mut story) = other.first.take() {
            if let Some(origin) = &self.origin {
                story.root.links.push(**origin);
            }
            story.root.event("joined", Attributes::default());
            story.finish();
        }
    }

    /// Tells nothing of the first negotiation, as there are too many of its kind.
    pub(crate) fn forgo(&mut self) {
        self.first = None;
    }
}

impl Drop for Trail {
    /// Whatever ends the connection ends what is told of it.
    fn drop(&mut self) {
        if let Some(mut first) = self.first.take() {
            first.root.event("abandoned", Attributes::default());
            first.finish();
        }
    }
}
