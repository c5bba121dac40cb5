//! `culvert watch`: what happens to tunnels, line by line. Survives a restart of the node and a broken connection.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::Args;
use culvert_proto::v1;
use tonic::Code;

use crate::cli::reference;
use crate::console::Global;
use crate::console::connect::Client;
use crate::console::failure::{Failure, exit};
use crate::console::output::{Output, print_line, print_text};
use crate::console::table::clock;

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

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let parent = reference::scope(arguments.scope.as_deref())?;
    let mut client = Client::connect(global).await?;
    let (mut after_sequence, mut seen, mut retries) = (arguments.after, 0, 0);
    // Of each node of a cluster by its name.
    let mut last: HashMap<String, u64> = HashMap::new();
    while arguments.count.is_none_or(|count| seen < count) {
        let request =
            v1::WatchEventsRequest { parent: parent.clone(), after_sequence, after_sequences: last.clone() };
        let mut status = match client.sas().watch_events(request).await {
            Err(status) => status,
            Ok(stream) => {
                let mut stream = stream.into_inner();
                let begun = Instant::now();
                let ended = loop {
                    match stream.message().await {
                        Ok(Some(event)) => {
                            retries = 0;
                            // Of a node that is away or there again it has none, and is no event of a tunnel.
                            if event.sequence > 0 {
                                seen += 1;
                                if event.node.is_empty() {
                                    after_sequence = event.sequence;
                                } else {
                                    last.insert(event.node.clone(), event.sequence);
                                }
                            }
                            show(global.output, &event)?;
                            if arguments.count.is_some_and(|count| seen >= count) {
                                return Ok(());
                            }
                        }
                        Ok(None) => break tonic::Status::unavailable("the node ended the stream"),
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
        if status.code() == Code::OutOfRange && (after_sequence > 0 || !last.is_empty()) {
            note(&format!("{}; going on from now", status.message()));
            after_sequence = 0;
            last.clear();
            continue;
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
                Err(failure) => status = tonic::Status::unavailable(failure.message),
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

#[allow(clippy::print_stderr, reason = "what is no event goes beside the events")]
fn note(text: &str) {
    eprintln!("note: {text}");
}
