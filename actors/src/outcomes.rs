//! What negotiations come to, and how long they take: counts and durations that are read when somebody asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ike::Failure;
use ike::explain::explain;
use ike::wire::numbers::ExchangeType;

use crate::latency::{Histogram, Latency};

/// What was negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A connection, by us.
    Initiate,
    /// A connection, by the peer.
    Respond,
    /// A Child SA on a connection that stands.
    Child,
    /// Keys in the place of others.
    Rekey,
    /// A connection that stood was lost.
    Liveness,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Initiate, Self::Respond, Self::Child, Self::Rekey, Self::Liveness];

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initiate => "initiate",
            Self::Respond => "respond",
            Self::Child => "child",
            Self::Rekey => "rekey",
            Self::Liveness => "liveness",
        }
    }
}

/// What was rekeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rekeyed {
    Ike,
    Child,
}

/// Exchanges whose round trips are told apart. Others are of the future, and counted with the last.
const EXCHANGES: [ExchangeType; 7] = [
    ExchangeType::IKE_SA_INIT,
    ExchangeType::IKE_AUTH,
    ExchangeType::CREATE_CHILD_SA,
    ExchangeType::MAIN_MODE,
    ExchangeType::AGGRESSIVE_MODE,
    ExchangeType::QUICK_MODE,
    ExchangeType::INFORMATIONAL,
];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// By stage and cause, of which there are some twenty, the empty one for what went well.
    counts: Mutex<BTreeMap<(Stage, &'static str), u64>>,
    initiated: Latency,
    responded: Latency,
    ike_rekeys: Latency,
    child_rekeys: Latency,
    exchanges: [Latency; EXCHANGES.len()],
}

/// What negotiations have come to since the node was started.
#[derive(Clone, Debug, Default)]
pub struct Negotiations {
    /// How many, by stage and by the cause of their failure in a word; an empty one for those that went well.
    pub counts: Vec<(Stage, &'static str, u64)>,
    /// From the first message to an authenticated peer, by who began.
    pub handshakes: Vec<(&'static str, Histogram)>,
    /// From our request to new keys, by what was rekeyed.
    pub rekeys: Vec<(&'static str, Histogram)>,
    /// From our request to the peer's answer, by exchange.
    pub exchanges: Vec<(String, Histogram)>,
}

impl Outcomes {
    fn count(&self, stage: Stage, cause: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((stage, cause)).or_default() += 1;
    }

    /// It went well.
    pub(crate) fn succeeded(&self, stage: Stage) {
        self.count(stage, "");
    }

    /// It did not. The cause in a word is returned.
    pub(crate) fn failed(&self, stage: Stage, failure: &Failure) -> &'static str {
        self.failed_by(stage, explain(failure).kind)
    }

    /// It did not, by a cause that is no failure of a negotiation.
    pub(crate) fn failed_by(&self, stage: Stage, cause: &'static str) -> &'static str {
        self.count(stage, cause);
        cause
    }

    /// A peer was authenticated so long after the first message.
    pub(crate) fn handshake(&self, initiator: bool, took: Duration) {
        if initiator { &self.initiated } else { &self.responded }.add(took);
    }

    pub(crate) fn rekey(&self, what: Rekeyed, took: Duration) {
        match what {
            Rekeyed::Ike => &self.ike_rekeys,
            Rekeyed::Child => &self.child_rekeys,
        }
        .add(took);
    }

    /// A request of ours was answered.
    pub(crate) fn exchange(&self, exchange: ExchangeType, took: Duration) {
        let at = EXCHANGES.iter().position(|known| *known == exchange).unwrap_or(EXCHANGES.len() - 1);
        if let Some(latency) = self.exchanges.get(at) {
            latency.add(took);
        }
    }

    pub(crate) fn read(&self) -> Negotiations {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Negotiations {
            counts: counts.iter().map(|((stage, cause), count)| (*stage, *cause, *count)).collect(),
            handshakes: vec![("initiator", self.initiated.read()), ("responder", self.responded.read())],
            rekeys: vec![("ike", self.ike_rekeys.read()), ("child", self.child_rekeys.read())],
            exchanges: EXCHANGES
                .iter()
                .zip(&self.exchanges)
                .map(|(exchange, latency)| (exchange.to_string(), latency.read()))
                .collect(),
        }
    }
}
