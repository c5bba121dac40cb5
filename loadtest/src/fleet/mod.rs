//! The tunnels of a load: who they are, how a node is told of them, and the initiators that run them.
//!
//! `target.rs` is what is asked for, `plan.rs` what it comes to, `place.rs` and `template.rs` the names and addresses,
//! `api.rs` what a node is asked over gRPC, `left.rs` whether it has more than it should, `probes.rs` the traffic, `session.rs` the way of a load from begin to end.

mod accounts;
mod api;
mod churn;
#[cfg(test)]
mod fake;
mod left;
mod memory;
mod place;
mod plan;
mod probes;
mod proof;
mod rekeys;
mod session;
mod target;
mod template;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use latest::Latest as _;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::engine::due::due;
use crate::engine::files::{self, Bound, TooMany};
use crate::engine::meter::Meter;
use crate::engine::stop::Stop;
use crate::initiator::{Group, Order, Ordered, Start};
use crate::probe::Flow;
use crate::{Command, Report};
pub(crate) use accounts::Accounts;
pub(crate) use api::Api;
pub(crate) use churn::Churn;
pub(crate) use memory::{Memory, check_watched, growth};
pub(crate) use place::Place;
pub(crate) use plan::Plan;
pub(crate) use probes::{Probes, RATES, Traffic};
pub(crate) use rekeys::{Rekeys, Which};
pub(crate) use session::Session;
pub use target::Version;
pub(crate) use target::{Foreign, Target};

/// Orders under way to a group.
const ORDERS: usize = 64;
/// How long anything may take that all tunnels have to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Signs of life are waited for until none has come for so long: that is more than two requests take that are sent again.
const QUIET: Duration = Duration::from_secs(5);

