//! Values that many parts of a connection have: algorithms, selectors, addresses, schedules, counters.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use snapshot::{Address, Range, SnapshotError, Writer, required};

use crate::config::{Mode, Retransmit};
use crate::coverage::{Gap, Traffic};
use crate::event::{ChildEnd, Nat};
use crate::failure::Failure;
use crate::fruit::Fruit;
use crate::proposal::IkeChoice;
use crate::verbs::{Counters, Path};
use crate::wire::numbers::TransformType;
use crate::wire::sa::Transform;
use crate::wire::ts::TrafficSelector;

/// As nanoseconds. The longest that can be said are 584 years.
pub(crate) fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) const fn duration(nanoseconds: u64) -> Duration {
    Duration::from_nanos(nanoseconds)
}

/// A number of 16 bits.
pub(crate) fn small(number: u32, field: &'static str) -> Result<u16, SnapshotError> {
    u16::try_from(number).map_err(|error| SnapshotError::value(field, error))
}

/// An algorithm in one number: type, ID, and the bits of its key and one more, or zero where it says none. What carries
/// attributes that nobody knows is never chosen, nor configured.
pub(crate) fn transform_form(transform: Transform) -> u64 {
    let Transform { kind, id, key_bits, unknown_attribute: _ } = transform;
    let bits = key_bits.map_or(0, |bits| u64::from(bits) + 1);
    u64::from(kind.0) | u64::from(id) << 8 | bits << 24
}

pub(crate) fn transform(form: u64) -> Result<Transform, SnapshotError> {
    let [.., b0, b1, b2, i0, i1, kind] = form.to_be_bytes();
    let bits = u32::from_be_bytes([0, b0, b1, b2]);
    let key_bits = bits.checked_sub(1).map(|bits| small(bits, "an algorithm")).transpose()?;
    let id = u16::from_be_bytes([i0, i1]);
    Ok(Transform { key_bits, ..Transform::new(TransformType(kind), id) })
}

/// The algorithms of an IKE_SA.
pub(crate) fn choice_form(choice: &IkeChoice) -> Vec<u64> {
    choice.transforms().into_iter().map(transform_form).collect()
}

pub(crate) fn choice(form: &[u64]) -> Result<IkeChoice, SnapshotError> {
    let transforms = form.iter().copied().map(transform).collect::<Result<Vec<_>, _>>()?;
    required(IkeChoice::from_transforms(&transforms), "the algorithms of an IKE_SA")
}

pub(crate) fn write_selectors(w: &mut Writer, tag: u32, selectors: &[TrafficSelector]) {
    for TrafficSelector { protocol, start_port, end_port, start, end } in selectors {
        Range::write(w, tag, (*protocol, (*start, *end), (*start_port, *end_port)));
    }
}

pub(crate) fn selectors_form(selectors: &[TrafficSelector]) -> Vec<Range> {
    let form = |ts: &TrafficSelector| {
        let TrafficSelector { protocol, start_port, end_port, start, end } = *ts;
        Range::new(protocol, (start, end), (start_port, end_port))
    };
    selectors.iter().map(form).collect()
}

