//! The model of tenants, peers and secrets, and the store it is kept in.
//!
//! * Parse, don't validate: [`Tenant`], [`Peer`] and [`Secret`] can only be had from a message that was valid,
//!   and every fault of a message is reported at once, each with the field it is in ([`Violations`]).
//! * [`Catalog`] is what the rest of Culvert sees: reads from memory, writes that are durable when they return,
//!   and a stream of [`Change`]s.
//! * [`Store`](store::Store) is what keeps the rows: [`RedbStore`](store::RedbStore) on disk, memory for tests,
//!   etcd for several nodes (crate `cluster`).
//!
//! It is not the negotiation (`ike`), does not touch packets (`router`) and does not know which tunnels are up
//! (`actors`). Start reading with [`Catalog`], then `peer/mod.rs`.

pub mod audit;
mod author;
pub mod catalog;
mod cidr;
mod error;
mod host_name;
pub mod impact;
pub mod limits;
mod mask;
mod meta;
mod name;
mod page;
mod peer;
mod policy;
mod remote;
mod secret;
pub mod store;
mod tenant;
mod token;
mod violation;

pub use author::{Author, Role};
pub use catalog::{
    Action, Applied, BatchError, Callers, Catalog, Change, ChangeKind, Changed, LookupError, News, Object,
    Options, Snapshot, TokenRefused,
};
pub use cidr::{Cidr, CidrError};
pub use error::Error;
pub use host_name::{HostName, Resolution};
pub use impact::{ChildChanges, Effect, Impact};
pub use meta::Meta;
pub use name::{NameError, PeerName, SecretName, TenantName, TokenName};
pub use page::{Page, PageRequest};
pub use peer::{
    Auth, ChildLifetime, ChildSpec, Destination, DontFragment, DpdAction, EspOptions, IkeSpec, IkeV1,
    IkeVersion, Mss, Padding, Peer, PeerSpec, Span, StartAction, mode_to_proto,
};
pub use policy::{PeerRef, Policy, Ports, Rule, RuleAction, effective_rules};
pub use remote::RemoteAddress;
pub use secret::Secret;
pub use tenant::{Quotas, Tenant, TenantSpec, TunUplink, Uplink};
pub use token::{Token, TokenHash};
pub use violation::{FieldViolation, Violations};
