//! Tunnels on narrow paths: what fits goes through, what does not is cut or refused, and the sender is told.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::time::Instant;

use common::{Gateway, Remote, hopped, udp, udp_v6};
use esp::{MssClamp, OpenError, TfcPadding};
use proptest::prelude::*;
use router::{OuterDf, TenantId, TunnelOptions};

/// IPv4 and UDP headers around ESP on loopback.
const OUTER_HEADERS: usize = 28;

/// The largest inner packet on a path of this MTU: ESP header and IV 16, ICV 16, trailer 2, in steps of four.
fn max_inner(mtu: u16) -> usize {
    (usize::from(mtu) - OUTER_HEADERS - 32) / 4 * 4 - 2
}

/// Two sites of one tenant: the first on a wide path, the second as the options say.
struct Sites {
    gateway: Gateway,
    first: Remote,
    second: Remote,
    tenant: TenantId,
}

impl Sites {
    fn new(v6: bool, options: TunnelOptions) -> Self {
        let gateway = Gateway::start(2);
        let tenant = gateway.hub(1);
        let networks = if v6 {
            [("::/0", "2001:db8:1::/48"), ("::/0", "2001:db8:2::/48")]
        } else {
            [("0.0.0.0/0", "10.1.0.0/16"), ("0.0.0.0/0", "10.2.0.0/16")]
        };
        let mut remotes = (11u8..).zip(networks).map(|(host, networks)| {
            let socket = common::socket(host);
            gateway.install_with(socket, tenant, u64::from(host), networks, |child| {
                if host == 12 {
                    child.options = options;
                }
            })
        });
        let (first, second) = (remotes.next().unwrap(), remotes.next().unwrap());
        drop(remotes);
        gateway.handle.activate(first.spi);
        gateway.handle.activate(second.spi);
        Self { gateway, first, second, tenant }
    }

    fn narrow(v6: bool, mtu: u16) -> Self {
        Self::new(v6, TunnelOptions { outer_mtu: Some(mtu), ..TunnelOptions::default() })
    }
}

fn with_df(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] |= 0x40;
    common::fix_checksum(&mut packet);
    packet
}

/// From a site to the other with `len` octets in all.
fn packet(len: usize) -> Vec<u8> {
    udp("10.1.0.1", "10.2.0.1", 7, len - 28)
}

fn offset(fragment: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([fragment[6], fragment[7]]) & 0x1fff) * 8
}

/// As the receiving host reassembles: payloads side by side, the header of the first.
fn reassemble(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = fragments[0][..20].to_vec();
    for (number, fragment) in fragments.iter().enumerate() {
        assert_eq!(offset(fragment), whole.len() - 20, "in order, without gaps");
        assert_eq!(fragment[6] & 0x20 != 0, number + 1 < fragments.len(), "more to come");
        assert_eq!(common::checksum(&fragment[..20]), 0);
        whole.extend(&fragment[20..]);
    }
    let len = (whole.len() as u16).to_be_bytes();
    whole[2..4].copy_from_slice(&len);
    whole[6..8].copy_from_slice(&[0, 0]);
    common::fix_checksum(&mut whole);
    whole
}

/// What arrives at the second site until a packet that ends a datagram, and the largest outer packet of it.
fn receive_whole(second: &mut Remote) -> (Vec<Vec<u8>>, usize) {
    let (mut fragments, mut largest) = (Vec::new(), 0);
    loop {
        let (len, inner) = second.receive_sized();
        largest = largest.max(len + OUTER_HEADERS);
        let last = inner[0] >> 4 == 6 || inner[6] & 0x20 == 0;
        fragments.push(inner);
        if last {
            return (fragments, largest);
        }
    }
}

#[test]
fn exactly_what_fits_fits() {
    let Sites { gateway, mut first, mut second, .. } = Sites::narrow(false, 1000);
    let fits = with_df(packet(max_inner(1000)));
    first.send(&fits);
    let (len, inner) = second.receive_sized();
    assert_eq!(inner, hopped(&fits));
    assert!(len + OUTER_HEADERS <= 1000 && len + OUTER_HEADERS > 996, "{len}");

    let too_big = with_df(packet(max_inner(1000) + 1));
    first.send(&too_big);
    let told = first.receive();
    assert_eq!(told[20..22], [3, 4]);
    assert_eq!(usize::from(u16::from_be_bytes([told[26], told[27]])), max_inner(1000));
    assert_eq!(told[12..16], [10, 2, 0, 1], "a hub has no address of its own");
    assert_eq!(told[16..20], [10, 1, 0, 1]);
    // 576 octets where the way back is known to take them, else what every way does.
    assert!([476, 576].contains(&told.len()));
    assert_eq!(told[28..], hopped(&too_big)[..told.len() - 28]);
    assert_eq!((common::checksum(&told[..20]), common::checksum(&told[20..])), (0, 0));
    assert_eq!((gateway.counter("drop_packet_too_big"), gateway.counter("icmp_sent")), (1, 1));
    assert_eq!(gateway.stats_of(second.spi).drops, [("drop_packet_too_big", 1)]);
    assert_eq!(gateway.stats_of(second.spi).inner_mtu, max_inner(1000));
    assert!(second.is_silent());
}

