//! Leases: keys that go when nobody keeps them.

use std::time::Duration;

use culvert_proto::etcd::request_op::Request;
use culvert_proto::etcd::{PutRequest, RequestOp};

use super::member::Member;
use super::{Etcd, EtcdError, away};

impl Etcd {
    /// A new lease. Asked of one member after the other: each that is asked would make one.
    pub(crate) async fn grant(&self, ttl: Duration) -> Result<i64, EtcdError> {
        let seconds = ttl.as_secs() as i64;
        self.call(|member| async move { member.way().grant(seconds).await }).await
    }

    /// Keeps a lease for as long as it was granted for; false when it is gone.
    pub(crate) async fn keep_alive(&self, id: i64) -> Result<bool, EtcdError> {
        let ask = |member: Member| async move { member.way().keep_alive(id).await };
        match self.call_several(ask, |_| true).await? {
            Some(seconds) => Ok(seconds > 0),
            None => Err(away("the stream of leases has ended".to_owned())),
        }
    }

    /// Ends a lease, and with it its keys.
    pub(crate) async fn revoke(&self, id: i64) -> Result<(), EtcdError> {
        self.call(|member| async move { member.way().revoke(id).await }).await
    }
}

/// Writes a key that goes with the lease.
pub(crate) fn put_leased(key: Vec<u8>, value: Vec<u8>, lease: i64) -> RequestOp {
    RequestOp { request: Some(Request::RequestPut(PutRequest { key, value, lease })) }
}
