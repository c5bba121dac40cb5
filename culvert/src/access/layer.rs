//! The one way that every request goes: who calls, may it, is it the caller's, and what the audit log says of it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use culvert_proto::v1;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tenants::audit::Deed;
use tenants::{Author, Error, Role};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::access::authenticate::Stranger;
use crate::access::caller::serving_held;
use crate::access::connection::{Holder, Origin};
use crate::access::guard::Guarded;
use crate::access::methods::{Rule, rules};
use crate::access::names::{Foreign, Named};
use crate::access::order::Order;
use crate::access::request::{Held, frame, framed, glance, is_batch, no_message, receive};
use crate::access::streams::{MAX_STREAMS_OF_ONE, Streaming};
use crate::access::{Access, Caller};
use crate::status;
use crate::telemetry::rpc::{Known, code_name};

/// What probes ask, which have no credential.
const HEALTH: [&str; 3] =
    ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", "/grpc.health.v1.Health/Watch"];
/// Characters of a name that is not the caller's, in the answer: more than any name has.
const MAX_NAME: usize = 300;

/// Puts the rules of [`Access`] in front of services.
#[derive(Clone)]
pub struct AccessLayer(Arc<Access>);

impl AccessLayer {
    /// With these rules.
    pub fn new(access: Arc<Access>) -> Self {
        Self(access)
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { access: Arc::clone(&self.0), inner }
    }
}

/// Services behind the rules.
#[derive(Clone)]
pub struct Guard<S> {
    access: Arc<Access>,
    inner: S,
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready serves; the copy has to become so for the next.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let access = Arc::clone(&self.access);
        Box::pin(async move {
            if HEALTH.contains(&request.uri().path()) {
                return inner.call(request).await;
            }
            let admitted = match access.admit(request).await {
                Ok(admitted) => admitted,
                Err(status) => return Ok(status.into_http()),
            };
            // What it holds it holds until it is answered, and until what it has begun is done; what streams, until that ends.
            let Admitted { request, caller, author, rule, names, held, streaming } = admitted;
            let unread = || {
                access.counters.answers_limited();
                let reason = "too many answers are not read yet; read them, then try again";
                Status::resource_exhausted(reason).into_http()
            };
            let done = rule.is_some_and(Rule::is_audited);
            if done && !access.answers.has_room(&caller.share()) {
                return Ok(unread());
            }
            // A change of the catalog is noted with it, whoever waits.
            let order = rule.filter(|rule| rule.is_audited() && !rule.catalog);
            let order = order.map(|_| Order::new(Arc::clone(&access), Arc::clone(&author), names.clone()));
            let call = inner.call(request);
            let response = serving_held(Arc::clone(&caller), Arc::clone(&author), held.clone(), call).await?;
            let names = order.map_or(names, Order::answered);
            if let Some(rule) = rule {
                // An answer that is an error says so in its header; one that is none, in the trailer.
                let refused = Status::from_header_map(response.headers());
                access.note_outcome(rule, &author, names, refused).await;
            }
            if let Some(streaming) = streaming {
                return Ok(response.map(|body| Body::new(Guarded::new(body, caller, access, streaming))));
            }
            let (head, body) = response.into_parts();
            Ok(match access.answers.waiting(caller.share(), body, done).await {
                Ok(Some(body)) => Response::from_parts(head, body),
                Ok(None) => unread(),
                Err(status) => status.into_http(),
            })
        })
    }
}

/// A request that is there so soon is not asked about twice: what another node has revoked meanwhile it could have been ahead of.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A request that may be served.
struct Admitted {
    request: Request<Body>,
    caller: Arc<Caller>,
    author: Arc<Author>,
    /// `None` for what is not of our protos: reflection, and methods that there are not.
    rule: Option<&'static Rule>,
    /// What it is about, as far as the audit log is to say so.
    names: Vec<String>,
    held: Option<Arc<Held>>,
    /// Of an answer that streams.
    streaming: Option<Streaming>,
}

