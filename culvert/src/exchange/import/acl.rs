//! Access lists of IOS and ASA: which packets a crypto map protects, in order.

use std::collections::BTreeMap;

use tenants::Cidr;

use super::acl_entry::{Masks, Objects, Reader};
use super::order::Packets;
use crate::exchange::export::cisco::{CHILD, OF};
use crate::exchange::model::{Notes, Place, id_of};

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
    /// Some entry is not taken over.
    pub(super) lacks: bool,
}

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
            lacks: !self.faults.is_empty(),
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
