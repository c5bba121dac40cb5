//! Where every packet went: sent by us, taken and sent on by the node, dropped by name, and arrived.

use std::collections::HashMap;

use super::{Api, LoadError};
use crate::engine::meter::Meter;
use crate::engine::summary::Summary;
use crate::engine::threshold::Check;

/// What a node and this host had counted at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    node: HashMap<String, u64>,
    /// Datagrams that sockets on this host had no room for.
    no_room: u64,
}

/// Counters of ESP that are no drops.
const NO_DROPS: [&str; 3] = ["esp_received", "esp_sent", "esp_unknown_no_peer"];
/// What the kernel dropped before the node had it. Where both are on one host `no_room` has the same datagrams.
const BUFFER_FULL: &str = "drop_receive_buffer_full";
/// Drops of what was never counted as received: these, and datagrams too short to be ESP.
const NOT_TAKEN: [&str; 2] = [BUFFER_FULL, "drop_runt"];

impl Accounts {
    pub(crate) async fn take(api: &Api) -> Result<Self, LoadError> {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        // Either family has its own count, and the file of IPv6 is not there where the host has none.
        let no_room =
            no_room(&read("/proc/net/snmp")).unwrap_or(0) + no_room_v6(&read("/proc/net/snmp6")).unwrap_or(0);
        Ok(Self { node: api.status().await?.counters, no_room })
    }

    /// What has been counted since.
    fn since(&self, before: &Self) -> Self {
        let node = self.node.iter().map(|(name, now)| {
            let then = before.node.get(name).copied().unwrap_or(0);
            (name.clone(), now.saturating_sub(then))
        });
        Self { node: node.collect(), no_room: self.no_room.saturating_sub(before.no_room) }
    }

    /// Drops of packets by name, those that happened.
    fn drops(&self) -> Vec<(&str, u64)> {
        let is_drop = |name: &str| {
            (name.starts_with("esp_") && !NO_DROPS.contains(&name))
                || (name.starts_with("drop_") && !name.starts_with("drop_ike"))
        };
        let mut drops: Vec<_> = self.node.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        drops.retain(|(name, n)| *n > 0 && is_drop(name));
        drops.sort_unstable();
        drops
    }

    /// What the node has taken, sent on and dropped since `before`, whoever sent it.
    pub(crate) fn tell(&self, before: &Self, summary: &mut Summary) {
        let between = self.since(before);
        let drops = between.drops();
        let names: Vec<_> = drops.iter().map(|(name, n)| format!("{name} {n}")).collect();
        let names = if names.is_empty() { "0".to_owned() } else { names.join(", ") };
        summary.count("nodeReceived", "taken by the node", between.count("esp_received"));
        summary.count("nodeSent", "sent on by it", between.count("esp_sent"));
        summary.figure("nodeDropped", "dropped by it, by name", total(&drops), names);
        summary.count("noRoom", "no room in a socket", between.no_room);
    }

    /// Compares it with what was sent and has arrived. The node must have carried nothing else. Each packet is explained once, or one
    /// that vanished would pass for one that two have counted: of a node on this host (`same_host`) the kernel counts what had no room as
    /// the node does.
    pub(crate) fn check(&self, before: &Self, meter: &Meter, same_host: bool, summary: &mut Summary) {
        let between = self.since(before);
        let mut dropped = between.drops();
        dropped.retain(|(name, _)| !NOT_TAKEN.contains(name));
        let dropped = total(&dropped);
        let (here, there) = (between.no_room, between.count(BUFFER_FULL));
        let no_room = if same_host { here.max(there) } else { here + there };
        let arrived = [&meter.received, &meter.strangers, &meter.unopened];
        let arrived: u64 = arrived.iter().map(|count| count.get()).sum();
        let lost = meter.sent.get().saturating_sub(arrived);
        let on_the_way = lost.saturating_sub(dropped + no_room);
        // What it sent of its own came from nobody.
        let own = between.count("icmp_sent") + between.count("dummy_sent");
        let on = between.count("esp_sent").saturating_sub(own);
        let within = between.count("esp_received").saturating_sub(on + dropped);
        summary.check(Check::at_most("unexplained in the node", 0.0, Some(within as f64), ""));
        summary.check(Check::at_most("unexplained on the way", 0.0, Some(on_the_way as f64), ""));
        // What is sent on twice would hide one that is not sent on at all.
        summary.check(Check::at_most("duplicates", 0.0, Some(meter.duplicates.get() as f64), ""));
    }

