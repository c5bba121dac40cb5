//! Files whose octets are not all text: a key may be any, and comments are in whatever their author wrote.
//!
//! Each octet that is no UTF-8 becomes a character that stands for it, so that a file is read as text, and a key has the octets that the
//! device has. What else would have such a character in it is not taken over.

/// The characters that stand for the octets from 0x80 on: the last ones for private use before those of Unicode go on.
const FIRST: u32 = 0xf780;
const LAST: u32 = FIRST + 0x7f;

/// Why a file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Utf16;

/// The octets of a file as text, without a mark of its order of octets.
///
/// # Errors
/// For UTF-16, which is text, and every second octet of it is none.
pub(crate) fn text_of(octets: &[u8]) -> Result<String, Utf16> {
    if octets.starts_with(&[0xff, 0xfe]) || octets.starts_with(&[0xfe, 0xff]) {
        return Err(Utf16);
    }
    let octets = octets.strip_prefix("\u{feff}".as_bytes()).unwrap_or(octets);
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Where one stands in the file itself it stands for its own octets.
            if stands_for_octet(c) {
                text.extend(c.encode_utf8(&mut [0; 4]).bytes().map(stand_in));
            } else {
                text.push(c);
            }
        }
        text.extend(chunk.invalid().iter().copied().map(stand_in));
    }
    Ok(text)
}

/// The octets that a part of the text had in its file.
pub(super) fn octets_of(text: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(u32::from(c).wrapping_sub(FIRST).wrapping_add(0x80)) {
            Ok(octet) if stands_for_octet(c) => octets.push(octet),
            _ => octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    octets
}

/// Whether all of it is text.
pub(super) fn is_text(text: &str) -> bool {
    !text.chars().any(stands_for_octet)
}

/// For people: what is no text as the character for that.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if stands_for_octet(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn stands_for_octet(c: char) -> bool {
    (FIRST..=LAST).contains(&u32::from(c))
}

/// The character for an octet from 0x80 on; those before are themselves.
fn stand_in(octet: u8) -> char {
    match octet {
        0..0x80 => char::from(octet),
        _ => char::from_u32(FIRST - 0x80 + u32::from(octet)).unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_itself() {
        assert_eq!(text_of("\u{feff}a grüezi 日本".as_bytes()).unwrap(), "a grüezi 日本");
        assert_eq!(text_of(&[0xff, 0xfe, b'a', 0]), Err(Utf16));
        let latin = text_of(b"gr\xfcezi").unwrap();
        assert!(!is_text(&latin) && is_text("grüezi"));
        assert_eq!(
            (octets_of(&latin).as_slice(), shown(&latin).as_str()),
            (&b"gr\xfcezi"[..], "gr\u{fffd}ezi")
        );
    }

    proptest! {
        #[test]
        fn no_octet_becomes_another(octets in prop::collection::vec(any::<u8>(), 0..40), c in FIRST..=LAST) {
            let own = char::from_u32(c).unwrap().to_string();
            for octets in [octets.clone(), [octets.as_slice(), own.as_bytes()].concat()] {
                if let Ok(text) = text_of(&octets) {
                    let bare = octets.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&octets);
                    prop_assert_eq!(octets_of(&text), bare);
                    prop_assert_eq!(is_text(&text), std::str::from_utf8(bare).is_ok_and(|text| !text.contains(char::from_u32(c).unwrap()) && is_text(text)));
                }
            }
        }
    }
}
