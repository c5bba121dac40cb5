//! What a tunnel costs a responder: processor time of its handshake with the Child SA, and memory while it stands. The initiator is
//! the same for all of them, `loadtest handshakes`, and what it counts is Child SAs.
//!
//! Responder and initiator are on loopback inside one namespace: in IKEv1 a peer is known by its address, and there everyone has one.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use openssl::derive::Deriver;
use openssl::pkey::{Id, PKey};
use serde_json::Value;

use super::contestants::{Culvert, StrongSwan, Telling, strongswan_responder};
use super::lab::{About as _, Lab, LabError};
use crate::engine::process::Process;

/// Side on which both are.
const SIDE: usize = 1;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The pre-shared key of whoever is not provisioned.
const PSK: &str = "compared-on-one-machine";
/// What opening and closing tunnels may take at the most: all of its waits have limits of their own, which are below.
const OPENING: Duration = Duration::from_secs(900);
const OPENING_EACH: Duration = Duration::from_millis(100);
/// Tunnels of IKEv1 are fewer: each takes a large key exchange, on both sides of the same processors.
const OLD_TUNNELS: u32 = 300;
/// Key agreements that are timed at a time.
const AGREEMENTS: u32 = 2_000;

/// A version of IKE, and what is proposed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// IKEv2, PSK, X25519, AES-GCM
    Ikev2,
    /// IKEv1 in Main Mode, PSK, the group of 2048 bits
    Ikev1,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Ikev2, Self::Ikev1];

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Ikev2 => "ikev2",
            Self::Ikev1 => "ikev1",
        }
    }

    /// Tunnels of it, where so many are asked for.
    pub(crate) fn tunnels(self, asked: u32) -> u32 {
        match self {
            Self::Ikev2 => asked,
            Self::Ikev1 => asked.min(OLD_TUNNELS),
        }
    }

    const fn proposal(self) -> &'static str {
        match self {
            Self::Ikev2 => "aes128gcm16-prfsha256-x25519",
            Self::Ikev1 => "aes128-sha256-modp2048",
        }
    }
}

/// What one tunnel has cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    /// Processor time of the responder in microseconds.
    pub(crate) micros: f64,
    /// Its resident memory in octets.
    pub(crate) octets: f64,
    /// Child SAs a second, the initiator being on the same processors.
    pub(crate) rate: f64,
    /// Tunnels that did not come up.
    pub(crate) failed: u64,
}

/// What has come of opening tunnels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Opened {
    /// Of those that came up.
    pub(crate) cost: Cost,
    /// What was not as it should be.
    pub(crate) amiss: Vec<String>,
}

/// Opens so many tunnels at Culvert.
pub(crate) fn culvert(lab: &Lab, culvert: &Culvert, kind: Kind, tunnels: u32) -> Result<Opened, LabError> {
    let folder = lab.folder("responder-culvert")?;
    let opened = culvert
        .daemon(lab, SIDE, LOOPBACK, &folder)
        .and_then(|(running, api)| open(lab, kind, tunnels, running.pid(), &["--server", &api]));
    lab.clear(&folder)?;
    opened
}

/// Opens so many tunnels at strongSwan.
pub(crate) fn strongswan(
    lab: &Lab,
    charon: &StrongSwan,
    kind: Kind,
    tunnels: u32,
) -> Result<Opened, LabError> {
    let folder = lab.folder("responder-strongswan")?;
    let version = if kind == Kind::Ikev1 { 1 } else { 2 };
    let connections = strongswan_responder(LOOPBACK, version, kind.proposal(), PSK);
    let running = charon.daemon(lab, SIDE, &folder, &connections, Telling::Start)?;
    let file = folder.join("psk");
    std::fs::write(&file, PSK).about(file.display().to_string())?;
    let words = ["--no-provision", "--psk-file", &file.display().to_string()];
    let opened = open(lab, kind, tunnels, running.pid(), &words);
    drop(running);
    lab.clear(&folder)?;
    opened
}

fn open(lab: &Lab, kind: Kind, tunnels: u32, pid: u32, words: &[&str]) -> Result<Opened, LabError> {
    let own = std::env::current_exe().about("this program")?.display().to_string();
    let limit = OPENING + OPENING_EACH * tunnels;
    let (pid, tunnels) = (pid.to_string(), tunnels.to_string());
    let all = ["handshakes", "--output", "json", "--responder-pid", &pid, "--count", &tunnels];
    let all = [&all[..], &["--version", kind.text(), "--ike", kind.proposal(), "--concurrency", "32"], words]
        .concat();
    // It has reported even if something failed.
    let text = lab.run_to(SIDE, &own, &all, &[0, 1], limit)?;
    parse(&text).map_err(|error| LabError::Program("loadtest handshakes".to_owned(), error))
}

