//! Distinguished names (X.501, RFC 5280 section 4.1.2.4) as identities: their text, their octets in DER, and which of them are the same.
//!
//! A text has the parts in the order of the octets, `C=CH, O=Acme, CN=gw`, as strongSwan and OpenSSL write them, and not from the end as
//! RFC 4514 has it. What is escaped is as there.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use super::der::{self, Item};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const NUMERIC: u8 = 0x12;
const PRINTABLE: u8 = 0x13;
/// Latin 1 to all who write it.
const TELETEX: u8 = 0x14;
const IA5: u8 = 0x16;
const VISIBLE: u8 = 0x1a;
const UNIVERSAL: u8 = 0x1c;
const BMP: u8 = 0x1e;

/// A kind of attribute (RFC 4519, RFC 2985).
struct Kind {
    /// As it is written; of several the first.
    names: &'static [&'static str],
    oid: &'static [u8],
    /// Whether its text is an IA5String, and not of the usual kinds (RFC 5280 appendix A.1).
    ia5: bool,
}

const fn kind(names: &'static [&'static str], oid: &'static [u8], ia5: bool) -> Kind {
    Kind { names, oid, ia5 }
}

// `SN` and `S` are missing: each is the serial number to some and the surname or the state to others.
const KINDS: [Kind; 15] = [
    kind(&["CN"], &[0x55, 4, 3], false),
    kind(&["C"], &[0x55, 4, 6], false),
    kind(&["ST"], &[0x55, 4, 8], false),
    kind(&["L"], &[0x55, 4, 7], false),
    kind(&["O"], &[0x55, 4, 10], false),
    kind(&["OU"], &[0x55, 4, 11], false),
    kind(&["DC"], &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], true),
    kind(&["UID"], &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], false),
    kind(&["emailAddress", "Email", "E"], &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], true),
    kind(&["serialNumber"], &[0x55, 4, 5], false),
    kind(&["street"], &[0x55, 4, 9], false),
    kind(&["title"], &[0x55, 4, 12], false),
    kind(&["surname"], &[0x55, 4, 4], false),
    kind(&["givenName"], &[0x55, 4, 42], false),
    kind(&["dnQualifier"], &[0x55, 4, 46], false),
];

/// Whether a text is meant to be one: it begins with the name or number of an attribute and an equals sign.
pub(super) fn is_meant(text: &str) -> bool {
    let text = text.trim_start();
    let name = text.strip_prefix('/').unwrap_or(text).split_once('=').map_or("", |(name, _)| name.trim());
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
}

/// The octets of a text, or what is wrong with it.
pub(super) fn read(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim_start();
    let (mut rest, separator) = text.strip_prefix('/').map_or((text, ','), |rest| (rest, '/'));
    let (mut parts, mut part) = (Vec::new(), Vec::new());
    loop {
        let (name, behind) = rest
            .split_once('=')
            .ok_or_else(|| format!("{:?} is no part of a name; expected NAME=VALUE", rest.trim()))?;
        let (oid, ia5) = attribute(name.trim())?;
        let value = Value::read(behind, separator).map_err(|why| format!("{}: {why}", name.trim()))?;
        part.push(der::written(SEQUENCE, &[der::written(OID, &oid), value.octets(ia5)].concat()));
        if value.end != Some('+') {
            // In DER a set is in order.
            part.sort_unstable();
            parts.push(der::written(SET, &part.concat()));
            part.clear();
        }
        if value.end.is_none() {
            return Ok(der::written(SEQUENCE, &parts.concat()));
        }
        rest = value.rest;
    }
}

/// The octets of one that is given in hexadecimal digits, as strongSwan has it.
pub(super) fn of_digits(digits: &str) -> Result<Vec<u8>, String> {
    let octets = der::digits(digits.as_bytes()).filter(|octets| parts(octets).is_some());
    octets.ok_or_else(|| "expected asn1dn:# and its DER in hexadecimal digits".to_owned())
}

