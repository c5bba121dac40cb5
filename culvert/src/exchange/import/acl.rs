//! Access lists of IOS and ASA: which packets a crypto map protects, in order.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use tenants::Cidr;

use crate::exchange::export::cisco::{CHILD, OF};
use crate::exchange::model::{Notes, Place, Rule, id_of};

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

/// An entry, seen from the device.
#[derive(Clone, Debug)]
struct Entry {
    place: Place,
    permit: bool,
    child: Option<String>,
    protocol: String,
    device: Vec<Cidr>,
    culvert: Vec<Cidr>,
    device_ports: Vec<String>,
    culvert_ports: Vec<String>,
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
    /// Of the children by name, in order.
    pub(super) rules: Vec<(Place, Rule)>,
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
                self.child = rest.join(" ").strip_prefix(CHILD).map(|name| id_of(name.trim(), "net"));
            }
            [action @ ("permit" | "deny"), rest @ ..] => {
                let mut reader = Reader { words: rest, masks, objects };
                match reader.entry() {
                    Ok((protocol, device, device_ports, culvert, culvert_ports)) => {
                        let (permit, child) = (*action == "permit", self.child.clone());
                        let place = place.clone();
                        let sides = (device, culvert, device_ports, culvert_ports);
                        let (device, culvert, device_ports, culvert_ports) = sides;
                        self.entries.push(Entry {
                            place,
                            permit,
                            child,
                            protocol,
                            device,
                            culvert,
                            device_ports,
                            culvert_ports,
                        });
                    }
                    Err(fault) => self.faults.push((place.clone(), fault)),
                }
            }
            _ => self.faults.push((place.clone(), "neither permit nor deny".to_owned())),
        }
    }

    /// The children that the list of this name is for, and the rules that it makes for the peer.
    pub(super) fn select(&self, name: &str, peer: &str, notes: &mut Notes) -> Selection {
        for (place, fault) in &self.faults {
            notes.add(place, fault.as_str());
        }
        let own = name.split_once(OF).map(|(_, child)| id_of(child, "net"));
        let permits: Vec<&Entry> = self.entries.iter().filter(|entry| entry.permit).collect();
        let plain = self.entries.iter().all(|entry| entry.permit && entry.protocol.is_empty());
        let mut children: Vec<Selected> = Vec::new();
        let mut names: Vec<(Place, String)> = Vec::new();
        for (at, entry) in permits.iter().enumerate() {
            let base = entry.child.clone().or_else(|| own.clone());
            let name = match base {
                Some(name) if entry.child.is_some() || permits.len() == 1 => name,
                Some(name) => format!("{name}-{}", at + 1),
                None if permits.len() == 1 => "net".to_owned(),
                None => format!("net-{}", at + 1),
            };
            if !entry.protocol.is_empty() {
                notes.add(
                    &entry.place,
                    "a child of Culvert has subnets: protocol and ports become a rule of the tenant",
                );
            }
            names.push((entry.place.clone(), name.clone()));
            match children.iter_mut().find(|child| child.name == name) {
                Some(child) => {
                    for (list, more) in
                        [(&mut child.culvert, &entry.culvert), (&mut child.device, &entry.device)]
                    {
                        let new: Vec<Cidr> =
                            more.iter().filter(|subnet| !list.contains(subnet)).copied().collect();
                        list.extend(new);
                    }
                }
                None => children.push(Selected {
                    name,
                    culvert: entry.culvert.clone(),
                    device: entry.device.clone(),
                }),
            }
        }
        for child in &children {
            let own = |entry: &&&Entry| {
                names.iter().any(|(place, name)| *place == entry.place && *name == child.name)
            };
            let said: usize =
                permits.iter().filter(own).map(|entry| entry.device.len() * entry.culvert.len()).sum();
            let last = permits.iter().rfind(own);
            if let Some(last) = last.filter(|_| said < child.device.len() * child.culvert.len()) {
                let fault = format!(
                    "the child {} is for every pair of its subnets, which is more than these entries",
                    child.name
                );
                notes.add(&last.place, fault);
            }
        }
        let rule = |entry: &Entry| {
            let child = names.iter().find(|(place, _)| *place == entry.place).map(|(_, name)| name.clone());
            let rule = Rule {
                protect: child.map(|child| (peer.to_owned(), child)),
                culvert: entry.culvert.clone(),
                device: entry.device.clone(),
                protocol: entry.protocol.clone(),
                culvert_ports: entry.culvert_ports.clone(),
                device_ports: entry.device_ports.clone(),
            };
            (entry.place.clone(), rule)
        };
        Selection { children, rules: self.entries.iter().map(rule).collect(), plain }
    }
}

