//! What the daemon tells of itself to programs that watch it.
//!
//! * `probes.rs`: whether it has started, lives, and is ready for work; `http.rs` serves that.

pub mod http;
mod probes;

pub use probes::Probes;
