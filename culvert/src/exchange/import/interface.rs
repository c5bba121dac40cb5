//! Tunnel interfaces of IOS and ASA.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::cisco::Entry;
use crate::exchange::export::cisco::CHILD;
use crate::exchange::model::{Notes, Place};

/// A tunnel interface.
pub(super) struct Interface {
    place: Place,
    pub(super) name: String,
    /// An address, or the name of an interface.
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) profile: Option<String>,
    /// The words behind `tunnel mode`: without any it is GRE.
    mode: Option<(Place, Vec<String>)>,
    /// Where it is shut down.
    down: Option<Place>,
    /// As its description calls it.
    pub(super) child: Option<String>,
}

impl Interface {
    pub(super) fn new(name: &str, place: Place) -> Self {
        let (source, destination) = (String::new(), String::new());
        let name = name.to_owned();
        Self { place, name, source, destination, profile: None, mode: None, down: None, child: None }
    }

    /// A line that both devices have.
    pub(super) fn line(&mut self, words: &[&str], place: &Place) {
        match words {
            ["tunnel", "destination", destination] => self.destination = (*destination).to_owned(),
            ["tunnel", "mode", rest @ ..] => {
                self.mode = Some((place.clone(), rest.iter().map(|word| (*word).to_owned()).collect()));
            }
            ["tunnel", "protection", "ipsec", "profile", profile, ..] => {
                self.profile = Some((*profile).to_owned())
            }
            ["shutdown"] => self.down = Some(place.clone()),
            ["no", "shutdown"] => self.down = None,
            ["description", rest @ ..] => {
                self.child = rest.join(" ").strip_prefix(CHILD).map(|child| child.trim().to_owned());
            }
            _ => {}
        }
    }

    /// What goes through it, and what its profile says as if it stood here; or why there is no such tunnel, and where that stands.
    fn read(&self, profiles: &BTreeMap<String, Entry>) -> Result<(IpAddr, Entry), (&Place, String)> {
        if let Some(place) = &self.down {
            return Err((place, "it is shut down: it is not taken over".to_owned()));
        }
        let (mode_place, mode) = match &self.mode {
            Some((place, mode)) => (place, mode.join(" ")),
            None => (&self.place, "gre ip".to_owned()),
        };
        let any: IpAddr = match mode.as_str() {
            "ipsec ipv4" => [0, 0, 0, 0].into(),
            "ipsec ipv6" => [0u16; 8].into(),
            _ => {
                let fault = format!(
                    "its mode is {mode}, whose packets IPsec protects between the two ends: it is not taken over"
                );
                return Err((mode_place, fault));
            }
        };
        if self.destination.is_empty() {
            let fault =
                "it has no destination: it is not taken over. Make a peer of Culvert for each other end";
            return Err((&self.place, fault.to_owned()));
        }
        let found = self.profile.as_ref().and_then(|name| profiles.get(name));
        let entry = found
            .ok_or((&self.place, "there is no such profile: the interface is not taken over".to_owned()))?;
        Ok((any, Entry { place: Some(self.place.clone()), ..entry.clone() }))
    }

    /// The same, with the reason told.
    pub(super) fn entry(
        &self,
        profiles: &BTreeMap<String, Entry>,
        notes: &mut Notes,
    ) -> Option<(IpAddr, Entry)> {
        self.read(profiles).map_err(|(place, fault)| notes.add(place, fault)).ok()
    }
}
