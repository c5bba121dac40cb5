//! The spans of one negotiation while it is told: kept until its end, for only then it is known whether it failed, and failures
//! are always kept.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ike::Failure;
use ike::explain::explain;
use tenants::PeerName;

use super::words::set_peer;
use crate::counters::Inside;
use crate::env::ConnEnv;
use crate::span::{Span, SpanContext, SpanKind, SpanSink};

/// Negotiations that are told at a time: those of a node that has lost all its peers and gets them back. At some 4 KiB each they
/// hold 64 MiB; a further one is not told, and counted.
const MAX_STORIES: u64 = 16_384;
/// Spans of one: its exchanges. IKE_SA_INIT may take three, each policy one more.
const MAX_SPANS: usize = 48;

/// One negotiation.
#[derive(Debug)]
pub(crate) struct Story {
    sink: Arc<dyn SpanSink>,
    /// What the others are parts of.
    pub(super) root: Span,
    done: Vec<Span>,
    /// Something of it failed.
    failed: bool,
    /// Nothing worth telling unless something happens in it.
    pub(super) quiet: bool,
    /// Of the first negotiation: when the peer was authenticated, and whether its Child SA has come or failed.
    pub(super) up: Option<Instant>,
    pub(super) child: bool,
    _place: Inside,
}

impl Story {
    /// Begins one, unless nobody wants any or there are too many. With a parent it is a part of that one's trace.
    pub(crate) fn begin(
        env: &ConnEnv,
        name: &'static str,
        kind: SpanKind,
        parent: Option<SpanContext>,
        links: impl IntoIterator<Item = SpanContext>,
    ) -> Option<Box<Self>> {
        let sink = env.spans.clone()?;
        if env.stories.get() >= MAX_STORIES {
            env.counters.untold.up();
            return None;
        }
        let mut context = parent.map_or_else(SpanContext::root, SpanContext::child);
        // Whoever has begun the trace decides for all of it.
        context.sampled = parent.map_or_else(|| sink.samples(context.trace), |parent| parent.sampled);
        let mut root = Span::begin(context, parent.map(|parent| parent.span), name, kind);
        root.links.extend(links);
        let place = env.stories.enter();
        Some(Box::new(Self {
            sink,
            root,
            done: Vec::new(),
            failed: false,
            quiet: false,
            up: None,
            child: false,
            _place: place,
        }))
    }

    pub(crate) const fn context(&self) -> SpanContext {
        self.root.context
    }

    /// Whose it is.
    pub(crate) fn set_peer(&mut self, peer: &PeerName) {
        let peer = peer.clone();
        self.root.later(move |all| set_peer(all, &peer));
    }

    /// A part of it that begins now.
    pub(super) fn part(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Span {
        let context = self.root.context;
        Span::begin(context.child(), Some(context.span), name, kind)
    }

    /// A part of it has ended.
    pub(super) fn add(&mut self, mut part: Span) {
        part.end = SystemTime::now();
        if self.done.len() < MAX_SPANS {
            self.done.push(part);
        }
    }

    /// Something of it failed.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.fail_by(explain(failure).kind, failure.to_string());
    }

    /// The same for what is no failure of a negotiation.
    pub(crate) fn fail_by(&mut self, cause: &'static str, text: String) {
        self.failed = true;
        self.root.set("error.type", cause);
        self.root.error = Some(text);
    }

    /// It is over, and given away if it failed or was to be recorded.
    pub(crate) fn finish(self) {
        let Self { sink, mut root, mut done, failed, quiet, .. } = self;
        let told = failed || (root.context.sampled && !(quiet && root.events.is_empty()));
        if told {
            root.end = SystemTime::now();
            root.context.sampled = true;
            done.push(root);
            sink.take(done);
        }
    }
}
