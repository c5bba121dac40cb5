//! First messages of nobody, as fast as somebody may send them who invents his addresses: to see that tunnels and newcomers do
//! not notice. It sends to a loopback address and from loopback addresses only, so many, for so long, and no more.

mod forge;
mod forge_v1;
mod listener;
mod rate;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use clap::Args;
use ike::config::Opening;
use ike::wire::Message;
use ike::wire::message::Payloads;
use ike::wire::numbers::NotifyType;
use indicatif::ProgressBar;
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

pub use forge::{Forge, Kind};
use rate::Kept;

use crate::engine::causes::Causes;
use crate::engine::live::progress;
use crate::engine::output::Reporting;
use crate::engine::stop::Stop;
use crate::engine::summary::Summary;
use crate::engine::threshold::Check;
use crate::engine::times::short;
use crate::fleet::LoadError;

/// The Informational exchange of IKEv1.
const INFORMATIONAL_V1: u8 = 5;
/// How often a turn's share is sent.
const TURN: Duration = Duration::from_millis(2);
/// Answers that are looked at after each share, so that sending does not wait for them.
const ANSWERS: usize = 1_000;

/// `loadtest flood`
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Where the node receives IKE: a loopback address
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST, value_name = "ADDRESS", value_parser = loopback)]
    address: Ipv4Addr,
    /// Its UDP port of IKE
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..))]
    ike_port: u16,
    /// What is sent
    #[arg(long, value_enum, default_value_t = Kind::Mixed)]
    kind: Kind,
    /// What they open
    #[arg(long, value_enum, default_value_t = Begin::Ikev2)]
    begin: Begin,
    /// Messages per second
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// From so many addresses of 127.1.0.0/16 in turn
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    addresses: u32,
    /// How long
    #[arg(long = "for", default_value = "10s", value_parser = short, value_name = "TIME")]
    duration: Duration,
    /// Fail if fewer messages a second were sent: a flood that was none shows nothing
    #[arg(long, value_name = "N", help_heading = "Thresholds")]
    min_rate: Option<f64>,
    #[command(flatten)]
    reporting: Reporting,
}

impl Arguments {
    /// Whether any node answers some of these messages, if only by a cookie. Of others some need no answer (RFC 7296 section 2.21.1),
    /// and who speaks no IKEv1 answers none of it.
    fn are_answered(&self) -> bool {
        self.begin == Begin::Ikev2 && matches!(self.kind, Kind::Good | Kind::Mixed)
    }
}

/// What first messages open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Begin {
    /// IKE_SA_INIT
    Ikev2,
    /// Main Mode of IKEv1
    Main,
    /// Aggressive Mode of IKEv1
    Aggressive,
}

impl Begin {
    const fn opening(self) -> Opening {
        match self {
            Self::Ikev2 => Opening::Init,
            Self::Main => Opening::Main,
            Self::Aggressive => Opening::Aggressive,
        }
    }
}

fn loopback(text: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = text.parse().map_err(|_| format!("{text} is no IPv4 address"))?;
    if address.is_loopback() { Ok(address) } else { Err(format!("{text} is not in 127.0.0.0/8")) }
}

/// What has come of it.
#[derive(Debug, Default)]
struct Report {
    sent: u64,
    /// Messages that the system did not take, and why.
    unsent: u64,
    causes: Causes,
    /// Messages that were due, and that this program did not get to.
    late: u64,
    /// Answers that ask for a cookie, refuse, and go on.
    cookies: u64,
    refused: u64,
    accepted: u64,
}

impl Report {
    fn count(&mut self, answer: &[u8]) {
        if answer.get(17) == Some(&0x10) {
            // A refusal is an Informational of one Notify (RFC 2408 section 5).
            match answer.get(18) {
                Some(&INFORMATIONAL_V1) => self.refused += 1,
                _ => self.accepted += 1,
            }
            return;
        }
        let Ok(message) = Message::parse(answer) else { return };
        let payloads = Payloads(&message.chain.payloads);
        if payloads.notify(NotifyType::COOKIE).is_some() {
            self.cookies += 1;
        } else if payloads.error().is_some() {
            self.refused += 1;
        } else {
            self.accepted += 1;
        }
    }

    fn summary(&self, seed: u64, elapsed: Duration, arguments: &Arguments) -> Summary {
        let rate = self.sent as f64 / elapsed.as_secs_f64().max(0.001);
        let mut summary = Summary::new("flood", seed);
        summary.count("sent", "first messages sent", self.sent);
        summary.measure("seconds", "in", Some(elapsed.as_secs_f64()), "s");
        summary.measure("perSecond", "sent a second", Some(rate), "/s");
        summary.count("unsent", "not taken by the system", self.unsent);
        summary.count("late", "not sent, too slow here", self.late);
        summary.count("cookies", "answered by a cookie", self.cookies);
        summary.count("refused", "refused", self.refused);
        summary.count("accepted", "accepted", self.accepted);
        // No failure: a node whose peers are all known by their addresses is right to say nothing to anybody else.
        if arguments.are_answered() && self.sent > 0 && self.cookies + self.refused + self.accepted == 0 {
            let causes = Causes::default();
            causes
                .note("no answer of any kind: is it a node, and has it a peer that may come from anywhere?");
            summary.causes(&causes);
        }
        summary.causes(&self.causes);
        summary.check(Check::at_least("messages sent", 1.0, Some(self.sent as f64), ""));
        if let Some(limit) = arguments.min_rate {
            summary.check(Check::at_least("--min-rate", limit, Some(rate), "/s"));
        }
        summary
    }
}

