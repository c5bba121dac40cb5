//! How an object is written into a row: the message of the API, canonical, in an envelope.

use std::sync::Arc;
use std::time::SystemTime;

use culvert_proto::v1;
use prost::Message;

use crate::author::Role;
use crate::catalog::Object;
use crate::meta::Meta;
use crate::name::{PeerName, SecretName, TenantName, TokenName};
use crate::peer::{Peer, PeerSpec};
use crate::secret::Secret;
use crate::store::StoreError;
use crate::tenant::{Tenant, TenantSpec};
use crate::token::{Token, TokenHash};

/// Key of the row of [`Counters`]; no resource name begins like this.
pub(crate) const COUNTERS: &str = "catalog/counters";

/// Key of the row that tells which key the secrets are sealed with.
pub(crate) const KEY_CHECK: &str = "catalog/key";

/// What keys of rows about the use of a token begin with.
const USED: &str = "catalog/used/";

/// Key of the row that tells when a token was shown last.
pub(crate) fn used_key(name: &TokenName) -> String {
    format!("{USED}{name}")
}

/// What keys of audit entries begin with that may not be in the audit log yet.
const AUDIT: &str = "catalog/audit/";

/// What keys of rows begin with that are audit entries on their way to a log: to that of this node, or to any.
pub fn audit_folder(node: Option<&str>) -> String {
    node.map_or_else(|| AUDIT.to_owned(), |node| format!("{AUDIT}{node}/"))
}

/// Key of the row of an audit entry: of this node, where several share the store.
pub(crate) fn audit_key(node: Option<&str>, sequence: u64) -> String {
    format!("{}{sequence:020}", audit_folder(node))
}

/// Whether the row of this key is an audit entry on its way to the log of its node.
pub fn is_audit(key: &str) -> bool {
    key.starts_with(AUDIT)
}

/// Whether the row of this key says when a token was shown last.
pub(crate) fn is_use(key: &str) -> bool {
    key.starts_with(USED)
}

/// Whose audit entry a row is, by its key, where several nodes share the store.
pub fn audit_node(key: &str) -> Option<&str> {
    key.strip_prefix(AUDIT)?.rsplit_once('/').map(|(node, _)| node)
}

/// Numbers that must never go back.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Counters {
    /// Revision of the last write.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    /// The last tenant number given out.
    #[prost(uint32, tag = "2")]
    pub(crate) tenant: u32,
    /// The last peer uid given out.
    #[prost(uint64, tag = "3")]
    pub(crate) peer: u64,
}

/// The envelope of an object. Tags are for ever: rows outlive versions.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, optional, tag = "2")]
    created: Option<prost_types::Timestamp>,
    #[prost(message, optional, tag = "3")]
    updated: Option<prost_types::Timestamp>,
    #[prost(string, tag = "4")]
    request_id: String,
    /// Number of a tenant, or of the tenant of a peer.
    #[prost(uint32, tag = "5")]
    tenant: u32,
    /// Uid of a peer.
    #[prost(uint64, tag = "6")]
    uid: u64,
    /// The message, without its output-only fields (but the end of a secret's certificates, which only its value tells besides) and without
    /// the value of a secret.
    #[prost(bytes = "vec", tag = "7")]
    body: Vec<u8>,
    /// The sealed value of a secret, or the hash of a token.
    #[prost(bytes = "vec", tag = "8")]
    sealed: Vec<u8>,
}

/// A row, read.
pub(crate) enum Row {
    Counters(Counters),
    /// A known text, sealed.
    KeyCheck(Vec<u8>),
    /// When a token was shown last.
    Used(TokenName, u64),
    /// Something that was done with the commit of this row, and by which of several nodes.
    Audit(Option<String>, Box<v1::AuditEntry>),
    Object(Object),
}

impl Row {
    pub(crate) fn decode(key: &str, value: &[u8]) -> Result<Self, StoreError> {
        if key == COUNTERS {
            return Counters::decode(value)
                .map(Row::Counters)
                .map_err(|error| StoreError::corrupt(key, error));
        }
        if key == KEY_CHECK {
            return Ok(Row::KeyCheck(value.to_vec()));
        }
        if let Some(name) = key.strip_prefix(USED) {
            let name = name.parse().map_err(|error| StoreError::corrupt(key, error))?;
            let seconds = value.try_into().map_err(|error| StoreError::corrupt(key, error))?;
            return Ok(Row::Used(name, u64::from_be_bytes(seconds)));
        }
        if key.starts_with(AUDIT) {
            let entry = v1::AuditEntry::decode(value).map_err(|error| StoreError::corrupt(key, error))?;
            return Ok(Row::Audit(audit_node(key).map(str::to_owned), Box::new(entry)));
        }
        let row = Envelope::decode(value).map_err(|error| StoreError::corrupt(key, error))?;
        if key.parse::<TokenName>().is_ok() {
            return Ok(Row::Object(Object::Token(Arc::new(token(key, row)?))));
        }
        let object = match key.split('/').nth(2) {
            None => Object::Tenant(Arc::new(tenant(key, row)?)),
            Some("peers") => Object::Peer(Arc::new(peer(key, row)?)),
            Some("secrets") => Object::Secret(Arc::new(secret(key, row)?)),
            Some(_) => {
                return Err(StoreError::corrupt(
                    key,
                    "of an unknown kind; was it written by a newer version?",
                ));
            }
        };
        Ok(Row::Object(object))
    }
}

