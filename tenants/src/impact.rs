//! What a change of the configuration does to tunnels that are up.
//!
//! The actors do what is said here, and the API tells it: in answers, and before anything is done in those of a dry run. What a peer takes in
//! parts only the node knows that has its tunnel: there a change of children may be a restart, and the words say that it may.
//! Both specs are taken apart field by field, so that a new field cannot be forgotten.

use std::fmt;

use culvert_proto::v1;
use prost::Message as _;

use crate::peer::{ChildSpec, IkeSpec, IkeV1, IkeVersion, PeerSpec};
use crate::tenant::TenantSpec;

/// The gravest thing that a change does to a tunnel that is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing.
    #[default]
    None,
    /// The new values are used from the next packet, rekey or negotiation on; nothing is lost.
    TakenOver,
    /// Child SAs change on the IKE SA, which stays: [`Impact::children`] says which.
    Children,
    /// The IKE SA starts afresh, with all its Child SAs: something else was negotiated with it.
    IkeRestart,
    /// All tunnels of the tenant start afresh.
    TenantRestart,
}

/// What a change does to a tunnel that is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impact {
    /// The gravest of it.
    pub effect: Effect,
    /// The fields that make it so, as paths of the message; a child is named by its name.
    pub fields: Vec<String>,
    /// What becomes of each child. With [`Effect::IkeRestart`] all of them start afresh whatever is said here.
    pub children: ChildChanges,
}

/// What becomes of the children of a peer, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildChanges {
    /// Their Child SAs carry on.
    pub kept: Vec<String>,
    /// They are new.
    pub added: Vec<String>,
    /// They are gone.
    pub removed: Vec<String>,
    /// What was negotiated for them is not what is wanted now: subnets, proposals or the mode.
    pub changed: Vec<String>,
}

