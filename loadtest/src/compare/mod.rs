//! Culvert beside others: on one machine, in one run, turn by turn.
//!
//! Two network namespaces with a cable between them (`lab.rs`); in both of them the same program, as a `contestants/` starts it;
//! through its tunnel TCP (`iperf.rs`), UDP as fast as nothing is lost (`blast.rs`) and a ping. `responders.rs` is what a handshake
//! and a tunnel cost. `stats.rs` makes ratios of all that, `report.rs` tables and JSON. `forward.rs` is what bounds everyone: the
//! same path without a tunnel's work. `running.rs` is a program that runs, `output.rs` runs one
//! within a time. `sys.rs` is what needs the kernel's own interface.

mod blast;
mod contestants;
pub mod forward;
mod goals;
mod iperf;
mod lab;
mod output;
mod report;
mod responders;
mod running;
mod stats;
mod sys;
mod turn;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;

use crate::Output;
use crate::engine::stop::Signals;
use crate::engine::times::time;
use contestants::Name;
use lab::LabError;

/// `loadtest compare`
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// How often everyone has a turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "N")]
    rounds: u32,
    /// How long each TCP measurement goes on
    #[arg(long, default_value = "5s", value_parser = time, value_name = "TIME")]
    secs: Duration,
    /// Who takes part [default: everyone that is installed]
    #[arg(long, value_delimiter = ',', value_enum, value_name = "WHO")]
    only: Vec<Name>,
    /// What is measured
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = What::ALL, value_name = "WHAT")]
    what: Vec<What>,
    /// Octets of a datagram's payload where UDP is measured [default: what the MTU has room for]
    #[arg(long, value_parser = clap::value_parser!(u16).range(16..=8900), value_name = "OCTETS")]
    size: Option<u16>,
    /// MTU of every tunnel
    #[arg(long, default_value_t = 1400, value_parser = clap::value_parser!(u16).range(1280..=1440), value_name = "OCTETS")]
    mtu: u16,
    /// IPv6 inside and outside
    #[arg(long)]
    ipv6: bool,
    /// Of the contestants that have a choice
    #[arg(long, value_enum, default_value_t = Cipher::Aes128gcm16)]
    cipher: Cipher,
    /// SAs of Culvert's tunnel at the same time: `resourceSas` of its child
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64), value_name = "N")]
    resource_sas: u8,
    /// Tunnels that are opened to see what one costs a responder
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=100_000), value_name = "N")]
    tunnels: u32,
    /// The daemon [default: culvertd beside this program]
    #[arg(long, value_name = "FILE")]
    culvertd: Option<PathBuf>,
    /// wireguard-go, such as Debian 13's [default: of the PATH]
    #[arg(long, value_name = "FILE")]
    wireguard_go: Option<PathBuf>,
    /// boringtun-cli [default: of the PATH]
    #[arg(long, value_name = "FILE")]
    boringtun: Option<PathBuf>,
    /// charon of strongSwan [default: where Debian has it]
    #[arg(long, value_name = "FILE")]
    charon: Option<PathBuf>,
    /// Keep configurations and logs, and say where
    #[arg(long)]
    keep: bool,
    /// Exit 1 if a goal is missed, or what it takes is not there
    #[arg(long)]
    require: bool,
    /// How the figures are printed
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// The same as --output json
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Octets of a datagram's payload.
    fn size(&self) -> u16 {
        // The headers of UDP and of IPv6 or IPv4: what is larger would go in two pieces.
        self.size.unwrap_or(self.mtu - if self.ipv6 { 48 } else { 28 })
    }

    /// Whether anything is measured that goes through a tunnel.
    fn needs_tunnels(&self) -> bool {
        [What::Tcp, What::Udp, What::Ping].iter().any(|what| self.what.contains(what))
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// Throughput of one and of four streams
    Tcp,
    /// The highest rate of datagrams without loss
    Udp,
    /// The time there and back through an idle tunnel
    Ping,
    /// What a responder spends on a tunnel, in processor time and memory
    Handshakes,
}

impl What {
    const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Ping, Self::Handshakes];
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A cipher that IPsec contestants are configured with. WireGuard has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Cipher {
    /// AES-128-GCM
    Aes128gcm16,
    /// AES-256-GCM
    Aes256gcm16,
    /// ChaCha20-Poly1305
    Chacha20poly1305,
}

impl Cipher {
    /// As both name it in proposals.
    const fn name(self) -> &'static str {
        match self {
            Self::Aes128gcm16 => "aes128gcm16",
            Self::Aes256gcm16 => "aes256gcm16",
            Self::Chacha20poly1305 => "chacha20poly1305",
        }
    }
}

/// Runs the comparison; true if no goal that is required is missed.
///
/// # Errors
/// [`LabError`]: what cannot be set up. What was set up is taken down.
pub async fn run(arguments: &Arguments) -> Result<bool, LabError> {
    let stop = Arc::new(AtomicBool::new(false));
    let interrupted = stop.clone();
    let mut signals = Signals::listen();
    let watch = tokio::spawn(async move {
        signals.next().await;
        interrupted.store(true, Ordering::Relaxed);
    });
    let arguments = arguments.clone();
    let work = tokio::task::spawn_blocking(move || turn::all(&arguments, &stop));
    let outcome =
        work.await.map_err(|error| LabError::Program("the comparison".to_owned(), error.to_string()))?;
    watch.abort();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::words;

    #[test]
    fn datagrams_fill_the_mtu_in_either_family() {
        let size = |words: &str| words::arguments::<Arguments>(words).size();
        assert_eq!([size(""), size("--ipv6"), size("--mtu 1300")], [1372, 1352, 1272]);
        assert_eq!(size("--size 64 --ipv6"), 64);
    }
}
