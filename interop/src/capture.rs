//! What goes over a wire, written down and read again.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::command::{Running, must};
use crate::lab::Lab;
use crate::wait::until;

/// Octets of each packet that are kept: all of a header, and nothing of what is inside ESP.
const KEPT: &str = "128";
/// IKE_SA_INIT (RFC 7296, section 3.1).
const IKE_SA_INIT: &str = "34";

/// A capture that runs.
#[derive(Debug)]
pub struct Capture {
    process: Running,
    file: PathBuf,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets of ESP.
    pub esp: usize,
    /// Of them those with a number that was there before with the same SPI and destination.
    pub doubled: usize,
    /// IKE SAs that are begun, by the SPI of their initiator: what is sent twice or answered is one.
    pub inits: usize,
}

impl Capture {
    /// Writes down what goes over a device from now on.
    pub fn start(lab: &Lab, namespace: &str, device: &str, name: &str) -> Self {
        let (file, log) = (lab.file(&format!("{name}.pcapng")), lab.file(&format!("{name}.log")));
        let path = file.display().to_string();
        let arguments =
            ["netns", "exec", namespace, "dumpcap", "-q", "-i", device, "-s", KEPT, "-B", "64", "-w", &path];
        let process = Running::start("ip", &arguments, &log);
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        until("the capture runs", said, |said| said.contains("File:"));
        Self { process, file }
    }

    /// Ends it, and counts.
    pub fn stop(mut self) -> Seen {
        self.process.signal("INT");
        self.process.wait();
        let path = self.file.display().to_string();
        let fields = ["ip.dst", "esp.spi", "esp.sequence", "isakmp.exchangetype", "isakmp.ispi"];
        let fields = fields.iter().flat_map(|field| ["-e", field]);
        let arguments: Vec<&str> = ["-n", "-r", &path, "-T", "fields"].into_iter().chain(fields).collect();
        count(&must("tshark", &arguments))
    }
}

fn count(text: &str) -> Seen {
    let (mut seen, mut numbers, mut begun) = (Seen::default(), HashSet::new(), HashSet::new());
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (to, spi) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (number, exchange) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        if !spi.is_empty() {
            seen.esp += 1;
            seen.doubled += usize::from(!numbers.insert((to, spi, number)));
        }
        let by = fields.next().unwrap_or_default();
        if exchange == IKE_SA_INIT {
            begun.insert(by);
        }
    }
    seen.inits = begun.len();
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_counted() {
        let text = "10.0.0.1\t0xc1\t1\t\n10.0.0.2\t0xc1\t1\t\n10.0.0.1\t0xc1\t1\t\n10.0.0.1\t\t\t34\ta\n10.0.0.2\t\t\t34\ta\n10.0.0.1\t\t\t35\ta\n\t\t\t\n";
        assert_eq!(count(text), Seen { esp: 3, doubled: 1, inits: 1 });
    }
}
