//! The SPI, and the route that Culvert writes into the ones it chooses.

use std::fmt;

use thiserror::Error;

/// A Security Parameters Index (RFC 4301 section 4.1).
///
/// The receiver of ESP chooses the SPI. Those that Culvert chooses hold, from the top bit down:
///
/// ```text
///  31      26 25      20 19                    0
/// +----------+----------+-----------------------+
/// | slot (6) | shard (6)|      index (20)       |
/// +----------+----------+-----------------------+
/// ```
///
/// * `slot`: the cluster's unit of ownership, 1..=63. Never 0, which keeps clear of the reserved values 1..=255 and of
///   the zero that marks IKE on UDP port 4500 (RFC 3948 section 2.2);
/// * `shard`: the thread that owns the SA;
/// * `index`: the entry in that thread's table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spi(pub u32);

impl Spi {
    /// Highest slot number; slot 0 is not used.
    pub const MAX_SLOT: u8 = 63;
    /// Highest shard number.
    pub const MAX_SHARD: u8 = 63;
    /// One more than the highest index.
    pub const INDEX_LIMIT: u32 = 1 << INDEX_BITS;
    /// How far to shift an SPI right so that the shard stands in the low bits (for packet filters).
    pub const SHARD_SHIFT: u32 = INDEX_BITS;

    /// Puts the three fields together.
    ///
    /// Fails when a field is out of its range.
    pub fn compose(slot: u8, shard: u8, index: u32) -> Result<Self, SpiFieldError> {
        if slot == 0 || slot > Self::MAX_SLOT {
            return Err(SpiFieldError::Slot(slot));
        }
        if shard > Self::MAX_SHARD {
            return Err(SpiFieldError::Shard(shard));
        }
        if index >= Self::INDEX_LIMIT {
            return Err(SpiFieldError::Index(index));
        }
        Ok(Self(u32::from(slot) << SLOT_SHIFT | u32::from(shard) << INDEX_BITS | index))
    }

    /// The owner in the cluster.
    pub fn slot(self) -> u8 {
        (self.0 >> SLOT_SHIFT) as u8
    }

    /// The thread that owns the SA.
    pub fn shard(self) -> u8 {
        ((self.0 >> INDEX_BITS) & 0x3f) as u8
    }

    /// The entry in that thread's table.
    pub fn index(self) -> u32 {
        self.0 & (Self::INDEX_LIMIT - 1)
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

impl fmt::Debug for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spi(0x{:08x})", self.0)
    }
}

/// A field that does not fit into an SPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SpiFieldError {
    /// The slot is not in 1..=63.
    #[error("slot {0} is not in 1..=63")]
    Slot(u8),
    /// The shard is not in 0..=63.
    #[error("shard {0} is not in 0..=63")]
    Shard(u8),
    /// The index needs more than 20 bits.
    #[error("index {0} needs more than 20 bits")]
    Index(u32),
}

const INDEX_BITS: u32 = 20;
const SLOT_SHIFT: u32 = 26;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_survive(slot in 1u8..=63, shard in 0u8..=63, index in 0u32..1 << 20) {
            let spi = Spi::compose(slot, shard, index).unwrap();
            prop_assert_eq!((spi.slot(), spi.shard(), spi.index()), (slot, shard, index));
            prop_assert!(spi.0 > 255, "never a reserved value");
        }

        #[test]
        fn every_value_is_its_fields(raw in 1u32 << 26..) {
            let spi = Spi(raw);
            prop_assert_eq!(Spi::compose(spi.slot(), spi.shard(), spi.index()).unwrap(), spi);
        }
    }

    #[test]
    fn fields_out_of_range_are_named() {
        assert_eq!(Spi::compose(0, 0, 0), Err(SpiFieldError::Slot(0)));
        assert_eq!(Spi::compose(64, 0, 0), Err(SpiFieldError::Slot(64)));
        assert_eq!(Spi::compose(1, 64, 0), Err(SpiFieldError::Shard(64)));
        assert_eq!(Spi::compose(1, 0, 1 << 20), Err(SpiFieldError::Index(1 << 20)));
    }

    #[test]
    fn prints_as_people_write_it() {
        assert_eq!(Spi(0xa5f8).to_string(), "0x0000a5f8");
    }
}
