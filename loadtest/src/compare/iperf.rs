//! TCP through whatever leads from one side to the other, by iperf3.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::lab::{About as _, Lab, LabError, run};

/// What a measurement may take beside its time: to connect, and to say what it has come to. Over a path that has died TCP alone would
/// go on trying for a quarter of an hour.
const SLACK: Duration = Duration::from_secs(20);

/// What one measurement has come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tcp {
    /// What arrived, in Mbit/s.
    pub(crate) mbps: f64,
    /// Segments that were sent again.
    pub(crate) again: u64,
    /// Octets that arrived.
    pub(crate) octets: f64,
}

/// Its version, if it is installed.
pub(crate) fn version() -> Result<String, LabError> {
    let hint =
        |_| LabError::Program("iperf3".to_owned(), "not installed; try: apt-get install iperf3".to_owned());
    let text = run("iperf3", &["--version"]).map_err(hint)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The congestion control to measure with: the one that is asked for, or else the system's. Ratios between programs differ by it as far as by
/// anything else: where it waits between packets, as BBR does, whoever is fast waits.
pub(crate) fn congestion(asked: Option<&str>) -> Result<String, LabError> {
    let read = |name: &str| {
        let file = format!("/proc/sys/net/ipv4/{name}");
        std::fs::read_to_string(&file).map(|text| text.trim().to_owned()).about(file)
    };
    match asked {
        None => read("tcp_congestion_control"),
        Some(asked) => chosen(asked, &read("tcp_available_congestion_control")?).map_err(LabError::Argument),
    }
}

fn chosen(asked: &str, available: &str) -> Result<String, String> {
    let known = || available.split_whitespace();
    known().find(|name| *name == asked).map(str::to_owned).ok_or_else(|| {
        let names = known().collect::<Vec<_>>().join(", ");
        format!("--congestion {asked}: expected one that the kernel has: {names}; others are modules: modprobe tcp_{asked}")
    })
}

/// So many streams for so long from the first side to the second.
pub(crate) fn tcp(
    lab: &Lab,
    [near, far]: [IpAddr; 2],
    streams: u32,
    (time, congestion): (Duration, Option<&str>),
) -> Result<Tcp, LabError> {
    let (near, far) = (near.to_string(), far.to_string());
    let folder = lab.folder("iperf3")?;
    let mut server = lab.start(1, &folder, "iperf3", &["-s", "-1", "--forceflush", "-B", &far])?;
    let log = server.log.clone();
    lab.wait("the server of iperf3", std::slice::from_mut(&mut server), || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("listening"))
    })?;
    let limit = time + SLACK;
    let (time, streams) = (time.as_secs().max(1).to_string(), streams.to_string());
    let mut words = vec!["-c", &far, "-B", &near, "-J", "-t", &time, "-P", &streams];
    words.extend(congestion.into_iter().flat_map(|name| ["-C", name]));
    let text = lab.run_to(0, "iperf3", &words, &[0], limit)?;
    let outcome = parse(&text).map_err(|error| LabError::Program("iperf3".to_owned(), error))?;
    // It ends with this value, whether it has noticed the end of the measurement or not.
    drop(server);
    Ok(outcome)
}

fn parse(text: &str) -> Result<Tcp, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if let Some(error) = json.get("error") {
        return Err(error.to_string());
    }
    let number = |path: &str| json.pointer(path).and_then(Value::as_f64);
    let received = number("/end/sum_received/bits_per_second").ok_or("its answer lacks end.sum_received")?;
    let octets = number("/end/sum_received/bytes").ok_or("its answer lacks end.sum_received.bytes")?;
    // Some systems do not count them.
    let again = json.pointer("/end/sum_sent/retransmits").and_then(Value::as_u64).unwrap_or(0);
    Ok(Tcp { mbps: received / 1e6, again, octets })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_congestion_control_is_one_that_the_kernel_has() {
        assert_eq!(chosen("cubic", "reno bbr cubic\n").unwrap(), "cubic");
        let error = chosen("cub", "reno cubic").unwrap_err();
        assert!(error.contains("--congestion cub:") && error.contains("reno, cubic"), "{error}");
        assert!(!congestion(None).unwrap().is_empty());
    }

    #[test]
    fn what_iperf3_says_is_read() {
        let text = r#"{"end": {"sum_sent": {"retransmits": 7}, "sum_received": {"bits_per_second": 2.5e9, "bytes": 1250000000}}}"#;
        assert_eq!(parse(text).unwrap(), Tcp { mbps: 2500.0, again: 7, octets: 1.25e9 });
        assert!(parse(r#"{"error": "unable to connect"}"#).unwrap_err().contains("unable to connect"));
        assert!(parse("{}").unwrap_err().contains("sum_received"));
        assert!(parse("iperf3: no").is_err());
    }
}
