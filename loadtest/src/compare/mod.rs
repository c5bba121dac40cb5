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
    #[arg(long, default_value = "5s", value_parser = whole_seconds, value_name = "TIME")]
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
    /// MTU of every tunnel: 1438 at most, and 1418 with --ipv6, as the cable carries packets of 1500 octets
    #[arg(long, default_value_t = 1400, value_parser = clap::value_parser!(u16).range(1280..=1438), value_name = "OCTETS")]
    mtu: u16,
    /// IPv6 inside and outside
    #[arg(long)]
    ipv6: bool,
    /// Of the contestants that have a choice
    #[arg(long, value_enum, default_value_t = Cipher::Aes128gcm16)]
    cipher: Cipher,
    /// Congestion control of TCP [default: the system's]
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,
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

/// What `iperf3` measures for: it counts in whole seconds, a day of them at most.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    let fits = time.subsec_nanos() == 0 && (1..=86_400).contains(&time.as_secs());
    if fits { Ok(time) } else { Err("expected whole seconds, from 1s to 1d".to_owned()) }
}

/// The largest packet that ESP with AES-GCM in UDP carries over the cable without fragments; of the others none adds more.
const fn largest_mtu(ipv6: bool) -> u16 {
    let room = lab::CABLE_MTU - if ipv6 { 40 } else { 20 } - UDP_HEADER - ESP_BESIDE;
    // Of the payload, its padding and the two octets behind it there are whole words (RFC 4303 section 2.4).
    room / 4 * 4 - 2
}

/// Octets of the header of UDP; and of SPI, sequence number, IV and ICV (RFC 4106).
const UDP_HEADER: u16 = 8;
const ESP_BESIDE: u16 = 8 + 8 + 16;

impl Arguments {
    /// # Errors
    /// If a packet of a tunnel would not fit the cable: everybody would be measured with fragments.
    fn check_mtu(&self) -> Result<(), LabError> {
        let largest = largest_mtu(self.ipv6);
        if self.mtu <= largest {
            return Ok(());
        }
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        let text = format!(
            "--mtu {}: expected at most {largest}, which is what fits in ESP over {family}",
            self.mtu
        );
        Err(LabError::Argument(text))
    }

    /// The option that names a contestant, by its name or by its program, if any does.
    fn asks_for(&self, name: Name) -> Option<&'static str> {
        let by_program = || match name {
            Name::WireguardGo => self.wireguard_go.is_some().then_some("--wireguard-go"),
            Name::Boringtun => self.boringtun.is_some().then_some("--boringtun"),
            Name::Strongswan => self.charon.is_some().then_some("--charon"),
            Name::Culvert => self.culvertd.is_some().then_some("--culvertd"),
            Name::Raw | Name::Forwarder | Name::ForwarderPlain => None,
        };
        // Handshakes take less of a program than a tunnel does.
        let by_name = self.only.contains(&name).then_some("--only");
        by_name.or_else(|| if self.needs_tunnels() { by_program() } else { None })
    }

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
    use esp::{Encryption, Limits, OutboundSa, SaKeys, Spi, Suite};

    use super::*;
    use crate::engine::words;

    #[test]
    fn datagrams_fill_the_mtu_in_either_family() {
        let size = |words: &str| words::arguments::<Arguments>(words).size();
        assert_eq!([size(""), size("--ipv6"), size("--mtu 1300")], [1372, 1352, 1272]);
        assert_eq!(size("--size 64 --ipv6"), 64);
    }

    #[test]
    fn the_largest_mtu_is_what_esp_carries_over_the_cable() {
        for encryption in [Encryption::AesGcm16_128, Encryption::AesGcm16_256, Encryption::ChaCha20Poly1305] {
            let suite = Suite::new(encryption, None, false).expect("a suite of ESP");
            let keys = SaKeys::new(vec![3; suite.key_len()], Vec::new());
            let sa = OutboundSa::new(Spi(0x0410_0007), suite, &keys, &[7; 32], &Limits::default());
            let sa = sa.expect("keys of its lengths");
            for (ipv6, headers, largest) in [(false, 28, 1438), (true, 48, 1418)] {
                assert_eq!(usize::from(largest_mtu(ipv6)), largest);
                assert_eq!(sa.max_payload(1500 - headers), largest, "{encryption:?}");
            }
        }
    }

    #[test]
    fn an_mtu_that_does_not_fit_the_cable_is_refused() {
        let refused =
            |words: &str| words::arguments::<Arguments>(words).check_mtu().err().map(|e| e.to_string());
        assert_eq!((refused("--mtu 1438"), refused("--mtu 1418 --ipv6")), (None, None));
        let why = refused("--mtu 1419 --ipv6").unwrap_or_default();
        assert!(why.contains("--mtu 1419") && why.contains("at most 1418"), "{why}");
    }

    #[test]
    fn a_time_that_is_no_whole_seconds_is_refused() {
        assert_eq!(whole_seconds("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(whole_seconds("1d"), Ok(Duration::from_secs(86_400)));
        for bad in ["0s", "500ms", "1500ms", "86401s", "2d", "5"] {
            assert!(whole_seconds(bad).is_err(), "{bad}");
        }
    }
}