pub(crate) fn selectors(form: &[Range]) -> Result<Vec<TrafficSelector>, SnapshotError> {
    let read = |range: &Range| {
        let (protocol, (start, end), (start_port, end_port)) = range.read("a traffic selector")?;
        Ok(TrafficSelector { protocol, start_port, end_port, start, end })
    };
    form.iter().map(read).collect()
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct TrafficForm {
    #[prost(message, repeated, tag = "1")]
    local: Vec<Range>,
    #[prost(message, repeated, tag = "2")]
    remote: Vec<Range>,
}

impl TrafficForm {
    pub(crate) fn new(traffic: &Traffic) -> Self {
        Self { local: selectors_form(&traffic.local), remote: selectors_form(&traffic.remote) }
    }

    pub(crate) fn read(&self) -> Result<Traffic, SnapshotError> {
        Ok(Traffic { local: selectors(&self.local)?, remote: selectors(&self.remote)? })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct GapForm {
    #[prost(string, tag = "1")]
    policy: String,
    #[prost(message, repeated, tag = "2")]
    uncovered: Vec<TrafficForm>,
}

impl GapForm {
    pub(crate) fn new((policy, uncovered): &Gap) -> Self {
        Self { policy: policy.to_string(), uncovered: uncovered.iter().map(TrafficForm::new).collect() }
    }

    pub(crate) fn read(&self) -> Result<Gap, SnapshotError> {
        let uncovered = self.uncovered.iter().map(TrafficForm::read).collect::<Result<_, _>>()?;
        Ok((self.policy.as_str().into(), uncovered))
    }
}

pub(crate) const fn mode_number(mode: Mode) -> u32 {
    match mode {
        Mode::Tunnel => 0,
        Mode::Transport => 1,
    }
}

pub(crate) fn mode(number: u32) -> Result<Mode, SnapshotError> {
    match number {
        0 => Ok(Mode::Tunnel),
        1 => Ok(Mode::Transport),
        _ => Err(SnapshotError::value("a mode", number)),
    }
}

pub(crate) const fn end_number(end: ChildEnd) -> u32 {
    match end {
        ChildEnd::Rekeyed => 0,
        ChildEnd::Redundant => 1,
        ChildEnd::DeletedByPeer => 2,
        ChildEnd::Deleted => 3,
        ChildEnd::Expired => 4,
        ChildEnd::LostByPeer => 5,
        ChildEnd::IkeClosed => 6,
    }
}

pub(crate) fn end(number: u32) -> Result<ChildEnd, SnapshotError> {
    Ok(match number {
        0 => ChildEnd::Rekeyed,
        1 => ChildEnd::Redundant,
        2 => ChildEnd::DeletedByPeer,
        3 => ChildEnd::Deleted,
        4 => ChildEnd::Expired,
        5 => ChildEnd::LostByPeer,
        6 => ChildEnd::IkeClosed,
        _ => return Err(SnapshotError::value("why a Child SA ends", number)),
    })
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PathForm {
    #[prost(message, optional, tag = "1")]
    local: Option<Address>,
    #[prost(message, optional, tag = "2")]
    remote: Option<Address>,
    #[prost(uint32, tag = "3")]
    local_natt: u32,
    #[prost(uint32, tag = "4")]
    remote_natt: u32,
    #[prost(bool, tag = "5")]
    nat_local: bool,
    #[prost(bool, tag = "6")]
    nat_remote: bool,
}

impl PathForm {
    pub(crate) fn write(w: &mut Writer, path: Path, nat: Nat) {
        let Path { local, remote, local_natt, remote_natt } = path;
        let Nat { local: nat_local, remote: nat_remote } = nat;
        w.address(1, local);
        w.address(2, remote);
        w.uint(3, local_natt.into());
        w.uint(4, remote_natt.into());
        w.flag(5, nat_local);
        w.flag(6, nat_remote);
    }

    pub(crate) fn read(&self) -> Result<(Path, Nat), SnapshotError> {
        let address = |form: &Option<Address>, field| required(form.as_ref(), field)?.read(field);
        let path = Path {
            local: address(&self.local, "our address")?,
            remote: address(&self.remote, "the peer's address")?,
            local_natt: small(self.local_natt, "our port of NAT traversal")?,
            remote_natt: small(self.remote_natt, "the peer's port of NAT traversal")?,
        };
        Ok((path, Nat { local: self.nat_local, remote: self.nat_remote }))
    }
}

/// Shared by the requests of a connection, and the same for most of them.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct RetransmitForm {
    #[prost(uint64, tag = "1")]
    first: u64,
    #[prost(uint32, tag = "2")]
    factor_tenths: u32,
    #[prost(uint32, tag = "3")]
    tries: u32,
}

impl RetransmitForm {
    pub(crate) fn new(policy: Retransmit) -> Self {
        let Retransmit { first, factor_tenths, tries } = policy;
        Self { first: nanoseconds(first), factor_tenths, tries }
    }

    pub(crate) const fn read(&self) -> Retransmit {
        Retransmit { first: duration(self.first), factor_tenths: self.factor_tenths, tries: self.tries }
    }
}

/// The datagrams of a message: one, or its fragments.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DatagramsForm {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) datagrams: Vec<Vec<u8>>,
}

impl DatagramsForm {
    pub(crate) fn new(datagrams: &[Vec<u8>]) -> Self {
        Self { datagrams: datagrams.to_vec() }
    }

    pub(crate) fn write(w: &mut Writer, datagrams: &[Vec<u8>]) {
        datagrams.iter().for_each(|datagram| w.bytes_always(1, datagram));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct CountersForm {
    #[prost(uint64, tag = "1")]
    retransmissions: u64,
    #[prost(uint64, tag = "2")]
    answered_again: u64,
    #[prost(uint64, tag = "3")]
    dropped: u64,
    #[prost(uint64, tag = "4")]
    taken: u64,
    #[prost(uint64, tag = "5")]
    child_rekeys: u64,
    #[prost(uint64, tag = "6")]
    ike_rekeys: u64,
}

impl CountersForm {
    pub(crate) const fn new(counters: Counters) -> Self {
        let Counters { retransmissions, answered_again, dropped, taken, child_rekeys, ike_rekeys } = counters;
        Self { retransmissions, answered_again, dropped, taken, child_rekeys, ike_rekeys }
    }

    pub(crate) const fn read(&self) -> Counters {
        let Self { retransmissions, answered_again, dropped, taken, child_rekeys, ike_rekeys } = *self;
        Counters { retransmissions, answered_again, dropped, taken, child_rekeys, ike_rekeys }
    }
}

/// What has come of a connection, and why nothing, as text.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct FruitForm {
    #[prost(bool, tag = "1")]
    some: bool,
    #[prost(string, optional, tag = "2")]
    why: Option<String>,
}

impl FruitForm {
    pub(crate) fn new(fruit: &Fruit) -> Self {
        match fruit {
            Fruit::Some => Self { some: true, why: None },
            Fruit::None(why) => Self { some: false, why: why.as_deref().map(ToString::to_string) },
        }
    }

    pub(crate) fn read(&self) -> Fruit {
        if self.some { Fruit::Some } else { Fruit::None(self.why.as_deref().map(retold)) }
    }
}

/// A failure, of which the text is left.
pub(crate) fn retold(text: &str) -> Box<Failure> {
    Box::new(Failure::Retold(text.into()))
}

/// Names, and not policies, are what plans refer to.
pub(crate) fn name(text: &str) -> Arc<str> {
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proposal::table::ALGORITHMS;

    #[test]
    fn every_algorithm_comes_back() {
        for row in ALGORITHMS {
            assert_eq!(transform(transform_form(row.transform)).unwrap(), row.transform, "{}", row.word);
        }
        assert!(transform(u64::MAX).is_err());
    }
}