/// The object identifier of an attribute, and whether its text is an IA5String.
fn attribute(name: &str) -> Result<(Vec<u8>, bool), String> {
    let is_it = |kind: &&Kind| kind.names.iter().any(|own| own.eq_ignore_ascii_case(name));
    if let Some(kind) = KINDS.iter().find(is_it) {
        return Ok((kind.oid.to_vec(), kind.ia5));
    }
    let numbered = name.contains('.').then(|| der::oid(name)).flatten();
    numbered.map(|oid| (oid, false)).ok_or_else(|| {
        let known: Vec<&str> = KINDS.iter().filter_map(|kind| kind.names.first().copied()).collect();
        format!("{name:?} is no attribute; expected one of {}, or a number as 2.5.4.3", known.join(", "))
    })
}

/// The value of an attribute in a text.
struct Value<'a> {
    /// What was written, or all octets behind a `#`.
    content: Content,
    /// What it ends at, if it is not the last.
    end: Option<char>,
    rest: &'a str,
}

enum Content {
    Text(String),
    Octets(Vec<u8>),
}

impl<'a> Value<'a> {
    /// The first of `text`, up to what is behind its end.
    fn read(text: &'a str, separator: char) -> Result<Self, String> {
        let text = text.trim_start();
        let mut octets = Vec::new();
        // As far as it goes without blanks at its end.
        let mut length = 0;
        let (mut quoted, mut chars) = (false, text.char_indices());
        let mut end = None;
        let mut behind = "";
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => {
                    escaped(&mut chars, &mut octets)?;
                    length = octets.len();
                }
                '"' if quoted || at == 0 => {
                    quoted = !quoted;
                    length = octets.len();
                }
                c if !quoted && (c == separator || c == '+') => {
                    end = Some(c);
                    behind = chars.as_str();
                    break;
                }
                c => {
                    octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    if quoted || !c.is_whitespace() {
                        length = octets.len();
                    }
                }
            }
        }
        octets.truncate(length);
        if quoted {
            return Err("a quotation mark is not closed".to_owned());
        }
        if octets.is_empty() {
            return Err("it has no value".to_owned());
        }
        let content = match octets.strip_prefix(b"#").filter(|_| text.starts_with('#')) {
            Some(digits) => Content::Octets(
                der::of_digits(digits).ok_or("expected # and a value of DER in hexadecimal digits")?,
            ),
            None => Content::Text(String::from_utf8(octets).map_err(|_| "it is not UTF-8".to_owned())?),
        };
        Ok(Self { content, end, rest: behind })
    }

    /// In DER, as text of the simplest kind, or as an IA5String.
    fn octets(&self, ia5: bool) -> Vec<u8> {
        let text = match &self.content {
            Content::Octets(octets) => return octets.clone(),
            Content::Text(text) => text,
        };
        let is_printable = text.bytes().all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b));
        // What is no ASCII is found in certificates all the same.
        let tag = match ia5 {
            true if text.is_ascii() => IA5,
            _ if is_printable => PRINTABLE,
            _ => UTF8,
        };
        der::written(tag, text.as_bytes())
    }
}

/// What is behind a backslash: an octet as two hexadecimal digits, or a character (RFC 4514 section 2.4).
fn escaped(chars: &mut std::str::CharIndices<'_>, octets: &mut Vec<u8>) -> Result<(), String> {
    let pair = chars.as_str().get(..2).and_then(|pair| der::digits(pair.as_bytes()));
    if let Some(octet) = pair {
        octets.extend(octet);
        chars.nth(1);
        return Ok(());
    }
    let (_, c) = chars.next().ok_or("it ends with a backslash")?;
    octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(())
}

/// An attribute of octets.
struct Attribute<'a> {
    oid: &'a [u8],
    value: Item<'a>,
}

