//! `culvert watch`: what happens to tunnels, line by line. Survives a restart of the node and a broken connection.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::Args;
use culvert_proto::v1;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::cli::reference;
use crate::console::Global;
use crate::console::beside::tell;
use crate::console::connect::Client;
use crate::console::failure::{Failure, exit};
use crate::console::output::{Output, print_line, print_text};
use crate::console::table::clock;
use crate::status::NODE;

/// Between attempts to reach the node again.
const RETRY: Duration = Duration::from_secs(1);
/// A stream that has lasted for as long was one to a node that is well.
const HELD: Duration = Duration::from_secs(10);
/// Attempts in a row before it is given up: half a minute, longer than a restart takes.
const MAX_RETRIES: u32 = 30;

/// `culvert watch`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A tenant or a peer; everything without
    scope: Option<String>,
    /// Begin behind the event of this number, if it is still kept
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    after: u64,
    /// End after this many events
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
}

/// The last events of each node, or where they began.
#[derive(Debug, Default)]
struct Last {
    /// Of the node that is asked, as long as it is not known which of them that is.
    number: u64,
    /// Of each node of a cluster by its name.
    of_nodes: HashMap<String, u64>,
}

impl Last {
    fn saw(&mut self, event: &v1::Event) {
        if event.sequence == 0 {
            return;
        }
        if event.node.is_empty() {
            self.number = event.sequence;
            return;
        }
        // The first position is that of the node that is asked, and another one may be asked next. A server that tells none does not say
        // which node it is: there the number goes on to hold, until events of that node are known by its name.
        if event.r#type() == v1::EventType::NodePosition {
            self.number = 0;
        }
        self.of_nodes.insert(event.node.clone(), event.sequence);
    }

    /// Leaves out what a node does not have, and that of no other one; false if there is nothing to leave out.
    fn forget(&mut self, status: &Status) -> bool {
        let node = status.get_details_error_info().and_then(|mut info| info.metadata.remove(NODE));
        match node {
            Some(node) if self.of_nodes.remove(&node).is_some() => true,
            // It is the one that is asked, or one of which nothing more is known.
            Some(_) => std::mem::take(&mut self.number) > 0,
            None => {
                let had = !self.of_nodes.is_empty();
                self.of_nodes.clear();
                std::mem::take(&mut self.number) > 0 || had
            }
        }
    }
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let parent = reference::scope(arguments.scope.as_deref())?;
    let mut client = Client::connect(global).await?;
    let (mut last, mut seen, mut retries) = (Last { number: arguments.after, ..Last::default() }, 0, 0);
    while arguments.count.is_none_or(|count| seen < count) {
        let request = v1::WatchEventsRequest {
            parent: parent.clone(),
            after_sequence: last.number,
            after_sequences: last.of_nodes.clone(),
            positions: true,
        };
        // Whether there is more to begin again after than there was when it began.
        let mut went_on = false;
        let mut status = match client.sas().watch_events(request).await {
            Err(status) => status,
            Ok(stream) => {
                let mut stream = stream.into_inner();
                let begun = Instant::now();
                let ended = loop {
                    match stream.message().await {
                        Ok(Some(event)) => {
                            last.saw(&event);
                            if event.r#type() == v1::EventType::NodePosition {
                                continue;
                            }
                            retries = 0;
                            // Of a node that is away or there again it has none, and is no event of a tunnel.
                            if event.sequence > 0 {
                                (seen, went_on) = (seen + 1, true);
                            }
                            show(global.output, &event)?;
                            if arguments.count.is_some_and(|count| seen >= count) {
                                return Ok(());
                            }
                        }
                        Ok(None) => break Status::unavailable("the node ended the stream"),
                        Err(status) => break status,
                    }
                };
                if begun.elapsed() >= HELD {
                    // The node was there; where nothing happens for long, what is between cuts streams off.
                    retries = 0;
                }
                ended
            }
        };
        if status.code() == Code::OutOfRange {
            // Whoever was too slow goes on where it is, as long as that is kept.
            if went_on {
                continue;
            }
            if last.forget(&status) {
                note(&format!("{}; going on from now", status.message()));
                continue;
            }
        }
        // A broken connection comes as Unknown or Cancelled too.
        while matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) {
            retries += 1;
            if retries > MAX_RETRIES {
                return Err(Failure::new(exit::UNAVAILABLE, format!("lost the node: {}", status.message())));
            }
            if retries == 1 {
                note("lost the node; trying to reach it again");
            }
            tokio::time::sleep(RETRY).await;
            match Client::connect(global).await {
                Ok(connected) => {
                    client = connected;
                    break;
                }
                Err(failure) => status = Status::unavailable(failure.message),
            }
        }
        if !matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) {
            return Err(Failure::of_status(&status, &parent));
        }
    }
    Ok(())
}

fn show(output: Output, event: &v1::Event) -> Result<(), Failure> {
    if output != Output::Table {
        return print_line(output, "Event", event);
    }
    let state = match event.state() {
        v1::PeerState::Unspecified => "-",
        state => state.as_str_name(),
    };
    let (time, kind, peer) = (clock(event.time), event.r#type().as_str_name(), &event.peer);
    let node = if event.node.is_empty() { String::new() } else { format!("{:<12} ", event.node) };
    print_text(format!("{time}  {node}{:<20} {state:<12} {peer}  {}", kind, event.message).trim_end())
}

fn note(text: &str) {
    tell(format_args!("note: {text}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::RuntimeError;
    use crate::status;

    fn event(node: &str, sequence: u64) -> v1::Event {
        v1::Event { node: node.to_owned(), sequence, ..v1::Event::default() }
    }

    fn position(node: &str, sequence: u64) -> v1::Event {
        v1::Event { r#type: v1::EventType::NodePosition.into(), ..event(node, sequence) }
    }

    #[test]
    fn the_number_that_was_given_holds_until_it_is_known_of_which_node_it_is() {
        let mut last = Last { number: 3, ..Last::default() };
        last.saw(&event("other", 7));
        assert_eq!((last.number, last.of_nodes["other"]), (3, 7), "it is of another node");
        last.saw(&position("asked", 3));
        assert_eq!((last.number, last.of_nodes["asked"]), (0, 3));
    }

    #[test]
    fn what_one_node_has_lost_is_forgotten_of_it_alone() {
        let mut last = Last { number: 3, ..Last::default() };
        last.saw(&position("a", 3));
        for (node, number) in [("b", 7), ("c", 9), ("b", 0)] {
            last.saw(&event(node, number));
        }
        assert_eq!((last.number, last.of_nodes.len(), last.of_nodes["b"]), (0, 3, 7));
        let lost = status::of_runtime(&RuntimeError::Lagged(8), "");
        let lost = status::at_node(&lost, "b");
        assert_eq!(
            lost.message(),
            "node b: events up to 8 are no longer kept; list again and watch from now on"
        );
        assert!(last.forget(&lost) && !last.forget(&lost), "there is nothing more to forget of it");
        assert_eq!(last.of_nodes, [("a".to_owned(), 3), ("c".to_owned(), 9)].into());
        // A number that was given, which is of whoever is asked.
        let mut last = Last { number: 3, ..Last::default() };
        assert!(last.forget(&lost) && last.number == 0);
    }

    #[test]
    fn a_node_that_is_alone_is_gone_on_from_now() {
        let mut last = Last::default();
        last.saw(&event("", 5));
        let lost = status::of_runtime(&RuntimeError::Lagged(8), "");
        assert!(last.forget(&lost) && last.number == 0 && !last.forget(&lost));
    }
}
