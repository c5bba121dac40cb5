//! The contexts of AEADs: a few of each thread, and none of an SA.
//!
//! A context of OpenSSL is more than a kilobyte in two allocations. Where there are many SAs, the next packet is of one whose
//! context is in no cache, and reading it from memory costs several times what the cipher does. To make it anew of the key costs
//! some 60 ns and reads nothing but the key. So an SA keeps its key alone, and a packet whose key is still in a context goes on
//! with that. What comes out is the same, whichever it is.

use std::cell::RefCell;

use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use zeroize::Zeroizing;

use super::{Direction, TransformError};
use crate::error::SaError;
use crate::suite::Encryption;

/// An AEAD with its key and the way that it is used.
pub(super) struct Keyed {
    algorithm: Algorithm,
    direction: Direction,
    /// Shorter ones with zeros behind them. Inside, for an allocation would be a cache line more.
    key: Zeroizing<[u8; MAX_KEY]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    AesGcm128,
    AesGcm192,
    AesGcm256,
    ChaCha20Poly1305,
}

impl Keyed {
    pub(super) fn new(encryption: Encryption, key: &[u8], direction: Direction) -> Result<Self, SaError> {
        let algorithm = match encryption {
            Encryption::AesGcm16_128 => Algorithm::AesGcm128,
            Encryption::AesGcm16_192 => Algorithm::AesGcm192,
            Encryption::AesGcm16_256 => Algorithm::AesGcm256,
            Encryption::ChaCha20Poly1305 => Algorithm::ChaCha20Poly1305,
            Encryption::AesCbc128
            | Encryption::AesCbc192
            | Encryption::AesCbc256
            | Encryption::TripleDesCbc => return Err(SaError::Crypto),
        };
        if key.len() != algorithm.key_len() {
            return Err(SaError::Crypto);
        }
        let mut kept = Zeroizing::new([0; MAX_KEY]);
        kept.get_mut(..key.len()).ok_or(SaError::Crypto)?.copy_from_slice(key);
        Ok(Self { algorithm, direction, key: kept })
    }

    pub(super) fn key(&self) -> &[u8] {
        self.key.get(..self.algorithm.key_len()).unwrap_or_default()
    }

    /// Does something with a context that has this key and the nonce, in the direction that the key is for, which the caller knows
    /// when it is compiled. SAs with the same `number` share a context; the last octet of their SPI is a good one.
    #[inline(always)]
    pub(super) fn with<R>(
        &self,
        direction: Direction,
        number: u8,
        nonce: &[u8],
        then: impl FnOnce(&mut CipherCtx) -> Result<R, TransformError>,
    ) -> Result<R, TransformError> {
        let found = CONTEXTS.try_with(|contexts| {
            // Nothing that is done with a context comes back here.
            let mut contexts = contexts.try_borrow_mut().map_err(library)?;
            let row = contexts.0.get_mut(self.row(direction)).ok_or(TransformError::Library)?;
            let row = row.get_or_insert_default();
            let place = row.get_mut(usize::from(number) % PLACES).ok_or(TransformError::Library)?;
            then(self.begin(direction, place, nonce)?)
        });
        found.map_err(library)?
    }

    /// Puts the nonce into the context of a place, and the key unless it is there.
    #[inline(always)]
    fn begin<'a>(
        &self,
        direction: Direction,
        place: &'a mut Option<Context>,
        nonce: &[u8],
    ) -> Result<&'a mut CipherCtx, TransformError> {
        if !place.as_ref().is_some_and(|there| there.has(&self.key)) {
            return self.rekey(direction, place, nonce);
        }
        let there = place.as_mut().ok_or(TransformError::Library)?;
        Self::init(direction, &mut there.context, None, None, nonce)?;
        Ok(&mut there.context)
    }

    #[inline(never)]
    fn rekey<'a>(
        &self,
        direction: Direction,
        place: &'a mut Option<Context>,
        nonce: &[u8],
    ) -> Result<&'a mut CipherCtx, TransformError> {
        // The first packet of the place allocates, and no other: with the same cipher OpenSSL goes on with what there is.
        let (mut context, cipher) = match place.take() {
            Some(there) => (there.context, None),
            None => (CipherCtx::new().map_err(library)?, Some(self.algorithm.cipher())),
        };
        // It has left its place meanwhile, so a context that failed half way is never found.
        Self::init(direction, &mut context, cipher, Some(self.key()), nonce)?;
        Ok(&mut place.insert(Context { key: self.key.clone(), context }).context)
    }

    #[inline(always)]
    fn init(
        direction: Direction,
        context: &mut CipherCtx,
        cipher: Option<&CipherRef>,
        key: Option<&[u8]>,
        nonce: &[u8],
    ) -> Result<(), TransformError> {
        match direction {
            Direction::Seal => context.encrypt_init(cipher, key, Some(nonce)),
            Direction::Open => context.decrypt_init(cipher, key, Some(nonce)),
        }
        .map_err(library)
    }

    fn row(&self, direction: Direction) -> usize {
        self.algorithm as usize * 2 + usize::from(direction == Direction::Open)
    }

    /// Takes the key out of the contexts of this thread.
    pub(super) fn forget(&self) {
        // A thread that ends has dropped them all.
        let _ = CONTEXTS.try_with(|contexts| {
            let Ok(mut contexts) = contexts.try_borrow_mut() else { return };
            let row = contexts.0.get_mut(self.row(self.direction)).and_then(Option::as_mut);
            for place in row.into_iter().flat_map(|row| row.iter_mut()) {
                if place.as_ref().is_some_and(|there| there.has(&self.key)) {
                    *place = None;
                }
            }
        });
    }
}

