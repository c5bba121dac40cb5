//! The wire codec.
pub mod error;
pub mod numbers;
pub mod reader;
pub mod sa;
pub mod writer;
