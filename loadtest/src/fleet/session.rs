//! From the provisioning of a load to its end: what all loads of tunnels do alike.

use std::time::Duration;

use super::{Api, Fleet, Foreign, LoadError, PATIENCE, Plan, Target, Traffic};
use crate::engine::live::{Live, Series, progress};
use crate::engine::meter::Meter;
use crate::engine::output::Reporting;
use crate::engine::stop::Stop;
use crate::engine::summary::Summary;

/// SAs of the load that the node has when all initiators have ended.
const NOT_TORN_DOWN: &str = "not torn down";
/// What was provisioned is gone.
const DELETED: &str = "tenants of the load deleted";

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
        stop: &Stop,
    ) -> Result<Self, LoadError> {
        let plan = Plan::new(target, foreign, count)?;
        let fleet = Fleet::new(plan.clone(), target, traffic, seed)?;
        let api = match plan.is_provisioned() {
            true => Some(provisioned(&plan, target, life, stop).await?),
            false => None,
        };
        Ok(Self { plan, api, fleet })
    }

    /// Provisions a node of ours and opens all tunnels, unless an end is wanted; its API with it.
    ///
    /// # Errors
    /// Also if one does not come up.
    pub(crate) async fn up(
        target: &Target,
        count: u32,
        traffic: Traffic,
        seed: u64,
        at_a_time: u32,
        stop: &mut Stop,
    ) -> Result<(Self, Api), LoadError> {
        let plan = Plan::new(target, None, count)?;
        let fleet = Fleet::new(plan.clone(), target, traffic, seed)?;
        let api = provisioned(&plan, target, None, stop).await?;
        let mut session = Self { plan, api: Some(api.clone()), fleet };
        session.negotiate(0, at_a_time, stop).await?;
        if !stop.is_wanted() {
            session.fleet.all_up()?;
        }
        Ok((session, api))
    }

    /// Opens all tunnels, as [`Fleet::start_all`]; the Child SAs a second over time.
    pub(crate) async fn negotiate(
        &mut self,
        rate: u32,
        at_a_time: u32,
        stop: &mut Stop,
    ) -> Result<Vec<Series>, LoadError> {
        let bar = progress(self.plan.count, "negotiating");
        let rates = vec![("Child SAs/s", (|meter| meter.child_sas.get()) as fn(&Meter) -> u64)];
        let live = Live::of(bar, &self.fleet.meter, Some(Meter::settled), rates);
        let started = self.fleet.start_all(rate, at_a_time, stop).await;
        let series = live.stop().await;
        started.map(|()| series)
    }

    /// The report and the end of a load that somebody has ended before all of its tunnels were open; that is no success.
    pub(crate) async fn interrupted(
        self,
        load: &'static str,
        seed: u64,
        stop: &mut Stop,
        reporting: &Reporting,
    ) -> Result<bool, LoadError> {
        self.ended_early(Summary::new(load, seed), stop).await.tell(reporting)
    }

    async fn ended_early(self, mut summary: Summary, stop: &mut Stop) -> Summary {
        let meter = self.fleet.meter.clone();
        summary.count("tunnels", "tunnels begun", meter.started.get());
        summary.count("childSas", "Child SAs", meter.child_sas.get());
        summary.count("failed", "failed", meter.failed.get());
        summary.latency("childSa", "to the Child SA", meter.child_latency.copy());
        summary.causes(&meter.causes);
        summary.interrupted();
        self.close(&mut summary, stop).await;
        summary
    }

    /// Closes all tunnels, waits until the node has none of them, and deletes what was provisioned; how many initiators did
    /// not end in time. What goes wrong is one more check that fails: there is a report already, and it is not to be lost.
    /// If an end of this is wanted too, nothing is told of the initiators.
    pub(crate) async fn close(self, summary: &mut Summary, stop: &mut Stop) -> Option<u64> {
        let left = stop.unless_wanted(self.close_within(PATIENCE, summary)).await;
        if left.is_none() {
            summary.got(DELETED, Err::<(), _>(LoadError::Interrupted));
        }
        left
    }

    async fn close_within(self, patience: Duration, summary: &mut Summary) -> u64 {
        let left = self.fleet.close().await;
        if let Some(api) = &self.api {
            let sas = api.left_over(&self.plan, 0, patience).await;
            summary.none(NOT_TORN_DOWN, sas);
            summary.got(DELETED, api.clean_up(&self.plan).await);
        }
        left
    }
}

