//! What happens to the nodes, and when: at a third of the time one is killed, at two thirds another is drained, and then started again.

use std::time::Duration;

use super::Cluster;
use super::node::{Node, State};
use super::outcome::{Mark, Outcome, lost};
use crate::console::Failure;
use crate::quickstart::fleet::Fleet;
use crate::quickstart::plan::Plan;

/// Places of the nodes among all.
const KILLED: usize = 1;
const DRAINED: usize = 2;
/// How long the end is put off for the node that is started again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest that a run goes on once it is there, so that packets land on it again.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// How far it is.
enum Scene {
    AllUp,
    Killed,
    Draining,
    StartsAgain,
    /// Since when.
    BackAgain(Duration),
}

pub(super) struct Play {
    duration: Duration,
    scene: Scene,
    started: Mark,
    /// What had been sent a moment ago: of the last of it, some is still under way.
    recent: Option<Mark>,
    /// What had been sent before the kill, and before the drain.
    killed: Option<Mark>,
    drained: Option<Mark>,
    takeover: Duration,
}

impl Play {
    /// `started`: what was sent before all that.
    pub(super) const fn new(duration: Duration, started: Mark) -> Self {
        Self {
            duration,
            scene: Scene::AllUp,
            started,
            recent: None,
            killed: None,
            drained: None,
            takeover: Duration::ZERO,
        }
    }

    /// Whether there is something to wait for beyond the time.
    pub(super) fn waits(&self, elapsed: Duration) -> bool {
        let over = match self.scene {
            Scene::BackAgain(since) => elapsed > since + AFTERWARDS,
            _ => false,
        };
        !over && elapsed < self.duration + PATIENCE
    }

    /// Does what is due, and says so.
    pub(super) fn go_on(
        &mut self,
        elapsed: Duration,
        cluster: &mut Cluster,
        fleet: &Fleet,
    ) -> Result<Option<String>, Failure> {
        let recent = self.recent.replace(Mark::now(fleet));
        let mut sightings = cluster.balancer.sightings();
        let nodes = &mut cluster.nodes;
        let state = |nodes: &[Node], at: usize| nodes.get(at).map_or(State::Down, Node::state);
        Ok(match self.scene {
            Scene::AllUp if elapsed > self.duration / 3 => {
                self.killed = recent;
                // What was before is not the kill's.
                sightings.longest_gap();
                nodes.get(KILLED).map(|node| {
                    node.kill();
                    self.scene = Scene::Killed;
                    format!("{} is killed (kill -9)", node.name)
                })
            }
            Scene::Killed if elapsed > self.duration * 2 / 3 => {
                self.takeover = sightings.longest_gap();
                self.drained = recent;
                nodes.get(DRAINED).map(|node| {
                    node.drain();
                    self.scene = Scene::Draining;
                    format!("{} is told to go (SIGTERM) and gives its tunnels to others", node.name)
                })
            }
            Scene::Draining if state(nodes, DRAINED) == State::Down => match nodes.get_mut(DRAINED) {
                None => None,
                Some(node) => {
                    node.start()?;
                    self.scene = Scene::StartsAgain;
                    Some(format!("{} has ended and is started again", node.name))
                }
            },
            Scene::StartsAgain => match state(nodes, DRAINED) {
                State::Down => return Err(Failure::failed("a node that was drained does not start again")),
                State::Up => {
                    self.scene = Scene::BackAgain(elapsed);
                    nodes.get(DRAINED).map(|node| format!("{} is back", node.name))
                }
                _ => None,
            },
            _ => None,
        })
    }

    /// What has come of it, once the branches have told which probes have arrived.
    pub(super) fn outcome(self, plan: &Plan, cluster: &Cluster, fleet: &Fleet) -> Outcome {
        let end = Mark::now(fleet);
        let killed = self.killed.unwrap_or_else(|| end.clone());
        let drained = self.drained.unwrap_or_else(|| end.clone());
        let reports = fleet.reports();
        let again: u64 = reports.iter().map(|report| report.established.saturating_sub(1)).sum();
        let sightings = cluster.balancer.sightings();
        let begun = sightings.negotiations().saturating_sub(plan.branches.len()) as u64;
        Outcome {
            nodes: cluster.nodes.len(),
            came_back: matches!(self.scene, Scene::BackAgain(_)),
            takeover_ms: u64::try_from(self.takeover.as_millis()).unwrap_or(u64::MAX),
            packets_lost_at_start: lost(plan, &reports, &self.started.before(), &self.started),
            packets_lost_by_kill: lost(plan, &reports, &killed, &drained),
            packets_lost_by_drain: lost(plan, &reports, &drained, &end),
            // One that was begun and came to nothing is one as well.
            renegotiations: again.max(begun),
            duplicate_sequence_numbers: sightings.doubled(),
        }
    }
}
