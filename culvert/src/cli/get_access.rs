//! `culvert get tokens` and `culvert get audit`.

use culvert_proto::v1;
use tonic::Status;

use crate::cli::login::role;
use crate::console::table::{age, clock, ends, table};
use crate::console::{Client, Failure};

/// Objects asked for at a time.
const PAGE_SIZE: i32 = 1000;
/// Entries of the audit log that are shown: as many as people read. More are got by `--limit`.
pub(crate) const AUDIT_ENTRIES: usize = 100;

pub(crate) fn token_table(tokens: &[v1::Token]) -> String {
    let row = |token: &v1::Token| {
        let used = match token.last_use_time {
            None => "never".to_owned(),
            time => format!("{} ago", age(time)),
        };
        let (name, display_name) = (token.name.clone(), token.display_name.clone());
        vec![name, display_name, role(token.role()), ends(token.expire_time), used, age(token.create_time)]
    };
    let header = ["NAME", "DISPLAY NAME", "ROLE", "ENDS", "LAST USE", "AGE"];
    table(&header, tokens.iter().map(row).collect())
}

pub(crate) fn audit_table(entries: &[v1::AuditEntry]) -> String {
    let row = |entry: &v1::AuditEntry| {
        let method = entry.method.rsplit('/').next().unwrap_or_default().to_owned();
        let mut objects: Vec<String> =
            entry.objects.iter().take(3).map(|object| object.name.clone()).collect();
        let more = entry.objects.len().saturating_sub(3) + entry.more_objects as usize;
        if more > 0 {
            objects.push(format!("and {more} more"));
        }
        let result = match entry.message.as_str() {
            "" => entry.result.clone(),
            message => format!("{}: {message}", entry.result),
        };
        let sequence = entry.sequence.to_string();
        let (who, from) = (entry.principal.clone(), entry.from.clone());
        vec![sequence, clock(entry.time), who, from, method, objects.join(" "), result]
    };
    let header = ["NUMBER", "TIME", "WHO", "FROM", "METHOD", "OBJECTS", "RESULT"];
    table(&header, entries.iter().map(row).collect())
}

/// Those of a tenant, or of the node and all tenants.
pub(crate) async fn all_tokens(client: &Client, parent: &str) -> Result<Vec<v1::Token>, Failure> {
    let mut tokens = Vec::new();
    if parent == "tenants/-" {
        tokens = tokens_of(client, "").await?;
    }
    for token in tokens_of(client, parent).await? {
        // To a tenant's caller both lists are its own.
        if !tokens.iter().any(|other: &v1::Token| other.name == token.name) {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

async fn tokens_of(client: &Client, parent: &str) -> Result<Vec<v1::Token>, Failure> {
    let fail = |status: Status| Failure::of_status(&status, parent);
    let (mut tokens, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListTokensRequest { parent: parent.to_owned(), page_size: PAGE_SIZE, page_token };
        let page = client.tokens().list_tokens(request).await.map_err(fail)?.into_inner();
        tokens.extend(page.tokens);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(tokens);
        }
    }
}

pub(crate) async fn get_token(client: &Client, name: &str) -> Result<v1::Token, Failure> {
    let answer = client.tokens().get_token(v1::GetTokenRequest { name: name.to_owned() }).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Failure::of_status(&status, name))
}

/// The newest entries, the newest first.
pub(crate) async fn newest_entries(
    client: &Client,
    parent: &str,
    limit: usize,
) -> Result<Vec<v1::AuditEntry>, Failure> {
    let fail = |status: Status| Failure::of_status(&status, parent);
    let (mut entries, mut page_token) = (Vec::new(), String::new());
    while entries.len() < limit {
        let page_size = i32::try_from(limit - entries.len()).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
        let request = v1::ListAuditEntriesRequest { parent: parent.to_owned(), page_size, page_token };
        let page = client.audits().list_audit_entries(request).await.map_err(fail)?.into_inner();
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(entries)
}
