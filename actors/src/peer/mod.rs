//! The actor of one peer: negotiates, tries again, keeps one connection of several, and restarts its SA actors when
//! one fails. What it decides stands in [`ike::supervise`].
//!
//! `mod.rs` is the actor, its start and its timer; `report.rs` what its SAs report; `connection.rs` its connections;
//! `start.rs` how one starts; `child.rs` its Child SAs; `command.rs` what the API asks for; `configure.rs` changes of its configuration; `demand.rs`
//! packets that want it up; `moved.rs` connections that come from another node and go to one; `reach.rs` what keeps our messages from it; `view.rs` what it shows.

mod child;
mod command;
mod configure;
mod connection;
mod demand;
mod moved;
mod news;
mod not_rekeyed;
mod reach;
mod report;
mod rival;
mod start;
mod taken_down;
mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use culvert_proto::v1;
use ike::config::PeerConfig;
use ike::supervise::{Action, ConnId, Disposal, Few, Plan, Senders, Start, State, Supervisor};
use tenants::Peer;

use crate::alarm::Alarm;
use crate::clock::Earlier;
use crate::convert;
use crate::env::PeerEnv;
use crate::homes::Hold;
use crate::ike_sa::IkeSaActor;
use crate::mailbox::{MAILBOX, deliver};
use crate::numbered::Numbered;
use crate::registry::PeerPlace;
use crate::span::SpanContext;
use crate::status::{BoardPlace, PeerView};
use crate::table::Turn;
use crate::vocabulary::{Begin, Died, Outcome, Reply, ToPeer};
use crate::watch::DeathWatch;

use child::ChildEntry;
use command::Waiter;
use connection::ConnEntry;
use moved::Given;
use news::News;
use not_rekeyed::Rekeying;
use start::PeerNames;
use taken_down::TakenDown;

/// Connections of one peer at a time: one in use, one replacing it, one crossing, and room for those that linger. For a
/// further one the oldest that only lingers vanishes, or else the oldest that is not in use.
const MAX_CONNECTIONS: usize = 8;

/// Supervises one peer.
pub(crate) struct PeerActor {
    env: Arc<PeerEnv>,
    peer: Arc<Numbered>,
    /// `None` while its secret is missing.
    config: Option<Arc<PeerConfig>>,
    supervisor: Supervisor,
    /// Drawn once: who begins is planned anew whenever somebody else might, and nothing is to change by that.
    earlier: Earlier,
    conns: Few<ConnId, ConnEntry>,
    next_conn: ConnId,
    names: PeerNames,
    children: Few<u32, ChildEntry>,
    senders: Senders,
    /// Shared with the board until the next change.
    view: Arc<PeerView>,
    shown_state: Option<State>,
    turn: Turn,
    /// Where datagrams, packets and commands find it, and where it is shown. Both go with it.
    places: Option<(PeerPlace, BoardPlace)>,
    waiters: Vec<Waiter>,
    /// What has happened and is told once the board shows what came of it.
    untold: Vec<v1::Event>,
    answers: Vec<(Reply, Outcome)>,
    /// Policies without a Child SA for all of their traffic that nobody is making one for, with the reason: the peer refused
    /// it, took less, or deleted it.
    gaps: Few<Arc<str>, String>,
    /// The rekeying that was refused last, with what was told of it.
    not_rekeyed: Option<(Rekeying, String)>,
    alarm: Alarm,
    watch: DeathWatch<Died>,
    /// Set once the peer is to go: stop when the last connection has.
    leaving: bool,
    /// The node that its packets go to without a pair here.
    leads_to: Option<u32>,
    /// When they go there no longer.
    lead_ends: Option<Instant>,
    /// Its connection went to another node a moment ago.
    given: Option<Given>,
    /// A connection that came up in this turn.
    news: Option<News>,
    /// It was ordered up while what was up is on its way down.
    up_after: bool,
    /// When it was taken down by command, until it is up again anywhere.
    taken_down: Option<TakenDown>,
    /// One comes from another node after it was told that yet another has one.
    contested: bool,
    /// Other nodes know that a connection is here.
    hold: Option<Hold>,
    /// When unknown ESP last made it start.
    woken: Option<Instant>,
    /// How often a gateway elsewhere has taken the tunnel over.
    takeovers: u64,
    /// When a refusal was last told to those who watch.
    told_refusal: Option<Instant>,
    /// Of the request that has asked for the next negotiation.
    parent: Option<SpanContext>,
    /// Of the request that has configured the peer as it is.
    author: Option<SpanContext>,
    /// It was up before something of ours took it down: it is called back where it has an address.
    recall: bool,
}

