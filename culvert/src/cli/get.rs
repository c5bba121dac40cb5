//! `culvert get`: lists, or one object.

use std::collections::BTreeSet;

use clap::Args;
use culvert_proto::v1;
use tonic::Status;

use crate::cli::get_access::{
    AUDIT_ENTRIES, all_tokens, audit_table, get_token, newest_entries, token_table,
};
use crate::cli::get_cluster::{all_slots, nodes_table, slots_table, table_of_nodes, warn_by, warn_of};
use crate::cli::reference::{ALL, Kind, Reference};
use crate::console::Global;
use crate::console::connect::Client;
use crate::console::failure::Failure;
use crate::console::output::{Kinded, Output, kinded_all, print_document, print_list, print_text};
use crate::console::table::{age, bytes, ends, fields, table, until};

/// Objects asked for at a time.
const PAGE_SIZE: i32 = 1000;

/// `culvert get`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// `tenants`, `peers`, `secrets`, `tokens`, `sas`, `audit`, `node`, `nodes` or `slots`, several of them, or names: `acme/b1`, `peers acme/b1 acme/b2`,
    /// `tenant/acme`, `tenants/acme/secrets/psk`
    #[arg(required = true, num_args = 1.., value_name = "WHAT")]
    what: Vec<String>,
    /// Of this tenant only
    #[arg(long, short)]
    tenant: Option<String>,
    /// Entries of the audit log at most
    #[arg(long, default_value_t = AUDIT_ENTRIES)]
    limit: usize,
}

/// What there is of one kind.
enum Found {
    Tenants(Vec<v1::Tenant>),
    Secrets(Vec<v1::Secret>),
    Peers(Vec<v1::Peer>),
    Tokens(Vec<v1::Token>),
    Sas(Vec<v1::Sa>),
    Audit(Vec<v1::AuditEntry>),
    Node(Box<v1::NodeStatus>),
    Nodes(Vec<v1::ClusterNode>),
    Slots(v1::ListSlotsResponse),
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let references = Reference::parse_all(&arguments.what, arguments.tenant.as_deref())?;
    // One object is printed as one, not as a list of one.
    let single = matches!(
        references.as_slice(),
        [Reference { kind: Kind::Node, .. } | Reference { name: Some(_), .. }]
    );
    let client = Client::connect(global).await?;
    let mut found: Vec<Found> = Vec::new();
    for reference in references {
        let more = fetch(&client, reference, arguments.limit).await?;
        match (found.last_mut(), more) {
            (Some(Found::Tenants(all)), Found::Tenants(more)) => all.extend(more),
            (Some(Found::Secrets(all)), Found::Secrets(more)) => all.extend(more),
            (Some(Found::Peers(all)), Found::Peers(more)) => all.extend(more),
            (Some(Found::Tokens(all)), Found::Tokens(more)) => all.extend(more),
            (Some(Found::Sas(all)), Found::Sas(more)) => all.extend(more),
            (_, more) => found.push(more),
        }
    }
    if global.output == Output::Table {
        let tables: Vec<String> = found.iter().map(Found::table).collect();
        return print_text(&tables.join("\n\n"));
    }
    let documents =
        found.iter().map(|found| found.documents(global.output)).collect::<Result<Vec<_>, _>>()?;
    let documents: Vec<_> = documents.into_iter().flatten().collect();
    match documents.as_slice() {
        [one] if single => print_document(global.output, one),
        all => print_list(global.output, all),
    }
}

