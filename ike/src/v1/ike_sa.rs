//! One IKE_SA (ISAKMP SA): SPIs, keys, what was seen on it, and the protection of the messages of phase 2.

mod seen;
mod snapshot;

use std::ops::Range;
use std::time::{Duration, Instant};

use super::announced::Announced;
use super::exchange::Repeat;
use super::handshake::{Handshake, Keyed, header};
use super::keys::{self, Skeyid, Suite};
use super::offer::OfferedLife;
use super::wire::{self, Exchange, HEADER_LEN, Header, Payload, parse_chain, rules, write_chain};
use crate::crypto::CryptoError;
use crate::crypto::auth::equal;
use crate::crypto::prf::Secret;
use crate::host::{Host, random_array};
use crate::proposal::IkeChoice;
use crate::wire::writer::Writer;
use crate::wire::{WireError, numbers::ProtocolId};

pub(crate) use seen::Of;
use seen::Seen;
pub(crate) use snapshot::IkeSaForm;

/// How long after our last message of phase 1 we ask for nothing: a peer that works with many threads may take up what comes next before
/// it, and have no keys for it. More than its threads overtake each other by, and less than anybody waits for.
const SETTLES: Duration = Duration::from_millis(100);

/// One IKE_SA.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct IkeSa {
    pub(crate) initiator: bool,
    pub(crate) spi_local: u64,
    pub(crate) spi_remote: u64,
    pub(crate) choice: IkeChoice,
    pub(crate) suite: Suite,
    keys: Skeyid,
    /// The last block of ciphertext of phase 1, of which the IVs of phase 2 are made.
    pub(super) last_block: Vec<u8>,
    pub(crate) peer: Announced,
    pub(crate) life: OfferedLife,
    /// Our last message of phase 1, if the peer may have missed it.
    pub(crate) last: Option<Repeat>,
    /// Another one has taken its place; it goes at that time.
    pub(crate) replaced: Option<Instant>,
    /// When phase 1 was begun, and done.
    pub(crate) began: Instant,
    pub(crate) since: Instant,
    /// When the last authentic message came by it.
    pub(crate) heard: Instant,
    /// Octets of messages either way.
    pub(crate) octets: u64,
    /// The numbers of our R-U-THERE, up to that of the next, once there was one.
    questions: Option<Range<u32>>,
    pub(crate) seen: Seen,
}

/// How a message of phase 2 proves itself (RFC 2409 section 5.5).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proof<'a> {
    /// HASH(1), and that of the Informational exchange (section 5.7).
    First,
    /// HASH(2), with the initiator's nonce.
    Second(&'a [u8]),
    /// HASH(3), with both.
    Third(&'a [u8], &'a [u8]),
}

/// What an authentic message holds, and the IV of the next.
pub(crate) struct Opened {
    pub(crate) payloads: Vec<Payload>,
    pub(crate) iv: Vec<u8>,
}

/// Seals payloads into a message; the IV moves on.
pub(crate) fn seal(
    header: Header,
    suite: Suite,
    key: &[u8],
    iv: &mut Vec<u8>,
    payloads: &[Payload],
) -> Result<Vec<u8>, CryptoError> {
    let mut inner = Writer::new();
    let next = write_chain(&mut inner, payloads);
    let inner = zeroize::Zeroizing::new(inner.finish());
    let sealed = keys::encrypt(suite, key, iv, &inner)?;
    let length = u32::try_from(HEADER_LEN + sealed.len()).map_err(|_| CryptoError::Malformed)?;
    let mut out = Writer::new();
    Header { next, encrypted: true, length, ..header }.write(&mut out);
    out.bytes(&sealed);
    Ok(out.finish())
}

impl IkeSa {
    pub(crate) fn new(now: Instant, handshake: &Handshake, keyed: Keyed, last: Option<Repeat>) -> Self {
        let Keyed { of, skeyid, iv } = keyed;
        Self {
            initiator: handshake.initiator,
            spi_local: handshake.spi_local,
            spi_remote: handshake.spi_remote,
            choice: of.chosen.choice,
            suite: of.suite,
            keys: skeyid,
            last_block: iv,
            peer: handshake.peer,
            life: of.chosen.life.bounding(),
            last,
            replaced: None,
            began: handshake.began,
            since: now,
            heard: now,
            octets: 0,
            questions: None,
            seen: Seen::default(),
        }
    }

    /// SPIs of its initiator and of its responder.
    pub(crate) const fn spis(&self) -> (u64, u64) {
        if self.initiator { (self.spi_local, self.spi_remote) } else { (self.spi_remote, self.spi_local) }
    }

    /// Whether a header names this IKE_SA.
    pub(crate) fn owns(&self, header: &Header) -> bool {
        (header.spi_i, header.spi_r) == self.spis()
    }

    /// From when on the peer can be asked for something: at once where it has had the last word of phase 1, or has said something since. Who
    /// has begun in aggressive mode does not wait: its first quick mode is what the peer waits for, and what comes too soon is repeated.
    pub(crate) fn takes_requests(&self) -> Instant {
        let may_miss_ours = self.last.is_some() && !self.initiator && self.heard <= self.since;
        if may_miss_ours { self.since + SETTLES } else { self.since }
    }

    /// Whether both were under way at the same time, each by another side.
    pub(crate) fn crossed(&self, newer: &Self) -> bool {
        self.initiator != newer.initiator && newer.began <= self.since
    }

    /// What both sides order two of them by that crossed.
    pub(crate) fn rank(&self) -> (u64, u64) {
        (self.spi_local.max(self.spi_remote), self.spi_local.min(self.spi_remote))
    }

