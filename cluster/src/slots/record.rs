//! What etcd knows of a slot.

use std::collections::BTreeMap;

use culvert_proto::etcd::{Compare, KeyValue, RequestOp};
use prost::Message;

use crate::etcd::{Etcd, EtcdError, delete, found, put, read, there_since, unchanged_since};
use crate::members::Node;

/// A process of a node: one that was started again is another.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Name of the node.
    pub node: String,
    pub(crate) instance: Vec<u8>,
}

/// A slot of the cluster: whose it is, and who would go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// 1 to 63, as it is in SPIs.
    pub number: u8,
    /// Who answers for it.
    pub owner: Process,
    /// Who is told of all that happens in it.
    pub standby: Option<Process>,
    /// The standby knows all of it: it may take over, and the owner does nothing that it does not know of.
    pub ready: bool,
    /// Grows with each change of owner or standby.
    pub(crate) term: u64,
    /// Of etcd, when it was last written; 0 if it is not there yet.
    pub(crate) revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredProcess {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(bytes = "vec", tag = "2")]
    instance: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(message, optional, tag = "1")]
    owner: Option<StoredProcess>,
    #[prost(message, optional, tag = "2")]
    standby: Option<StoredProcess>,
    #[prost(bool, tag = "3")]
    ready: bool,
    #[prost(uint64, tag = "4")]
    term: u64,
}

/// From whom a slot was taken by making it nobody's, and as of which revision it was that one's. If it is there after all it may go on: nobody
/// else has.
#[derive(Clone, PartialEq, Message)]
struct Left {
    #[prost(message, optional, tag = "1")]
    owner: Option<StoredProcess>,
    #[prost(int64, tag = "2")]
    revision: i64,
}

fn left_key(number: u8) -> String {
    format!("left/{number}")
}

impl From<&Process> for StoredProcess {
    fn from(process: &Process) -> Self {
        Self { node: process.node.clone(), instance: process.instance.clone() }
    }
}

impl From<StoredProcess> for Process {
    fn from(stored: StoredProcess) -> Self {
        Self { node: stored.node, instance: stored.instance }
    }
}

/// All slots that are somebody's.
pub type Table = BTreeMap<u8, Slot>;

/// What became of a change.
#[derive(Debug)]
pub(crate) enum Changed {
    /// It is as it was to be.
    Done(Slot),
    /// Somebody else has changed it: as it is now, if it is there.
    Other(Option<Slot>),
}

impl Slot {
    /// One that is nobody's yet, as of a revision of etcd. It is the first term as well: every term was written, so none of an
    /// earlier life of the slot is as high.
    pub(crate) fn new(number: u8, owner: Process, revision: i64) -> Self {
        let term = u64::try_from(revision).unwrap_or(0);
        Self { number, owner, standby: None, ready: false, term, revision: 0 }
    }

    /// The same with another owner, who has no standby yet.
    pub(crate) fn of(&self, owner: Process) -> Self {
        Self { owner, standby: None, ready: false, term: self.term + 1, ..self.clone() }
    }

    /// The same with another standby, who knows nothing yet.
    pub(super) fn with_standby(&self, standby: Option<Process>) -> Self {
        Self { standby, ready: false, term: self.term + 1, ..self.clone() }
    }

    /// The same with a standby who knows everything.
    pub(super) fn made_ready(&self) -> Self {
        Self { ready: true, ..self.clone() }
    }

    /// The term before this one.
    pub(super) const fn before(&self) -> u64 {
        self.term.saturating_sub(1)
    }

    pub(crate) fn key(number: u8) -> String {
        format!("slots/{number}")
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let standby = self.standby.as_ref().map(StoredProcess::from);
        let owner = Some(StoredProcess::from(&self.owner));
        Stored { owner, standby, ready: self.ready, term: self.term }.encode_to_vec()
    }

    pub(crate) fn read(number: u8, kv: &KeyValue) -> Result<Self, EtcdError> {
        let corrupt = |reason: String| EtcdError::Corrupt { key: Self::key(number), reason };
        let stored = Stored::decode(kv.value.as_slice()).map_err(|error| corrupt(error.to_string()))?;
        let owner = stored.owner.ok_or_else(|| corrupt("it has no owner".to_owned()))?.into();
        let standby = stored.standby.map(Process::from);
        Ok(Self { number, owner, standby, ready: stored.ready, term: stored.term, revision: kv.mod_revision })
    }

    /// As it is now.
    pub(super) async fn load(etcd: &Etcd, number: u8) -> Result<Option<Self>, EtcdError> {
        let found = etcd.get(&Self::key(number)).await?;
        found.kvs.first().map(|kv| Self::read(number, kv)).transpose()
    }

