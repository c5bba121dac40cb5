//! What the log says of a connection that came up: one line, with the Child SA that came up with it.

use std::net::SocketAddr;

use ike::proposal::IkeChoice;
use ike::supervise::ConnId;

use super::PeerActor;
use super::connection::{hex, told};
use crate::span::SpanContext;
use crate::vocabulary::Established;

/// A connection of which the log says nothing yet. It does once all is known that has come of the same message.
pub(super) struct News {
    id: ConnId,
    spis: (u64, u64),
    addresses: (SocketAddr, SocketAddr),
    initiator: bool,
    choice: Option<IkeChoice>,
    moved: bool,
    span: Option<SpanContext>,
}

impl PeerActor {
    pub(super) fn log_soon(&mut self, id: ConnId, new: &Established) {
        self.log_news(None);
        let (spis, addresses, initiator) = (new.spis, new.addresses, new.initiator);
        let (choice, moved, span) = (new.choice, new.moved, SpanContext::current());
        self.news = Some(News { id, spis, addresses, initiator, choice, moved, span });
    }

    /// Logs a Child SA, with the connection if that is news as well.
    pub(super) fn log_child(&mut self, conn: ConnId, child: &str, rekeyed: bool, moved: bool) {
        if !rekeyed && self.news.as_ref().is_some_and(|news| news.id == conn) {
            self.log_news(Some(child));
        } else {
            tracing::info!(peer = %self.peer.name, child, rekeyed, moved, "Child SA installed");
        }
    }

    /// Logs a connection that is news, and the Child SA that came with it.
    pub(super) fn log_news(&mut self, child: Option<&str>) {
        let Some(news) = self.news.take() else { return };
        let _entered = SpanContext::enter(news.span);
        let (spis, (local, remote), initiator) = (news.spis, news.addresses, news.initiator);
        tracing::info!(
            peer = %self.peer.name, spi_i = %hex(spis.0), spi_r = %hex(spis.1), %local, %remote, initiator,
            proposal = told(news.choice.as_ref()), child,
            "{}", if news.moved { "IKE_SA of another node goes on" } else { "IKE_SA established" }
        );
    }
}
