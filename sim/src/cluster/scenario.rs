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
    /// A standby is not told of one of the tunnels of a slot.
    Missing,
    /// A node takes seconds to go on with what it takes over.
    Slow,
    /// A standby is never told of all that there is.
    Endless,
    /// Nobody hears what has become of what he wants to say.
    Silent,
}

impl Fault {
    /// All that there are.
    pub const ALL: [Self; 7] =
        [Self::Block, Self::Compare, Self::Output, Self::Missing, Self::Slow, Self::Endless, Self::Silent];

    /// Whether it breaks what has to come about, which is looked at where one thing goes wrong at a time.
    pub const fn is_of_peace(self) -> bool {
        matches!(self, Self::Missing | Self::Slow | Self::Endless | Self::Silent)
    }
}

impl Scenario {
    /// The history of a seed: every third has disturbances one at a time, and those of faults that show in peace alone.
    pub fn of(seed: u64, fault: Fault) -> Self {
        let one_at_a_time = seed.is_multiple_of(3) || fault.is_of_peace();
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
