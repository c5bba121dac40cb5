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

impl OfferedLife {
    /// Without what is zero, which bounds nothing.
    pub(crate) fn bounding(self) -> Self {
        let (seconds, kilobytes) = (self.seconds.filter(|n| *n > 0), self.kilobytes.filter(|n| *n > 0));
        Self { seconds, kilobytes }
    }

    /// What ends first by either of two.
    pub(crate) fn least(self, other: Self) -> Self {
        let (one, other) = (self.bounding(), other.bounding());
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self { seconds: least(one.seconds, other.seconds), kilobytes: least(one.kilobytes, other.kilobytes) }
    }
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
    /// Reads attributes of phase 2, others left out.
    pub(crate) fn of_phase2(attributes: &[Attribute]) -> Self {
        Self::read(attributes, PHASE_2)
    }

    /// Reads attributes of phase 1, others left out.
    pub(crate) fn of_phase1(attributes: &[Attribute]) -> Self {
        Self::read(attributes, PHASE_1)
    }

    fn read(attributes: &[Attribute], classes: (u16, u16)) -> Self {
        let mut reading = Reading::new(classes);
        attributes.iter().for_each(|a| {
            reading.take(a);
        });
        reading.life
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lifetime_reads_as_written() {
        for (seconds, kilobytes) in [(3_600, None), (28_800, Some(4_608_000)), (0, Some(0))] {
            let life = Life { time: Duration::from_secs(seconds), kilobytes };
            let expected = OfferedLife { seconds: Some(seconds), kilobytes };
            assert_eq!(OfferedLife::read(&phase1_life(life), PHASE_1), expected);
            assert_eq!(OfferedLife::of_phase2(&phase2_life(life)), expected);
            assert_eq!(OfferedLife::of_phase2(&phase1_life(life)), OfferedLife::default());
            assert!(phase2_life(life).iter().all(|a| a.value.len() == if a.kind == 1 { 2 } else { 4 }));
        }
        let endless = Life { time: Duration::MAX, kilobytes: Some(u64::MAX) };
        let most = Some(u64::from(u32::MAX));
        let expected = OfferedLife { seconds: most, kilobytes: most };
        assert_eq!(OfferedLife::read(&phase1_life(endless), PHASE_1), expected);
    }

    #[test]
    fn a_duration_belongs_to_the_type_before_it() {
        let read = |attributes: &[(u16, u16)]| {
            let attributes: Vec<_> = attributes.iter().map(|&(k, v)| Attribute::short(k, v)).collect();
            let life = OfferedLife::of_phase2(&attributes);
            (life.seconds, life.kilobytes)
        };
        assert_eq!(read(&[(1, 2), (2, 9), (1, 1), (2, 8)]), (Some(8), Some(9)));
        assert_eq!(read(&[(1, 1), (5, 1), (2, 8)]), (Some(8), None));
        // Alone, of a unit that nobody knows, and twice.
        assert_eq!(read(&[(2, 8)]), (None, None));
        assert_eq!(read(&[(1, 3), (2, 8)]), (None, None));
        assert_eq!(read(&[(1, 1), (2, 8), (2, 9)]), (Some(8), None));
        assert_eq!(read(&[(1, 1), (2, 8), (1, 1), (2, 7)]), (Some(7), None));
        assert_eq!(read(&[(1, 1), (2, 7), (1, 1), (2, 8)]), (Some(7), None));
        let long = |octets: usize| {
            let attributes = [Attribute::short(1, 1), Attribute { kind: 2, value: vec![1; octets] }];
            OfferedLife::of_phase2(&attributes).seconds
        };
        assert_eq!([long(0), long(3), long(9)], [None, Some(0x01_01_01), None]);
    }
}
