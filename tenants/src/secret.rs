//! A secret: everything but its value, which only [`crate::Catalog::resolve_secret`] gives out.

use std::fmt;
use std::time::SystemTime;

use culvert_proto::v1;
use zeroize::Zeroizing;

use crate::limits;
use crate::meta::Meta;
use crate::name::SecretName;
use crate::tenant::display_name;
use crate::violation::Violations;

/// A secret as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its resource name.
    pub name: SecretName,
    /// A name for people.
    pub display_name: String,
    /// When the first of the certificates in it ends, if it has some.
    pub ends: Option<SystemTime>,
    /// Version and times.
    pub meta: Meta,
    /// The value, encrypted; see [`crate::store::Vault`].
    pub(crate) sealed: Vec<u8>,
}

/// The values of a message.
pub(crate) struct SecretSpec {
    pub(crate) display_name: String,
    /// `None` where the message had none: an update keeps the value then.
    pub(crate) value: Option<Zeroizing<Vec<u8>>>,
}

impl SecretSpec {
    /// The values of a message, or all that is wrong with it. The value is moved out of the message.
    pub(crate) fn parse(secret: &mut v1::Secret) -> Result<Self, Violations> {
        let mut faults = Violations::new();
        let display_name = display_name(&secret.display_name, &mut faults);
        let value = Zeroizing::new(std::mem::take(&mut secret.value));
        if value.len() > limits::MAX_SECRET_BYTES {
            faults.add("value", format!("{} octets; at most {}", value.len(), limits::MAX_SECRET_BYTES));
        }
        let value = Some(value).filter(|value| !value.is_empty());
        faults.finish(Some(Self { display_name, value }))
    }
}

impl Secret {
    /// As a message, without the value.
    pub fn to_proto(&self) -> v1::Secret {
        v1::Secret {
            name: self.name.to_string(),
            display_name: self.display_name.clone(),
            value: Vec::new(),
            etag: self.meta.etag(),
            create_time: Some(self.meta.created.into()),
            update_time: Some(self.meta.updated.into()),
            impact: None,
            certificate_end_time: self.ends.map(Into::into),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).field("meta", &self.meta).finish_non_exhaustive()
    }
}
