//! A connection as another node takes it over.

mod child;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use snapshot::{Due, required};

use super::exchange::{Quick, QuickForm};
use super::handshake::{Handshake, HandshakeForm, natt, natt_number};
use super::ike_sa::{IkeSa, IkeSaForm};
use super::liveness::{Probe, ProbeForm};
use super::tasks::{Queued, QueuedForm};
use super::{Connection, Phase};
use crate::asked::{AskedForm, Rekeyings};
use crate::config::PeerConfig;
use crate::silence::{Silence, SilenceForm};
use crate::snapshot::policies::PolicyForm;
use crate::snapshot::values::{CountersForm, FruitForm, GapForm, PathForm};
use crate::snapshot::{NotNow, Reading, RestoreError, Resume, Writing};
use child::ChildForm;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConnectionForm {
    #[prost(message, optional, tag = "1")]
    path: Option<PathForm>,
    #[prost(bool, tag = "2")]
    floated: bool,
    #[prost(bool, tag = "3")]
    forced: bool,
    #[prost(uint32, tag = "4")]
    natt: u32,
    #[prost(bool, tag = "5")]
    initiator: bool,
    #[prost(bool, tag = "6")]
    up: bool,
    #[prost(message, optional, tag = "7")]
    handshake: Option<HandshakeForm>,
    #[prost(message, repeated, tag = "8")]
    sas: Vec<IkeSaForm>,
    #[prost(message, repeated, tag = "9")]
    quick: Vec<QuickForm>,
    /// What all others refer to by number.
    #[prost(message, repeated, tag = "10")]
    policies: Vec<PolicyForm>,
    #[prost(message, repeated, tag = "11")]
    children: Vec<ChildForm>,
    #[prost(message, repeated, tag = "12")]
    gaps: Vec<GapForm>,
    #[prost(bool, tag = "13")]
    gaps_changed: bool,
    #[prost(message, optional, tag = "14")]
    gaps_since: Option<Due>,
    #[prost(message, repeated, tag = "15")]
    tasks: Vec<QueuedForm>,
    #[prost(message, repeated, tag = "16")]
    asked: Vec<AskedForm>,
    #[prost(message, optional, tag = "17")]
    fruit: Option<FruitForm>,
    #[prost(bool, tag = "18")]
    initial_contact: bool,
    #[prost(bool, tag = "19")]
    met: bool,
    #[prost(message, optional, tag = "20")]
    began: Option<Due>,
    #[prost(message, optional, tag = "21")]
    silence: Option<SilenceForm>,
    #[prost(message, optional, tag = "22")]
    probe: Option<ProbeForm>,
    #[prost(message, optional, tag = "23")]
    keepalive: Option<Due>,
    #[prost(bool, tag = "24")]
    once: bool,
    #[prost(uint32, tag = "25")]
    reopen_failures: u32,
    #[prost(message, optional, tag = "26")]
    counters: Option<CountersForm>,
}

