//! What the daemon tells of itself to programs that watch it.
//!
//! * `probes.rs`: whether it has started, lives, and is ready for work.
//! * `metrics/`: numbers, read when somebody asks.
//! * `http.rs` serves both.
//! * `exports.rs`: what was exported, and what was not.

mod exports;
pub mod http;
mod memory;
pub mod metrics;
mod probes;

pub use exports::Exports;
pub use memory::resident_bytes;
pub use probes::Probes;
