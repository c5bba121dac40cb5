//! Inputs to begin with, made by our own code. `cargo run -p fuzz` writes them; what a fuzzer finds from there is in
//! `fuzz/corpus`.

use culvert_proto::v1;
use ike::config::Phase1;
use ike::wire::TrafficSelector;
use ike::wire::payload;
use ike::wire::writer::Writer;
use ike::{Command, forge};
use prost::Message;

use crate::world::World;

/// Seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "message" => datagrams(),
        "payloads" => chains(),
        "datagram" => {
            datagrams().iter().flat_map(|d| (0..6).map(|state| framed(&[state, 0x40], d))).collect()
        }
        "proposal_text" => texts(),
        "connection" => operations(),
        "network" => crossings(),
        "v1_message" => {
            datagrams_v1().iter().map(|d| [&[0], d.as_slice()].concat()).chain(plain_v1()).collect()
        }
        "v1_first" => first_v1(),
        "v1_connection" => operations_v1(),
        "fragments" => chains().iter().map(|c| fragmented(c)).collect(),
        "esp_open" => packets(),
        "snapshot" => snapshots(),
        "tenant_spec" => messages(),
        _ => Vec::new(),
    }
}

/// A connection of each version that is up, one whose negotiation has begun, and both halves of a pair.
fn snapshots() -> Vec<Vec<u8>> {
    let ike = |world: &World| {
        let conn = world.ends[0].conn.as_ref().expect("a connection");
        let form = conn.snapshot(world.now).expect("a snapshot");
        [&[0], form.encode_to_vec().as_slice()].concat()
    };
    let mut begun = World::initiated();
    begun.deliver(0);
    begun.deliver(1);
    let mut rekeying = World::up();
    rekeying.command(0, Command::RekeyIke);
    let worlds = [World::initiated(), begun, World::up(), rekeying, World::up_v1(Phase1::Main)];
    let pair = crate::targets::esp_open::pair();
    let halves = [(1, pair.0.snapshot().encode_to_vec()), (2, pair.1.snapshot().encode_to_vec())];
    worlds.iter().map(ike).chain(halves.map(|(kind, octets)| [&[kind], octets.as_slice()].concat())).collect()
}

fn framed(head: &[u8], body: &[u8]) -> Vec<u8> {
    [head, &(body.len() as u16).to_be_bytes(), body].concat()
}

/// What passes between two sides in a life with everything in it.
fn life() -> (World, Vec<Vec<u8>>) {
    let mut world = World::initiated();
    let mut seen = Vec::new();
    let mut settle = |world: &mut World| {
        while let Some(side) = [0, 1].into_iter().find(|&s| !world.ends[s].flight.is_empty()) {
            seen.push(world.ends[side].flight[0].bytes.clone());
            world.deliver(side);
        }
    };
    settle(&mut world);
    for side in [0, 1] {
        let spi = world.ends[side].spis()[0];
        for command in [Command::RekeyChild(spi), Command::RekeyIke, Command::Probe] {
            world.command(side, command);
            settle(&mut world);
        }
    }
    world.command(1, Command::Close);
    settle(&mut world);
    (world, seen)
}

/// The same in IKEv1, in both modes.
fn datagrams_v1() -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    for mode in [Phase1::Main, Phase1::Aggressive] {
        let mut world = World::of_v1(mode).initiate();
        while let Some(side) = [0, 1].into_iter().find(|&side| !world.ends[side].flight.is_empty()) {
            seen.push(world.ends[side].flight[0].bytes.clone());
            world.deliver(side);
        }
    }
    seen
}

/// What is encrypted in IKEv1, with padding behind it.
fn plain_v1() -> Vec<Vec<u8>> {
    let proposals = ike::EspProposal::defaults();
    let net = |side| TrafficSelector::range([10, side, 1, 0].into(), [10, side, 1, 255].into());
    let subnets = [net(1), net(2)];
    let chains = [
        forge::quick(
            &proposals,
            0x909,
            (Some(31), Some(&[7; 32])),
            &[5; 32],
            Some([&subnets[0], &subnets[1]]),
        ),
        forge::delete(3, vec![vec![9; 4], vec![8; 4]]),
        forge::chained(forge::delete(1, vec![vec![7; 16]]), forge::notify(24_578, 1, &[7; 16], &[])),
        forge::notify(36_136, 1, &[7; 16], &[0, 0, 0, 1]),
    ];
    chains.into_iter().map(|(first, octets)| [&[1, first][..], &octets, &[0; 7]].concat()).collect()
}

