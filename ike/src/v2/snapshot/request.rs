//! Requests under way, with what their answers will need.

use prost::Message;
use snapshot::{SnapshotError, required};

use crate::snapshot::keys::KeyPairForm;
use crate::snapshot::values::small;
use crate::snapshot::{Reading, RestoreError, Writing};
use crate::v2::request::{ChildOffer, Collision, IkeOffer, Tries};

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct TriesForm {
    #[prost(uint32, tag = "1")]
    put_off: u32,
    #[prost(uint32, tag = "2")]
    busy: u32,
    #[prost(uint32, tag = "3")]
    groups: u32,
    #[prost(uint32, optional, tag = "4")]
    group: Option<u32>,
}

impl TriesForm {
    pub(crate) fn new(tries: Tries) -> Self {
        let Tries { put_off, busy, groups, group } = tries;
        Self { put_off, busy, groups, group: group.map(u32::from) }
    }

    pub(crate) fn read(&self) -> Result<Tries, SnapshotError> {
        let Self { put_off, busy, groups, group } = *self;
        Ok(Tries { put_off, busy, groups, group: group.map(|group| small(group, "a group")).transpose()? })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
struct CollisionForm {
    #[prost(bytes = "vec", tag = "1")]
    lowest: Vec<u8>,
    #[prost(fixed64, tag = "2")]
    passive: u64,
}

impl CollisionForm {
    fn new<Spi: Copy + Into<u64>>(collision: &Collision<Spi>) -> Self {
        let Collision { lowest, passive } = collision;
        Self { lowest: lowest.clone(), passive: (*passive).into() }
    }

    fn read<Spi: TryFrom<u64>>(&self) -> Result<Collision<Spi>, SnapshotError> {
        let passive = Spi::try_from(self.passive).ok();
        Ok(Collision { lowest: self.lowest.clone(), passive: required(passive, "the SPI of a collision")? })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChildOfferForm {
    #[prost(uint32, tag = "1")]
    policy: u32,
    #[prost(fixed32, tag = "2")]
    spi_in: u32,
    #[prost(bytes = "vec", tag = "3")]
    nonce: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    dh: Option<KeyPairForm>,
    #[prost(fixed32, optional, tag = "5")]
    replaces: Option<u32>,
    #[prost(message, optional, tag = "6")]
    tries: Option<TriesForm>,
    #[prost(message, optional, tag = "7")]
    collision: Option<CollisionForm>,
    #[prost(bool, tag = "8")]
    old_gone: bool,
    #[prost(fixed32, repeated, tag = "9")]
    deleted_unknown: Vec<u32>,
}

impl ChildOfferForm {
    pub(crate) fn new<'a>(offer: &'a ChildOffer, w: &mut Writing<'a>) -> Self {
        let ChildOffer { config, spi_in, nonce, dh, replaces, tries, collision, old_gone, deleted_unknown } =
            offer;
        Self {
            policy: w.policy(config),
            spi_in: *spi_in,
            nonce: nonce.clone(),
            dh: dh.as_ref().map(KeyPairForm::new),
            replaces: *replaces,
            tries: Some(TriesForm::new(*tries)),
            collision: collision.as_ref().map(CollisionForm::new),
            old_gone: *old_gone,
            deleted_unknown: deleted_unknown.clone(),
        }
    }

    pub(crate) fn read(&self, r: &Reading) -> Result<ChildOffer, RestoreError> {
        Ok(ChildOffer {
            config: r.policy(self.policy)?,
            spi_in: self.spi_in,
            nonce: self.nonce.clone(),
            dh: self.dh.as_ref().map(KeyPairForm::read).transpose()?,
            replaces: self.replaces,
            tries: required(self.tries, "what a request has tried")?.read()?,
            collision: self.collision.as_ref().map(CollisionForm::read).transpose()?,
            old_gone: self.old_gone,
            deleted_unknown: self.deleted_unknown.clone(),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct IkeOfferForm {
    #[prost(fixed64, tag = "1")]
    spi: u64,
    #[prost(bytes = "vec", tag = "2")]
    nonce: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    dh: Option<KeyPairForm>,
    #[prost(message, optional, tag = "4")]
    tries: Option<TriesForm>,
    #[prost(message, optional, tag = "5")]
    collision: Option<CollisionForm>,
}

impl IkeOfferForm {
    pub(crate) fn new(offer: &IkeOffer) -> Self {
        let IkeOffer { spi, nonce, dh, tries, collision } = offer;
        Self {
            spi: *spi,
            nonce: nonce.clone(),
            dh: Some(KeyPairForm::new(dh)),
            tries: Some(TriesForm::new(*tries)),
            collision: collision.as_ref().map(CollisionForm::new),
        }
    }

    pub(crate) fn read(&self) -> Result<IkeOffer, RestoreError> {
        Ok(IkeOffer {
            spi: self.spi,
            nonce: self.nonce.clone(),
            dh: required(self.dh.as_ref(), "the key pair of a request")?.read()?,
            tries: required(self.tries, "what a request has tried")?.read()?,
            collision: self.collision.as_ref().map(CollisionForm::read).transpose()?,
        })
    }
}