impl Access {
    /// Lets a request in, or says why not.
    async fn admit(self: &Arc<Self>, request: Request<Body>) -> Result<Admitted, Status> {
        let path = request.uri().path();
        let method = path.trim_start_matches('/').to_owned();
        let rule = rules().get(path);
        let Some(holder) = request.extensions().get::<Holder>().cloned() else {
            return Err(Status::internal("the connection does not say who holds it"));
        };
        let traceparent = request.headers().get("traceparent");
        let traceparent = traceparent.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let caller = match self.identify(&holder, request.headers()).await {
            Ok(caller) => Arc::new(caller),
            Err((stranger, told)) => {
                return Err(self.turn_away(&holder, stranger, told, method, traceparent).await);
            }
        };
        if caller.credential.is_shown() {
            holder.known();
        }
        if !self.limits.request(caller.principal(), Instant::now()) {
            self.counters.limited();
            let reason = "more requests a second than grpc.rate_limit allows; try again a moment later";
            return Err(Status::resource_exhausted(reason));
        }
        if let Some(known) = request.extensions().get::<Known>() {
            known.note();
        }
        // A write of the catalog asks for itself how far the others are, but not who writes.
        let asks = || caller.credential.is_of_catalog() || rule.is_some_and(|rule| !rule.catalog);
        let is_asked = self.catalog.is_shared() && asks();
        if is_asked {
            // Whoever was told at another node that it is revoked may rely on it here.
            self.abreast.catch_up().await;
            self.still_good(&holder, &caller, &method, traceparent.as_ref()).await?;
        }
        let arrived = Instant::now();
        let author = Arc::new(caller.author(&method, traceparent.clone()));
        let (request, names, held) = match rule {
            None => (request, Vec::new(), None),
            Some(rule) => {
                let (request, names, held) = self.check(request, rule, &caller, &author).await?;
                (request, names, Some(Arc::new(held)))
            }
        };
        // The request may have taken minutes to come, and its turn as well.
        if is_asked && arrived.elapsed() > AT_ONCE {
            self.abreast.catch_up().await;
        }
        self.still_good(&holder, &caller, &method, traceparent.as_ref()).await?;
        // Reflection streams both ways; what there is not is over at once.
        let streaming = if rule.is_none_or(|rule| rule.streams) { Some(self.stream(&caller)?) } else { None };
        self.counters.admitted();
        holder.admitted();
        Ok(Admitted { request, caller, author, rule, names, held, streaming })
    }

    /// Turns a caller away whose credential has ended since it was shown.
    async fn still_good(
        self: &Arc<Self>,
        holder: &Holder,
        caller: &Caller,
        method: &str,
        traceparent: Option<&String>,
    ) -> Result<(), Status> {
        if caller.credential.is_good(&self.catalog, &self.tokens, SystemTime::now()) {
            return Ok(());
        }
        let (stranger, told) = (Stranger::revoked(), self.tells(holder));
        Err(self.turn_away(holder, stranger, told, method.to_owned(), traceparent.cloned()).await)
    }

    /// A place for an answer that streams. A tenant's callers have one share of them, however many they are.
    fn stream(&self, caller: &Caller) -> Result<Streaming, Status> {
        self.streams.begin(caller.share()).ok_or_else(|| {
            self.counters.limited();
            let reason =
                format!("{MAX_STREAMS_OF_ONE} streams are open already; close one, or wait until one ends");
            Status::resource_exhausted(reason)
        })
    }

    /// Holds a request against the rule of its method: the request as it is to be served, what it is about as far as the
    /// audit log is to say so, and what it holds of the node. What is not for the caller is not looked into, and nothing is decoded before it is
    /// known how much that is.
    async fn check(
        self: &Arc<Self>,
        request: Request<Body>,
        rule: &Rule,
        caller: &Caller,
        author: &Author,
    ) -> Result<(Request<Body>, Vec<String>, Held), Status> {
        // What is refused to a tenant's caller is noted as that tenant's: whose it would be is not to see who has asked.
        let own = || caller.tenant.iter().map(ToString::to_string).collect();
        let share = self.budget.share(caller.share());
        if let Some(reason) = not_allowed(caller, rule) {
            let names = if caller.tenant.is_some() || !rule.is_audited() {
                own()
            } else {
                let message = glance(request.into_body(), rule, share).await;
                let named = message.and_then(|message| Named::read(&rule.request, &message));
                named.map(Named::into_names).unwrap_or_default()
            };
            return Err(self.deny(author, Status::permission_denied(reason), names).await);
        }
        let confined = caller.tenant.as_ref().filter(|_| rule.scope == v1::Scope::Tenant);
        // A request of the whole node for many objects is not looked into: it names too many to be read twice.
        let is_read = confined.is_some() || (rule.is_audited() && !is_batch(&author.method));
        let (parts, body) = request.into_parts();
        let (mut body, held) = receive(body, rule, &author.method, is_read, &self.budget, share).await?;
        let mut names = Vec::new();
        if is_read {
            let Some(mut named) = frame(&body).and_then(|message| Named::read(&rule.request, message)) else {
                return Err(no_message());
            };
            if let Some(tenant) = confined {
                match named.confine(tenant, rule.lists) {
                    Ok(None) => {}
                    Ok(Some(message)) => body = framed(&message),
                    Err(Foreign(name)) => {
                        let name = name.chars().take(MAX_NAME).collect();
                        let status = status::of_error(&Error::NotFound(name));
                        return Err(self.deny(author, status, own()).await);
                    }
                }
            }
            if rule.is_audited() {
                names = named.into_names();
            }
        }
        let body = Body::new(Full::new(body).map_err(|never| match never {}));
        Ok((Request::from_parts(parts, body), names, held))
    }

