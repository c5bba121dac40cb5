//! What goes with every command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use crate::console::beside::tell;
use crate::console::output::Output;
use crate::console::target::Server;

/// What goes with every command.
#[derive(Clone, Args)]
pub(crate) struct Global {
    /// The node to talk to: https://vpn.example.net:50051, http://127.0.0.1:50051 or unix:/run/culvert/culvertd.sock [default: that
    /// of the context, else of this host]
    #[arg(long, global = true, env = "CULVERT_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The context to take server and credentials from [default: the current one]
    #[arg(long, global = true, env = "CULVERT_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The token to show
    #[arg(
        long,
        global = true,
        hide = true,
        env = "CULVERT_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(crate) token: Option<String>,
    /// A file with the token to show, or - for standard input; the environment variable CULVERT_TOKEN has the token itself
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// CAs of the node's certificate, in PEM [default: those of the system]
    #[arg(long, global = true, env = "CULVERT_CA", value_name = "FILE", value_parser = maybe_empty())]
    pub(crate) ca: Option<PathBuf>,
    /// The name that the node's certificate has, if not that of --server
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// The own certificate, in PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// The key of the own certificate, in PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Start a trace, of which the node makes a part of what it does, and print its ID to standard error
    #[arg(long, global = true)]
    pub(crate) trace: bool,
    /// How to print
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// What the environment has for a context that is named, where that has none itself
    #[arg(skip)]
    pub(crate) spare: Spare,
    /// How long to wait for an answer
    #[arg(long, global = true, default_value = "60s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
}

/// Of the environment, and taken if nothing better is there.
#[derive(Clone, Default)]
pub(crate) struct Spare {
    pub(crate) token: Option<String>,
    pub(crate) ca: Option<PathBuf>,
}

/// A path as it is written. The parser of paths refuses an empty one before anybody could take it for none.
fn maybe_empty() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl Global {
    /// Has what is said on the command line go before the environment as a whole, for a node is not to be shown what is for another: a
    /// server before a context of the environment, and a context before what the environment has of each part of one. Of the environment the
    /// server goes first, and what else is there is for that one alone.
    pub(crate) fn weigh(&mut self, matches: &ArgMatches) {
        let said = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
        let login = matches.subcommand_matches("login").and_then(|login| login.get_one::<String>("url"));
        let server = self.server().filter(|_| said("server"));
        let named = login.map(String::as_str).or(server);
        // The options do not have it where the command line has one.
        let exported = std::env::var_os("CULVERT_SERVER").filter(|server| !server.is_empty());
        let is_another = |exported: &OsString| match (exported.to_str(), named) {
            // No token is shown at a socket, so that one is for others: nodes in Kubernetes have their own in the environment.
            (Some(exported), _) if exported.starts_with("unix:") => false,
            (Some(exported), Some(named)) => !is_same(exported, named),
            (None, Some(_)) => true,
            (_, None) => self.context().is_some() && said("context"),
        };
        if let Some(exported) = exported.filter(is_another) {
            let exported = exported.display();
            let beside = [
                ("CULVERT_TOKEN", self.token().is_some() && !said("token"), "--token-file"),
                ("CULVERT_CA", self.ca().is_some() && !said("ca"), "--ca"),
            ];
            for (variable, _, option) in beside.into_iter().filter(|(_, is_set, _)| *is_set) {
                tell(format_args!(
                    "note: {variable} is for CULVERT_SERVER, {exported}, and not taken for another node; {option} is"
                ));
            }
            self.token = self.token.take().filter(|_| said("token"));
            self.ca = self.ca.take().filter(|_| said("ca"));
        }
        if self.token_file.is_some() && !said("token") {
            self.token = None;
        }
        let server = self.server().is_some() && said("server");
        let context = self.context().is_some() && said("context");
        match (server, context) {
            // Whoever says both means both.
            (true, true) => {}
            (false, true) => {
                self.server = None;
                self.spare.token = if said("token") { None } else { self.token.take() };
                self.spare.ca = if said("ca") { None } else { self.ca.take() };
            }
            _ if self.server().is_some() => self.context = None,
            _ => {}
        }
    }
}

/// Whether two texts name the same server.
fn is_same(one: &str, other: &str) -> bool {
    let server = |text: &str| Server::parse(text.trim_end_matches('/').to_ascii_lowercase().as_str()).ok();
    one == other || server(one).is_some_and(|one| server(other) == Some(one))
}

/// What may be in the environment. A variable that is empty is as good as none: that is how a script or a container unsets it.
impl Global {
    pub(crate) fn server(&self) -> Option<&str> {
        self.server.as_deref().filter(|server| !server.is_empty())
    }

    pub(crate) fn context(&self) -> Option<&str> {
        self.context.as_deref().filter(|context| !context.is_empty())
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref().filter(|token| !token.is_empty())
    }

    pub(crate) fn spare_token(&self) -> Option<&str> {
        self.spare.token.as_deref().filter(|token| !token.is_empty())
    }

    pub(crate) fn spare_ca(&self) -> Option<&PathBuf> {
        self.spare.ca.as_ref().filter(|ca| !ca.as_os_str().is_empty())
    }

    pub(crate) fn ca(&self) -> Option<&PathBuf> {
        self.ca.as_ref().filter(|ca| !ca.as_os_str().is_empty())
    }
}

impl std::fmt::Debug for Global {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Global")
            .field("server", &self.server)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