async fn fetch(client: &Client, reference: Reference, limit: usize) -> Result<Found, Failure> {
    let Reference { kind, name, parent } = reference;
    Ok(match (kind, name) {
        (Kind::Tenant, None) if parent == ALL => Found::Tenants(all_tenants(client).await?),
        // `--tenant` names the one.
        (Kind::Tenant, None) => Found::Tenants(vec![get_tenant(client, &parent).await?]),
        (Kind::Tenant, Some(name)) => Found::Tenants(vec![get_tenant(client, &name).await?]),
        (Kind::Secret, None) => Found::Secrets(all_secrets(client, &parent).await?),
        (Kind::Secret, Some(name)) => Found::Secrets(vec![get_secret(client, &name).await?]),
        (Kind::Peer, None) => Found::Peers(all_peers(client, &parent).await?),
        (Kind::Peer, Some(name)) => Found::Peers(vec![get_peer(client, &name).await?]),
        (Kind::Token, None) => Found::Tokens(all_tokens(client, &parent).await?),
        (Kind::Token, Some(name)) => Found::Tokens(vec![get_token(client, &name).await?]),
        (Kind::Audit, _) => Found::Audit(newest_entries(client, &parent, limit).await?),
        (Kind::Sa, _) => Found::Sas(all_sas(client, &parent).await?),
        (Kind::Node, _) => {
            let answer = client.nodes().get_node_status(v1::GetNodeStatusRequest {}).await;
            Found::Node(Box::new(answer.map_err(|status| Failure::of_status(&status, "node"))?.into_inner()))
        }
        (Kind::Slots, _) => Found::Slots(all_slots(client).await?),
        (Kind::Nodes, _) => {
            let answer = client.nodes().list_nodes(v1::ListNodesRequest {}).await;
            Found::Nodes(answer.map_err(|status| Failure::of_status(&status, "nodes"))?.into_inner().nodes)
        }
    })
}

impl Found {
    fn table(&self) -> String {
        match self {
            Self::Tenants(tenants) => tenant_table(tenants),
            Self::Secrets(secrets) => secret_table(secrets),
            Self::Peers(peers) => peer_table(peers),
            Self::Tokens(tokens) => token_table(tokens),
            Self::Sas(sas) => sa_table(sas),
            Self::Audit(entries) => audit_table(entries),
            Self::Node(node) => node_fields(node),
            Self::Nodes(nodes) => nodes_table(nodes),
            Self::Slots(slots) => slots_table(slots),
        }
    }

    fn documents(&self, output: Output) -> Result<Vec<Kinded>, Failure> {
        match self {
            Self::Tenants(tenants) => kinded_all(output, "Tenant", tenants),
            Self::Secrets(secrets) => kinded_all(output, "Secret", secrets),
            Self::Peers(peers) => kinded_all(output, "Peer", peers),
            Self::Tokens(tokens) => kinded_all(output, "Token", tokens),
            Self::Sas(sas) => kinded_all(output, "Sa", sas),
            Self::Audit(entries) => kinded_all(output, "AuditEntry", entries),
            Self::Node(node) => kinded_all(output, "NodeStatus", std::slice::from_ref(node.as_ref())),
            Self::Nodes(nodes) => kinded_all(output, "ClusterNode", nodes),
            Self::Slots(answer) => {
                let slots = kinded_all(output, "Slot", &answer.slots)?;
                let arrivals = kinded_all(output, "SlotArrivals", &answer.arrivals)?;
                Ok(slots.into_iter().chain(arrivals).collect())
            }
        }
    }
}

fn tenant_table(tenants: &[v1::Tenant]) -> String {
    let row = |tenant: &v1::Tenant| {
        let uplink = match tenant.uplink.as_ref().and_then(|uplink| uplink.kind.as_ref()) {
            Some(v1::uplink::Kind::Tun(tun)) if tun.netns.is_empty() => format!("tun {}", tun.device),
            Some(v1::uplink::Kind::Tun(tun)) => format!("tun {} in {}", tun.device, tun.netns),
            _ => "hub".to_owned(),
        };
        let broken = tenant.conditions.iter().find(|c| c.status() == v1::ConditionStatus::False);
        let uplink = match broken {
            Some(condition) => format!("{uplink}: {}", condition.message),
            None => uplink,
        };
        let max_peers = tenant.quotas.map(|quotas| quotas.max_peers.to_string()).unwrap_or_default();
        let (name, display_name) = (tenant.name.clone(), tenant.display_name.clone());
        vec![name, display_name, tenant.number.to_string(), uplink, max_peers, age(tenant.create_time)]
    };
    let header = ["NAME", "DISPLAY NAME", "NUMBER", "UPLINK", "MAX PEERS", "AGE"];
    table(&header, tenants.iter().map(row).collect())
}

fn secret_table(secrets: &[v1::Secret]) -> String {
    let row = |secret: &v1::Secret| {
        let (name, display_name) = (secret.name.clone(), secret.display_name.clone());
        let ends = ends(secret.certificate_end_time);
        vec![name, display_name, ends, age(secret.update_time), age(secret.create_time)]
    };
    table(&["NAME", "DISPLAY NAME", "ENDS", "CHANGED", "AGE"], secrets.iter().map(row).collect())
}

