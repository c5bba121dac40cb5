//! Loads for a running concentrator.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::{churn, compare, flood, handshakes, logins, rekey_storm, soak, traffic, tunnels};

/// Loads for a running Culvert node, made of real initiators
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    load: Load,
}

#[derive(Debug, Subcommand)]
enum Load {
    /// Tunnels opened as fast as they can be, or so many a second, at a Culvert node or any other responder
    Handshakes(Box<handshakes::Arguments>),
    /// Flows through tunnels: loss, reordering, latency
    Traffic(Box<traffic::Arguments>),
    /// Rekeyings of many tunnels at a time, while sampled flows go on
    RekeyStorm(Box<rekey_storm::Arguments>),
    /// Tunnels that come and go, beside some that stay
    Churn(Box<churn::Arguments>),
    /// Traffic, rekeyings, tunnels that come and go, for hours: memory must not grow, and no packet vanish
    Soak(Box<soak::Arguments>),
    /// Culvert beside strongSwan, wireguard-go, boringtun and the machine's own bounds, in one run; takes root
    Compare(Box<compare::Arguments>),
    /// What compare starts where no tunnel works
    #[command(hide = true)]
    Forward(compare::forward::Arguments),
    /// Many tunnels: brought up, listed, rekeyed under light traffic, torn down
    Tunnels(tunnels::Arguments),
    /// First messages of nobody, to and from loopback addresses alone
    #[command(alias = "storm")]
    Flood(flood::Arguments),
    /// Logins at the API with tokens of nobody, at a loopback address or Unix socket alone
    Logins(logins::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().load {
        Load::Handshakes(arguments) => handshakes::run(&arguments).await.map_err(|error| error.to_string()),
        Load::Traffic(arguments) => traffic::run(&arguments).await.map_err(|error| error.to_string()),
        Load::RekeyStorm(arguments) => rekey_storm::run(&arguments).await.map_err(|error| error.to_string()),
        Load::Churn(arguments) => churn::run(&arguments).await.map_err(|error| error.to_string()),
        Load::Soak(arguments) => soak::run(&arguments).await.map_err(|error| error.to_string()),
        Load::Compare(arguments) => compare::run(&arguments).await.map_err(|error| error.to_string()),
        Load::Forward(arguments) => compare::forward::run(&arguments).map_err(|error| error.to_string()),
        Load::Tunnels(arguments) => tunnels::run(&arguments).await.map_err(|error| error.to_string()),
        Load::Flood(arguments) => flood::run(&arguments).map_err(|error| error.to_string()),
        Load::Logins(arguments) => logins::run(&arguments).await.map_err(|error| error.to_string()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Whoever reads it may have gone.
            let _ = writeln!(std::io::stderr(), "loadtest: {error}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &str) -> Result<Load, String> {
        let parsed = Cli::try_parse_from(["loadtest"].into_iter().chain(words.split_whitespace()));
        parsed.map(|cli| cli.load).map_err(|error| error.to_string())
    }

    #[test]
    fn the_arguments_make_sense() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_load_has_defaults_and_the_old_name_of_the_flood_works() {
        for load in
            ["handshakes", "traffic", "rekey-storm", "churn", "soak", "compare", "flood", "tunnels", "logins"]
        {
            assert!(parse(load).is_ok(), "{load}");
        }
        assert!(matches!(parse("storm").unwrap(), Load::Flood(_)));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (words, hint) in [
            ("handshakes --no-provision", "--psk-file"),
            ("handshakes --max-cpu 1ms", "--responder-pid"),
            ("handshakes --identity-template p{n}.example", "--no-provision"),
            ("handshakes --no-provision --psk-file f --identity-template p{i}", "p{i}"),
            ("handshakes --ike aes1-x25519", "aes1"),
            ("traffic --imix --size 64", "--size"),
            ("traffic --size 20", "60 to 9000"),
            ("rekey-storm --life 5s --rekey-rate 3", "--rekey-rate"),
            ("churn --churn-rate 0", "above 0"),
            ("soak --for 1", "--for"),
            ("handshakes --timeout 300000000000years", "--timeout"),
            ("handshakes --hold 300000000000years", "--hold"),
            ("traffic --for 366days", "longer than a year"),
            ("compare --secs 300000000000years", "--secs"),
            ("handshakes --ike-port 0", "--ike-port"),
            ("handshakes --natt-port 0", "--natt-port"),
            ("flood --ike-port 0", "--ike-port"),
            ("flood --for 11m", "longer than 10 minutes"),
            ("compare --only vpnc", "vpnc"),
            ("compare --mtu 1439", "1280..=1438"),
            ("compare --secs 500ms", "whole seconds"),
            ("compare --rounds 0", "--rounds"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(hint), "{words}: {error}");
        }
    }
}