fn parse(text: &str) -> Result<Opened, String> {
    let line = text.lines().last().unwrap_or_default();
    let json: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let figures = json.get("figures");
    let number = |name: &str| {
        figures
            .and_then(|figures| figures.get(name))
            .and_then(Value::as_f64)
            .ok_or(format!("it tells no {name}"))
    };
    let list = |name: &str| json.get(name).and_then(Value::as_array).into_iter().flatten();
    let failures =
        list("failures").map(|failure| format!("{} times: {}", failure["count"], failure["cause"]));
    let missed = list("checks").filter(|check| check["passed"] != true);
    let missed =
        missed.map(|check| format!("{} {}: {}", check["threshold"], check["limit"], check["measured"]));
    let amiss: Vec<_> = missed.chain(failures).map(|text| text.replace('"', "")).collect();
    let number = |name: &str| number(name).map_err(|error| format!("{error}; {}", amiss.join("; ")));
    let cost = Cost {
        micros: number("responderCpuMicros")?,
        octets: number("responderKibibytes")? * 1024.0,
        rate: number("childSasPerSecond")?,
        failed: figures.and_then(|figures| figures.get("failed")).and_then(Value::as_u64).unwrap_or(0),
    };
    Ok(Opened { cost, amiss })
}

/// Microseconds that the two operations of an X25519 exchange take: making a key, and agreeing on a secret.
pub(crate) fn two_x25519() -> Result<f64, LabError> {
    let failed =
        |error: openssl::error::ErrorStack| LabError::Program("X25519".to_owned(), error.to_string());
    let theirs = PKey::generate_x25519().map_err(failed)?;
    let public = theirs.raw_public_key().map_err(failed)?;
    let theirs = PKey::public_key_from_raw_bytes(&public, Id::X25519).map_err(failed)?;
    // Processor time, as everybody's: others may be at work.
    let usage = || Process::find(std::process::id()).and_then(Process::usage).about("processor time");
    let before = usage()?;
    for _ in 0..AGREEMENTS {
        let own = PKey::generate_x25519().map_err(failed)?;
        let mut deriver = Deriver::new(&own).map_err(failed)?;
        deriver.set_peer(&theirs).map_err(failed)?;
        deriver.derive_to_vec().map_err(failed)?;
    }
    let each = usage()?.since(&before) / AGREEMENTS;
    Ok(each.as_secs_f64() * 1e6)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_read() {
        let text = r#"{"figures":{"responderCpuMicros":150.5,"responderKibibytes":10,"childSasPerSecond":4000,"failed":0},
                       "checks":[{"threshold":"--max-failed","limit":"<= 0","measured":0.0,"passed":true}],"failures":[]}"#;
        let cost = Cost { micros: 150.5, octets: 10_240.0, rate: 4_000.0, failed: 0 };
        let text = text.replace('\n', " ");
        assert_eq!(parse(&text).unwrap(), Opened { cost, amiss: Vec::new() });
        assert!(parse("{}").unwrap_err().contains("responderCpuMicros"));
        assert!(parse("nothing").is_err());
    }

    #[test]
    fn a_handshake_that_failed_is_told_beside_what_the_others_cost() {
        let checks =
            r#""checks":[{"threshold":"--max-failed","limit":"<= 0","measured":1.0,"passed":false}]"#;
        let failures = r#""failures":[{"cause":"NO_PROPOSAL_CHOSEN","count":1}]"#;
        let figures =
            r#""figures":{"responderCpuMicros":1,"responderKibibytes":1,"childSasPerSecond":1,"failed":1}"#;
        let opened = parse(&format!("{{{figures},{checks},{failures}}}")).unwrap();
        assert_eq!(opened.cost.failed, 1);
        assert_eq!(opened.amiss, ["--max-failed <= 0: 1.0", "1 times: NO_PROPOSAL_CHOSEN"]);
        let none = r#""figures":{"responderCpuMicros":null,"failed":5}"#;
        let error = parse(&format!("{{{none},{checks},{failures}}}")).unwrap_err();
        assert!(error.contains("responderCpuMicros") && error.contains("NO_PROPOSAL_CHOSEN"), "{error}");
    }

    #[test]
    fn a_key_exchange_takes_some_time() {
        assert!(two_x25519().unwrap() > 1.0);
    }
}
