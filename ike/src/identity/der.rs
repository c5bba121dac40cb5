//! As much of DER (X.690) as names need.

use std::fmt::Write as _;

/// A value with its tag.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) tag: u8,
    pub(super) value: &'a [u8],
}

impl<'a> Item<'a> {
    /// The value, if it has this tag.
    pub(super) fn of(self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.value)
    }

    /// The first of `octets`, and what is behind it.
    fn first(octets: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&tag, rest) = octets.split_first()?;
        // Tags of several octets are of nothing that is in names.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&short, rest) = rest.split_first()?;
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81 => rest.split_first().map(|(&length, rest)| (usize::from(length), rest))?,
            0x82 => rest
                .split_first_chunk()
                .map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
            // Longer than a message.
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        Some((Self { tag, value }, rest))
    }
}

/// That which is all of `octets`.
pub(super) fn only(octets: &[u8]) -> Option<Item<'_>> {
    Item::first(octets).filter(|(_, rest)| rest.is_empty()).map(|(item, _)| item)
}

/// All that follow one another.
pub(super) fn items(mut octets: &[u8]) -> Option<Vec<Item<'_>>> {
    let mut all = Vec::new();
    while !octets.is_empty() {
        let (item, rest) = Item::first(octets)?;
        all.push(item);
        octets = rest;
    }
    Some(all)
}

/// A value of less than 65,536 octets as it is written; longer ones are cut there, which no text is.
pub(super) fn written(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let head: &[u8] = match length {
        0..=0x7f => &[tag, low],
        0x80..=0xff => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, value.get(..length.into()).unwrap_or_default()].concat()
}

/// The octets of an object identifier in numbers, `2.5.4.3`.
pub(super) fn oid(text: &str) -> Option<Vec<u8>> {
    let numbers: Vec<u32> = text.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let (&[first, second], rest) = numbers.split_first_chunk()?;
    if first > 2 || (first < 2 && second > 39) {
        return None;
    }
    let mut octets = Vec::new();
    for number in std::iter::once((40 * first).checked_add(second)?).chain(rest.iter().copied()) {
        // Seven bits an octet, all but the last marked.
        let sevens = (0..5).rev().map(|at| number >> (7 * at) & 0x7f).skip_while(|&seven| seven == 0);
        let mut sevens: Vec<u8> = sevens.filter_map(|seven| u8::try_from(seven | 0x80).ok()).collect();
        match sevens.last_mut() {
            Some(last) => *last &= 0x7f,
            None => sevens.push(0),
        }
        octets.extend(sevens);
    }
    Some(octets)
}

/// The numbers of an object identifier.
pub(super) fn numbers(oid: &[u8]) -> Option<String> {
    let mut numbers = Vec::new();
    let mut number: u32 = 0;
    for octet in oid {
        number = number.checked_mul(0x80)? | u32::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            numbers.push(std::mem::take(&mut number));
        }
    }
    let (&joined, rest) = numbers.split_first()?;
    let first = (joined / 40).min(2);
    let mut text = format!("{first}.{}", joined - 40 * first);
    for number in rest {
        let _ = write!(text, ".{number}");
    }
    // One that ends in the middle of a number, or in other octets than its numbers would, is none.
    (self::oid(&text)? == oid).then_some(text)
}

/// Octets of pairs of hexadecimal digits.
pub(super) fn digits(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// One value of DER in hexadecimal digits.
pub(super) fn of_digits(text: &[u8]) -> Option<Vec<u8>> {
    digits(text).filter(|octets| only(octets).is_some())
}
