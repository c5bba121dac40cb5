//! What it costs to tell negotiations, side by side with not telling them.

use std::sync::Arc;

use actors::SpanSink;
use culvert::telemetry::Exports;

use crate::collector::Collector;
use crate::pair::{Faults, Pair, right};
use crate::traces::exporter;

/// Nanoseconds that the threads of this process have run for. Whoever else uses the machine does not count.
fn processor_time() -> u64 {
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    std::fs::read_dir("/proc/self/task").unwrap().filter_map(of).sum()
}

/// Brings a tunnel up and takes it down again, so many times.
async fn cycles(pair: &Pair, count: u32) {
    for _ in 0..count {
        pair.control().initiate(&right(), None).await.unwrap();
        pair.control().terminate(&right(), "a test").await.unwrap();
    }
}

/// Both ends of each tunnel are in this process, so what is measured is what two nodes spend, a bit of a client's work included.
/// The least of several turns is taken of each, for what disturbs them only adds.
#[test]
fn telling_negotiations_costs_little() {
    let rounds = std::env::var("CULVERT_COST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let count = 150;
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let collector = Collector::start().await;
        let exports = Exports::default();
        let mut pairs = Vec::new();
        for ratio in [None, Some(0.1), Some(1.0)] {
            let exporters: [_; 2] =
                std::array::from_fn(|_| ratio.map(|ratio| exporter(&collector, ratio, &exports)));
            let sinks = exporters.each_ref().map(|exporter| {
                exporter
                    .as_ref()
                    .and_then(|exporter| exporter.spans())
                    .map(|spans| spans as Arc<dyn SpanSink>)
            });
            let pair = Pair::start(sinks, Faults::default()).await;
            let [ours, theirs] = exporters;
            let started = [
                ours.map(|e| e.start(pair.left.source.clone())),
                theirs.map(|e| e.start(pair.right.source.clone())),
            ];
            pairs.push((pair, started, u64::MAX));
        }
        for _ in 0..rounds {
            for (pair, _, least) in &mut pairs {
                let before = processor_time();
                cycles(pair, count).await;
                *least = (*least).min(processor_time() - before);
            }
        }
        let least: Vec<f64> = pairs.iter().map(|(_, _, least)| *least as f64).collect();
        let share = |at: usize| (least[at] / least[0] - 1.0) * 100.0;
        println!(
            "a tunnel up and down, both ends: {:.0} us; exported with a ratio of 0.1 {:+.1} %, of 1 {:+.1} %",
            least[0] / f64::from(count) / 1000.0,
            share(1),
            share(2)
        );
        // Where dependencies are optimised and this is not, and the collector is in the process as well.
        assert!(least[1] < least[0] * 1.3, "{least:?}");
        for (pair, started, _) in pairs {
            for exporting in started.into_iter().flatten() {
                exporting.stop().await;
            }
            pair.stop().await;
        }
    });
}
