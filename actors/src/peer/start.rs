//! How a negotiation of ours starts: where to, from where, and what is in the way. Where the peer has a name this waits for the
//! resolver, on no thread of ours.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use actix::prelude::*;
use culvert_proto::v1;
use ike::supervise::{ConnId, Ended, State};
use ike::{Command, Failure, Path};
use tenants::{Destination, HostName};

use super::PeerActor;
use crate::clock::a_tenth_at_most;
use crate::outcomes::Stage;
use crate::path::local_address;
use crate::span::{SpanContext, SpanKind};
use crate::trail::Story;
use crate::vocabulary::Begin;

/// How long a negotiation waits for the resolver: as long as it asks two servers twice by default (resolv.conf(5)), and
/// shorter than a client waits for the tunnel.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Names are resolved this often without a reason, so that a peer that begins itself is let in from a new address: as long as a
/// record of a dynamic address commonly lives.
const REFRESH: Duration = Duration::from_secs(60);
/// After the end of a connection names are resolved at once, but no sooner than this after the last time.
const REFRESH_AGAIN: Duration = Duration::from_secs(5);

/// Why a negotiation cannot be started.
#[derive(Clone, Debug, thiserror::Error)]
enum CannotStart {
    #[error("its secret is missing")]
    Secret,
    #[error("it has no address to start to: remoteAddresses must name a single host")]
    Address,
    #[error("there is no route to it")]
    Route(SocketAddr),
    #[error("{0} does not resolve to an address: {1}")]
    Unresolved(HostName, String),
}

impl CannotStart {
    /// As a failure that `explain` knows, with a word for programs.
    fn failure(&self) -> Option<(&'static str, Failure)> {
        match self {
            Self::Secret | Self::Address => None,
            Self::Route(remote) => {
                let reason = "this host has no route to it".to_owned();
                Some(("NoRoute", Failure::Unreachable { reason, remote: *remote }))
            }
            Self::Unresolved(name, reason) => {
                let failure = Failure::Unresolved { name: name.to_string(), reason: reason.clone() };
                Some(("Unresolved", failure))
            }
        }
    }
}

/// A negotiation that waits for the resolver.
pub(super) struct Resolving {
    /// The number that its connection will have.
    pub(super) conn: ConnId,
    name: HostName,
    port: u16,
    /// When it is waited for no longer.
    until: Instant,
    /// It is to replace the connection in use.
    replaces: bool,
    /// To be tried once only.
    once: bool,
}

/// What is known of the names of a peer.
#[derive(Default)]
pub(super) struct PeerNames {
    pub(super) resolving: Option<Resolving>,
    /// When they were asked for last, and will be again.
    asked: Option<Instant>,
    refresh: Option<Instant>,
    /// The address by which a negotiation of ours was a success.
    worked: Option<IpAddr>,
    /// Negotiations since then.
    tries: usize,
}

impl PeerNames {
    /// When [`PeerActor::names_due`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.resolving.as_ref().map(|resolving| resolving.until).into_iter().chain(self.refresh).min()
    }

    /// The addresses in the order in which they are tried now: the one that worked last first, and the others in turn with each
    /// further attempt.
    fn in_turn(&self, mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        addresses.sort_by_key(|address| Some(*address) != self.worked);
        let at = self.tries.checked_rem(addresses.len()).unwrap_or_default();
        addresses.rotate_left(at);
        addresses
    }
}

impl PeerActor {
    /// Starts the connection the supervisor asked for.
    pub(super) fn start_connection(&mut self, ctx: &mut Context<Self>) {
        self.start(ctx, false);
    }

    /// The same, but it ends if its first exchange does not get through.
    pub(super) fn start_connection_once(&mut self, ctx: &mut Context<Self>) {
        self.start(ctx, true);
    }

