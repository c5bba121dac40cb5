//! A shard's whole way of a packet, in time and against the bare AEAD in the same run: SPI route, replay window, AEAD,
//! selectors, look-up of where it goes, and out by another tunnel or not.

mod measure;
mod memory;
mod report;
mod world;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use measure::Way;
use world::World;

pub(crate) use memory::run as sas;

use crate::counts::Output;

/// How to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// So many pairs of SAs, of which packets use any at random.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000, 100_000, 1_000_000])]
    sas: Vec<u32>,
    /// Octets of the inner packets.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1400])]
    sizes: Vec<usize>,
    /// Rounds of each kind, which alternate; a round is 1,024 packets.
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// A table, or a line of JSON at the end.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How many pairs to install and remove.
#[derive(Args)]
pub(crate) struct SasOptions {
    /// Pairs at most.
    #[arg(long, default_value_t = 1_000_000)]
    sas: u32,
    /// A table, or a line of JSON at the end.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    anyhow::ensure!(
        options.sas.iter().all(|sas| (1..=world::MAX_PAIRS).contains(sas)),
        "--sas takes 1 to {}: a shard has no more SPIs",
        world::MAX_PAIRS
    );
    anyhow::ensure!(
        options.sizes.iter().all(|size| (28..=1420).contains(size)),
        "--sizes takes 28 to 1420: headers have to fit, and the packet into the path"
    );
    let mut figures = Vec::new();
    for &pairs in &options.sas {
        let mut world = World::new()?;
        world.install(pairs, &bar(pairs.into(), "pairs installed"))?;
        let ways = [Way::In, Way::Through];
        let progress = bar((options.sizes.len() * ways.len()) as u64, "measured");
        for &size in &options.sizes {
            for way in ways {
                figures.push(measure::measure(&mut world, way, size, options.rounds)?);
                progress.inc(1);
            }
        }
        progress.finish_and_clear();
    }
    report::show(&figures, options.output);
    Ok(true)
}

fn bar(len: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(len);
    // A template that does not parse would be a fault of this line.
    bar.set_style(ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} {msg}").unwrap());
    bar.set_message(what);
    bar
}
