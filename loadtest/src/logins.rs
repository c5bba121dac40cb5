//! Logins that fail, as fast as somebody may try them: to see that tunnels and other callers do not notice. It goes to a
//! loopback address or a Unix socket only, so many a second, for so long, and no more.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use culvert_proto::v1;
use culvert_proto::v1::token_service_client::TokenServiceClient;
use serde_json::json;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request};

use crate::Output;
use crate::engine::output::print;
use crate::engine::stop::Stop;
use crate::engine::times::short;
use crate::fleet::LoadError;

/// Connections side by side.
const CONNECTIONS: u32 = 8;
/// How often a turn's share is sent.
const TURN: Duration = Duration::from_millis(10);
/// Logins of a connection that are under way at once; a node that answers slowly is not sent more.
const UNDER_WAY: usize = 64;
/// How long the system may take to connect, and the node to answer a login: one that is frozen keeps its connections, and says nothing.
const LIMIT: Duration = Duration::from_secs(5);

/// `loadtest logins`
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Where the node's API is: http://127.0.0.1:50051 or unix:/run/culvert/culvertd.sock
    #[arg(long, env = "CULVERT_SERVER", default_value = "http://127.0.0.1:50051", value_name = "URL", value_parser = here)]
    server: String,
    /// Logins per second
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    rate: u32,
    /// How long
    #[arg(long = "for", default_value = "10s", value_parser = short, value_name = "TIME")]
    duration: Duration,
    /// How the figures are printed
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What became of them.
#[derive(Debug, Default)]
struct Outcome {
    sent: AtomicU64,
    /// Refused, and told why.
    told: AtomicU64,
    /// Refused as there were too many.
    limited: AtomicU64,
    /// On a connection that the node has closed.
    closed: AtomicU64,
    /// Not answered in time.
    unanswered: AtomicU64,
    /// Let in, which must not be.
    admitted: AtomicU64,
}

fn here(text: &str) -> Result<String, String> {
    if text.starts_with("unix:") || text.parse().is_ok_and(|uri| is_here(&uri)) {
        return Ok(text.to_owned());
    }
    Err("expected a loopback address, http://127.0.0.1:50051 or http://[::1]:50051, or unix:PATH".to_owned())
}

/// Whether who connects to it, and takes it apart as this does, comes to an address of loopback.
fn is_here(uri: &Uri) -> bool {
    // What is before an @ is a user's name, and looks like the host.
    let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    let bare = |host: &str| match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').filter(|v6| v6.contains(':')).map(str::to_owned),
        None => Some(host.to_owned()),
    };
    let address = uri.host().and_then(bare).and_then(|host| host.parse::<IpAddr>().ok());
    let loopback = address.is_some_and(|address| address.is_loopback());
    plain && loopback && uri.scheme_str() == Some("http") && uri.port_u16().is_some()
}

/// Sends them and prints what became of them. True if none was let in, and some were answered.
///
/// # Errors
/// If the node cannot be reached.
pub async fn run(arguments: &Arguments) -> Result<bool, LoadError> {
    let mut stop = Stop::on_interrupt();
    let Some((outcome, took)) = try_all(arguments, LIMIT, &mut stop).await? else { return Ok(false) };
    outcome.tell(arguments, took.as_secs_f64())?;
    let answered = outcome.answered();
    if answered == 0 {
        let what = "no login was answered, so this shows nothing; is the API of a node at";
        let _ = writeln!(std::io::stderr(), "loadtest: {what} {} (--server)?", arguments.server);
    }
    Ok(outcome.admitted.load(Ordering::Relaxed) == 0 && answered > 0)
}

/// All of them, and how long it took; nothing if an end was wanted before the first. Each has so long to be answered.
async fn try_all(
    arguments: &Arguments,
    limit: Duration,
    stop: &mut Stop,
) -> Result<Option<(Arc<Outcome>, Duration)>, LoadError> {
    let unreachable = |error: String| LoadError::Unreachable(arguments.server.clone(), error);
    let endpoint = Endpoint::from_shared(arguments.server.clone()).map_err(|e| unreachable(e.to_string()))?;
    let endpoint = endpoint.connect_timeout(LIMIT);
    // Once, so that a node that is not there is told as such.
    let Some(connected) = stop.until_wanted(tokio::time::timeout(LIMIT, endpoint.connect())).await else {
        return Ok(None);
    };
    let connected = connected.map_err(|_| unreachable(format!("no connection in {LIMIT:?}")))?;
    connected.map_err(|error| unreachable(error.to_string()))?;
    let (outcome, begin) = (Arc::new(Outcome::default()), Instant::now());
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (endpoint, outcome, duration) = (endpoint.clone(), Arc::clone(&outcome), arguments.duration);
        connections.spawn(try_logins(endpoint, outcome, arguments.rate, duration, limit));
    }
    // What is under way at an interrupt is given up.
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = stop.until_wanted(all).await;
    Ok(Some((outcome, begin.elapsed())))
}

