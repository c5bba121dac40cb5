//! What has come of nodes that went: what was lost by which, and what a peer could have noticed.

use loadtest::Report;
use serde::Serialize;

use crate::quickstart::fleet::Fleet;
use crate::quickstart::plan::Plan;

/// What stands in the summary beside the rest.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(super) nodes: usize,
    #[serde(skip)]
    pub(super) came_back: bool,
    /// The longest time without a packet towards a branch, from before the kill to the drain.
    pub(super) takeover_ms: u64,
    /// Before a tunnel was known at all nodes.
    pub(super) packets_lost_at_start: u64,
    pub(super) packets_lost_by_kill: u64,
    pub(super) packets_lost_by_drain: u64,
    pub(super) renegotiations: u64,
    pub(super) duplicate_sequence_numbers: u64,
}

impl Outcome {
    /// What should not be.
    pub(crate) fn faults(&self) -> Vec<String> {
        let counted = [
            (self.packets_lost_by_drain, "packets lost by the drain"),
            (self.renegotiations, "tunnels negotiated anew"),
            (self.duplicate_sequence_numbers, "sequence numbers used twice"),
        ];
        let mut faults: Vec<String> = counted
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !self.came_back {
            faults.push("not everything happened that was to happen to the nodes".to_owned());
        }
        faults
    }

    /// Packets whose loss has a reason that is known.
    pub(crate) const fn lost(&self) -> u64 {
        self.packets_lost_at_start + self.packets_lost_by_kill + self.packets_lost_by_drain
    }

    pub(crate) fn text(&self) -> String {
        let Self { nodes, takeover_ms, packets_lost_by_kill, packets_lost_by_drain, .. } = self;
        format!(
            "{nodes} nodes: one was killed, and its tunnels went on after {takeover_ms} ms at most, {packets_lost_by_kill} packets lost by it\n\
             one was drained and started again, {packets_lost_by_drain} packets lost by it\n\
             {} tunnels negotiated anew, {} sequence numbers used twice\n",
            self.renegotiations, self.duplicate_sequence_numbers,
        )
    }
}

/// What the branches had sent at a moment, and what they could not send.
#[derive(Clone)]
pub(super) struct Mark(Vec<(u64, u64)>);

impl Mark {
    pub(super) fn now(fleet: &Fleet) -> Self {
        Self(fleet.reports().iter().map(|report| (report.sent, report.unsent)).collect())
    }

    /// Before anything was sent.
    pub(super) fn before(&self) -> Self {
        Self(vec![(0, 0); self.0.len()])
    }
}

/// Probes sent between two moments that have not arrived, and those that could not be sent.
pub(super) fn lost(plan: &Plan, reports: &[Report], from: &Mark, to: &Mark) -> u64 {
    let windows = plan.branches.iter().zip(from.0.iter().zip(&to.0));
    let lost = windows.map(|(branch, ((sent_before, unsent_before), (sent, unsent)))| {
        let ledger = reports.iter().find_map(|report| report.arrived.as_ref()?.get(&branch.flow));
        let missing = match ledger {
            Some(ledger) => ledger.missing(*sent_before..*sent),
            None => sent.saturating_sub(*sent_before),
        };
        missing + unsent.saturating_sub(*unsent_before)
    });
    lost.sum()
}

#[cfg(test)]
mod tests {
    use loadtest::Ledger;

    use super::*;

    #[test]
    fn what_is_lost_is_told_apart_by_number() {
        let plan = Plan::new(std::time::Duration::from_secs(12), 1);
        let report = |flow, lost: u64| {
            let mut ledger = Ledger::default();
            (0..100).filter(|number| *number != lost).for_each(|number| ledger.note(number));
            Report { arrived: Some([(flow, ledger)].into()), ..Report::default() }
        };
        let reports: Vec<Report> = plan
            .branches
            .iter()
            .zip([10, 50, 50, 90])
            .map(|(branch, lost)| report(branch.flow, lost))
            .collect();
        let mark = |sent: u64| Mark(vec![(sent, 0); 4]);
        assert_eq!(lost(&plan, &reports, &mark(0), &mark(40)), 1);
        assert_eq!(lost(&plan, &reports, &mark(40), &mark(80)), 2);
        // A branch that says nothing has lost it all, and what could not be sent is lost.
        assert_eq!(lost(&plan, &reports[..3], &mark(80), &mark(100)), 20);
        assert_eq!(lost(&plan, &reports, &mark(80), &Mark(vec![(100, 3); 4])), 13);
    }
}
