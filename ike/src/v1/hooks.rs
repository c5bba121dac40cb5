//! What a hostile peer that has the keys needs: it seals whatever it likes. For tests of what the other side does.

use super::Connection;
use super::handshake::{Keyed, Step, header};
use super::ike_sa::{IkeSa, Proof, seal};
use super::keys;
use super::wire::{Exchange, HEADER_LEN, Header, Payload, PayloadType, parse_chain};
use crate::wire::writer::Writer;

impl IkeSa {
    /// Encrypts octets, whatever they are, as a message with this Message ID and commit bit. The IV moves on.
    pub(crate) fn forge(
        &self,
        exchange: u8,
        (message_id, commit): (u32, bool),
        iv: &mut Vec<u8>,
        (first, plain): (u8, &[u8]),
    ) -> Option<Vec<u8>> {
        let sealed = keys::encrypt(self.suite, &self.cipher_key(), iv, plain).ok()?;
        let (spi_i, spi_r) = self.spis();
        let length = u32::try_from(HEADER_LEN + sealed.len()).ok()?;
        let head = header(spi_i, spi_r, Exchange(exchange));
        let mut out = Writer::new();
        Header { next: PayloadType(first), encrypted: true, commit, message_id, length, ..head }
            .write(&mut out);
        out.bytes(&sealed);
        Some(out.finish())
    }
}

impl Connection {
    /// HASH(1), (2) or (3), by how many nonces are given.
    pub(crate) fn forge_hash(&self, id: u32, nonces: &[&[u8]], rest: &[u8]) -> Option<Vec<u8>> {
        let proof = match *nonces {
            [] => Proof::First,
            [ni] => Proof::Second(ni),
            [ni, nr] => Proof::Third(ni, nr),
            _ => return None,
        };
        self.current_sa()?.proof(id, proof, rest).ok().map(|hash| hash.to_vec())
    }

    /// Encrypts octets, whatever they are. Beside the message the IV of the next.
    pub(crate) fn forge(
        &self,
        exchange: u8,
        id: u32,
        iv: Option<&[u8]>,
        (first, plain): (u8, &[u8]),
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let sa = self.current_sa()?;
        let mut iv = iv.map_or_else(|| sa.first_iv(id), <[u8]>::to_vec);
        let message = sa.forge(exchange, (id, false), &mut iv, (first, plain))?;
        Some((message, iv))
    }

    /// Our last message of main mode with further payloads, and our state as if it had left so. `before` is the message that it
    /// answers, if that was encrypted.
    pub(crate) fn add_to_main(
        &mut self,
        message: &[u8],
        before: Option<&[u8]>,
        more: &[(u8, Vec<u8>)],
    ) -> Option<Vec<u8>> {
        let head = Header::parse(message).ok()?;
        let (suite, key, last, first) = match self.handshake.as_mut().map(|handshake| &mut handshake.step) {
            Some(Step::MainProofSent(keyed)) => {
                let Keyed { of, skeyid, iv } = &mut **keyed;
                (of.suite, skeyid.key.clone(), iv, of.suite.first_iv(&of.publics.0, &of.publics.1))
            }
            _ => {
                let sa = self.sas.last_mut()?;
                (sa.suite, sa.cipher_key(), &mut sa.last_block, Vec::new())
            }
        };
        let mut iv = match before {
            Some(before) => before.get(before.len().checked_sub(suite.block())?..)?.to_vec(),
            None => first,
        };
        let (plain, _) = keys::decrypt(suite, &key, &iv, message.get(HEADER_LEN..)?).ok()?;
        let mut payloads = parse_chain(head.next, &plain, true).ok()?.payloads;
        let more = more.iter().map(|(kind, body)| Payload::Opaque(PayloadType(*kind), body.clone()));
        payloads.extend(more);
        let message = seal(head, suite, &key, &mut iv, &payloads).ok()?;
        *last = iv;
        Some(message)
    }

    /// Decrypts a message. Beside what it says the IV of the next.
    pub(crate) fn decipher(&self, message: &[u8], iv: Option<&[u8]>) -> Option<(Vec<u8>, Vec<u8>)> {
        let head = Header::parse(message).ok()?;
        let sa: &IkeSa = self.sas.iter().find(|sa| sa.owns(&head))?;
        let iv = iv.map_or_else(|| sa.first_iv(head.message_id), <[u8]>::to_vec);
        let sealed = message.get(HEADER_LEN..)?;
        let (plain, next) = keys::decrypt(sa.suite, &sa.cipher_key(), &iv, sealed).ok()?;
        Some((plain.to_vec(), next))
    }
}
