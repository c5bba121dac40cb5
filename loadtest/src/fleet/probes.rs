//! What the tunnels carry, and what became of it.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::plan::PACKET;
use crate::engine::live::Rate;
use crate::engine::meter::Meter;
use crate::engine::summary::Summary;
use crate::engine::threshold::Check;
use crate::engine::times::time;
use crate::probe::SMALLEST;

/// Sizes of a simple Internet mix, 7 to 4 to 1, as they come one after the other.
const IMIX: [usize; 12] = [64, 576, 64, 576, 64, 64, 1400, 64, 576, 64, 576, 64];
/// The largest probe: a jumbo frame. What is larger than the path is dropped, as it may not be fragmented.
const LARGEST: usize = 9000;

/// Flows of probes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Traffic")]
pub(crate) struct Probes {
    /// Flows, spread over the tunnels; each goes to another tunnel of its tenant [default: one of each tunnel, 100 at most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    flows: Option<u32>,
    /// Packets per second and flow
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    flow_rate: u32,
    /// Octets of the inner packets, several in turn: 64,512,1400
    #[arg(long, value_delimiter = ',', value_parser = size, default_values_t = [PACKET], value_name = "OCTETS")]
    size: Vec<usize>,
    /// Sizes of an Internet mix: 64, 576 and 1400 octets, 7 to 4 to 1
    #[arg(long, conflicts_with = "size")]
    imix: bool,
    /// Fail if more percent of the packets are lost
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT", help_heading = "Thresholds")]
    max_loss: f64,
    /// Fail if this program does not get to more percent of the packets in their time: a load that was none shows nothing
    #[arg(long, default_value_t = 10.0, value_name = "PERCENT", help_heading = "Thresholds")]
    max_late: f64,
    /// Fail if the 99th percentile of one-way latency is longer
    #[arg(long, value_parser = time, value_name = "TIME", help_heading = "Thresholds")]
    max_p99: Option<Duration>,
    /// Fail if more packets arrive behind a later one of their flow
    #[arg(long, value_name = "N", help_heading = "Thresholds")]
    max_reordered: Option<u64>,
}

fn size(text: &str) -> Result<usize, String> {
    let octets = text.parse().map_err(|_| format!("{text} is no number of octets"))?;
    if (SMALLEST..=LARGEST).contains(&octets) {
        return Ok(octets);
    }
    Err(format!("{octets} octets: a probe has {SMALLEST} to {LARGEST}"))
}

/// What the tunnels carry.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    /// Flows of all tunnels together; the first of each tunnel goes to its neighbour.
    pub(super) flows: u32,
    /// So many tunnels, the first, send and receive.
    pub(super) among: u32,
    /// Probes per second and flow.
    pub(super) rate: u32,
    /// Octets of the probes, in turn.
    pub(super) sizes: Arc<[usize]>,
}

impl Traffic {
    /// One flow of each tunnel, of small packets.
    pub(crate) fn light(tunnels: u32, rate: u32) -> Self {
        Self { flows: tunnels, among: tunnels, rate, sizes: Arc::new([PACKET]) }
    }

    /// None at all.
    pub(crate) fn none() -> Self {
        Self::light(0, 0)
    }

    /// How many flows begin at a tunnel: they are spread evenly.
    pub(super) fn flows_of(&self, index: u32) -> u32 {
        if index >= self.among {
            return 0;
        }
        let before = |index: u32| u64::from(index) * u64::from(self.flows) / u64::from(self.among);
        u32::try_from(before(index + 1) - before(index)).unwrap_or(u32::MAX)
    }

    pub(crate) const fn flows(&self) -> u32 {
        self.flows
    }
}

/// Rates that are shown while probes are under way.
pub(crate) const RATES: [Rate; 2] =
    [("packets/s sent", |meter| meter.sent.get()), ("packets/s received", |meter| meter.received.get())];

impl Probes {
    /// Flows among the first `among` tunnels, as many as them if it is not said and there are no more than `most`.
    pub(crate) fn traffic(&self, among: u32, most: u32) -> Traffic {
        let sizes = if self.imix { Arc::from(IMIX) } else { Arc::from(self.size.as_slice()) };
        Traffic { flows: self.flows.unwrap_or_else(|| among.min(most)), among, rate: self.flow_rate, sizes }
    }