/// The parts of a name, of one attribute each and rarely of several. `None` where it is no name, or one of nobody.
fn parts(octets: &[u8]) -> Option<Vec<Vec<Attribute<'_>>>> {
    let all = der::items(der::only(octets)?.of(SEQUENCE)?)?;
    let parts = all.into_iter().map(|part| {
        let attributes = der::items(part.of(SET)?)?;
        let attributes = attributes.into_iter().map(|pair| match *der::items(pair.of(SEQUENCE)?)? {
            [oid, value] => Some(Attribute { oid: oid.of(OID)?, value }),
            _ => None,
        });
        attributes.collect::<Option<Vec<_>>>().filter(|attributes| !attributes.is_empty())
    });
    parts.collect::<Option<Vec<_>>>().filter(|parts| !parts.is_empty())
}

/// The characters of a value, if it is text.
fn characters(value: Item<'_>) -> Option<String> {
    let octets = value.value;
    match value.tag {
        UTF8 => Some(std::str::from_utf8(octets).ok()?.to_owned()),
        NUMERIC | PRINTABLE | IA5 | VISIBLE if octets.is_ascii() => {
            Some(octets.iter().copied().map(char::from).collect())
        }
        TELETEX => Some(octets.iter().copied().map(char::from).collect()),
        BMP => {
            let (units, []) = octets.as_chunks::<2>() else { return None };
            String::from_utf16(&units.iter().copied().map(u16::from_be_bytes).collect::<Vec<_>>()).ok()
        }
        UNIVERSAL => {
            let (units, []) = octets.as_chunks::<4>() else { return None };
            units.iter().copied().map(|unit| char::from_u32(u32::from_be_bytes(unit))).collect()
        }
        _ => None,
    }
}

/// What two names have alike that are the same (RFC 5280 section 7.1): whichever kind of text it is, whatever the case of ASCII, and with
/// blanks as one. `None` where it is no name.
pub(super) fn canonical(octets: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let mut put = |octets: &[u8]| {
        // No name is longer than a message.
        all.extend_from_slice(&u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes());
        all.extend_from_slice(octets);
    };
    for part in parts(octets)? {
        let attribute = |attribute: &Attribute<'_>| {
            let text = characters(attribute.value).map(|text| folded(&text).into_bytes());
            let raw = || [&[attribute.value.tag], attribute.value.value].concat();
            (attribute.oid.to_vec(), text.is_some(), text.unwrap_or_else(raw))
        };
        let mut attributes: Vec<_> = part.iter().map(attribute).collect();
        attributes.sort_unstable();
        put(&[]);
        for (oid, is_text, value) in attributes {
            put(&oid);
            put(&[&[u8::from(is_text)], &*value].concat());
        }
    }
    Some(all)
}

fn folded(text: &str) -> String {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    words.join(" ").to_ascii_lowercase()
}

/// As text. `None` where it is no name.
pub(super) fn text(octets: &[u8]) -> Option<String> {
    let mut all = String::new();
    for (i, part) in parts(octets)?.iter().enumerate() {
        for (j, attribute) in part.iter().enumerate() {
            all.push_str(match (i, j) {
                (0, 0) => "",
                (_, 0) => ", ",
                _ => "+",
            });
            let known = KINDS.iter().find(|kind| kind.oid == attribute.oid);
            match known.and_then(|kind| kind.names.first()) {
                Some(name) => all.push_str(name),
                None => all.push_str(&der::numbers(attribute.oid)?),
            }
            all.push('=');
            match characters(attribute.value).filter(|text| !text.is_empty()) {
                Some(text) => escape(&mut all, &text),
                None => {
                    all.push('#');
                    for octet in der::written(attribute.value.tag, attribute.value.value) {
                        // Writing to a String cannot fail.
                        let _ = write!(all, "{octet:02x}");
                    }
                }
            }
        }
    }
    Some(all)
}

/// As RFC 4514 section 2.4 has it.
fn escape(all: &mut String, text: &str) {
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        if c.is_control() {
            for octet in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(all, "\\{octet:02X}");
            }
            continue;
        }
        let at_edge = c.is_whitespace() && (at == 0 || at == last);
        if at_edge || ",+\"\\<>;".contains(c) || (c == '#' && at == 0) {
            all.push('\\');
        }
        all.push(c);
    }
}
