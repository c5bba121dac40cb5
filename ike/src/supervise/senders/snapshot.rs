//! Which pairs are sent by, on its way to another node.

use prost::Message;
use snapshot::Form;

use super::{Few, Pair, Senders};
use crate::snapshot::values::name;

/// Everything of [`Senders`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SendersSnapshot {
    #[prost(message, repeated, tag = "1")]
    pairs: Vec<PairForm>,
    #[prost(message, repeated, tag = "2")]
    sending: Vec<SendingForm>,
}

impl Form for SendersSnapshot {
    const OF: &'static str = "what a peer is sent by";
    const KIND: u8 = 6;
    const VERSION: u16 = 1;
}

#[derive(Clone, PartialEq, Eq, Message)]
struct PairForm {
    #[prost(fixed32, tag = "1")]
    spi: u32,
    #[prost(uint64, tag = "2")]
    conn: u64,
    #[prost(string, tag = "3")]
    policy: String,
    #[prost(bool, tag = "4")]
    active: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct SendingForm {
    #[prost(string, tag = "1")]
    policy: String,
    #[prost(fixed32, tag = "2")]
    spi: u32,
}

impl Senders {
    /// Everything that another node needs to go on with it.
    pub fn snapshot(&self) -> SendersSnapshot {
        let Self { pairs, sending } = self;
        let pair = |(spi, Pair { conn, policy, active }): (&u32, &Pair)| PairForm {
            spi: *spi,
            conn: *conn,
            policy: policy.to_string(),
            active: *active,
        };
        let sender = |(policy, spi): (&std::sync::Arc<str>, &u32)| SendingForm {
            policy: policy.to_string(),
            spi: *spi,
        };
        SendersSnapshot {
            pairs: pairs.iter().map(pair).collect(),
            sending: sending.iter().map(sender).collect(),
        }
    }

    /// Goes on with it.
    pub fn restored(snapshot: &SendersSnapshot) -> Self {
        let (mut pairs, mut sending) = (Few::new(), Few::new());
        for PairForm { spi, conn, policy, active } in &snapshot.pairs {
            pairs.insert(*spi, Pair { conn: *conn, policy: name(policy), active: *active });
        }
        for SendingForm { policy, spi } in &snapshot.sending {
            sending.insert(name(policy), *spi);
        }
        Self { pairs, sending }
    }
}
