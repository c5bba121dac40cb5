//! Host names of peers, and what they resolve to. Nothing here resolves any: who does tells the catalog
//! ([`Catalog::resolved`](crate::Catalog::resolved)).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

use crate::cidr::Cidr;
use crate::limits::MAX_RESOLVED;

/// Octets of a host name (RFC 1035 section 2.3.4, without the root's empty label).
const MAX_NAME: usize = 253;
/// Octets of a label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// A host name (RFC 1123 section 2.1), in lower case: `branch.example.net`. Never one that reads as an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

impl HostName {
    /// The name as it is resolved.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let ends_right = |label: &str| !label.starts_with('-') && !label.ends_with('-');
        let is_label = |label: &str| {
            (1..=MAX_LABEL).contains(&label.len())
                && ends_right(label)
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if text.len() > MAX_NAME || !text.split('.').all(is_label) {
            return Err("not a host name");
        }
        // No top level domain is a number (RFC 1123 section 2.1), and resolvers take what ends in one, be it hexadecimal,
        // for an address.
        let last = text.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let hexadecimal =
            last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if hexadecimal || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err("neither an address nor a host name, which does not end in a number");
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a name resolves to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The addresses of the last time that it resolved, in the order of the resolver. They count until it resolves to others:
    /// a resolver that fails, perhaps because it is behind the tunnel, shuts nobody out.
    pub addresses: Vec<IpAddr>,
    /// When that was.
    pub time: Option<SystemTime>,
    /// Why it did not resolve the last time; empty if it did.
    pub error: String,
}

/// What the names of all peers resolve to.
#[derive(Debug, Default)]
pub(crate) struct Names(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<HostName, Resolution>,
    by_address: BTreeMap<IpAddr, BTreeSet<HostName>>,
}

impl Names {
    /// What a name resolves to, once somebody has tried.
    pub(crate) fn get(&self, name: &HostName) -> Option<Resolution> {
        self.read().by_name.get(name).cloned()
    }

    /// Whether the name has last resolved to the address.
    pub(crate) fn is_at(&self, name: &HostName, address: IpAddr) -> bool {
        self.read().by_name.get(name).is_some_and(|found| found.addresses.contains(&address))
    }

    /// The names that have last resolved to the address.
    pub(crate) fn at(&self, address: IpAddr) -> Vec<HostName> {
        self.read().by_address.get(&address).into_iter().flatten().cloned().collect()
    }

    /// The names that have last resolved to an address of the subnet, and that address.
    pub(crate) fn within(&self, subnet: Cidr) -> Vec<(IpAddr, HostName)> {
        let table = self.read();
        let hosts = table.by_address.range(subnet.first()..=subnet.last());
        hosts.flat_map(|(address, names)| names.iter().map(|name| (*address, name.clone()))).collect()
    }

    /// A name was resolved, or not. Whether it has other addresses now.
    pub(crate) fn note(&self, name: &HostName, outcome: Result<Vec<IpAddr>, String>) -> bool {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let addresses = match outcome {
            Ok(addresses) => addresses,
            Err(error) => {
                table.by_name.entry(name.clone()).or_default().error = error;
                return false;
            }
        };
        let mut new: Vec<IpAddr> = Vec::new();
        for address in addresses.iter().map(IpAddr::to_canonical) {
            if !new.contains(&address) && new.len() < MAX_RESOLVED {
                new.push(address);
            }
        }
        let found =
            Resolution { addresses: new.clone(), time: Some(SystemTime::now()), error: String::new() };
        let mut old = table.by_name.insert(name.clone(), found).unwrap_or_default().addresses;
        table.leave(name, &old);
        for address in &new {
            table.by_address.entry(*address).or_default().insert(name.clone());
        }
        old.sort();
        new.sort();
        old != new
    }

    /// Names that nobody uses any more are forgotten.
    pub(crate) fn retain(&self, in_use: impl Fn(&HostName) -> bool) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let unused: Vec<HostName> = table.by_name.keys().filter(|name| !in_use(name)).cloned().collect();
        for name in unused {
            let gone = table.by_name.remove(&name).unwrap_or_default();
            table.leave(&name, &gone.addresses);
        }
    }

    /// How many names it knows of.
    pub(crate) fn len(&self) -> usize {
        self.read().by_name.len()
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The name is not at these addresses any more.
    fn leave(&mut self, name: &HostName, addresses: &[IpAddr]) {
        for address in addresses {
            if let Some(names) = self.by_address.get_mut(address) {
                names.remove(name);
                if names.is_empty() {
                    self.by_address.remove(address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn labels_are_those_of_rfc_1123() {
        assert_eq!(name("Branch-12.Example.NET").to_string(), "branch-12.example.net");
        let longest = format!("{}.example", "a".repeat(63));
        for right in ["localhost", "3com.example", "xn--nxasmq6b.example", "10.0.0.example", &longest] {
            assert!(right.parse::<HostName>().is_ok(), "{right}");
        }
        let (label, whole) = (format!("{}.example", "a".repeat(64)), "a.".repeat(127) + "bc");
        for wrong in [
            "",
            ".",
            "a..b",
            "a.example.",
            "-a.example",
            "a-.example",
            "a_b.example",
            "a b",
            "ä.example",
            "10.0.0.300",
            "10.0.0",
            "7",
            "0x7f000001",
            "a.0X1",
            &label,
            &whole,
        ] {
            assert!(wrong.parse::<HostName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_addresses_count_until_there_are_others() {
        let (names, branch) = (Names::default(), name("branch.example"));
        let [first, second, mapped] = ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.2"];
        assert!(names.note(&branch, Ok(addresses(&[second, first, mapped]))));
        assert_eq!(names.get(&branch).unwrap().addresses, addresses(&[second, first]));
        assert!(!names.note(&branch, Ok(addresses(&[first, second]))), "the order is no change");
        assert!(!names.note(&branch, Err("no answer".to_owned())));
        let found = names.get(&branch).unwrap();
        assert_eq!((found.addresses.len(), found.error.as_str()), (2, "no answer"));
        assert!(found.time.is_some() && names.is_at(&branch, first.parse().unwrap()));

        names.note(&name("other.example"), Ok(addresses(&[first])));
        assert_eq!(names.at(first.parse().unwrap()).len(), 2);
        assert!(names.note(&branch, Ok(addresses(&["2001:db8::1"]))));
        assert_eq!(names.at(first.parse().unwrap()), [name("other.example")]);
        assert_eq!(names.within("192.0.2.0/24".parse().unwrap()).len(), 1);
        names.retain(|kept| *kept == branch);
        assert_eq!((names.len(), names.at(first.parse().unwrap()).len()), (1, 0));
    }

    #[test]
    fn a_name_of_many_addresses_keeps_some() {
        let (names, branch) = (Names::default(), name("branch.example"));
        names.note(&branch, Ok((0..=255).map(|n| IpAddr::from([192, 0, 2, n])).collect()));
        assert_eq!(names.get(&branch).unwrap().addresses.len(), MAX_RESOLVED);
    }
}
