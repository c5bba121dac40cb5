//! How spans are called, and what their attributes say.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use ike::config::{ChildConfig, Opening, PeerConfig};
use ike::proposal::negotiate::describe;
use ike::wire::numbers::ExchangeType;

use crate::span::{Span, Value};

pub(super) const fn is_informational(exchange: ExchangeType) -> bool {
    matches!(exchange, ExchangeType::INFORMATIONAL | ExchangeType::INFORMATIONAL_V1)
}

/// What a negotiation is called that is one exchange, until it is known what it is for.
pub(super) fn name_of(exchange: ExchangeType) -> &'static str {
    match exchange {
        ExchangeType::CREATE_CHILD_SA | ExchangeType::QUICK_MODE => "create Child SA",
        ExchangeType::INFORMATIONAL | ExchangeType::INFORMATIONAL_V1 => "informational",
        ExchangeType::MAIN_MODE | ExchangeType::AGGRESSIVE_MODE => "rekey IKE SA",
        _ => "negotiate",
    }
}

pub(super) fn set_ends(span: &mut Span, local: SocketAddr, remote: SocketAddr) {
    span.set("network.transport", "udp");
    span.set("network.local.address", Value::shown(local.ip()));
    span.set("network.local.port", local.port());
    span.set("network.peer.address", Value::shown(remote.ip()));
    span.set("network.peer.port", remote.port());
}

pub(super) fn set_opening(span: &mut Span, opening: Opening) {
    span.set("culvert.ike.opening", Value::shown(opening));
}

pub(super) fn set_spis(span: &mut Span, i: u64, r: u64) {
    span.set("culvert.ike.spi.initiator", Value::hex(i, 16));
    span.set("culvert.ike.spi.responder", Value::hex(r, 16));
}

/// What IKE_SA_INIT offers, which goes in the clear.
pub(super) fn offered(message: &[u8]) -> Vec<String> {
    let Ok(message) = ike::wire::Message::parse(message) else { return Vec::new() };
    let payloads = ike::wire::Payloads(&message.chain.payloads);
    payloads
        .sa()
        .map(describe)
        .into_iter()
        .flat_map(|all| all.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// What is offered for each child.
pub(super) fn offers(config: &PeerConfig) -> Value {
    let of = |child: &Arc<ChildConfig>| {
        let proposals: Vec<String> = child.proposals.iter().map(ToString::to_string).collect();
        format!("{}: {}", child.name, proposals.join(", "))
    };
    config.children.iter().map(of).collect::<Vec<_>>().into()
}

/// What an exchange is called.
pub(super) fn title(exchange: ExchangeType) -> Cow<'static, str> {
    exchange.name().map_or_else(|| exchange.to_string().into(), Cow::from)
}

pub(super) fn octets(bytes: &[u8]) -> Value {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).into()
}
