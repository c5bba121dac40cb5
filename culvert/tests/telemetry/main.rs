//! What the daemon tells of itself to programs that watch it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
// What was skipped, and figures, are for whoever looks.
#![allow(clippy::print_stdout)]

#[path = "../../../tls/tests/certificates.rs"]
mod certificates;
mod collector;
mod exports;
mod http;
mod logs;
mod monitoring;
mod node;
mod pair;
mod probes;
mod prometheus;
mod scrape;
mod secure;
mod traces;