    /// Begins anew with one that was this process's since revision `since` and is in etcd no more: only if those who made it nobody's had it
    /// from this process, and have said so. Else another has gone on with it meanwhile, and has ended what was in it.
    ///
    /// `None` as long as the process itself is not there: the others would make it nobody's at once, and both would write for ever.
    pub(super) async fn begin_again(
        etcd: &Etcd,
        number: u8,
        owner: Process,
        since: i64,
    ) -> Result<Option<Changed>, EtcdError> {
        let (key, left) = (etcd.key(&Self::key(number)), left_key(number));
        let found = etcd.get(&Self::key(number)).await?;
        if let Some(kv) = found.kvs.first() {
            return Ok(Some(Changed::Other(Some(Self::read(number, kv)?))));
        }
        let said = etcd.get(&left).await?;
        let Some(kv) = said.kvs.first() else { return Ok(Some(Changed::Other(None))) };
        let Left { owner: former, revision } = Left::decode(kv.value.as_slice())
            .map_err(|error| EtcdError::Corrupt { key: left.clone(), reason: error.to_string() })?;
        if former.map(Process::from).as_ref() != Some(&owner) || revision < since {
            return Ok(Some(Changed::Other(None)));
        }
        let Some(there) = Self::is_there(etcd, &owner).await?.ok() else { return Ok(None) };
        let slot = Self::new(number, owner, said.header.map_or(0, |header| header.revision));
        let unchanged =
            vec![unchanged_since(key.clone(), 0), unchanged_since(etcd.key(&left), kv.mod_revision), there];
        let change = vec![put(key.clone(), slot.write()), delete(etcd.key(&left))];
        slot.transact(etcd, unchanged, change).await.map(Some)
    }

    /// Whether a process is there, and in either case what a transaction compares so that it is made only while that stays so.
    async fn is_there(etcd: &Etcd, process: &Process) -> Result<Result<Compare, Compare>, EtcdError> {
        let name = format!("nodes/{}", process.node);
        let found = etcd.get(&name).await?;
        let now = found.kvs.first().map(|kv| Node::read(&process.node, &kv.value)).transpose()?;
        // Each node writes its own anew now and then.
        let made = found.kvs.first().map_or(0, |kv| kv.create_revision);
        let stays = there_since(etcd.key(&name), made);
        Ok(if now.is_some_and(|node| node.process() == *process) { Ok(stays) } else { Err(stays) })
    }

    /// One that is nobody's, as it is to be: [`Slot::change`] takes it. `None` if it is somebody's.
    pub(super) async fn nobodys(etcd: &Etcd, number: u8, owner: Process) -> Result<Option<Self>, EtcdError> {
        let found = etcd.get(&Self::key(number)).await?;
        let now = found.header.map_or(0, |header| header.revision);
        Ok(found.kvs.is_empty().then(|| Self::new(number, owner, now)))
    }

    /// Writes it, if nobody has written it since `self.revision`. A change that was made though nobody heard of it is found to be
    /// there.
    pub(crate) async fn change(&self, etcd: &Etcd) -> Result<Changed, EtcdError> {
        let key = etcd.key(&Self::key(self.number));
        let compare = vec![unchanged_since(key.clone(), self.revision)];
        self.transact(etcd, compare, vec![put(key, self.write())]).await
    }

    /// A change by which it comes to be as it is here.
    async fn transact(
        &self,
        etcd: &Etcd,
        compare: Vec<Compare>,
        change: Vec<RequestOp>,
    ) -> Result<Changed, EtcdError> {
        let (key, value) = (etcd.key(&Self::key(self.number)), self.write());
        let made = etcd.transact(compare, change, vec![read(key)]).await?;
        let revision = made.header.as_ref().map_or(0, |header| header.revision);
        if made.succeeded {
            return Ok(Changed::Done(Self { revision, ..self.clone() }));
        }
        Ok(match found(made) {
            Some(kv) if kv.value == value => {
                Changed::Done(Self { revision: kv.mod_revision, ..self.clone() })
            }
            Some(kv) => Changed::Other(Some(Self::read(self.number, &kv)?)),
            None => Changed::Other(None),
        })
    }

    /// Makes it nobody's, if nobody has written it since, and its owner is not there: nodes are told of in another order than slots. False if
    /// it stays.
    pub(super) async fn free(&self, etcd: &Etcd) -> Result<bool, EtcdError> {
        let Err(away) = Self::is_there(etcd, &self.owner).await? else { return Ok(false) };
        let left = Left { owner: Some(StoredProcess::from(&self.owner)), revision: self.revision };
        let left = put(etcd.key(&left_key(self.number)), left.encode_to_vec());
        self.delete(etcd, vec![away], vec![left]).await
    }

    /// Makes a slot of this node nobody's: false if somebody has written it since.
    pub(super) async fn give_up(&self, etcd: &Etcd) -> Result<bool, EtcdError> {
        self.delete(etcd, Vec::new(), Vec::new()).await
    }

    async fn delete(
        &self,
        etcd: &Etcd,
        mut compare: Vec<Compare>,
        mut change: Vec<RequestOp>,
    ) -> Result<bool, EtcdError> {
        let key = etcd.key(&Self::key(self.number));
        compare.push(unchanged_since(key.clone(), self.revision));
        change.push(delete(key));
        Ok(etcd.transact(compare, change, Vec::new()).await?.succeeded)
    }
}

/// The number in a key below `slots/`.
pub(crate) fn number_of(key: &str) -> Option<u8> {
    key.strip_prefix("slots/")?.parse().ok()
}
