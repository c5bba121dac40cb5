//! `culvert export`: what to type on the remote device.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use culvert_proto::v1;
use ike::config::Psk;

use crate::cli::get::{all_sas, get_peer, get_tenant};
use crate::cli::reference;
use crate::console::beside::tell;
use crate::console::message::to_json;
use crate::console::output::print_text;
use crate::console::{Client, Failure, Global};
use crate::exchange::export::{Device, export};
use crate::exchange::{Key, Peer};

/// Octets of a key file: more than any secret of Culvert has.
const MAX_KEY: u64 = 4096;

/// `culvert export`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// `tenants/acme/peers/b1` or `acme/b1`
    peer: String,
    /// The device that is to be configured
    #[arg(long = "for", value_enum, value_name = "DEVICE")]
    device: Device,
    /// Where the device reaches this node; by default the address of the tunnel or of localIdentity
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Put the pre-shared key in this file into the output, which otherwise has a placeholder; one line break at the end is
    /// not part of it. The node never says a key
    #[arg(long, value_name = "FILE")]
    psk_file: Option<PathBuf>,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let name = reference::peer(&arguments.peer)?;
    if let Some(address) = &arguments.address
        && address.parse::<IpAddr>().is_err()
        && address.parse::<tenants::HostName>().is_err()
    {
        let fault = format!("--address: {address:?} is neither an address nor a host name");
        return Err(
            Failure::invalid(fault).hint("expected such as 192.0.2.1, 2001:db8::1 or vpn.example.net")
        );
    }
    let has_file = arguments.psk_file.is_some();
    let mut key = arguments.psk_file.map_or(Ok(Key::Unknown), read_key)?;
    let client = Client::connect(global).await?;
    let peer = get_peer(&client, &name).await?;
    if let Some(v1::auth::Method::Certificates(_)) = peer.auth.as_ref().and_then(|auth| auth.method.as_ref())
    {
        if has_file {
            let fault =
                format!("--psk-file: {name} authenticates by certificates, and has no pre-shared key");
            return Err(Failure::invalid(fault));
        }
        key = Key::Certificates;
    }
    let broken = |fault: String| Failure::failed(format!("{name}: {fault}"));
    let fields = to_json("Peer", &peer)?;
    let manifest: Peer = serde_json::from_value(fields).map_err(|error| broken(error.to_string()))?;
    let mut tunnel = manifest.to_tunnel(key).map_err(broken)?;
    let address = match arguments.address {
        Some(address) => Some(address),
        None => known_address(&client, &name, &peer.local_identity).await?,
    };
    tunnel.culvert.addresses = address.into_iter().collect();
    let tenant = get_tenant(&client, name.split("/peers/").next().unwrap_or_default()).await?;
    if tenant.policy.is_some_and(|policy| !policy.rules.is_empty()) {
        note(&["the tenant has rules of its own: of the subnets, what they protect alone goes through the tunnel".to_owned()]);
    }
    let sheet =
        export(arguments.device, &tunnel).map_err(|fault| Failure::invalid(format!("{name}: {fault}")))?;
    note(&sheet.notes);
    print_text(sheet.text.trim_end())
}

/// Where the device reaches this node, as far as anybody knows.
async fn known_address(client: &Client, name: &str, identity: &str) -> Result<Option<String>, Failure> {
    if identity.parse::<IpAddr>().is_ok() {
        return Ok(Some(identity.to_owned()));
    }
    let of_ike =
        |sa: &v1::Sa| matches!(sa.kind, Some(v1::sa::Kind::Ike(_))).then(|| sa.local_address.clone());
    let sas = all_sas(client, name).await?;
    let local = sas.iter().find_map(of_ike).and_then(|local| local.parse::<std::net::SocketAddr>().ok());
    Ok(local.map(|local| local.ip().to_string()))
}

fn read_key(path: PathBuf) -> Result<Key, Failure> {
    use std::io::Read as _;
    let fail = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let mut key = Vec::new();
    std::fs::File::open(&path).map_err(fail)?.take(MAX_KEY).read_to_end(&mut key).map_err(fail)?;
    let is_whole = u64::try_from(key.len()).is_ok_and(|length| length < MAX_KEY);
    let key = Psk::in_file(&key);
    if key.is_empty() || !is_whole {
        return Err(Failure::invalid(format!("{}: empty, or too long for a key", path.display())));
    }
    Ok(Key::Known(key.to_vec()))
}

/// What the device cannot say, beside what is for it.
fn note(notes: &[String]) {
    for note in notes {
        tell(format_args!("note: {note}"));
    }
}
