//! What the two binaries are made of: `culvertd`, the daemon, and `culvert`, the command line.
//!
//! * [`config`] and [`logging`]: how the daemon is told what to do, and how it tells what it does; [`phase`]: how far along
//!   it is; `room`: how many connections a listener has at once, and who gives way.
//! * [`telemetry`]: what the daemon tells of itself to programs that watch it.
//! * [`monitoring`]: dashboards, alerts and documents about that, of which `make dashboards` makes files.
//! * [`daemon`]: what the daemon does besides serving.
//! * [`access`]: who may call the API, and what the audit log says of it.
//! * [`server`] and [`services`]: the gRPC API over the catalog (`tenants`) and the tunnels ([`runtime`]).
//! * [`cli`]: the command line, a client of that API; `quickstart` is one of its commands, and both stand on `console`.
//!
//! It is not where tunnels are negotiated or packets moved: that is `actors`, `ike`, `router` and `esp`.
//! Start reading with `bin/culvertd.rs`.

pub mod access;
pub mod cli;
pub mod config;
mod console;
pub mod daemon;
mod exchange;
pub mod logging;
mod manifest;
pub mod monitoring;
pub mod phase;
mod quickstart;
mod room;
pub mod runtime;
pub mod server;
pub mod services;
pub mod status;
pub mod telemetry;
pub mod tunnels;
pub mod wide;