impl Outcome {
    fn tell(&self, arguments: &Arguments, seconds: f64) -> Result<(), LoadError> {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Self { sent, told, limited, closed, unanswered, admitted } = self;
        let (sent, told, limited) = (get(sent), get(told), get(limited));
        let (closed, unanswered, admitted) = (get(closed), get(unanswered), get(admitted));
        let rate = sent as f64 / seconds;
        let text = match arguments.output {
            Output::Text => format!(
                "{sent} logins in {seconds:.1} s, {rate:.0} a second: {told} refused and told why, {limited} refused as too \
                 many, {closed} on connections that were closed, {unanswered} not answered, {admitted} let in"
            ),
            Output::Json => json!({
                "sent": sent, "per_second": rate, "told": told, "limited": limited, "closed": closed,
                "unanswered": unanswered, "admitted": admitted,
            })
            .to_string(),
        };
        print(&mut std::io::stdout(), &text)
    }

    /// Logins that the node has said something to.
    fn answered(&self) -> u64 {
        [&self.told, &self.limited, &self.admitted].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// The share of one connection.
async fn try_logins(
    endpoint: Endpoint,
    outcome: Arc<Outcome>,
    rate: u32,
    duration: Duration,
    limit: Duration,
) {
    let (begin, mut done) = (Instant::now(), 0_u64);
    let mut turn = tokio::time::interval(TURN);
    let mut channel = endpoint.connect_lazy();
    while begin.elapsed() < duration {
        turn.tick().await;
        let due = (begin.elapsed().as_secs_f64() * f64::from(rate) / f64::from(CONNECTIONS)) as u64;
        let mut under_way = tokio::task::JoinSet::new();
        while done < due && under_way.len() < UNDER_WAY {
            under_way.spawn(login(channel.clone(), Arc::clone(&outcome), limit));
            done += 1;
        }
        // What was not sent in its time is not made up for.
        done = done.max(due.saturating_sub(u64::from(rate / CONNECTIONS)));
        let mut gone = false;
        while let Some(result) = under_way.join_next().await {
            gone |= result.unwrap_or(true);
        }
        if gone {
            channel = endpoint.connect_lazy();
        }
    }
}

/// One login. True if the connection is gone, or of no use any more.
async fn login(channel: Channel, outcome: Arc<Outcome>, limit: Duration) -> bool {
    let count = |of: &AtomicU64| of.fetch_add(1, Ordering::Relaxed);
    let mut request = Request::new(v1::WhoAmIRequest {});
    let value = format!("Bearer cvt_{:032x}", rand::random::<u128>());
    if let Ok(value) = value.parse() {
        request.metadata_mut().insert("authorization", value);
    }
    count(&outcome.sent);
    let mut client = TokenServiceClient::new(channel);
    let Ok(answer) = tokio::time::timeout(limit, client.who_am_i(request)).await else {
        count(&outcome.unanswered);
        return true;
    };
    match answer.map_err(|status| status.code()) {
        Ok(_) => count(&outcome.admitted),
        Err(Code::Unauthenticated) => count(&outcome.told),
        Err(Code::ResourceExhausted) => count(&outcome.limited),
        Err(_) => {
            count(&outcome.closed);
            return true;
        }
    };
    false
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::engine::words;

    #[tokio::test]
    async fn logins_that_all_end_on_a_closed_connection_are_no_success() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        // Somebody who takes connections, and closes them at the first octet.
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let _ = connection.readable().await;
            }
        });
        let words = format!("--server {server} --for 50ms --rate 1000");
        assert!(!run(&words::arguments(&words)).await.unwrap());
    }

    #[tokio::test]
    async fn who_never_answers_is_not_waited_for_beyond_the_limit() {
        // The kernel takes connections for it.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let arguments = words::arguments(&format!("--server {server} --for 500ms --rate 1000"));
        let outcome = try_all(&arguments, Duration::from_millis(20), &mut Stop::never()).await;
        let (outcome, _) = outcome.unwrap().unwrap();
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        assert!(get(&outcome.sent) > 0 && outcome.answered() == 0);
        assert_eq!(get(&outcome.sent), get(&outcome.unanswered) + get(&outcome.closed));
        assert!(get(&outcome.unanswered) > 0);
    }

    #[test]
    fn loopback_is_known_in_either_family() {
        for good in ["http://127.0.0.1:50051", "http://[::1]:50051", "unix:/run/culvert/culvertd.sock"] {
            assert_eq!(here(good).as_deref(), Ok(good));
        }
        for bad in [
            "http://[2001:db8::1]:1",
            "http://192.0.2.1:1",
            "http://::1:50051",
            "http://[127.0.0.1]:1",
            "http://127.0.0.1:x@192.0.2.1",
            "http://127.0.0.1:1@192.0.2.1:1",
            "http://[::1]:1@192.0.2.1:1",
            "http://127.0.0.1@192.0.2.1:1",
            "http://192.0.2.1/127.0.0.1:1",
            "http://localhost.example:1",
            "https://127.0.0.1:1",
            "http://127.0.0.1",
            "::1",
        ] {
            assert!(here(bad).is_err(), "{bad}");
        }
    }
}
