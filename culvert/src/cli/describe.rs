//! `culvert describe`: everything about one object, for people.

use clap::Args;
use culvert_proto::v1;

use crate::cli::get::{algorithms, all_sas, get_peer, get_secret, get_tenant, spis, state};
use crate::cli::get_access::{get_token, token_table};
use crate::cli::reference::{Kind, Reference};
use crate::console::Global;
use crate::console::connect::Client;
use crate::console::failure::Failure;
use crate::console::message::Document;
use crate::console::output::{Output, print_one, print_text};
use crate::console::table::{age, bytes, clock, fields, table, until};

/// `culvert describe`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The object: `acme/b1`, `tenant/acme`, `secret acme/psk` or `tenants/acme/peers/b1`
    #[arg(required = true, num_args = 1..=2, value_name = "WHAT")]
    what: Vec<String>,
    /// Of this tenant
    #[arg(long, short)]
    tenant: Option<String>,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let (kind, name) = Reference::parse_one(&arguments.what, arguments.tenant.as_deref())?;
    let client = Client::connect(global).await?;
    match kind {
        Kind::Tenant => {
            let tenant = get_tenant(&client, &name).await?;
            match global.output {
                Output::Table => print_text(&describe_tenant(&tenant)?),
                other => print_one(other, "Tenant", &tenant),
            }
        }
        Kind::Secret => {
            let secret = get_secret(&client, &name).await?;
            match global.output {
                Output::Table => print_text(&describe_secret(&secret)),
                other => print_one(other, "Secret", &secret),
            }
        }
        Kind::Peer => {
            let peer = get_peer(&client, &name).await?;
            match global.output {
                Output::Table => {
                    let sas = all_sas(&client, &name).await?;
                    print_text(&describe_peer(&peer, &sas)?)
                }
                other => print_one(other, "Peer", &peer),
            }
        }
        Kind::Token => {
            let token = get_token(&client, &name).await?;
            match global.output {
                Output::Table => print_text(&token_table(&[token])),
                other => print_one(other, "Token", &token),
            }
        }
        Kind::Sa | Kind::Audit | Kind::Node | Kind::Nodes | Kind::Slots => {
            Err(Failure::invalid("only tenants, peers, secrets and tokens can be described"))
        }
    }
}

fn describe_tenant(tenant: &v1::Tenant) -> Result<String, Failure> {
    let head = fields(&[
        ("Name", tenant.name.clone()),
        ("Display name", tenant.display_name.clone()),
        ("Number", tenant.number.to_string()),
        ("Etag", tenant.etag.clone()),
        ("Created", clock(tenant.create_time)),
        ("Changed", clock(tenant.update_time)),
    ]);
    let configured = v1::Tenant {
        uplink: tenant.uplink.clone(),
        quotas: tenant.quotas,
        policy: tenant.policy.clone(),
        ..Default::default()
    };
    let rules = indented(&rules(tenant));
    let mut conditions = conditions(&tenant.conditions);
    for refused in &tenant.refused_routes {
        conditions.push_str(&format!("\n  not led to the device: {refused}"));
    }
    Ok(format!(
        "{head}{conditions}\n\nRules, the first that matches decides:\n{rules}\n\nConfiguration:\n{}",
        yaml("Tenant", &configured)?
    ))
}

/// What packets meet, in order; an empty cell matches everything.
fn rules(tenant: &v1::Tenant) -> String {
    let side = |subnets: &[String], ports: &[String]| match (subnets, ports) {
        (subnets, []) => subnets.join(" "),
        (subnets, ports) => format!("{} port {}", subnets.join(" "), ports.join(" ")).trim_start().to_owned(),
    };
    let row = |(at, rule): (usize, &v1::EffectiveRule)| {
        let mark = if rule.implied { " *" } else { "" };
        let by = [rule.peer.strip_prefix("tenants/").unwrap_or_default(), &rule.child];
        vec![
            (at + 1).to_string(),
            format!("{}{mark}", rule.name),
            rule.action().as_str_name().to_owned(),
            side(&rule.local_subnets, &rule.local_ports),
            side(&rule.remote_subnets, &rule.remote_ports),
            rule.protocol.clone(),
            by.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" "),
            rule.note.clone(),
        ]
    };
    let header = ["#", "RULE", "ACTION", "LOCAL", "REMOTE", "PROTOCOL", "BY", "NOTE"];
    let mut text = table(&header, tenant.effective_rules.iter().enumerate().map(row).collect());
    let shown = u32::try_from(tenant.effective_rules.len()).unwrap_or(u32::MAX);
    if tenant.effective_rule_count > shown {
        text.push_str(&format!(
            "\n{} rules between the last two are not shown",
            tenant.effective_rule_count - shown
        ));
    }
    text.push_str("\n* nobody wrote it");
    text
}

fn describe_secret(secret: &v1::Secret) -> String {
    fields(&[
        ("Name", secret.name.clone()),
        ("Display name", secret.display_name.clone()),
        ("Value", "(never shown)".to_owned()),
        ("Etag", secret.etag.clone()),
        ("Created", clock(secret.create_time)),
        ("Changed", clock(secret.update_time)),
        ("Certificate ends", clock(secret.certificate_end_time)),
    ])
}

