//! The targets, one file each.

pub mod connection;
pub mod datagram;
pub mod esp_open;
pub mod fragments;
pub mod message;
pub mod network;
pub mod payloads;
pub mod proposal_text;
pub mod snapshot;
mod steps;
pub mod tenant_spec;
pub mod v1_connection;
pub mod v1_first;
pub mod v1_message;
