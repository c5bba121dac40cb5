//! Names and subnets with the number of a tunnel in them.

use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;

/// A text in which `{n}` is the number of a tunnel, from 0, and `{x}`, `{y}` and `{z}` its three octets, high to low.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(String);

/// What can stand in a template.
const PLACES: [&str; 4] = ["{n}", "{x}", "{y}", "{z}"];

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = PLACES.iter().fold(text.to_owned(), |rest, place| rest.replace(place, ""));
        if rest.contains(['{', '}']) {
            return Err(format!("{text}: between braces stands n, x, y or z"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Template {
    pub(crate) fn of(&self, index: u32) -> String {
        let [_, x, y, z] = index.to_be_bytes();
        let values = [index.to_string(), x.to_string(), y.to_string(), z.to_string()];
        PLACES.iter().zip(values).fold(self.0.clone(), |text, (place, value)| text.replace(place, &value))
    }

    /// The subnet of a tunnel; of IPv4, for the probes are.
    pub(crate) fn subnet(&self, index: u32) -> Result<Ipv4Net, String> {
        let text = self.of(index);
        match (text.parse::<Ipv4Net>(), text.parse::<Ipv4Addr>()) {
            (Ok(net), _) => Ok(net.trunc()),
            (_, Ok(address)) => Ok(address.into()),
            _ => {
                Err(format!("{text:?} is no IPv4 subnet; 10.{{x}}.{{y}}.{{z}}/32 gives each tunnel its own"))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_put_in() {
        let name: Template = "p{n}.example".parse().unwrap();
        assert_eq!(name.of(70_000), "p70000.example");
        let net: Template = "10.{x}.{y}.{z}/32".parse().unwrap();
        assert_eq!(net.subnet(65_536 + 2 * 256 + 3).unwrap(), "10.1.2.3/32".parse::<Ipv4Net>().unwrap());
        assert_eq!(net.of(7), "10.0.0.7/32");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        assert!("p{i}.example".parse::<Template>().unwrap_err().contains("p{i}"));
        let bad: Template = "10.{n}/8".parse().unwrap();
        assert!(bad.subnet(300).unwrap_err().contains("10.300/8"));
    }
}