/// Why a load could not be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The node is not there.
    #[error("cannot reach {0}: {1}; does culvertd run, and is this where its API is (--server)?")]
    Unreachable(String, String),
    /// The node refused something.
    #[error("{0}: {1}")]
    Api(&'static str, String),
    /// An argument that is of no use.
    #[error("{0}")]
    Argument(String),
    /// More sockets than there may be.
    #[error(transparent)]
    Files(#[from] TooMany),
    /// A socket or a file.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// Somebody did not want to wait for the end.
    #[error("interrupted while tunnels were closed; what was provisioned is left")]
    Interrupted,
    /// Tunnels did not get where they should.
    #[error("{what}: {done} of {all}; {why}")]
    Stuck {
        /// What they should have done.
        what: &'static str,
        /// How many did.
        done: u64,
        /// How many there are.
        all: u64,
        /// What others said.
        why: String,
    },
}

/// The initiators of a plan.
pub(crate) struct Fleet {
    plan: Plan,
    traffic: Traffic,
    per_socket: u32,
    rng: StdRng,
    pub(crate) meter: Arc<Meter>,
    groups: Vec<Option<mpsc::Sender<Order>>>,
    tasks: JoinSet<()>,
    /// By place: the number of who is there, and what it has seen.
    members: Vec<Option<(u32, watch::Receiver<Report>)>>,
    next: u32,
    /// Flows that lead somewhere.
    flow_count: u32,
}

impl Fleet {
    /// None is started yet; but it is known that there are sockets for all.
    pub(crate) fn new(plan: Plan, target: &Target, traffic: Traffic, seed: u64) -> Result<Self, LoadError> {
        let may_share = plan.version == Version::Ikev2;
        let bound = Bound::find(plan.has_one_source());
        let per_socket = files::members_per_socket(plan.count, may_share, target.per_socket, bound)?;
        let count = usize::try_from(plan.count).unwrap_or(usize::MAX);
        let sockets = count.div_ceil(usize::try_from(per_socket).unwrap_or(usize::MAX));
        let mut this = Self {
            plan,
            traffic,
            per_socket,
            rng: StdRng::seed_from_u64(seed),
            meter: Arc::default(),
            groups: vec![None; sockets],
            tasks: JoinSet::new(),
            members: vec![None; count],
            next: 0,
            flow_count: 0,
        };
        // Flows that lead nowhere are told before anything starts. A tunnel without a neighbour has none, whatever is asked for.
        let led = |index| this.flows(this.plan.place(index)).map(|flows| flows.len());
        let all = (0..this.traffic.among.min(this.plan.count)).map(led).sum::<Result<usize, LoadError>>()?;
        this.flow_count = u32::try_from(all).unwrap_or(u32::MAX);
        Ok(this)
    }

    pub(crate) const fn flow_count(&self) -> u32 {
        self.flow_count
    }

    pub(crate) const fn per_socket(&self) -> u32 {
        self.per_socket
    }

    /// Starts all, so many a second, or for a rate of 0 as fast as so many under way at a time allow; then waits until it is
    /// known of each whether it came up. If an end is wanted none is started any more, nor waited for.
    pub(crate) async fn start_all(
        &mut self,
        rate: u32,
        at_a_time: u32,
        stop: &mut Stop,
    ) -> Result<(), LoadError> {
        let room = Arc::new(Semaphore::new(usize::try_from(at_a_time).unwrap_or(1)));
        let begin = Instant::now();
        for (place, number) in self.plan.places().zip(0u32..) {
            // Only the wait is cut short: whoever is counted as started has been.
            let turn = match rate {
                // The semaphore is never closed.
                0 => stop.until_wanted(room.clone().acquire_owned()).await.map(|permit| (permit.ok(), None)),
                rate => {
                    let due = due(begin, f64::from(number), f64::from(rate));
                    stop.until_wanted(tokio::time::sleep_until(due.into())).await.map(|()| (None, Some(due)))
                }
            };
            let Some((permit, due)) = turn else { return Ok(()) };
            self.start(place, permit, due).await?;
        }
        // None is an end before its time, which the caller sees as well.
        let _ = stop.until_wanted(self.settled()).await;
        Ok(())
    }

    /// Waits until it is known of all that were started whether they came up.
    pub(crate) async fn settled(&self) {
        let all = u64::from(self.next);
        self.meter.until(|meter| meter.settled() >= all).await;
    }

    /// # Errors
    /// If not all that were started are up.
    pub(crate) fn all_up(&self) -> Result<(), LoadError> {
        let (done, all) = (self.meter.child_sas.get(), u64::from(self.next));
        if done == all {
            return Ok(());
        }
        let why = self.meter.causes.list().into_iter().next().map_or_else(String::new, |(cause, _)| cause);
        Err(LoadError::Stuck { what: "up", done, all, why })
    }

    /// Starts one, whose latency counts from when it was due; who is at its place already must have been told to close.
    pub(crate) async fn start(
        &mut self,
        place: Place,
        permit: Option<tokio::sync::OwnedSemaphorePermit>,
        due: Option<Instant>,
    ) -> Result<(), LoadError> {
        let (report, watched) = watch::channel(Report::default());
        let flows = self.flows(place)?;
        let start = Start {
            ordered: Ordered::of(self.meter.clone()),
            config: self.plan.config(place, self.traffic.rate.saturating_mul(flows.len() as u32))?,
            flows,
            sizes: self.traffic.sizes.clone(),
            phase: self.rng.random(),
            patience: Some(self.plan.timeout),
            due,
            permit,
            report,
        };
        let group = self.group(place)?;
        let id = self.next;
        self.next += 1;
        // An order that a group does not take, as its socket has failed, counts as an initiator that has.
        let _ = group.send(Order::Start(id, Box::new(start))).await;
        if let Some(member) = usize::try_from(place.index).ok().and_then(|at| self.members.get_mut(at)) {
            *member = Some((id, watched));
        }
        Ok(())
    }

    fn flows(&self, place: Place) -> Result<Arc<[(Flow, std::net::Ipv4Addr)]>, LoadError> {
        let Traffic { among, .. } = self.traffic;
        let route = |flow| self.plan.route(place, flow, among).transpose();
        (0..self.traffic.flows_of(place.index)).filter_map(route).collect()
    }

    fn group(&mut self, place: Place) -> Result<mpsc::Sender<Order>, LoadError> {
        let number = place.index / self.per_socket;
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(Some(group)) = self.groups.get(at) {
            return Ok(group.clone());
        }
        let first = Place { index: number * self.per_socket, ..place };
        let source: Option<IpAddr> = self.plan.source(first);
        let group = Group::open(self.plan.server, source, self.meter.clone()).map_err(|error| {
            let from = source.map_or_else(|| "an address".to_owned(), |source| source.to_string());
            LoadError::Io(format!("socket {number} of the initiators, from {from}"), error)
        })?;
        let (orders, receiver) = mpsc::channel(ORDERS);
        let meter = self.meter.clone();
        self.tasks.spawn(async move {
            if let Err(error) = group.run(ReceiverStream::new(receiver), false).await {
                meter.causes.note(&format!("a socket of initiators: {error}"));
            }
        });
        if let Some(slot) = self.groups.get_mut(at) {
            *slot = Some(orders.clone());
        }
        Ok(orders)
    }

    /// Tells one.
    pub(crate) async fn tell(&self, place: Place, command: Command) {
        let at = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        let member = self.members.get(at(place.index)).and_then(Option::as_ref);
        let group = self.groups.get(at(place.index / self.per_socket)).and_then(Option::as_ref);
        if let (Some((id, _)), Some(group)) = (member, group) {
            // One that has ended shows in its report.
            let _ = group.send(Order::Tell(*id, command)).await;
        }
    }

    /// What each has seen, by place.
    pub(crate) fn reports(&self) -> impl Iterator<Item = (Place, Report)> + '_ {
        let reports = self.members.iter().map(|member| {
            let (_, reports) = member.as_ref()?;
            let mut report = reports.latest();
            // Who has ended may have had no turn any more to say so.
            report.up &= reports.has_changed().is_ok();
            Some(report)
        });
        self.plan.places().zip(reports).filter_map(|(place, report)| Some((place, report?)))
    }

    /// Tunnels that stand now, whatever has come up before.
    pub(crate) fn up(&self) -> u64 {
        self.reports().filter(|(_, report)| report.up).count() as u64
    }

    /// Tunnels that stand at the responder as well, which may have forgotten one without a word: where it takes an initiator for the one
    /// before, which has started afresh (RFC 7296 section 2.4). In IKEv1 a peer need not give signs of life, and is not asked.
    pub(crate) async fn standing(&self, stop: &mut Stop) -> u64 {
        let up = self.up();
        if self.plan.version == Version::Ikev1 {
            return up;
        }
        let before = self.meter.answered.get();
        let answered = |meter: &Meter| meter.answered.get().saturating_sub(before);
        self.tell_all(&Command::Ask).await;
        let all = async {
            loop {
                let seen = answered(&self.meter);
                let more = self.meter.until(|meter| answered(meter) >= up || answered(meter) > seen);
                if tokio::time::timeout(QUIET, more).await.is_err() || answered(&self.meter) >= up {
                    return answered(&self.meter);
                }
            }
        };
        stop.until_wanted(all).await.unwrap_or(up)
    }

    /// Who was at a place has ended, or nobody was.
    pub(crate) fn is_gone(&self, place: Place) -> bool {
        let at = usize::try_from(place.index).unwrap_or(usize::MAX);
        let member = self.members.get(at).and_then(Option::as_ref);
        // The sender of reports goes with the initiator.
        member.is_none_or(|(_, report)| report.has_changed().is_err())
    }

    /// Tells all.
    pub(crate) async fn tell_all(&self, command: &Command) {
        for group in self.groups.iter().flatten() {
            // As above.
            let _ = group.send(Order::All(command.clone())).await;
        }
    }

    /// Waits until what was sent has arrived, or clearly will not.
    pub(crate) async fn settle(&self) {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.meter.received.get() >= self.meter.sent.get() {
                return;
            }
        }
    }

    /// Deletes the SAs; how many initiators did not end in time.
    pub(crate) async fn close(mut self) -> u64 {
        self.tell_all(&Command::Close).await;
        let all = u64::from(self.next);
        // One that does not end in time is dropped with its socket.
        let _ = tokio::time::timeout(PATIENCE, self.meter.until(|meter| meter.ended.get() >= all)).await;
        let left = all.saturating_sub(self.meter.ended.get());
        self.groups.clear();
        self.tasks.shutdown().await;
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::words;

    fn fleet(tunnels: u32) -> Fleet {
        // All on one socket.
        let target: Target = words::arguments("--per-socket 64");
        let plan = Plan::new(&target, None, tunnels).unwrap();
        Fleet::new(plan, &target, Traffic::none(), 0).unwrap()
    }

    /// What has failed for it, and what has ended, once it is known of all.
    async fn settled(fleet: &Fleet) -> [u64; 4] {
        fleet.settled().await;
        let meter = &fleet.meter;
        assert_eq!(meter.causes.list(), [("its socket has failed".to_owned(), meter.failed.get())]);
        [meter.started.get(), meter.failed.get(), meter.ended.get(), fleet.up()]
    }

    #[tokio::test]
    async fn who_is_ordered_of_a_group_that_has_ended_has_failed_and_is_not_waited_for() {
        let mut fleet = fleet(3);
        let (orders, receiver) = mpsc::channel(1);
        drop(receiver);
        fleet.groups[0] = Some(orders);
        fleet.start_all(0, 1, &mut Stop::never()).await.unwrap();
        assert_eq!(settled(&fleet).await, [3, 3, 3, 0]);
        assert!(fleet.all_up().is_err());
    }

    #[tokio::test]
    async fn an_order_that_a_group_has_left_when_it_ended_is_not_waited_for() {
        let mut fleet = fleet(2);
        let (orders, receiver) = mpsc::channel(2);
        fleet.groups[0] = Some(orders);
        for index in 0..2 {
            fleet.start(fleet.plan.place(index), None, None).await.unwrap();
        }
        assert_eq!(fleet.meter.settled(), 0);
        drop(receiver);
        assert_eq!(settled(&fleet).await, [2, 2, 2, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn tunnels_stand_whose_peers_give_a_sign_of_life_and_it_is_not_waited_for_others() {
        let mut fleet = fleet(3);
        let members = || watch::channel(Report { up: true, ..Report::default() });
        let (_reports, watched): (Vec<_>, Vec<_>) = std::iter::repeat_with(members).take(3).unzip();
        fleet.members = watched.into_iter().map(|watched| Some((0, watched))).collect();
        assert_eq!(fleet.standing(&mut Stop::never()).await, 0);
        let meter = fleet.meter.clone();
        tokio::spawn(async move {
            for _ in 0..2 {
                tokio::time::sleep(QUIET / 2).await;
                meter.has_answered();
            }
        });
        assert_eq!(fleet.standing(&mut Stop::never()).await, 2);
        let (wanted, mut stop) = Stop::by_hand();
        wanted.send_replace(1);
        assert_eq!(fleet.standing(&mut stop).await, 3, "nobody was asked");
    }

    #[tokio::test]
    async fn who_was_up_when_its_group_ended_is_down() {
        let mut fleet = fleet(1);
        let (report, watched) = watch::channel(Report { up: true, ..Report::default() });
        fleet.members[0] = Some((0, watched));
        assert_eq!(fleet.up(), 1);
        drop(report);
        assert_eq!(fleet.up(), 0);
    }
}