    fn count(&self, name: &str) -> u64 {
        self.node.get(name).copied().unwrap_or(0)
    }
}

fn total(drops: &[(&str, u64)]) -> u64 {
    drops.iter().map(|(_, n)| n).sum()
}

/// `RcvbufErrors` of UDP as `/proc/net/snmp` has it: a line of names and a line of numbers.
fn no_room(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "RcvbufErrors")?.1.parse().ok()
}

/// The same of UDP over IPv6, as `/proc/net/snmp6` has it: a name and a number in each line.
fn no_room_v6(snmp: &str) -> Option<u64> {
    let mut words = snmp.lines().map(str::split_whitespace);
    words.find_map(|mut line| (line.next()? == "Udp6RcvbufErrors").then(|| line.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(counters: &[(&str, u64)], no_room: u64) -> Accounts {
        Accounts { node: counters.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(), no_room }
    }

    fn verdict(meter: &Meter, now: &Accounts) -> bool {
        verdict_of(meter, now, true)
    }

    fn verdict_of(meter: &Meter, now: &Accounts, same_host: bool) -> bool {
        let mut summary = Summary::new("soak", 0);
        let before = accounts(&[("esp_received", 5), ("drop_no_route", 1)], 3);
        now.check(&before, meter, same_host, &mut summary);
        summary.passed()
    }

    #[test]
    fn what_is_dropped_by_name_is_explained_and_nothing_else_is() {
        let meter = Meter::default();
        meter.sent.add(10);
        meter.received.add(8);
        let now = |received, dropped, no_room| {
            let esp = [("esp_received", received), ("esp_sent", 8), ("drop_no_route", dropped)];
            accounts(&[&esp[..], &[("drop_ike_overload", 9), ("esp_unknown_no_peer", 9)]].concat(), no_room)
        };
        assert!(verdict(&meter, &now(15, 3, 3)), "two dropped by the node");
        assert!(verdict(&meter, &now(13, 1, 5)), "two that a socket had no room for");
        assert!(!verdict(&meter, &now(15, 1, 5)), "two vanished in the node");
        assert!(!verdict(&meter, &now(13, 1, 4)), "one vanished on the way");
    }

    #[test]
    fn a_datagram_that_had_no_room_is_explained_once_though_two_have_counted_it() {
        let meter = Meter::default();
        meter.sent.add(100);
        meter.received.add(80);
        let now = |received, sent, full, no_room| {
            let counters = [("esp_received", received), ("esp_sent", sent), (BUFFER_FULL, full)];
            accounts(&[&counters[..], &[("drop_no_route", 1), ("drop_runt", full)]].concat(), no_room)
        };
        assert!(verdict(&meter, &now(85, 80, 20, 23)), "both of one host");
        assert!(
            verdict_of(&meter, &now(85, 80, 15, 8), false),
            "some at the node's host, and some at this one"
        );
        assert!(
            !verdict(&meter, &now(85, 80, 15, 8)),
            "five vanished, as those of this host are those of the node"
        );
        assert!(!verdict(&meter, &now(95, 80, 10, 13)), "ten vanished in the node");
        assert!(!verdict(&meter, &now(95, 90, 10, 13)), "ten vanished on the way back");
        assert!(!verdict(&meter, &now(105, 80, 20, 3)), "what is no drop of what it took explains none");
    }

    #[test]
    fn duplicates_explain_nothing_and_are_none() {
        let verdict = |duplicates, received| {
            let meter = Meter::default();
            meter.sent.add(10);
            meter.received.add(received);
            meter.duplicates.add(duplicates);
            let node = [("esp_received", 15), ("esp_sent", received + duplicates), ("drop_no_route", 1)];
            verdict(&meter, &accounts(&node, 3))
        };
        assert!(verdict(0, 10));
        assert!(!verdict(2, 8), "two were lost, and two came twice");
        assert!(!verdict(1, 10));
    }

    #[test]
    fn the_kernel_s_counter_is_read() {
        let text =
            "Ip: a b\nIp: 1 2\nUdp: InDatagrams NoPorts RcvbufErrors\nUdp: 7 8 9\nUdpLite: x\nUdpLite: 1\n";
        assert_eq!(no_room(text), Some(9));
        assert_eq!(no_room(""), None);
        let text = "Ip6InReceives   \t12\nUdp6InErrors   \t5\nUdp6RcvbufErrors   \t4\nUdp6SndbufErrors 7\n";
        assert_eq!(no_room_v6(text), Some(4));
        assert_eq!(no_room_v6("Udp6RcvbufErrors\n"), None);
    }
}
