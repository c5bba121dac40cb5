//! A TUN device as the uplink, in a network namespace of its own. Needs root; says so where it is skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

mod common;
#[path = "common/netns.rs"]
mod netns;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZeroU64;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{Gateway, PATIENCE, Remote, checksum, hopped, udp};
use esp::SelectorPair;
use router::policy::{Policy, PolicyAction, PolicyRule, Tunnels};
use router::{RouterEvent, TenantId, TrafficLimits, TunnelConfig, TunnelId, Uplink};

/// A network namespace that lives as long as its process, which ends with its standard input.
struct Namespace(Child);

impl Namespace {
    fn new() -> Option<Self> {
        if netns::lacks() {
            return None;
        }
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Some(Self(child))
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/net/{file}", self.0.id())).unwrap()
    }

    /// Runs a command in the namespace; whether it succeeded.
    fn run(&self, command: &str) -> bool {
        let target = format!("--net={}", self.path());
        Command::new("nsenter").args([target.as_str(), "bash", "-c", command]).status().unwrap().success()
    }

    fn uplink(&self, routes: bool) -> Uplink {
        Uplink::Tun {
            name: "culvert0".to_owned(),
            netns: Some(self.path()),
            addresses: vec!["10.50.0.1/24".parse().unwrap(), "fd50::1/64".parse().unwrap()],
            mtu: 1400,
            routes,
            clear_device: None,
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// An ICMP echo request (8) or reply (0).
fn echo(kind: u8, source: &str, destination: &str, number: u32, len: usize) -> Vec<u8> {
    let mut packet = udp(source, destination, number, len);
    packet[9] = 1;
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..28].copy_from_slice(&[kind, 0, 0, 0, 0, 7, 0, 9]);
    let sum = checksum(&packet[20..]);
    packet[22..24].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn the_kernel_answers_through_the_tunnel() {
    let Some(namespace) = Namespace::new() else { return };
    let gateway = Gateway::start(2);
    let tenant = TenantId(1);
    gateway.tun(tenant, namespace.uplink(true));
    let mut first = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    let mut second = gateway.connect(tenant, 2, 12, "0.0.0.0/0", "10.2.0.0/16");
    for number in 0..200 {
        let len = 4 + (number as usize * 37) % 1369;
        for (remote, address) in [(&mut first, "10.1.0.9"), (&mut second, "10.2.0.9")] {
            remote.send(&echo(8, address, "10.50.0.1", number, len));
            let reply = remote.receive();
            assert_eq!(reply[20..], echo(0, "10.50.0.1", address, number, len)[20..]);
        }
    }
    // What is for another tunnel takes the short way.
    first.send(&udp("10.1.0.9", "10.2.0.9", 3, 10));
    assert_eq!(second.receive(), hopped(&udp("10.1.0.9", "10.2.0.9", 3, 10)));
    assert_eq!(gateway.counter("tun_written"), 400);
}

/// A tunnel for everything, as route-based gateways have it, with routes of the namespace's own.
#[test]
fn the_kernel_answers_through_a_tunnel_for_everything() {
    let Some(namespace) = Namespace::new() else { return };
    let gateway = Gateway::start(2);
    let tenant = TenantId(1);
    gateway.tun(tenant, namespace.uplink(true));
    let mut all = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "0.0.0.0/0");
    assert!(namespace.run("ip route add 10.1.0.0/16 dev culvert0"));
    for number in 0..50 {
        all.send(&echo(8, "10.1.0.9", "10.50.0.1", number, 100));
        assert_eq!(all.receive()[20..], echo(0, "10.50.0.1", "10.1.0.9", number, 100)[20..]);
    }
    assert_eq!([gateway.counter("tun_written"), gateway.counter("switched")], [50, 0]);
    // By a policy as by none.
    let protect = PolicyRule {
        action: PolicyAction::Protect(Tunnels::Any),
        local: Vec::new(),
        remote: Vec::new(),
        protocol: None,
        local_ports: Vec::new(),
        remote_ports: Vec::new(),
    };
    gateway.handle.set_policy(tenant, Policy::new(vec![protect]).unwrap()).unwrap();
    all.send(&echo(8, "10.1.0.9", "10.50.0.1", 7, 100));
    assert_eq!(all.receive()[20..], echo(0, "10.50.0.1", "10.1.0.9", 7, 100)[20..]);
    assert!(all.is_silent());
}

#[test]
fn what_is_for_the_device_itself_goes_into_no_tunnel() {
    let Some(namespace) = Namespace::new() else { return };
    let gateway = Gateway::start(1);
    let tenant = TenantId(1);
    gateway.tun(tenant, namespace.uplink(true));
    let headquarters = gateway.connect(tenant, 1, 11, "10.0.0.0/8", "0.0.0.0/0");
    let mut branch = gateway.connect(tenant, 2, 12, "0.0.0.0/0", "10.2.0.0/16");
    branch.send(&echo(8, "10.2.0.9", "10.50.0.1", 1, 100));
    assert_eq!(branch.receive()[20..], echo(0, "10.50.0.1", "10.2.0.9", 1, 100)[20..]);
    // A policy may be against it.
    let rule = |action, local: &str| PolicyRule {
        action,
        local: [common::subnet(local)].iter().map(|s| s.start..=s.end).collect(),
        remote: Vec::new(),
        protocol: None,
        local_ports: Vec::new(),
        remote_ports: Vec::new(),
    };
    let rules = vec![
        rule(PolicyAction::Discard, "10.50.0.1/32"),
        rule(PolicyAction::Protect(Tunnels::Any), "0.0.0.0/0"),
    ];
    gateway.handle.set_policy(tenant, Policy::new(rules).unwrap()).unwrap();
    branch.send(&echo(8, "10.2.0.9", "10.50.0.1", 2, 100));
    gateway.wait_for("drop_policy_inbound", 1);
    assert!(branch.is_silent() && headquarters.is_silent());
}

/// Flows that come in by the queues of both shards: each is sealed where it comes in, on that shard's own pair, in order.
#[test]
fn flows_of_a_device_spread_over_the_pairs_of_a_tunnel() {
    const FLOWS: u16 = 24;
    // So many altogether that the sockets hold them.
    const EACH: u16 = 5;
    let Some(namespace) = Namespace::new() else { return };
    let gateway = Gateway::start(2);
    let tenant = TenantId(1);
    gateway.tun(tenant, namespace.uplink(true));
    let shared = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    let spi =
        gateway.handle.allocate_own_spi(common::SLOT, [127, 0, 0, 11].into(), &[shared.spi], None).unwrap();
    let own = gateway.connect_own(spi, tenant, 1, 12, "10.1.0.0/16");
    let send = format!(
        "for flow in {{1..{FLOWS}}}; do exec 3> /dev/udp/10.1.0.9/$flow; \
         for i in {{1..{EACH}}}; do printf %04d $i >&3; done; done"
    );
    assert!(namespace.run(&send));
    gateway.wait_for("tun_read", u64::from(FLOWS * EACH));
    let mut flows: HashMap<u16, Vec<String>> = HashMap::new();
    for mut remote in [shared, own] {
        let came = gateway.stats_of(remote.spi).packets_out;
        assert!(came > 0, "shard {} has carried nothing", remote.spi.shard());
        let mut here: HashMap<u16, Vec<String>> = HashMap::new();
        for _ in 0..came {
            let packet = remote.receive();
            let flow = u16::from_be_bytes([packet[22], packet[23]]);
            here.entry(flow).or_default().push(String::from_utf8(packet[28..].to_vec()).unwrap());
        }
        for (flow, numbers) in here {
            assert!(flows.insert(flow, numbers).is_none(), "flow {flow} goes by both pairs");
        }
    }
    let wanted: Vec<String> = (1..=EACH).map(|number| format!("{number:04}")).collect();
    assert_eq!(flows.len(), usize::from(FLOWS));
    assert!(flows.values().all(|numbers| *numbers == wanted), "{flows:?}");
    assert_eq!(gateway.counter("handed_over"), 0);
}

/// Which of two has a packet that waits.
fn waiting(remotes: &[Remote; 2]) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let has = |remote: &&Remote| {
        remote.socket.set_nonblocking(true).unwrap();
        let waits = remote.socket.peek(&mut [0]).is_ok();
        remote.socket.set_nonblocking(false).unwrap();
        waits
    };
    loop {
        assert!(Instant::now() < deadline, "no packet comes in time");
        match remotes.iter().position(|remote| has(&remote)) {
            Some(at) => return at,
            None => std::thread::yield_now(),
        }
    }
}

/// Two pairs of one tunnel, each on a shard of its own.
fn two_pairs(gateway: &Gateway, tenant: TenantId, follows: bool) -> [Remote; 2] {
    let networks = ("0.0.0.0/0", "10.1.0.0/16");
    let shared =
        gateway.install_with(common::socket(11), tenant, 1, networks, |child| child.follows = follows);
    gateway.handle.activate(shared.spi);
    let spi =
        gateway.handle.allocate_own_spi(common::SLOT, [127, 0, 0, 11].into(), &[shared.spi], None).unwrap();
    let own = gateway.install_under(spi, common::socket(12), tenant, 1, networks, |child| {
        (child.own, child.follows) = (true, follows);
    });
    gateway.settle();
    gateway.handle.activate(own.spi);
    [shared, own]
}

/// By which pair each of the packets of a flow goes, each of which is answered by the other one.
fn answered_by_the_other(namespace: &Namespace, remotes: &mut [Remote; 2]) -> Vec<usize> {
    // A packet of a flow, its answer, and so on.
    let send =
        "exec 3<> /dev/udp/10.1.0.9/9; for i in 1 2 3 4; do echo -n $i >&3; head -c 1 <&3 >/dev/null; done";
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| assert!(namespace.run(send)));
        let mut by = Vec::new();
        for number in b"1234" {
            let at = waiting(remotes);
            let packet = remotes[at].receive();
            assert_eq!(packet[28], *number);
            by.push(at);
            let mut answer = udp("10.1.0.9", "10.50.0.1", 0, 4);
            answer[20..22].copy_from_slice(&packet[22..24]);
            answer[22..24].copy_from_slice(&packet[20..22]);
            remotes[1 - at].send(&answer);
        }
        sender.join().unwrap();
        by
    })
}

