//! Access lists of IOS and ASA: which packets a crypto map protects, in order.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use tenants::Cidr;

use super::order::{Packets, Ports};
use crate::exchange::export::cisco::{CHILD, OF};
use crate::exchange::model::{Notes, Place, id_of};

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

/// A list.
#[derive(Debug, Default)]
pub(super) struct List {
    entries: Vec<Entry>,
    /// The child that a remark has named for what follows it.
    child: Option<String>,
    /// Entries that are not taken over: told once a map uses the list, for most lists are about something else.
    faults: Vec<(Place, String)>,
}

/// An entry.
#[derive(Clone, Debug)]
struct Entry {
    place: Place,
    permit: bool,
    child: Option<String>,
    packets: Packets,
}

/// What a list says of one child.
pub(super) struct Selected {
    pub(super) name: String,
    pub(super) culvert: Vec<Cidr>,
    pub(super) device: Vec<Cidr>,
}

/// What a list comes down to.
pub(super) struct Selection {
    pub(super) children: Vec<Selected>,
    /// Its entries in order; of a permit the child that it is for.
    pub(super) entries: Vec<(Place, Packets, Option<usize>)>,
    /// The children alone say the same.
    pub(super) plain: bool,
}

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

impl List {
    /// Takes one entry over, the words behind the name of the list.
    pub(super) fn add(&mut self, words: &[&str], masks: Masks, objects: &Objects, place: &Place) {
        let words = match words {
            // A number in front is its place, which is where it stands.
            [number, rest @ ..] if number.bytes().all(|b| b.is_ascii_digit()) => rest,
            words => words,
        };
        match words {
            ["remark", rest @ ..] => {
                self.child = rest.join(" ").strip_prefix(CHILD).map(|name| name.trim().to_owned());
            }
            [action @ ("permit" | "deny"), rest @ ..] => {
                let mut reader = Reader { words: rest, masks, objects };
                match reader.entry() {
                    Ok(packets) => {
                        let (permit, child) = (*action == "permit", self.child.clone());
                        self.entries.push(Entry { place: place.clone(), permit, child, packets });
                    }
                    Err(fault) => self.faults.push((place.clone(), fault)),
                }
            }
            _ => self.faults.push((place.clone(), "neither permit nor deny".to_owned())),
        }
    }

    /// The children that the list of this name is for, and which of its entries are for which.
    pub(super) fn select(&self, name: &str, notes: &mut Notes) -> Selection {
        for (place, fault) in &self.faults {
            notes.add(place, fault.as_str());
        }
        let own = name.split_once(OF).map(|(_, child)| id_of(child, "net"));
        let permits = self.entries.iter().filter(|entry| entry.permit).count();
        let mut selection = Selection {
            children: Vec::new(),
            entries: Vec::new(),
            plain: self.entries.iter().all(Entry::is_plain),
        };
        // By what a remark says, as it stands there.
        let mut named: BTreeMap<&str, usize> = BTreeMap::new();
        let mut number = 0;
        for entry in &self.entries {
            let mut at = None;
            if entry.permit {
                number += 1;
                let of_remark = entry.child.as_deref();
                let known = of_remark.and_then(|child| named.get(child)).copied();
                let child = known.unwrap_or(selection.children.len());
                let base = of_remark.map(|child| id_of(child, "net")).or_else(|| own.clone());
                let name = match base {
                    Some(name) if of_remark.is_some() || permits == 1 => name,
                    base if permits == 1 => base.unwrap_or_else(|| "net".to_owned()),
                    base => format!("{}-{number}", base.as_deref().unwrap_or("net")),
                };
                entry.select(name, &mut selection.children, known, notes);
                if let Some(of_remark) = of_remark {
                    named.insert(of_remark, child);
                }
                at = Some(child);
            }
            selection.entries.push((entry.place.clone(), entry.packets.clone(), at));
        }
        note_pairs(&selection, notes);
        selection
    }
}

impl Entry {
    /// Whether the subnets of a child say all of it.
    fn is_plain(&self) -> bool {
        self.permit && self.packets.protocol.is_empty()
    }