    fn start(&mut self, ctx: &mut Context<Self>, once: bool) {
        let conn = self.next_conn();
        match self.peer.spec.initiate_to(self.env.remote_ports.0) {
            // Without a secret nothing will come of it, whatever the name leads to.
            Some(Destination::Name(name, port)) if self.config.is_some() => {
                self.history().begin(conn, true, None);
                self.history().step(conn, format!("{name} is being resolved"));
                let until = Instant::now() + RESOLVE_TIMEOUT;
                let replaces = self.supervisor.current().is_some();
                self.names.resolving = Some(Resolving { conn, name, port, until, replaces, once });
                self.refresh_names(ctx);
            }
            Some(Destination::Address(remote)) => {
                self.history().begin(conn, true, Some(remote));
                self.start_to(ctx, conn, Ok(vec![remote]), once);
            }
            Some(Destination::Name(..)) => {
                self.history().begin(conn, true, None);
                self.start_to(ctx, conn, Err(CannotStart::Secret), once);
            }
            None => {
                self.history().begin(conn, true, None);
                self.start_to(ctx, conn, Err(CannotStart::Address), once);
            }
        }
    }

    /// Starts to the first of these addresses that there is a route to.
    fn start_to(
        &mut self,
        ctx: &mut Context<Self>,
        conn: ConnId,
        remotes: Result<Vec<SocketAddr>, CannotStart>,
        once: bool,
    ) {
        let cause = (self.parent.take(), self.author);
        match remotes.and_then(|remotes| self.begin(&remotes, cause)) {
            Ok((begin, remote)) => {
                self.history().leads_to(conn, remote);
                self.spawn_connection(ctx, conn, Some(remote), begin);
                self.publish(v1::EventType::NegotiationStarted, "we start");
                if once {
                    self.command(conn, Command::Once);
                }
            }
            Err(why) => {
                let text = why.to_string();
                let story = Story::begin(&self.env, "negotiate", SpanKind::Client, cause.0, cause.1);
                if let Some(mut story) = story {
                    story.set_peer(&self.peer.name);
                    match why.failure() {
                        Some((_, failure)) => story.fail(&failure),
                        None => story.fail_by("local", text.clone()),
                    }
                    story.finish();
                }
                tracing::warn!(peer = %self.peer.name, why = text, "cannot start a negotiation");
                // Where it was to be authenticated anew it answers by the connection in use.
                let beside = self.has_another(conn);
                let cause = match why.failure() {
                    Some((reason, failure)) => {
                        if !beside {
                            self.reached(false, reason, &text);
                        }
                        self.history().failed(conn, &failure);
                        self.env.outcomes.failed(Stage::Initiate, &failure)
                    }
                    None => {
                        self.history().step(conn, &text);
                        self.env.outcomes.failed_by(Stage::Initiate, "local")
                    }
                };
                if !beside {
                    self.view_mut().blame(cause);
                }
                self.view_mut().failures += 1;
                self.attempt_failed(text, conn, Ended::Failed);
            }
        }
    }

    fn begin(
        &self,
        remotes: &[SocketAddr],
        cause: (Option<SpanContext>, Option<SpanContext>),
    ) -> Result<(Begin, SocketAddr), CannotStart> {
        let config = self.config.clone().ok_or(CannotStart::Secret)?;
        let first = *remotes.first().ok_or(CannotStart::Address)?;
        let routed = || remotes.iter().filter_map(|remote| Some((*remote, local_address(*remote)?)));
        // A name may have addresses of a family that this node does not speak to the outside.
        let able = routed().find(|(_, local)| self.env.router.listens_on(*local));
        let (remote, local) = able.or_else(|| routed().next()).ok_or(CannotStart::Route(first))?;
        let path = Path {
            local: SocketAddr::new(local, self.env.router.ike_port()),
            remote,
            local_natt: self.env.router.natt_port(),
            remote_natt: self.env.remote_ports.1,
        };
        Ok((Begin::Initiate { config, path, cause }, remote))
    }

    /// Has the peer's names resolved.
    pub(super) fn refresh_names(&mut self, ctx: &mut Context<Self>) {
        for name in self.peer.spec.host_names() {
            self.env.resolver.ask(self.peer.name.tenant(), name, ctx.address().recipient());
        }
        let (now, named) = (Instant::now(), self.peer.spec.host_names().next().is_some());
        self.names.asked = named.then_some(now);
        self.names.refresh = named.then(|| now + REFRESH - a_tenth_at_most(REFRESH));
    }

