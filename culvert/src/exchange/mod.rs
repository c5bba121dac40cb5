//! The other side of a tunnel: what is typed on the remote device, and what is made of its configuration.
//!
//! Between the peers of Culvert and the files of devices stands one neutral model ([`model`]). Each device has one file for each
//! direction: `export/` writes, `import/` reads. What cannot be expressed on the way is never left out silently: an exporter
//! says it in its notes, an importer with the line that it stands in.
//!
//! It knows neither the API nor the command line, which are in `cli/export.rs` and `cli/import.rs`.

pub(crate) mod export;
pub(crate) mod import;
mod manifest;
mod model;
mod suite;
#[cfg(test)]
mod tests;

pub(crate) use manifest::{Denied, Peer, documents, is_by_destination, key_variable};
pub(crate) use model::{Key, Notes};
