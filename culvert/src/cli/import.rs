//! `culvert import`: manifests of a device's configuration.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::console::beside;
use crate::console::failure::exit;
use crate::console::output::print_text;
use crate::console::{Failure, Global};
use crate::exchange::import::octets::{Utf16, text_of};
use crate::exchange::import::{Format, import};
use crate::exchange::{Denied, Key, Notes, documents, is_by_destination, key_variable};

/// Greatest file: the configuration of a gateway with ten thousand tunnels.
const MAX_FILE: u64 = 64 << 20;

/// `culvert import`
#[derive(Debug, Args)]
#[command(
    after_help = "Prints manifests for `culvert apply`. What of IPsec is not taken over is told on standard error as \
                        `file:line: reason`, and the exit code is then 7."
)]
pub(crate) struct Arguments {
    /// Configurations of the device at the other end, or `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What the files are
    #[arg(long = "from", value_enum, value_name = "FORMAT")]
    format: Format,
    /// The tenant whose peers they become
    #[arg(long, short)]
    tenant: String,
    /// Where the device is, if its configuration does not say so
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// The files are of a gateway that this node takes the place of, not of the device at the other end
    #[arg(long)]
    replaces: bool,
    /// What becomes of packets that an access list denies
    #[arg(long, value_enum, default_value_t, value_name = "ACTION")]
    denied: Denied,
}

#[allow(clippy::unused_async, reason = "as every command")]
pub(crate) async fn run(_: &Global, arguments: Arguments) -> Result<(), Failure> {
    let tenant = arguments.tenant.strip_prefix("tenants/").unwrap_or(&arguments.tenant);
    tenants::TenantName::from_id(tenant).map_err(|error| Failure::invalid(format!("--tenant: {error}")))?;
    let files = arguments.files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let mut notes = Notes::default();
    let mut found = import(arguments.format, &files, arguments.address, &mut notes);
    if arguments.replaces {
        found = found.exchanged();
    }
    let ordered = !found.rules.is_empty();
    let mut clear = found.rules.iter().filter(|rule| rule.protect.is_none()).peekable();
    let bypasses = arguments.denied == Denied::Bypass && clear.peek().is_some();
    let (bypassed, withheld) = (bypasses && !found.lacking, bypasses && found.lacking);
    let needs_device = clear.any(|rule| !is_by_destination(rule));
    let unknown: Vec<String> =
        found.tunnels.iter().filter(|t| t.key == Key::Unknown).map(|t| key_variable(&t.name)).collect();
    let text = documents(&found, tenant, arguments.denied);
    if let (Ok(text), false) = (&text, found.tunnels.is_empty()) {
        print_text(text.trim_end())?;
    }
    tell(&notes.lines());
    text.map_err(Failure::failed)?;
    let mut hints = Vec::new();
    if !unknown.is_empty() {
        hints.push(format!("set {} to the pre-shared key before `culvert apply`", unknown.join(", ")));
    }
    if ordered {
        hints.push(format!(
            "the rules stand in the place of all of tenants/{tenant}: add those of its other peers, in their order"
        ));
    }
    if bypassed {
        let device =
            if needs_device { ", with `clearDevice` for those that say more than whereto" } else { "" };
        hints.push(format!(
            "rules with BYPASS need a TUN uplink of tenants/{tenant}{device}; with `--denied discard` there are none"
        ));
    }
    if withheld {
        hints.push(
            "what the device lets go in the clear goes nowhere, for something that it protects is not taken over: look at the rules with DISCARD when that is there"
                .to_owned(),
        );
    }
    tell(&hints.iter().map(|hint| format!("hint: {hint}")).collect::<Vec<_>>());
    match (found.tunnels.is_empty(), notes.is_empty()) {
        (true, _) => Err(Failure::invalid("there is no tunnel in it that Culvert could have")),
        (false, false) => Err(Failure::new(exit::PARTLY, "")),
        (false, true) => Ok(()),
    }
}

/// A file and its name.
fn read(path: &Path) -> Result<(String, String), Failure> {
    let fail = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let mut octets = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE).read_to_end(&mut octets)
    } else {
        std::fs::File::open(path).map_err(fail)?.take(MAX_FILE).read_to_end(&mut octets)
    };
    if u64::try_from(read.map_err(fail)?).is_ok_and(|length| length == MAX_FILE) {
        return Err(Failure::invalid(format!("{}: larger than {MAX_FILE} octets", path.display())));
    }
    let text = text_of(&octets).map_err(|Utf16| {
        Failure::invalid(format!("{}: line 1: is UTF-16, which no device reads", path.display()))
            .hint("save it as UTF-8, as `iconv -f UTF-16 -t UTF-8` does")
    })?;
    Ok((path.display().to_string(), text))
}

fn tell(lines: &[String]) {
    lines.iter().for_each(beside::tell);
}
