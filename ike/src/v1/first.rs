//! The first message of phase 1 as the responder reads it: what is a first message, and what of its offer is chosen.

use super::announced::Announced;
use super::handshake::Chosen;
use super::keys::Suite;
use super::offer;
use super::wire::{
    self, Chain, Exchange, HEADER_LEN, Header, NotifyType, PayloadType, Payloads, parse_chain, rules,
};
use crate::failure::Failure;
use crate::proposal::{Candidates, negotiate};
use crate::reception::MAX_FIRST_MESSAGE;
use crate::wire::WireError;
use crate::wire::numbers::ExchangeType;
use crate::wire::sa::Proposal;

/// A first message that was decoded, and what was chosen of it.
pub(crate) struct First<'a> {
    pub(crate) header: Header,
    pub(crate) chain: &'a Chain,
    pub(crate) chosen: Chosen,
    pub(crate) suite: Suite,
    pub(crate) answer: wire::Sa,
    pub(crate) peer: Announced,
}

/// Decodes a first message.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Header, Chain), Failure> {
    let malformed = |exchange, error| Failure::Malformed { exchange: ExchangeType(exchange), error };
    if bytes.len() > MAX_FIRST_MESSAGE {
        return Err(malformed(Exchange::MAIN.0, WireError::TooLong(bytes.len())));
    }
    let header = Header::parse(bytes).map_err(|error| malformed(Exchange::MAIN.0, error))?;
    let exchange = header.exchange.0;
    let fits = matches!(header.exchange, Exchange::MAIN | Exchange::AGGRESSIVE)
        && !header.encrypted
        && (header.message_id, header.spi_r) == (0, 0)
        && header.spi_i != 0;
    if !fits {
        return Err(malformed(exchange, WireError::BadField("first message")));
    }
    let body = bytes.get(HEADER_LEN..).unwrap_or_default();
    let chain = parse_chain(header.next, body, false).map_err(|error| malformed(exchange, error))?;
    rules::check(header.exchange, 1, &chain.payloads).map_err(|error| malformed(exchange, error))?;
    Ok((header, chain))
}

/// Chooses from the offer of a first message.
pub(crate) fn choose<'a>(
    header: Header,
    chain: &'a Chain,
    candidates: &Candidates,
) -> Result<First<'a>, (NotifyType, Failure)> {
    let payloads = Payloads(&chain.payloads);
    let exchange = ExchangeType(header.exchange.0);
    let missing = WireError::Payload(PayloadType::SA.told(), "is missing");
    let sa = payloads
        .sa()
        .ok_or((NotifyType::PAYLOAD_MALFORMED, Failure::Malformed { exchange, error: missing }))?;
    let offers = offer::read_phase1(sa);
    let psk = offer::Method::PreSharedKey.value();
    let usable: Vec<Proposal> =
        offers.iter().filter(|o| o.method == psk).map(|o| o.proposal.clone()).collect();
    let refused = || {
        let all: Vec<Proposal> = offers.iter().map(|o| o.proposal.clone()).collect();
        let failure = match offers.first().filter(|_| usable.is_empty()) {
            Some(first) => Failure::MethodV1 { method: offer::Method::told(first.method) },
            None => Failure::NoProposal {
                offered: negotiate::describe(&all),
                configured: negotiate::describe_configured(candidates.proposals()),
            },
        };
        (NotifyType::NO_PROPOSAL_CHOSEN, failure)
    };
    let (accepted, choice) = candidates.choose(&usable).ok_or_else(refused)?;
    let offer = offers.iter().find(|o| o.proposal == accepted).cloned().ok_or_else(refused)?;
    let answer = offer::answer_phase1(sa, offer.number).ok_or_else(refused)?;
    let suite = Suite::new(&choice).map_err(|error| (NotifyType::NO_PROPOSAL_CHOSEN, error.into()))?;
    let mut peer = Announced::default();
    peer.note(payloads);
    let chosen = Chosen { offer: sa.body.clone(), choice, life: offer.life };
    Ok(First { header, chain, chosen, suite, answer, peer })
}