    /// Who calls; or why nobody, and whether that is told. A token that is not known may have been made at another node a moment ago, so it is looked
    /// for again once all is here that was made: no more often than logins may fail.
    async fn identify(&self, holder: &Holder, headers: &HeaderMap) -> Result<Caller, (Stranger, bool)> {
        let now = SystemTime::now();
        let stranger = match self.authenticate(holder, headers, now) {
            Ok(caller) => return Ok(caller),
            Err(stranger) => stranger,
        };
        let told = self.tells(holder);
        if !(told && stranger.unknown && self.catalog.is_shared()) {
            return Err((stranger, told));
        }
        // Or those who guess would wait in any number where etcd is slow.
        let Ok(_turn) = self.looks.try_acquire() else {
            self.counters.look_limited();
            return Err((stranger, told));
        };
        self.abreast.catch_up().await;
        self.authenticate(holder, headers, now).map_err(|stranger| (stranger, told))
    }

    /// Whether a login by this connection that has failed is told why, and noted.
    fn tells(&self, holder: &Holder) -> bool {
        self.limits.failed_login(holder.origin.ip(), Instant::now())
    }

    /// Refuses who is not known. Of many in a second only some are told why, and noted: those that are `told`.
    async fn turn_away(
        self: &Arc<Self>,
        holder: &Holder,
        stranger: Stranger,
        told: bool,
        method: String,
        traceparent: Option<String>,
    ) -> Status {
        self.counters.unauthenticated();
        if stranger.shown && holder.failed_login() {
            self.counters.closed();
        }
        if !told {
            self.counters.login_limited();
            self.suppress();
            return Status::resource_exhausted("too many failed logins; try again a moment later");
        }
        let author = Author {
            principal: "unknown".to_owned(),
            from: holder.origin.to_string(),
            method,
            role: Role::Viewer,
            tenant: None,
            traceparent,
        };
        let status = Status::unauthenticated(stranger.reason);
        self.note(&author, &status, Vec::new()).await;
        status
    }

    /// Notes that a certificate was refused in the handshake: a login that failed, before there was a request.
    pub(crate) async fn certificate_refused(self: &Arc<Self>, from: SocketAddr, reason: String) {
        self.counters.unauthenticated();
        let origin = Origin::Tcp(from);
        if !self.limits.failed_login(origin.ip(), Instant::now()) {
            self.counters.login_limited();
            self.suppress();
            return;
        }
        tracing::info!(%from, reason, "a certificate was refused at the API");
        let author = Author {
            principal: "unknown".to_owned(),
            from: origin.to_string(),
            method: String::new(),
            role: Role::Viewer,
            tenant: None,
            traceparent: None,
        };
        self.note(&author, &Status::unauthenticated(reason), Vec::new()).await;
    }

    /// Refuses what is not the caller's.
    async fn deny(self: &Arc<Self>, author: &Author, status: Status, names: Vec<String>) -> Status {
        self.counters.denied();
        self.note_refusal(author, &status, names).await;
        status
    }

    /// What became of a request that the audit log is about. What has changed the catalog is there already.
    async fn note_outcome(
        self: &Arc<Self>,
        rule: &Rule,
        author: &Author,
        names: Vec<String>,
        refused: Option<Status>,
    ) {
        if !rule.is_audited() {
            return;
        }
        match refused.filter(|status| status.code() != Code::Ok) {
            Some(status) => self.note_refusal(author, &status, names).await,
            None if rule.catalog => {}
            None => self.note(author, &Status::new(Code::Ok, ""), names).await,
        }
    }

    /// Of many refusals of one caller in a second, or of all of a tenant, only some are noted: the log is everybody's.
    async fn note_refusal(self: &Arc<Self>, author: &Author, status: &Status, names: Vec<String>) {
        let whose = author.tenant.as_ref().map_or_else(|| author.principal.clone(), ToString::to_string);
        if self.limits.refusal(whose, Instant::now()) {
            self.note(author, status, names).await;
        } else {
            self.suppress();
        }
    }

    pub(super) async fn note(self: &Arc<Self>, author: &Author, status: &Status, names: Vec<String>) {
        let deed = Deed {
            author: author.clone(),
            result: code_name(status.code()),
            message: status.message().to_owned(),
            names,
            suppressed: self.take_suppressed(),
        };
        let (access, done) = (Arc::clone(self), status.code() == Code::Ok);
        let noted = tokio::task::spawn_blocking(move || access.catalog.audit().note(deed, done));
        // A panic is told by the runtime.
        let _ = noted.await;
    }
}

/// Why the method is not for the caller.
fn not_allowed(caller: &Caller, rule: &Rule) -> Option<String> {
    if caller.role < rule.role {
        let article = if caller.role == Role::Viewer { "a" } else { "an" };
        return Some(format!(
            "{} is {article} {}; this takes {}",
            caller.principal(),
            caller.role,
            rule.role
        ));
    }
    match &caller.tenant {
        Some(tenant) if rule.scope == v1::Scope::Node => {
            Some(format!("{} is of {tenant}; this takes a caller of the whole node", caller.principal()))
        }
        _ => None,
    }
}
