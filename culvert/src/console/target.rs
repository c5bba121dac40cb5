//! Which node a command talks to, and with what: the options first, then the environment, then the context, then the node of this host.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use zeroize::Zeroizing;

use crate::config::{GrpcConfig, StateDir};
use crate::console::context::{Context, Contexts};
use crate::console::failure::Failure;
use crate::console::global::Global;

/// Where a node listens without a Unix socket, by custom.
const LOOPBACK: &str = "http://127.0.0.1:50051";

/// A node, and with what it is talked to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) server: Server,
    /// Only ever one that may be shown there.
    token: Option<Zeroizing<String>>,
    /// CAs of the node's certificate; those of the system if there are none.
    pub(crate) ca: Option<PathBuf>,
    /// Name that its certificate has.
    pub(crate) server_name: Option<String>,
    /// The own certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// By which door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// `unix:/run/culvert/culvertd.sock`
    Unix(PathBuf),
    /// `http://127.0.0.1:50051`
    Plain(String),
    /// `https://vpn.example.net:50051`
    Tls(String),
}

impl Server {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///run/x` is what others write.
            let path = if let Some(rest) = path.strip_prefix("//") { rest } else { path };
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let bad = |why: &str| {
            Failure::invalid(format!("--server {text}: {why}")).hint(
                "expected the form https://vpn.example.net:50051, http://127.0.0.1:50051 or unix:/run/culvert/culvertd.sock",
            )
        };
        let uri: http::Uri = url.parse().map_err(|error| bad(&format!("{error}")))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(bad("names no host"));
        }
        match uri.scheme_str() {
            Some("http") => Ok(Self::Plain(url)),
            Some("https") => Ok(Self::Tls(url)),
            _ => Err(bad("is of an unknown kind")),
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Plain(url) | Self::Tls(url) => f.write_str(url),
        }
    }
}

impl Target {
    /// A node that asks for nothing.
    pub(crate) fn of(server: Server) -> Self {
        Self { server, token: None, ca: None, server_name: None, identity: None }
    }

    /// Shown this token there, if any.
    ///
    /// # Errors
    /// If anybody on the way could read it.
    pub(crate) fn with_token(self, token: Option<Zeroizing<String>>) -> Result<Self, Failure> {
        if let (Server::Plain(url), Some(_)) = (&self.server, &token)
            && !is_loopback(url)
        {
            return Err(Failure::invalid(format!("{url}: the token would be sent in the clear"))
                .hint("name it as https://, or take the Unix socket"));
        }
        Ok(Self { token, ..self })
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.as_str())
    }

    /// What the options, the environment and the contexts say.
    pub(crate) fn resolve(global: &Global) -> Result<Self, Failure> {
        let contexts = Contexts::load()?;
        // Who names a server means that one, and not what goes with another.
        let context = match (global.server(), global.context()) {
            (Some(_), None) => None,
            (_, name) => contexts.pick(name)?.cloned(),
        };
        Self::from_context(context.unwrap_or_default(), global)
    }

    /// What the options say, and for the rest a context.
    pub(crate) fn from_context(context: Context, global: &Global) -> Result<Self, Failure> {
        let server = match global.server().or(Some(context.server.as_str()).filter(|s| !s.is_empty())) {
            Some(server) => Server::parse(server)?,
            None => local(),
        };
        let own = |token: &str| Zeroizing::new(token.to_owned());
        // A certificate says who one is as well.
        let spare = global.spare_token().filter(|_| context.cert.is_none() && global.cert.is_none());
        let token = match (global.token(), &global.token_file) {
            (Some(token), _) => Some(own(token)),
            (None, Some(file)) => Some(read_token(file)?),
            (None, None) => context_token(&context)?.or_else(|| spare.map(own)),
        };
        let cert = global.cert.clone().or(context.cert);
        let key = global.key.clone().or(context.key);
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(Failure::invalid("--cert goes with --key")),
            (None, Some(_)) => return Err(Failure::invalid("--key goes with --cert")),
        };
        let ca = global.ca().cloned().or(context.ca).or_else(|| global.spare_ca().cloned());
        let server_name = global.server_name.clone().or(context.server_name);
        Self { ca, server_name, identity, ..Self::of(server) }.with_token(token)
    }
}

/// The node of this host: its Unix socket if there is one, else where one without listens.
fn local() -> Server {
    match GrpcConfig::default().socket(&StateDir::default().0).filter(|path| path.exists()) {
        Some(path) => Server::Unix(path),
        None => Server::Plain(LOOPBACK.to_owned()),
    }
}

fn is_loopback(url: &str) -> bool {
    let uri: Option<http::Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn context_token(context: &Context) -> Result<Option<Zeroizing<String>>, Failure> {
    match (&context.token, &context.token_file) {
        (Some(token), _) => Ok(Some(Zeroizing::new(token.clone()))),
        (None, Some(file)) => read_token(file).map(Some),
        (None, None) => Ok(None),
    }
}

/// The token in a file; `-` is standard input, which is read once, whoever connects again.
pub(crate) fn read_token(file: &Path) -> Result<Zeroizing<String>, Failure> {
    static STANDARD_INPUT: OnceLock<Zeroizing<String>> = OnceLock::new();
    let unread = |error: std::io::Error| Failure::invalid(format!("{}: {error}", file.display()));
    if file != Path::new("-") {
        return token_in(file, &Zeroizing::new(std::fs::read_to_string(file).map_err(unread)?));
    }
    if let Some(text) = STANDARD_INPUT.get() {
        return token_in(file, text);
    }
    let text = Zeroizing::new(std::io::read_to_string(std::io::stdin()).map_err(unread)?);
    token_in(file, STANDARD_INPUT.get_or_init(|| text))
}

fn token_in(file: &Path, text: &str) -> Result<Zeroizing<String>, Failure> {
    let token = text.trim();
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Failure::invalid(format!("{}: there is no token in it", file.display())));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_in_three_ways() {
        let parse = |text: &str| Server::parse(text).map(|server| server.to_string()).map_err(|f| f.message);
        assert_eq!(parse("127.0.0.1:1").unwrap(), "http://127.0.0.1:1");
        assert_eq!(parse("https://a:1").unwrap(), "https://a:1");
        assert_eq!(parse("unix:///run/a.sock").unwrap(), "unix:/run/a.sock");
        assert_eq!(parse("unix:/run/a.sock").unwrap(), "unix:/run/a.sock");
        for bad in ["ftp://a", "http://", "a b"] {
            assert!(parse(bad).unwrap_err().contains(bad), "{bad}");
        }
    }

    #[test]
    fn a_token_goes_nowhere_in_the_clear() {
        let with = |server: &str| {
            let token = Some(Zeroizing::new("t".to_owned()));
            Target::of(Server::parse(server).unwrap())
                .with_token(token)
                .map(|target| target.token().is_some())
        };
        for server in ["https://a:1", "http://127.0.0.1:1", "unix:/run/a.sock"] {
            assert!(with(server).unwrap(), "{server}");
        }
        assert!(with("http://192.0.2.1:1").unwrap_err().message.contains("in the clear"));
        assert!(Target::of(Server::parse("http://192.0.2.1:1").unwrap()).with_token(None).is_ok());
    }

    #[test]
    fn loopback_is_told() {
        for (url, is) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("http://192.0.2.1:1", false),
            ("http://localhost.example.net:1", false),
        ] {
            assert_eq!(is_loopback(url), is, "{url}");
        }
    }
}
