//! How spans are called, and what their attributes say.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use ike::config::{ChildConfig, Opening, PeerConfig};
use ike::proposal::negotiate::describe;
use ike::wire::numbers::ExchangeType;
use ike::{ChildSa, CloseReason};
use tenants::PeerName;

use crate::span::{Attributes, Value};

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

pub(super) fn set_ends(all: &mut Attributes, local: SocketAddr, remote: SocketAddr) {
    all.set("network.transport", "udp");
    all.set("network.local.address", Value::shown(&local.ip()));
    all.set("network.local.port", local.port());
    all.set("network.peer.address", Value::shown(&remote.ip()));
    all.set("network.peer.port", remote.port());
}

pub(super) fn set_opening(all: &mut Attributes, opening: Opening) {
    all.set("culvert.ike.opening", Value::shown(&opening));
}

pub(super) fn set_spis(all: &mut Attributes, i: u64, r: u64) {
    all.set("culvert.ike.spi.initiator", Value::hex(i, 16));
    all.set("culvert.ike.spi.responder", Value::hex(r, 16));
}

pub(super) fn set_peer(all: &mut Attributes, peer: &PeerName) {
    all.set("culvert.tenant", peer.tenant().id().to_owned());
    all.set("culvert.peer", Value::shown(peer));
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

/// A pair that is there.
pub(super) fn installed(sa: &ChildSa) -> Attributes {
    let (name, choice, encapsulated) = (sa.name.clone(), sa.choice, sa.encapsulated);
    let (spi_in, spi_out, replaces) = (sa.spi_in, sa.spi_out, sa.replaces);
    let (local, remote) = (sa.local_ts.clone(), sa.remote_ts.clone());
    Attributes::of(move |all| {
        all.set("culvert.child.name", name.to_string());
        all.set("culvert.child.spi_in", Value::hex(spi_in.into(), 8));
        all.set("culvert.child.spi_out", Value::hex(spi_out.into(), 8));
        all.set("culvert.child.proposal", Value::shown(&choice));
        all.set("culvert.child.selectors.local", Value::all_shown(&local));
        all.set("culvert.child.selectors.remote", Value::all_shown(&remote));
        all.set("culvert.child.encapsulated", encapsulated);
        if let Some(old) = replaces {
            all.set("culvert.child.replaces", Value::hex(old.into(), 8));
        }
    })
}

/// Why it was closed.
pub(super) fn closed(reason: &CloseReason) -> Attributes {
    let mut all = Attributes::default();
    all.set("culvert.reason", reason.to_string());
    all
}
