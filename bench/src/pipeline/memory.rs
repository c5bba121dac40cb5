//! Installing and removing pairs of SAs: what one costs whatever the number, what it holds, and whether that comes back.

use std::time::{Duration, Instant};

use anyhow::Context;
use comfy_table::{Table, presets};
use serde_json::json;

use super::world::{MAX_PAIRS, World};
use super::{SasOptions, bar};
use crate::counts::Output;

/// Pairs installed and removed to see what one costs.
const SAMPLE: u32 = 10_000;
/// Pairs at most: a sample has room beside them.
const MOST: u32 = MAX_PAIRS - SAMPLE;
/// The allocator gives memory back after ten seconds, in steps.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn run(options: &SasOptions) -> anyhow::Result<bool> {
    anyhow::ensure!(
        fits(options.sas),
        "--sas {}: expected {} to {MOST}, as {SAMPLE} more are installed to see what one costs",
        options.sas,
        SAMPLE + 1
    );
    let mut world = World::new()?;
    world.install(1_000, &bar(1_000, "pairs installed"))?;
    // Ahead of the sample, which leaves memory behind that the pairs after it would seem not to need.
    let before = resident()?;
    let few = sample(&mut world)?;
    let more = options.sas - world.pairs();
    world.install(more, &bar(more.into(), "pairs installed"))?;
    let held = resident()?;
    let many = sample(&mut world)?;
    world.remove(more, &bar(more.into(), "pairs removed"));
    let after = settled()?;
    let each = held.saturating_sub(before) / u64::from(more);
    let rows = [
        ("pairs", "1,000".to_owned(), options.sas.to_string()),
        ("install one, ns", few.0.to_string(), many.0.to_string()),
        ("remove one, ns", few.1.to_string(), many.1.to_string()),
        ("resident, MiB", mib(before), mib(held)),
        ("resident after removal, MiB", mib(before), mib(after)),
        ("octets of a pair", String::new(), each.to_string()),
    ];
    show(rows);
    if options.output == Output::Json {
        let json = json!({ "pairs": options.sas, "install_ns": [few.0, many.0], "remove_ns": [few.1, many.1],
                           "octets_per_pair": each, "resident": [before, held, after] });
        line(&json.to_string());
    }
    Ok(true)
}

fn fits(sas: u32) -> bool {
    (SAMPLE + 1..=MOST).contains(&sas)
}

/// Nanoseconds to install a pair, and to remove it.
fn sample(world: &mut World) -> anyhow::Result<(u64, u64)> {
    let hidden = indicatif::ProgressBar::hidden();
    let mut medians = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let begin = Instant::now();
        world.install(SAMPLE, &hidden)?;
        medians.0.push(begin.elapsed().as_nanos() as u64 / u64::from(SAMPLE));
        let begin = Instant::now();
        world.remove(SAMPLE, &hidden);
        medians.1.push(begin.elapsed().as_nanos() as u64 / u64::from(SAMPLE));
    }
    let median = |mut values: Vec<u64>| {
        values.sort_unstable();
        values[values.len() / 2]
    };
    Ok((median(medians.0), median(medians.1)))
}

/// What is resident once it falls no more.
fn settled() -> anyhow::Result<u64> {
    let (begin, mut least) = (Instant::now(), resident()?);
    let waiting = bar(PATIENCE.as_secs(), "seconds for memory to come back");
    while begin.elapsed() < PATIENCE {
        // The allocator gives back by the clock, and nothing tells when it has.
        std::thread::sleep(Duration::from_secs(1));
        waiting.inc(1);
        least = least.min(resident()?);
    }
    waiting.finish_and_clear();
    Ok(least)
}

/// Octets of memory that are resident.
fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("needs /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

fn mib(octets: u64) -> String {
    (octets >> 20).to_string()
}

fn show(rows: [(&str, String, String); 6]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (what, few, many) in rows {
        table.add_row([what.to_owned(), few, many]);
    }
    line(&table.to_string());
}

#[allow(clippy::print_stdout, reason = "a command line tool")]
fn line(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_a_sample_of_more_are_no_more_than_a_shard_has() {
        assert!(fits(SAMPLE + 1) && fits(MAX_PAIRS - SAMPLE));
        for bad in [0, SAMPLE, MAX_PAIRS - SAMPLE + 1, MAX_PAIRS, u32::MAX - SAMPLE + 1, u32::MAX] {
            assert!(!fits(bad), "{bad}");
        }
    }
}
