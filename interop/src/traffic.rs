//! Packets through the tunnels.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use crate::command::{Running, binary, must, run};
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

/// What [`Flood`] counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echoes {
    /// Sent.
    pub sent: u32,
    /// Answered.
    pub received: u32,
    /// Which were not, and when they were sent (UTC).
    pub lost: String,
}

/// A thousand echo requests a second in the background.
#[derive(Debug)]
pub struct Flood(Child);

impl Flood {
    /// Starts it.
    pub fn start(namespace: &str, from: &str, to: &str) -> Self {
        let child = Command::new("ip")
            .args(["netns", "exec", namespace, &binary("echoes"), from, to])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap_or_else(|e| panic!("ip: {e}")))
    }

    /// Stops it, and waits for answers that are under way.
    pub fn stop(mut self) -> Echoes {
        drop(self.0.stdin.take());
        let mut text = String::new();
        let read = self.0.stdout.take().map(|mut out| out.read_to_string(&mut text));
        assert!(matches!(read, Some(Ok(_))), "what echoes says: {read:?}");
        echoes(&text).unwrap_or_else(|| panic!("echoes says {text:?}"))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // Also when the test has failed. It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn echoes(text: &str) -> Option<Echoes> {
    let (sent, rest) = text.trim_end().split_once(" echoes sent, ")?;
    let (received, lost) = rest.split_once(" answered; lost: ")?;
    Some(Echoes { sent: sent.parse().ok()?, received: received.parse().ok()?, lost: lost.to_owned() })
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
    fn the_figures_of_echoes_are_read() {
        let text = "1003 echoes sent, 1002 answered; lost: 17 at 14:33:12.545703\n";
        let lost = "17 at 14:33:12.545703".to_owned();
        assert_eq!(echoes(text), Some(Echoes { sent: 1003, received: 1002, lost }));
        assert_eq!(echoes("echoes: no such address"), None);
    }

    #[test]
    fn the_figures_of_ping_are_read() {
        let text = "--- 10.2.0.1 ping statistics ---\n7832 packets transmitted, 7831 received, 0% packet loss, time 9ms";
        assert_eq!(parse(text), Pings { sent: 7832, received: 7831 });
        let text = "--- x ---\n3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 9ms";
        assert_eq!(parse(text), Pings { sent: 3, received: 0 });
    }
}
