//! A tap on the wire between two connections that knows what both hosts drew at random, and so every key of every
//! IKE_SA: it can open what passes and seal what neither of the two would send. With it a test plays a peer that is
//! authenticated and hostile. Used by the hostile tests here and by the fuzz targets.

use ike::Host;
use ike::crypto::dh::KeyPair;
use ike::crypto::keys::{self, IkeKeys, Inputs};
use ike::crypto::prf::{Prf, Secret};
use ike::crypto::sk::{SkKey, SkSuite};
use ike::proposal::IkeChoice;
use ike::proposal::table::{AES_GCM_16, CHACHA20_POLY1305};
use ike::wire::header::Header;
use ike::wire::message::{Message, Payloads};
use ike::wire::numbers::{ExchangeType, PayloadType, ProtocolId, TransformType};
use ike::wire::payload::{self, Payload};
use ike::wire::sa::{Proposal, Transform};
use ike::wire::writer::Writer;

/// Everything a host drew, in order.
pub type Draws = Vec<Vec<u8>>;

/// Gives one draw again, so that the key pair made of it is made once more.
struct Again<'a>(&'a [u8]);

impl Host for Again<'_> {
    fn random(&mut self, out: &mut [u8]) {
        if out.len() == self.0.len() {
            out.copy_from_slice(self.0);
        }
    }

    fn allocate_ike_spi(&mut self) -> u64 {
        0
    }

    fn allocate_esp_spi(&mut self, _: std::net::SocketAddr) -> Option<u32> {
        None
    }

    fn find_peers(
        &mut self,
        _: &ike::Identity,
        _: Option<&ike::Identity>,
        _: std::net::SocketAddr,
        _: ike::config::Opening,
    ) -> Result<Vec<std::sync::Arc<ike::config::PeerConfig>>, ike::NoPeer> {
        Err(ike::NoPeer::Unknown)
    }
}

/// The half of an exchange that makes an IKE_SA.
#[derive(Clone)]
struct Half {
    id: u32,
    from_initiator: bool,
    spi: u64,
    nonce: Vec<u8>,
    group: u16,
    public: Vec<u8>,
}

/// How to write an SK or SKF payload and what stands around it.
#[derive(Clone, Debug, Default)]
pub struct Wrapping {
    /// Payloads in plain before it.
    pub outer: Vec<Payload>,
    /// Number and total of a fragment.
    pub fragment: Option<(u16, u16)>,
    /// Seal with the key of the initiator or of the responder, whatever the header says.
    pub by_initiator: Option<bool>,
    /// Add to the header's length field.
    pub header_length: i32,
    /// Add to the SK payload's length field.
    pub payload_length: i32,
}

/// An IKE_SA whose keys are known.
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub struct Tapped {
    /// SPI of its initiator.
    pub spi_i: u64,
    /// SPI of its responder.
    pub spi_r: u64,
    /// The keys not taken by `sealers`.
    pub keys: IkeKeys,
    /// The PRF.
    pub prf: Prf,
    /// Initiator to responder, then the other way.
    sealers: [SkKey; 2],
    asked: Option<Half>,
    /// ID of the next request of the responder and of the initiator, by what was seen.
    pub next_id: [u32; 2],
}

impl Tapped {
    fn new(spis: (u64, u64), prf: Prf, suite: SkSuite, mut keys: IkeKeys, next_id: [u32; 2]) -> Self {
        let i = SkKey::new(suite, std::mem::take(&mut keys.ei), std::mem::take(&mut keys.ai));
        let r = SkKey::new(suite, std::mem::take(&mut keys.er), std::mem::take(&mut keys.ar));
        Self { spi_i: spis.0, spi_r: spis.1, keys, prf, sealers: [i, r], asked: None, next_id }
    }

    /// A header of this IKE_SA.
    pub fn header(&self, from_initiator: bool, response: bool, exchange: ExchangeType, id: u32) -> Header {
        Header {
            spi_i: self.spi_i,
            spi_r: self.spi_r,
            next: PayloadType::SK,
            exchange,
            from_initiator,
            response,
            message_id: id,
            length: 0,
        }
    }

