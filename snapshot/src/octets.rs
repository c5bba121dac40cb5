//! Octets that nobody may see.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use zeroize::Zeroize as _;

/// Octets with keys in them: wiped when dropped, and never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Octets(Vec<u8>);

impl Octets {
    /// The same, which others may share. They are wiped when the last of them is done.
    pub fn shared(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl From<Vec<u8>> for Octets {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets)
    }
}

impl Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Octets {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl AsRef<[u8]> for Octets {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Octets {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.0.len())
    }
}

/// Leaves nothing of them. As what is not used of the vector they go all at once, where `zeroize` of a vector goes through them one by one: of a
/// connection there are a thousand, and several copies.
pub(crate) fn wipe(octets: &mut Vec<u8>) {
    octets.clear();
    octets.spare_capacity_mut().zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_do_not_print() {
        assert_eq!(format!("{:?}", Octets::from(b"hunter2".to_vec())), "7 octets");
    }
}
