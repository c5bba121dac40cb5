//! `culvert create token`: what cannot be said in a manifest, as the node makes up its value.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use culvert_proto::v1;

use crate::cli::login::role;
use crate::cli::reference::token_name;
use crate::console::beside::tell;
use crate::console::name::full_tenant;
use crate::console::output::{Output, print_one, print_text};
use crate::console::table::until;
use crate::console::{Client, Failure, Global};

/// `culvert create`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a token; its value is printed, and cannot be asked for again
    Token(Token),
}

#[derive(Debug, Args)]
struct Token {
    /// `acme/ci` or `tenants/acme/tokens/ci` for a tenant, `tokens/ops` or `ops` for the whole node
    name: String,
    /// What its holder may do
    #[arg(long, value_enum)]
    role: Role,
    /// Of this tenant
    #[arg(long, short)]
    tenant: Option<String>,
    /// How long it is good for, at most 10 years
    #[arg(long, default_value = "90d", value_parser = humantime::parse_duration, value_name = "TIME")]
    ttl: Duration,
    /// A name for people
    #[arg(long, default_value = "")]
    display_name: String,
    /// Tell whether it could be made, and make none
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Reads everything but secrets
    Viewer,
    /// Initiates, terminates and rekeys tunnels too
    Operator,
    /// Changes what is configured too
    Admin,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let What::Token(token) = arguments.what;
    let name = token_name(&token.name, token.tenant.as_deref())?;
    let (parent, id) = match name.strip_prefix("tokens/") {
        Some(id) => (String::new(), id.to_owned()),
        None => {
            let (tenant, id) = name.split_once("/tokens/").unwrap_or_default();
            (full_tenant(tenant), id.to_owned())
        }
    };
    let wanted = match token.role {
        Role::Viewer => v1::Role::Viewer,
        Role::Operator => v1::Role::Operator,
        Role::Admin => v1::Role::Admin,
    };
    let expires = SystemTime::now().checked_add(token.ttl);
    let expires = expires.ok_or_else(|| Failure::invalid("--ttl: longer than time goes"))?;
    let request = v1::CreateTokenRequest {
        parent,
        token_id: id,
        token: Some(v1::Token {
            display_name: token.display_name,
            role: wanted.into(),
            expire_time: Some(expires.into()),
            ..Default::default()
        }),
        validate_only: token.dry_run,
    };
    let client = Client::connect(global).await?;
    let made = client.tokens().create_token(request).await;
    let made = made.map_err(|status| Failure::of_status(&status, &name))?.into_inner();
    if global.output != Output::Table {
        return print_one(global.output, "Token", &made);
    }
    if token.dry_run {
        return print_text(&format!("{name} would be created (dry run)"));
    }
    // The value alone on standard output, for `culvert create token ... > file`.
    tell(format_args!(
        "{name} created: {}, ends {}; this is its value, which is not shown again:",
        role(wanted),
        until(made.expire_time)
    ));
    print_text(&made.value)
}