    /// Seals octets, whatever they are, under the key of the side that the header names.
    pub fn seal_octets(
        &mut self,
        header: Header,
        first: PayloadType,
        plain: &[u8],
        how: &Wrapping,
    ) -> Vec<u8> {
        let kind = if how.fragment.is_some() { PayloadType::SKF } else { PayloadType::SK };
        let by_initiator = how.by_initiator.unwrap_or(header.from_initiator);
        let sealer = &mut self.sealers[usize::from(!by_initiator)];
        let body = sealer.suite().sealed_len(plain.len()) + if how.fragment.is_some() { 4 } else { 0 };
        let mut chain = Writer::new();
        for (i, outer) in how.outer.iter().enumerate() {
            let mut one = Writer::new();
            payload::write_chain(&mut one, std::slice::from_ref(outer));
            let next = how.outer.get(i + 1).map_or(kind, Payload::kind);
            chain.bytes(&[next.0]);
            chain.bytes(&one.as_slice()[1..]);
        }
        chain.u8(first.0);
        chain.u8(0);
        chain.u16((4 + body as i32 + how.payload_length) as u16);
        if let Some((number, total)) = how.fragment {
            chain.u16(number);
            chain.u16(total);
        }
        let before = if how.fragment.is_some() { body - 4 } else { body };
        let length = (28 + chain.len() + before) as i32 + how.header_length;
        let next = how.outer.first().map_or(kind, Payload::kind);
        let mut head = Writer::new();
        Header { next, length: length as u32, ..header }.write(&mut head);
        head.bytes(chain.as_slice());
        sealer.seal(head.as_slice(), plain, &mut Again(&[0; 16])).expect("sealing takes any octets")
    }

    /// Seals payloads.
    pub fn seal(&mut self, header: Header, payloads: &[Payload]) -> Vec<u8> {
        let mut inner = Writer::new();
        let first = payload::write_chain(&mut inner, payloads);
        self.seal_octets(header, first, inner.as_slice(), &Wrapping::default())
    }

    /// Opens a message that is no fragment.
    pub fn open(&self, bytes: &[u8]) -> Option<Vec<Payload>> {
        let message = Message::parse(bytes).ok()?;
        let (first, body) = message.chain.encrypted.filter(|_| message.chain.fragment.is_none())?;
        let opener = &self.sealers[usize::from(!message.header.from_initiator)];
        let plain = opener.open(bytes, body.start).ok()?;
        payload::parse_chain(first, &plain, 0).ok().map(|chain| chain.payloads)
    }
}

/// The tap.
#[derive(Default)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub struct Tap {
    /// Every IKE_SA seen, the newest last.
    pub sas: Vec<Tapped>,
    init: Vec<(u64, Half)>,
}

impl Tap {
    /// The newest IKE_SA.
    pub fn last(&mut self) -> &mut Tapped {
        self.sas.last_mut().expect("an IKE_SA was negotiated")
    }

    /// Looks at a message that one of the two connections sent. `draws` is what both hosts drew so far.
    pub fn saw(&mut self, bytes: &[u8], draws: [&Draws; 2]) {
        let Ok(message) = Message::parse(bytes) else { return };
        let header = message.header;
        if header.exchange == ExchangeType::IKE_SA_INIT {
            let payloads = Payloads(&message.chain.payloads);
            if !header.response {
                self.init.extend(half(&header, payloads, header.spi_i).map(|half| (header.spi_i, half)));
            } else if let Some(answer) = half(&header, payloads, header.spi_r)
                && let Some((_, asked)) =
                    self.init.iter().rev().find(|(spi, _)| *spi == header.spi_i).cloned()
            {
                self.derive(None, &asked, &answer, payloads.sa().unwrap_or_default(), draws);
            }
            return;
        }
        let Some(at) = self.sas.iter().position(|sa| (sa.spi_i, sa.spi_r) == (header.spi_i, header.spi_r))
        else {
            return;
        };
        let sa = &mut self.sas[at];
        if !header.response {
            let next = &mut sa.next_id[usize::from(header.from_initiator)];
            *next = (*next).max(header.message_id.saturating_add(1));
        }
        let Some(inner) = sa.open(bytes) else { return };
        let payloads = Payloads(&inner);
        let proposals = payloads.sa().unwrap_or_default();
        let Some(spi) =
            proposals.first().filter(|p| p.protocol == ProtocolId::IKE).and_then(Proposal::ike_spi)
        else {
            return;
        };
        let this = half(&header, payloads, spi);
        if !header.response {
            sa.asked = this;
        } else if let (Some(asked), Some(answer)) = (sa.asked.clone(), this)
            && asked.id == answer.id
            && asked.from_initiator != answer.from_initiator
        {
            self.derive(Some(at), &asked, &answer, proposals, draws);
        }
    }

