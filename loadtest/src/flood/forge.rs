//! First messages as a stranger makes them: well-formed, and of no use to anybody.

use clap::ValueEnum;
use ike::IkeProposal;
use ike::config::Opening;
use ike::crypto::dh::KeyPair;
use ike::proposal::negotiate;
use ike::wire::Message;
use ike::wire::header::Header;
use ike::wire::numbers::{ExchangeType, PayloadType, ProtocolId};
use ike::wire::payload::Payload;
use ike::wire::sa::Transform;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::forge_v1;
use crate::host::ClientHost;

/// What is offered: one that a node with default proposals takes.
const PROPOSAL: &str = "aes256gcm16-prfsha384-ecp384";
/// The group, and the octets of a public value: that of the proposal, and in IKEv1 the one that the default offer begins with.
const fn group(opening: Opening) -> (u16, usize) {
    match opening {
        Opening::Init => (20, 96),
        Opening::Main | Opening::Aggressive => (19, 64),
    }
}
/// The same of IKEv1, where an offer is one proposal of at most 255 transforms: just below 8 KiB, and above.
const FILLER_V1: (u16, u16) = (200, 255);
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
    opening: Opening,
    kind: Kind,
    good: Vec<u8>,
    made: u64,
    rng: StdRng,
}

impl Forge {
    /// One for a kind.
    ///
    /// # Errors
    /// When the library makes no key pair.
    pub fn new(opening: Opening, kind: Kind) -> Result<Self, ike::crypto::CryptoError> {
        Self::seeded(opening, kind, rand::random())
    }

    /// One whose SPIs and nonces follow from a number; its key pair does not.
    ///
    /// # Errors
    /// When the library makes no key pair.
    pub fn seeded(opening: Opening, kind: Kind, seed: u64) -> Result<Self, ike::crypto::CryptoError> {
        let (group, _) = group(opening);
        let pair = KeyPair::generate(group, &mut ClientHost::default())?;
        Ok(Self { opening, kind, good: pair.public().to_vec(), made: 0, rng: StdRng::seed_from_u64(seed) })
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
            _ => (self.rng.random::<u64>().max(1), self.rng.random()),
        };
        let public = if kind == Kind::Zeros { vec![0; group(self.opening).1] } else { self.good.clone() };
        if self.opening != Opening::Init {
            let fillers = match kind {
                Kind::Large => FILLER_V1.0,
                Kind::TooLarge => FILLER_V1.1,
                _ => 0,
            };
            let parts = forge_v1::Parts { spi, public: &public, nonce: &nonce, fillers };
            return forge_v1::message(self.opening, &parts);
        }
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
            Payload::Ke { group: group(self.opening).0, data: public },
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
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use ike::config::{Auth, PeerConfig, Phase1, Psk, Retransmit, Uniqueness, V1, Version};
    use ike::reception::{Class, FirstMessage, MAX_FIRST_MESSAGE, classify};
    use ike::{Candidates, Connection, Datagram, InitReply};

    use super::*;

    #[test]
    fn each_kind_is_what_it_says() {
        let two = |kind| {
            let mut forge = Forge::new(Opening::Init, kind).unwrap();
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

    #[test]
    fn what_is_random_follows_from_the_seed() {
        let message = |seed| Forge::seeded(Opening::Init, Kind::Zeros, seed).unwrap().message();
        assert_eq!(message(7), message(7));
        assert_ne!(message(7), message(8));
    }

    #[test]
    fn those_of_ikev1_are_what_they_say() {
        for opening in [Opening::Main, Opening::Aggressive] {
            let one = |kind| Forge::new(opening, kind).unwrap().message();
            for kind in [Kind::Zeros, Kind::Good, Kind::Large, Kind::Repeated] {
                assert_eq!(classify(&one(kind)).unwrap(), Class::First(opening), "{kind:?}");
                assert!(FirstMessage::of(opening, &one(kind)).is_ok(), "{kind:?}");
            }
            assert!(one(Kind::Large).len() > 4_000 && one(Kind::Large).len() <= MAX_FIRST_MESSAGE);
            assert!(classify(&one(Kind::TooLarge)).is_err());
            for (kind, same) in [(Kind::Repeated, true), (Kind::Good, false)] {
                let mut forge = Forge::new(opening, kind).unwrap();
                assert_eq!(forge.message() == forge.message(), same, "{kind:?}");
            }
        }
    }

    /// A good one is taken, so that it costs what it should; an honest responder says so.
    #[test]
    fn good_ones_of_ikev1_are_accepted() {
        for (opening, mode) in [(Opening::Main, Phase1::Main), (Opening::Aggressive, Phase1::Aggressive)] {
            let [name, hub] = ["nobody.load.example", "hub.load.example"].map(ike::Identity::fqdn);
            let peer = PeerConfig {
                name: "nobody".into(),
                local_id: hub,
                remote_id: name,
                auth: Auth::Psk(Psk::new(b"secret".to_vec().into())),
                ike_proposals: IkeProposal::defaults_in_v1().into(),
                children: Vec::new(),
                dpd_interval: Duration::ZERO,
                force_encapsulation: false,
                uniqueness: Uniqueness::Replace,
                retransmit: Retransmit::DEFAULT,
                version: Version::V1(V1 { mode, ..V1::default() }),
            };
            let candidates = Candidates::only(&peer.ike_proposals);
            let mut host = ClientHost::of(0, Arc::new(peer));
            let accepts = |kind, host: &mut ClientHost| {
                let bytes = Forge::new(opening, kind).unwrap().message();
                let (local, remote) = ("127.0.0.1:500".parse().unwrap(), "127.1.0.1:500".parse().unwrap());
                let datagram = Datagram { local, remote, natt: false, bytes: &bytes };
                let now = Instant::now();
                let reply =
                    Connection::respond(now, host, opening, datagram, (4500, 4500), &candidates, false);
                matches!(reply, InitReply::Accepted(_))
            };
            assert!(accepts(Kind::Good, &mut host), "{opening}");
            assert!(!accepts(Kind::Large, &mut host), "{opening}");
            // Main mode has no public value in its first message.
            assert_eq!(accepts(Kind::Zeros, &mut host), opening == Opening::Main);
        }
    }
}
