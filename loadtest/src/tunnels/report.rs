//! The figures.

use std::time::Duration;

use serde_json::json;

use crate::engine::meter::Meter;
use crate::engine::output::print;
use crate::fleet::LoadError;

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) tunnels: u32,
    pub(super) provisioned: Duration,
    /// That came up, and in which time.
    pub(super) up: u64,
    pub(super) established: Duration,
    pub(super) listed: Duration,
    pub(super) listed_sas: u64,
    pub(super) rekeyed: Duration,
    pub(super) torn_down: Duration,
    /// Provisioned, nothing negotiated.
    pub(super) memory_before: u64,
    pub(super) memory_up: u64,
    pub(super) memory_rekeyed: u64,
    pub(super) memory_down: u64,
    /// Everything deleted.
    pub(super) memory_after: u64,
    /// And once freed pages had time to go back to the system.
    pub(super) memory_rest: u64,
    pub(super) child_rekeys: u64,
    pub(super) ike_rekeys: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) unsent: u64,
    pub(super) strangers: u64,
    pub(super) unopened: u64,
    /// Somebody has ended it before its time.
    pub(super) interrupted: bool,
    /// Why it was not torn down to the end.
    pub(super) failure: Option<String>,
}

impl Report {
    pub(super) fn count(&mut self, meter: &Meter) {
        self.up = meter.child_sas.get();
        self.child_rekeys = meter.child_rekeys.get();
        self.ike_rekeys = meter.ike_rekeys.get();
        self.sent = meter.sent.get();
        self.unsent = meter.unsent.get();
        self.strangers = meter.strangers.get() + meter.others.get();
        self.unopened = meter.unopened.get();
        self.received = meter.received.get();
    }

    /// Everything was rekeyed, nothing lost, and all is gone.
    pub(super) fn is_clean(&self) -> bool {
        !self.interrupted && self.failures().is_empty()
    }

    /// What was not as it must be, each by what it is told as and what was expected.
    fn failures(&self) -> Vec<String> {
        let all = u64::from(self.tunnels);
        let conditions = [
            (
                self.received == self.sent,
                "packets received",
                self.received,
                format!("{}, all sent", self.sent),
            ),
            (self.strangers == 0, "packets for others", self.strangers, "0".to_owned()),
            (self.unopened == 0, "packets not opened", self.unopened, "0".to_owned()),
            (self.unsent == 0, "packets without an SA", self.unsent, "0".to_owned()),
            (self.listed_sas == 2 * all, "SAs listed", self.listed_sas, format!("{}", 2 * all)),
            (self.child_rekeys >= all, "Child SAs rekeyed", self.child_rekeys, format!("at least {all}")),
            (self.ike_rekeys >= all, "IKE_SAs rekeyed", self.ike_rekeys, format!("at least {all}")),
        ];
        let missed = conditions.into_iter().filter(|(met, ..)| !met);
        let missed = missed.map(|(_, what, got, expected)| format!("{what}: {got}; expected {expected}"));
        missed.chain(self.failure.clone()).collect()
    }

    /// Octets of memory that the node holds for a tunnel that is up.
    fn per_tunnel(&self) -> u64 {
        self.memory_up.saturating_sub(self.memory_before) / u64::from(self.tunnels.max(1))
    }

    pub(super) fn print(&self, as_json: bool) -> Result<(), LoadError> {
        let told = if as_json { self.json().to_string() } else { self.text() };
        print(&mut std::io::stdout(), &told)
    }

