//! ESP (RFC 4303) as a pure library: transforms, sequence numbers, replay window, selectors, limits and lifetimes.
//!
//! What it is: the two halves of a Child SA as values. An [`InboundSa`] opens packets in place, an [`OutboundSa`]
//! seals them; both own every counter they need. Tunnel and transport mode, IPv4 and IPv6, with or without extended
//! sequence numbers.
//!
//! What it is not: it has no sockets, threads, clock or random source. The UDP header of RFC 3948 and the outer IP
//! header belong to the caller, and so do keys (IKE) and routes (the router).
//!
//! Where to start: [`Suite`] names the algorithms, [`SaKeys`] carries the keys, [`InboundSa::open`] and
//! [`OutboundSa::seal`] are the packet path. [`ip`] reads the inner packet, [`ecn`] keeps its congestion marks right; what is too large for the
//! path is cut by [`fragment`], refused by [`icmp`] or avoided by [`MssClamp`]. [`transport`] is what differs between hosts,
//! and [`run`] cuts what a host hands over in one piece and joins what it takes so. [`InboundSnapshot`] and [`OutboundSnapshot`]
//! are an SA on its way to another node, [`Lease`] how far a node counts that has one behind it.

mod checksum;
pub mod ecn;
mod error;
pub mod fragment;
pub mod icmp;
mod inbound;
pub mod ip;
mod keys;
mod lease;
mod lifetime;
mod limits;
mod mss;
mod outbound;
mod replay;
mod returning;
pub mod run;
mod selector;
mod selectors;
mod snapshot;
mod spi;
mod suite;
mod tfc;
mod transform;
pub mod transport;
mod wire;

pub use error::{OpenError, SaError, SealError};
pub use inbound::{InboundProgress, InboundSa, InboundSnapshot, Opened};
pub use keys::SaKeys;
pub use lease::Lease;
pub use lifetime::{Lifetime, LifetimeEvent, LifetimeSnapshot};
pub use limits::{LimitEvent, Limits};
pub use mss::MssClamp;
pub use outbound::{OutboundProgress, OutboundSa, OutboundSnapshot, Resume, Sealed};
pub use replay::{ReplayError, ReplayWindow};
pub use returning::returning;
pub use selector::{Selector, SelectorPair};
pub use selectors::Selectors;
pub use snapshot::RestoreError;
pub use spi::{Spi, SpiFieldError};
pub use suite::{Encryption, Integrity, Suite, SuiteError};
pub use tfc::TfcPadding;
pub use transport::Mode;
pub use wire::{ESP_HEADER_LEN, MAX_OVERHEAD};
