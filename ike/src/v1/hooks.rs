//! What a hostile peer that has the keys needs: it seals whatever it likes. For tests of what the other side does.

use super::Connection;
use super::handshake::header;
use super::ike_sa::{IkeSa, Proof};
use super::keys;
use super::wire::{Exchange, HEADER_LEN, Header, PayloadType};
use crate::wire::writer::Writer;

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
        let sealed = keys::encrypt(sa.suite, &sa.cipher_key(), &mut iv, plain).ok()?;
        let (spi_i, spi_r) = sa.spis();
        let length = u32::try_from(HEADER_LEN + sealed.len()).ok()?;
        let head = header(spi_i, spi_r, Exchange(exchange));
        let mut out = Writer::new();
        Header { next: PayloadType(first), encrypted: true, message_id: id, length, ..head }.write(&mut out);
        out.bytes(&sealed);
        Some((out.finish(), iv))
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