fn peer_table(peers: &[v1::Peer]) -> String {
    let row = |peer: &v1::Peer| {
        let status = peer.status.clone().unwrap_or_default();
        let configured = peer.remote_addresses.first().cloned().unwrap_or_else(|| "any".to_owned());
        let remote =
            if status.remote_address.is_empty() { configured } else { status.remote_address.clone() };
        let spis = status.children.iter().map(spis).collect::<Vec<_>>().join(" ");
        let node = status.node.clone();
        let row = vec![
            peer.name.clone(),
            state(&status),
            age(status.since),
            remote,
            spis,
            format!("{}/{}", status.ike_rekeys, status.child_rekeys),
            format!("{}/{}", status.packets_in, status.packets_out),
            format!("{}/{}", bytes(status.bytes_in), bytes(status.bytes_out)),
            if status.last_error.is_empty() { wrong(&status) } else { status.last_error },
        ];
        (node, row)
    };
    let header = [
        "NAME",
        "STATE",
        "SINCE",
        "REMOTE",
        "SPI IN/OUT",
        "REKEYS IKE/CHILD",
        "PACKETS IN/OUT",
        "BYTES IN/OUT",
        "LAST ERROR",
    ];
    table_of_nodes(&header, peers.iter().map(row).collect())
}

/// What does not hold of a peer that has no error of its own.
fn wrong(status: &v1::PeerStatus) -> String {
    let wrong = status.conditions.iter().find(|c| c.status() == v1::ConditionStatus::False);
    let text = |c: &v1::Condition| if c.message.is_empty() { c.reason.clone() } else { c.message.clone() };
    wrong.map_or_else(|| status.state_reason.clone(), text)
}

fn sa_table(sas: &[v1::Sa]) -> String {
    let row = |sa: &v1::Sa| {
        let [kind, spis, suite, selectors, packets, volume] = match &sa.kind {
            Some(v1::sa::Kind::Ike(ike)) => {
                let spis = format!("{:016x}_{:016x}", ike.initiator_spi, ike.responder_spi);
                let version = if ike.version() == v1::IkeVersion::Ikev1 { "IKEv1" } else { "IKE" };
                let role = if ike.initiator { "initiator" } else { "responder" };
                let (kind, suite) = (format!("{version} ({role})"), algorithms(&ike.proposal, &ike.legacy));
                [kind, spis, suite, String::new(), String::new(), String::new()]
            }
            Some(v1::sa::Kind::Child(child)) => [
                child_kind(child),
                format!("{:08x}/{:08x}", child.inbound_spi, child.outbound_spi),
                algorithms(&child.suite, &child.legacy),
                format!("{} = {}", child.local_selectors.join(","), child.remote_selectors.join(",")),
                format!("{}/{}", child.packets_in, child.packets_out),
                format!("{}/{}", bytes(child.bytes_in), bytes(child.bytes_out)),
            ],
            None => std::array::from_fn(|_| String::new()),
        };
        let (peer, remote) = (sa.peer.clone(), sa.remote_address.clone());
        let row = vec![
            peer,
            kind,
            spis,
            suite,
            selectors,
            packets,
            volume,
            remote,
            age(sa.installed),
            until(sa.rekey_due),
        ];
        (sa.node.clone(), row)
    };
    let header = [
        "PEER",
        "KIND",
        "SPI IN/OUT",
        "ALGORITHMS",
        "SELECTORS",
        "PACKETS IN/OUT",
        "BYTES IN/OUT",
        "REMOTE",
        "AGE",
        "REKEY",
    ];
    table_of_nodes(&header, sas.iter().map(row).collect())
}

/// `CHILD lan`; with a number where it is one of several of its child.
fn child_kind(child: &v1::ChildSa) -> String {
    let several = if child.resource > 0 {
        format!("#{} on shard {}", child.resource, child.shard)
    } else {
        String::new()
    };
    let transport = if child.mode() == v1::ChildMode::Transport { " (transport)" } else { "" };
    format!("CHILD {}{several}{transport}", child.name)
}

