//! A message of protobuf as it is written field by field, without the message.
//!
//! A connection is some forty messages within each other, and its standby learns of each of its steps. To make them of it first costs an
//! allocation for each list and key, and to encode them to ask each for its length at every level above it.
//! They are read as messages all the same, and tests read whatever is written here, and ask that nothing of it is left.

use std::net::{IpAddr, SocketAddr};

use prost::Message;

use crate::fields::{Due, flow_and_scope};
use crate::octets::{Octets, wipe};

/// Takes the fields of a message in the order in which they are given. One that has its default is left out, as everywhere in protobuf, but where
/// it says otherwise.
#[derive(Default)]
pub struct Writer {
    octets: Vec<u8>,
}

/// A message within another that is not at its end yet.
#[must_use = "its length is not written before its end"]
pub struct Begun(usize);

/// Kinds of fields, as their keys have them.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// The longest varint.
const LONGEST: usize = 10;

impl Writer {
    /// With room for so many octets: what grows beyond is copied, and wiped where it was.
    pub fn with_capacity(octets: usize) -> Self {
        Self { octets: Vec::with_capacity(octets) }
    }

    /// A number, as `uint32`, `uint64` or an enumeration has it.
    #[inline]
    pub fn uint(&mut self, tag: u32, value: u64) {
        if value != 0 {
            self.uint_always(tag, value);
        }
    }

    /// A number that is said also if it is zero: of an optional field, or of one of several.
    #[inline]
    pub fn uint_always(&mut self, tag: u32, value: u64) {
        self.key(tag, VARINT);
        self.varint(value);
    }

    /// Whether it is so.
    #[inline]
    pub fn flag(&mut self, tag: u32, value: bool) {
        self.uint(tag, value.into());
    }

    /// `fixed32`
    #[inline]
    pub fn fixed32(&mut self, tag: u32, value: u32) {
        if value != 0 {
            self.fixed32_always(tag, value);
        }
    }

    /// One that is said also if it is zero.
    #[inline]
    pub fn fixed32_always(&mut self, tag: u32, value: u32) {
        self.key(tag, FIXED32);
        self.put(&value.to_le_bytes());
    }

    /// `fixed64`
    #[inline]
    pub fn fixed64(&mut self, tag: u32, value: u64) {
        if value != 0 {
            self.key(tag, FIXED64);
            self.put(&value.to_le_bytes());
        }
    }

    /// `bytes` or `string`
    #[inline]
    pub fn bytes(&mut self, tag: u32, value: &[u8]) {
        if !value.is_empty() {
            self.bytes_always(tag, value);
        }
    }

    /// Those that are said also if there are none: of an optional field, or each of a list.
    #[inline]
    pub fn bytes_always(&mut self, tag: u32, value: &[u8]) {
        self.key(tag, LENGTH);
        self.varint(value.len() as u64);
        self.put(value);
    }