/// Runs the flood, in the thread that calls, until its end or an interrupt; true if all thresholds are met.
///
/// # Errors
/// When there is no socket, or no key pair.
pub fn run(arguments: &Arguments) -> Result<bool, LoadError> {
    let stop = Stop::on_interrupt();
    let seed = arguments.reporting.begin()?;
    let to = SocketAddr::new(IpAddr::V4(arguments.address), arguments.ike_port);
    if !listener::is_there(to).map_err(|error| LoadError::Io(format!("trying {to}"), error))? {
        let text = format!(
            "nobody receives at UDP {to} (--address, --ike-port), and to flood nobody shows nothing; does the node run, and \
             listen there (ike.listen)?"
        );
        return Err(LoadError::Argument(text));
    }
    let (report, elapsed) =
        send(arguments, seed, &stop).map_err(|error| LoadError::Io("flooding".to_owned(), error))?;
    report.summary(seed, elapsed, arguments).tell(&arguments.reporting)
}

/// What has come of it, and how long it has sent.
fn send(arguments: &Arguments, seed: u64, stop: &Stop) -> io::Result<(Report, Duration)> {
    let mut sender = Sender::new(arguments, seed)?;
    let Kept { late, elapsed } = rate::keep(&mut sender, arguments.rate, arguments.duration, stop);
    sender.bar.finish();
    Ok((Report { late, ..sender.report }, elapsed))
}

/// Who sends: one socket, from an address after the other.
struct Sender {
    socket: UdpSocket,
    state: UdpSocketState,
    to: SocketAddr,
    addresses: u32,
    forge: Forge,
    number: u32,
    buffer: Vec<u8>,
    report: Report,
    begin: Instant,
    bar: ProgressBar,
}

impl Sender {
    fn new(arguments: &Arguments, seed: u64) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        socket.set_nonblocking(true)?;
        let forge =
            Forge::seeded(arguments.begin.opening(), arguments.kind, seed).map_err(io::Error::other)?;
        let seconds = u32::try_from(arguments.duration.as_secs()).unwrap_or(u32::MAX);
        Ok(Self {
            socket,
            state,
            to: SocketAddr::new(IpAddr::V4(arguments.address), arguments.ike_port),
            addresses: arguments.addresses,
            forge,
            number: 0,
            buffer: vec![0; 65_536],
            report: Report::default(),
            begin: Instant::now(),
            bar: progress(seconds, "flooding"),
        })
    }
}

impl rate::Sender for Sender {
    fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    fn send(&mut self) {
        let [_, _, high, low] = (self.number % self.addresses).to_be_bytes();
        self.number = self.number.wrapping_add(1);
        let contents = self.forge.message();
        let transmit = Transmit {
            destination: self.to,
            ecn: None,
            contents: &contents,
            segment_size: None,
            src_ip: Some(IpAddr::V4(Ipv4Addr::new(127, 1, high, low))),
        };
        match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
            Ok(()) => self.report.sent += 1,
            Err(error) => {
                self.report.unsent += 1;
                self.report.causes.note(&format!("sending: {error}"));
            }
        }
    }

    fn answers(&mut self) {
        for _ in 0..ANSWERS {
            let Ok((length, _)) = self.socket.recv_from(&mut self.buffer) else { break };
            self.report.count(self.buffer.get(..length).unwrap_or_default());
        }
    }

    fn pause(&mut self) {
        let elapsed = self.elapsed();
        if self.bar.position() != elapsed.as_secs() {
            self.bar.set_position(elapsed.as_secs());
            self.bar
                .set_message(format!("{:.0} messages/s", self.report.sent as f64 / elapsed.as_secs_f64()));
        }
        std::thread::sleep(TURN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::words::arguments;

    #[test]
    fn who_floods_nobody_is_told() {
        let deaf = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        deaf.connect((Ipv4Addr::LOCALHOST, 9)).unwrap();
        let port = deaf.local_addr().unwrap().port();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _within = runtime.enter();
        let error = run(&arguments(&format!("--ike-port {port} --for 1s"))).unwrap_err().to_string();
        assert!(error.contains("nobody receives") && error.contains("--ike-port"), "{error}");
    }

    #[test]
    fn that_nobody_has_answered_is_told_where_some_would_be() {
        let wonders = |words: &str, report: Report| {
            let summary = report.summary(0, Duration::from_secs(1), &arguments(words));
            assert!(summary.passed());
            format!("{summary:?}").contains("has it a peer")
        };
        let silent = || Report { sent: 1_000, ..Report::default() };
        assert!(wonders("", silent()) && wonders("--kind good", silent()));
        assert!(!wonders("--kind zeros", silent()) && !wonders("--begin main", silent()));
        for answered in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let (cookies, refused, accepted) = answered;
            assert!(!wonders("", Report { cookies, refused, accepted, ..silent() }), "{answered:?}");
        }
    }

    #[test]
    fn a_flood_of_which_the_system_takes_nothing_is_no_success_and_says_why() {
        let arguments: Arguments = arguments("--rate 1000");
        let mut sender = Sender::new(&arguments, 0).unwrap();
        // An address of IPv6 is none that this socket sends to.
        sender.to = "[::1]:9".parse().unwrap();
        rate::Sender::send(&mut sender);
        let summary = sender.report.summary(0, Duration::from_secs(1), &arguments);
        let told = format!("{summary:?}");
        assert!(!summary.passed() && told.contains("sending: ") && !told.contains("has it a peer"), "{told}");
    }
}
