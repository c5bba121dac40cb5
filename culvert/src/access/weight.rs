//! What a request takes in memory once it is decoded, told from its octets before it is. An element of a list may have two octets on the wire and
//! hundreds in memory, so a bound for octets alone bounds nothing.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Messages in messages: what nests deeper than the API's own is nobody's.
const MAX_DEPTH: usize = 32;
/// Of a string or a list, beside what is in it.
const HANDLE: usize = 24;
/// Of a number.
const NUMBER: usize = 8;
/// Of a field that there is not, and that is kept where a message is read by its descriptor.
const UNKNOWN: usize = 96;
/// Of a message that is read by its descriptor: its fields are in a tree, of which the first place takes as much as eleven.
const READ: usize = 800;

/// Why a request is not decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heavy {
    /// It would take too much; with the field in which that was seen.
    At(String),
    /// It is no message.
    Broken,
}

/// Octets of memory that a message takes, `most` at most. `read`: it is read by its descriptor as well.
pub(crate) fn weigh(
    descriptor: &MessageDescriptor,
    octets: &[u8],
    read: bool,
    most: usize,
) -> Result<usize, Heavy> {
    let mut scale = Scale { read, total: size_of(descriptor), most };
    scale.message(descriptor, octets, 0)?;
    Ok(scale.total)
}

struct Scale {
    read: bool,
    total: usize,
    most: usize,
}

impl Scale {
    fn message(
        &mut self,
        descriptor: &MessageDescriptor,
        mut octets: &[u8],
        depth: usize,
    ) -> Result<(), Heavy> {
        if depth > MAX_DEPTH {
            return Err(Heavy::Broken);
        }
        if self.read && !octets.is_empty() {
            self.add(READ, || descriptor.name().to_owned())?;
        }
        while !octets.is_empty() {
            let key = number(&mut octets)?;
            let field = u32::try_from(key >> 3).ok().filter(|field| *field > 0).ok_or(Heavy::Broken)?;
            let field = descriptor.get_field(field);
            let is_list = field.as_ref().is_some_and(|field| field.is_list() || field.is_map());
            if self.read && field.is_none() {
                self.add(UNKNOWN, || "a field that there is not".to_owned())?;
            }
            match key & 7 {
                0 => {
                    number(&mut octets)?;
                    self.scalar(field.as_ref(), is_list)?;
                }
                1 => {
                    cut(&mut octets, 8)?;
                    self.scalar(field.as_ref(), is_list)?;
                }
                5 => {
                    cut(&mut octets, 4)?;
                    self.scalar(field.as_ref(), is_list)?;
                }
                2 => {
                    let length = usize::try_from(number(&mut octets)?).map_err(|_| Heavy::Broken)?;
                    let inner = cut(&mut octets, length)?;
                    match &field {
                        Some(field) => self.field(field, is_list, inner, depth)?,
                        None if self.read => {
                            self.add(inner.len(), || "a field that there is not".to_owned())?
                        }
                        None => {}
                    }
                }
                // Groups are in none of our messages, and what is after one is not to go unseen.
                _ => return Err(Heavy::Broken),
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &FieldDescriptor,
        is_list: bool,
        inner: &[u8],
        depth: usize,
    ) -> Result<(), Heavy> {
        let name = || field.name().to_owned();
        match field.kind() {
            Kind::Message(message) => {
                if is_list {
                    self.add(size_of(&message), name)?;
                }
                self.message(&message, inner, depth + 1)
            }
            Kind::String | Kind::Bytes => {
                let handle = if is_list { HANDLE } else { 0 };
                // What is read by its descriptor is there twice.
                self.add((handle + inner.len()) * if self.read { 2 } else { 1 }, name)
            }
            // Numbers that are packed.
            _ => self.add(inner.len().saturating_mul(NUMBER), name),
        }
    }

    fn scalar(&mut self, field: Option<&FieldDescriptor>, is_list: bool) -> Result<(), Heavy> {
        match field.filter(|_| is_list) {
            Some(field) => self.add(NUMBER, || field.name().to_owned()),
            None => Ok(()),
        }
    }

    fn add(&mut self, octets: usize, name: impl Fn() -> String) -> Result<(), Heavy> {
        self.total = self.total.saturating_add(octets);
        if self.total > self.most { Err(Heavy::At(name())) } else { Ok(()) }
    }
}

/// A varint.
fn number(octets: &mut &[u8]) -> Result<u64, Heavy> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = octets.split_first().ok_or(Heavy::Broken)?;
        *octets = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Heavy::Broken)
}

fn cut<'a>(octets: &mut &'a [u8], length: usize) -> Result<&'a [u8], Heavy> {
    let (inner, rest) = octets.split_at_checked(length).ok_or(Heavy::Broken)?;
    *octets = rest;
    Ok(inner)
}

