//! Messages in clear as octets: taken apart, changed, put together.

/// The numbers of payloads that tests name.
pub const SA: u8 = 1;
pub const KE: u8 = 4;
pub const ID: u8 = 5;
pub const HASH: u8 = 8;
pub const NONCE: u8 = 10;
pub const NOTIFY: u8 = 11;
pub const DELETE: u8 = 12;
pub const VENDOR: u8 = 13;
pub const NAT_D: u8 = 20;

pub const MAIN: u8 = 2;
pub const AGGRESSIVE: u8 = 4;
pub const INFORMATIONAL: u8 = 5;
pub const QUICK: u8 = 32;

/// Payloads with their types; what follows the last one is left out.
pub type Parts = Vec<(u8, Vec<u8>)>;

/// Takes apart a chain whose first payload is of this type.
pub fn parts(mut next: u8, mut rest: &[u8]) -> Parts {
    let mut parts = Vec::new();
    while next != 0 {
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        parts.push((next, rest[4..length].to_vec()));
        next = rest[0];
        rest = &rest[length..];
    }
    parts
}

/// The octets of a chain.
pub fn chain(parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, (_, body)) in parts.iter().enumerate() {
        out.extend([parts.get(i + 1).map_or(0, |next| next.0), 0]);
        out.extend(u16::try_from(body.len() + 4).unwrap().to_be_bytes());
        out.extend(body);
    }
    out
}

/// The payloads of a message in clear.
pub fn clear(message: &[u8]) -> Parts {
    parts(message[16], &message[28..])
}

/// A message with the header of another and these payloads in clear.
pub fn with(message: &[u8], parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = message[..28].to_vec();
    out[16] = parts.first().map_or(0, |first| first.0);
    out.extend(chain(parts));
    let length = u32::try_from(out.len()).unwrap();
    out[24..28].copy_from_slice(&length.to_be_bytes());
    out
}

/// A message whose first payload of this type is changed.
pub fn change(message: &[u8], kind: u8, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut parts = clear(message);
    edit(&mut parts.iter_mut().find(|part| part.0 == kind).expect("a payload to change").1);
    with(message, &parts)
}

/// The notify types of a message in clear.
pub fn notifies(message: &[u8]) -> Vec<u16> {
    let all = clear(message).into_iter().filter(|part| part.0 == NOTIFY);
    all.map(|(_, body)| u16::from_be_bytes([body[6], body[7]])).collect()
}

pub fn exchange(message: &[u8]) -> u8 {
    message[18]
}

pub fn message_id(message: &[u8]) -> u32 {
    u32::from_be_bytes(message[20..24].try_into().unwrap())
}

/// The place of an attribute's value in an SA with one proposal without SPI and one transform.
pub fn attribute(body: &[u8], kind: u16) -> usize {
    let mut at = 8 + 8 + usize::from(body[8 + 6]) + 8;
    loop {
        let (found, value) = (u16::from_be_bytes([body[at], body[at + 1]]), at + 2);
        if found & 0x7fff == kind {
            return value;
        }
        let length = usize::from(u16::from_be_bytes([body[value], body[value + 1]]));
        at += if found & 0x8000 == 0 { 4 + length } else { 4 };
    }
}
