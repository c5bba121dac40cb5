//! Packets through the tunnels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::command::{Running, must, run};
use crate::lab::Lab;
use crate::wait::until;

/// What ping counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// Sent.
    pub sent: u32,
    /// Answered.
    pub received: u32,
}

fn parse(text: &str) -> Pings {
    let number = |mark: &str| -> u32 {
        let before = text.split(mark).next().unwrap_or_default();
        before.rsplit([' ', '\n']).find_map(|word| word.parse().ok()).unwrap_or(0)
    };
    Pings { sent: number(" packets transmitted"), received: number(" received") }
}

/// Pings `count` times, ten a second.
pub fn ping(namespace: &str, from: &str, to: &str, count: u32) -> Pings {
    let count = count.to_string();
    let arguments =
        ["netns", "exec", namespace, "ping", "-q", "-c", &count, "-i", "0.1", "-W", "2", "-I", from, to];
    parse(&run("ip", &arguments).text)
}

/// Waits until a ping is answered.
pub fn until_ping(namespace: &str, from: &str, to: &str) {
    until("a ping is answered", || ping(namespace, from, to, 1), |p| p.received == 1);
}

/// Pings of one run of a flood: a run ends when all its answers have come, so that none under way is taken for lost.
const RUN: u32 = 500;

/// A thousand pings a second in the background, run after run.
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Pings>,
}

impl Flood {
    /// Starts it.
    pub fn start(namespace: &str, from: &str, to: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, arguments) = (stop.clone(), [namespace.to_owned(), from.to_owned(), to.to_owned()]);
        let thread = std::thread::spawn(move || {
            let mut all = Pings { sent: 0, received: 0 };
            while !stopped.load(Ordering::Relaxed) {
                let [namespace, from, to] = &arguments;
                let (count, program) =
                    (RUN.to_string(), ["netns", "exec", namespace, "ping", "-q", "-i", "0.001"]);
                let said = run("ip", &[&program[..], &["-c", &count, "-W", "2", "-I", from, to]].concat());
                let pings = parse(&said.text);
                all.sent += pings.sent;
                all.received += pings.received;
            }
            all
        });
        Self { stop, thread }
    }

    /// Stops it; returns what it counted.
    pub fn stop(self) -> Pings {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(Pings { sent: 0, received: 0 })
    }
}

/// Sends `megabytes` by TCP from one namespace to a server in another; with `reverse` the other way round. Returns Mbit/s.
pub fn iperf(lab: &Lab, server: (&str, &str), client: (&str, &str), megabytes: u32, reverse: bool) -> f64 {
    let log = lab.file("iperf-server");
    let arguments = ["netns", "exec", server.0, "iperf3", "-s", "-1", "-B", server.1];
    let _server = Running::start("ip", &arguments, &log);
    until(
        "iperf3 listens",
        || must("ip", &["netns", "exec", server.0, "ss", "-ltn"]),
        |t| t.contains(":5201"),
    );
    let amount = format!("{megabytes}M");
    let mut arguments =
        vec!["netns", "exec", client.0, "iperf3", "-c", server.1, "-B", client.1, "-n", &amount, "-J"];
    if reverse {
        arguments.push("-R");
    }
    let text = must("ip", &arguments);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let received = &report["end"]["sum_received"];
    let bytes = received["bytes"].as_f64().unwrap_or(0.0);
    assert!(bytes >= f64::from(megabytes) * 0.95e6, "only {bytes} octets arrived: {text}");
    received["bits_per_second"].as_f64().unwrap_or(0.0) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_ping_are_read() {
        let text = "--- 10.2.0.1 ping statistics ---\n7832 packets transmitted, 7831 received, 0% packet loss, time 9ms";
        assert_eq!(parse(text), Pings { sent: 7832, received: 7831 });
        let text = "--- x ---\n3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 9ms";
        assert_eq!(parse(text), Pings { sent: 3, received: 0 });
    }
}
