//! Phase 1 that we have started, as another node takes it over. That of a stranger stays where it is.

use prost::{Message, Oneof};
use snapshot::{Due, Secret, SnapshotError, required};
use zeroize::Zeroizing;

use super::{AggressiveSent, Announced, Chosen, Handshake, KeySent, Keyed, Packets, Step, Unproved};
use crate::config::Phase1;
use crate::refusal::{Refusal, RefusalForm};
use crate::snapshot::keys::KeyPairForm;
use crate::snapshot::values::{choice, choice_form};
use crate::snapshot::{NotNow, Reading, RestoreError, Writing};
use crate::v1::exchange::{Repeat, RepeatForm};
use crate::v1::keys::{Skeyid, Suite};
use crate::v1::nat::Natt;
use crate::v1::offer::OfferedLife;
use crate::v1::wire::Sa;
use crate::wire::reader::Reader;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HandshakeForm {
    #[prost(message, optional, tag = "1")]
    began: Option<Due>,
    #[prost(fixed64, tag = "2")]
    spi_local: u64,
    #[prost(fixed64, tag = "3")]
    spi_remote: u64,
    #[prost(bool, tag = "4")]
    aggressive: bool,
    #[prost(oneof = "StepForm", tags = "5, 6, 7, 8")]
    step: Option<StepForm>,
    #[prost(message, optional, tag = "9")]
    repeat: Option<RepeatForm>,
    #[prost(message, optional, tag = "10")]
    peer: Option<AnnouncedForm>,
    #[prost(message, optional, tag = "11")]
    deadline: Option<Due>,
    #[prost(uint64, tag = "12")]
    octets_in: u64,
    #[prost(uint64, tag = "13")]
    octets_out: u64,
    #[prost(bool, tag = "14")]
    objected: bool,
    #[prost(bool, tag = "15")]
    address_proved: bool,
    #[prost(bool, tag = "16")]
    packets_asked: bool,
    #[prost(bool, tag = "17")]
    packets_heard: bool,
    #[prost(message, optional, tag = "18")]
    refused: Option<RefusalForm>,
}

#[derive(Clone, PartialEq, Oneof)]
enum StepForm {
    #[prost(bytes = "vec", tag = "5")]
    MainOffered(Vec<u8>),
    #[prost(message, tag = "6")]
    MainKeySent(KeySentForm),
    #[prost(message, tag = "7")]
    MainProofSent(KeyedForm),
    #[prost(message, tag = "8")]
    AggressiveSent(KeySentForm),
}

