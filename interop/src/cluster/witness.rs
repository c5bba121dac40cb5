//! How everything stood when a trial failed: what can only be asked while it runs.

use super::{Cluster, NODES};
use crate::command::run;

/// Lines of each log.
const LINES: usize = 30;

impl Drop for Cluster {
    #[allow(clippy::print_stderr, reason = "a trial that fails says why where tests do")]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("{}", run("ip", &["-n", &self.router, "route"]).text);
        for k in 0..NODES {
            let node = self.node(k);
            for what in [
                &["get", "nodes"][..],
                &["get", "slots"],
                &["get", "peers", "tenants/acme"],
                &["get", "node", "-o", "json"],
            ] {
                eprintln!("n{}: culvert {}\n{}", k + 1, what.join(" "), node.cli(what).text);
            }
            let log = node.log();
            let from = log.lines().count().saturating_sub(LINES);
            let last: Vec<&str> = log.lines().skip(from).collect();
            eprintln!("n{}: the end of its log\n{}", k + 1, last.join("\n"));
        }
    }
}