/// What comes in each state, as it should come and as it should not.
fn first_v1() -> Vec<Vec<u8>> {
    let seen = datagrams_v1();
    let states = (0..14).flat_map(|state| [state, state | 0x80]);
    states.flat_map(|how| seen.iter().map(move |d| [&[how][..], &framed(&[0], d), &[1]].concat())).collect()
}

/// Operations as `targets/v1_connection.rs` reads them.
fn operations_v1() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for mode in [0, 1] {
        for kind in 0..13 {
            seeds.push(vec![mode, 6, kind, 0, 0x86, kind, 0, 0, 0x80, 0, 0x80, 8]);
            seeds.push(vec![mode, 6, kind, 0, 2, 5, 3, 8, 0x86, kind, 0, 0x82, 5, 4, 8]);
        }
        // Quick mode of the fuzzer's, and single payloads.
        for policy in 0..4 {
            let request = [12, policy, 0, 0, 0, 0, 5, 24, 1, 7, 0, 0, 1, policy];
            seeds.push([&[mode][..], &request, &[8, 5, 3], &request, &[8]].concat());
        }
        for kind in 0..8 {
            seeds.push(vec![mode, 14, kind, 1, 1, 1, 1, 0, 0, 0, 1, 0, 2, 8, 5, 3, 8]);
        }
    }
    seeds
}

fn datagrams() -> Vec<Vec<u8>> {
    life().1
}

fn chains() -> Vec<Vec<u8>> {
    let (world, seen) = life();
    let opened = seen.iter().filter_map(|bytes| world.tap.sas.iter().find_map(|sa| sa.open(bytes)));
    let chain = |payloads: Vec<payload::Payload>| {
        let mut w = Writer::new();
        let first = payload::write_chain(&mut w, &payloads);
        [&[first.0], w.as_slice()].concat()
    };
    opened.map(chain).collect()
}

fn fragmented(chain: &[u8]) -> Vec<u8> {
    let Some((first, body)) = chain.split_first() else { return Vec::new() };
    let half = body.len() / 2;
    let one = framed(&[1, 2, 1, 2, *first], &body[..half]);
    let two = framed(&[2, 2, 2, 0], &body[half..]);
    [one, two].concat()
}

fn texts() -> Vec<Vec<u8>> {
    let defaults = |d: Vec<String>| d.join("\n");
    let ike = defaults(ike::IkeProposal::defaults().iter().map(ToString::to_string).collect());
    let esp = defaults(ike::EspProposal::defaults().iter().map(ToString::to_string).collect());
    vec![
        format!("{ike}\n\naes128gcm16-prfsha256-x25519").into_bytes(),
        format!("{esp}\n\naes256-sha256-modp2048-noesn").into_bytes(),
        b"aes128gcm16-aes256gcm16-x25519\n\naes256gcm16-esn".to_vec(),
        b"aes128-sha256-ecp384\naes256-sha512-prfsha384-ecp256\n\nchacha20poly1305-prfsha512-modp4096"
            .to_vec(),
    ]
}

/// Operations as `targets/connection.rs` reads them.
fn operations() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in 0..13 {
        // A command on each side, crossing, with losses and time.
        seeds.push(vec![6, kind, 0, 0x86, kind, 0, 0, 0x80, 0, 0x80, 8]);
        seeds.push(vec![6, kind, 0, 2, 5, 3, 8, 0x86, kind, 0, 0x82, 5, 4, 8]);
    }
    for (exchange, payloads) in [
        (0, &[0, 0, 1, 9, 9, 4, 7, 40, 12, 0, 1, 0, 255, 0, 13, 0, 1, 0, 255, 0][..]),
        (0, &[9, 5, 0, 0, 0, 1, 9, 9, 4, 7, 40, 12, 0, 1, 0, 255, 0, 13, 0, 1, 0, 255, 0]),
        (0, &[2, 0, 0, 1, 4, 7, 40, 6, 0, 0]),
        (1, &[7, 1, 5]),
        (1, &[8, 0]),
        (1, &[11, 7, 0]),
    ] {
        for op in [14, 0x8e] {
            seeds.push([&[op, 0, exchange, 7][..], payloads, &[8, 5, 3, 8]].concat());
        }
    }
    // Whole requests, one after the other, and answers to a request that waits.
    for kind in 0..7 {
        for op in [12, 0x8c] {
            let exchange = u8::from(kind > 4);
            let one = [op, 0, exchange, kind, 0, 0, 0, 0, 0, 1, 2];
            seeds.push([&one[..], &one, &one, &[8, 5, 3, 8]].concat());
            let asked = [6, if kind > 2 { 4 } else { 2 }, 0];
            let answer = [op, 1, exchange, kind, 0, 0, 0, 0, 1, 1, 2];
            seeds.push([&asked[..], &answer, &[8, 5, 3, 8]].concat());
        }
    }
    seeds
}

