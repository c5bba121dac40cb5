//! `culvert login`, `logout`, `context` and `whoami`: which node is talked to, and who one is there.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use culvert_proto::v1;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::console::context::{Context, Contexts};
use crate::console::global::Spare;
use crate::console::output::{Output, print_one, print_text, print_value};
use crate::console::table::{fields, table, until};
use crate::console::target::{Server, Target, read_token};
use crate::console::{Client, Failure, Global};

/// `culvert login`
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The node: https://vpn.example.net:50051
    #[arg(value_name = "URL")]
    url: String,
    /// What the context is called [default: the host of the URL]
    #[arg(long)]
    name: Option<String>,
}

/// `culvert logout`
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// The context [default: the current one]
    name: Option<String>,
}

/// `culvert context`
#[derive(Debug, Args)]
pub(crate) struct Choose {
    #[command(subcommand)]
    what: Option<Choice>,
}

#[derive(Debug, Subcommand)]
enum Choice {
    /// Show the contexts that there are
    List,
    /// Use this context from now on
    Use {
        /// Its name
        name: String,
    },
    /// Forget a context
    Delete {
        /// Its name
        name: String,
    },
}

/// Tries the credentials, then keeps them as a context, which is used from now on.
pub(crate) async fn login(global: &Global, arguments: Login) -> Result<(), Failure> {
    let server = Server::parse(&arguments.url)?;
    // Relative to where it is called, so it would be another file from elsewhere.
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|error| Failure::invalid(format!("{}: {error}", path.display())))
    };
    let of = |path: &Option<PathBuf>| path.as_ref().map(absolute).transpose();
    let (cert, key, ca) = (of(&global.cert)?, of(&global.key)?, of(&global.ca().cloned())?);
    let (mut token, mut token_file) = (None, None);
    match (global.token(), &global.token_file) {
        (Some(given), _) => token = Some(Zeroizing::new(given.to_owned())),
        (None, Some(file)) if file == Path::new("-") => token = Some(read_token(file)?),
        (None, Some(file)) => {
            read_token(file)?;
            token_file = Some(absolute(file)?);
        }
        (None, None) if cert.is_none() && std::io::stdin().is_terminal() => token = ask()?,
        (None, None) => {}
    }
    let context = Context {
        server: server.to_string(),
        ca,
        server_name: global.server_name.clone(),
        token: token.map(|token| token.to_string()),
        token_file,
        cert,
        key,
    };
    let name = match arguments.name {
        Some(name) => name,
        None => name_of(&server),
    };
    let mut contexts = Contexts::load()?;
    contexts.contexts.insert(name.clone(), context);
    contexts.current = Some(name.clone());
    // As any command would find it, so that what is kept is what was tried, and the token is shown to nobody else.
    let plain = Global {
        server: None,
        context: None,
        token: None,
        token_file: None,
        spare: Spare::default(),
        ..global.clone()
    };
    let target = Target::from_context(contexts.pick(Some(&name))?.cloned().unwrap_or_default(), &plain)?;
    let me = who(&Client::to(&target, global.timeout).await?).await?;
    contexts.save()?;
    print_text(&format!("logged in to {server} as {}; context {name} is current", describe(&me)))
}

pub(crate) fn logout(arguments: Logout) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    let Some(name) = arguments.name.or_else(|| contexts.current.clone()) else {
        return Err(Failure::invalid("there is no current context").hint("name one: `culvert context list`"));
    };
    forget(&mut contexts, &name)?;
    contexts.save()?;
    print_text(&format!("context {name} is forgotten; its token is good until it is deleted or ends"))
}

/// A context, as it is listed: no token is shown.
#[derive(Serialize)]
struct Listed {
    name: String,
    current: bool,
    server: String,
    credential: &'static str,
}

pub(crate) fn context(global: &Global, arguments: Choose) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    match arguments.what.unwrap_or(Choice::List) {
        Choice::List => {
            let current = contexts.current.clone();
            let all: Vec<Listed> =
                contexts.contexts.iter().map(|(name, context)| listed(name, context, &current)).collect();
            if global.output != Output::Table {
                return print_value(global.output, &all);
            }
            let row = |one: &Listed| {
                let current = if one.current { "*" } else { "" };
                vec![current.to_owned(), one.name.clone(), one.server.clone(), one.credential.to_owned()]
            };
            print_text(&table(&["CURRENT", "NAME", "SERVER", "CREDENTIAL"], all.iter().map(row).collect()))
        }
        Choice::Use { name } => {
            contexts.pick(Some(&name))?;
            contexts.current = Some(name.clone());
            contexts.save()?;
            print_text(&format!("context {name} is current"))
        }
        Choice::Delete { name } => {
            forget(&mut contexts, &name)?;
            contexts.save()?;
            print_text(&format!("context {name} is forgotten"))
        }
    }
}

/// Says who the caller is for the node.
pub(crate) async fn whoami(global: &Global) -> Result<(), Failure> {
    let me = who(&Client::connect(global).await?).await?;
    if global.output != Output::Table {
        return print_one(global.output, "WhoAmIResponse", &me);
    }
    let of = if me.tenant.is_empty() { "the whole node".to_owned() } else { me.tenant.clone() };
    print_text(&fields(&[
        ("Principal", me.principal.clone()),
        ("Role", role(me.role())),
        ("For", of),
        ("Ends", until(me.expire_time)),
        ("From", me.from.clone()),
    ]))
}

async fn who(client: &Client) -> Result<v1::WhoAmIResponse, Failure> {
    let answer = client.tokens().who_am_i(v1::WhoAmIRequest {}).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Failure::of_status(&status, "login"))
}

/// `token tokens/ops, admin of the whole node`
fn describe(me: &v1::WhoAmIResponse) -> String {
    let of = if me.tenant.is_empty() { "the whole node" } else { &me.tenant };
    format!("{}, {} of {of}", me.principal, role(me.role()))
}

/// As it is written on the command line.
pub(crate) fn role(role: v1::Role) -> String {
    role.as_str_name().to_lowercase()
}

fn listed(name: &str, context: &Context, current: &Option<String>) -> Listed {
    Listed {
        name: name.to_owned(),
        current: current.as_deref() == Some(name),
        server: context.server.clone(),
        credential: match context {
            Context { token: Some(_), .. } => "token",
            Context { token_file: Some(_), .. } => "token in a file",
            Context { cert: Some(_), .. } => "certificate",
            _ => "none",
        },
    }
}

fn forget(contexts: &mut Contexts, name: &str) -> Result<(), Failure> {
    contexts.pick(Some(name))?;
    contexts.contexts.remove(name);
    contexts.current.take_if(|current| current == name);
    Ok(())
}

fn name_of(server: &Server) -> String {
    match server {
        Server::Unix(_) => "local".to_owned(),
        Server::Plain(url) | Server::Tls(url) => {
            let uri: Option<http::Uri> = url.parse().ok();
            uri.as_ref().and_then(http::Uri::host).unwrap_or("node").to_owned()
        }
    }
}

/// Asks for a token; nothing is shown of what is typed.
fn ask() -> Result<Option<Zeroizing<String>>, Failure> {
    let typed = rpassword::prompt_password("Token (empty for none): ");
    let typed =
        Zeroizing::new(typed.map_err(|error| Failure::failed(format!("asking for a token: {error}")))?);
    let token = typed.trim();
    Ok((!token.is_empty()).then(|| Zeroizing::new(token.to_owned())))
}
