//! The bare AEAD: OpenSSL by the calls that an SA makes of it, and nothing else.

use esp::Encryption;
use openssl::cipher;
use openssl::cipher_ctx::CipherCtx;

use super::packets::{key_and_salt, key_of};
use super::{Kind, Subject, Work};

/// An AEAD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cipher {
    AesGcm128,
    ChaCha20Poly1305,
}

impl Cipher {
    pub(crate) fn encryption(self) -> Encryption {
        match self {
            Self::AesGcm128 => Encryption::AesGcm16_128,
            Self::ChaCha20Poly1305 => Encryption::ChaCha20Poly1305,
        }
    }
}

/// A context with its key, used again for each packet. None of its calls fails with what it is given here, and a `Result` would be
/// counted with them.
pub(crate) struct BareAead {
    context: CipherCtx,
    salt: [u8; 4],
}

/// Octets before the text of an ESP packet, SPI, sequence number and IV, and after it.
pub(crate) const HEAD: usize = 16;
pub(crate) const ICV: usize = 16;

impl BareAead {
    pub(crate) fn new(cipher: Cipher, seals: bool) -> Self {
        let (key, salt) = key_and_salt(cipher.encryption());
        let algorithm = match cipher {
            Cipher::AesGcm128 => cipher::Cipher::aes_128_gcm(),
            Cipher::ChaCha20Poly1305 => cipher::Cipher::chacha20_poly1305(),
        };
        let mut context = CipherCtx::new().unwrap();
        if seals {
            context.encrypt_init(Some(algorithm), Some(&key), None).unwrap();
        } else {
            context.decrypt_init(Some(algorithm), Some(&key), None).unwrap();
        }
        Self { context, salt }
    }

    /// Goes on with the key of a pair ([`super::packets::keys_of`]).
    pub(crate) fn rekey(&mut self, cipher: Cipher, pair: u32) {
        let key = key_of(&key_and_salt(cipher.encryption()).0, pair);
        self.context.encrypt_init(None, Some(&key), None).unwrap();
    }

    /// Seals in place a packet of [`HEAD`], text and room for the ICV.
    pub(crate) fn seal(&mut self, packet: &mut [u8]) {
        let nonce = self.nonce(packet);
        let (aad, text, icv) = parts(packet);
        self.context.encrypt_init(None, None, Some(&nonce)).unwrap();
        self.context.cipher_update(aad, None).unwrap();
        let len = text.len();
        self.context.cipher_update_inplace(text, len).unwrap();
        self.context.cipher_final(&mut []).unwrap();
        self.context.tag(icv).unwrap();
    }

    /// Opens in place.
    pub(crate) fn open(&mut self, packet: &mut [u8]) {
        let nonce = self.nonce(packet);
        let (aad, text, icv) = parts(packet);
        self.context.decrypt_init(None, None, Some(&nonce)).unwrap();
        self.context.set_tag(icv).unwrap();
        self.context.cipher_update(aad, None).unwrap();
        let len = text.len();
        self.context.cipher_update_inplace(text, len).unwrap();
        self.context.cipher_final(&mut []).unwrap();
    }

    fn nonce(&self, packet: &[u8]) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(&packet[8..HEAD]);
        nonce
    }
}

/// AAD, text and ICV.
fn parts(packet: &mut [u8]) -> (&[u8], &mut [u8], &mut [u8]) {
    let (head, rest) = packet.split_at_mut(HEAD);
    let at = rest.len() - ICV;
    let (text, icv) = rest.split_at_mut(at);
    (&head[..8], text, icv)
}

/// The text of an ESP packet in tunnel mode, with its trailer: what `OutboundSa` makes of so many octets.
pub(crate) const fn text_len(inner: usize) -> usize {
    (inner + 2).next_multiple_of(4)
}

/// An ESP packet that is sealed, or one to be sealed.
pub(crate) fn esp_packet(spi: u32, sequence: u32, inner: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEAD + text_len(inner.len()) + ICV);
    packet.extend(spi.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(u64::from(sequence).to_be_bytes());
    packet.extend(inner);
    let pad = text_len(inner.len()) - 2 - inner.len();
    packet.extend((1..=pad).map(|at| at as u8));
    // Next header 4: IPv4 (RFC 4303 section 2.6).
    packet.extend([pad as u8, 4]);
    packet.extend([0; ICV]);
    packet
}

fn seal(cipher: Cipher, len: usize) -> Work {
    let mut aead = BareAead::new(cipher, true);
    let mut packet = esp_packet(1, 1, &vec![0x45; len]);
    Box::new(move || aead.seal(&mut packet))
}

fn open(cipher: Cipher, len: usize, rounds: usize) -> Work {
    let mut packet = esp_packet(1, 1, &vec![0x45; len]);
    BareAead::new(cipher, true).seal(&mut packet);
    let mut aead = BareAead::new(cipher, false);
    each(vec![packet; rounds], move |packet| aead.open(packet))
}

/// Work that spoils what it is given, so that each round gets another. None is freed, for that would count.
pub(crate) fn each<T: 'static>(mut inputs: Vec<T>, mut work: impl FnMut(&mut T) + 'static) -> Work {
    let mut at = 0;
    Box::new(move || {
        work(&mut inputs[at]);
        at += 1;
    })
}

pub(crate) fn subjects() -> Vec<Subject> {
    let subject = |name, prepare| Subject { name, kind: Kind::Bare, over: None, rounds: 200, prepare };
    use Cipher::{AesGcm128, ChaCha20Poly1305};
    vec![
        subject("bare aes128gcm16 seal 64", |_| seal(AesGcm128, 64)),
        subject("bare aes128gcm16 seal 1400", |_| seal(AesGcm128, 1400)),
        subject("bare aes128gcm16 open 64", |rounds| open(AesGcm128, 64, rounds)),
        subject("bare aes128gcm16 open 1400", |rounds| open(AesGcm128, 1400, rounds)),
        subject("bare chacha20poly1305 seal 1400", |_| seal(ChaCha20Poly1305, 1400)),
        subject("bare chacha20poly1305 open 1400", |rounds| open(ChaCha20Poly1305, 1400, rounds)),
        subject("bare chacha20poly1305 seal 64", |_| seal(ChaCha20Poly1305, 64)),
        subject("bare chacha20poly1305 open 64", |rounds| open(ChaCha20Poly1305, 64, rounds)),
    ]
}
