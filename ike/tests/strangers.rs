//! What is done for an initiator before it is known who it is, and what is made good afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unused_crate_dependencies
)]

mod kit;

use std::net::SocketAddr;
use std::time::Duration;

use ike::config::Opening;
use ike::proposal::Likely;
use ike::reception::{FirstMessage, MAX_FIRST_MESSAGE, Settled, classify};
use ike::wire::WireError;
use ike::wire::numbers::{NotifyType, PayloadType};
use ike::wire::payload::Payload;
use ike::wire::{Message, Payloads};
use ike::{Candidates, Connection, Datagram, IkeProposal, InitReply};
use kit::{A, B, Pair, Spec};

const STRICT: &str = "aes256gcm16-prfsha384-ecp384";
const LAX: &str = "aes128gcm16-prfsha256-x25519";

fn proposals(texts: &[&str]) -> Vec<IkeProposal> {
    texts.iter().map(|t| t.parse().unwrap()).collect()
}

/// A offers both, B allows one, and whoever else may come to B allows the other.
fn misjudged() -> Pair {
    let left = Spec { ike: vec![LAX, STRICT], ..Spec::left() };
    let mut pair = Pair::new(&left, &Spec { ike: vec![STRICT], ..Spec::right() });
    let mut candidates = Candidates::default();
    candidates.add(Likely::Possible, &proposals(&[LAX]));
    candidates.add(Likely::Possible, &proposals(&[STRICT]));
    pair.b.candidates = candidates;
    pair.initiate();
    pair
}

fn choice(pair: &Pair) -> String {
    pair.b.conn.as_ref().unwrap().choice().unwrap().to_string()
}

#[test]
fn a_choice_that_another_peer_allows_is_mended_at_once() {
    let mut pair = misjudged();
    pair.deliver(A);
    pair.deliver(B);
    assert_eq!(choice(&pair), LAX);
    pair.deliver(A);
    assert!(pair.b.conn.as_ref().unwrap().is_misjudged());
    pair.settle();
    assert_eq!(choice(&pair), STRICT);
    assert!(!pair.b.conn.as_ref().unwrap().is_misjudged());
    // Neither does the first Child SA go on with keys that come from what was not allowed.
    let order: Vec<&str> = pair.b.log.iter().map(String::as_str).filter(|l| l.contains("rekeyed")).collect();
    assert_eq!(&order[..2], ["ike rekeyed by us", "rekeyed"], "{:?}", pair.b.log);
    pair.run(6);
    pair.assert_children(1);
    pair.assert_alive();
}

#[test]
fn a_choice_that_cannot_be_mended_does_not_stay() {
    let mut pair = misjudged();
    pair.deliver(A);
    pair.deliver(B);
    pair.deliver(A);
    // What B asks for never arrives, but A is alive all the same.
    pair.b.outbox.truncate(1);
    pair.settle();
    for _ in 0..70 {
        pair.pass(Duration::from_secs(1));
        pair.b.outbox.clear();
    }
    assert!(pair.b.installed.is_empty(), "{:?}", pair.b.log);
    let down = pair.b.log.iter().find(|l| l.starts_with("down")).unwrap();
    assert!(down.contains("no answer") || down.contains(STRICT), "{down}");
}

#[test]
fn a_peer_that_offers_nothing_it_may_use_is_refused() {
    let left = Spec { ike: vec![LAX], ..Spec::left() };
    let mut pair = Pair::new(&left, &Spec { ike: vec![STRICT], ..Spec::right() });
    pair.b.candidates = Candidates::only(&proposals(&[LAX]));
    pair.initiate();
    pair.settle();
    assert!(pair.b.installed.is_empty());
    let down = pair.b.log.iter().find(|l| l.starts_with("down")).unwrap();
    assert!(down.contains(&format!("offers [{LAX}], configured for it is [{STRICT}]")), "{down}");
}

/// A has no IDr to say; B knows A's identity in several tenants.
fn in_several_tenants(own: &'static [u8], others: &[(&'static [u8], &'static str)]) -> Pair {
    let mut pair = Pair::new(&Spec::left(), &Spec { psk: own, ..Spec::right() });
    pair.b.host.others =
        others.iter().map(|(psk, local_id)| Spec { psk, local_id, ..Spec::right() }.config()).collect();
    pair.initiate();
    pair.settle();
    pair
}

#[test]
fn the_key_tells_which_of_several_peers_with_one_identity_it_is() {
    let pair = in_several_tenants(b"secret", &[(b"other", "gw.globex"), (b"third", "gw.third")]);
    pair.assert_children(1);
    // The one of B's that is first does not count, the key does. A says which identity it expects, and finds another.
    let pair = in_several_tenants(b"other", &[(b"secret", "right.example")]);
    pair.assert_children(1);
}

