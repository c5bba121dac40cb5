//! The packet path: one thread that alone owns its SAs, its sockets and its queues.
//!
//! Nothing here allocates, locks or makes a system call per packet, and nothing waits for another thread.

mod ahead;
mod batch;
mod core;
mod deliver;
mod drops;
mod elsewhere;
mod elsewhere_inner;
mod hold;
mod icmp;
mod inbound;
mod last_flow;
#[cfg(feature = "bench")]
pub(crate) mod memory;
mod moves;
mod outbound;
mod oversize;
mod route;
mod run;
mod sa;
mod table;
mod thread;
mod waiting;

pub(crate) use core::{Core, CoreParts};
pub(crate) use sa::{Mark, Sa};
pub(crate) use thread::{Shard, WAKER};