    /// SKEYID_d.
    pub(crate) fn d(&self) -> &[u8] {
        &self.keys.d
    }

    /// The cipher key, for who decrypts a capture.
    pub(crate) fn cipher_key(&self) -> Secret {
        self.keys.key.clone()
    }

    /// The IV of the first message with this Message ID.
    pub(crate) fn first_iv(&self, id: u32) -> Vec<u8> {
        self.suite.phase2_iv(&self.last_block, id)
    }

    /// The DELETE payload that names this IKE_SA: both SPIs (RFC 2408 section 3.15).
    pub(crate) fn delete(&self) -> Payload {
        let (spi_i, spi_r) = self.spis();
        let spi = [spi_i.to_be_bytes(), spi_r.to_be_bytes()].concat();
        Payload::Delete(wire::Delete { protocol: ProtocolId::IKE, spis: vec![spi] })
    }

    pub(crate) fn proof(&self, id: u32, proof: Proof<'_>, rest: &[u8]) -> Result<Secret, CryptoError> {
        let (suite, a) = (self.suite, &self.keys.a);
        match proof {
            Proof::First => keys::hash1(suite, a, id, rest),
            Proof::Second(ni) => keys::hash2(suite, a, id, ni, rest),
            Proof::Third(ni, nr) => keys::hash3(suite, a, id, ni, nr),
        }
    }

    /// A message of phase 2; the IV moves on.
    pub(crate) fn seal(
        &mut self,
        exchange: Exchange,
        id: u32,
        iv: &mut Vec<u8>,
        proof: Proof<'_>,
        mut payloads: Vec<Payload>,
    ) -> Result<Vec<u8>, CryptoError> {
        let mut rest = Writer::new();
        write_chain(&mut rest, &payloads);
        let hash = self.proof(id, proof, &rest.finish())?;
        payloads.insert(0, Payload::Hash(hash.to_vec()));
        let (spi_i, spi_r) = self.spis();
        let head = Header { message_id: id, ..header(spi_i, spi_r, exchange) };
        let message = seal(head, self.suite, &self.keys.key, iv, &payloads)?;
        self.octets = self.octets.saturating_add(message.len() as u64);
        Ok(message)
    }

    /// Opens a message of phase 2, the one of this number in its exchange, and checks what proves it. An error is a forgery,
    /// damage, or a message that makes no sense from one who has the keys; all of them are dropped.
    pub(crate) fn open(
        &mut self,
        header: &Header,
        datagram: &[u8],
        iv: &[u8],
        (proof, number): (Proof<'_>, u8),
    ) -> Result<Opened, Forged> {
        if !header.encrypted {
            return Err(Forged);
        }
        let sealed = datagram.get(HEADER_LEN..).unwrap_or_default();
        let (plain, iv) = keys::decrypt(self.suite, &self.keys.key, iv, sealed)?;
        let mut chain = parse_chain(header.next, &plain, true)?;
        rules::hash_is_first(&chain.payloads)?;
        rules::check(header.exchange, number, &chain.payloads)?;
        let rest = plain.get(chain.rest.clone()).unwrap_or_default();
        let expected = self.proof(header.message_id, proof, rest)?;
        match chain.payloads.first() {
            Some(Payload::Hash(hash)) if equal(hash, &expected) => {}
            _ => return Err(Forged),
        }
        chain.payloads.remove(0);
        self.octets = self.octets.saturating_add(datagram.len() as u64);
        Ok(Opened { payloads: chain.payloads, iv })
    }

    /// The number of an R-U-THERE. The first is random and below half, so that it never overflows; each further one, also of another
    /// question, is one higher, or the peer takes it for a replay (RFC 3706 section 6.2). Another node goes on with it: no message
    /// leaves before a standby has what it was numbered from. One from before that was kept has the number in its question alone.
    pub(crate) fn next_question(&mut self, of_question: Option<u32>, host: &mut dyn Host) -> u32 {
        let known = self.questions.clone().or_else(|| of_question.map(|next| next..next));
        let Range { start, end } = known.unwrap_or_else(|| {
            let first = u32::from_be_bytes(random_array(host)) >> 1;
            first..first
        });
        self.questions = Some(start..end.wrapping_add(1));
        end
    }

    /// Whether a question of the peer is one of now. The Message IDs of such are forgotten one day, so what comes may have come
    /// before, or be ours and sent back: then it proves nothing. Its number shows it (RFC 3706 section 6.2).
    pub(crate) fn is_asked_now(&mut self, number: u32) -> bool {
        let ours = self.questions.as_ref().is_some_and(|questions| questions.contains(&number));
        self.seen.asks_now(number, ours)
    }

    /// A Message ID that is not zero and that nobody has used on this IKE_SA. It is noted: a message that bears it is ours, whoever sends it.
    pub(crate) fn draw_id(&mut self, of: Of, host: &mut dyn Host) -> u32 {
        loop {
            let id = u32::from_be_bytes(random_array(host));
            if id != 0 && !self.seen.has(id) {
                self.seen.note(id, of);
                return id;
            }
        }
    }

    /// It has seen so much that another one should take its place.
    pub(crate) fn is_worn(&self) -> bool {
        let kilobytes = self.life.kilobytes.is_some_and(|most| self.octets / 1_024 >= most);
        self.seen.is_half_full() || kilobytes
    }
}

/// A forgery, damage, or what makes no sense from one who has the keys. All the same: it is dropped.
#[derive(Debug)]
pub(crate) struct Forged;

impl From<WireError> for Forged {
    fn from(_: WireError) -> Self {
        Self
    }
}

impl From<CryptoError> for Forged {
    fn from(_: CryptoError) -> Self {
        Self
    }
}
