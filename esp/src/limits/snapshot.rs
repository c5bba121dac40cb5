//! Counters and limits as another node takes them over.

use prost::Message;

use super::Meter;

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct MeterForm {
    #[prost(uint64, optional, tag = "1")]
    soft_bytes: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    hard_bytes: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    soft_packets: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    hard_packets: Option<u64>,
    #[prost(uint64, tag = "5")]
    bytes: u64,
    #[prost(uint64, tag = "6")]
    packets: u64,
    #[prost(bool, tag = "7")]
    soft_raised: bool,
    #[prost(bool, tag = "8")]
    spent: bool,
    #[prost(bool, tag = "9")]
    expired: bool,
}

/// What was counted, without the limits.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct CountForm {
    #[prost(uint64, tag = "1")]
    bytes: u64,
    #[prost(uint64, tag = "2")]
    packets: u64,
}

impl MeterForm {
    /// Takes over a later count. What the limits say to it shows with the next packet.
    pub(crate) fn advance(&mut self, count: &CountForm) {
        self.bytes = self.bytes.max(count.bytes);
        self.packets = self.packets.max(count.packets);
    }
}

impl Meter {
    pub(crate) fn count_form(&self) -> CountForm {
        CountForm { bytes: self.bytes, packets: self.packets }
    }

    pub(crate) fn form(&self) -> MeterForm {
        // An absent limit is one that is never reached.
        let limit = |limit| (limit != u64::MAX).then_some(limit);
        MeterForm {
            soft_bytes: limit(self.soft_bytes),
            hard_bytes: limit(self.hard_bytes),
            soft_packets: limit(self.soft_packets),
            hard_packets: limit(self.hard_packets),
            bytes: self.bytes,
            packets: self.packets,
            soft_raised: self.soft_raised,
            spent: self.spent,
            expired: self.expired,
        }
    }

    pub(crate) fn restore(form: &MeterForm) -> Self {
        let limit = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        Self {
            soft_bytes: limit(form.soft_bytes),
            hard_bytes: limit(form.hard_bytes),
            soft_packets: limit(form.soft_packets),
            hard_packets: limit(form.hard_packets),
            bytes: form.bytes,
            packets: form.packets,
            soft_raised: form.soft_raised,
            spent: form.spent,
            expired: form.expired,
        }
    }
}