/// Whether a row is of a kind that this version has.
pub(crate) fn is_known(key: &str) -> bool {
    let is_apart = [COUNTERS, KEY_CHECK].contains(&key) || key.starts_with(USED) || key.starts_with(AUDIT);
    let collection = || key.split('/').nth(2);
    is_apart
        || key.parse::<TokenName>().is_ok()
        || (key.starts_with("tenants/")
            && collection().is_none_or(|kind| ["peers", "secrets"].contains(&kind)))
}

/// The row of an object.
pub(crate) fn encode(object: &Object) -> (String, Vec<u8>) {
    let row = match object {
        Object::Tenant(tenant) => Envelope {
            tenant: tenant.number,
            body: tenant.spec.to_proto().encode_to_vec(),
            ..envelope(&tenant.meta)
        },
        Object::Peer(peer) => Envelope {
            tenant: peer.tenant,
            uid: peer.uid,
            body: peer.spec.to_proto().encode_to_vec(),
            ..envelope(&peer.meta)
        },
        Object::Secret(secret) => {
            let body = v1::Secret {
                display_name: secret.display_name.clone(),
                certificate_end_time: secret.ends.map(Into::into),
                ..Default::default()
            };
            Envelope { body: body.encode_to_vec(), sealed: secret.sealed.clone(), ..envelope(&secret.meta) }
        }
        Object::Token(token) => Envelope {
            body: token.spec_to_proto().encode_to_vec(),
            sealed: token.hash.0.to_vec(),
            ..envelope(&token.meta)
        },
    };
    (object.name(), row.encode_to_vec())
}

fn envelope(meta: &Meta) -> Envelope {
    Envelope {
        revision: meta.revision,
        created: Some(meta.created.into()),
        updated: Some(meta.updated.into()),
        request_id: meta.request_id.clone(),
        ..Default::default()
    }
}

fn meta(key: &str, row: &Envelope) -> Result<Meta, StoreError> {
    let time = |time: Option<prost_types::Timestamp>| {
        SystemTime::try_from(time.unwrap_or_default()).map_err(|error| StoreError::corrupt(key, error))
    };
    Ok(Meta {
        revision: row.revision,
        created: time(row.created)?,
        updated: time(row.updated)?,
        request_id: row.request_id.clone(),
    })
}

fn tenant(key: &str, row: Envelope) -> Result<Tenant, StoreError> {
    let name: TenantName = key.parse().map_err(|error| StoreError::corrupt(key, error))?;
    let body: v1::Tenant = body(key, &row)?;
    let spec = TenantSpec::parse(&name, &body).map_err(|faults| StoreError::corrupt(key, faults))?;
    Ok(Tenant { name, number: row.tenant, spec, meta: meta(key, &row)? })
}

fn peer(key: &str, row: Envelope) -> Result<Peer, StoreError> {
    let name: PeerName = key.parse().map_err(|error| StoreError::corrupt(key, error))?;
    let body: v1::Peer = body(key, &row)?;
    let spec = PeerSpec::parse(name.tenant(), &body).map_err(|faults| StoreError::corrupt(key, faults))?;
    Ok(Peer { name, tenant: row.tenant, uid: row.uid, spec, meta: meta(key, &row)? })
}

fn secret(key: &str, row: Envelope) -> Result<Secret, StoreError> {
    let name: SecretName = key.parse().map_err(|error| StoreError::corrupt(key, error))?;
    let body: v1::Secret = body(key, &row)?;
    let meta = meta(key, &row)?;
    let ends = body.certificate_end_time.map(SystemTime::try_from).transpose();
    let ends = ends.map_err(|error| StoreError::corrupt(key, error))?;
    Ok(Secret { name, display_name: body.display_name, ends, meta, sealed: row.sealed })
}

fn token(key: &str, row: Envelope) -> Result<Token, StoreError> {
    let name: TokenName = key.parse().map_err(|error| StoreError::corrupt(key, error))?;
    let body: v1::Token = body(key, &row)?;
    let role = Role::from_proto(body.role).ok_or_else(|| StoreError::corrupt(key, "it has no role"))?;
    let expires = SystemTime::try_from(body.expire_time.unwrap_or_default());
    let expires = expires.map_err(|error| StoreError::corrupt(key, error))?;
    let hash = <[u8; 32]>::try_from(row.sealed.as_slice());
    let hash = TokenHash(hash.map_err(|error| StoreError::corrupt(key, error))?);
    let meta = meta(key, &row)?;
    let display_name = body.display_name;
    Ok(Token { name, display_name, role, expires, meta, hash, used: Arc::default() })
}

fn body<M: Message + Default>(key: &str, row: &Envelope) -> Result<M, StoreError> {
    M::decode(row.body.as_slice()).map_err(|error| StoreError::corrupt(key, error))
}