impl ChildChanges {
    /// Whether no Child SA has to be added, deleted or replaced.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Fields that differ, each with what it takes.
#[derive(Default)]
struct Found(Impact);

impl Found {
    fn note(&mut self, effect: Effect, field: impl Into<String>, differs: bool) {
        if !differs {
            return;
        }
        if effect > self.0.effect {
            self.0.effect = effect;
            self.0.fields.clear();
        }
        if effect == self.0.effect {
            self.0.fields.push(field.into());
        }
    }
}

/// What becomes of the tunnel of a peer whose configuration changes from `old` to `new`.
pub fn of_peer(old: &PeerSpec, new: &PeerSpec) -> Impact {
    use Effect::{IkeRestart, TakenOver};
    let PeerSpec {
        display_name: _,
        local_identity,
        remote_identity,
        remote_addresses,
        auth,
        start_action,
        ike,
        children,
        force_encapsulation,
        // What is negotiated goes by the proposals.
        legacy: _,
    } = old;
    let mut found = Found::default();
    found.note(IkeRestart, "local_identity", !local_identity.is_written_as(&new.local_identity));
    found.note(IkeRestart, "remote_identity", !remote_identity.is_written_as(&new.remote_identity));
    found.note(IkeRestart, "remote_addresses", *remote_addresses != new.remote_addresses);
    found.note(IkeRestart, "auth", *auth != new.auth);
    found.note(TakenOver, "start_action", *start_action != new.start_action);
    // Decided while an IKE_SA is negotiated (RFC 7296 section 2.23), so it waits for the next one.
    found.note(TakenOver, "force_encapsulation", *force_encapsulation != new.force_encapsulation);
    of_ike(ike, &new.ike, &mut found);
    of_children((children, &new.children), matches!(ike.version, IkeVersion::V1(_)), &mut found);
    found.0
}

/// What the IKE SA of a peer is agreed on by: all that makes it start afresh when it is changed, but for children, in octets that every version
/// of Culvert says alike. The secret is in it by its name alone, as another value of it leaves running tunnels as they are.
pub fn agreed_by(spec: &PeerSpec) -> Vec<u8> {
    let all = spec.to_proto();
    let ike = all.ike.unwrap_or_default();
    let v1 = ike.v1.map(|v1| v1::IkeV1Config { mode: v1.mode, ..v1::IkeV1Config::default() });
    let ike =
        v1::IkeConfig { proposals: ike.proposals, version: ike.version, v1, ..v1::IkeConfig::default() };
    let agreed = v1::Peer {
        local_identity: all.local_identity,
        remote_identity: all.remote_identity,
        remote_addresses: all.remote_addresses,
        auth: all.auth,
        ike: Some(ike),
        ..v1::Peer::default()
    };
    agreed.encode_to_vec()
}

fn of_ike(old: &IkeSpec, new: &IkeSpec, found: &mut Found) {
    use Effect::{IkeRestart, TakenOver};
    let IkeSpec { proposals, lifetime, dpd_interval, dpd_action, reauth_time, uniqueness, version } = old;
    found.note(IkeRestart, "ike.proposals", *proposals != new.proposals);
    found.note(TakenOver, "ike.lifetime", *lifetime != new.lifetime);
    found.note(TakenOver, "ike.dpd_interval", *dpd_interval != new.dpd_interval);
    found.note(TakenOver, "ike.dpd_action", *dpd_action != new.dpd_action);
    found.note(TakenOver, "ike.reauth_time", *reauth_time != new.reauth_time);
    found.note(TakenOver, "ike.uniqueness", *uniqueness != new.uniqueness);
    match (version, &new.version) {
        (IkeVersion::V2, IkeVersion::V2) => {}
        (IkeVersion::V1(IkeV1 { mode, life_kilobytes }), IkeVersion::V1(new)) => {
            found.note(IkeRestart, "ike.v1.mode", *mode != new.mode);
            // Told in the next phase 1.
            found.note(TakenOver, "ike.v1.life_kilobytes", *life_kilobytes != new.life_kilobytes);
        }
        _ => found.note(IkeRestart, "ike.version", true),
    }
}

fn of_children((old, new): (&[ChildSpec], &[ChildSpec]), is_v1: bool, found: &mut Found) {
    use Effect::Children;
    for child in old {
        let name = &child.name;
        match new.iter().find(|other| other.name == *name) {
            None => {
                found.note(Children, format!("children[{name}]"), true);
                found.0.children.removed.push(name.clone());
            }
            Some(now) if of_child(child, now, is_v1, found) => found.0.children.changed.push(name.clone()),
            Some(_) => found.0.children.kept.push(name.clone()),
        }
    }
    for child in new.iter().filter(|child| !old.iter().any(|other| other.name == child.name)) {
        found.note(Children, format!("children[{}]", child.name), true);
        found.0.children.added.push(child.name.clone());
    }
}

/// Whether the Child SA would have been negotiated differently.
fn of_child(old: &ChildSpec, new: &ChildSpec, is_v1: bool, found: &mut Found) -> bool {
    use Effect::{Children, IkeRestart, TakenOver};
    let ChildSpec {
        name,
        mode,
        local_subnets,
        remote_subnets,
        esp_proposals,
        lifetime,
        replay_window,
        esp,
        resource_sas,
    } = old;
    let negotiated = [
        ("mode", *mode != new.mode),
        ("local_subnets", *local_subnets != new.local_subnets),
        ("remote_subnets", *remote_subnets != new.remote_subnets),
        ("esp_proposals", *esp_proposals != new.esp_proposals),
    ];
    let own = [
        ("lifetime", *lifetime != new.lifetime),
        ("replay_window", *replay_window != new.replay_window),
        ("esp", *esp != new.esp),
        // The one that all use stays.
        ("resource_sas", *resource_sas != new.resource_sas),
    ];
    // What was agreed on in parts is agreed on anew as a whole.
    let effect = if is_v1 && old.pairs_of_subnets() > 1 { IkeRestart } else { Children };
    for (field, differs) in negotiated {
        found.note(effect, format!("children[{name}].{field}"), differs);
    }
    for (field, differs) in own {
        found.note(TakenOver, format!("children[{name}].{field}"), differs);
    }
    negotiated.iter().any(|(_, differs)| *differs)
}

/// What becomes of the tunnels of a tenant whose configuration changes from `old` to `new`.
pub fn of_tenant(old: &TenantSpec, new: &TenantSpec) -> Impact {
    let TenantSpec { display_name: _, uplink, quotas, policy } = old;
    let rates = |quotas: &crate::Quotas| (quotas.packets_per_second, quotas.bytes_per_second);
    let mut found = Found::default();
    found.note(Effect::TenantRestart, "uplink", *uplink != new.uplink);
    found.note(Effect::TakenOver, "policy", *policy != new.policy);
    found.note(Effect::TakenOver, "quotas", rates(quotas) != rates(&new.quotas));
    found.0
}

/// What becomes of tunnels whose secret has another value: it authenticates the start of an IKE SA and nothing after it.
pub fn of_secret(value_changed: bool) -> Impact {
    let mut found = Found::default();
    found.note(Effect::TakenOver, "value", value_changed);
    found.0
}

impl Impact {
    /// As a message.
    pub fn to_proto(&self) -> v1::Impact {
        let effect = match self.effect {
            Effect::None => v1::Effect::Unaffected,
            Effect::TakenOver => v1::Effect::TakenOver,
            Effect::Children => v1::Effect::ChildrenChange,
            Effect::IkeRestart => v1::Effect::IkeRestart,
            Effect::TenantRestart => v1::Effect::TenantRestart,
        };
        let children =
            if self.effect == Effect::Children { self.children.clone() } else { Default::default() };
        v1::Impact {
            effect: effect.into(),
            fields: self.fields.clone(),
            children_kept: children.kept,
            children_added: children.added,
            children_removed: children.removed,
            children_changed: children.changed,
            summary: self.to_string(),
        }
    }
}

/// What only the node knows that has the tunnel.
const IN_PARTS: &str = " (a peer that has it in parts starts afresh)";

impl fmt::Display for Impact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields.join(", ");
        match self.effect {
            Effect::None => f.write_str("running tunnels are not affected"),
            Effect::TakenOver => write!(f, "running tunnels take over {fields}; nothing is interrupted"),
            Effect::Children => {
                let ChildChanges { kept, added, removed, changed } = &self.children;
                f.write_str("the IKE SA stays")?;
                for (what, names, but) in [
                    ("added", added, ""),
                    ("replaced", changed, IN_PARTS),
                    ("deleted", removed, ""),
                    ("not interrupted", kept, ""),
                ] {
                    if !names.is_empty() {
                        write!(f, "; {what}: {}{but}", names.join(", "))?;
                    }
                }
                Ok(())
            }
            Effect::IkeRestart => {
                write!(f, "interrupts the tunnel: its IKE SA starts afresh, because of {fields}")
            }
            Effect::TenantRestart => {
                write!(f, "interrupts all tunnels of the tenant: they start afresh, because of {fields}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::TenantName;

    fn tenant() -> TenantName {
        "tenants/acme".parse().unwrap()
    }

    fn message() -> v1::Peer {
        let child = |name: &str, third: u8| v1::Child {
            name: name.to_owned(),
            local_subnets: vec!["10.0.0.0/24".to_owned()],
            remote_subnets: vec![format!("10.1.{third}.0/24")],
            ..Default::default()
        };
        v1::Peer {
            local_identity: "gw.example".to_owned(),
            remote_identity: "b1.example".to_owned(),
            remote_addresses: vec!["192.0.2.1".to_owned()],
            auth: Some(v1::Auth {
                method: Some(v1::auth::Method::Psk("tenants/acme/secrets/psk".to_owned())),
            }),
            children: vec![child("lan", 1), child("voice", 2)],
            ..Default::default()
        }
    }

    fn after(change: impl FnOnce(&mut v1::Peer)) -> Impact {
        let old = PeerSpec::parse(&tenant(), &message()).unwrap();
        let mut changed = message();
        change(&mut changed);
        let new = PeerSpec::parse(&tenant(), &changed).unwrap();
        let found = of_peer(&old, &new);
        let restarts = found.effect == Effect::IkeRestart;
        assert_eq!(agreed_by(&old) != agreed_by(&new), restarts, "{found:?}");
        found
    }

    #[test]
    fn each_field_of_a_peer_has_its_effect() {
        let duration = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let ike = |change: fn(&mut v1::IkeConfig)| after(|peer| change(peer.ike.get_or_insert_default()));
        assert_eq!(after(|peer| peer.display_name = "x".to_owned()).effect, Effect::None);
        let found = after(|peer| {
            peer.start_action = v1::StartAction::Start.into();
            let ike = peer.ike.get_or_insert_default();
            ike.dpd_interval = duration(7);
            ike.reauth_time = duration(3600);
            ike.uniqueness = v1::Uniqueness::Keep.into();
            ike.dpd_action = v1::DpdAction::Hold.into();
            ike.lifetime = Some(v1::IkeLifetime { rekey_time: duration(600), life_time: None });
            peer.force_encapsulation = true;
            peer.children[1].replay_window = 128;
            peer.children[0].resource_sas = 4;
        });
        assert_eq!(found.effect, Effect::TakenOver);
        assert_eq!(found.fields.len(), 9, "{found:?}");
        assert!(found.fields.contains(&"children[voice].replay_window".to_owned()), "{found:?}");
        assert!(found.children.is_empty());

        let restart = [
            after(|peer| peer.local_identity = "other.example".to_owned()),
            after(|peer| peer.remote_identity = "other.example".to_owned()),
            after(|peer| peer.remote_addresses = vec!["192.0.2.2".to_owned()]),
            after(|peer| {
                let other = "tenants/acme/secrets/other".to_owned();
                peer.auth = Some(v1::Auth { method: Some(v1::auth::Method::Psk(other)) });
            }),
            ike(|ike| ike.proposals = vec!["aes256gcm16-prfsha384-ecp384".to_owned()]),
        ];
        for found in restart {
            assert_eq!((found.effect, found.fields.len()), (Effect::IkeRestart, 1), "{found:?}");
        }
    }

    #[test]
    fn another_version_or_mode_of_ike_is_negotiated_afresh() {
        let with = |version: v1::IkeVersion, v1: Option<v1::IkeV1Config>| {
            let mut peer = message();
            let ike = peer.ike.get_or_insert_default();
            (ike.version, ike.v1) = (version.into(), v1);
            ike.proposals = vec!["aes128-sha256-modp2048".to_owned()];
            peer.children.iter_mut().for_each(|child| child.esp_proposals = vec!["aes128gcm16".to_owned()]);
            PeerSpec::parse(&tenant(), &peer).unwrap()
        };
        let v1 = |mode: v1::IkeV1Mode, life_kilobytes| {
            with(v1::IkeVersion::Ikev1, Some(v1::IkeV1Config { mode: mode.into(), life_kilobytes }))
        };
        let (v2, main) = (with(v1::IkeVersion::Ikev2, None), v1(v1::IkeV1Mode::Main, 0));
        let (aggressive, short) = (v1(v1::IkeV1Mode::Aggressive, 0), v1(v1::IkeV1Mode::Main, 9));
        for (old, new, effect, field) in [
            (&v2, &main, Effect::IkeRestart, "ike.version"),
            (&aggressive, &v2, Effect::IkeRestart, "ike.version"),
            (&main, &aggressive, Effect::IkeRestart, "ike.v1.mode"),
            (&main, &short, Effect::TakenOver, "ike.v1.life_kilobytes"),
        ] {
            let found = of_peer(old, new);
            assert_eq!((found.effect, found.fields.as_slice()), (effect, &[field.to_owned()][..]));
            assert_eq!(agreed_by(old) != agreed_by(new), effect == Effect::IkeRestart, "{found:?}");
        }
        let allowed = PeerSpec { legacy: true, ..main.clone() };
        assert_eq!(
            of_peer(&main, &allowed),
            Impact { children: of_peer(&main, &main).children, ..Impact::default() }
        );
    }

    #[test]
    fn what_ikev1_agreed_on_in_parts_is_negotiated_afresh() {
        let with = |remote: &[&str], proposal: &str| {
            let mut peer = message();
            let ike = peer.ike.get_or_insert_default();
            ike.version = v1::IkeVersion::Ikev1.into();
            ike.proposals = vec!["aes128-sha256-modp2048".to_owned()];
            for child in &mut peer.children {
                child.esp_proposals = vec!["aes128gcm16".to_owned()];
            }
            peer.children[0].remote_subnets = remote.iter().map(ToString::to_string).collect();
            peer.children[0].esp_proposals = vec![proposal.to_owned()];
            PeerSpec::parse(&tenant(), &peer).unwrap()
        };
        for (remote, effect) in
            [(&["10.1.1.0/24"][..], Effect::Children), (&["10.1.1.0/24", "10.1.3.0/24"], Effect::IkeRestart)]
        {
            let found = of_peer(&with(remote, "aes128gcm16"), &with(remote, "aes256gcm16"));
            assert_eq!(found.effect, effect, "{found}");
            assert_eq!(found.fields, ["children[lan].esp_proposals"]);
        }
    }

    #[test]
    fn children_are_told_apart() {
        let found = after(|peer| {
            peer.children[0].remote_subnets = vec!["10.7.0.0/16".to_owned()];
            let mut added = peer.children[1].clone();
            (added.name, added.remote_subnets) = ("video".to_owned(), vec!["10.8.0.0/16".to_owned()]);
            peer.children.push(added);
        });
        assert_eq!(found.effect, Effect::Children);
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = ChildChanges {
            kept: names(&["voice"]),
            added: names(&["video"]),
            removed: names(&[]),
            changed: names(&["lan"]),
        };
        assert_eq!(found.children, expected);
        assert_eq!(
            found.to_string(),
            "the IKE SA stays; added: video; replaced: lan (a peer that has it in parts starts afresh); \
             not interrupted: voice"
        );
        let found = after(|peer| drop(peer.children.pop()));
        assert_eq!((found.effect, found.children.removed), (Effect::Children, names(&["voice"])));
        // The order of children is no change.
        let found = after(|peer| peer.children.reverse());
        assert_eq!(found.effect, Effect::None);
        // What restarts the IKE SA is graver, and says so.
        let found = after(|peer| {
            peer.children.pop();
            peer.local_identity = "other.example".to_owned();
        });
        assert_eq!(
            found.to_string(),
            "interrupts the tunnel: its IKE SA starts afresh, because of local_identity"
        );
        assert!(found.to_proto().children_removed.is_empty());
    }

    #[test]
    fn another_uplink_restarts_the_tenant() {
        let parse = |tenant: v1::Tenant| TenantSpec::parse(&self::tenant(), &tenant).unwrap();
        let hub = parse(v1::Tenant::default());
        let tun = v1::uplink::Tun {
            device: "acme0".to_owned(),
            addresses: vec!["10.0.0.1/24".to_owned()],
            ..Default::default()
        };
        let with = |tun| v1::Tenant {
            uplink: Some(v1::Uplink { kind: Some(v1::uplink::Kind::Tun(tun)) }),
            ..Default::default()
        };
        let mtu = parse(with(v1::uplink::Tun { mtu: 1380, ..tun.clone() }));
        let tun = parse(with(tun));
        assert_eq!(of_tenant(&hub, &tun).effect, Effect::TenantRestart);
        assert_eq!(of_tenant(&tun, &mtu).effect, Effect::TenantRestart);
        let named = parse(v1::Tenant { display_name: "x".to_owned(), ..Default::default() });
        assert_eq!(of_tenant(&hub, &named), Impact::default());
        let rules = v1::Policy {
            rules: vec![v1::PolicyRule {
                name: "all".to_owned(),
                action: v1::PolicyAction::Protect.into(),
                ..Default::default()
            }],
        };
        let ruled = parse(v1::Tenant { policy: Some(rules), ..Default::default() });
        assert_eq!(of_tenant(&hub, &ruled).effect, Effect::TakenOver);
        assert_eq!((of_secret(true).effect, of_secret(false).effect), (Effect::TakenOver, Effect::None));
    }
}
