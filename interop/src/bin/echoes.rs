//! Sends a thousand ICMP echo requests a second until its standard input ends, then waits for what is still to be
//! answered, and prints how many it sent, how many were answered, and when those that were not had been sent.
//!
//! `ping` would do but for its end: it waits two round trips for its last answers and no longer, so that it takes an answer
//! for lost which the machine was late to deliver. A program of its own because it runs in a network namespace:
//!
//! ```text
//! echoes FROM TO
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)] // It is a program of tests: what it prints is its result.
#![allow(unused_crate_dependencies)]

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use interop::echo::Echo;
use socket2::{Domain, Protocol, Socket, Type};

/// A thousand a second.
const INTERVAL: Duration = Duration::from_millis(1);
/// How long an answer may take. A tunnel that holds a packet longer than that has lost it for whoever waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests: an hour of them.
const MAX_SENT: usize = 3_600_000;
/// Lost ones that are told of each by itself.
const TOLD: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [from, to] => echoes(from, to),
        _ => Err("usage: echoes FROM TO".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echoes: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What became of the requests, by number.
#[derive(Default)]
struct Ledger {
    /// When it was sent, and whether it was answered.
    requests: Vec<(SystemTime, bool)>,
    answered: usize,
}

impl Ledger {
    fn answer(&mut self, number: u64) {
        let request = usize::try_from(number).ok().and_then(|number| self.requests.get_mut(number));
        if let Some((_, answered @ false)) = request {
            *answered = true;
            self.answered += 1;
        }
    }

    fn print(&self) {
        let lost = self.requests.iter().enumerate().filter(|(_, (_, answered))| !answered);
        let told: Vec<_> =
            lost.take(TOLD).map(|(number, (at, _))| format!("{number} at {}", time(*at))).collect();
        println!(
            "{} echoes sent, {} answered; lost: {}",
            self.requests.len(),
            self.answered,
            if told.is_empty() { "none".to_owned() } else { told.join(", ") }
        );
    }
}

/// The time of day in UTC, as the logs have it.
fn time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let day = since.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:06}", day / 3600, day / 60 % 60, day % 60, since.subsec_micros())
}

fn echoes(from: &str, to: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (from, to): (Ipv4Addr, Ipv4Addr) = (from.parse()?, to.parse()?);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.bind(&SocketAddrV4::new(from, 0).into())?;
    socket.connect(&SocketAddrV4::new(to, 0).into())?;
    let ended = Arc::new(AtomicBool::new(false));
    let end = ended.clone();
    std::thread::spawn(move || {
        // Whatever comes, and the end of it, is the end.
        let _ = io::stdin().read(&mut [0]);
        end.store(true, Ordering::Relaxed);
    });

    let identifier = std::process::id() as u16;
    let mut ledger = Ledger::default();
    let mut next = Instant::now();
    while !ended.load(Ordering::Relaxed) && ledger.requests.len() < MAX_SENT {
        let number = ledger.requests.len() as u64;
        ledger.requests.push((SystemTime::now(), false));
        // One that could not be sent is one that was lost.
        let _ = socket.send(&Echo { identifier, number }.request());
        // Without a burst after a pause: what is behind stays behind.
        next = (next + INTERVAL).max(Instant::now());
        receive(&socket, identifier, &mut ledger, next, false)?;
    }
    receive(&socket, identifier, &mut ledger, Instant::now() + PATIENCE, true)?;
    ledger.print();
    Ok(())
}

/// Takes answers until then, or until there are no more to come.
fn receive(
    mut socket: &Socket,
    identifier: u16,
    ledger: &mut Ledger,
    until: Instant,
    only_outstanding: bool,
) -> io::Result<()> {
    let mut buffer = [0; 256];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || only_outstanding && ledger.answered == ledger.requests.len() {
            return Ok(());
        }
        socket.set_read_timeout(Some(left.max(Duration::from_micros(1))))?;
        // Nothing in time, or an ICMP error for one of them, is no answer.
        let Ok(length) = socket.read(&mut buffer) else { continue };
        let echo = buffer.get(..length).and_then(Echo::reply);
        if let Some(echo) = echo.filter(|echo| echo.identifier == identifier) {
            ledger.answer(echo.number);
        }
    }
}