/// What comes back by another pair than the one that a flow goes by does not move the flow at the end that leads: the other follows it, and
/// if both did, that would never end.
#[test]
fn a_flow_stays_on_its_pair_whichever_its_answers_come_by() {
    let Some(namespace) = Namespace::new() else { return };
    let gateway = Gateway::start(2);
    let tenant = TenantId(1);
    gateway.tun(tenant, namespace.uplink(true));
    let mut remotes = two_pairs(&gateway, tenant, false);
    for _ in 0..8 {
        let by = answered_by_the_other(&namespace, &mut remotes);
        assert!(by.iter().all(|at| *at == by[0]), "{by:?}");
    }
}

#[test]
fn who_follows_sends_by_the_pair_that_the_flow_comes_by() {
    let Some(namespace) = Namespace::new() else { return };
    let gateway = Gateway::start(2);
    let tenant = TenantId(1);
    gateway.tun(tenant, namespace.uplink(true));
    let mut remotes = two_pairs(&gateway, tenant, true);
    for _ in 0..8 {
        let by = answered_by_the_other(&namespace, &mut remotes);
        assert!(by.windows(2).all(|two| two[0] != two[1]), "{by:?}");
    }
    assert_eq!(gateway.counter("handed_over"), 0);
}

#[test]
fn a_limit_counts_what_a_device_sends_beyond_it() {
    let Some(namespace) = Namespace::new() else { return };
    let gateway = Gateway::start(1);
    let tenant = TenantId(1);
    gateway.tun(tenant, namespace.uplink(true));
    let mut remote = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    let octets = NonZeroU64::new(16);
    gateway.handle.set_limits(tenant, TrafficLimits { octets, ..TrafficLimits::default() }).unwrap();
    // The first is worth a minute.
    let send = "data=$(printf %01200d 0); for i in {1..50}; do echo -n $data > /dev/udp/10.1.0.9/9; done";
    assert!(namespace.run(send));
    assert_eq!(remote.receive().len(), 1228);
    gateway.wait_for("drop_tenant_limit_out", 49);
    assert_eq!(gateway.stats_of(remote.spi).drops, [("drop_tenant_limit_out", 49)]);
    assert!(remote.is_silent());
}

