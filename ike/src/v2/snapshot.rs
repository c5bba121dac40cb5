//! A connection as another node takes it over.

pub(crate) mod child;
pub(crate) mod request;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use prost::{Message, Oneof};
use snapshot::{Address, Due, SnapshotError, Writer, required};

use super::authenticate::AuthSent;
use super::ike_sa::{IkeSa, IkeSaForm};
use super::initiator::{AuthSentForm, InitSent, InitSentForm};
use super::mode::Declined;
use super::tasks::{Queued, QueuedForm};
use super::{Connection, Phase};
use crate::asked::{AskedForm, Rekeyings};
use crate::config::PeerConfig;
use crate::silence::{Silence, SilenceForm};
use crate::snapshot::policies::PolicyForm;
use crate::snapshot::values::{CountersForm, FruitForm, GapForm, PathForm, retold};
use crate::snapshot::{NotNow, Reading, RestoreError, Resume, Writing};
use crate::v2::resources::{Resources, ResourcesForm};
use child::ChildForm;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConnectionForm {
    #[prost(message, optional, tag = "1")]
    path: Option<PathForm>,
    #[prost(bool, tag = "2")]
    floated: bool,
    #[prost(bool, tag = "3")]
    forced: bool,
    #[prost(bool, tag = "4")]
    initiator: bool,
    #[prost(oneof = "PhaseForm", tags = "5, 6, 7, 8")]
    phase: Option<PhaseForm>,
    #[prost(message, repeated, tag = "9")]
    sas: Vec<IkeSaForm>,
    #[prost(fixed64, tag = "10")]
    current: u64,
    /// What all others refer to by number.
    #[prost(message, repeated, tag = "11")]
    policies: Vec<PolicyForm>,
    #[prost(message, repeated, tag = "12")]
    children: Vec<ChildForm>,
    #[prost(uint32, repeated, tag = "13")]
    parts: Vec<u32>,
    #[prost(uint32, repeated, tag = "14")]
    parts_refused: Vec<u32>,
    #[prost(message, repeated, tag = "15")]
    gaps: Vec<GapForm>,
    #[prost(bool, tag = "16")]
    gaps_changed: bool,
    #[prost(message, repeated, tag = "17")]
    tasks: Vec<QueuedForm>,
    #[prost(message, repeated, tag = "18")]
    asked: Vec<AskedForm>,
    #[prost(string, optional, tag = "19")]
    rekey_refused: Option<String>,
    #[prost(message, optional, tag = "20")]
    fruit: Option<FruitForm>,
    #[prost(message, optional, tag = "21")]
    declined: Option<DeclinedForm>,
    #[prost(message, optional, tag = "22")]
    began: Option<Due>,
    #[prost(message, optional, tag = "23")]
    silence: Option<SilenceForm>,
    #[prost(message, optional, tag = "24")]
    keepalive: Option<Due>,
    #[prost(bool, tag = "25")]
    once: bool,
    #[prost(message, optional, tag = "26")]
    mend: Option<Due>,
    #[prost(message, optional, tag = "27")]
    counters: Option<CountersForm>,
    #[prost(message, optional, tag = "28")]
    resources: Option<ResourcesForm>,
    /// Where the peer may be instead.
    #[prost(message, optional, tag = "29")]
    elsewhere: Option<Address>,
    #[prost(message, optional, tag = "30")]
    limited: Option<Due>,
}

