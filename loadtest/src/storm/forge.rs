//! First messages as a stranger makes them: well-formed, and of no use to anybody.

use clap::ValueEnum;
use ike::IkeProposal;
use ike::crypto::dh::KeyPair;
use ike::proposal::negotiate;
use ike::wire::Message;
use ike::wire::header::Header;
use ike::wire::numbers::{ExchangeType, PayloadType, ProtocolId};
use ike::wire::payload::Payload;
use ike::wire::sa::Transform;

use crate::host::ClientHost;

/// What is offered: one that a node with default proposals takes.
const PROPOSAL: &str = "aes256gcm16-prfsha384-ecp384";
/// Its group, and the octets of a public value.
const GROUP: (u16, usize) = (20, 96);
/// Transforms of a proposal that are no algorithm, and proposals of them: just below 8 KiB, and above.
const FILLER: u16 = 120;

/// What kind of first messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Public values of zeros
    Zeros,
    /// Public values that are good, so that each costs a key exchange
    Good,
    /// Offers of the largest size that is looked at, which nobody can accept
    Large,
    /// Larger ones than are looked at
    TooLarge,
    /// The same message again and again
    Repeated,
    /// All of them in turn
    Mixed,
}

/// Makes first messages.
#[derive(Debug)]
pub struct Forge {
    kind: Kind,
    good: Vec<u8>,
    made: u64,
}

impl Forge {
    /// One for a kind.
    ///
    /// # Errors
    /// When the library makes no key pair.
    pub fn new(kind: Kind) -> Result<Self, ike::crypto::CryptoError> {
        let pair = KeyPair::generate(GROUP.0, &mut ClientHost::default())?;
        Ok(Self { kind, good: pair.public().to_vec(), made: 0 })
    }

    /// The next message.
    pub fn message(&mut self) -> Vec<u8> {
        self.made += 1;
        let turn = [Kind::Zeros, Kind::Good, Kind::Large, Kind::Repeated];
        let kind = match self.kind {
            Kind::Mixed => {
                let at = usize::try_from(self.made).unwrap_or(0) % turn.len();
                turn.get(at).copied().unwrap_or(Kind::Good)
            }
            kind => kind,
        };
        let (spi, nonce) = match kind {
            Kind::Repeated => (0x5a5a_5a5a_5a5a_5a5a, [0x5a; 32]),
            _ => (rand::random::<u64>().max(1), rand::random()),
        };
        let public = if kind == Kind::Zeros { vec![0; GROUP.1] } else { self.good.clone() };
        let mut offer = offer();
        let fillers = match kind {
            Kind::Large => 5,
            Kind::TooLarge => 30,
            _ => 0,
        };
        if fillers > 0
            && let Some(first) = offer.first_mut()
        {
            let unknown = |id| Transform { id, ..Transform::new(ike::wire::numbers::TransformType::ENCR, 0) };
            first.transforms = (1_000..1_000 + FILLER).map(unknown).collect();
            let first = first.clone();
            offer = vec![first; fillers];
        }
        let header = Header {
            spi_i: spi,
            spi_r: 0,
            next: PayloadType::NONE,
            exchange: ExchangeType::IKE_SA_INIT,
            from_initiator: true,
            response: false,
            message_id: 0,
            length: 0,
        };
        let payloads = [
            Payload::Sa(offer),
            Payload::Ke { group: GROUP.0, data: public },
            Payload::Nonce(nonce.to_vec()),
        ];
        Message::encode(header, &payloads)
    }
}

fn offer() -> Vec<ike::wire::sa::Proposal> {
    let proposal = PROPOSAL.parse::<IkeProposal>().into_iter().collect::<Vec<_>>();
    negotiate::offer(ProtocolId::IKE, &[], proposal.iter().map(IkeProposal::transforms), true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ike::reception::{FirstMessage, MAX_FIRST_MESSAGE};

    use super::*;

    #[test]
    fn each_kind_is_what_it_says() {
        let two = |kind| {
            let mut forge = Forge::new(kind).unwrap();
            (forge.message(), forge.message())
        };
        for kind in [Kind::Zeros, Kind::Good, Kind::Large, Kind::Mixed] {
            let (one, other) = two(kind);
            assert_ne!(
                FirstMessage::of(ike::config::Opening::Init, &one).unwrap(),
                FirstMessage::of(ike::config::Opening::Init, &other).unwrap(),
                "{kind:?}"
            );
        }
        let (one, other) = two(Kind::Repeated);
        assert_eq!(one, other);
        assert!(two(Kind::Large).0.len() > 4_000 && two(Kind::Large).0.len() <= MAX_FIRST_MESSAGE);
        assert!(FirstMessage::of(ike::config::Opening::Init, &two(Kind::TooLarge).0).is_err());
        assert!(Message::parse(&two(Kind::Zeros).0).is_ok());
    }
}