#[test]
fn several_peers_with_one_identity_and_one_key_are_ambiguous() {
    let pair = in_several_tenants(b"secret", &[(b"secret", "gw.globex")]);
    let down = pair.b.log.iter().find(|l| l.starts_with("down")).unwrap();
    assert!(down.contains("2 peers are configured for remote identity"), "{down}");
    let pair = in_several_tenants(b"one", &[(b"two", "gw.globex")]);
    assert!(pair.b.log.iter().any(|l| l.contains("the pre-shared keys differ")), "{:?}", pair.b.log);
}

fn respond(pair: &mut Pair, bytes: &[u8]) -> InitReply {
    let datagram = Datagram { local: pair.b.addr, remote: pair.a.addr, natt: false, bytes };
    let candidates = pair.b.candidates.clone();
    Connection::respond(pair.now, &mut pair.b.host, Opening::Init, datagram, (4500, 4500), &candidates, false)
}

/// The first message with as many vendor IDs as it takes to have this many octets.
fn padded(pair: &mut Pair, octets: usize) -> Vec<u8> {
    pair.initiate();
    let first = Message::parse(&pair.take(A).bytes).unwrap();
    let mut payloads = first.chain.payloads;
    let rest = octets - Message::encode(first.header, &payloads).len() - 4;
    payloads.push(Payload::Opaque(PayloadType::VENDOR_ID, vec![7; rest]));
    Message::encode(first.header, &payloads)
}

#[test]
fn a_first_message_has_a_bound() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    let largest = padded(&mut pair, MAX_FIRST_MESSAGE);
    assert!(matches!(respond(&mut pair, &largest), InitReply::Accepted(_)));
    let drawn = pair.b.host.draws.len();
    let larger = padded(&mut pair, MAX_FIRST_MESSAGE + 1);
    assert!(matches!(respond(&mut pair, &larger), InitReply::Dropped(_)));
    assert_eq!(pair.b.host.draws.len(), drawn);
    assert!(matches!(classify(&larger), Err(WireError::TooLong(_))));
    assert!(FirstMessage::of(Opening::Init, &larger).is_err());
}

#[test]
fn an_offer_of_the_largest_size_is_described_in_a_bounded_text() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    let first = Message::parse(&pair.take(A).bytes).unwrap();
    let mut payloads = first.chain.payloads;
    let Payload::Sa(offer) = &mut payloads[0] else { panic!("SA comes first") };
    let mut proposal = offer[0].clone();
    let filler = proposal.transforms[0];
    proposal.transforms = (0..120).map(|n| ike::wire::sa::Transform { id: 1000 + n, ..filler }).collect();
    *offer = vec![proposal; 5];
    let bytes = Message::encode(first.header, &payloads);
    assert!(bytes.len() > 7_000 && bytes.len() <= MAX_FIRST_MESSAGE, "{}", bytes.len());
    let reply = respond(&mut pair, &bytes);
    let InitReply::Refused(_, failure) = &reply else { panic!("{reply:?}") };
    assert!(failure.to_string().len() < 4_000, "{}", failure.to_string().len());
    assert!(reply.cost(bytes.len()) > reply.cost(100));
    assert!(pair.b.host.draws.is_empty());
}

#[test]
fn a_first_message_is_known_again() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    let first = pair.take(A);
    let id = FirstMessage::of(Opening::Init, &first.bytes).unwrap();
    assert_eq!(id.spi_i(), pair.a.conn.as_ref().unwrap().spis().0);
    let mut settled = Settled::default();
    assert!(!settled.contains(&id));
    settled.add(id);
    assert!(settled.contains(&FirstMessage::of(Opening::Init, &first.bytes).unwrap()));
    let mut other = Pair::new(&Spec::left(), &Spec::right());
    other.a.host.random_from(77);
    other.initiate();
    assert!(
        !settled.contains(&FirstMessage::of(Opening::Init, &other.take(A).bytes).unwrap()),
        "the nonce counts"
    );
}

#[test]
fn what_a_half_open_connection_holds_is_counted() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    let small = padded(&mut pair, 1_000);
    let InitReply::Accepted(small) = respond(&mut pair, &small) else { panic!("accepted") };
    let large = padded(&mut pair, 8_000);
    let InitReply::Accepted(large) = respond(&mut pair, &large) else { panic!("accepted") };
    assert_eq!(large.half_open_octets() - small.half_open_octets(), 7_000);
}

