//! An exchange that is under way.

use std::time::{Duration, Instant};

use ike::wire::numbers::ExchangeType;

use super::message::Key;
use super::story::Story;
use crate::span::Span;

/// How long an exchange of IKEv1 may take: longer than its messages are sent again.
const OLD_LASTS: Duration = Duration::from_secs(300);

/// An exchange that has not ended.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) key: Key,
    pub(super) exchange: ExchangeType,
    pub(super) ours: bool,
    pub(super) began: Instant,
    /// In which turn it was sent last: what is sent in one turn are fragments, in a later one the same again.
    pub(super) turn: u32,
    /// In which turn something of it was received last.
    pub(super) heard: u32,
    /// Its span, a part of the first negotiation.
    pub(super) span: Option<Box<Span>>,
    /// A negotiation of its own.
    pub(super) story: Option<Box<Story>>,
}

impl Open {
    /// Whether nothing will come of it. In IKEv1 one that is refused ends without a word of its own: the other side says so in
    /// another exchange, or not at all.
    pub(super) fn is_stale(&self) -> bool {
        self.key.is_old() && self.began.elapsed() > OLD_LASTS
    }
}

/// Which exchange of IKEv1 has come to what it is for in this turn: of what is heard or sent in it, else the newest, for others may have been
/// refused before it.
pub(super) fn which_of_old(open: &[Open], exchanges: &[ExchangeType], turn: u32) -> Option<usize> {
    let old = |open: &Open| exchanges.contains(&open.exchange);
    let now = |open: &Open| old(open) && (open.heard == turn || open.turn == turn);
    open.iter().rposition(now).or_else(|| open.iter().rposition(old))
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;

    fn quick_mode(id: u32, turn: u32, heard: u32) -> Open {
        let mut bytes = vec![7; 28];
        (bytes[17], bytes[18]) = (0x10, ExchangeType::QUICK_MODE.0);
        bytes[20..24].copy_from_slice(&id.to_be_bytes());
        let Message { key, exchange, .. } = Message::of(&bytes, true).unwrap();
        let began = Instant::now();
        Open { key, exchange, ours: true, began, turn, heard, span: None, story: None }
    }

    #[test]
    fn a_quick_mode_that_was_refused_is_not_the_one_that_ends() {
        let all = [ExchangeType::QUICK_MODE];
        // The first was refused, of which only another exchange told; the second is answered.
        let open = [quick_mode(1, 3, 3), quick_mode(2, 4, 5)];
        assert_eq!(which_of_old(&open, &all, 5), Some(1));
        // Two at a time: the answer to the first.
        let open = [quick_mode(1, 3, 5), quick_mode(2, 4, 4)];
        assert_eq!(which_of_old(&open, &all, 5), Some(0));
        // Of neither was anything heard or sent now.
        let open = [quick_mode(1, 3, 3), quick_mode(2, 4, 4)];
        assert_eq!(which_of_old(&open, &all, 5), Some(1));
        assert_eq!(which_of_old(&open, &[ExchangeType::MAIN_MODE], 5), None);
    }
}
