//! Leases: keys that go when nobody keeps them.

use std::time::Duration;

use culvert_proto::etcd::lease_client::LeaseClient;
use culvert_proto::etcd::request_op::Request;
use culvert_proto::etcd::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest, RequestOp,
};

use super::{Etcd, EtcdError, away};

impl Etcd {
    /// A new lease.
    pub(crate) async fn grant(&self, ttl: Duration) -> Result<i64, EtcdError> {
        let request = LeaseGrantRequest { ttl: ttl.as_secs() as i64, id: 0 };
        let granted = self
            .call(|member| async move { LeaseClient::new(member.channel()).lease_grant(request).await })
            .await?;
        Ok(granted.id)
    }

    /// Keeps a lease for as long as it was granted for; false when it is gone.
    pub(crate) async fn keep_alive(&self, id: i64) -> Result<bool, EtcdError> {
        let answers = self
            .call(|member| async move {
                let request = tokio_stream::once(LeaseKeepAliveRequest { id });
                let answer = LeaseClient::new(member.channel()).lease_keep_alive(request).await?;
                let mut answers = answer.into_inner();
                Ok(tonic::Response::new(answers.message().await?))
            })
            .await?;
        match answers {
            Some(answer) => Ok(answer.ttl > 0),
            None => Err(away("the stream of leases has ended".to_owned())),
        }
    }

    /// Ends a lease, and with it its keys.
    pub(crate) async fn revoke(&self, id: i64) -> Result<(), EtcdError> {
        let request = LeaseRevokeRequest { id };
        let revoked =
            self.call(|member| async move { LeaseClient::new(member.channel()).lease_revoke(request).await });
        revoked.await.map(drop)
    }
}

/// Writes a key that goes with the lease.
pub(crate) fn put_leased(key: Vec<u8>, value: Vec<u8>, lease: i64) -> RequestOp {
    RequestOp { request: Some(Request::RequestPut(PutRequest { key, value, lease })) }
}