impl Connection {
    /// Everything that another node needs to go on with it.
    pub(crate) fn form(&self, now: Instant) -> Result<ConnectionForm, NotNow> {
        let Self {
            // By its name.
            config: _,
            path,
            floated,
            forced,
            nat,
            natt,
            initiator,
            phase,
            handshake,
            sas,
            quick,
            children,
            gaps,
            gaps_changed,
            gaps_since,
            tasks,
            asked,
            fruit,
            initial_contact,
            met,
            began,
            silence,
            probe,
            keepalive,
            once,
            reopen_failures,
            // The peer sends all of a message again.
            reassembly: _,
            // While a message is being handled.
            detour: _,
            // Of the reception of the node that has computed.
            spent: _,
            transmits,
            events,
            counters,
            #[cfg(feature = "test-hooks")]
                refuses: _,
        } = self;
        match phase {
            Phase::Finished => return Err(NotNow::Finished),
            Phase::Handshake if !initiator => return Err(NotNow::HalfOpen),
            Phase::Handshake | Phase::Up if !transmits.is_empty() || !events.is_empty() => {
                return Err(NotNow::Undrained);
            }
            Phase::Handshake | Phase::Up => {}
        }
        let mut w = Writing::new(now);
        let at = |at: Option<Instant>, w: &Writing<'_>| at.and_then(|at| w.due(at));
        let form = ConnectionForm {
            path: Some(PathForm::new(*path, *nat)),
            floated: *floated,
            forced: *forced,
            natt: natt_number(*natt),
            initiator: *initiator,
            up: *phase == Phase::Up,
            handshake: handshake.as_ref().map(|handshake| handshake.form(&w)).transpose()?,
            sas: sas.iter().map(|sa| sa.form(&w)).collect(),
            quick: quick.iter().map(|quick| quick.form(&mut w)).collect(),
            children: children.iter().map(|child| ChildForm::new(child, &mut w)).collect(),
            gaps: gaps.iter().map(GapForm::new).collect(),
            gaps_changed: *gaps_changed,
            gaps_since: at(*gaps_since, &w),
            tasks: tasks.iter().map(|queued| queued.form(&w)).collect(),
            asked: asked.form(),
            fruit: Some(FruitForm::new(fruit)),
            initial_contact: *initial_contact,
            met: *met,
            began: w.due(*began),
            silence: Some(silence.form(&w)),
            probe: probe.map(|probe| probe.form(&w)),
            keepalive: at(*keepalive, &w),
            once: *once,
            reopen_failures: *reopen_failures,
            counters: Some(CountersForm::new(*counters)),
            policies: Vec::new(),
        };
        Ok(ConnectionForm { policies: w.policies(), ..form })
    }

    /// Goes on with it.
    pub(crate) fn restore(
        form: &ConnectionForm,
        now: Instant,
        resume: Resume,
        config: Arc<PeerConfig>,
    ) -> Result<Self, RestoreError> {
        // No IV of IKEv1 is counted: each is made of the message before, or of its Message ID, which is random.
        let r = Reading::new(now, resume, &form.policies, &config)?;
        let handshake = form.handshake.as_ref().map(|form| Handshake::restore(form, &r)).transpose()?;
        let sa = |form: &IkeSaForm| IkeSa::restore(form, &r).map(Box::new);
        let (path, nat) = required(form.path.as_ref(), "the path")?.read()?;
        Ok(Self {
            path,
            floated: form.floated,
            forced: form.forced,
            nat,
            natt: natt(form.natt)?,
            initiator: form.initiator,
            phase: if form.up { Phase::Up } else { Phase::Handshake },
            handshake: handshake.map(Box::new),
            sas: form.sas.iter().map(sa).collect::<Result<_, _>>()?,
            quick: form.quick.iter().map(|form| Quick::restore(form, &r)).collect::<Result<_, _>>()?,
            children: form.children.iter().map(|child| child.read(&r)).collect::<Result<_, _>>()?,
            gaps: form.gaps.iter().map(GapForm::read).collect::<Result<_, _>>()?,
            gaps_changed: form.gaps_changed,
            gaps_since: r.maybe_at(form.gaps_since),
            tasks: form.tasks.iter().map(|form| Queued::restore(form, &r)).collect::<Result<_, _>>()?,
            asked: Rekeyings::restore(&form.asked),
            fruit: required(form.fruit.as_ref(), "what has come of the connection")?.read(),
            initial_contact: form.initial_contact,
            met: form.met,
            began: r.at(form.began, "when the connection began")?,
            silence: Silence::restore(required(form.silence.as_ref(), "the peer's silence")?, &r)?,
            probe: form.probe.as_ref().map(|probe| Probe::restore(probe, &r)).transpose()?,
            keepalive: r.maybe_at(form.keepalive),
            once: form.once,
            reopen_failures: form.reopen_failures,
            reassembly: None,
            detour: None,
            spent: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: required(form.counters, "the counters")?.read(),
            config: Some(config),
            #[cfg(feature = "test-hooks")]
            refuses: false,
        })
    }
}
