//! What it costs, for people. Nothing here depends on it, and it is no part of the tests.
//!
//! ```sh
//! RUSTFLAGS='--cfg culvert_cost' cargo test --release -p cluster --all-features mesh::tests::cost -- --nocapture --test-threads 1
//! ```

#![allow(clippy::print_stdout)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::mesh::Lane;

/// Processor time of this process so far, in the kernel's ticks of 10 ms.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<i64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // After the name: state, which is no number, then parent and so on; utime is the 14th of all fields, stime the 15th.
    Duration::from_millis(10 * (fields[10] + fields[11]).cast_unsigned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_600_octets() {
    const QUESTIONS: usize = 200_000;
    let [a, _b] = cluster(["a", "b"]).await;
    let body = Bytes::from(vec![1; 600]);
    for deep in [1, 8, 64, 512] {
        let questions = if deep == 1 { QUESTIONS / 10 } else { QUESTIONS };
        let (began, before) = (Instant::now(), processor());
        let ask = || a.mesh.ask("b", Lane::Checkpoint, 1, body.clone(), PATIENCE);
        let mut open: VecDeque<_> = (0..deep).map(|_| ask()).collect();
        for _ in deep..questions {
            open.pop_front().unwrap().await.unwrap();
            open.push_back(ask());
        }
        for asked in open {
            asked.await.unwrap();
        }
        let (took, spent) = (began.elapsed(), processor() - before);
        let each = |time: Duration| time.as_secs_f64() * 1e6 / questions as f64;
        println!(
            "{deep:3} deep: {:.2} µs of processor for both sides, {:.2} µs of time",
            each(spent),
            each(took)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_of_1400_octets() {
    const PACKETS: usize = 500_000;
    let [a, b] = cluster(["a", "b"]).await;
    let (began, before) = (Instant::now(), processor());
    let mut dropped = 0;
    for _ in 0..PACKETS {
        while a.mesh.packet("b", 1, &[0; 1_400]).is_err() {
            dropped += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let (took, spent) = (began.elapsed(), processor() - before);
    let (sent, came) = (a.mesh.counters().packets_sent, b.mesh.counters());
    let (received, unread) = (came.packets_received, came.datagrams_unread);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / sent as f64;
    println!("of {PACKETS} {sent} sent, {received} received, {unread} unread; full {dropped} times");
    println!("{:.2} µs of processor for both sides each, {:.2} µs of time", each(spent), each(took));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_heartbeats() {
    let [_a, _b, _c] = cluster(["a", "b", "c"]).await;
    let before = processor();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (processor() - before).as_secs_f64() * 10.0 / 3.0;
    println!("a node with two others: {share:.2} % of a processor");
}