    /// A list of numbers (`repeated uint64`, packed).
    #[inline]
    pub fn uints(&mut self, tag: u32, values: impl IntoIterator<Item = u64>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            let list = self.begin(tag);
            values.for_each(|value| self.varint(value));
            self.end(list);
        }
    }

    /// A list of `fixed32`, packed.
    pub fn fixed32s(&mut self, tag: u32, values: &[u32]) {
        if !values.is_empty() {
            self.key(tag, LENGTH);
            self.varint(size_of_val(values) as u64);
            values.iter().for_each(|value| self.put(&value.to_le_bytes()));
        }
    }

    /// A message that is there as such.
    pub fn form(&mut self, tag: u32, form: &impl Message) {
        let len = form.encoded_len();
        self.key(tag, LENGTH);
        self.varint(len as u64);
        self.room(len);
        // A vector has room for everything.
        let _ = form.encode(&mut self.octets);
    }

    /// A [`Secret`](crate::Secret) of these octets.
    pub fn secret(&mut self, tag: u32, octets: &[u8]) {
        let secret = self.begin(tag);
        self.bytes(1, octets);
        self.end(secret);
    }

    /// A [`Due`].
    #[inline]
    pub fn due(&mut self, tag: u32, due: Due) {
        let span = self.begin(tag);
        let after = due.after();
        // As `sint64` has it.
        self.uint(1, ((after << 1) ^ (after >> 63)).cast_unsigned());
        self.end(span);
    }

    /// An [`Address`](crate::Address).
    pub fn address(&mut self, tag: u32, address: SocketAddr) {
        let (flow, scope) = flow_and_scope(address);
        let form = self.begin(tag);
        self.ip(1, address.ip());
        self.uint(2, address.port().into());
        self.uint(3, flow.into());
        self.uint(4, scope.into());
        self.end(form);
    }

    /// Four octets or sixteen.
    pub fn ip(&mut self, tag: u32, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.bytes_always(tag, &ip.octets()),
            IpAddr::V6(ip) => self.bytes_always(tag, &ip.octets()),
        }
    }

    /// A message begins, whose fields are what follows until its [end](Self::end).
    #[inline]
    pub fn begin(&mut self, tag: u32) -> Begun {
        self.key(tag, LENGTH);
        // Most are short, so there is one octet for the length.
        self.put(&[0]);
        Begun(self.octets.len())
    }

    /// The last that has begun is at its end.
    #[inline]
    pub fn end(&mut self, Begun(start): Begun) {
        let len = self.octets.len().saturating_sub(start);
        if len >= 0x80 {
            return self.end_long(start, len);
        }
        self.set(start.saturating_sub(1), &[len as u8]);
    }

    /// What follows the length is moved, so that it fits in.
    fn end_long(&mut self, start: usize, len: usize) {
        let (mut length, mut count, mut rest) = ([0; LONGEST], 0, len);
        for place in &mut length {
            count += 1;
            *place = (rest & 0x7f) as u8;
            rest >>= 7;
            if rest == 0 {
                break;
            }
            *place |= 0x80;
        }
        let more = count - 1;
        self.room(more);
        self.octets.resize(start + len + more, 0);
        self.octets.copy_within(start..start + len, start + more);
        self.set(start.saturating_sub(1), length.get(..count).unwrap_or_default());
    }

    /// What has been written, which nothing comes behind any more.
    pub fn finish(mut self) -> Octets {
        std::mem::take(&mut self.octets).into()
    }

    /// What has been written.
    pub(crate) fn written(&self) -> &[u8] {
        &self.octets
    }

    /// Writes these over what is there.
    pub(crate) fn set(&mut self, at: usize, octets: &[u8]) {
        if let Some(place) = self.octets.get_mut(at..at + octets.len()) {
            place.copy_from_slice(octets);
        }
    }

    /// All fields of a message that is there as such. There is room for them.
    pub(crate) fn all_of(&mut self, form: &impl Message) {
        // A vector has room for everything.
        let _ = form.encode(&mut self.octets);
    }

    /// Octets that are no field.
    #[inline]
    pub(crate) fn put(&mut self, octets: &[u8]) {
        self.room(octets.len());
        self.octets.extend_from_slice(octets);
    }

    #[inline]
    fn key(&mut self, tag: u32, kind: u32) {
        self.varint((tag << 3 | kind).into());
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        self.room(LONGEST);
        while value >= 0x80 {
            self.octets.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.octets.push(value as u8);
    }

    /// There is room for so many more, without a copy of what there is that nobody wipes.
    #[inline]
    fn room(&mut self, more: usize) {
        if self.octets.capacity() - self.octets.len() < more {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let mut larger = Vec::with_capacity((self.octets.len() + more).max(2 * self.octets.capacity()));
        larger.extend_from_slice(&self.octets);
        wipe(&mut self.octets);
        self.octets = larger;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        wipe(&mut self.octets);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::{Address, Secret};

    #[derive(Clone, PartialEq, Message)]
    struct Thing {
        #[prost(uint64, tag = "1")]
        number: u64,
        #[prost(uint32, optional, tag = "2")]
        some: Option<u32>,
        #[prost(bool, tag = "3")]
        flag: bool,
        #[prost(fixed32, tag = "4")]
        fixed: u32,
        #[prost(fixed64, tag = "5")]
        long: u64,
        #[prost(bytes = "vec", tag = "6")]
        bytes: Vec<u8>,
        #[prost(string, repeated, tag = "7")]
        texts: Vec<String>,
        #[prost(uint64, repeated, tag = "8")]
        numbers: Vec<u64>,
        #[prost(fixed32, repeated, tag = "16")]
        spis: Vec<u32>,
        #[prost(message, optional, tag = "17")]
        key: Option<Secret>,
        #[prost(message, optional, tag = "18")]
        due: Option<Due>,
        #[prost(message, optional, tag = "19")]
        address: Option<Address>,
        #[prost(message, optional, boxed, tag = "2000")]
        within: Option<Box<Thing>>,
    }

    fn write(w: &mut Writer, thing: &Thing, address: Option<SocketAddr>) {
        w.uint(1, thing.number);
        thing.some.into_iter().for_each(|some| w.uint_always(2, some.into()));
        w.flag(3, thing.flag);
        w.fixed32(4, thing.fixed);
        w.fixed64(5, thing.long);
        w.bytes(6, &thing.bytes);
        thing.texts.iter().for_each(|text| w.bytes_always(7, text.as_bytes()));
        w.uints(8, thing.numbers.iter().copied());
        w.fixed32s(16, &thing.spis);
        thing.key.iter().for_each(|key| w.secret(17, key.octets()));
        thing.due.into_iter().for_each(|due| w.due(18, due));
        address.into_iter().for_each(|address| w.address(19, address));
        if let Some(within) = &thing.within {
            let begun = w.begin(2000);
            write(w, within, None);
            w.end(begun);
        }
    }

    fn things() -> impl Strategy<Value = Thing> {
        let length = prop_oneof![Just(0_usize), Just(1), 100..140_usize, 16_000..16_800_usize];
        let simple = (any::<u64>(), any::<Option<u32>>(), any::<bool>(), any::<u32>(), any::<i64>());
        let lists = (
            length,
            prop::collection::vec(".{0,3}", 0..3),
            prop::collection::vec(any::<u64>(), 0..40),
            prop::collection::vec(any::<u32>(), 0..3),
        );
        let leaf = (simple, lists).prop_map(|(simple, (length, texts, numbers, spis))| {
            let (number, some, flag, fixed, after) = simple;
            let (then, now) = (Instant::now(), Instant::now() + Duration::from_secs(3));
            let due = if flag { Due::new(then, now) } else { Due::new(now, then) };
            Thing {
                number,
                some,
                flag,
                fixed: if flag { 0 } else { fixed },
                long: after.cast_unsigned(),
                bytes: vec![7; length],
                texts,
                numbers,
                spis,
                key: some.map(|some| Secret::new(&some.to_be_bytes())),
                due: Some(due),
                ..Thing::default()
            }
        });
        prop::collection::vec(leaf, 1..5).prop_map(|all| {
            let chain =
                all.into_iter().reduce(|within, thing| Thing { within: Some(Box::new(within)), ..thing });
            chain.unwrap_or_default()
        })
    }

    proptest! {
        /// Octet for octet what the message itself gives, whatever the room that there is at first.
        #[test]
        fn it_writes_what_the_message_would(thing in things(), room in 0_usize..300, v6 in any::<bool>()) {
            let address = if v6 { "[fe80::1%3]:4500" } else { "192.0.2.1:500" };
            let address: SocketAddr = address.parse().unwrap();
            let thing = Thing { address: Some(address.into()), ..thing };
            let mut writer = Writer::with_capacity(room);
            write(&mut writer, &thing, Some(address));
            prop_assert_eq!(&*writer.finish(), thing.encode_to_vec());
            let mut writer = Writer::default();
            writer.form(5, &thing);
            let whole = writer.finish();
            prop_assert!(whole.ends_with(&thing.encode_to_vec()));
        }
    }
}
