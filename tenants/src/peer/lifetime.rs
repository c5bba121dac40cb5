//! Lifetimes: a soft limit at which an SA is rekeyed, and a hard one at which its keys are discarded.

use std::time::Duration;

use culvert_proto::v1;

use crate::limits;
use crate::violation::Violations;

/// A soft and a hard limit; `rekey < life`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<T> {
    /// Rekey here.
    pub rekey: T,
    /// Discard the keys here.
    pub life: T,
}

impl Span<Duration> {
    /// The same for an SA that the peer keeps no longer than that: it is rekeyed when nine tenths are over, where it would be later
    /// otherwise.
    #[must_use]
    pub fn within(self, limit: Option<Duration>) -> Self {
        match limit.filter(|limit| *limit < self.life) {
            None => self,
            Some(life) => Self { rekey: self.rekey.min(life - life / 10), life },
        }
    }
}

/// How long a Child SA is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildLifetime {
    /// Time since it was installed.
    pub time: Span<Duration>,
    /// Octets of one direction.
    pub bytes: Option<Span<u64>>,
    /// Packets of one direction.
    pub packets: Option<Span<u64>>,
}

impl ChildLifetime {
    pub(crate) fn parse(lifetime: Option<&v1::ChildLifetime>, faults: &mut Violations) -> Self {
        let given = lifetime.copied().unwrap_or_default();
        let time = parse_time(given.rekey_time, given.life_time, limits::DEFAULT_CHILD_REKEY_TIME, faults);
        let bytes = Count { rekey: "rekey_bytes", life: "life_bytes", min: limits::MIN_REKEY_BYTES };
        let packets = Count { rekey: "rekey_packets", life: "life_packets", min: limits::MIN_REKEY_PACKETS };
        Self {
            time,
            bytes: bytes.parse(given.rekey_bytes, given.life_bytes, faults),
            packets: packets.parse(given.rekey_packets, given.life_packets, faults),
        }
    }

    /// The same for a pair that the peer keeps no longer than that.
    #[must_use]
    pub fn within(self, time: Option<Duration>, bytes: Option<u64>) -> Self {
        let time = self.time.within(time);
        let bytes = match (bytes, self.bytes) {
            (Some(limit), Some(span)) if limit < span.life => {
                Some(Span { rekey: span.rekey.min(limit - limit / 10), life: limit })
            }
            (Some(limit), None) => Some(Span { rekey: limit - limit / 10, life: limit }),
            (_, span) => span,
        };
        Self { time, bytes, ..self }
    }

    pub(crate) fn to_proto(self) -> v1::ChildLifetime {
        v1::ChildLifetime {
            rekey_time: Some(to_duration(self.time.rekey)),
            life_time: Some(to_duration(self.time.life)),
            rekey_bytes: self.bytes.map_or(0, |span| span.rekey),
            life_bytes: self.bytes.map_or(0, |span| span.life),
            rekey_packets: self.packets.map_or(0, |span| span.rekey),
            life_packets: self.packets.map_or(0, |span| span.life),
        }
    }
}

/// The limits in time. One of the pair given, the other is derived.
pub(crate) fn parse_time(
    rekey: Option<prost_types::Duration>,
    life: Option<prost_types::Duration>,
    default_rekey: Duration,
    faults: &mut Violations,
) -> Span<Duration> {
    let fallback = Span { rekey: default_rekey, life: life_of(default_rekey) };
    let rekey = rekey.map(|value| faults.note("rekey_time", from_duration(value)));
    let life = life.map(|value| faults.note("life_time", from_duration(value)));
    let span = match (rekey, life) {
        (None, None) => return fallback,
        // A fault that is noted already.
        (Some(None), _) | (_, Some(None)) => return fallback,
        (Some(Some(rekey)), None) => Span { rekey, life: life_of(rekey) },
        (None, Some(Some(life))) => Span { rekey: life - life / 10, life },
        (Some(Some(rekey)), Some(Some(life))) => Span { rekey, life },
    };
    let (shown_rekey, shown_life) = (span.rekey.as_secs_f64(), span.life.as_secs_f64());
    if span.rekey < limits::MIN_REKEY_TIME {
        let field = if rekey.is_some() { "rekey_time" } else { "life_time" };
        let min = limits::MIN_REKEY_TIME.as_secs();
        faults.add(field, format!("a rekey after {shown_rekey} s; {min} s is the least"));
    }
    if span.life > limits::MAX_LIFE_TIME {
        let field = if life.is_some() { "life_time" } else { "rekey_time" };
        let max = limits::MAX_LIFE_TIME.as_secs();
        faults.add(field, format!("a life of {shown_life} s; {max} s is the most"));
    }
    if span.rekey >= span.life {
        faults.add("rekey_time", format!("{shown_rekey} s is not before the life_time of {shown_life} s"));
    }
    span
}

pub(crate) fn to_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
}

/// A duration that is not negative and is finite.
pub(crate) fn from_duration(duration: prost_types::Duration) -> Result<Duration, String> {
    let shown = format!("{}.{:09} s", duration.seconds, duration.nanos.unsigned_abs());
    Duration::try_from(duration).map_err(|_| format!("{shown} is not a duration to wait for"))
}

fn life_of(rekey: Duration) -> Duration {
    rekey.saturating_add(rekey / 10)
}

/// Names and the least value of a pair of limits that count.
struct Count {
    rekey: &'static str,
    life: &'static str,
    min: u64,
}

impl Count {
    /// Zero stands for "not given". One of the pair given, the other is derived.
    fn parse(&self, rekey: u64, life: u64, faults: &mut Violations) -> Option<Span<u64>> {
        let span = match (rekey, life) {
            (0, 0) => return None,
            (rekey, 0) => Span { rekey, life: rekey.saturating_add(rekey / 10) },
            (0, life) => Span { rekey: life - life / 10, life },
            (rekey, life) => Span { rekey, life },
        };
        if span.rekey < self.min {
            let field = if rekey == 0 { self.life } else { self.rekey };
            faults.add(field, format!("a rekey after {}; {} is the least", span.rekey, self.min));
        } else if span.rekey >= span.life {
            faults
                .add(self.rekey, format!("{} is not before the {} of {}", span.rekey, self.life, span.life));
        }
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sa_lasts_no_longer_than_the_peer_keeps_it_and_is_rekeyed_before() {
        let span = |rekey, life| Span { rekey: Duration::from_secs(rekey), life: Duration::from_secs(life) };
        let within = |limit: Option<u64>| span(12_000, 14_400).within(limit.map(Duration::from_secs));
        assert_eq!(within(None), span(12_000, 14_400));
        assert_eq!(within(Some(86_400)), span(12_000, 14_400));
        assert_eq!(within(Some(14_000)), span(12_000, 14_000));
        assert_eq!(within(Some(3_600)), span(3_240, 3_600));
    }
}
