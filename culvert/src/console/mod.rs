//! What the command line and the quickstart stand on: the connection to a node, how answers are printed, and how a
//! command fails.
//!
//! [`global`] (options of every command), [`connect`] (the connection), [`message`] (messages as JSON), [`name`] (short
//! names), [`output`] (tables, JSON, YAML), [`beside`] (notes), [`table`] (columns and numbers) and [`failure`] (exit codes and hints). Nothing
//! here knows a command.

pub(crate) mod beside;
pub(crate) mod connect;
pub(crate) mod context;
pub(crate) mod failure;
pub(crate) mod global;
pub(crate) mod message;
pub(crate) mod name;
pub(crate) mod output;
mod stream;
pub(crate) mod table;
pub(crate) mod target;

pub(crate) use connect::Client;
pub(crate) use failure::Failure;
pub(crate) use global::Global;
