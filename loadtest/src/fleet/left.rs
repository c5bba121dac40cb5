//! SAs that a node has beside those that it should have, whatever else is up on it.

use std::time::{Duration, Instant};

use culvert_proto::v1::sa::Kind;

use super::api::{tenant_of, tenants};
use super::{Api, LoadError, Plan};

/// How often it is asked for at most.
const EVERY: Duration = Duration::from_millis(50);
/// What a look takes is waited for so many times before the next: to list many SAs is work for the node.
const REST: u32 = 4;

impl Api {
    /// SAs that the node has too many, or too few, where `up` tunnels of the plan are up: 0 as soon as it is so, and what
    /// there is after `patience`.
    pub(crate) async fn left_over(&self, plan: &Plan, up: u64, patience: Duration) -> Result<u64, LoadError> {
        let begin = Instant::now();
        loop {
            let look = Instant::now();
            let left = self.left_over_now(plan, up).await?;
            if left == 0 || begin.elapsed() > patience {
                return Ok(left);
            }
            tokio::time::sleep(EVERY.max(look.elapsed() * REST)).await;
        }
    }

    async fn left_over_now(&self, plan: &Plan, up: u64) -> Result<u64, LoadError> {
        let status = self.status().await?;
        let more = |others: [u64; 2]| {
            let [ike, child] = [(status.ike_sas, others[0]), (status.child_sas, others[1])]
                .map(|(all, others)| all.saturating_sub(others).abs_diff(up));
            ike + child
        };
        match more([0; 2]) {
            0 => Ok(0),
            _ => Ok(more(self.others(plan).await?)),
        }
    }

    /// IKE_SAs and Child SAs of tenants that are none of the plan's. All others are counted as the load's own, as what leaks
    /// need not be in a list; and so are those that a list of a cluster has, which may be another node's.
    async fn others(&self, plan: &Plan) -> Result<[u64; 2], LoadError> {
        let own = tenants(plan);
        let (mut ike, mut child) = (0, 0);
        self.each_sa(|sa| match &sa.kind {
            _ if own.contains(tenant_of(sa)) || !sa.node.is_empty() => {}
            Some(Kind::Ike(_)) => ike += 1,
            Some(Kind::Child(_)) => child += 1,
            None => {}
        })
        .await?;
        Ok([ike, child])
    }
}