#[test]
fn the_sixth_version_is_told_as_well() {
    let Sites { gateway, mut first, mut second, .. } = Sites::narrow(true, 1400);
    let fits = udp_v6("2001:db8:1::1", "2001:db8:2::1", max_inner(1400) - 48);
    first.send(&fits);
    assert_eq!(second.receive(), hopped(&fits));
    let too_big = udp_v6("2001:db8:1::1", "2001:db8:2::1", max_inner(1400) - 47);
    first.send(&too_big);
    let told = first.receive();
    assert_eq!(told[40..42], [2, 0]);
    assert_eq!(u32::from_be_bytes([told[44], told[45], told[46], told[47]]) as usize, max_inner(1400));
    assert_eq!(told[48..], hopped(&too_big)[..1232]);
    assert_eq!(gateway.counter("drop_packet_too_big"), 1);
}

#[test]
fn what_a_host_of_ipv6_may_always_send_always_passes() {
    let Sites { gateway, mut first, mut second, .. } = Sites::narrow(true, 576);
    let least = udp_v6("2001:db8:1::1", "2001:db8:2::1", 1280 - 48);
    first.send(&least);
    assert_eq!(second.receive(), hopped(&least));
    assert_eq!(gateway.counter("outer_fragmented"), 1);
    first.send(&udp_v6("2001:db8:1::1", "2001:db8:2::1", 1281 - 48));
    let told = first.receive();
    assert_eq!(told[40..48][4..], 1280u32.to_be_bytes());
}

#[test]
fn what_may_be_cut_is_cut_before_it_is_sealed() {
    let Sites { gateway, mut first, mut second, .. } = Sites::narrow(false, 700);
    for len in [max_inner(700) + 1, 1400, 5000] {
        let whole = packet(len);
        first.send(&whole);
        let (fragments, largest) = receive_whole(&mut second);
        assert!(largest <= 700 && fragments.len() >= 2);
        assert_eq!(reassemble(&fragments), hopped(&whole));
    }
    assert_eq!((gateway.counter("inner_fragmented"), gateway.counter("outer_fragmented")), (3, 0));
}

/// However many pieces it would have gone in, one packet is lost.
#[test]
fn what_would_be_cut_on_a_pair_that_is_over_is_one_loss() {
    let Sites { gateway, mut first, second, .. } = Sites::narrow(false, 576);
    gateway.handle.expire(second.spi);
    first.send(&packet(5000));
    gateway.wait_for("esp_outbound_expired", 1);
    assert_eq!(gateway.stats_of(second.spi).drops, [("esp_outbound_expired", 1)]);
    assert_eq!((gateway.counter("esp_outbound_expired"), gateway.counter("inner_fragmented")), (1, 0));
}

#[test]
fn with_df_clear_outside_nobody_is_told() {
    let options = TunnelOptions { outer_mtu: Some(700), df: OuterDf::Clear, ..TunnelOptions::default() };
    let Sites { gateway, mut first, mut second, .. } = Sites::new(false, options);
    let whole = with_df(packet(1400));
    first.send(&whole);
    assert_eq!(second.receive(), hopped(&whole));
    assert_eq!((gateway.counter("outer_fragmented"), gateway.counter("icmp_sent")), (1, 0));
}

#[test]
fn a_flood_is_not_answered_by_a_flood() {
    let Sites { gateway, mut first, .. } = Sites::narrow(false, 700);
    let begun = Instant::now();
    let flood = 500;
    for _ in 0..flood {
        first.send(&with_df(packet(1000)));
        // In step, so that no queue overflows.
        gateway.stats_of(first.spi);
    }
    gateway.wait_for("drop_packet_too_big", flood);
    let (sent, limited) = (gateway.counter("icmp_sent"), gateway.counter("icmp_limited"));
    assert_eq!(sent + limited, flood);
    let seconds = begun.elapsed().as_secs() + 2;
    assert!(sent > 0 && sent <= 32 * seconds, "{sent} in {seconds} seconds");
}

