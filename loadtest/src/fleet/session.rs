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
            true => Some(Api::connect(&target.server).await?),
            false => None,
        };
        if let Some(api) = &api {
            api.provision(&plan, life, &progress(count, "provisioning")).await?;
        }
        Ok(Self { plan, api, fleet })
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
