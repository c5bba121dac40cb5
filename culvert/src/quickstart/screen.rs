//! What the quickstart shows while it runs: a table that refreshes itself, or JSON lines.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use culvert_proto::v1;

use crate::console::Failure;
use crate::console::beside::tell;
use crate::console::output::Output;
use crate::console::table::{bytes, table};
use crate::quickstart::fleet::Fleet;
use crate::quickstart::plan::Plan;
use crate::quickstart::summary::Summary;

/// Without a terminal the table is printed this often.
const PRINT: Duration = Duration::from_secs(5);

/// Where the picture goes.
pub(crate) struct Screen {
    output: Output,
    terminal: bool,
    drawn_lines: usize,
    next_print: Duration,
}

impl Screen {
    pub(crate) fn new(output: Output) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { output, terminal, drawn_lines: 0, next_print: Duration::ZERO }
    }

    /// One step, for people. Programs get it on standard error.
    pub(crate) fn say(&mut self, text: &str) {
        // The next picture comes below.
        self.drawn_lines = 0;
        match self.output {
            Output::Table => print(&format!("• {text}\n")),
            _ => tell(format_args!("culvert: {text}")),
        }
    }

    /// The picture, with the nodes above the branches if there are several.
    pub(crate) fn draw(
        &mut self,
        plan: &Plan,
        statuses: &BTreeMap<String, (v1::PeerStatus, u64)>,
        fleet: &Fleet,
        (elapsed, duration): (Duration, Duration),
        nodes: Option<&str>,
    ) {
        if self.output != Output::Table {
            return self.progress_line(fleet, elapsed);
        }
        if !self.terminal && elapsed < self.next_print {
            return;
        }
        self.next_print = elapsed + PRINT;
        let mut text = String::new();
        if self.terminal && self.drawn_lines > 0 {
            // Up to where the last picture began, and clear from there.
            text.push_str(&format!("\x1b[{}A\x1b[J", self.drawn_lines));
        }
        let picture = format!(
            "\n{}{}\n{}\n",
            nodes.map(|nodes| format!("{nodes}\n\n")).unwrap_or_default(),
            rows(plan, statuses, fleet),
            foot(fleet, elapsed, duration)
        );
        self.drawn_lines = picture.lines().count();
        text.push_str(&if self.terminal { cut(&picture) } else { picture });
        print(&text);
    }

    fn progress_line(&mut self, fleet: &Fleet, elapsed: Duration) {
        if elapsed < self.next_print {
            return;
        }
        self.next_print = elapsed + Duration::from_secs(1);
        let (sent, received) = fleet.totals();
        let line = serde_json::json!({
            "type": "progress", "seconds": elapsed.as_secs_f32(), "packets_sent": sent, "packets_received": received,
        });
        print(&format!("{line}\n"));
    }

    /// The summary; for programs it is the last line.
    pub(crate) fn finish(&self, summary: &Summary) -> Result<(), Failure> {
        match self.output {
            Output::Table => print(&summary.text()),
            _ => {
                let line = serde_json::to_string(summary).map_err(|e| Failure::failed(e.to_string()))?;
                print(&format!("{line}\n"));
            }
        }
        Ok(())
    }
}

fn rows(plan: &Plan, statuses: &BTreeMap<String, (v1::PeerStatus, u64)>, fleet: &Fleet) -> String {
    let reports = fleet.reports();
    let rows = plan.branches.iter().zip(&reports).map(|(branch, report)| {
        let (status, drops) = statuses.get(&branch.name).cloned().unwrap_or_default();
        let newest = status.children.iter().max_by_key(|c| c.installed.map(|t| (t.seconds, t.nanos)));
        let spis =
            newest.map(|c| format!("{:08x}/{:08x}", c.inbound_spi, c.outbound_spi)).unwrap_or_default();
        vec![
            branch.name.trim_start_matches("tenants/").replace("/peers/", "/"),
            status.state().as_str_name().to_owned(),
            spis,
            format!("{}/{}", status.ike_rekeys, status.child_rekeys),
            format!("{}/{}", status.packets_in, status.packets_out),
            format!("{}/{}", bytes(status.bytes_in), bytes(status.bytes_out)),
            (drops + report.unopened).to_string(),
        ]
    });
    table(
        &["PEER", "STATE", "SPI IN/OUT", "REKEYS IKE/CHILD", "PACKETS IN/OUT", "BYTES IN/OUT", "DROPS"],
        rows.collect(),
    )
}

fn foot(fleet: &Fleet, elapsed: Duration, duration: Duration) -> String {
    const WIDTH: u32 = 30;
    let (sent, received) = fleet.totals();
    let share = (elapsed.as_secs_f32() / duration.as_secs_f32()).min(1.0);
    let full = (1..=WIDTH).filter(|&i| f64::from(i) <= f64::from(share) * f64::from(WIDTH)).count();
    let bar: String = (0..WIDTH as usize).map(|i| if i < full { '█' } else { '░' }).collect();
    let (now, end) = (elapsed.as_secs(), duration.as_secs());
    format!("{bar} {now}/{end} s   sent {sent}, under way {}", sent.saturating_sub(received))
}

/// As the terminal cuts it at its right edge: a line that goes on in the next one would not be counted.
fn cut(picture: &str) -> String {
    format!("\x1b[?7l{picture}\x1b[?7h")
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that has gone away is no reason to stop the tunnels in the middle.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