#[test]
fn the_kernel_behind_the_device_learns_the_path() {
    the_kernel_learns_the_path(&[(1000, ("0.0.0.0/0", "10.1.0.0/16")), (1380, ("::/0", "2001:db8:1::/48"))]);
}

#[test]
fn the_kernel_behind_the_device_learns_the_path_of_a_tunnel_for_everything() {
    the_kernel_learns_the_path(&[(1000, ("0.0.0.0/0", "0.0.0.0/0")), (1380, ("::/0", "::/0"))]);
}

/// That one would take what is told of the others' paths.
#[test]
fn the_kernel_behind_the_device_learns_the_path_beside_a_tunnel_for_everything() {
    the_kernel_learns_the_path(&[
        (1000, ("0.0.0.0/0", "10.1.0.0/16")),
        (1380, ("::/0", "2001:db8:1::/48")),
        (1500, ("0.0.0.0/0", "0.0.0.0/0")),
        (1500, ("::/0", "::/0")),
    ]);
}

/// By tunnels of these MTUs and networks, of which those of 1000 and 1380 carry what the kernel sends.
fn the_kernel_learns_the_path(tunnels: &[(u16, (&str, &str))]) {
    let Some(namespace) = Namespace::new() else { return };
    let gateway = Gateway::start(1);
    let tenant = TenantId(1);
    gateway.tun(tenant, namespace.uplink(true));
    for (number, (mtu, networks)) in (1u8..).zip(tunnels) {
        let tunnel =
            gateway.install_with(common::socket(10 + number), tenant, number.into(), *networks, |child| {
                child.options.outer_mtu = Some(*mtu);
            });
        gateway.handle.activate(tunnel.spi);
    }
    // A tunnel for everything has no route made for it.
    assert!(namespace.run(
        "ip route replace 10.1.0.0/16 dev culvert0 && ip -6 route replace 2001:db8:1::/48 dev culvert0"
    ));
    // The kernel takes an ICMP error only if its checksums are right and it quotes a packet of a socket that is there.
    // UDP with DF by its own discovery, sent until the route is narrower: a new address of IPv6 works a moment later.
    let told = |destination: &str, mtu: &str| {
        let learned = namespace.run(&format!(
            "exec 3<>/dev/udp/{destination}/9 || exit 9;
             for try in {{1..1000}}; do
               head -c 1360 /dev/zero | dd bs=1360 count=1 >&3 2>/dev/null;
               ip route get {destination} | grep -q 'mtu {mtu}' && exit 0;
             done;
             ip route get {destination}; exit 1"
        ));
        assert!(learned, "the kernel knows {mtu} for {destination}");
    };
    told("10.1.0.9", "938");
    told("2001:db8:1::9", "1318");
    assert!(gateway.counter("icmp_sent") >= 2 && gateway.counter("drop_packet_too_big") >= 2);
}

