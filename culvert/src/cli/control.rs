//! `culvert initiate`, `terminate` and `rekey`.

use clap::Args;
use culvert_proto::v1;
use tonic::{Code, Status};

use crate::cli::get::{get_peer, spis, state};
use crate::cli::reference;
use crate::console::Global;
use crate::console::connect::Client;
use crate::console::failure::Failure;
use crate::console::output::{Output, print_one, print_text};

/// `culvert initiate`
#[derive(Debug, Args)]
pub(crate) struct Initiate {
    /// `tenants/acme/peers/b1` or `acme/b1`
    peer: String,
}

/// `culvert terminate`
#[derive(Debug, Args)]
pub(crate) struct Terminate {
    /// `tenants/acme/peers/b1` or `acme/b1`
    peer: String,
}

/// `culvert dummies`
#[derive(Debug, Args)]
pub(crate) struct Dummies {
    /// `tenants/acme/peers/b1` or `acme/b1`
    peer: String,
    /// Packets on each Child SA
    #[arg(long, short = 'n', default_value_t = 1)]
    count: u32,
    /// Octets that each pretends to carry
    #[arg(long, default_value_t = 64)]
    length: u32,
}

/// `culvert rekey`
#[derive(Debug, Args)]
pub(crate) struct Rekey {
    /// `tenants/acme/peers/b1` or `acme/b1`
    peer: String,
    /// The IKE SA instead of the Child SAs
    #[arg(long, conflicts_with = "child")]
    ike: bool,
    /// This Child SA only
    #[arg(long, value_name = "NAME")]
    child: Option<String>,
}

pub(crate) async fn initiate(global: &Global, arguments: Initiate) -> Result<(), Failure> {
    let name = reference::peer(&arguments.peer)?;
    let client = Client::connect(global).await?;
    let answer = client.peers().initiate_peer(v1::InitiatePeerRequest { name: name.clone() }).await;
    match answer {
        Ok(answer) => show(global, &name, answer.into_inner().status),
        Err(status) => {
            let status = not_in_time(&client, &name, status).await;
            let hint = format!("`culvert explain {name}` tells more");
            Err(Failure::of_status(&status, &name).hint(hint))
        }
    }
}

pub(crate) async fn terminate(global: &Global, arguments: Terminate) -> Result<(), Failure> {
    let name = reference::peer(&arguments.peer)?;
    let client = Client::connect(global).await?;
    let answer = client.peers().terminate_peer(v1::TerminatePeerRequest { name: name.clone() }).await;
    let answer = answer.map_err(|status| Failure::of_status(&status, &name))?;
    show(global, &name, answer.into_inner().status)
}

pub(crate) async fn dummies(global: &Global, arguments: Dummies) -> Result<(), Failure> {
    let name = reference::peer(&arguments.peer)?;
    let client = Client::connect(global).await?;
    let Dummies { count, length, .. } = arguments;
    let answer =
        client.peers().send_dummies(v1::SendDummiesRequest { name: name.clone(), count, length }).await;
    let answer = answer.map_err(|status| Failure::of_status(&status, &name))?.into_inner();
    if global.output != Output::Table {
        return print_one(global.output, "SendDummiesResponse", &answer);
    }
    print_text(&format!("{count} of {length} octets on each of {} Child SAs", answer.child_sas))
}

pub(crate) async fn rekey(global: &Global, arguments: Rekey) -> Result<(), Failure> {
    let name = reference::peer(&arguments.peer)?;
    let client = Client::connect(global).await?;
    let target = if arguments.ike { v1::RekeyTarget::Ike } else { v1::RekeyTarget::Child };
    let child = arguments.child.unwrap_or_default();
    let request = v1::RekeyPeerRequest { name: name.clone(), target: target.into(), child };
    let answer = client.peers().rekey_peer(request).await;
    let answer = answer.map_err(|status| Failure::of_status(&status, &name))?;
    show(global, &name, answer.into_inner().status)
}

/// Where our own patience has ended, the node is asked what it knows of the tunnel by now: it is not the one that is late.
async fn not_in_time(client: &Client, name: &str, status: Status) -> Status {
    if !matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) {
        return status;
    }
    let known = get_peer(client, name).await.ok().and_then(|peer| peer.status).unwrap_or_default();
    if known.last_error.is_empty() {
        return status;
    }
    Status::failed_precondition(format!("not up in time, and it is still tried: {}", known.last_error))
}

fn show(global: &Global, name: &str, status: Option<v1::PeerStatus>) -> Result<(), Failure> {
    let status = status.unwrap_or_default();
    if global.output != Output::Table {
        return print_one(global.output, "PeerStatus", &status);
    }
    let mut text = format!("{name} {}", state(&status));
    for child in &status.children {
        text.push_str(&format!(
            "\n  {} {} {}, {} rekeys",
            child.name,
            spis(child),
            child.suite,
            child.rekeys
        ));
    }
    print_text(&text)
}
