//! From the provisioning of a load to its end: what all loads of tunnels do alike.

use std::time::Duration;

use super::{Api, Fleet, Foreign, LoadError, Plan, Target, Traffic};
use crate::engine::live::{Live, Series, progress};
use crate::engine::meter::Meter;

/// A load under way.
pub(crate) struct Session {
    pub(crate) plan: Plan,
    /// The node's, if it is one of ours.
    pub(crate) api: Option<Api>,
    pub(crate) fleet: Fleet,
}

impl Session {
    /// Provisions the node, with Child SAs that are rekeyed after `life`, unless somebody else has.
    pub(crate) async fn open(
        target: &Target,
        foreign: Option<&Foreign>,
        count: u32,
        traffic: Traffic,
        life: Option<Duration>,
        seed: u64,
    ) -> Result<Self, LoadError> {
        let plan = Plan::new(target, foreign, count)?;
        let fleet = Fleet::new(plan.clone(), target, traffic, seed)?;
        let api = match plan.is_provisioned() {
            true => Some(provisioned(&plan, target, life).await?),
            false => None,
        };
        Ok(Self { plan, api, fleet })
    }

    /// Provisions a node of ours and opens all tunnels; its API with it.
    ///
    /// # Errors
    /// Also if one does not come up.
    pub(crate) async fn up(
        target: &Target,
        count: u32,
        traffic: Traffic,
        seed: u64,
        at_a_time: u32,
    ) -> Result<(Self, Api), LoadError> {
        let plan = Plan::new(target, None, count)?;
        let fleet = Fleet::new(plan.clone(), target, traffic, seed)?;
        let api = provisioned(&plan, target, None).await?;
        let mut session = Self { plan, api: Some(api.clone()), fleet };
        session.negotiate(0, at_a_time).await?;
        session.fleet.all_up()?;
        Ok((session, api))
    }

    /// Opens all tunnels, as [`Fleet::start_all`]; the Child SAs a second over time.
    pub(crate) async fn negotiate(&mut self, rate: u32, at_a_time: u32) -> Result<Vec<Series>, LoadError> {
        let bar = progress(self.plan.count, "negotiating");
        let rates = vec![("Child SAs/s", (|meter| meter.child_sas.get()) as fn(&Meter) -> u64)];
        let live = Live::of(bar, &self.fleet.meter, Some(Meter::settled), rates);
        let started = self.fleet.start_all(rate, at_a_time).await;
        let series = live.stop().await;
        started.map(|()| series)
    }

    /// Closes all tunnels, waits until the node has none, and deletes what was provisioned; how many initiators did not end
    /// in time.
    pub(crate) async fn close(self) -> Result<u64, LoadError> {
        let left = self.fleet.close().await;
        if let Some(api) = &self.api {
            api.wait_down().await?;
            api.clean_up(&self.plan).await?;
        }
        Ok(left)
    }
}

/// A node that has all peers of the plan.
async fn provisioned(plan: &Plan, target: &Target, life: Option<Duration>) -> Result<Api, LoadError> {
    let api = Api::connect(&target.server).await?;
    api.provision(plan, life, &progress(plan.count, "provisioning")).await?;
    Ok(api)
}