    fn derive(
        &mut self,
        old: Option<usize>,
        asked: &Half,
        answer: &Half,
        sa: &[Proposal],
        draws: [&Draws; 2],
    ) {
        let Some(choice) = choice(sa) else { return };
        if self.sas.iter().any(|sa| (sa.spi_i, sa.spi_r) == (asked.spi, answer.spi)) {
            return;
        }
        let shared = agree(asked, answer, draws).or_else(|| agree(answer, asked, draws));
        let Some(shared) = shared else { return };
        let inputs = Inputs { ni: &asked.nonce, nr: &answer.nonce, spi_i: asked.spi, spi_r: answer.spi };
        let prf = Prf::from_transform(choice.prf.id).expect("a PRF that was agreed on");
        let suite = SkSuite::new(&choice).expect("a suite that was agreed on");
        let keys = match old {
            None => keys::initial(prf, suite, inputs, &shared),
            Some(at) => {
                let old = &self.sas[at];
                keys::rekeyed((old.prf, &old.keys.d), prf, suite, inputs, &shared)
            }
        };
        // The initiator's IKE_SA_INIT had ID 0; after a rekeying both begin at 0.
        let next_id = if old.is_none() { [0, 1] } else { [0, 0] };
        let keys = keys.expect("keys of what was agreed on");
        self.sas.push(Tapped::new((asked.spi, answer.spi), prf, suite, keys, next_id));
    }
}

fn half(header: &Header, payloads: Payloads<'_>, spi: u64) -> Option<Half> {
    let (group, public) = payloads.ke()?;
    Some(Half {
        id: header.message_id,
        from_initiator: header.from_initiator,
        spi,
        nonce: payloads.nonce()?.to_vec(),
        group,
        public: public.to_vec(),
    })
}

/// Secrets found before: a fuzzer makes the same first handshake a million times.
type Found = std::cell::RefCell<Vec<(Vec<u8>, Secret)>>;
thread_local!(static FOUND: Found = const { Found::new(Vec::new()) });
/// Enough for that handshake and a few rekeyings.
const MAX_FOUND: usize = 16;

/// [`search`], from memory if both public values have been seen.
fn agree(ours: &Half, theirs: &Half, draws: [&Draws; 2]) -> Option<Secret> {
    let publics = [ours.public.as_slice(), &theirs.public].concat();
    FOUND.with_borrow_mut(|found| {
        if let Some((_, secret)) = found.iter().find(|(key, _)| *key == publics) {
            return Some(secret.clone());
        }
        let secret = search(ours, theirs, draws)?;
        if found.len() < MAX_FOUND {
            found.push((publics, secret.clone()));
        }
        Some(secret)
    })
}

/// The shared secret, with the private value of `ours` found among what the hosts drew: right before the nonce, or
/// anywhere after a change of the group.
fn search(ours: &Half, theirs: &Half, draws: [&Draws; 2]) -> Option<Secret> {
    let made = |draw: &Vec<u8>| {
        let pair = KeyPair::generate(ours.group, &mut Again(draw)).ok()?;
        if pair.public() == ours.public { pair.agree(&theirs.public).ok() } else { None }
    };
    let before_nonce = |draws: &Draws| {
        let at = draws.iter().rposition(|draw| *draw == ours.nonce)?.checked_sub(1)?;
        made(draws.get(at)?)
    };
    draws.iter().find_map(|draws| before_nonce(draws)).or_else(|| {
        draws.iter().filter(|d| d.contains(&ours.nonce)).flat_map(|d| d.iter().rev()).find_map(made)
    })
}

fn choice(sa: &[Proposal]) -> Option<IkeChoice> {
    let transforms = &sa.first()?.transforms;
    let find = |kind| transforms.iter().find(|t: &&Transform| t.kind == kind).copied();
    let encr = find(TransformType::ENCR)?;
    let aead = [AES_GCM_16, CHACHA20_POLY1305].contains(&encr.id);
    Some(IkeChoice {
        encr,
        integ: find(TransformType::INTEG).filter(|_| !aead),
        prf: find(TransformType::PRF)?,
        group: find(TransformType::KE)?.id,
    })
}
