//! AES-XCBC-MAC (RFC 3566) and AES-CMAC (RFC 4493), as `ike` uses them for a PRF and for integrity, and `esp` for
//! integrity. Peers that speak them rather than HMAC are old or small.
//!
//! It is not a general library of codes: both are CBC-MACs under one AES-128 key that differ only in how the last block
//! is masked. Start with [`AesMac`].

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Octets of key, block and output.
pub const LEN: usize = 16;

type Block = [u8; LEN];

/// A code under way. A copy of a keyed one starts another message.
#[derive(Clone, ZeroizeOnDrop)]
pub struct AesMac {
    cipher: Aes128,
    /// Goes into the last block when that is whole.
    whole: Block,
    /// Goes into the last block when that had to be padded.
    padded: Block,
    chain: Block,
    /// The block that is being filled. A whole one waits, for it may be the last.
    pending: Block,
    filled: usize,
}

impl std::fmt::Debug for AesMac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AesMac(..)")
    }
}

impl AesMac {
    /// AES-XCBC-MAC: three keys derived from the one (RFC 3566 section 4).
    pub fn xcbc(key: &Block) -> Self {
        let outer = Aes128::new(key.into());
        let [mut first, whole, padded] = [1, 2, 3].map(|constant| encrypted(&outer, [constant; LEN]));
        let cipher = Aes128::new(&first.into());
        first.zeroize();
        Self::new(cipher, whole, padded)
    }

    /// AES-CMAC: two masks derived from the key by doubling (RFC 4493 section 2.3).
    pub fn cmac(key: &Block) -> Self {
        let cipher = Aes128::new(key.into());
        let whole = doubled(encrypted(&cipher, [0; LEN]));
        Self::new(cipher, whole, doubled(whole))
    }

    const fn new(cipher: Aes128, whole: Block, padded: Block) -> Self {
        Self { cipher, whole, padded, chain: [0; LEN], pending: [0; LEN], filled: 0 }
    }

    /// Takes in more of the message.
    pub fn update(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.filled == LEN {
                self.chain = encrypted(&self.cipher, xor(self.chain, self.pending));
                self.filled = 0;
            }
            let free = self.pending.get_mut(self.filled..).unwrap_or_default();
            let (now, later) = data.split_at(free.len().min(data.len()));
            free.iter_mut().zip(now).for_each(|(place, octet)| *place = *octet);
            self.filled += now.len();
            data = later;
        }
    }

    /// The code of the message.
    pub fn finish(mut self) -> Block {
        let mask = if self.filled == LEN {
            self.whole
        } else {
            for (at, place) in self.pending.iter_mut().enumerate().skip(self.filled) {
                *place = if at == self.filled { 0x80 } else { 0 };
            }
            self.padded
        };
        encrypted(&self.cipher, xor(xor(self.chain, self.pending), mask))
    }
}

/// The key that a PRF takes of one of any length: AES-XCBC-PRF-128 pads a short one (RFC 4434 section 2), AES-CMAC-PRF-128
/// does not (RFC 4615 section 3); both hash a long one under a key of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AesPrf {
    /// AES-XCBC-PRF-128 (RFC 4434).
    Xcbc,
    /// AES-CMAC-PRF-128 (RFC 4615).
    Cmac,
}

impl AesPrf {
    /// The code keyed with `key`.
    pub fn keyed(self, key: &[u8]) -> AesMac {
        let mut exact = [0; LEN];
        match (self, key.len()) {
            (_, LEN) => exact.copy_from_slice(key),
            (Self::Xcbc, 0..LEN) => exact.iter_mut().zip(key).for_each(|(to, from)| *to = *from),
            _ => {
                let mut hash = self.of(&[0; LEN]);
                hash.update(key);
                exact = hash.finish();
            }
        }
        let mac = self.of(&exact);
        exact.zeroize();
        mac
    }

    fn of(self, key: &Block) -> AesMac {
        match self {
            Self::Xcbc => AesMac::xcbc(key),
            Self::Cmac => AesMac::cmac(key),
        }
    }
}

fn encrypted(cipher: &Aes128, mut block: Block) -> Block {
    cipher.encrypt_block((&mut block).into());
    block
}

fn xor(a: Block, b: Block) -> Block {
    std::array::from_fn(|at| a.get(at).copied().unwrap_or(0) ^ b.get(at).copied().unwrap_or(0))
}

/// Multiplication by x in GF(2^128), without a branch on the secret.
fn doubled(block: Block) -> Block {
    let value = u128::from_be_bytes(block);
    let carry = (value >> 127) * 0x87;
    ((value << 1) ^ carry).to_be_bytes()
}