/// Two commands that cross, with every datagram of the first few lost once, as `targets/network.rs` reads them.
fn crossings() -> Vec<Vec<u8>> {
    let commands = [2, 4, 6, 7, 9, 0xe1];
    let mut seeds = Vec::new();
    for left in commands {
        for right in commands {
            let mut seed = vec![11, left, 0, 0x8b, right, 0];
            for lost in 0..2 {
                seed.extend([0, 0x80, if lost == 0 { 4 } else { 0x84 }, 7, 3]);
            }
            seeds.push(seed);
        }
    }
    seeds
}

fn packets() -> Vec<Vec<u8>> {
    let mut v4 = vec![0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 2, 0, 1, 10, 1, 0, 2];
    v4.extend([0x1f, 0x90, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
    let mut v6 = vec![0x60, 0, 0, 0, 0, 16, 60, 64, 0x20, 1, 0xd, 0xb8, 0, 2];
    v6.resize(24, 0);
    v6.extend([0x20, 1, 0xd, 0xb8, 0, 1]);
    v6.resize(40, 0);
    v6.extend([17, 0, 1, 4, 0, 0, 0, 0, 0x1f, 0x90, 0, 53, 0, 8, 0, 0]);
    let mut seeds = Vec::new();
    for (next, inner) in [(4, &v4), (41, &v6)] {
        for how in [0, 4] {
            let text = [inner.as_slice(), &[1, 2, 2, next]].concat();
            seeds.push(framed(&[how, 0, 0, 0, 0, 1], &text));
        }
        for suite in 0..7 {
            seeds.push(framed(&[1, suite], inner));
            seeds.push(framed(&[5, suite, 1], inner));
        }
    }
    seeds.push(framed(&[2, 0], &[0; 64]));
    seeds
}

fn messages() -> Vec<Vec<u8>> {
    let tun = v1::uplink::Tun {
        device: "tun-acme".into(),
        netns: "acme".into(),
        addresses: vec!["10.0.0.1/24".into(), "fd00::1/64".into()],
        mtu: 1400,
        clear_device: "eth1".into(),
    };
    let tenant = v1::Tenant {
        display_name: "Acme".into(),
        uplink: Some(v1::Uplink { kind: Some(v1::uplink::Kind::Tun(tun)) }),
        quotas: Some(v1::Quotas {
            max_peers: 5,
            max_secrets: 6,
            packets_per_second: 7,
            bytes_per_second: 8_000,
        }),
        policy: Some(v1::Policy {
            rules: vec![v1::PolicyRule {
                name: "web".into(),
                action: v1::PolicyAction::Protect.into(),
                local_subnets: vec!["10.0.0.0/24".into()],
                remote_subnets: vec!["10.1.0.0/24".into()],
                protocol: "tcp".into(),
                local_ports: vec!["443".into(), "8000-8099".into()],
                peer: "tenants/acme/peers/b1".into(),
                child: "lan".into(),
                ..Default::default()
            }],
        }),
        ..Default::default()
    };
    let child = v1::Child {
        name: "net".into(),
        local_subnets: vec!["10.1.0.0/16".into(), "2001:db8:1::/48".into()],
        remote_subnets: vec!["10.2.0.0/16".into(), "2001:db8:2::/48".into()],
        resource_sas: 4,
        ..Default::default()
    };
    let peer = v1::Peer {
        display_name: "Branch".into(),
        local_identity: "hub.example".into(),
        remote_identity: "keyid:branch 12".into(),
        remote_addresses: vec!["203.0.113.5:1500".into(), "198.51.100.0/24".into()],
        auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk("tenants/acme/secrets/one".into())) }),
        start_action: v1::StartAction::Start.into(),
        children: vec![child],
        ..Default::default()
    };
    let written = tenants::PeerSpec::parse(&tenants::TenantName::from_id("acme").expect("a name"), &peer)
        .map(|spec| spec.to_proto())
        .expect("a peer that is accepted");
    vec![
        [&[0], tenant.encode_to_vec().as_slice()].concat(),
        [&[1], peer.encode_to_vec().as_slice()].concat(),
        [&[1], written.encode_to_vec().as_slice()].concat(),
    ]
}