/// Of main mode with what was chosen, of aggressive mode with the offer alone.
#[derive(Clone, PartialEq, Message)]
struct KeySentForm {
    #[prost(message, optional, tag = "1")]
    chosen: Option<ChosenForm>,
    #[prost(bytes = "vec", tag = "2")]
    offer: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    dh: Option<KeyPairForm>,
    #[prost(bytes = "vec", tag = "4")]
    nonce: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ChosenForm {
    #[prost(bytes = "vec", tag = "1")]
    offer: Vec<u8>,
    #[prost(uint64, repeated, tag = "2")]
    choice: Vec<u64>,
    #[prost(message, optional, tag = "3")]
    life: Option<LifeForm>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyedForm {
    #[prost(message, optional, tag = "1")]
    chosen: Option<ChosenForm>,
    #[prost(message, optional, tag = "2")]
    shared: Option<Secret>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    nonces: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    publics: Vec<Vec<u8>>,
    #[prost(fixed64, tag = "5")]
    spi_i: u64,
    #[prost(fixed64, tag = "6")]
    spi_r: u64,
    #[prost(message, optional, tag = "7")]
    skeyid: Option<SkeyidForm>,
    #[prost(bytes = "vec", tag = "8")]
    iv: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct LifeForm {
    #[prost(uint64, optional, tag = "1")]
    seconds: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    kilobytes: Option<u64>,
}

impl LifeForm {
    pub(crate) const fn new(life: OfferedLife) -> Self {
        let OfferedLife { seconds, kilobytes } = life;
        Self { seconds, kilobytes }
    }

    pub(crate) const fn read(self) -> OfferedLife {
        OfferedLife { seconds: self.seconds, kilobytes: self.kilobytes }
    }
}

/// SKEYID and what is derived from it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SkeyidForm {
    #[prost(message, optional, tag = "1")]
    id: Option<Secret>,
    #[prost(message, optional, tag = "2")]
    d: Option<Secret>,
    #[prost(message, optional, tag = "3")]
    a: Option<Secret>,
    #[prost(message, optional, tag = "4")]
    key: Option<Secret>,
}

impl SkeyidForm {
    pub(crate) fn new(skeyid: &Skeyid) -> Self {
        let Skeyid { id, d, a, key } = skeyid;
        let secret = |octets: &[u8]| Some(Secret::new(octets));
        Self { id: secret(id), d: secret(d), a: secret(a), key: secret(key) }
    }

    pub(crate) fn read(&self, suite: Suite) -> Result<Skeyid, SnapshotError> {
        let secret = |secret: &Option<Secret>, want: usize, field| {
            let octets = required(secret.as_ref(), field)?.octets();
            let fits = (octets.len() == want).then(|| Zeroizing::new(octets.to_vec()));
            fits.ok_or_else(|| {
                SnapshotError::value(field, format!("{} octets, {want} are needed", octets.len()))
            })
        };
        let hash = suite.hash.octets();
        Ok(Skeyid {
            id: secret(&self.id, hash, "SKEYID")?,
            d: secret(&self.d, hash, "SKEYID_d")?,
            a: secret(&self.a, hash, "SKEYID_a")?,
            key: secret(&self.key, suite.key_len(), "the key of the cipher")?,
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AnnouncedForm {
    /// None, RFC 3947 or the drafts.
    #[prost(uint32, tag = "1")]
    natt: u32,
    #[prost(bytes = "vec", optional, tag = "2")]
    natt_id: Option<Vec<u8>>,
    #[prost(bool, tag = "3")]
    dpd: bool,
    #[prost(bool, tag = "4")]
    fragments: bool,
    #[prost(bool, tag = "5")]
    culvert: bool,
}

pub(crate) const fn natt_number(natt: Option<Natt>) -> u32 {
    match natt {
        None => 0,
        Some(Natt::Rfc) => 1,
        Some(Natt::Draft) => 2,
    }
}

pub(crate) fn natt(number: u32) -> Result<Option<Natt>, SnapshotError> {
    match number {
        0 => Ok(None),
        1 => Ok(Some(Natt::Rfc)),
        2 => Ok(Some(Natt::Draft)),
        _ => Err(SnapshotError::value("how NAT is traversed", number)),
    }
}

impl Announced {
    pub(crate) fn form(self) -> AnnouncedForm {
        let Self { natt, natt_id, dpd, fragments, culvert } = self;
        let natt_id = natt_id.map(|id| id.to_vec());
        AnnouncedForm { natt: natt_number(natt), natt_id, dpd, fragments, culvert }
    }

    pub(crate) fn restore(form: &AnnouncedForm) -> Result<Self, SnapshotError> {
        let id = |id: &Vec<u8>| {
            let id = id.as_slice().try_into();
            id.map_err(|_| SnapshotError::value("a vendor ID", "it has not 16 octets"))
        };
        Ok(Self {
            natt: natt(form.natt)?,
            natt_id: form.natt_id.as_ref().map(id).transpose()?,
            dpd: form.dpd,
            fragments: form.fragments,
            culvert: form.culvert,
        })
    }
}

impl ChosenForm {
    fn new(chosen: &Chosen) -> Self {
        let Chosen { offer, choice, life } = chosen;
        Self { offer: offer.clone(), choice: choice_form(choice), life: Some(LifeForm::new(*life)) }
    }

    fn read(&self) -> Result<Chosen, SnapshotError> {
        let life = required(self.life, "the lifetime of an IKE_SA")?.read();
        Ok(Chosen { offer: self.offer.clone(), choice: choice(&self.choice)?, life })
    }
}

impl KeyedForm {
    fn new(keyed: &Keyed) -> Self {
        let Keyed { of, skeyid, iv } = keyed;
        let Unproved { chosen, suite: _, shared, nonces, publics, spis: (spi_i, spi_r) } = of;
        let both = |(i, r): &(Vec<u8>, Vec<u8>)| vec![i.clone(), r.clone()];
        Self {
            chosen: Some(ChosenForm::new(chosen)),
            shared: Some(Secret::new(shared)),
            nonces: both(nonces),
            publics: both(publics),
            spi_i: *spi_i,
            spi_r: *spi_r,
            skeyid: Some(SkeyidForm::new(skeyid)),
            iv: iv.clone(),
        }
    }

    fn read(&self) -> Result<Keyed, RestoreError> {
        let chosen = required(self.chosen.as_ref(), "what was agreed on in phase 1")?.read()?;
        let suite = Suite::new(&chosen.choice)?;
        let both = |both: &[Vec<u8>], field| match both {
            [i, r] => Ok((i.clone(), r.clone())),
            _ => Err(SnapshotError::Missing(field)),
        };
        let shared = required(self.shared.as_ref(), "the shared secret of phase 1")?.octets().to_vec();
        let of = Unproved {
            chosen,
            suite,
            shared: Zeroizing::new(shared),
            nonces: both(&self.nonces, "the nonces of phase 1")?,
            publics: both(&self.publics, "the public values of phase 1")?,
            spis: (self.spi_i, self.spi_r),
        };
        let skeyid = required(self.skeyid.as_ref(), "the keys of phase 1")?.read(suite)?;
        Ok(Keyed { of, skeyid, iv: self.iv.clone() })
    }
}

fn sa(body: &[u8]) -> Result<Sa, SnapshotError> {
    Sa::parse(Reader::new(body)).map_err(|error| SnapshotError::value("the offer of phase 1", error))
}

impl Handshake {
    pub(crate) fn form(&self, w: &Writing<'_>) -> Result<HandshakeForm, NotNow> {
        let Self {
            began,
            spi_local,
            spi_remote,
            initiator: _,
            mode,
            step,
            repeat,
            peer,
            deadline,
            octets: (octets_in, octets_out),
            objected,
            refused,
            address_proved,
            packets,
        } = self;
        let step = match step {
            Step::MainOffered(sa) => StepForm::MainOffered(sa.body.clone()),
            Step::MainKeySent(sent) => {
                let KeySent { chosen, dh, nonce } = &**sent;
                let (chosen, dh) = (Some(ChosenForm::new(chosen)), Some(KeyPairForm::new(dh)));
                StepForm::MainKeySent(KeySentForm { chosen, offer: Vec::new(), dh, nonce: nonce.clone() })
            }
            Step::MainProofSent(keyed) => StepForm::MainProofSent(KeyedForm::new(keyed)),
            Step::AggressiveSent(sent) => {
                let AggressiveSent { sa, dh, nonce } = &**sent;
                let (offer, dh) = (sa.body.clone(), Some(KeyPairForm::new(dh)));
                StepForm::AggressiveSent(KeySentForm { chosen: None, offer, dh, nonce: nonce.clone() })
            }
            Step::MainAnswered(_) | Step::MainKeyAnswered(_) | Step::AggressiveAnswered(_) | Step::Taken => {
                return Err(NotNow::HalfOpen);
            }
        };
        let number = |octets: usize| u64::try_from(octets).unwrap_or(u64::MAX);
        Ok(HandshakeForm {
            began: w.due(*began),
            spi_local: *spi_local,
            spi_remote: *spi_remote,
            aggressive: *mode == Phase1::Aggressive,
            step: Some(step),
            repeat: Some(repeat.form(w)),
            peer: Some(peer.form()),
            deadline: deadline.and_then(|deadline| w.due(deadline)),
            octets_in: number(*octets_in),
            octets_out: number(*octets_out),
            objected: *objected,
            address_proved: *address_proved,
            packets_asked: *packets == Packets::Asked,
            packets_heard: *packets == Packets::Heard,
            refused: refused.as_ref().map(|refused| refused.form(w)),
        })
    }

    pub(crate) fn restore(form: &HandshakeForm, r: &Reading) -> Result<Self, RestoreError> {
        const DH: &str = "the key pair of phase 1";
        let step = match required(form.step.as_ref(), "what phase 1 waits for")? {
            StepForm::MainOffered(offer) => Step::MainOffered(sa(offer)?),
            StepForm::MainKeySent(sent) => Step::MainKeySent(Box::new(KeySent {
                chosen: required(sent.chosen.as_ref(), "what was agreed on in phase 1")?.read()?,
                dh: required(sent.dh.as_ref(), DH)?.read()?,
                nonce: sent.nonce.clone(),
            })),
            StepForm::MainProofSent(keyed) => Step::MainProofSent(Box::new(keyed.read()?)),
            StepForm::AggressiveSent(sent) => Step::AggressiveSent(Box::new(AggressiveSent {
                sa: sa(&sent.offer)?,
                dh: required(sent.dh.as_ref(), DH)?.read()?,
                nonce: sent.nonce.clone(),
            })),
        };
        let octets = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            began: r.at(form.began, "when phase 1 began")?,
            spi_local: form.spi_local,
            spi_remote: form.spi_remote,
            initiator: true,
            mode: if form.aggressive { Phase1::Aggressive } else { Phase1::Main },
            step,
            repeat: Repeat::restore(required(form.repeat.as_ref(), "the last message of phase 1")?, r)?,
            peer: Announced::restore(required(form.peer.as_ref(), "what the peer has announced")?)?,
            deadline: r.maybe_at(form.deadline),
            octets: (octets(form.octets_in), octets(form.octets_out)),
            objected: form.objected,
            refused: form.refused.as_ref().map(|form| Refusal::restore(form, r)).transpose()?,
            address_proved: form.address_proved,
            packets: match (form.packets_asked, form.packets_heard) {
                (_, true) => Packets::Heard,
                (true, false) => Packets::Asked,
                (false, false) => Packets::Unasked,
            },
        })
    }
}
