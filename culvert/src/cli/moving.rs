//! `culvert drain` and `culvert move`: tunnels go from one node of a cluster to another, without a word to their peers.

use clap::{Args, Subcommand};
use culvert_proto::v1;
use tonic::{Code, Status};

use crate::console::Global;
use crate::console::beside::tell;
use crate::console::connect::Client;
use crate::console::failure::{Failure, exit};
use crate::console::output::{Output, print_one, print_text};

/// `culvert drain`
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// Name of the node, as `culvert get nodes` has it
    node: String,
}

/// `culvert move`
#[derive(Debug, Args)]
pub(crate) struct Move {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Move a slot, with all its connections
    Slot(MoveSlot),
}

#[derive(Debug, Args)]
struct MoveSlot {
    /// Number of the slot, as `culvert get slots` has it
    slot: u32,
    /// Name of the node that is to have it
    #[arg(long, value_name = "NODE")]
    to: String,
}

pub(crate) async fn drain(global: &Global, arguments: Drain) -> Result<(), Failure> {
    let name = arguments.node;
    let client = Client::connect(global).await?;
    announce(&client, &name).await;
    let answer = client.nodes().drain_node(v1::DrainNodeRequest { name: name.clone() }).await;
    let answer = answer.map_err(|status| unanswered(&status, &name))?.into_inner();
    if global.output == Output::Table {
        let mut lines: Vec<String> = answer.moved.iter().map(said).collect();
        if answer.staying.is_empty() {
            lines.push(format!("{name} is drained; it takes slots again when it is started again"));
        }
        print_text(&lines.join("\n"))?;
    } else {
        print_one(global.output, "DrainNodeResponse", &answer)?;
    }
    if answer.staying.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::new(exit::PARTLY, format!("{name}: some slots stay"));
    failure.details = answer.staying.iter().map(|slot| format!("{}: {}", slot.name, slot.reason)).collect();
    Err(failure.hint("`culvert get nodes` shows who is there; the same command tries again"))
}

/// Says what is about to go. Who cannot be told of it is not kept from it.
async fn announce(client: &Client, name: &str) {
    let Ok(answer) = client.nodes().list_slots(v1::ListSlotsRequest {}).await else { return };
    let slots = answer.into_inner().slots;
    let (mut count, mut connections) = (0, 0);
    for slot in slots.iter().filter(|slot| slot.owner == name && slot.connections > 0) {
        (count, connections) = (count + 1, connections + slot.connections);
    }
    tell(format_args!("moving {count} slots with {connections} connections from {name}"));
}

pub(crate) async fn move_it(global: &Global, arguments: Move) -> Result<(), Failure> {
    let What::Slot(MoveSlot { slot, to }) = arguments.what;
    let name = format!("slots/{slot}");
    let client = Client::connect(global).await?;
    let answer = client.nodes().move_slot(v1::MoveSlotRequest { name: name.clone(), to }).await;
    let moved = answer.map_err(|status| unanswered(&status, &name))?.into_inner();
    if global.output != Output::Table {
        return print_one(global.output, "MovedSlot", &moved);
    }
    print_text(&said(&moved))
}

/// Why there is no answer. What takes longer than is waited for is no node that is away.
fn unanswered(status: &Status, name: &str) -> Failure {
    let failure = Failure::of_status(status, name);
    // tonic makes Cancelled of a deadline of its own.
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => {
            failure.hint("it goes on all the same; `culvert get slots` shows how far it is")
        }
        _ => failure,
    }
}

fn said(moved: &v1::MovedSlot) -> String {
    let v1::MovedSlot { name, from, to, connections } = moved;
    format!("{name} went from {from} to {to} with {connections} connections")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_than_is_waited_for_goes_on() {
        let hints = |status| unanswered(&status, "node-2").hints.join("\n");
        for late in [Status::deadline_exceeded("late"), Status::cancelled("Timeout expired")] {
            let hints = hints(late);
            assert!(hints.contains("--timeout") && hints.contains("it goes on all the same"), "{hints}");
        }
        assert_eq!(hints(Status::unavailable("node node-2, which this is for, is away")), "");
    }
}