impl PeerActor {
    pub(crate) fn new(
        env: Arc<PeerEnv>,
        peer: Arc<Numbered>,
        turn: Turn,
        (recall, author): (bool, Option<SpanContext>),
        supervisor: Recipient<Died>,
    ) -> Self {
        let config =
            convert::peer_config(&env.catalog, env.raw_esp, env.router.shards(), &peer).map(Arc::new);
        let earlier = Earlier::draw();
        let is_anothers = env.homes.elsewhere(peer.uid, false).is_some();
        // Nothing has been lost here yet.
        let plan = plan(&peer, if is_anothers { Whose::Had } else { Whose::Ours }, earlier);
        let watch = DeathWatch::new(peer.uid, supervisor);
        Self {
            supervisor: Supervisor::new(Instant::now(), plan),
            earlier,
            env,
            peer,
            config,
            conns: Few::new(),
            next_conn: 1,
            names: PeerNames::default(),
            children: Few::new(),
            senders: Senders::default(),
            view: Arc::default(),
            shown_state: None,
            turn,
            places: None,
            waiters: Vec::new(),
            untold: Vec::new(),
            answers: Vec::new(),
            gaps: Few::new(),
            not_rekeyed: None,
            alarm: Alarm::default(),
            watch,
            leaving: false,
            leads_to: None,
            lead_ends: None,
            given: None,
            news: None,
            up_after: false,
            taken_down: None,
            contested: false,
            hold: None,
            woken: None,
            takeovers: 0,
            told_refusal: None,
            parent: None,
            author,
            recall,
        }
    }

    /// Whatever has changed: the others are told of it, the alarm is set by it, and the board shows it.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        self.begin_after(ctx);
        let up = self.supervisor.state() == State::Established;
        if self.env.homes.note(&mut self.hold, self.peer.uid, up) {
            self.replan();
        }
        // What is shown may lead packets elsewhere for a while, which the alarm has to know.
        self.show();
        self.arm(ctx);
    }

    /// Who begins may be another node now.
    fn replan(&mut self) {
        self.go_by(self.plan());
    }

    /// Goes by a plan from now on.
    fn go_by(&mut self, plan: Plan) {
        let asked = self.supervisor.asks();
        self.supervisor.set_plan(Instant::now(), plan);
        if !asked && self.supervisor.asks() {
            // It was left to whoever began.
            self.ask_for_missing();
        }
    }

    /// Asks in a while for what has not come by then, where that is up to us.
    fn ask_for_missing(&mut self) {
        let now = Instant::now();
        for name in self.missing() {
            self.supervisor.child_missing(now, &name);
        }
    }

    /// What is planned for the peer, its time between authentications up to a tenth shorter by chance, so that peers
    /// configured together do not do it together.
    ///
    /// A peer that is at home with another node of the cluster is begun with there, and answered here if it comes.
    ///
    /// One whose connection went to another node a moment ago is left to that one as well: where it is at home may not say so yet.
    fn plan(&self) -> Plan {
        let begins_nothing = self.env.others.0.as_ref().is_some_and(|cluster| cluster.begins_nothing());
        let whose = match self.elsewhere() {
            _ if self.is_had_elsewhere() || begins_nothing => Whose::Had,
            Some(_) => Whose::Home,
            None => Whose::Ours,
        };
        plan(&self.peer, whose, self.earlier)
    }

    /// Whether another node has a connection with the peer, or was given the one that was here.
    fn is_had_elsewhere(&self) -> bool {
        self.given.is_some() || self.env.homes.holder(self.peer.uid).is_some()
    }

    /// The other node that begins with the peer; `None` if that is this one.
    fn elsewhere(&self) -> Option<String> {
        self.env.homes.elsewhere(self.peer.uid, self.hold.is_some())
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        if !self.leaving && !self.watch.supervisor().connected() {
            // Nobody supervises the peer any more, and the word of it was lost with a full mailbox.
            self.depart(ctx);
        }
        let own = self.supervisor.poll_timeout().into_iter().chain(self.names.poll_timeout());
        let at = own.chain(self.given_until()).min();
        let at = at.filter(|_| !self.leaving);
        self.alarm.set(ctx, at, Self::tick);
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        while let Some(action) = self.supervisor.handle_timeout(Instant::now()) {
            match action {
                Action::Connect => self.start_connection(ctx),
                Action::Restore(id, name) => self.restore_child(id, name),
                Action::Close(id) => self.dispose(Disposal::Close(id)),
            }
        }
        self.names_due(ctx);
        self.given_due();
        self.settle(ctx);
    }

    /// The number of another connection.
    fn next_conn(&mut self) -> ConnId {
        let conn = self.next_conn;
        self.next_conn += 1;
        conn
    }

    fn spawn_connection(
        &mut self,
        ctx: &mut Context<Self>,
        id: ConnId,
        remote: Option<SocketAddr>,
        begin: Begin,
    ) {
        if self.conns.len() >= MAX_CONNECTIONS {
            // The newest matters: a peer that comes again and again has lost the others, and must not be locked out by
            // our deletes of them, which nobody answers.
            self.env.counters.connection_limit.up();
            let current = self.supervisor.current();
            let spare = || self.conns.iter().filter(|(id, _)| Some(**id) != current);
            let lingering = spare().find(|(_, conn)| conn.down);
            let oldest = lingering.or_else(|| spare().next()).map(|(id, _)| *id);
            oldest.into_iter().for_each(|id| self.forget_connection(id));
        }
        let (env, peer, me) = (self.env.conn.clone(), self.peer.clone(), ctx.address().recipient());
        // Started in this very arbiter: what a peer's actors say to each other stays on one thread.
        let addr = IkeSaActor::new(id, env, peer, me).start();
        let initiated = matches!(begin, Begin::Initiate { .. });
        let agreed = begin.agreed(&self.peer);
        deliver(&addr, begin, &self.env.counters);
        self.conns.insert(id, ConnEntry::new(addr, remote, initiated, agreed));
    }

    /// Tells what has happened, with the state after it.
    fn publish(&mut self, kind: v1::EventType, message: impl Into<String>) {
        self.untold.push(v1::Event {
            r#type: kind.into(),
            peer: self.peer.name.to_string(),
            message: message.into(),
            ..v1::Event::default()
        });
    }

    /// Calls back a peer that was up and has an address, whoever began with it: it may not know that it has to.
    fn call_back(&mut self, ctx: &mut Context<Self>, goes_on_elsewhere: bool) {
        if self.supervisor.state() != State::Waiting {
            // The connection in use has not ended yet; or another came up meanwhile, or it was taken down by command, and that ends the matter.
            return;
        }
        let has_address = self.peer.spec.initiate_to(self.env.remote_ports.0).is_some();
        if std::mem::take(&mut self.recall)
            && has_address
            && !goes_on_elsewhere
            && self.config.is_some()
            && self.supervisor.try_now()
        {
            self.start_connection(ctx);
        }
    }
}