#[test]
fn errors_are_not_answered() {
    let Sites { gateway, mut first, second, .. } = Sites::narrow(false, 700);
    let mut error = with_df(packet(1000));
    error[9] = 1;
    error[20] = 3;
    common::fix_checksum(&mut error);
    first.send(&error);
    let mut multicast = with_df(packet(1000));
    multicast[12..16].copy_from_slice(&[10, 1, 255, 1]);
    multicast[16..20].copy_from_slice(&[10, 2, 0, 9]);
    multicast[7] = 3;
    common::fix_checksum(&mut multicast);
    first.send(&multicast);
    gateway.wait_for("drop_packet_too_big", 2);
    assert!(first.is_silent() && second.is_silent());
    assert_eq!((gateway.counter("icmp_sent"), gateway.counter("icmp_limited")), (0, 0));
}

#[test]
fn who_runs_out_of_hops_is_told() {
    let Sites { gateway, mut first, .. } = Sites::narrow(false, 1500);
    let mut last = packet(100);
    last[8] = 1;
    common::fix_checksum(&mut last);
    first.send(&last);
    let told = first.receive();
    assert_eq!(told[20..22], [11, 0]);
    assert_eq!(told[28..], last);
    assert_eq!((gateway.counter("drop_ttl_expired"), gateway.counter("icmp_sent")), (1, 1));
}

#[test]
fn an_error_fits_the_tunnel_it_goes_back_by() {
    for shards in [1, 2] {
        let gateway = Gateway::start(shards);
        let tenant = gateway.hub(1);
        let options = TunnelOptions { outer_mtu: Some(576), ..TunnelOptions::default() };
        let site = |host, network: &str| {
            let tunnel = gateway.install_with(
                common::socket(host),
                tenant,
                host.into(),
                ("0.0.0.0/0", network),
                |child| child.options = options,
            );
            gateway.handle.activate(tunnel.spi);
            tunnel
        };
        let mut first = site(11, "10.1.0.0/16");
        let _others: Vec<_> = (12..20).map(|host| site(host, &format!("10.{host}.0.0/16"))).collect();
        // Of which some are on the other shard.
        for host in 12..20 {
            first.send(&with_df(udp("10.1.0.1", &format!("10.{host}.0.1"), 1, 1000)));
            let (len, told) = first.receive_sized();
            assert_eq!(told[20..22], [3, 4]);
            assert!(len + OUTER_HEADERS <= 576 && told.len() > 400, "{len}");
        }
        assert_eq!(gateway.counter("drop_packet_too_big"), 8);
    }
}

/// Of two sites one is for everything.
#[test]
fn errors_find_their_way_back_by_a_tunnel_for_everything() {
    let gateway = Gateway::start(2);
    let tenant = gateway.hub(1);
    let site = |host: u8, network: &str, mtu| {
        let socket = common::socket(host);
        let tunnel = gateway.install_with(socket, tenant, host.into(), ("0.0.0.0/0", network), |child| {
            child.options = TunnelOptions { outer_mtu: Some(mtu), ..TunnelOptions::default() };
        });
        gateway.handle.activate(tunnel.spi);
        tunnel
    };
    let mut all = site(11, "0.0.0.0/0", 1200);
    let mut narrow = site(12, "10.2.0.0/16", 1000);
    let mut last = packet(100);
    last[8] = 1;
    common::fix_checksum(&mut last);
    all.send(&last);
    assert_eq!(all.receive()[20..22], [11, 0], "it came in by this one");
    all.send(&with_df(packet(1100)));
    assert_eq!(all.receive()[20..22], [3, 4]);
    narrow.send(&with_df(udp("10.2.0.1", "10.1.0.1", 7, 1200)));
    assert_eq!(narrow.receive()[20..22], [3, 4], "it was to go out by the other");
    assert!(all.is_silent() && narrow.is_silent());
}

#[test]
fn no_way_back_is_counted() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    // A pair that carries only UDP has no room for ICMP.
    let mut first =
        gateway.install_with(common::socket(11), tenant, 1, ("0.0.0.0/0", "0.0.0.0/0"), |child| {
            let remote = common::subnet("10.1.0.0/16");
            child.selectors.remote = vec![esp::Selector { protocol: 17, ..remote }];
        });
    let second = gateway.connect(tenant, 2, 12, "0.0.0.0/0", "10.2.0.0/16");
    gateway.handle.activate(first.spi);
    let mut last = packet(100);
    last[8] = 1;
    common::fix_checksum(&mut last);
    first.send(&last);
    gateway.wait_for("icmp_no_way", 1);
    assert!(first.is_silent() && second.is_silent());
}