    /// What became of all that so many flows have sent in `elapsed`.
    pub(crate) fn tell(&self, summary: &mut Summary, meter: &Meter, flows: u32, elapsed: Duration) {
        let (sent, received) = (meter.sent.get(), meter.received.get());
        let lost = sent.saturating_sub(received);
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let percent = (sent > 0).then(|| 100.0 * lost as f64 / sent as f64);
        let late = meter.late.get();
        let due = sent + meter.unsent.get() + late;
        let late_percent = (due > 0).then(|| 100.0 * late as f64 / due as f64);
        summary.count("sent", "packets sent", sent);
        summary.count("received", "received", received);
        summary.count("lost", "lost", lost);
        summary.measure("lostPercent", "loss", percent, "%");
        summary.count("reordered", "reordered", meter.reordered.get());
        summary.count("duplicates", "duplicates", meter.duplicates.get());
        summary.count("unsent", "due without an SA", meter.unsent.get());
        summary.count("late", "not sent, too slow here", late);
        summary.count("strangers", "of strangers", meter.strangers.get());
        summary.count("others", "no probes (ICMP)", meter.others.get());
        summary.count("unopened", "not opened", meter.unopened.get());
        summary.measure("sentPerSecond", "sent a second", Some(sent as f64 / seconds), "/s");
        summary.measure("packetsPerSecond", "received a second", Some(received as f64 / seconds), "/s");
        let mbit = meter.octets.get() as f64 * 8.0 / 1e6 / seconds;
        summary.measure("mbitPerSecond", "inside the tunnels", Some(mbit), "Mbit/s");
        let latency = meter.one_way.copy();
        let p99 = (!latency.is_empty()).then(|| latency.value_at_percentile(99.0) as f64 / 1e6);
        summary.latency("oneWay", "one way", latency);
        let reordered = Some(meter.reordered.get() as f64);
        let checks = [
            // Where flows are to send, and nothing was sent, it is no success; without any there is nothing to lose.
            (flows > 0).then(|| Check::at_most("--max-loss", self.max_loss, percent, "%")),
            (flows > 0).then(|| Check::at_most("--max-late", self.max_late, late_percent, "%")),
            // They are neither sent nor lost: a tunnel that went down shows in them alone.
            Some(Check::at_most("due without an SA", 0.0, Some(meter.unsent.get() as f64), "")),
            // What is sent on twice would hide one that is not sent on at all.
            Some(Check::at_most("duplicates", 0.0, Some(meter.duplicates.get() as f64), "")),
            Some(Check::at_most("strangers", 0.0, Some(meter.strangers.get() as f64), "")),
            self.max_p99.map(|limit| Check::at_most("--max-p99", limit.as_secs_f64() * 1e3, p99, "ms")),
            self.max_reordered.map(|most| Check::at_most("--max-reordered", most as f64, reordered, "")),
        ];
        checks.into_iter().flatten().for_each(|check| summary.check(check));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::words;

    /// Whether a load among so many tunnels passes that has counted this.
    fn passes(words: &str, among: u32, count: impl FnOnce(&Meter)) -> bool {
        let probes: Probes = words::arguments(words);
        let (meter, mut summary) = (Meter::default(), Summary::new("traffic", 0));
        count(&meter);
        probes.tell(&mut summary, &meter, probes.traffic(among, 100).flows(), Duration::from_secs(1));
        summary.passed()
    }

    #[test]
    fn a_packet_that_was_due_without_an_sa_fails_the_load() {
        let sent = |meter: &Meter| {
            meter.sent.add(5);
            meter.received.add(5);
        };
        assert!(passes("", 2, sent));
        assert!(!passes("", 2, |meter| {
            sent(meter);
            meter.unsent.add(1);
        }));
    }

    #[test]
    fn a_packet_that_came_twice_fails_the_load() {
        let sent = |twice| {
            move |meter: &Meter| {
                meter.sent.add(5);
                meter.received.add(5);
                meter.duplicates.add(twice);
            }
        };
        assert!(passes("", 2, sent(0)) && !passes("", 2, sent(1)));
    }

    #[test]
    fn flows_that_were_hardly_sent_fail_the_load() {
        let late = |late| {
            move |meter: &Meter| {
                meter.sent.add(90);
                meter.received.add(90);
                meter.late.add(late);
            }
        };
        assert!(passes("", 2, late(10)) && !passes("", 2, late(11)));
        assert!(passes("--max-late 60", 2, late(110)) && !passes("--max-late 0", 2, late(1)));
    }

    #[test]
    fn nothing_sent_is_no_loss_only_where_nothing_was_to_be_sent() {
        assert!(passes("--flows 0", 2, |_| {}));
        assert!(passes("", 0, |_| {}), "no tunnel that could");
        assert!(!passes("", 2, |_| {}) && !passes("--flows 1", 2, |_| {}));
    }

    #[test]
    fn flows_are_spread_evenly() {
        for (flows, among) in [(0, 10), (3, 10), (10, 10), (25, 10), (1, 1)] {
            let traffic = Traffic { flows, ..Traffic::light(among, 1) };
            let each: Vec<_> = (0..among + 5).map(|index| traffic.flows_of(index)).collect();
            assert_eq!(each.iter().sum::<u32>(), flows);
            let most = each.iter().max().copied().unwrap_or_default();
            assert!(each.iter().take(among as usize).all(|n| most - n <= 1), "{each:?}");
        }
        assert_eq!(Traffic::none().flows_of(0), 0);
    }

    #[test]
    fn sizes_that_are_no_probes_are_refused() {
        assert!(size("64").is_ok() && size("9000").is_ok());
        for bad in ["59", "9001", "-1", "big"] {
            assert!(size(bad).is_err_and(|error| error.contains(bad)));
        }
        let large = IMIX.iter().filter(|octets| **octets == 1400).count();
        assert_eq!((IMIX.iter().filter(|octets| **octets == 64).count(), large), (7, 1));
    }
}