#[derive(Clone, PartialEq, Oneof)]
enum PhaseForm {
    #[prost(message, tag = "5")]
    InitSent(InitSentForm),
    #[prost(message, tag = "6")]
    AuthSent(AuthSentForm),
    #[prost(bool, tag = "7")]
    Up(bool),
    #[prost(message, tag = "8")]
    Lingering(Due),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct DeclinedForm {
    #[prost(fixed32, tag = "1")]
    spi_in: u32,
    #[prost(message, optional, tag = "2")]
    at: Option<Due>,
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
            initiator,
            phase,
            sas,
            current,
            children,
            parts,
            parts_refused,
            gaps,
            gaps_changed,
            tasks,
            asked,
            rekey_refused,
            fruit,
            declined,
            began,
            silence,
            keepalive,
            once,
            mend,
            limited,
            elsewhere,
            // While a message is being handled.
            detour: _,
            transmits,
            events,
            counters,
            resources,
        } = self;
        if !transmits.is_empty() || !events.is_empty() {
            return Err(NotNow::Undrained);
        }
        match phase {
            Phase::AwaitAuth(_) => return Err(NotNow::HalfOpen),
            Phase::Finished => return Err(NotNow::Finished),
            Phase::InitSent(_) | Phase::AuthSent(_) | Phase::Up | Phase::Lingering(_) => {}
        }
        let mut w = Writing::new(std::mem::take(out), now);
        w.message(1, |w| PathForm::write(w, *path, *nat));
        w.flag(2, *floated);
        w.flag(3, *forced);
        w.flag(4, *initiator);
        match phase {
            Phase::InitSent(init) => w.message(5, |w| init.write(w)),
            Phase::AuthSent(auth) => {
                let form = auth.form(&mut w);
                w.form(6, &form);
            }
            Phase::Up => w.flag(7, true),
            Phase::Lingering(until) => w.at(8, *until),
            // As was asked above.
            Phase::AwaitAuth(_) | Phase::Finished => {}
        }
        sas.iter().for_each(|sa| w.message(9, |w| sa.write(w)));
        w.fixed64(10, *current);
        children.iter().for_each(|child| w.message(12, |w| ChildForm::write(w, child)));
        w.policy_numbers(13, parts);
        w.policy_numbers(14, parts_refused);
        gaps.iter().for_each(|gap| w.form(15, &GapForm::new(gap)));
        w.flag(16, *gaps_changed);
        tasks.iter().for_each(|queued| w.message(17, |w| queued.write(w)));
        asked.form().iter().for_each(|asked| w.form(18, asked));
        rekey_refused.iter().for_each(|why| w.bytes_always(19, why.to_string().as_bytes()));
        w.form(20, &FruitForm::new(fruit));
        if let Some(Declined { spi_in, at }) = declined {
            w.message(21, |w| {
                w.fixed32(1, *spi_in);
                w.at(2, *at);
            });
        }
        w.at(22, *began);
        w.message(23, |w| silence.write(w));
        w.maybe_at(24, *keepalive);
        w.flag(25, *once);
        w.maybe_at(26, *mend);
        w.form(27, &CountersForm::new(*counters));
        w.message(28, |w| resources.write(w));
        elsewhere.iter().for_each(|at| w.address(29, **at));
        w.maybe_at(30, *limited);
        *out = w.policies(11);
        Ok(())
    }

    /// Goes on with it.
    pub(crate) fn restore(
        form: &ConnectionForm,
        now: Instant,
        resume: Resume,
        config: Arc<PeerConfig>,
    ) -> Result<Self, RestoreError> {
        let r = Reading::new(now, resume, &form.policies, &config)?;
        let phase = match required(form.phase.as_ref(), "how far the connection is")? {
            PhaseForm::InitSent(init) => Phase::InitSent(Box::new(InitSent::restore(init, &r)?)),
            PhaseForm::AuthSent(auth) => Phase::AuthSent(Box::new(AuthSent::restore(auth, &r)?)),
            PhaseForm::Up(_) => Phase::Up,
            PhaseForm::Lingering(until) => Phase::Lingering(until.at(now)),
        };
        let sa = |form: &IkeSaForm| IkeSa::restore(form, &r).map(Box::new);
        let sas: Vec<Box<IkeSa>> = form.sas.iter().map(sa).collect::<Result<_, _>>()?;
        // Everything that is done on a connection begins with it.
        if matches!(phase, Phase::AuthSent(_) | Phase::Up)
            && !sas.iter().any(|sa| sa.spi_local == form.current)
        {
            return Err(SnapshotError::Missing("the IKE_SA in use").into());
        }
        let declined = |form: &DeclinedForm| {
            let at = r.at(form.at, "when a tunnel was given instead of transport mode")?;
            Ok::<_, SnapshotError>(Declined { spi_in: form.spi_in, at })
        };
        let parts =
            |numbers: &[u32]| numbers.iter().map(|number| r.policy(*number)).collect::<Result<_, _>>();
        let (path, nat) = required(form.path.as_ref(), "the path")?.read()?;
        let elsewhere = form.elsewhere.as_ref().map(|at| at.read("where the peer may be"));
        Ok(Self {
            path,
            floated: form.floated,
            forced: form.forced,
            nat,
            initiator: form.initiator,
            phase,
            sas,
            current: form.current,
            children: form.children.iter().map(|child| child.read(&r)).collect::<Result<_, _>>()?,
            parts: parts(&form.parts)?,
            parts_refused: parts(&form.parts_refused)?,
            gaps: form.gaps.iter().map(GapForm::read).collect::<Result<_, _>>()?,
            gaps_changed: form.gaps_changed,
            tasks: form.tasks.iter().map(|form| Queued::restore(form, &r)).collect::<Result<_, _>>()?,
            asked: Rekeyings::restore(&form.asked),
            rekey_refused: form.rekey_refused.as_deref().map(retold),
            fruit: required(form.fruit.as_ref(), "what has come of the connection")?.read(),
            declined: form.declined.as_ref().map(declined).transpose()?,
            began: r.at(form.began, "when the connection began")?,
            silence: Silence::restore(required(form.silence.as_ref(), "the peer's silence")?, &r)?,
            keepalive: r.maybe_at(form.keepalive),
            once: form.once,
            mend: r.maybe_at(form.mend),
            limited: r.maybe_at(form.limited),
            elsewhere: elsewhere.transpose()?.map(Box::new),
            detour: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: required(form.counters, "the counters")?.read(),
            resources: Resources::restore(form.resources.as_ref(), &r)?,
            config: Some(config),
        })
    }
}
