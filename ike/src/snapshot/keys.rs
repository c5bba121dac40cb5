//! Key pairs of Diffie-Hellman exchanges under way.

use prost::Message;
use snapshot::{Secret, required};

use super::RestoreError;
use super::values::small;
use crate::crypto::CryptoError;
use crate::crypto::dh::KeyPair;

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct KeyPairForm {
    #[prost(uint32, tag = "1")]
    group: u32,
    #[prost(message, optional, tag = "2")]
    private: Option<Secret>,
    #[prost(bytes = "vec", tag = "3")]
    public: Vec<u8>,
}

impl KeyPairForm {
    pub(crate) fn new(dh: &KeyPair) -> Self {
        // A key that was made here can be read out; if not, it is told when it is missed.
        let private = dh.private().ok().map(|private| Secret::new(&private));
        Self { group: dh.group().into(), private, public: dh.public().to_vec() }
    }

    pub(crate) fn read(&self) -> Result<KeyPair, RestoreError> {
        const FIELD: &str = "a private value of Diffie-Hellman";
        let private = required(self.private.as_ref(), FIELD)?.octets();
        let group = small(self.group, "a group")?;
        KeyPair::from_parts(group, private, self.public.clone())
            .map_err(|error: CryptoError| RestoreError::Crypto(error))
    }
}
