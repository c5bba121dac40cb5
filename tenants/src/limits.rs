//! Every bound of the model, with the reason for its number.

use std::time::Duration;

/// Peers of one tenant in Main Mode of IKEv1 that may come from one place, and so only their keys tell apart: a quarter of those that are
/// tried, so that one tenant does not take a place for itself that others share.
pub(crate) const MAX_IN_ONE_PLACE: usize = ike::verbs::MAX_CANDIDATES / 4;

/// Tenants of one catalog. Each has a forwarding table and a number in the metrics; more than this belongs to
/// another cluster.
pub const MAX_TENANTS: usize = 10_000;

/// What [`crate::Quotas::max_peers`] may be raised to: a catalog is held in memory, about 2 KiB per peer.
pub const MAX_PEERS: u32 = 100_000;
/// Peers of a tenant that asked for no other number: a large network of branches, and far from exhausting a node.
pub const DEFAULT_MAX_PEERS: u32 = 1_000;

/// What [`crate::Quotas::max_secrets`] may be raised to: one for every peer.
pub const MAX_SECRETS: u32 = MAX_PEERS;
/// Secrets of a tenant that asked for no other number: one for every peer.
pub const DEFAULT_MAX_SECRETS: u32 = DEFAULT_MAX_PEERS;

/// What [`crate::Quotas::packets_per_second`] may be: one in a nanosecond, which is what is counted in.
pub const MAX_PACKETS_PER_SECOND: u32 = 1_000_000_000;
/// The least that [`crate::Quotas::bytes_per_second`] may be: with less a single packet is worth more than a second.
pub const MIN_BYTES_PER_SECOND: u64 = 1_000;
/// The most, 800 Gbit/s: more than a node carries, and a small packet is still worth a nanosecond.
pub const MAX_BYTES_PER_SECOND: u64 = 100_000_000_000;

/// Tokens of the node, and of each tenant: one for every pipeline and person that has no certificate.
pub const MAX_TOKENS: usize = 1_000;
/// How long a token is good for if nothing else is asked for: a quarter, after which somebody looks whether it is still needed.
pub const DEFAULT_TOKEN_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long a token may be good for: ten years are as good as for ever, and said to be so.
pub const MAX_TOKEN_LIFE: Duration = Duration::from_secs(3653 * 24 * 3600);

/// Objects of which an audit entry shows what was there before and after. What goes beyond is named as a number: an entry of a
/// hundred thousand peers would be larger than all others together.
pub const MAX_AUDITED: usize = 1_000;
/// Octets of an audit entry; what was there before and after is left out of it as far as it does not fit. In a cluster an entry is a
/// value of etcd, which takes requests of 1.5 MiB, and the rows of its change are in the same one; [`MAX_AUDITED`] names are a
/// third of this.
pub const MAX_AUDIT_ENTRY: usize = 512 << 10;

/// Child SAs of a peer. Each is an exchange of its own; gateways with more policies than this use wider selectors.
pub const MAX_CHILDREN: usize = 32;
/// SAs of a child at the same time: one for each shard that a node may have.
pub const MAX_RESOURCE_SAS: u8 = ike::resources::MAX_RESOURCES;
/// Subnets on one side of a Child SA: the count of selectors in a payload is one octet (RFC 7296 3.13), and 64 of
/// IPv6 (40 octets each) still fit, both sides together, into a handful of IKE fragments.
pub const MAX_SUBNETS: usize = 64;
/// Subnets on both sides of all children of a peer: each is held against those of all other peers of its tenant that have one of them too.
pub const MAX_PEER_SUBNETS: usize = 1_024;
/// Other peers of a tenant that may have a remote subnet in common with a peer, for other local ones, or both identities, for other addresses.
/// Each write of it is held against all of theirs, and nobody else writes meanwhile: with so many the largest take some 40 ms. A network has two or
/// four ways to the same place.
pub const MAX_ALIKE: usize = 64;
/// Addresses a peer may come from: its uplinks and their backups. A longer list is a prefix.
pub const MAX_REMOTE_ADDRESSES: usize = 16;
/// Addresses of a name that are kept: as many as a peer may be configured with.
pub const MAX_RESOLVED: usize = MAX_REMOTE_ADDRESSES;
/// Proposals of an SA: as many as a person orders by preference; every one is some 40 octets of the first message.
pub const MAX_PROPOSALS: usize = 16;