#[test]
fn who_runs_out_of_hops_hears_it_from_the_device() {
    let Some(namespace) = Namespace::new() else { return };
    let gateway = Gateway::start(1);
    let tenant = TenantId(1);
    gateway.tun(tenant, namespace.uplink(true));
    let mut first = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    let narrow = gateway.connect(tenant, 2, 12, "10.1.0.0/16", "10.2.0.0/16");
    let mut last = udp("10.1.0.9", "10.2.0.9", 3, 10);
    last[8] = 1;
    common::fix_checksum(&mut last);
    first.send(&last);
    let told = first.receive();
    assert_eq!((&told[12..16], &told[20..22]), (&[10, 50, 0, 1][..], &[11, 0][..]));
    assert!(narrow.is_silent());
}

#[test]
fn routes_come_and_go_with_tunnels_and_the_device_with_its_tenant() {
    let Some(namespace) = Namespace::new() else { return };
    let mut gateway = Gateway::start(2);
    let tenant = TenantId(1);
    gateway.tun(tenant, namespace.uplink(true));
    let has_route = |network: &str| namespace.read("route").contains(network);
    let first = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.77.0.0/16");
    let again = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.77.0.0/16");
    let default = gateway.connect(tenant, 2, 12, "0.0.0.0/0", "0.0.0.0/0");
    assert!(has_route("culvert0\t00004D0A"), "{}", namespace.read("route"));
    assert!(!has_route("culvert0\t00000000"), "never the default route");
    gateway.handle.remove(first.spi);
    assert!(has_route("culvert0\t00004D0A"));
    gateway.handle.remove(again.spi);
    gateway.settle();
    assert!(!has_route("culvert0\t00004D0A"));
    for spi in [first.spi, again.spi] {
        assert!(matches!(gateway.next_event(), RouterEvent::Removed { spi: removed, .. } if removed == spi));
    }

    assert!(namespace.read("dev").contains("culvert0"));
    gateway.handle.remove_tenant(tenant);
    assert!(matches!(gateway.next_event(), RouterEvent::Removed { spi, .. } if spi == default.spi));
    gateway.router.shutdown();
    assert!(!namespace.read("dev").contains("culvert0"), "the device is gone");
}