fn describe_peer(peer: &v1::Peer, sas: &[v1::Sa]) -> Result<String, Failure> {
    let status = peer.status.clone().unwrap_or_default();
    let known = !state(&status).is_empty();
    let head = fields(&[
        ("Name", peer.name.clone()),
        ("Display name", peer.display_name.clone()),
        ("Uid", peer.uid.to_string()),
        ("Etag", peer.etag.clone()),
        ("Created", clock(peer.create_time)),
        ("Changed", clock(peer.update_time)),
    ]);
    let tunnel = fields(&[
        ("State", if known { state(&status) } else { "not reported by this node".to_owned() }),
        ("Why", status.state_reason.clone()),
        ("Since", age(status.since)),
        ("Last error", status.last_error.clone()),
        ("Attempts", if status.attempts > 0 { status.attempts.to_string() } else { String::new() }),
        ("Next attempt", until(status.next_attempt)),
        ("Remote address", status.remote_address.clone()),
        ("IKE SPIs", status.ike_spis.clone()),
        ("IKE version", version(status.ike_version()).to_owned()),
        ("IKE algorithms", algorithms(&status.ike_proposal, &status.ike_legacy)),
        ("IKE rekeys", if known { status.ike_rekeys.to_string() } else { String::new() }),
        ("Child rekeys", if known { status.child_rekeys.to_string() } else { String::new() }),
    ]);
    let mut text = format!(
        "{head}{}\n\nTunnel:\n{}{}",
        warnings(&peer.warnings),
        indented(&tunnel),
        conditions(&status.conditions)
    );
    text.push_str(&names(&status.resolved_names));
    for child in &status.children {
        let lines = fields(&[
            ("SPI in/out", spis(child)),
            ("Mode", mode(child.mode()).to_owned()),
            ("Shard", child.shard.to_string()),
            ("Algorithms", algorithms(&child.suite, &child.legacy)),
            ("Local", child.local_selectors.join(", ")),
            ("Remote", child.remote_selectors.join(", ")),
            ("Packets in/out", format!("{}/{}", child.packets_in, child.packets_out)),
            ("Bytes in/out", format!("{}/{}", bytes(child.bytes_in), bytes(child.bytes_out))),
            ("Rekeys", child.rekeys.to_string()),
            ("Installed", clock(child.installed)),
            ("Rekey due", until(rekey_due(sas, child.inbound_spi))),
            ("Dropped", drops(sas, child.inbound_spi)),
        ]);
        let several = if child.resource > 0 { format!("#{}", child.resource) } else { String::new() };
        text.push_str(&format!("\n\nChild {}{several}:\n{}", child.name, indented(&lines)));
    }
    let configured = v1::Peer {
        name: String::new(),
        display_name: String::new(),
        uid: 0,
        etag: String::new(),
        create_time: None,
        update_time: None,
        status: None,
        warnings: Vec::new(),
        ..peer.clone()
    };
    text.push_str(&format!("\n\nConfiguration:\n{}", yaml("Peer", &configured)?));
    Ok(text)
}

/// What the peer's names resolve to, a line each; nothing if it has none.
fn names(names: &[v1::ResolvedName]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let row = |name: &v1::ResolvedName| {
        vec![name.name.clone(), name.addresses.join(", "), age(name.resolve_time), name.error.clone()]
    };
    let rows = names.iter().map(row).collect();
    format!("\n\nNames:\n{}", indented(&table(&["NAME", "ADDRESSES", "RESOLVED", "ERROR"], rows)))
}

/// What is weaker than it could be, a line each; nothing if nothing is.
fn warnings(warnings: &[String]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    format!("\n\nWarnings:\n{}", indented(&warnings.join("\n")))
}

fn version(version: v1::IkeVersion) -> &'static str {
    match version {
        v1::IkeVersion::Unspecified => "",
        v1::IkeVersion::Ikev2 => "IKEv2",
        v1::IkeVersion::Ikev1 => "IKEv1",
    }
}

/// What must hold, a line each; nothing if nobody has said anything.
fn conditions(conditions: &[v1::Condition]) -> String {
    if conditions.is_empty() {
        return String::new();
    }
    let row = |condition: &v1::Condition| {
        vec![
            condition.r#type().as_str_name().to_owned(),
            condition.status().as_str_name().to_owned(),
            condition.reason.clone(),
            age(condition.last_transition_time),
            condition.message.clone(),
        ]
    };
    let rows = conditions.iter().map(row).collect();
    format!(
        "\n\nConditions:\n{}",
        indented(&table(&["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"], rows))
    )
}

/// In words; nothing for what an older node did not say.
fn mode(mode: v1::ChildMode) -> &'static str {
    match mode {
        v1::ChildMode::Unspecified => "",
        v1::ChildMode::Tunnel => "tunnel",
        v1::ChildMode::Transport => "transport",
    }
}

fn child_sa(sas: &[v1::Sa], inbound_spi: u32) -> Option<(&v1::Sa, &v1::ChildSa)> {
    sas.iter().find_map(|sa| match &sa.kind {
        Some(v1::sa::Kind::Child(child)) if child.inbound_spi == inbound_spi => Some((sa, child)),
        _ => None,
    })
}

fn rekey_due(sas: &[v1::Sa], inbound_spi: u32) -> Option<prost_types::Timestamp> {
    child_sa(sas, inbound_spi).and_then(|(sa, _)| sa.rekey_due)
}

fn drops(sas: &[v1::Sa], inbound_spi: u32) -> String {
    let Some((_, child)) = child_sa(sas, inbound_spi) else {
        return String::new();
    };
    let mut drops: Vec<_> = child.drops.iter().filter(|(_, count)| **count > 0).collect();
    drops.sort();
    drops.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

fn yaml<M: prost::Message>(kind: &str, message: &M) -> Result<String, Failure> {
    let document = Document::new(kind, message, false)?;
    let text =
        serde_yaml_ng::to_string(&document).map_err(|error| Failure::failed(format!("{kind}: {error}")))?;
    Ok(indented(text.trim_end()))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
