//! The tenants' TUN devices: one thread makes them, leads networks to them, looks after them and takes them away.
//!
//! The control plane only says what it wants ([`Wish`]), and a shard only reads and writes the queues it is given. So the
//! kernel's work on one tenant's device delays no packet, no install and no caller of another's. One thread does it all, one
//! tenant after the other, because the kernel does no more than one such change at a time either (the lock of rtnetlink).

mod book;
mod device;
mod handle;
mod nudge;
mod own_table;
mod routes;
mod status;
mod thread;
mod wish;

pub(crate) use book::Book;
pub(crate) use device::DeviceConfig;
pub(crate) use nudge::{Key, Nudge, Nudges};
pub use status::{
    MAX_REFUSED_SHOWN, RefusedRoute, RouteRefusal, UplinkError, UplinkFault, UplinkState, UplinkStatus,
};
pub(crate) use thread::{DeviceParts, DeviceThread};
pub(crate) use wish::{Changes, Wish};

/// How often a shard that finds a device broken asks for a look at it. Each look is a few microseconds of the thread's.
pub(crate) const CHECKS_PER_SECOND: u32 = 16;
