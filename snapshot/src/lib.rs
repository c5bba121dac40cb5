//! The form in which what is live goes from one node to another: what it is of, its version, a checksum, and a message of
//! protobuf (package `culvert.snapshot.v1`, which is between nodes alone and no part of the gRPC API).
//!
//! It knows nothing of IKE and ESP: `ike` and `esp` declare their messages, and fill and read them. It writes nothing
//! to a disk, and what it holds of keys it wipes.
//!
//! Start with [`Form`], which a message implements to be [encoded](encode) and [decoded](decode), or [written](write) where it is not
//! made first. [`Secret`], [`Address`] and [`Due`] are fields that many of them have.

mod error;
mod fields;
mod form;
mod octets;
mod row;
mod selector;
mod writer;

pub use error::SnapshotError;
pub use fields::{Address, Due, Secret, ip, ip_octets, required};
pub use form::{Form, decode, digest, encode, write};
pub use octets::Octets;
pub use row::{Done, Handover, Kept, Row};
pub use selector::{Bounds, Range};
pub use writer::{Begun, Writer};
