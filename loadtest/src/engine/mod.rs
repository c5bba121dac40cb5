//! What all loads share: counters that are read while they run, the limit of open files, thresholds, and the report.
//!
//! `meter.rs` is what is counted, `live.rs` what is shown of it meanwhile, `summary.rs` what is told at the end, as a table or
//! JSON (`output.rs`) or a page with plots (`html.rs`, `plot.rs`).

pub(crate) mod causes;
pub(crate) mod due;
pub(crate) mod files;
mod html;
pub(crate) mod live;
pub(crate) mod meter;
pub(crate) mod output;
mod plot;
pub(crate) mod process;
pub(crate) mod slope;
pub(crate) mod stop;
pub(crate) mod summary;
pub(crate) mod threshold;
pub(crate) mod times;
#[cfg(test)]
pub(crate) mod words;