    /// A connection is gone: the peer may come back from elsewhere.
    pub(super) fn refresh_names_soon(&mut self) {
        if let Some((asked, refresh)) = self.names.asked.zip(self.names.refresh) {
            self.names.refresh = Some(refresh.min(asked + REFRESH_AGAIN));
        }
    }

    /// A negotiation of ours was a success.
    pub(super) fn address_worked(&mut self, remote: SocketAddr) {
        (self.names.worked, self.names.tries) = (Some(remote.ip()), 0);
    }

    /// A name of the peer was resolved, or was not. A negotiation that waits for it goes on.
    pub(super) fn name_resolved(
        &mut self,
        ctx: &mut Context<Self>,
        name: &HostName,
        outcome: Result<(), String>,
    ) {
        if self.names.resolving.as_ref().is_some_and(|resolving| resolving.name == *name)
            && let Some(resolving) = self.names.resolving.take()
        {
            self.go_on(ctx, resolving, outcome);
        }
        self.settle(ctx);
    }

    /// What is due of the peer's names.
    pub(super) fn names_due(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if self.names.refresh.is_some_and(|at| at <= now) {
            self.refresh_names(ctx);
        }
        if self.names.resolving.as_ref().is_some_and(|resolving| resolving.until <= now)
            && let Some(resolving) = self.names.resolving.take()
        {
            let seconds = RESOLVE_TIMEOUT.as_secs();
            self.go_on(ctx, resolving, Err(format!("no answer of the resolver within {seconds} s")));
        }
    }

    fn go_on(&mut self, ctx: &mut Context<Self>, resolving: Resolving, outcome: Result<(), String>) {
        let Resolving { conn, name, port, replaces, once, .. } = resolving;
        let up = self.supervisor.current().is_some();
        let wanted = if replaces { up } else { self.supervisor.state() == State::Connecting };
        if self.leaving || !wanted {
            self.history().step(conn, "not wanted any more");
            return;
        }
        let known = self.env.catalog.resolution(&name).unwrap_or_default().addresses;
        let addresses: Vec<String> = known.iter().map(ToString::to_string).collect();
        let remotes = match outcome {
            // The resolver may be behind the very tunnel that is to come up.
            Err(reason) if !known.is_empty() => {
                let addresses = addresses.join(", ");
                self.history()
                    .step(conn, format!("{name} does not resolve ({reason}); it was last {addresses}"));
                Ok(known)
            }
            Err(reason) => Err(CannotStart::Unresolved(name, reason)),
            // Forgotten meanwhile, with the last peer of that name.
            Ok(()) if known.is_empty() => Err(CannotStart::Address),
            Ok(()) => {
                self.history().step(conn, format!("{name} is {}", addresses.join(", ")));
                Ok(known)
            }
        };
        let remotes = remotes.map(|known| {
            let in_turn = self.names.in_turn(known);
            self.names.tries = self.names.tries.wrapping_add(1);
            in_turn.into_iter().map(|address| SocketAddr::new(address, port)).collect()
        });
        self.start_to(ctx, conn, remotes, once);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_worked_is_first_and_the_others_follow_in_turn() {
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let all = vec![address(1), address(2), address(3)];
        let mut names = PeerNames::default();
        let firsts = |names: &mut PeerNames| -> Vec<IpAddr> {
            let next = |tries| {
                names.tries = tries;
                names.in_turn(all.clone())[0]
            };
            (0..4).map(next).collect()
        };
        assert_eq!(firsts(&mut names), [address(1), address(2), address(3), address(1)]);
        names.worked = Some(address(2));
        assert_eq!(firsts(&mut names), [address(2), address(1), address(3), address(2)]);
        // It has gone out of the name.
        names.worked = Some(address(9));
        assert_eq!(firsts(&mut names), [address(1), address(2), address(3), address(1)]);
        assert!(names.in_turn(Vec::new()).is_empty());
    }
}
