//! The receiving half as another node takes it over.

use std::fmt;
use std::sync::Arc;

use prost::Message;
use snapshot::{Form, SnapshotError, required};

use super::InboundSa;
use crate::limits::{CountForm, Meter, MeterForm};
use crate::replay::{ReplayWindow, WindowForm};
use crate::selector::SelectorPair;
use crate::selectors::Selectors;
use crate::snapshot::{KeysForm, RestoreError, SelectorsForm, SuiteForm, spi};
use crate::spi::Spi;
use crate::transform::{Direction, Transform};

/// Everything of an [`InboundSa`]. It holds keys: it is wiped when dropped, and printed without them.
///
/// An SA that is restored from it opens what the first one would have opened. What that one has accepted after the snapshot was
/// made is taken once more: how old a snapshot may be is for whoever keeps it, or [`InboundSa::resume_at`] says what is
/// taken no more.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct InboundSnapshot {
    #[prost(fixed32, tag = "1")]
    spi: u32,
    #[prost(message, optional, tag = "2")]
    suite: Option<SuiteForm>,
    #[prost(message, optional, tag = "3")]
    keys: Option<KeysForm>,
    #[prost(message, optional, tag = "4")]
    window: Option<WindowForm>,
    #[prost(message, optional, tag = "5")]
    selectors: Option<SelectorsForm>,
    #[prost(message, optional, tag = "6")]
    meter: Option<MeterForm>,
}

impl Form for InboundSnapshot {
    const OF: &'static str = "an inbound SA";
    const KIND: u8 = 1;
    const VERSION: u16 = 1;
}

impl fmt::Debug for InboundSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InboundSnapshot({:08x})", self.spi)
    }
}

/// How far an SA has come since its snapshot was made: its replay window, and what it has counted. No keys.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InboundProgress {
    #[prost(message, optional, tag = "1")]
    window: Option<WindowForm>,
    #[prost(message, optional, tag = "2")]
    count: Option<CountForm>,
}

impl InboundSnapshot {
    /// Takes over how far the SA has come since. Nothing of it when it is older than the snapshot.
    ///
    /// # Errors
    /// With what is wrong with it, if it is of no such SA. The snapshot stays as it is.
    pub fn advance(&mut self, progress: &InboundProgress) -> Result<(), RestoreError> {
        const WINDOW: &str = "the replay window";
        let new = required(progress.window.as_ref(), WINDOW)?;
        let (window, known) =
            (ReplayWindow::restore(new)?, ReplayWindow::restore(required(self.window.as_ref(), WINDOW)?)?);
        if window.size() != known.size() {
            let reason = format!("{} packets, the SA has {}", window.size(), known.size());
            return Err(SnapshotError::value(WINDOW, reason).into());
        }
        if window.top() < known.top() {
            return Ok(());
        }
        self.window = Some(new.clone());
        if let (Some(meter), Some(count)) = (&mut self.meter, &progress.count) {
            meter.advance(count);
        }
        Ok(())
    }

    /// What may come out of the SA.
    ///
    /// # Errors
    /// With what is wrong, if there is nothing of the kind.
    pub fn selectors(&self) -> Result<SelectorPair, RestoreError> {
        Ok(required(self.selectors.as_ref(), "the traffic selectors")?.read()?)
    }

    /// The SPI that it answers to.
    pub fn spi(&self) -> Spi {
        Spi(self.spi)
    }
}

impl InboundSa {
    /// How far it has come.
    pub fn progress(&self) -> InboundProgress {
        InboundProgress { window: Some(self.window.form()), count: Some(self.meter.count_form()) }
    }

    /// Everything that another node needs to go on with it.
    pub fn snapshot(&self) -> InboundSnapshot {
        InboundSnapshot {
            spi: self.spi.0,
            suite: Some(SuiteForm::new(self.suite)),
            keys: Some(KeysForm::new(&self.transform.keys())),
            window: Some(self.window.form()),
            selectors: Some(SelectorsForm::new(&self.selectors)),
            meter: Some(self.meter.form()),
        }
    }

    /// Goes on where the snapshot was made. `share` gives the place of selectors that many SAs have; [`Arc::new`] if there is
    /// none.
    ///
    /// # Errors
    /// With what is wrong, if it is no snapshot of an SA that can be made.
    pub fn restore(
        snapshot: &InboundSnapshot,
        share: impl FnOnce(SelectorPair) -> Arc<SelectorPair>,
    ) -> Result<Self, RestoreError> {
        let suite = required(snapshot.suite.as_ref(), "the algorithms")?.read()?;
        let keys = required(snapshot.keys.as_ref(), "the keys")?.read();
        let selectors = required(snapshot.selectors.as_ref(), "the traffic selectors")?.read()?;
        Ok(Self {
            spi: spi(snapshot.spi)?,
            suite,
            transform: Transform::new(&suite, &keys, Direction::Open)?,
            window: ReplayWindow::restore(required(snapshot.window.as_ref(), "the replay window")?)?,
            meter: Meter::restore(required(snapshot.meter.as_ref(), "the counters")?),
            selectors: Selectors::new(share(selectors)),
        })
    }
}
