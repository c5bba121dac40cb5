//! A tunnel as neither side writes it down: what every exporter reads and every importer makes.
//!
//! There is no "local" and no "remote" here, for each side calls the other so: the two ends are `culvert` and `device`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ike::Identity;
use tenants::Cidr;

use super::import::octets::shown;
use super::suite::Suite;

/// A tunnel between Culvert and a device.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tunnel {
    /// The last part of the peer's name.
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) culvert: End,
    pub(crate) device: End,
    pub(crate) key: Key,
    /// For the IKE SA, in the order of preference; none stands for the defaults of Culvert.
    pub(crate) ike: Vec<Suite>,
    pub(crate) ike_life: Life,
    /// Seconds between liveness checks.
    pub(crate) dpd: Option<u64>,
    pub(crate) starts: Starts,
    /// ESP goes in UDP whether or not there is a NAT.
    pub(crate) force_udp: bool,
    pub(crate) children: Vec<Child>,
}

/// How the IKE SA is negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V2,
    /// In Main Mode.
    V1,
    V1Aggressive,
}

impl Version {
    /// IKEv1 or not, and in which mode.
    pub(crate) const fn of(v1: bool, aggressive: bool) -> Self {
        match (v1, aggressive) {
            (false, _) => Self::V2,
            (true, false) => Self::V1,
            (true, true) => Self::V1Aggressive,
        }
    }

    pub(crate) const fn is_v1(self) -> bool {
        matches!(self, Self::V1 | Self::V1Aggressive)
    }
}

/// One end of the tunnel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    /// Where it is, as in `remoteAddresses`; empty if nobody knows.
    pub(crate) addresses: Vec<String>,
    pub(crate) identity: Identity,
}

/// The pre-shared key, where that is how the two prove who they are.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// They have certificates in its place.
    Certificates,
    /// Nobody has said it.
    Unknown,
    Known(Vec<u8>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificates => "Certificates",
            Self::Unknown => "Unknown",
            Self::Known(_) => "Known(..)",
        })
    }
}

/// Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Life {
    /// It is rekeyed after this long.
    pub(crate) rekey: Option<u64>,
    /// It ends after this long.
    pub(crate) life: Option<u64>,
}

impl Life {
    /// What a device is told that knows one time only: when it ends.
    pub(crate) fn end(self) -> Option<u64> {
        self.life.or(self.rekey)
    }
}

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starts {
    Device,
    Culvert,
    /// Culvert, when a packet is there for the tunnel.
    Packets,
}

/// A Child SA.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) transport: bool,
    /// Subnets behind each end.
    pub(crate) culvert: Vec<Cidr>,
    pub(crate) device: Vec<Cidr>,
    /// For ESP, in the order of preference; none stands for the defaults of Culvert.
    pub(crate) esp: Vec<Suite>,
    pub(crate) life: Life,
    /// Octets after which it ends.
    pub(crate) life_bytes: Option<u64>,
}

impl Child {
    /// Whether it carries whatever is routed to it, both sides in one and the same address family.
    pub(crate) fn carries_all(&self) -> bool {
        let all = |subnets: &[Cidr]| matches!(subnets, [only] if only.prefix() == 0);
        all(&self.culvert) && all(&self.device)
    }
}

/// A child, by its place among those of a tunnel, and the tunnel by its own: names are changed until all are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carrier {
    pub(crate) tunnel: usize,
    pub(crate) child: usize,
}

/// What becomes of some packets, as an ordered list of the device says it, seen from Culvert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The child that carries them; without one they are not protected.
    pub(crate) protect: Option<Carrier>,
    /// Empty: all.
    pub(crate) culvert: Vec<Cidr>,
    pub(crate) device: Vec<Cidr>,
    /// Empty: all.
    pub(crate) protocol: String,
    pub(crate) culvert_ports: Vec<String>,
    pub(crate) device_ports: Vec<String>,
}

/// What was found in a file of a device.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) tunnels: Vec<Tunnel>,
    /// In order; empty where the children's subnets say it all.
    pub(crate) rules: Vec<Rule>,
    /// Something that the device protects is not among the tunnels: what no rule protects may be just that, and is not to go in the clear.
    pub(crate) lacking: bool,
}

impl Found {
    /// The peer and the child by their names.
    pub(crate) fn names_of(&self, carrier: Carrier) -> Option<(&str, &str)> {
        let tunnel = self.tunnels.get(carrier.tunnel)?;
        Some((&tunnel.name, &tunnel.children.get(carrier.child)?.name))
    }

    /// The same as the other end has it: the file is of a gateway that Culvert takes the place of.
    pub(crate) fn exchanged(mut self) -> Self {
        for tunnel in &mut self.tunnels {
            std::mem::swap(&mut tunnel.culvert, &mut tunnel.device);
            tunnel.starts = match tunnel.starts {
                Starts::Device => Starts::Culvert,
                Starts::Culvert => Starts::Device,
                Starts::Packets => Starts::Packets,
            };
            if tunnel.device.addresses.iter().all(|address| address.contains('/')) {
                // There is nobody to begin with.
                tunnel.starts = Starts::Device;
            }
            for child in &mut tunnel.children {
                std::mem::swap(&mut child.culvert, &mut child.device);
            }
        }
        for rule in &mut self.rules {
            std::mem::swap(&mut rule.culvert, &mut rule.device);
            std::mem::swap(&mut rule.culvert_ports, &mut rule.device_ports);
        }
        self
    }
}

/// A line of a file, from 1 on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: Arc<str>,
    pub(crate) line: usize,
}

/// What could not be taken over, and where it stands.
#[derive(Debug, Default)]
pub(crate) struct Notes(BTreeMap<Place, Vec<String>>);

impl Notes {
    pub(crate) fn add(&mut self, place: &Place, reason: impl Into<String>) {
        let (reasons, reason) = (self.0.entry(place.clone()).or_default(), shown(&reason.into()));
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `file:line: reason`, in the order of lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |place: &Place, reason: &String| format!("{}:{}: {reason}", place.file, place.line);
        self.0
            .iter()
            .flat_map(|(place, reasons)| reasons.iter().map(move |reason| line(place, reason)))
            .collect()
    }
}

/// Of a name (a DNS label).
pub(crate) const MAX_NAME: usize = 63;

/// A name that Culvert takes for a peer or a child: of what the device calls it the characters that may be in one. What is
/// told apart there may have one name here, so it is for people and no key.
pub(crate) fn id_of(text: &str, fallback: &str) -> String {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let folded: String = text.chars().map(fold).collect();
    let begun = folded.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let cut: String = begun.chars().take(MAX_NAME).collect();
    let id = cut.trim_end_matches('-');
    if id.is_empty() { fallback.to_owned() } else { id.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_become_names_of_culvert() {
        for (text, expected) in [
            ("Branch_12", "branch-12"),
            ("12-branch", "branch"),
            ("VPN to HQ!", "vpn-to-hq"),
            ("123", "peer-1"),
            ("", "peer-1"),
        ] {
            assert_eq!(id_of(text, "peer-1"), expected);
        }
        assert_eq!(id_of(&"a".repeat(99), "x").len(), 63);
    }

    #[test]
    fn notes_are_in_the_order_of_lines_and_once() {
        let (mut notes, at) = (Notes::default(), |line| Place { file: "a.conf".into(), line });
        notes.add(&at(7), "b");
        notes.add(&at(2), "a");
        notes.add(&at(7), "b");
        assert_eq!(notes.lines(), ["a.conf:2: a", "a.conf:7: b"]);
    }
}
