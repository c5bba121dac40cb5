//! What becomes of clusters that are larger than any that was at hand: months of a cell of nodes, by the rules of `slots` and `members` and
//! with what was measured on three nodes.
//!
//! `costs.rs` is what was measured, `cell.rs` the history of a cell, `storm.rs` all peers that come at once, `cells.rs` several cells,
//! `page.rs` what is said of it. `make scale` puts that into `docs/src/scale.md`, and a test holds the page against it.
//!
//! It is no model of what may go wrong between two steps: that is `slots/model.rs`, and `sim` with real nodes.

mod cell;
mod cells;
mod costs;
mod page;
mod storm;

pub use cell::{Outcome, Plan, simulate};
pub use page::{put, tables};
