//! Metrics: read when somebody asks, and written to whichever exit asks. Nothing is counted for them that is not counted anyway.
//!
//! * `definition.rs` says what a metric is, `table.rs` which there are. Everything that names one, dashboards and documents
//!   included, takes it from there.
//! * `source.rs` reads the node; `node.rs`, `cluster.rs`, `ike.rs`, `packets.rs`, `tenants.rs` and `peers.rs` say what was read.
//! * `text.rs` is the exit to Prometheus.

mod cluster;
pub mod definition;
mod exit;
mod ike;
mod node;
mod packets;
mod peers;
mod source;
pub mod table;
mod tenants;
mod text;

pub use cluster::ClusterFigures;
pub use exit::{Exit, Number};
pub use source::{Bounds, Others, Reading, Source};
pub(in crate::telemetry) use text::CONTENT_TYPE;
pub use text::Text;
