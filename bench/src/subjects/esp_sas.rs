//! `esp`: sealing, opening, the replay window, and runs.

use std::hint::black_box;
use std::sync::Arc;

use esp::run::{Joiner, Run, RunKind, Segments};
use esp::{
    Encryption, InboundSa, Integrity, Limits, OutboundSa, ReplayWindow, Selector, SelectorPair, Spi, Suite,
};

use super::bare::each;
use super::packets::{inner_packet, keys, sum16};
use super::{Kind, Subject, Work};

const SPI: u32 = 0x0400_0001;
/// IP protocol number of TCP.
const TCP: u8 = 6;
/// Longer than any packet here.
const ROOM: usize = 2048;

fn aes128gcm() -> Suite {
    Suite::new(Encryption::AesGcm16_128, None, false).unwrap()
}

fn chacha20poly1305() -> Suite {
    Suite::new(Encryption::ChaCha20Poly1305, None, false).unwrap()
}

fn aes128_sha256() -> Suite {
    Suite::new(Encryption::AesCbc128, Some(Integrity::HmacSha256_128), false).unwrap()
}

/// The sending half.
fn outbound(suite: Suite) -> OutboundSa {
    OutboundSa::new(Spi(SPI), suite, &keys(&suite), &[9; 32], &Limits::default()).unwrap()
}

/// The receiving half, for everything.
fn inbound(suite: Suite) -> InboundSa {
    let any = Selector::subnet([0, 0, 0, 0].into(), 0);
    let selectors = Arc::new(SelectorPair { local: vec![any], remote: vec![any] });
    let window = ReplayWindow::DEFAULT_SIZE;
    InboundSa::new(Spi(SPI), suite, &keys(&suite), selectors, window, &Limits::default()).unwrap()
}

fn seal(suite: Suite, len: usize) -> Work {
    let mut sa = outbound(suite);
    let inner = inner_packet(1, 2, len);
    let mut out = vec![0; ROOM];
    Box::new(move || {
        black_box(sa.seal(&inner, &mut out).unwrap());
    })
}

fn open(suite: Suite, len: usize, rounds: usize) -> Work {
    let (mut peer, mut sa) = (outbound(suite), inbound(suite));
    let inner = inner_packet(1, 2, len);
    let sealed = (0..rounds).map(|_| {
        let mut out = vec![0; ROOM];
        let len = peer.seal(&inner, &mut out).unwrap().len;
        out.truncate(len);
        out
    });
    each(sealed.collect(), move |packet| {
        black_box(sa.open(packet).unwrap());
    })
}

/// As a shard uses it: look, and look again after decryption while moving on.
fn replay(numbers: Vec<u64>) -> Work {
    let mut window = ReplayWindow::new(ReplayWindow::DEFAULT_SIZE).unwrap();
    each(numbers, move |number| {
        window.check(*number).unwrap();
        window.accept(*number).unwrap();
    })
}

/// Every eight packets in reverse, as several receive queues bring them.
fn out_of_order(rounds: usize) -> Vec<u64> {
    (0..rounds as u64).map(|at| (at / 8 * 8) + 8 - at % 8).collect()
}

/// A run of TCP over IPv4, with the sum of its pseudo-header as hosts leave it.
fn run(segments: usize) -> (Vec<u8>, Run) {
    let mut packet = inner_packet(0x0a00_0001, 0x0a00_0002, 40 + segments * SEGMENT);
    packet[9] = TCP;
    packet[10..12].fill(0);
    let header = !sum16(&packet[..20]);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    packet[24..40].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 9, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend([0, TCP]);
    pseudo.extend((packet.len() as u16 - 20).to_be_bytes());
    let sum = sum16(&pseudo).to_be_bytes();
    packet[36..38].copy_from_slice(&sum);
    let run = Run::of(&packet, RunKind::Tcp4, 20, SEGMENT).unwrap();
    (packet, run)
}

/// Octets of payload in a segment: 1,360 in all.
const SEGMENT: usize = 1320;
/// Segments of a run, 54 KiB.
const SEGMENTS: usize = 42;

fn cut(_: usize) -> Work {
    let (packet, run) = run(SEGMENTS);
    let mut out = vec![0; ROOM];
    Box::new(move || {
        let mut segments = Segments::new(&packet, run).unwrap();
        while segments.write_next(&mut out).is_some() {}
    })
}

fn join(_: usize) -> Work {
    let (packet, run) = run(SEGMENTS);
    let mut segments = Segments::new(&packet, run).unwrap();
    let mut packets = Vec::new();
    while let Some(len) = segments.next_len() {
        let mut out = vec![0; len];
        segments.write_next(&mut out).unwrap();
        packets.push(out);
    }
    let mut joiner = Joiner::new();
    Box::new(move || {
        let (first, rest) = packets.split_first().unwrap();
        assert!(joiner.begin(first, true));
        assert!(rest.iter().all(|packet| joiner.append(packet)));
        assert_eq!(joiner.finish().unwrap().packets, SEGMENTS);
    })
}

pub(crate) fn subjects() -> Vec<Subject> {
    let aead =
        |name, bare, prepare| Subject { name, kind: Kind::Own, over: Some(bare), rounds: 200, prepare };
    let own = |name, prepare| Subject { name, kind: Kind::Own, over: None, rounds: 1000, prepare };
    let crypto = |name, prepare| Subject { name, kind: Kind::Crypto, over: None, rounds: 200, prepare };
    vec![
        aead("esp seal aes128gcm16 64", "bare aes128gcm16 seal 64", |_| seal(aes128gcm(), 64)),
        aead("esp seal aes128gcm16 1400", "bare aes128gcm16 seal 1400", |_| seal(aes128gcm(), 1400)),
        aead("esp open aes128gcm16 64", "bare aes128gcm16 open 64", |n| open(aes128gcm(), 64, n)),
        aead("esp open aes128gcm16 1400", "bare aes128gcm16 open 1400", |n| open(aes128gcm(), 1400, n)),
        aead("esp seal chacha20poly1305 64", "bare chacha20poly1305 seal 64", |_| {
            seal(chacha20poly1305(), 64)
        }),
        aead("esp seal chacha20poly1305 1400", "bare chacha20poly1305 seal 1400", |_| {
            seal(chacha20poly1305(), 1400)
        }),
        aead("esp open chacha20poly1305 64", "bare chacha20poly1305 open 64", |n| {
            open(chacha20poly1305(), 64, n)
        }),
        aead("esp open chacha20poly1305 1400", "bare chacha20poly1305 open 1400", |n| {
            open(chacha20poly1305(), 1400, n)
        }),
        crypto("esp seal aes128-sha256 64", |_| seal(aes128_sha256(), 64)),
        crypto("esp seal aes128-sha256 1400", |_| seal(aes128_sha256(), 1400)),
        crypto("esp open aes128-sha256 64", |n| open(aes128_sha256(), 64, n)),
        crypto("esp open aes128-sha256 1400", |n| open(aes128_sha256(), 1400, n)),
        own("replay in order", |n| replay((1..=n as u64).collect())),
        own("replay out of order", |n| replay(out_of_order(n))),
        Subject { name: "run cut into 42", kind: Kind::Own, over: None, rounds: 50, prepare: cut },
        Subject { name: "run joined of 42", kind: Kind::Own, over: None, rounds: 50, prepare: join },
    ]
}
