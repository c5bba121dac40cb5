//! What a history of a cluster is made of.

use std::time::Duration;

use clap::ValueEnum;

/// How a cluster is built and what befalls it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Nodes.
    pub nodes: usize,
    /// Tunnels at a time, at most.
    pub tunnels: usize,
    /// How long the history is.
    pub length: Duration,
    /// Between two disturbances, on average.
    pub disturbances: Duration,
    /// One disturbance at a time, with peace until everything is as it should be: then no tunnel may be lost. Else they overlap.
    pub one_at_a_time: bool,
    /// What is wrong on purpose.
    pub fault: Fault,
}

/// Something that is wrong on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Nothing is.
    #[default]
    None,
    /// Nodes send ESP beyond the block of numbers that their standby knows of.
    Block,
    /// etcd changes what it is told to whatever that is compared with.
    Compare,
    /// Messages leave before the standby has what they are about.
    Output,
}

impl Fault {
    /// All that there are.
    pub const ALL: [Self; 3] = [Self::Block, Self::Compare, Self::Output];
}

impl Scenario {
    /// The history of a seed: every third has disturbances one at a time.
    pub fn of(seed: u64, fault: Fault) -> Self {
        let one_at_a_time = seed.is_multiple_of(3);
        Self {
            nodes: if seed.is_multiple_of(4) { 5 } else { 3 },
            tunnels: 12,
            length: Duration::from_secs(2 * 3_600),
            disturbances: Duration::from_secs(if one_at_a_time { 30 } else { 45 }),
            one_at_a_time,
            fault,
        }
    }
}
