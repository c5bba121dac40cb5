//! The wire codec (RFC 7296 section 3): a cursor that cannot overrun, open numbers, and rules per exchange.
//!
//! Start with [`message::Message::parse`]; nothing here knows keys or state.

pub mod error;
pub mod header;
pub mod message;
pub mod numbers;
pub mod payload;
pub mod reader;
pub mod rules;
pub mod sa;
pub mod ts;
pub mod writer;

pub use error::WireError;
pub use header::Header;
pub use message::{Message, Payloads};
pub use payload::{Identification, Notify, Payload};
pub use ts::TrafficSelector;
