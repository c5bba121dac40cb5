//! Keeps copies of real datagrams, and sends what is left of them after truncating, flipping and mixing.
//!
//! A program of its own because it runs in a network namespace:
//!
//! ```text
//! rubbish tap FILE                       writes the datagrams of ports 500 and 4500 that pass, until killed
//! rubbish send FILE ADDRESS SECONDS SEED sends rubbish made of them to both ports, and prints how many it sent
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)] // It is a program of tests: what it prints is its result.
#![allow(unused_crate_dependencies)]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use interop::rubbish::{Recipe, Sample, read_samples};
use socket2::{Domain, Protocol, Socket, Type};

/// `ETH_P_IP` in network byte order, as `packet(7)` wants it.
const ETH_P_IP: i32 = 0x0800_u16.to_be() as i32;
/// Datagrams kept: some of each exchange, and enough ESP to choose from.
const MAX_SAMPLES: usize = 400;
/// Datagrams between two looks at the clock, and the pause after them: some 15,000 a second, which leaves the processor
/// to those that are tested.
const BURST: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["tap", file] => tap(file),
        ["send", file, address, seconds, seed] => send(file, address, seconds, seed),
        _ => Err("usage: rubbish tap FILE | rubbish send FILE ADDRESS SECONDS SEED".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rubbish: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn tap(file: &str) -> Outcome {
    // SOCK_DGRAM: without the link's header, from the IP header on.
    let mut socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ETH_P_IP)))?;
    let mut out = std::fs::File::create(file)?;
    let mut buffer = vec![0; 65536];
    let mut kept = 0;
    while kept < MAX_SAMPLES {
        let length = socket.read(&mut buffer)?;
        if let Some(sample) = buffer.get(..length).and_then(Sample::of_ip_packet) {
            writeln!(out, "{sample}")?;
            kept += 1;
        }
    }
    Ok(())
}

fn send(file: &str, address: &str, seconds: &str, seed: &str) -> Outcome {
    let address: IpAddr = address.parse()?;
    let samples = read_samples(&std::fs::read_to_string(file)?);
    if samples.is_empty() {
        return Err(format!("{file} has no datagrams").into());
    }
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    let end = Instant::now() + Duration::try_from_secs_f64(seconds.parse()?)?;
    let mut recipe = Recipe::new(seed.parse()?);
    let mut sent: u64 = 0;
    while Instant::now() < end {
        for _ in 0..BURST {
            let (port, datagram) = recipe.make(&samples);
            // A refusal of an earlier datagram (ICMP) shows here; it is no failure of this one.
            if socket.send_to(&datagram, (address, port)).is_ok() {
                sent += 1;
            }
        }
        std::thread::sleep(PAUSE);
    }
    println!("{sent}");
    Ok(())
}
