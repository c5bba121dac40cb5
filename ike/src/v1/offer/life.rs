//! How long an SA lasts (RFC 2409 appendix A, RFC 2407 section 4.5): pairs of a type and a duration.

use crate::config::Life;
use crate::v1::wire::Attribute;

const SECONDS: u16 = 1;
const KILOBYTES: u16 = 2;

/// The classes of type and duration in phase 1.
pub(super) const PHASE_1: (u16, u16) = (11, 12);
/// The classes of type and duration in phase 2.
pub(super) const PHASE_2: (u16, u16) = (1, 2);

/// What a peer says of how long an SA lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfferedLife {
    /// Since it was made.
    pub(crate) seconds: Option<u64>,
    /// What it carries, in units of 1,024 octets.
    pub(crate) kilobytes: Option<u64>,
}

/// A lifetime as attributes of phase 1.
pub(crate) fn phase1_life(life: Life) -> Vec<Attribute> {
    attributes(life, PHASE_1)
}

/// A lifetime as attributes of phase 2, which are those of RESPONDER-LIFETIME as well.
pub(crate) fn phase2_life(life: Life) -> Vec<Attribute> {
    attributes(life, PHASE_2)
}

fn attributes(life: Life, (kind, duration): (u16, u16)) -> Vec<Attribute> {
    let pair = |of: u16, value: u64| {
        // What does not fit in four octets is longer than anybody keeps an SA.
        [Attribute::short(kind, of), Attribute::long(duration, u32::try_from(value).unwrap_or(u32::MAX))]
    };
    let kilobytes = life.kilobytes.map(|n| pair(KILOBYTES, n));
    pair(SECONDS, life.time.as_secs()).into_iter().chain(kilobytes.into_iter().flatten()).collect()
}

/// Collects lifetimes from attributes in their order: a duration belongs to the type before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    classes: (u16, u16),
    unit: Option<u64>,
    pub(super) life: OfferedLife,
}

impl Reading {
    pub(super) fn new(classes: (u16, u16)) -> Self {
        Self { classes, unit: None, life: OfferedLife::default() }
    }

    /// Takes an attribute, if it is one of a lifetime. Of two of the same unit the shorter counts.
    pub(super) fn take(&mut self, attribute: &Attribute) -> bool {
        if attribute.kind == self.classes.0 {
            self.unit = attribute.number();
            return true;
        }
        if attribute.kind != self.classes.1 {
            return false;
        }
        let field = match self.unit.take() {
            Some(1) => &mut self.life.seconds,
            Some(2) => &mut self.life.kilobytes,
            // Of a unit that nobody knows.
            _ => return true,
        };
        // A number of more octets than are counted here is no bound.
        if let Some(value) = attribute.number() {
            *field = Some(field.map_or(value, |other| other.min(value)));
        }
        true
    }
}

impl OfferedLife {
    /// Reads attributes of phase 1, others left out.
    pub(crate) fn of_phase1(attributes: &[Attribute]) -> Self {
        Self::read(attributes, PHASE_1)
    }

    /// Reads attributes of phase 2, others left out.
    pub(crate) fn of_phase2(attributes: &[Attribute]) -> Self {
        Self::read(attributes, PHASE_2)
    }

    fn read(attributes: &[Attribute], classes: (u16, u16)) -> Self {
        let mut reading = Reading::new(classes);
        attributes.iter().for_each(|a| {
            reading.take(a);
        });
        reading.life
    }
}