impl Actor for PeerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let uid = self.peer.uid;
        let to = ctx.address().recipient();
        let place = self.env.registry.register_peer(&self.peer, self.turn, to, self.config.clone());
        self.refresh_names(ctx);
        // An actor before this one may have led them elsewhere.
        self.lead();
        // What was up when the node ended may have gone on where it is at home, or where it was taken over.
        let goes_on_elsewhere = self.elsewhere().is_some();
        self.call_back(ctx, goes_on_elsewhere);
        // Whoever looks never finds a view that says nothing of the peer yet.
        self.look();
        let name = &self.peer.name;
        self.places = Some((place, self.env.board.place(name, uid, self.turn, self.view.clone())));
        self.settle(ctx);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        self.watch.disarm();
        Running::Stop
    }
}

impl Handler<ToPeer> for PeerActor {
    type Result = ();

    fn handle(&mut self, message: ToPeer, ctx: &mut Self::Context) {
        match message {
            ToPeer::Initiate(reply, parent) => self.initiate(reply, parent, ctx),
            ToPeer::Terminate(by, reply) => self.terminate(by, reply, ctx),
            ToPeer::TerminateHeld(by, reply) => self.terminate_held(by, reply, ctx),
            ToPeer::LetBe(reply) => self.let_be(reply, ctx),
            ToPeer::Rekey(target, reply) => self.rekey(target, reply),
            ToPeer::Adopt(adopted) => self.adopt(adopted, ctx),
            ToPeer::GoOn(moved) => self.take_over(moved, ctx),
            ToPeer::Rival(rival, at) => self.rival(ctx, &rival, at),
            ToPeer::Doubt => self.doubt(),
            ToPeer::Stranger(remote, failure, proved) => self.stranger(remote, failure.as_deref(), proved),
            ToPeer::Unreachable(what) => self.unreachable(&what),
            ToPeer::Wanted(tunnel) => self.wanted(tunnel, ctx),
            ToPeer::Wake => self.wake(ctx),
            ToPeer::Rehome => self.rehome(ctx),
            ToPeer::Resolved(name, outcome) => self.name_resolved(ctx, &name, outcome),
            #[cfg(feature = "fault-injection")]
            ToPeer::Panic { connection } => self.panic(connection),
        }
    }
}

/// Whose a peer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// This node begins with it.
    Ours,
    /// It is at home with another node.
    Home,
    /// Another node has it, or takes it on; or none begins with anybody.
    Had,
}

fn plan(peer: &Peer, whose: Whose, earlier: Earlier) -> Plan {
    let mut plan = convert::plan(&peer.spec);
    // Where nobody begins by himself, whoever has lost a tunnel that is to be restarted is the only one that knows of it.
    if whose == Whose::Had || whose == Whose::Home && plan.start == Start::Us {
        for begins in [&mut plan.start, &mut plan.lost] {
            if *begins == Start::Us {
                *begins = Start::Peer;
            }
        }
    }
    let reauth = plan.reauth.map(|time| time - earlier.of(time));
    Plan { reauth, ..plan }
}