/// Rules of a policy: they are tried one after the other, for every packet.
pub const MAX_POLICY_RULES: usize = 256;
/// Octets of a policy as it is stored. In a cluster a tenant is a value of etcd, which takes requests of 1.5 MiB; the entry of the audit log, of
/// [`MAX_AUDIT_ENTRY`], may be in the same one.
pub const MAX_POLICY_OCTETS: usize = 512 << 10;
/// Subnets on one side of a rule: as many as a child may have.
pub const MAX_RULE_SUBNETS: usize = MAX_SUBNETS;
/// Ranges of ports on one side of a rule: more is a range itself.
pub const MAX_RULE_PORTS: usize = 16;
/// Effective rules that a read shows: more than anybody looks through. Of large ones it shows [`MAX_ANSWER_OCTETS`].
pub const MAX_EFFECTIVE_RULES: usize = 1_000;
/// Octets of what an answer lists: with the largest object there is it stays below the 4 MiB that a gRPC client takes by default, but for what
/// is larger than that alone.
pub const MAX_ANSWER_OCTETS: usize = 2 << 20;

/// Octets of a secret: a private key of RSA with 4,096 bits and three certificates, as PEM. Of a pre-shared key what is beyond the block of the
/// PRF (128 octets) is hashed before use (RFC 2104 2), so more adds nothing.
pub const MAX_SECRET_BYTES: usize = 16_384;
/// Characters of a display name: one line of a table.
pub const MAX_DISPLAY_NAME: usize = 128;
/// Octets of a request id: a UUID in any notation.
pub const MAX_REQUEST_ID: usize = 64;

/// Addresses of a TUN device: one per family and some aliases.
pub const MAX_TUN_ADDRESSES: usize = 16;
/// Least MTU of a TUN device: that of IPv6 (RFC 8200 5).
pub const MIN_MTU: u32 = 1_280;
/// Greatest MTU of a TUN device: a jumbo frame.
pub const MAX_MTU: u32 = 9_000;
/// MTU of a TUN device that asked for no other: a path of 1500 less the outer headers, UDP and ESP.
pub const DEFAULT_MTU: u32 = 1_400;

/// Least time to a rekey: an exchange over a slow path takes a good part of a second.
pub const MIN_REKEY_TIME: Duration = Duration::from_secs(2);
/// Greatest lifetime: a key that lives longer than a month is not meant to be changed at all.
pub const MAX_LIFE_TIME: Duration = Duration::from_secs(31 * 24 * 3600);
/// Least octets to a rekey, about 40 packets: less would rekey without end.
pub const MIN_REKEY_BYTES: u64 = 64 * 1024;
/// Least packets to a rekey, for the same reason.
pub const MIN_REKEY_PACKETS: u64 = 64;
/// Time to a rekey of an IKE SA if nothing else is configured: what most gateways use.
pub const DEFAULT_IKE_REKEY_TIME: Duration = Duration::from_secs(4 * 3600);
/// Time to a rekey of a Child SA if nothing else is configured: what most gateways use.
pub const DEFAULT_CHILD_REKEY_TIME: Duration = Duration::from_secs(3600);
/// Greatest lifetime of an IKE SA in units of 1,024 octets: peers of IKEv1 read four octets of it.
pub const MAX_LIFE_KILOBYTES: u64 = u32::MAX as u64;
/// Least interval of liveness checks.
pub const MIN_DPD_INTERVAL: Duration = Duration::from_secs(1);
/// Greatest interval of liveness checks: beyond it a dead peer goes unnoticed for longer than people wait.
pub const MAX_DPD_INTERVAL: Duration = Duration::from_secs(3600);
/// Interval of liveness checks if nothing else is configured.
pub const DEFAULT_DPD_INTERVAL: Duration = Duration::from_secs(30);

/// Least replay window: RFC 4303 3.4.3 asks for 32 and prefers 64.
pub const MIN_REPLAY_WINDOW: u32 = 64;
/// Greatest replay window: 1 KiB per SA. Reordering beyond it is loss.
pub const MAX_REPLAY_WINDOW: u32 = 8_192;
/// Replay window if nothing else is configured: what one batch of a multi-queue card may reorder.
pub const DEFAULT_REPLAY_WINDOW: u32 = 1_024;

/// Objects of a page if nothing else is asked for.
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// Objects of a page at most: at about 1 KiB each well below the 4 MiB a gRPC client accepts.
pub const MAX_PAGE_SIZE: usize = 1_000;

/// Objects of one transaction: a tenant with as many peers as it may have, and a secret for each.
pub const MAX_BATCH: usize = 200_000;

/// Changes kept for a slow reader; one that falls further behind is told so and reads a snapshot.
pub const CHANGE_BACKLOG: usize = 1_024;

/// Shortest time between two authentications of a peer: below a minute it would do little else.
pub const MIN_REAUTH_TIME: Duration = Duration::from_secs(60);
/// Longest time between two authentications: beyond a month it is as good as never.
pub const MAX_REAUTH_TIME: Duration = Duration::from_secs(30 * 24 * 3600);