/// What a deny leaves to a later entry of a crypto map cannot be said by one list of rules: whoever does is told.
pub(super) fn note_passed_on(rules: &[(Place, Rule)], notes: &mut Notes) {
    for (at, (place, rule)) in rules.iter().enumerate().filter(|(_, (_, rule))| rule.protect.is_none()) {
        let overlap = |a: &[Cidr], b: &[Cidr]| a.iter().any(|a| b.iter().any(|b| a.overlaps(b)));
        let mut later = rules.iter().skip(at + 1).filter(|(_, later)| later.protect.is_some());
        let own = rules
            .iter()
            .skip(at + 1)
            .find(|(_, later)| later.protect.is_some())
            .map(|(_, later)| &later.protect);
        let taken = later.any(|(_, later)| {
            let other_peer =
                own.and_then(Option::as_ref).map(|(peer, _)| peer) != later.protect.as_ref().map(|(p, _)| p);
            other_peer && overlap(&later.culvert, &rule.culvert) && overlap(&later.device, &rule.device)
        });
        if taken {
            notes.add(place, "a later entry of the map protects some of it, which a rule before it now keeps from that: order the rules by hand");
        }
    }
}

/// Protocol, subnets and ports of the device, those of Culvert.
type Parts = (String, Vec<Cidr>, Vec<String>, Vec<Cidr>, Vec<String>);

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

    fn entry(&mut self) -> Result<Parts, String> {
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
        match self.words {
            [] | ["log" | "log-input", ..] => {}
            [other, ..] => return Err(format!("{other}: the entry is not taken over")),
        }
        Ok((protocol, device, device_ports, culvert, culvert_ports))
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

    fn ports(&mut self) -> Result<Vec<String>, String> {
        let Some(word @ ("eq" | "range" | "gt" | "lt" | "neq")) = self.words.first().copied() else {
            return Ok(Vec::new());
        };
        self.next();
        let mut port = || {
            let word = self.next().unwrap_or_default();
            let named = PORTS.iter().find(|(name, _)| *name == word).map(|(_, number)| *number);
            named
                .or_else(|| word.parse().ok())
                .ok_or_else(|| format!("{word:?} is no port that is known here"))
        };
        let first = port()?;
        let beyond = format!("{word} {first} leaves no port");
        Ok(match word {
            "eq" => vec![first.to_string()],
            "range" => vec![format!("{first}-{}", port()?)],
            "gt" => vec![format!("{}-65535", first.checked_add(1).ok_or(beyond)?)],
            "lt" => vec![format!("0-{}", first.checked_sub(1).ok_or(beyond)?)],
            _ => {
                let below = first.checked_sub(1).map(|last| format!("0-{last}"));
                let above = first.checked_add(1).map(|next| format!("{next}-65535"));
                below.into_iter().chain(above).collect()
            }
        })
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
        assert_eq!(
            (deny.permit, deny.protocol.as_str(), deny.culvert_ports.clone()),
            (false, "tcp", vec!["80".to_owned()])
        );
        assert_eq!(
            (permit.device_ports.clone(), permit.culvert_ports.clone()),
            (vec!["1000-2000".into()], vec!["1024-65535".into()])
        );
        assert_eq!(permit.culvert.len(), 2);
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
        let selection = list.select("BRANCH", "branch", &mut Notes::default());
        let shown: Vec<(&str, usize, usize)> =
            selection.children.iter().map(|c| (c.name.as_str(), c.device.len(), c.culvert.len())).collect();
        assert_eq!(shown, [("lan", 2, 1), ("net-3", 1, 1)]);
        assert!(selection.plain);
    }
}
