//! What the daemon tells of itself to programs that watch it.
//!
//! * `probes.rs`: whether it has started, lives, is ready for work, and serves packets.
//! * `metrics/`: numbers, read when somebody asks.
//! * `http.rs` serves both to who asks, and takes it in time (`prompt.rs`); `otlp/` sends numbers and spans to a collector.
//! * `rpc.rs`: spans of requests, and the context that comes with them.
//! * `service.rs`: all of it together.
//! * `exports.rs`: what was exported, and what was not.

mod exports;
pub mod http;
mod memory;
pub mod metrics;
pub mod otlp;
mod probes;
mod prompt;
pub mod rpc;
mod service;

pub use exports::Exports;
pub use memory::resident_bytes;
pub use probes::{InTheWay, Probes};
pub use service::{Telemetry, TelemetryError};