/// A SYN with nothing but an MSS option.
fn syn(source: &str, destination: &str, mss: u16) -> Vec<u8> {
    let mut packet = udp(source, destination, 1, 16);
    packet[9] = 6;
    packet[20..].copy_from_slice(&[
        0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 0, 0,
    ]);
    packet[42..44].copy_from_slice(&mss.to_be_bytes());
    common::fix_checksum(&mut packet);
    packet
}

#[test]
fn segments_fit_in_both_directions() {
    let Sites { gateway, mut first, mut second, tenant } = Sites::narrow(false, 1000);
    let mss = |packet: &[u8]| u16::from_be_bytes([packet[42], packet[43]]);
    let fits = max_inner(1000) as u16 - 40;
    first.send(&syn("10.1.0.1", "10.2.0.1", 1460));
    assert_eq!(mss(&second.receive()), fits);
    second.send(&syn("10.2.0.1", "10.1.0.1", 1460));
    assert_eq!(mss(&first.receive()), fits);
    second.send(&syn("10.2.0.1", "10.1.0.1", 500));
    assert_eq!(mss(&first.receive()), 500);
    assert_eq!(gateway.counter("mss_clamped"), 2);

    for (host, clamp, expected) in [(13, MssClamp::Off, 1460), (14, MssClamp::At(800), 800)] {
        let remote = format!("10.{host}.0.0/16");
        let networks = ("0.0.0.0/0", remote.as_str());
        let mut other = gateway.install_with(common::socket(host), tenant, host.into(), networks, |child| {
            child.options = TunnelOptions { outer_mtu: Some(1000), mss: clamp, ..TunnelOptions::default() };
        });
        gateway.handle.activate(other.spi);
        first.send(&syn("10.1.0.1", &format!("10.{host}.0.1"), 1460));
        assert_eq!(mss(&other.receive()), expected);
    }
}

#[test]
fn padding_hides_sizes_and_dummies_are_dropped() {
    let options =
        TunnelOptions { outer_mtu: Some(1000), tfc: TfcPadding::Fixed(u16::MAX), ..TunnelOptions::default() };
    let Sites { gateway, mut first, mut second, .. } = Sites::new(false, options);
    let mut sizes = Vec::new();
    for len in [28, 300, max_inner(1000)] {
        first.send(&packet(len));
        let (size, inner) = second.receive_sized();
        assert_eq!(inner, hopped(&packet(len)));
        sizes.push(size);
    }
    gateway.handle.send_dummies(second.spi, 2, u16::MAX);
    for _ in 0..2 {
        let (size, opened) = second.try_receive_sized();
        assert_eq!(opened, Err(OpenError::Dummy));
        sizes.push(size);
    }
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    // And one the other way: not a packet, and no harm.
    let mut dummy = vec![0; 200];
    let len = second.outbound.seal_dummy(100, &mut dummy).unwrap().len;
    second.socket.send_to(&dummy[..len], second.router).unwrap();
    second.send(&udp("10.2.0.1", "10.1.0.1", 5, 50));
    first.receive();
    assert_eq!((gateway.counter("esp_dummy"), gateway.counter("dummy_sent")), (1, 2));
    assert_eq!(gateway.stats_of(second.spi).drops, [], "nothing was lost by it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is sent arrives as it was but for the hop, or its sender is told; and no outer packet exceeds the path.
    #[test]
    fn everything_arrives_or_is_answered(mtu in 576u16..1600, packets in proptest::collection::vec(
        (29usize..2500, any::<bool>(), 0u8..64, 2u8..255), 1..12)) {
        let Sites { gateway, mut first, mut second, .. } = Sites::narrow(false, mtu);
        for (len, df, dscp, hops) in packets {
            let mut sent = packet(len);
            (sent[1], sent[8]) = (dscp << 2, hops);
            common::fix_checksum(&mut sent);
            if df {
                sent = with_df(sent);
            }
            first.send(&sent);
            if df && len > max_inner(mtu) {
                let told = first.receive();
                prop_assert_eq!(&told[20..22], &[3, 4]);
                continue;
            }
            let (fragments, largest) = receive_whole(&mut second);
            prop_assert!(largest <= usize::from(mtu));
            let arrived = if fragments.len() == 1 { fragments[0].clone() } else { reassemble(&fragments) };
            prop_assert_eq!(arrived, hopped(&sent));
        }
        prop_assert!(first.is_silent() && second.is_silent());
        prop_assert_eq!(gateway.counter("outer_fragmented"), 0);
    }
}