    /// Adds it to the child that is known, or as another.
    fn select(&self, name: String, children: &mut Vec<Selected>, known: Option<usize>, notes: &mut Notes) {
        let packets = &self.packets;
        if !packets.protocol.is_empty() {
            notes.add(
                &self.place,
                "a child of Culvert has subnets: protocol and ports become a rule of the tenant",
            );
        }
        let Some(child) = known.and_then(|known| children.get_mut(known)) else {
            let (culvert, device) = (packets.culvert.clone(), packets.device.clone());
            return children.push(Selected { name, culvert, device });
        };
        for (list, more) in [(&mut child.culvert, &packets.culvert), (&mut child.device, &packets.device)] {
            let new: Vec<Cidr> = more.iter().filter(|subnet| !list.contains(subnet)).copied().collect();
            list.extend(new);
        }
    }
}

/// A child is for every pair of its subnets, whether or not the entries say all of them.
fn note_pairs(selection: &Selection, notes: &mut Notes) {
    for (at, child) in selection.children.iter().enumerate() {
        let own = || selection.entries.iter().filter(|(_, _, of)| *of == Some(at));
        let said: usize = own().map(|(_, packets, _)| packets.device.len() * packets.culvert.len()).sum();
        if said < child.device.len() * child.culvert.len()
            && let Some((place, ..)) = own().next_back()
        {
            let name = &child.name;
            notes.add(
                place,
                format!(
                    "the child {name} is for every pair of its subnets, which is more than these entries"
                ),
            );
        }
    }
}

struct Reader<'a> {
    words: &'a [&'a str],
    masks: Masks,
    objects: &'a Objects,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn entry(&mut self) -> Result<Packets, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str], masks: Masks) -> (List, Vec<String>) {
        let (mut list, mut notes) = (List::default(), Notes::default());
        let objects = Objects::from([(
            "lans".to_owned(),
            vec!["10.1.0.0/16".parse().unwrap(), "10.2.0.0/16".parse().unwrap()],
        )]);
        for (at, entry) in entries.iter().enumerate() {
            let words: Vec<&str> = entry.split(' ').collect();
            list.add(&words, masks, &objects, &Place { file: "f".into(), line: at + 1 });
        }
        for (place, fault) in &list.faults {
            notes.add(place, fault.as_str());
        }
        (list, notes.lines())
    }

    #[test]
    fn entries_are_read_with_their_masks_and_ports() {
        let (list, notes) = list(
            &[
                "10 deny tcp 10.0.0.0 0.0.0.255 any eq www",
                "permit udp host 10.0.0.1 range 1000 2000 object-group lans gt 1023",
                "permit ip 10.0.0.0 0.255.0.255 any",
                "permit tcp any any established",
                "permit ip any",
            ],
            Masks::Wildcard,
        );
        assert_eq!(list.entries.len(), 2);
        let [deny, permit] = list.entries.as_slice() else { panic!() };
        let (denied, permitted) = (&deny.packets, &permit.packets);
        assert_eq!(
            (deny.permit, denied.protocol.as_str(), denied.culvert_ports.as_slice()),
            (false, "tcp", &[80..=80][..])
        );
        assert_eq!(
            (permitted.device_ports.as_slice(), permitted.culvert_ports.as_slice()),
            (&[1000..=2000][..], &[1024..=65535][..])
        );
        assert_eq!(permitted.culvert.len(), 2);
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].starts_with("f:3: ") && notes[0].contains("gaps"), "{notes:?}");
    }

    #[test]
    fn remarks_and_names_tell_children_apart() {
        let (list, _) = list(
            &[
                "remark culvert child lan",
                "permit ip 10.1.0.0 255.255.0.0 10.9.0.0 255.255.0.0",
                "permit ip 10.2.0.0 255.255.0.0 10.9.0.0 255.255.0.0",
                "remark something else",
                "permit ip 10.3.0.0 255.255.0.0 10.9.0.0 255.255.0.0",
            ],
            Masks::Network,
        );
        let selection = list.select("BRANCH", &mut Notes::default());
        let shown: Vec<(&str, usize, usize)> =
            selection.children.iter().map(|c| (c.name.as_str(), c.device.len(), c.culvert.len())).collect();
        assert_eq!(shown, [("lan", 2, 1), ("net-3", 1, 1)]);
        assert!(selection.plain);
    }
}
