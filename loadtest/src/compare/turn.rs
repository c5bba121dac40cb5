//! Everyone in turn, round after round, so that whatever else the machine is up to meets all of them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::blast::{self, Udp};
use super::contestants::{self, Contestant, Culvert, Name, Pair, StrongSwan};
use super::iperf::{self, Tcp};
use super::lab::{About as _, Lab, LabError};
use super::responders::{self, Cost, Kind, Opened};
use super::stats::median;
use super::{Arguments, What, report};
use indicatif::ProgressBar;

use crate::Output;
use crate::engine::live::progress;
use crate::engine::process::{Process, Usage};

/// Pings of one measurement.
const PINGS: u32 = 40;

/// What was measured of somebody in one round. What was not asked for, or has failed, is not there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    pub(crate) tcp1: Option<Tcp>,
    pub(crate) tcp4: Option<Tcp>,
    /// Processor seconds of both ends for a gigabyte of one stream; nothing where no programs are between them.
    pub(crate) cpu: Option<f64>,
    pub(crate) udp: Option<Udp>,
    /// Milliseconds there and back, of the pings that were answered.
    pub(crate) ping: Option<f64>,
    /// Pings that were not.
    pub(crate) lost: u32,
}

impl Turn {
    pub(crate) fn mbps(&self, streams: u32) -> Option<f64> {
        let tcp = if streams == 1 { self.tcp1 } else { self.tcp4 };
        tcp.map(|tcp| tcp.mbps)
    }

    /// Mbit/s of datagrams without loss, or what its sender could send of them.
    pub(crate) fn udp_mbps(&self) -> Option<f64> {
        self.udp.map(|udp| udp.mbps)
    }
}

/// All that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// By round.
    pub(crate) by: BTreeMap<Name, Vec<Turn>>,
    pub(crate) versions: BTreeMap<Name, String>,
    /// Who is not here, and what would help.
    pub(crate) missing: BTreeMap<Name, String>,
    /// What has failed, round by round.
    pub(crate) failed: Vec<String>,
    /// By round.
    pub(crate) costs: BTreeMap<(Name, Kind), Vec<Option<Cost>>>,
    /// Microseconds of the two operations of a key exchange.
    pub(crate) x25519: Vec<f64>,
    pub(crate) iperf: Option<String>,
}

impl Results {
    /// A figure of somebody by round, NaN where there is none: rounds stay side by side.
    pub(crate) fn of(&self, who: Name, pick: impl Fn(&Turn) -> Option<f64>) -> Vec<f64> {
        let turns = self.by.get(&who).map_or(&[][..], Vec::as_slice);
        turns.iter().map(|turn| pick(turn).unwrap_or(f64::NAN)).collect()
    }

    /// Whether in any round what was sent to somebody without loss was all that could be sent.
    pub(crate) fn udp_at_least(&self, who: Name) -> bool {
        self.by.get(&who).into_iter().flatten().any(|turn| turn.udp.is_some_and(|udp| udp.at_least))
    }

    /// The same of what a tunnel has cost.
    pub(crate) fn costs(&self, who: Name, kind: Kind, pick: impl Fn(&Cost) -> f64) -> Vec<f64> {
        let costs = self.costs.get(&(who, kind)).map_or(&[][..], Vec::as_slice);
        costs.iter().map(|cost| cost.as_ref().map_or(f64::NAN, &pick)).collect()
    }