/// Octets of a message with nothing in it: those that are in it by value included, as they are there when they are not.
fn size_of(descriptor: &MessageDescriptor) -> usize {
    static SIZES: LazyLock<Mutex<HashMap<String, usize>>> = LazyLock::new(Mutex::default);
    let known = |sizes: &HashMap<String, usize>| sizes.get(descriptor.full_name()).copied();
    if let Some(size) = known(&SIZES.lock().unwrap_or_else(PoisonError::into_inner)) {
        return size;
    }
    let size = measure(descriptor, 0);
    SIZES.lock().unwrap_or_else(PoisonError::into_inner).insert(descriptor.full_name().to_owned(), size);
    size
}

fn measure(descriptor: &MessageDescriptor, depth: usize) -> usize {
    let of = |field: &FieldDescriptor| match field.kind() {
        _ if field.is_list() || field.is_map() => HANDLE,
        Kind::Message(inner) if depth < MAX_DEPTH => NUMBER + measure(&inner, depth + 1),
        Kind::String | Kind::Bytes => HANDLE,
        _ => NUMBER,
    };
    let alone = descriptor.fields().filter(|field| field.containing_oneof().is_none());
    let alone: usize = alone.map(|field| of(&field)).sum();
    let choices = descriptor.oneofs().map(|oneof| oneof.fields().map(|field| of(&field)).max().unwrap_or(0));
    alone + choices.map(|largest| NUMBER + largest).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use culvert_proto::{message_descriptor, v1};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn of(name: &str, octets: &[u8], read: bool, most: usize) -> Result<usize, Heavy> {
        weigh(&message_descriptor(name).unwrap(), octets, read, most)
    }

    #[test]
    fn sizes_are_those_of_the_messages() {
        let near = |name: &str, size: usize| {
            let measured = size_of(&message_descriptor(name).unwrap());
            assert!((size * 3 / 4..=size * 2).contains(&measured), "{name}: {measured} for {size}");
        };
        near("Object", size_of_val(&v1::Object::default()));
        near("Peer", size_of_val(&v1::Peer::default()));
        near("Child", size_of_val(&v1::Child::default()));
        near("Tenant", size_of_val(&v1::Tenant::default()));
    }

    /// Two octets each.
    #[test]
    fn many_empty_elements_are_seen_before_they_are_decoded() {
        let empty = [0x0a, 0].repeat(1 << 20);
        assert_eq!(of("ApplyRequest", &empty, false, 64 << 20), Err(Heavy::At("objects".to_owned())));
        let names = of("DeleteRequest", &empty, false, 64 << 20).unwrap();
        assert!((24 << 20..26 << 20).contains(&names), "{names}");
        let child = [0x0a, 2, 0x08, 1].repeat(1000);
        let (plain, read) =
            (of("ApplyRequest", &child, false, usize::MAX), of("ApplyRequest", &child, true, usize::MAX));
        assert!(read.unwrap() > plain.unwrap() + 1000 * READ - READ);
    }

    #[test]
    fn what_is_no_message_is_told_from_what_is_too_large() {
        for broken in [&[0x0a][..], &[0x0a, 5, 1], &[0x0b, 0x0c], &[0], &[0xff; 11], &[0x09, 1]] {
            assert_eq!(of("ApplyRequest", broken, false, 1 << 20), Err(Heavy::Broken), "{broken:?}");
        }
        // Of a field that there is not.
        assert!(of("ApplyRequest", &[0xfa, 0x3f, 1, 7], false, 1 << 20).is_ok());
        let unknown = [0x78, 0].repeat(1 << 20);
        assert!(of("ApplyRequest", &unknown, false, 64 << 20).is_ok(), "it is passed over");
        assert!(matches!(of("ApplyRequest", &unknown, true, 64 << 20), Err(Heavy::At(_))), "it is kept");
    }

    #[test]
    fn a_large_batch_of_small_objects_may_be_decoded() {
        let peer = |n: u32| v1::Peer {
            name: format!("tenants/acme/peers/p{n}"),
            children: vec![v1::Child {
                name: "lan".to_owned(),
                remote_subnets: vec![format!("10.{}.{}.0/24", n / 256, n % 256)],
                ..Default::default()
            }],
            ..Default::default()
        };
        let objects =
            (0..1_000).map(|n| v1::Object { kind: Some(v1::object::Kind::Peer(peer(n))) }).collect();
        let octets = v1::ApplyRequest { objects, ..Default::default() }.encode_to_vec();
        let each = of("ApplyRequest", &octets, false, usize::MAX).unwrap() / 1_000;
        assert!(each * 200_000 < super::super::request::MAX_BATCH_MEMORY, "{each}");
        let each = of("ApplyRequest", &octets, true, usize::MAX).unwrap() / 1_000;
        assert!(each * 100_000 < super::super::request::MAX_BATCH_MEMORY, "{each}");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_weighed_or_refused(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let weighed = of("ApplyRequest", &octets, true, 1 << 20);
            if v1::ApplyRequest::decode(octets.as_slice()).is_ok() && weighed == Err(Heavy::Broken) {
                // Groups of unknown fields alone.
                prop_assert!(octets.iter().any(|octet| octet & 7 == 3));
            }
        }
    }
}