#[test]
fn one_that_wants_udp_and_was_told_the_truth_is_asked_to_come_again() {
    let right = Spec { force_encapsulation: true, ..Spec::right() };
    let mut pair = Pair::new(&Spec::left(), &right);
    pair.b.forces = Some(false);
    pair.initiate();
    pair.settle();
    assert!(pair.b.conn.as_ref().unwrap().is_misjudged());
    assert!(!pair.b.conn.as_ref().unwrap().encapsulates(), "ESP goes as the peer has set it up");
    pair.assert_children(1);
    let mut pair = Pair::up(&Spec::left(), &right);
    assert!(!pair.b.conn.as_ref().unwrap().is_misjudged());
    assert!(pair.b.conn.as_ref().unwrap().encapsulates());
    pair.assert_alive();
}

#[test]
fn behind_a_nat_ourselves_we_follow_nobody() {
    let outside: SocketAddr = "203.0.113.9:1024".parse().unwrap();
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    // Both addresses are translated on the way.
    let ours = pair.b.addr;
    loop {
        if let Some(mut message) = pair.a.outbox.pop_front() {
            (message.local, message.remote) =
                (outside, SocketAddr::new([10, 0, 0, 2].into(), message.remote.port()));
            pair.put(A, &message);
        } else if let Some(mut message) = pair.b.outbox.pop_front() {
            (message.local, message.remote) = (SocketAddr::new(ours.ip(), message.local.port()), pair.a.addr);
            pair.put(B, &message);
        } else {
            break;
        }
    }
    let conn = pair.b.conn.as_ref().unwrap();
    assert!(conn.nat().local && conn.nat().remote && conn.is_up());
    let before = conn.addresses().1;
    assert_eq!(before, outside);
    let elsewhere = "198.51.100.7:2048".parse().unwrap();
    pair.command(B, ike::Command::RemoteMoved(elsewhere));
    pair.command(A, ike::Command::Probe);
    let mut probe = pair.take(A);
    (probe.local, probe.remote) = (elsewhere, SocketAddr::new([10, 0, 0, 2].into(), 4500));
    pair.put(A, &probe);
    assert_eq!(pair.b.conn.as_ref().unwrap().addresses().1, before);
    // It is asked at both places, and answered where it asked.
    let to: Vec<SocketAddr> = pair.b.outbox.iter().map(|message| message.remote).collect();
    assert_eq!(to, [before, elsewhere, elsewhere]);
}

#[test]
fn what_has_no_port_is_no_move() {
    let mut pair = Pair::new(&Spec { force_encapsulation: true, ..Spec::left() }, &Spec::right());
    pair.initiate();
    pair.settle();
    let before = pair.b.conn.as_ref().unwrap().addresses().1;
    assert!(pair.b.conn.as_ref().unwrap().nat().remote);
    pair.command(B, ike::Command::RemoteMoved("198.51.100.7:0".parse().unwrap()));
    assert_eq!(pair.b.conn.as_ref().unwrap().addresses().1, before);
    pair.command(B, ike::Command::RemoteMoved("198.51.100.7:9".parse().unwrap()));
    assert_eq!(pair.b.conn.as_ref().unwrap().addresses().1.port(), 9);
}

#[test]
fn the_answer_says_that_it_has_to_come_again() {
    // The notify by its octets, as no side of ours acts on it.
    let right = Spec { force_encapsulation: true, ..Spec::right() };
    let mut sizes = Vec::new();
    for forces in [None, Some(false)] {
        let mut pair = Pair::new(&Spec::left(), &right);
        pair.b.forces = forces;
        pair.initiate();
        pair.deliver(A);
        pair.deliver(B);
        pair.deliver(A);
        sizes.push(pair.take(B).bytes.len());
    }
    assert_eq!(sizes[1], sizes[0] + 12);
    assert_eq!(NotifyType::AUTH_LIFETIME.0, 16403);
}

#[test]
fn a_first_message_that_is_cut_is_none() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    let first = pair.take(A);
    let message = Message::parse(&first.bytes).unwrap();
    assert!(Payloads(&message.chain.payloads).nonce().is_some());
    for len in 0..first.bytes.len() {
        let mut cut = first.bytes[..len].to_vec();
        if let Some(field) = cut.get_mut(24..28) {
            field.copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        }
        // Whatever is left, it is judged without a panic, and it is the nonce that counts.
        assert!(FirstMessage::of(Opening::Init, &cut).is_err(), "{len}");
    }
}

#[test]
fn a_peer_that_may_have_been_named_by_somebody_else_is_sent_one_message() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    pair.command(A, ike::Command::Once);
    let first = pair.take(A);
    pair.pass(Duration::from_secs(120));
    assert!(pair.a.outbox.is_empty());
    assert!(pair.a.log.iter().any(|l| l.contains("no answer to IKE_SA_INIT")), "{:?}", pair.a.log);
    // One that answers is sent the rest as often as any other.
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    pair.command(A, ike::Command::Once);
    pair.deliver(A);
    pair.deliver(B);
    pair.pass(Duration::from_secs(60));
    assert!(pair.a.outbox.len() > 4);
    assert!(first.bytes.len() < 1_000);
}