fn node_fields(node: &v1::NodeStatus) -> String {
    let mut shown = vec![
        ("Version", node.version.clone()),
        ("Up for", age(node.start_time)),
        ("Listens on", node.listen_addresses.join(", ")),
        ("Slot", node.slot.to_string()),
        ("Shards", node.shards.to_string()),
        ("Tenants", node.tenants.to_string()),
        ("Peers", node.peers.to_string()),
        ("IKE SAs", node.ike_sas.to_string()),
        ("Child SAs", node.child_sas.to_string()),
        ("Half-open", node.half_open.to_string()),
    ];
    // In the order of names, and only what has happened.
    let mut counters: Vec<_> = node.counters.iter().filter(|(_, count)| **count > 0).collect();
    counters.sort();
    shown.extend(counters.into_iter().map(|(name, count)| (name.as_str(), count.to_string())));
    fields(&shown)
}

/// `ESTABLISHED`; a dash for what no node has reported.
pub(crate) fn state(status: &v1::PeerStatus) -> String {
    match status.state() {
        v1::PeerState::Unspecified => String::new(),
        state => state.as_str_name().to_owned(),
    }
}

/// `3des-sha1 (legacy: 3des, sha1)`
pub(crate) fn algorithms(suite: &str, legacy: &[String]) -> String {
    if legacy.is_empty() { suite.to_owned() } else { format!("{suite} (legacy: {})", legacy.join(", ")) }
}

/// `00a1b2c3/00d4e5f6`
pub(crate) fn spis(child: &v1::ChildStatus) -> String {
    format!("{:08x}/{:08x}", child.inbound_spi, child.outbound_spi)
}

pub(crate) async fn get_tenant(client: &Client, name: &str) -> Result<v1::Tenant, Failure> {
    let answer = client.tenants().get_tenant(v1::GetTenantRequest { name: name.to_owned() }).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Failure::of_status(&status, name))
}

pub(crate) async fn get_secret(client: &Client, name: &str) -> Result<v1::Secret, Failure> {
    let answer = client.secrets().get_secret(v1::GetSecretRequest { name: name.to_owned() }).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Failure::of_status(&status, name))
}

pub(crate) async fn get_peer(client: &Client, name: &str) -> Result<v1::Peer, Failure> {
    let answer = client.peers().get_peer(v1::GetPeerRequest { name: name.to_owned() }).await;
    let answer = answer.map_err(|status| Failure::of_status(&status, name))?;
    warn_by(answer.metadata());
    Ok(answer.into_inner())
}

async fn all_tenants(client: &Client) -> Result<Vec<v1::Tenant>, Failure> {
    let fail = |status: Status| Failure::of_status(&status, "tenants");
    let (mut tenants, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListTenantsRequest { page_size: PAGE_SIZE, page_token };
        let page = client.tenants().list_tenants(request).await.map_err(fail)?.into_inner();
        tenants.extend(page.tenants);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(tenants);
        }
    }
}

async fn all_secrets(client: &Client, parent: &str) -> Result<Vec<v1::Secret>, Failure> {
    let fail = |status: Status| Failure::of_status(&status, parent);
    let (mut secrets, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListSecretsRequest { parent: parent.to_owned(), page_size: PAGE_SIZE, page_token };
        let page = client.secrets().list_secrets(request).await.map_err(fail)?.into_inner();
        secrets.extend(page.secrets);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(secrets);
        }
    }
}

async fn all_peers(client: &Client, parent: &str) -> Result<Vec<v1::Peer>, Failure> {
    let fail = |status: Status| Failure::of_status(&status, parent);
    let (mut peers, mut away, mut page_token) = (Vec::new(), BTreeSet::new(), String::new());
    loop {
        let request = v1::ListPeersRequest { parent: parent.to_owned(), page_size: PAGE_SIZE, page_token };
        let page = client.peers().list_peers(request).await.map_err(fail)?.into_inner();
        peers.extend(page.peers);
        away.extend(page.nodes_away);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            warn_of(&away.into_iter().collect::<Vec<_>>());
            return Ok(peers);
        }
    }
}

/// Streamed: there may be many.
pub(crate) async fn all_sas(client: &Client, parent: &str) -> Result<Vec<v1::Sa>, Failure> {
    let fail = |status: Status| Failure::of_status(&status, parent);
    let request = v1::StreamSasRequest { parent: parent.to_owned() };
    let answer = client.sas().stream_sas(request).await.map_err(fail)?;
    warn_by(answer.metadata());
    let mut stream = answer.into_inner();
    let mut sas = Vec::new();
    while let Some(sa) = stream.message().await.map_err(fail)? {
        sas.push(sa);
    }
    Ok(sas)
}