    /// Whether a round is the last, as somebody has interrupted it: what there is of it, and of those before, is told all the same.
    fn ends(&mut self, round: u32, outcome: Result<(), LabError>) -> Result<bool, LabError> {
        match outcome {
            Ok(()) => Ok(false),
            Err(LabError::Interrupted) => {
                self.failed.push(format!("interrupted in round {round}"));
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// What came of something; a failure is told with the figures, as the others are not to be lost for it.
    fn or_tell<T>(
        &mut self,
        lab: &Lab,
        what: impl FnOnce() -> String,
        outcome: Result<T, LabError>,
    ) -> Result<Option<T>, LabError> {
        match outcome {
            Ok(outcome) => Ok(Some(outcome)),
            Err(error) => {
                // Programs that are measured end by Ctrl-C as well.
                lab.check()?;
                self.failed.push(format!("{}: {error}", what()));
                Ok(None)
            }
        }
    }
}

/// Measures everything that is asked for, and tells it.
pub(crate) fn all(arguments: &Arguments, stop: &Arc<AtomicBool>) -> Result<bool, LabError> {
    arguments.check_mtu()?;
    let wanted = |name: &Name| arguments.only.is_empty() || arguments.only.contains(name);
    let mut results = Results::default();
    let mut here: Vec<(Name, Box<dyn Contestant>)> = Vec::new();
    for name in Name::ALL.into_iter().filter(wanted) {
        match contestants::find(arguments, name) {
            Ok(contestant) => here.push((name, contestant)),
            Err(hint) => drop(results.missing.insert(name, hint)),
        }
    }
    let does = |what| arguments.what.contains(&what);
    let paths = arguments.needs_tunnels();
    let responders =
        if does(What::Handshakes) { Responders::find(arguments, wanted) } else { Responders::default() };
    let steps = here.len() as u64 * u64::from(paths) + responders.steps();
    are_there(arguments, &results.missing, steps)?;
    for (name, hint) in &results.missing {
        // At once, and not in some ten minutes.
        let _ = writeln!(std::io::stderr(), "{} is left out: {hint}", name.text());
    }
    let mut arguments = arguments.clone();
    if does(What::Tcp) {
        let congestion = iperf::congestion(arguments.congestion.as_deref())?;
        results.iperf = Some(format!("{}, congestion control {congestion}", iperf::version()?));
        arguments.congestion = Some(congestion);
    }
    let arguments = &arguments;
    let by_ping = [Name::Culvert, Name::Strongswan];
    if does(What::Ping) || paths && here.iter().any(|(name, _)| by_ping.contains(name)) {
        contestants::is_installed("ping", "iputils-ping")?;
    }
    let lab = Lab::new(arguments.ipv6, arguments.mtu, arguments.keep, stop.clone())?;
    for (name, contestant) in &here {
        results.versions.insert(*name, contestant.version());
    }
    let steps = u64::from(arguments.rounds) * steps;
    let bar = progress(u32::try_from(steps).unwrap_or(u32::MAX), "comparing");
    for round in 1..=arguments.rounds {
        let done = one_round(round, arguments, &lab, &here, &responders, &mut results, &bar);
        if results.ends(round, done)? {
            break;
        }
    }
    bar.finish_and_clear();
    drop(lab);
    let output = if arguments.json { Output::Json } else { arguments.output };
    let met = report::tell(&results, arguments, output)?;
    Ok(results.failed.is_empty() && (met || !arguments.require))
}

/// # Errors
/// If somebody is missing who was asked for by name, or nobody is there who would be measured.
fn are_there(arguments: &Arguments, missing: &BTreeMap<Name, String>, steps: u64) -> Result<(), LabError> {
    let left_out = |(name, hint): (&Name, &String)| format!("{}: {hint}", name.text());
    let mut asked = missing.iter().filter_map(|missing| Some((arguments.asks_for(*missing.0)?, missing)));
    if let Some((option, missing)) = asked.next() {
        return Err(LabError::Argument(format!("{option}: {}", left_out(missing))));
    }
    if steps == 0 {
        let why: Vec<_> = missing.iter().map(left_out).collect();
        let why = if why.is_empty() { "see --only and --what".to_owned() } else { why.join("; ") };
        return Err(LabError::Argument(format!("there is nobody of whom this is measured: {why}")));
    }
    Ok(())
}

fn one_round(
    round: u32,
    arguments: &Arguments,
    lab: &Lab,
    here: &[(Name, Box<dyn Contestant>)],
    responders: &Responders,
    results: &mut Results,
    bar: &ProgressBar,
) -> Result<(), LabError> {
    if arguments.needs_tunnels() {
        for (name, contestant) in here {
            let tell = |what: &str| bar.set_message(format!("round {round}: {}, {what}", name.text()));
            tell("starting");
            let mut turn = Turn::default();
            let done =
                contestant.start(lab).and_then(|pair| measure(lab, arguments, &pair, &mut turn, &tell));
            results
                .failed
                .extend(lost(turn.lost).map(|lost| format!("round {round}: {}: {lost}", name.text())));
            // What there was of a turn that was interrupted is told too.
            results.by.entry(*name).or_default().push(turn);
            results.or_tell(lab, || format!("round {round}: {}", name.text()), done)?;
            bar.inc(1);
        }
    }
    responders.measure(lab, round, arguments.tunnels, results, &mut |what| {
        bar.set_message(format!("round {round}: {what}"));
        bar.inc(1);
    })
}

fn measure(
    lab: &Lab,
    arguments: &Arguments,
    pair: &Pair,
    turn: &mut Turn,
    tell: &dyn Fn(&str),
) -> Result<(), LabError> {
    let does = |what| arguments.what.contains(&what);
    let mut cpu = Ok(None);
    if does(What::Ping) {
        tell("ping");
        (turn.ping, turn.lost) = ping(lab, pair)?;
    }
    if does(What::Tcp) {
        tell("TCP x1");
        let before = usage(pair);
        let how = (arguments.secs, arguments.congestion.as_deref());
        let tcp = iperf::tcp(lab, pair.inner, 1, how)?;
        cpu = before.and_then(|before| Ok(per_gigabyte(&before, &usage(pair)?, tcp.octets)));
        turn.tcp1 = Some(tcp);
        tell("TCP x4");
        turn.tcp4 = Some(iperf::tcp(lab, pair.inner, 4, how)?);
    }
    if does(What::Udp) {
        tell("UDP");
        turn.udp = Some(blast::lossless(lab, pair.inner, arguments.size())?);
    }
    // What it is not known of has its other figures.
    turn.cpu = cpu?;
    Ok(())
}

/// Processor seconds of programs for a gigabyte of these octets; nothing without any: the kernel's work is nobody's.
fn per_gigabyte(before: &[Usage], after: &[Usage], octets: f64) -> Option<f64> {
    let used = after.iter().zip(before).map(|(now, then)| now.since(then).as_secs_f64());
    (!after.is_empty()).then(|| used.sum::<f64>() / (octets / 1e9).max(1e-9))
}

fn usage(pair: &Pair) -> Result<Vec<Usage>, LabError> {
    let of = |pid| Process::find(pid).and_then(Process::usage);
    pair.programs
        .iter()
        .map(|running| of(running.pid()))
        .collect::<std::io::Result<_>>()
        .about("processor time")
}

/// The median of some pings, and how many were lost.
fn ping(lab: &Lab, pair: &Pair) -> Result<(Option<f64>, u32), LabError> {
    let [near, far] = pair.inner.map(|address| address.to_string());
    let text = lab.run(0, "ping", &["-n", "-c", &PINGS.to_string(), "-i", "0.05", "-I", &near, &far])?;
    Ok(answered(&text))
}

/// `ping` is content with one answer.
fn answered(text: &str) -> (Option<f64>, u32) {
    let times = times(text);
    (median(&times), PINGS.saturating_sub(u32::try_from(times.len()).unwrap_or(u32::MAX)))
}

/// What is told of pings that were lost, if they are more than one: the last of them is not waited for long.
fn lost(lost: u32) -> Option<String> {
    (lost > 1).then(|| format!("{lost} of {PINGS} pings were not answered"))
}

/// Milliseconds of each answer.
fn times(text: &str) -> Vec<f64> {
    text.lines()
        .filter_map(|line| line.split_once("time=")?.1.split_whitespace().next()?.parse().ok())
        .collect()
}

/// Who is asked what a tunnel costs.
#[derive(Default)]
struct Responders {
    culvert: Option<Culvert>,
    strongswan: Option<StrongSwan>,
}

impl Responders {
    fn find(arguments: &Arguments, wanted: impl Fn(&Name) -> bool) -> Self {
        Self {
            culvert: Some(Name::Culvert).filter(&wanted).and_then(|_| Culvert::find(arguments).ok()),
            strongswan: Some(Name::Strongswan).filter(&wanted).and_then(|_| StrongSwan::find(arguments).ok()),
        }
    }

    fn steps(&self) -> u64 {
        let here = u64::from(self.culvert.is_some()) + u64::from(self.strongswan.is_some());
        here * Kind::ALL.len() as u64
    }

    fn measure(
        &self,
        lab: &Lab,
        round: u32,
        tunnels: u32,
        results: &mut Results,
        tell: &mut dyn FnMut(String),
    ) -> Result<(), LabError> {
        if self.steps() == 0 {
            return Ok(());
        }
        let reference = responders::two_x25519();
        let reference = results.or_tell(lab, || format!("round {round}: two X25519"), reference)?;
        results.x25519.push(reference.unwrap_or(f64::NAN));
        for kind in Kind::ALL {
            let tunnels = kind.tunnels(tunnels);
            let mut keep = |who: Name, open: &dyn Fn() -> Result<Opened, LabError>| {
                let what = || format!("round {round}: {}, handshakes of {}", who.text(), kind.text());
                tell(format!("{}, handshakes of {}", who.text(), kind.text()));
                let opened = results.or_tell(lab, what, open())?;
                let amiss = opened.iter().flat_map(|opened| &opened.amiss);
                results.failed.extend(amiss.map(|amiss| format!("{}: {amiss}", what())));
                let cost = opened.map(|opened| opened.cost);
                results.costs.entry((who, kind)).or_default().push(cost);
                Ok(())
            };
            if let Some(culvert) = &self.culvert {
                keep(Name::Culvert, &|| responders::culvert(lab, culvert, kind, tunnels))?;
            }
            if let Some(strongswan) = &self.strongswan {
                keep(Name::Strongswan, &|| responders::strongswan(lab, strongswan, kind, tunnels))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::words;

    #[test]
    fn an_interrupt_ends_the_rounds_and_loses_none_of_them() {
        let mut results = Results::default();
        assert!(!results.ends(1, Ok(())).unwrap());
        assert!(results.ends(2, Err(LabError::Interrupted)).unwrap());
        assert_eq!(results.failed, ["interrupted in round 2"]);
        assert!(results.ends(3, Err(LabError::NotRoot)).is_err());
    }

    #[test]
    fn where_no_programs_are_there_is_no_processor_time_of_theirs() {
        assert_eq!(per_gigabyte(&[], &[], 1e9), None);
        let idle = [Usage::default()];
        assert_eq!(per_gigabyte(&idle, &idle, 1e9), Some(0.0));
    }

    #[test]
    fn times_of_pings_are_read() {
        let text = "64 bytes from 10.2.0.1: icmp_seq=1 ttl=64 time=0.412 ms\nrubbish time=x\n\
                    64 bytes from 10.2.0.1: icmp_seq=2 ttl=64 time=1.5 ms\n";
        assert_eq!(times(text), [0.412, 1.5]);
    }

    #[test]
    fn pings_that_are_lost_are_told() {
        let text = |answers: u32| {
            let line = |n| format!("64 bytes from 10.2.0.1: icmp_seq={n} ttl=64 time=1.5 ms\n");
            (1..=answers).map(line).collect::<String>()
        };
        assert_eq!(answered(&text(2)), (Some(1.5), 38));
        assert_eq!(lost(38).as_deref(), Some("38 of 40 pings were not answered"));
        assert_eq!((answered(&text(40)), lost(0)), ((Some(1.5), 0), None));
        assert_eq!(answered(""), (None, 40));
    }

    #[test]
    fn who_has_nobody_to_compare_is_told_before_anything_is_set_up() {
        let refused = |words: &str| {
            let arguments: Arguments = words::arguments(words);
            match all(&arguments, &Arc::default()) {
                Err(LabError::Argument(why)) => why,
                other => panic!("{words}: {other:?}"),
            }
        };
        let why = refused("--only raw,boringtun --boringtun /nowhere");
        assert!(why.contains("--only: boringtun: ") && why.contains("cargo install"), "{why}");
        let why = refused("--boringtun /nowhere --what ping");
        assert!(why.contains("--boringtun: boringtun: ") && why.contains("cargo install"), "{why}");
        assert!(refused("--only raw --what handshakes").contains("--what"));
        assert!(refused("--only raw --mtu 1420 --ipv6").contains("at most 1418"));
        assert!(refused("--only raw --what tcp --congestion nobody").contains("--congestion nobody"));
        let nowhere = "--what handshakes --culvertd /nowhere --charon /nowhere";
        assert!(refused(nowhere).contains("nobody"), "{}", refused(nowhere));
    }
}
