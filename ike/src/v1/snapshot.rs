//! A connection as another node takes it over.

mod child;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use snapshot::{Due, Writer, required};

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
    /// Writes everything that another node needs to go on with it: a [`ConnectionForm`].
    ///
    /// # Errors
    /// Why there is none at this moment. Nothing has been written then.
    pub(crate) fn write(&self, out: &mut Writer, now: Instant) -> Result<(), NotNow> {
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
        let mut w = Writing::new(Writer::default(), now);
        let handshake = handshake.as_ref().map(|handshake| handshake.form(&w)).transpose()?;
        *w = std::mem::take(out);
        w.message(1, |w| PathForm::write(w, *path, *nat));
        w.flag(2, *floated);
        w.flag(3, *forced);
        w.uint(4, natt_number(*natt).into());
        w.flag(5, *initiator);
        w.flag(6, *phase == Phase::Up);
        handshake.iter().for_each(|form| w.form(7, form));
        for sa in sas {
            let form = sa.form(&w);
            w.form(8, &form);
        }
        for quick in quick {
            let form = quick.form(&mut w);
            w.form(9, &form);
        }
        for child in children {
            let form = ChildForm::new(child, &mut w);
            w.form(11, &form);
        }
        gaps.iter().for_each(|gap| w.form(12, &GapForm::new(gap)));
        w.flag(13, *gaps_changed);
        w.maybe_at(14, *gaps_since);
        for queued in tasks {
            let form = queued.form(&w);
            w.form(15, &form);
        }
        asked.form().iter().for_each(|asked| w.form(16, asked));
        w.form(17, &FruitForm::new(fruit));
        w.flag(18, *initial_contact);
        w.flag(19, *met);
        w.at(20, *began);
        w.message(21, |w| silence.write(w));
        probe.map(|probe| probe.form(&w)).iter().for_each(|probe| w.form(22, probe));
        w.maybe_at(23, *keepalive);
        w.flag(24, *once);
        w.uint(25, (*reopen_failures).into());
        w.form(26, &CountersForm::new(*counters));
        *out = w.policies(10);
        Ok(())
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