#[test]
fn what_is_bypassed_has_no_route_and_what_is_protected_always_has() {
    let Some(namespace) = Namespace::new() else { return };
    let gateway = Gateway::start(1);
    let tenant = TenantId(1);
    gateway.tun(tenant, namespace.uplink(true));
    let has_route = |network: &str| namespace.read("route").contains(&format!("culvert0\t{network}"));
    let selectors = |remote: &str| SelectorPair {
        local: vec![common::subnet("0.0.0.0/0")],
        remote: vec![common::subnet(remote)],
    };
    let tunnel =
        TunnelConfig { tenant, tunnel: TunnelId(1), selectors: selectors("10.77.0.0/16"), on_demand: false };
    gateway.handle.declare_tunnel(tunnel).unwrap();
    gateway.settle();
    assert!(
        has_route("00004D0A"),
        "without any SA: nothing may leave in the clear\n{}",
        namespace.read("route")
    );
    let rule = |action, remote: &str| PolicyRule {
        action,
        local: Vec::new(),
        remote: [common::subnet(remote)].iter().map(|s| s.start..=s.end).collect(),
        protocol: None,
        local_ports: Vec::new(),
        remote_ports: Vec::new(),
    };
    let apply = |rules| {
        gateway.handle.set_policy(tenant, Policy::new(rules).unwrap()).unwrap();
        gateway.settle();
    };
    let protect = || rule(PolicyAction::Protect(Tunnels::Any), "10.77.0.0/16");
    apply(vec![rule(PolicyAction::Bypass, "10.77.128.0/17"), protect()]);
    assert!(!has_route("00004D0A\t00000000\t0001\t0\t0\t0\t0000FFFF"), "{}", namespace.read("route"));
    assert!(has_route("00004D0A\t00000000\t0001\t0\t0\t0\t0080FFFF"), "{}", namespace.read("route"));
    apply(vec![protect(), rule(PolicyAction::Bypass, "10.77.128.0/17")]);
    assert!(has_route("00004D0A\t00000000\t0001\t0\t0\t0\t0000FFFF"), "protected first: no hole");
    apply(Vec::new());
    assert!(has_route("00004D0A\t00000000\t0001\t0\t0\t0\t0000FFFF"));
    gateway.handle.undeclare_tunnel(tenant, TunnelId(1));
    gateway.settle();
    assert!(!has_route("00004D0A"));
}

#[test]
fn what_is_bypassed_by_port_leaves_by_the_clear_device() {
    let Some(namespace) = Namespace::new() else { return };
    let gateway = Gateway::start(1);
    let tenant = TenantId(1);
    let mut uplink = namespace.uplink(true);
    let Uplink::Tun { clear_device, .. } = &mut uplink else { panic!("a device") };
    *clear_device = Some("lo".to_owned());
    let lo_up = namespace.run("ip link set lo up");
    assert!(lo_up, "ip works in the namespace");
    gateway.tun(tenant, uplink);
    let mut first = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    let rule = |action, protocol, ports: &[u16]| PolicyRule {
        action,
        local: Vec::new(),
        remote: Vec::new(),
        protocol,
        local_ports: Vec::new(),
        remote_ports: ports.iter().map(|port| *port..=*port).collect(),
    };
    let rules = vec![
        rule(PolicyAction::Bypass, Some(17), &[9]),
        rule(PolicyAction::Protect(Tunnels::Any), None, &[]),
    ];
    gateway.handle.set_policy(tenant, Policy::new(rules).unwrap()).unwrap();
    assert!(namespace.run("for port in 9 7; do echo hello >/dev/udp/10.1.0.9/$port; done"));
    let inner = first.receive();
    assert_eq!(inner[22..24], 7u16.to_be_bytes(), "only what is protected");
    gateway.wait_for("policy_bypass", 1);
}

#[test]
fn two_tenants_may_have_the_same_networks() {
    let (Some(one), Some(two)) = (Namespace::new(), Namespace::new()) else { return };
    let gateway = Gateway::start(2);
    let mut remotes: Vec<_> = [&one, &two]
        .into_iter()
        .enumerate()
        .map(|(number, namespace)| {
            let tenant = TenantId(number as u32);
            gateway.tun(tenant, namespace.uplink(true));
            gateway.connect(tenant, number as u64, 11 + number as u8, "0.0.0.0/0", "10.1.0.0/16")
        })
        .collect();
    for number in 0..20 {
        for remote in &mut remotes {
            remote.send(&echo(8, "10.1.0.9", "10.50.0.1", number, 64));
        }
        for remote in &mut remotes {
            assert_eq!(remote.receive()[28..32], number.to_be_bytes());
        }
    }
    assert!(remotes.iter().all(common::Remote::is_silent));
}
