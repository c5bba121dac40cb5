//! Where every packet went: sent by us, taken and sent on by the node, dropped by name, and arrived.

use std::collections::{HashMap, HashSet};

use super::{Api, LoadError};
use crate::engine::meter::Meter;
use crate::engine::summary::Summary;
use crate::engine::threshold::Check;

/// What a node and this process had counted at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    node: HashMap<String, u64>,
    /// What sockets of this process had no room for. Not what those of the host had: whoever else drops datagrams explains none of ours.
    no_room: u64,
}

/// Datagrams of one such drop at most: what the kernel has joined counts once.
const JOINED: u64 = 64;

/// Counters of ESP that are no drops.
const NO_DROPS: [&str; 3] = ["esp_received", "esp_sent", "esp_unknown_no_peer"];
/// What the kernel dropped before the node had it.
const BUFFER_FULL: &str = "drop_receive_buffer_full";
/// Drops of what was never counted as received: these, and datagrams too short to be ESP.
const NOT_TAKEN: [&str; 2] = [BUFFER_FULL, "drop_runt"];

impl Accounts {
    pub(crate) async fn take(api: &Api) -> Result<Self, LoadError> {
        Ok(Self { node: api.status().await?.counters, no_room: no_room_here() })
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
    /// that vanished would pass for one that two have counted: the node counts what its sockets had no room for, and this process its own.
    pub(crate) fn check(&self, before: &Self, meter: &Meter, summary: &mut Summary) {
        let between = self.since(before);
        let mut dropped = between.drops();
        dropped.retain(|(name, _)| !NOT_TAKEN.contains(name));
        let dropped = total(&dropped);
        let no_room = JOINED * (between.no_room + between.count(BUFFER_FULL));
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
    }

    fn count(&self, name: &str) -> u64 {
        self.node.get(name).copied().unwrap_or(0)
    }
}

fn total(drops: &[(&str, u64)]) -> u64 {
    drops.iter().map(|(_, n)| n).sum()
}

/// What the sockets of this process have dropped, as the kernel tells by inode.
fn no_room_here() -> u64 {
    let links = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let names = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    let inode = |name: &str| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    let own: HashSet<u64> = names.filter_map(|name| inode(name.to_str()?)).collect();
    // Either family has its own file, and that of IPv6 is not there where the host has none.
    let files = ["/proc/net/udp", "/proc/net/udp6"];
    files.iter().map(|file| drops_of(&std::fs::read_to_string(file).unwrap_or_default(), &own)).sum()
}

/// Drops of sockets of these inodes as `/proc/net/udp` has them: in each line the tenth word is the inode, and the last one the drops.
fn drops_of(table: &str, inodes: &HashSet<u64>) -> u64 {
    let line = |line: &str| {
        let inode = line.split_whitespace().nth(9)?.parse().ok()?;
        let drops: u64 = line.split_whitespace().last()?.parse().ok()?;
        inodes.contains(&inode).then_some(drops)
    };
    table.lines().skip(1).filter_map(line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(counters: &[(&str, u64)], no_room: u64) -> Accounts {
        Accounts { node: counters.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(), no_room }
    }

    fn verdict(meter: &Meter, now: &Accounts) -> bool {
        let mut summary = Summary::new("soak", 0);
        let before = accounts(&[("esp_received", 5), ("drop_no_route", 1)], 3);
        now.check(&before, meter, &mut summary);
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
        assert!(verdict(&meter, &now(13, 1, 4)), "the same, which the kernel had joined");
        assert!(!verdict(&meter, &now(15, 1, 5)), "two vanished in the node");
        assert!(!verdict(&meter, &now(13, 1, 3)), "two vanished on the way");
    }

    #[test]
    fn what_had_no_room_explains_as_many_as_the_kernel_may_have_joined() {
        let verdict = |lost: u64, full: u64, no_room: u64| {
            let meter = Meter::default();
            meter.sent.add(1_000);
            meter.received.add(1_000 - lost);
            let received = 1_000 - lost;
            // Beside it what is no drop of what it took, which explains none.
            let esp = [("esp_received", 5 + received), ("esp_sent", received), ("drop_runt", 500)];
            let node = [&esp[..], &[("drop_no_route", 1), (BUFFER_FULL, full)]].concat();
            verdict(&meter, &accounts(&node, 3 + no_room))
        };
        assert!(verdict(64, 1, 0) && verdict(64, 0, 1) && verdict(128, 1, 1));
        assert!(!verdict(65, 1, 0) && !verdict(65, 0, 1) && !verdict(1, 0, 0));
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
    }

    #[test]
    fn the_kernel_s_counters_of_own_sockets_are_read() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
             1: 0100007F:1194 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 77 2 0000000000000000 5\n\
             2: 0100007F:1195 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 78 2 0000000000000000 9\n";
        assert_eq!(drops_of(table, &HashSet::from([77, 79])), 5);
        assert_eq!(drops_of("", &HashSet::from([77])), 0);
    }

    #[test]
    fn what_others_drop_is_none_of_ours() {
        let before = no_room_here();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(1).unwrap();
        let from = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let full = (0..1_000).any(|_| {
            from.send_to(&[0; 1_400], socket.local_addr().unwrap()).unwrap();
            no_room_here() > before
        });
        assert!(full, "it never had no room");
        drop(socket);
        assert_eq!(no_room_here(), before);
    }
}
