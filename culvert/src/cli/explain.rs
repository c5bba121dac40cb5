//! `culvert explain`: why a tunnel is not up.

use std::fmt::Write as _;

use clap::Args;
use culvert_proto::v1;

use crate::cli::get::state;
use crate::cli::get_cluster::warn_of;
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
    warn_of(&answer.nodes_away);
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
    if !status.state_reason.is_empty() {
        let _ = write!(out, ", {}", status.state_reason);
    }
    if !status.node.is_empty() {
        let _ = write!(out, " at node {}", status.node);
    }
    if !status.home_node.is_empty() && status.home_node != status.node {
        let _ = write!(out, "; node {} begins with it", status.home_node);
    }
    out.push('\n');
    for condition in &status.conditions {
        out.push_str(&wrong(condition));
    }
    if answer.attempts.is_empty() {
        out.push_str("\nNothing was negotiated yet, and nothing came from an address of this peer.\n");
        out.push_str(
            "  - if the peer is to begin: does it run, does it know our address, is UDP 500 let through?\n",
        );
        out.push_str(
            "  - if we are to begin: startAction must be START, and remoteAddresses must have an address or a host name\n",
        );
    }
    // The newest first: it is what matters.
    for attempt in answer.attempts.iter().rev() {
        let who = match (attempt.unidentified, attempt.initiated) {
            (true, _) if attempt.cause.is_none() => "begun by somebody who has not said who it is,",
            (true, _) => "refused before it said who it is,",
            // Where a name leads to was not found out.
            (_, true) if attempt.remote_address.is_empty() => "started by us",
            (_, true) => "started by us, to",
            // Whoever began it did so at another node.
            (_, false) if attempt.remote_address.is_empty() => "taken over from another node",
            (_, false) => "started by the peer,",
        };
        let line = format!("{} ago  {who} {}", age(attempt.start_time), attempt.remote_address);
        let at = if attempt.node.is_empty() { String::new() } else { format!(", at node {}", attempt.node) };
        let _ = write!(out, "\n{}{at}\n", line.trim_end());
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
    if answer.omitted_attempts > 0 {
        let _ = writeln!(
            out,
            "\n{} more negotiations of strangers that may be this peer's are not shown",
            answer.omitted_attempts
        );
    }
    out
}

/// A condition that does not hold, and what to do about it; nothing of one that holds.
fn wrong(condition: &v1::Condition) -> String {
    if condition.status() != v1::ConditionStatus::False {
        return String::new();
    }
    let advice = match condition.r#type() {
        v1::ConditionType::Unspecified => "",
        v1::ConditionType::Uplink => {
            "the tenant's packets cannot leave by its device, whatever its tunnels do; it is tried again by itself, and \
             `culvert describe tenant` shows how it stands"
        }
        v1::ConditionType::Secret => {
            "create the secret again with `culvert apply`; the peer starts as soon as it is there"
        }
        v1::ConditionType::Reachable => "see the last attempt below",
        v1::ConditionType::Covered => {
            "packets of that traffic are dropped meanwhile; the attempts below say why, and `culvert initiate` asks again"
        }
    };
    let kind = condition.r#type().as_str_name();
    let mut text =
        format!("  {kind} is false since {}: {}", age(condition.last_transition_time), condition.reason);
    if !condition.message.is_empty() {
        let _ = write!(text, ": {}", condition.message);
    }
    text.push('\n');
    if !advice.is_empty() {
        let _ = writeln!(text, "    - {advice}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_began_is_said_if_it_is_known_and_what_was_taken_over_was_begun_elsewhere() {
        let line = |initiated, remote_address: &str, node: &str| {
            let (remote_address, node) = (remote_address.to_owned(), node.to_owned());
            let attempts = vec![v1::Attempt { initiated, remote_address, node, ..v1::Attempt::default() }];
            let answer = v1::ExplainPeerResponse { attempts, ..v1::ExplainPeerResponse::default() };
            let text = text("acme/b1", &answer);
            text.lines().last().unwrap().split_once("ago  ").unwrap().1.to_owned()
        };
        assert_eq!(line(true, "", ""), "started by us");
        assert_eq!(line(true, "192.0.2.1:500", ""), "started by us, to 192.0.2.1:500");
        assert_eq!(line(false, "192.0.2.1:500", "b"), "started by the peer, 192.0.2.1:500, at node b");
        assert_eq!(line(false, "", "b"), "taken over from another node, at node b");
    }
}