    fn text(&self) -> String {
        let rate = self.up as f64 / self.established.as_secs_f64().max(0.001);
        let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
        let mut lines = vec![
            format!("tunnels        {}", self.tunnels),
            format!("provisioned in {:.2?}", self.provisioned),
            format!("up in          {:.2?} ({}, {rate:.0} a second)", self.established, self.up),
            format!("listed in      {:.2?} ({} SAs)", self.listed, self.listed_sas),
            format!(
                "rekeyed in     {:.2?} ({} Child, {} IKE)",
                self.rekeyed, self.child_rekeys, self.ike_rekeys
            ),
            format!(
                "packets        {} sent, {} received, {} lost",
                self.sent,
                self.received,
                self.sent - self.received.min(self.sent)
            ),
            format!(
                "               {} for others, {} not opened, {} without an SA",
                self.strangers, self.unopened, self.unsent
            ),
            format!("torn down in   {:.2?}", self.torn_down),
            format!(
                "memory         {:.1} MiB provisioned, {:.1} up, {:.1} rekeyed",
                mib(self.memory_before),
                mib(self.memory_up),
                mib(self.memory_rekeyed)
            ),
            format!(
                "               {:.1} MiB down, {:.1} deleted, {:.1} at rest",
                mib(self.memory_down),
                mib(self.memory_after),
                mib(self.memory_rest)
            ),
            format!("               {} octets for each tunnel", self.per_tunnel()),
        ];
        if self.interrupted {
            lines.push("INTERRUPTED    the figures are of what there was".to_owned());
        }
        lines.extend(self.failures().iter().map(|failure| format!("FAILED         {failure}")));
        lines.join("\n")
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "tunnels": self.tunnels,
            "provisionedSeconds": self.provisioned.as_secs_f64(),
            "up": self.up,
            "establishedSeconds": self.established.as_secs_f64(),
            "listedSeconds": self.listed.as_secs_f64(),
            "listedSas": self.listed_sas,
            "rekeyedSeconds": self.rekeyed.as_secs_f64(),
            "childRekeys": self.child_rekeys,
            "ikeRekeys": self.ike_rekeys,
            "sent": self.sent,
            "received": self.received,
            "unsent": self.unsent,
            "strangers": self.strangers,
            "unopened": self.unopened,
            "tornDownSeconds": self.torn_down.as_secs_f64(),
            "interrupted": self.interrupted,
            "failure": self.failure,
            "failures": self.failures(),
            "residentBytes": {
                "provisioned": self.memory_before,
                "up": self.memory_up,
                "rekeyed": self.memory_rekeyed,
                "down": self.memory_down,
                "deleted": self.memory_after,
                "atRest": self.memory_rest,
                "perTunnel": self.per_tunnel(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_fails_the_load_is_told_with_what_was_expected() {
        let clean = || Report {
            tunnels: 10,
            listed_sas: 20,
            child_rekeys: 10,
            ike_rekeys: 12,
            sent: 7,
            received: 7,
            ..Report::default()
        };
        assert!(clean().is_clean() && !clean().text().contains("FAILED"));
        type Fault = fn(&mut Report);
        let faults: [(Fault, &str); 8] = [
            (|report| report.listed_sas = 19, "SAs listed: 19; expected 20"),
            (|report| report.child_rekeys = 9, "Child SAs rekeyed: 9; expected at least 10"),
            (|report| report.ike_rekeys = 0, "IKE_SAs rekeyed: 0; expected at least 10"),
            (|report| report.received = 6, "packets received: 6; expected 7"),
            (|report| report.unsent = 1, "packets without an SA: 1"),
            (|report| report.strangers = 2, "packets for others: 2"),
            (|report| report.unopened = 3, "packets not opened: 3"),
            (|report| report.failure = Some("torn down: 0 of 4".to_owned()), "torn down: 0 of 4"),
        ];
        for (fault, told) in faults {
            let mut report = clean();
            fault(&mut report);
            assert!(!report.is_clean(), "{told}");
            let text = report.text();
            let failed: Vec<_> = text.lines().filter(|line| line.starts_with("FAILED")).collect();
            assert!(failed.len() == 1 && failed[0].contains(told), "{told}: {text}");
            assert_eq!(report.json()["failures"].as_array().map(Vec::len), Some(1));
        }
    }
}