impl Drop for Keyed {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Algorithm {
    fn key_len(self) -> usize {
        match self {
            Self::AesGcm128 => 16,
            Self::AesGcm192 => 24,
            Self::AesGcm256 | Self::ChaCha20Poly1305 => 32,
        }
    }

    fn cipher(self) -> &'static CipherRef {
        match self {
            Self::AesGcm128 => Cipher::aes_128_gcm(),
            Self::AesGcm192 => Cipher::aes_192_gcm(),
            Self::AesGcm256 => Cipher::aes_256_gcm(),
            Self::ChaCha20Poly1305 => Cipher::chacha20_poly1305(),
        }
    }
}

/// A context and the key that is in it. OpenSSL wipes it when it is dropped.
struct Context {
    key: Zeroizing<[u8; MAX_KEY]>,
    context: CipherCtx,
}

impl Context {
    /// By words, all of them whichever differ: octet by octet it would be a hundred instructions for every packet.
    fn has(&self, key: &[u8; MAX_KEY]) -> bool {
        let (own, others) = (self.key.as_chunks().0.iter(), key.as_chunks().0);
        let word = |octets: &[u8; 8]| u64::from_ne_bytes(*octets);
        own.zip(others).fold(0, |differ, (a, b)| differ | (word(a) ^ word(b))) == 0
    }
}

/// All contexts of a thread, those of an algorithm and direction made when a packet first needs one.
#[derive(Default)]
struct Contexts([Option<Box<Row>>; ROWS]);

type Row = [Option<Context>; PLACES];

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::default();
}

/// Four algorithms, two directions.
const ROWS: usize = 8;
/// Contexts of a row. As many SAs at a time cost what one does, and 20 kB are well inside of the cache that a core has.
const PLACES: usize = 16;
/// Octets of the longest key.
const MAX_KEY: usize = 32;

fn library<E>(_: E) -> TransformError {
    TransformError::Library
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ALL: [(Encryption, usize); 4] = [
        (Encryption::AesGcm16_128, 16),
        (Encryption::AesGcm16_192, 24),
        (Encryption::AesGcm16_256, 32),
        (Encryption::ChaCha20Poly1305, 32),
    ];

    fn keyed(encryption: Encryption, len: usize, key: u8, direction: Direction) -> Keyed {
        Keyed::new(encryption, &vec![key; len], direction).unwrap()
    }

    fn sealed(keyed: &Keyed, number: u8) -> Vec<u8> {
        let mut text = *b"sixteen octets..";
        keyed
            .with(Direction::Seal, number, &[7; 12], |context| {
                context.cipher_update_inplace(&mut text, 16).map_err(library)?;
                context.cipher_final(&mut []).map_err(library)
            })
            .unwrap();
        text.to_vec()
    }

    fn opened(keyed: &Keyed, number: u8, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        keyed
            .with(Direction::Open, number, &[7; 12], |context| {
                context.cipher_update_inplace(&mut text, 16).map_err(library)
            })
            .unwrap();
        text
    }

    /// Places of this thread that have a key in them.
    fn taken() -> usize {
        CONTEXTS
            .with_borrow(|contexts| contexts.0.iter().flatten().flat_map(|row| row.iter().flatten()).count())
    }

    #[test]
    fn sas_that_share_a_place_keep_their_keys() {
        for (encryption, len) in ALL {
            let sas: Vec<_> = (0..3 * PLACES as u8)
                .map(|key| {
                    let of = |direction| keyed(encryption, len, key, direction);
                    (of(Direction::Seal), of(Direction::Open))
                })
                .collect();
            let first: Vec<_> = sas.iter().map(|(seal, _)| sealed(seal, 0)).collect();
            for number in [0, 1, 255] {
                for ((seal, open), text) in sas.iter().zip(&first).rev() {
                    assert_eq!(&sealed(seal, number), text);
                    assert_eq!(opened(open, number, text), b"sixteen octets..");
                }
            }
            let others = first.iter().skip(1).all(|text| Some(text) != first.first());
            assert!(others, "every key has a text of its own");
        }
    }

    #[test]
    fn a_key_goes_with_its_sa() {
        for (encryption, len) in ALL {
            let (one, other) =
                (keyed(encryption, len, 1, Direction::Seal), keyed(encryption, len, 2, Direction::Seal));
            for number in 0..4 {
                sealed(&one, number);
            }
            sealed(&other, 4);
            assert_eq!(taken(), 5);
            drop(one);
            assert_eq!(taken(), 1);
            other.forget();
            assert_eq!(taken(), 0);
            // It was not the last that it has sealed.
            sealed(&other, 4);
        }
    }

    #[test]
    fn it_is_the_same_in_any_thread() {
        let one = keyed(Encryption::AesGcm16_128, 16, 9, Direction::Seal);
        let here = sealed(&one, 0);
        let there = std::thread::scope(|scope| scope.spawn(|| (sealed(&one, 0), taken())).join().unwrap());
        assert_eq!(there, (here, 1));
    }

    #[test]
    fn what_is_no_key_of_the_cipher_is_refused() {
        assert!(Keyed::new(Encryption::AesGcm16_128, &[0; 32], Direction::Seal).is_err());
        assert!(Keyed::new(Encryption::AesCbc128, &[0; 16], Direction::Seal).is_err());
    }
}