/// A node that has all peers of the plan, unless an end is wanted.
async fn provisioned(
    plan: &Plan,
    target: &Target,
    life: Option<Duration>,
    stop: &Stop,
) -> Result<Api, LoadError> {
    let api = Api::connect(&target.server).await?;
    api.provision(plan, life, &progress(plan.count, "provisioning"), stop).await?;
    Ok(api)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::Ordering;

    use super::super::fake::Fake;
    use super::*;

    /// Whether a load passes that ends at a node with these SAs, and these of others.
    async fn passes(sas: [u64; 2], listed: &[&'static str], node: &'static str) -> bool {
        let fake = Fake { sas: Mutex::new(sas), listed: listed.to_vec(), node, ..Fake::default() };
        let (fake, server) = fake.serve().await;
        let session = Fake::session(&server, 501).await;
        let mut summary = Summary::new("soak", 0);
        assert_eq!(session.close_within(Duration::from_millis(100), &mut summary).await, 0);
        assert_eq!(*fake.deleted.lock().unwrap(), ["tenants/load-0", "tenants/load-1"], "whatever is left");
        summary.passed()
    }

    #[tokio::test]
    async fn what_is_left_fails_the_load_unless_it_is_somebody_else_s() {
        let (own, other) = ("tenants/load-1/peers/p500", "tenants/acme/peers/paris");
        assert!(passes([0, 0], &[], "").await);
        assert!(!passes([1, 1], &[own], "").await, "one that is listed");
        assert!(!passes([0, 1], &[], "").await, "one that is nowhere else");
        assert!(passes([1, 1], &[other], "").await, "a tunnel of another tenant");
        assert!(!passes([2, 2], &[other, own], "").await, "one of ours beside it");
        assert!(!passes([1, 1], &[other], "b").await, "it may be on another node");
    }

    #[tokio::test]
    async fn a_node_that_is_gone_fails_the_load_and_the_report_says_why() {
        let (fake, server) = Fake::default().serve().await;
        let session = Fake::session(&server, 2).await;
        fake.gone.store(true, Ordering::Relaxed);
        let mut summary = Summary::new("soak", 0);
        session.close(&mut summary, &mut Stop::never()).await;
        let told = format!("{summary:?}");
        assert!(!summary.passed() && told.contains("asking the node: The service is"), "{told}");
    }

    #[tokio::test]
    async fn a_node_that_is_frozen_fails_the_load_and_is_not_waited_for() {
        let (fake, server) = Fake::default().serve().await;
        let session = Fake::session(&server, 2).await;
        fake.frozen.store(true, Ordering::Relaxed);
        tokio::time::pause();
        let mut summary = Summary::new("soak", 0);
        let mut stop = Stop::never();
        let close = session.close(&mut summary, &mut stop);
        let closed = tokio::time::timeout(Duration::from_secs(3600), close).await;
        assert_eq!(closed, Ok(Some(0)));
        assert!(!summary.passed() && format!("{summary:?}").contains("asking the node: "), "{summary:?}");
    }

    #[tokio::test]
    async fn who_interrupts_the_opening_has_a_report_that_says_so_and_nothing_is_left() {
        for rate in [0, 1] {
            let (fake, server) = Fake::default().serve().await;
            // Nobody answers there, so the first tunnel is neither up nor down, and the second waits for it or for its time.
            let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut session = Fake::session_to(&server, 501, silent.local_addr().unwrap().port()).await;
            let (wanted, mut stop) = Stop::by_hand();
            let meter = session.fleet.meter.clone();
            let interrupt = async {
                while meter.started.get() == 0 {
                    tokio::task::yield_now().await;
                }
                wanted.send_replace(1);
            };
            let (negotiated, ()) = tokio::join!(session.negotiate(rate, 1, &mut stop), interrupt);
            negotiated.unwrap();
            assert!(stop.is_wanted() && meter.started.get() < 501);
            let summary = session.ended_early(Summary::new("soak", 0), &mut stop).await;
            assert!(!summary.passed() && format!("{summary:?}").contains("interrupted"), "{summary:?}");
            assert_eq!(*fake.deleted.lock().unwrap(), ["tenants/load-0", "tenants/load-1"]);
        }
    }

    #[tokio::test]
    async fn who_interrupts_the_provisioning_waits_for_the_batch_under_way_alone() {
        let (fake, server) = Fake::default().serve().await;
        let session = Fake::session(&server, 5_000).await;
        let (wanted, stop) = Stop::by_hand();
        wanted.send_replace(1);
        let api = session.api.as_ref().unwrap();
        api.provision(&session.plan, None, &indicatif::ProgressBar::hidden(), &stop).await.unwrap();
        assert_eq!(fake.applied.load(Ordering::Relaxed), 1, "the tenants, and no peers");
    }

    #[tokio::test]
    async fn who_interrupts_the_closing_has_a_report_that_says_so() {
        let (fake, server) = Fake::default().serve().await;
        let session = Fake::session(&server, 2).await;
        fake.frozen.store(true, Ordering::Relaxed);
        let (wanted, mut stop) = Stop::by_hand();
        let mut summary = Summary::new("soak", 0);
        wanted.send_replace(1);
        stop.pause(Duration::from_secs(3600)).await;
        tokio::spawn(async move {
            // The closing has begun.
            fake.asked.notified().await;
            wanted.send_replace(2);
        });
        assert_eq!(session.close(&mut summary, &mut stop).await, None);
        assert!(!summary.passed() && format!("{summary:?}").contains("interrupted"), "{summary:?}");
    }
}
