//! One entry of an access list: the words behind `permit` and `deny`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use tenants::Cidr;

use super::order::{Packets, Ports};

/// How a list writes a subnet of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Masks {
    /// Ones for what may be anything (IOS).
    Wildcard,
    /// Ones for the network (ASA).
    Network,
}

/// Names for addresses, of objects and groups of such.
pub(super) type Objects = BTreeMap<String, Vec<Cidr>>;

/// Ports by the names that both know them by.
const PORTS: &[(&str, u16)] = &[
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("tftp", 69),
    ("www", 80),
    ("http", 80),
    ("pop3", 110),
    ("ntp", 123),
    ("imap4", 143),
    ("snmp", 161),
    ("snmptrap", 162),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("isakmp", 500),
    ("syslog", 514),
    ("ldaps", 636),
    ("sqlnet", 1521),
    ("sip", 5060),
    ("non500-isakmp", 4500),
];

/// What is left of it.
pub(super) struct Reader<'a> {
    pub(super) words: &'a [&'a str],
    pub(super) masks: Masks,
    pub(super) objects: &'a Objects,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    /// Which packets it is for.
    pub(super) fn entry(&mut self) -> Result<Packets, String> {
        let protocol = match self.next().ok_or("the entry ends early")? {
            "ip" | "ipv4" | "ipv6" => String::new(),
            word @ ("object" | "object-group") => {
                return Err(format!("{word} of services is not taken over"));
            }
            word => protocol(word).ok_or_else(|| format!("{word} is no protocol"))?,
        };
        let device = self.subnets()?;
        let device_ports = self.ports()?;
        let culvert = self.subnets()?;
        let culvert_ports = self.ports()?;
        self.log();
        if let [other, ..] = self.words {
            return Err(format!("{other}: the entry is not taken over"));
        }
        Ok(Packets { culvert, device, protocol, culvert_ports, device_ports })
    }

    /// How it is logged, which may stand before what counts.
    fn log(&mut self) {
        /// Levels by name; they may be numbers too.
        const LEVELS: &[&str] = &[
            "emergencies",
            "alerts",
            "critical",
            "errors",
            "warnings",
            "notifications",
            "informational",
            "debugging",
            "disable",
            "default",
        ];
        if !matches!(self.words, ["log" | "log-input", ..]) {
            return;
        }
        self.next();
        let level = |word: &&str| LEVELS.contains(word) || word.bytes().all(|b| b.is_ascii_digit());
        if self.words.first().is_some_and(level) {
            self.next();
        }
        if matches!(self.words, ["interval", _, ..]) {
            self.next();
            self.next();
        }
    }

    fn subnets(&mut self) -> Result<Vec<Cidr>, String> {
        let all4 = || Cidr::truncated(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).into_iter().collect();
        let word = self.next().ok_or("the entry ends early")?;
        match word {
            "any" | "any4" => Ok(all4()),
            "any6" => {
                "::/0".parse().map(|all| vec![all]).map_err(|error: tenants::CidrError| error.to_string())
            }
            "host" => {
                let host = self.next().unwrap_or_default();
                host.parse().map(|host| vec![Cidr::host(host)]).map_err(|_| format!("{host:?} is no address"))
            }
            "object" | "object-group" => {
                let name = self.next().unwrap_or_default();
                self.objects
                    .get(name)
                    .cloned()
                    .filter(|all| !all.is_empty())
                    .ok_or_else(|| format!("there is no {word} {name}"))
            }
            text if text.contains('/') => {
                text.parse().map(|subnet| vec![subnet]).map_err(|error: tenants::CidrError| error.to_string())
            }
            text => {
                let mask = self.next().unwrap_or_default();
                subnet(text, mask, self.masks).map(|subnet| vec![subnet])
            }
        }
    }

    fn ports(&mut self) -> Result<Vec<Ports>, String> {
        let Some(word @ ("eq" | "range" | "gt" | "lt" | "neq")) = self.words.first().copied() else {
            return Ok(Vec::new());
        };
        self.next();
        let mut port = || {
            let word = self.next().unwrap_or_default();
            let named = PORTS.iter().find(|(name, _)| *name == word).map(|(_, number)| *number);
            named
                .or_else(|| word.parse::<u16>().ok())
                .ok_or_else(|| format!("{word:?} is no port that is known here"))
        };
        let first = port()?;
        let (below, above) =
            (first.checked_sub(1).map(|last| 0..=last), first.checked_add(1).map(|next| next..=u16::MAX));
        let ports: Vec<Ports> = match word {
            "eq" => vec![first..=first],
            "range" => vec![first..=port()?],
            "gt" => above.into_iter().collect(),
            "lt" => below.into_iter().collect(),
            _ => below.into_iter().chain(above).collect(),
        };
        if ports.iter().all(Ports::is_empty) {
            return Err(format!("{word} {first} leaves no port"));
        }
        Ok(ports)
    }
}

/// A subnet of an address and a mask.
pub(super) fn subnet(address: &str, mask: &str, masks: Masks) -> Result<Cidr, String> {
    let parsed: (Option<Ipv4Addr>, Option<Ipv4Addr>) = (address.parse().ok(), mask.parse().ok());
    let (Some(address), Some(bits)) = parsed else { return Err(format!("{address} {mask} is no subnet")) };
    let bits = if masks == Masks::Wildcard { !bits.to_bits() } else { bits.to_bits() };
    let prefix = bits.leading_ones();
    if bits.count_ones() != prefix {
        return Err(format!("{address} {mask}: the mask has gaps, which no subnet of Culvert has"));
    }
    let prefix = u8::try_from(prefix).unwrap_or(32);
    Cidr::truncated(IpAddr::V4(address), prefix).ok_or_else(|| format!("{address} {mask} is no subnet"))
}

/// A protocol as a rule of Culvert has it.
fn protocol(word: &str) -> Option<String> {
    match word {
        "tcp" | "udp" | "icmp" | "sctp" | "ospf" => Some(word.to_owned()),
        "icmp6" => Some("icmpv6".to_owned()),
        "gre" => Some("47".to_owned()),
        "esp" => Some("50".to_owned()),
        "ahp" | "ah" => Some("51".to_owned()),
        "eigrp" => Some("88".to_owned()),
        "pim" => Some("103".to_owned()),
        "igmp" => Some("2".to_owned()),
        "ipinip" => Some("4".to_owned()),
        number => number.parse::<u8>().ok().filter(|number| *number > 0).map(|number| number.to_string()),
    }
}
