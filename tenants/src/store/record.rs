//! How an object is written into a row: the message of the API, canonical, in an envelope.

use std::sync::Arc;
use std::time::SystemTime;

use culvert_proto::v1;
use prost::Message;

use crate::catalog::Object;
use crate::meta::Meta;
use crate::name::{PeerName, SecretName, TenantName};
use crate::peer::{Peer, PeerSpec};
use crate::secret::Secret;
use crate::store::StoreError;
use crate::tenant::{Tenant, TenantSpec};

/// Key of the row of [`Counters`]; no resource name begins like this.
pub(crate) const COUNTERS: &str = "catalog/counters";

/// Key of the row that tells which key the secrets are sealed with.
pub(crate) const KEY_CHECK: &str = "catalog/key";

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
    /// The message, without its output-only fields and without the value of a secret.
    #[prost(bytes = "vec", tag = "7")]
    body: Vec<u8>,
    /// The sealed value of a secret.
    #[prost(bytes = "vec", tag = "8")]
    sealed: Vec<u8>,
}

/// A row, read.
pub(crate) enum Row {
    Counters(Counters),
    /// A known text, sealed.
    KeyCheck(Vec<u8>),
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
        let row = Envelope::decode(value).map_err(|error| StoreError::corrupt(key, error))?;
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
            let body = v1::Secret { display_name: secret.display_name.clone(), ..Default::default() };
            Envelope { body: body.encode_to_vec(), sealed: secret.sealed.clone(), ..envelope(&secret.meta) }
        }
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
    Ok(Secret { name, display_name: body.display_name, meta, sealed: row.sealed })
}

fn body<M: Message + Default>(key: &str, row: &Envelope) -> Result<M, StoreError> {
    M::decode(row.body.as_slice()).map_err(|error| StoreError::corrupt(key, error))
}
