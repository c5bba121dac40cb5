//! What the header of an IKE message says of the exchange that it belongs to, in either version. Nothing in it is secret, and
//! nothing is decided by it.

use ike::wire::numbers::ExchangeType;

/// Which exchange of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    spi_i: u64,
    exchange: u8,
    id: u32,
    /// We began it. Unknown in IKEv1, whose messages do not say.
    ours: Option<bool>,
}

impl Key {
    /// Of IKEv1.
    pub(super) const fn is_old(&self) -> bool {
        self.ours.is_none()
    }
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    pub(super) key: Key,
    pub(super) exchange: ExchangeType,
    pub(super) id: u32,
    /// It ends its exchange. Never in IKEv1, where the last message looks like the first.
    pub(super) answers: bool,
    /// IKEv1.
    pub(super) old: bool,
}

const FLAG_RESPONSE: u8 = 0x20;

impl Message {
    /// Of a message that we send, or receive.
    pub(super) fn of(bytes: &[u8], sent: bool) -> Option<Self> {
        let spi_i = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
        let (version, exchange, flags) = (*bytes.get(17)?, *bytes.get(18)?, *bytes.get(19)?);
        let id = u32::from_be_bytes(bytes.get(20..24)?.try_into().ok()?);
        let old = version >> 4 == 1;
        let answers = !old && flags & FLAG_RESPONSE != 0;
        let ours = (!old).then_some(sent != answers);
        let key = Key { spi_i, exchange, id, ours };
        Some(Self { key, exchange: ExchangeType(exchange), id, answers, old })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(version: u8, exchange: u8, flags: u8, id: u32) -> Vec<u8> {
        let mut bytes = vec![7; 28];
        (bytes[17], bytes[18], bytes[19]) = (version, exchange, flags);
        bytes[20..24].copy_from_slice(&id.to_be_bytes());
        bytes
    }

    #[test]
    fn an_answer_belongs_to_its_request_and_not_to_one_of_the_other_side() {
        let request = message(0x20, 36, 0x08, 5);
        let answer = message(0x20, 36, 0x20, 5);
        let (ours, theirs) = (Message::of(&request, true).unwrap(), Message::of(&request, false).unwrap());
        assert!(!ours.answers && ours.key != theirs.key);
        let received = Message::of(&answer, false).unwrap();
        assert!(received.answers && received.key == ours.key);
        assert_eq!(Message::of(&answer, true).unwrap().key, theirs.key);
        // IKEv1 has one key for all messages of an exchange.
        let main = message(0x10, 2, 0, 0);
        assert_eq!(Message::of(&main, true).unwrap().key, Message::of(&main, false).unwrap().key);
        assert!(Message::of(&request[..23], true).is_none());
    }
}
