//! The sending half as another node takes it over.

use std::fmt;

use prost::Message;
use snapshot::{Form, Secret, required};

use super::OutboundSa;
use crate::lease::Lease;
use crate::limits::{CountForm, Meter, MeterForm};
use crate::snapshot::{KeysForm, RestoreError, SuiteForm, spi};
use crate::spi::Spi;
use crate::transform::{Direction, IvSource, Transform};

/// Everything of an [`OutboundSa`]. It holds keys: it is wiped when dropped, and printed without them.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct OutboundSnapshot {
    #[prost(fixed32, tag = "1")]
    spi: u32,
    #[prost(message, optional, tag = "2")]
    suite: Option<SuiteForm>,
    #[prost(message, optional, tag = "3")]
    keys: Option<KeysForm>,
    /// With CBC: the key that makes IVs of numbers.
    #[prost(message, optional, tag = "4")]
    iv_seed: Option<Secret>,
    #[prost(uint64, tag = "5")]
    sequence: u64,
    /// The end of the numbers that were reserved, if there was one.
    #[prost(uint64, optional, tag = "6")]
    lease: Option<u64>,
    #[prost(message, optional, tag = "7")]
    meter: Option<MeterForm>,
}

impl Form for OutboundSnapshot {
    const OF: &'static str = "an outbound SA";
    const KIND: u8 = 2;
    const VERSION: u16 = 1;
}

impl fmt::Debug for OutboundSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutboundSnapshot({:08x}, after {})", self.spi, self.sequence)
    }
}

/// How far an SA has come since its snapshot was made.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct OutboundProgress {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(message, optional, tag = "2")]
    count: Option<CountForm>,
}

impl OutboundSnapshot {
    /// Takes over how far the SA has come since. Numbers never go back.
    pub fn advance(&mut self, progress: &OutboundProgress) {
        self.sequence = self.sequence.max(progress.sequence);
        if let (Some(meter), Some(count)) = (&mut self.meter, &progress.count) {
            meter.advance(count);
        }
    }

    /// The number of the last packet that it knows of.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The SPI that the peer chose.
    pub fn spi(&self) -> Spi {
        Spi(self.spi)
    }
}

/// Where an SA goes on that was somebody else's. One number used twice under a key breaks the AEADs, so this has to be
/// said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// At the very next number: the former owner has sent nothing since the snapshot was made, and will not.
    Exactly,
    /// After this number, the last that the former owner has reserved, or after the block that the snapshot names if that ends
    /// later. The numbers in between are jumped over.
    Beyond(u64),
}

impl OutboundSa {
    /// Everything that another node needs to go on with it.
    pub fn snapshot(&self) -> OutboundSnapshot {
        OutboundSnapshot {
            spi: self.spi.0,
            suite: Some(SuiteForm::new(self.suite)),
            keys: Some(KeysForm::new(&self.transform.keys())),
            iv_seed: self.ivs.seed().map(|seed| Secret::new(seed)),
            sequence: self.sequence,
            lease: self.lease().end(),
            meter: Some(self.meter.form()),
        }
    }

    /// How far it has come.
    pub fn progress(&self) -> OutboundProgress {
        OutboundProgress { sequence: self.sequence, count: Some(self.meter.count_form()) }
    }

    /// Goes on with an SA of which this is a snapshot, with numbers that are reserved up to `lease`.
    ///
    /// # Errors
    /// With what is wrong, if it is no snapshot of an SA that can be made.
    pub fn restore(snapshot: &OutboundSnapshot, resume: Resume, lease: Lease) -> Result<Self, RestoreError> {
        let suite = required(snapshot.suite.as_ref(), "the algorithms")?.read()?;
        let keys = required(snapshot.keys.as_ref(), "the keys")?.read();
        let ivs = if suite.encryption.is_aead() {
            IvSource::Counter
        } else {
            const SEED: &str = "the key of the IVs";
            IvSource::new(suite.encryption, required(snapshot.iv_seed.as_ref(), SEED)?.array(SEED)?)?
        };
        let used = match resume {
            Resume::Exactly => snapshot.sequence,
            Resume::Beyond(last) => snapshot.sequence.max(last).max(snapshot.lease.unwrap_or(0)),
        };
        let mut sa = Self {
            spi: spi(snapshot.spi)?,
            suite,
            transform: Transform::new(&suite, &keys, Direction::Seal)?,
            ivs,
            sequence: used,
            last: 0,
            leased: false,
            gate: 0,
            meter: Meter::restore(required(snapshot.meter.as_ref(), "the counters")?),
        };
        sa.reserve(lease);
        Ok(sa)
    }
}
