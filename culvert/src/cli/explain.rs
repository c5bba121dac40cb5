//! `culvert explain`: why a tunnel is not up.

use std::fmt::Write as _;

use clap::Args;
use culvert_proto::v1;

use crate::cli::get::state;
use crate::cli::reference;
use crate::console::Global;
use crate::console::connect::Client;
use crate::console::failure::Failure;
use crate::console::output::{Output, print_one, print_text};
use crate::console::table::age;

/// `culvert explain`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// `tenants/acme/peers/b1` or `acme/b1`
    peer: String,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let name = reference::peer(&arguments.peer)?;
    let client = Client::connect(global).await?;
    let answer = client.peers().explain_peer(v1::ExplainPeerRequest { name: name.clone() }).await;
    let answer = answer.map_err(|status| Failure::of_status(&status, &name))?.into_inner();
    if global.output != Output::Table {
        return print_one(global.output, "ExplainPeerResponse", &answer);
    }
    print_text(text(&name, &answer).trim_end())
}

fn text(name: &str, answer: &v1::ExplainPeerResponse) -> String {
    let status = answer.status.clone().unwrap_or_default();
    let mut out = format!("{name} {}", state(&status));
    let since = age(status.since);
    if !since.is_empty() {
        // Writing into a string does not fail, here and below.
        let _ = write!(out, " for {since}");
    }
    out.push('\n');
    if answer.attempts.is_empty() {
        out.push_str("\nNothing was negotiated yet, and nothing came from an address of this peer.\n");
        out.push_str(
            "  - if the peer is to begin: does it run, does it know our address, is UDP 500 let through?\n",
        );
        out.push_str(
            "  - if we are to begin: startAction must be START, and remoteAddresses must name a host\n",
        );
    }
    for attempt in &answer.attempts {
        let who = match (attempt.unidentified, attempt.initiated) {
            (true, _) => "refused before it said who it is,",
            (_, true) => "started by us, to",
            (_, false) => "started by the peer,",
        };
        let _ = write!(out, "\n{} ago  {who} {}\n", age(attempt.start_time), attempt.remote_address);
        for step in &attempt.steps {
            let _ = writeln!(out, "  {:>8} ago  {}", age(step.time), step.text);
        }
        if let Some(cause) = &attempt.cause {
            let _ = writeln!(out, "  cause: {}: {}", cause.kind, cause.summary);
            for advice in &cause.advice {
                let _ = writeln!(out, "    - {advice}");
            }
        }
    }
    out
}
