//! What a supervisor knows, on its way to another node.

use std::time::Instant;

use prost::{Message, Oneof};
use snapshot::{Due, Form, SnapshotError, required};

use super::anew::Anew;
use super::{Few, Plan, Start, State, Supervisor, Up};
use crate::snapshot::values::{duration, name, nanoseconds};

/// Everything of a [`Supervisor`]. The plan is in it as it was; [`Supervisor::set_plan`] says what is configured now.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SupervisorSnapshot {
    #[prost(message, optional, tag = "1")]
    plan: Option<PlanForm>,
    #[prost(uint32, tag = "2")]
    begins: u32,
    #[prost(oneof = "StateForm", tags = "3, 4, 5, 6, 7")]
    state: Option<StateForm>,
    #[prost(uint32, tag = "8")]
    failures: u32,
    #[prost(message, optional, tag = "9")]
    not_before: Option<Due>,
    #[prost(message, optional, tag = "10")]
    reauth: Option<Due>,
    #[prost(bool, tag = "11")]
    reauthenticating: bool,
    #[prost(uint64, tag = "12")]
    attempts: u64,
    #[prost(message, repeated, tag = "13")]
    up: Vec<UpForm>,
    #[prost(message, repeated, tag = "14")]
    restores: Vec<RestoreForm>,
    #[prost(message, repeated, tag = "15")]
    refusals: Vec<RefusalForm>,
    #[prost(message, optional, tag = "16")]
    wanted: Option<Due>,
    /// That of the connection in use, as nodes know it that were there before.
    #[prost(message, optional, tag = "17")]
    spent: Option<Due>,
}

impl Form for SupervisorSnapshot {
    const OF: &'static str = "the supervision of a peer";
    const KIND: u8 = 5;
    const VERSION: u16 = 1;
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct PlanForm {
    #[prost(uint32, tag = "1")]
    start: u32,
    #[prost(uint32, tag = "2")]
    lost: u32,
    #[prost(uint64, optional, tag = "3")]
    reauth: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
enum StateForm {
    #[prost(bool, tag = "3")]
    Waiting(bool),
    #[prost(bool, tag = "4")]
    Connecting(bool),
    #[prost(bool, tag = "5")]
    Established(bool),
    #[prost(message, tag = "6")]
    BackingOff(Due),
    #[prost(bool, tag = "7")]
    Terminated(bool),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct UpForm {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bool, tag = "2")]
    initiator: bool,
    #[prost(fixed64, tag = "3")]
    spi: u64,
    #[prost(message, optional, tag = "4")]
    since: Option<Due>,
    #[prost(message, optional, tag = "5")]
    superseded: Option<Due>,
    #[prost(bool, tag = "6")]
    used: bool,
    #[prost(message, optional, tag = "7")]
    carried: Option<Due>,
    #[prost(message, optional, tag = "8")]
    limited: Option<Due>,
    #[prost(message, optional, tag = "9")]
    spent: Option<Due>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RestoreForm {
    #[prost(message, optional, tag = "1")]
    at: Option<Due>,
    #[prost(string, tag = "2")]
    policy: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RefusalForm {
    #[prost(string, tag = "1")]
    policy: String,
    #[prost(uint32, tag = "2")]
    times: u32,
}

const fn start_number(start: Start) -> u32 {
    match start {
        Start::Peer => 0,
        Start::OnDemand => 1,
        Start::Us => 2,
    }
}

fn start(number: u32) -> Result<Start, SnapshotError> {
    match number {
        0 => Ok(Start::Peer),
        1 => Ok(Start::OnDemand),
        2 => Ok(Start::Us),
        _ => Err(SnapshotError::value("who begins", number)),
    }
}

impl Supervisor {
    /// Everything that another node needs to go on with it.
    pub fn snapshot(&self, now: Instant) -> SupervisorSnapshot {
        let Self {
            plan: Plan { start, lost, reauth: after },
            begins,
            state,
            failures,
            not_before,
            anew: Anew { planned, wanted },
            reauthenticating,
            attempts,
            up,
            restores,
            refusals,
        } = self;
        let due = |at: Instant| Due::new(at, now);
        let up_form = |up: &Up| {
            let Up { id, initiator, spi, since, superseded, used, carried, limited, spent } = *up;
            let (since, superseded, carried) = (Some(due(since)), superseded.map(due), carried.map(due));
            let (limited, spent) = (limited.map(due), spent.map(due));
            UpForm { id, initiator, spi, since, superseded, used, carried, limited, spent }
        };
        SupervisorSnapshot {
            plan: Some(PlanForm {
                start: start_number(*start),
                lost: start_number(*lost),
                reauth: after.map(nanoseconds),
            }),
            begins: start_number(*begins),
            state: Some(match *state {
                State::Waiting => StateForm::Waiting(true),
                State::Connecting => StateForm::Connecting(true),
                State::Established => StateForm::Established(true),
                State::BackingOff(until) => StateForm::BackingOff(due(until)),
                State::Terminated => StateForm::Terminated(true),
            }),
            failures: *failures,
            not_before: not_before.map(due),
            reauth: planned.map(due),
            wanted: wanted.map(due),
            spent: up.last().and_then(|up| up.spent).map(due),
            reauthenticating: *reauthenticating,
            attempts: *attempts,
            up: up.iter().map(up_form).collect(),
            restores: restores
                .iter()
                .map(|(at, policy)| RestoreForm { at: Some(due(*at)), policy: policy.to_string() })
                .collect(),
            refusals: refusals
                .iter()
                .map(|(policy, times)| RefusalForm { policy: policy.to_string(), times: *times })
                .collect(),
        }
    }

    /// Goes on with it, by the time here.
    ///
    /// # Errors
    /// With what is wrong, if it is no snapshot of one.
    pub fn restored(snapshot: &SupervisorSnapshot, now: Instant) -> Result<Self, SnapshotError> {
        let plan = required(snapshot.plan, "the plan")?;
        let at = |due: Option<Due>| due.map(|due| due.at(now));
        let up = |form: &UpForm| {
            Ok(Up {
                id: form.id,
                initiator: form.initiator,
                spi: form.spi,
                since: required(at(form.since), "since when a connection is up")?,
                superseded: at(form.superseded),
                used: form.used,
                carried: at(form.carried),
                limited: at(form.limited),
                spent: at(form.spent),
            })
        };
        let mut up = snapshot.up.iter().map(up).collect::<Result<Vec<_>, SnapshotError>>()?;
        if let (Some(spent), Some(last)) = (at(snapshot.spent), up.last_mut()) {
            last.spent.get_or_insert(spent);
        }
        let restore = |form: &RestoreForm| {
            Ok((required(at(form.at), "when a Child SA is asked for")?, name(&form.policy)))
        };
        let mut refusals = Few::new();
        for RefusalForm { policy, times } in &snapshot.refusals {
            refusals.insert(name(policy), *times);
        }
        Ok(Self {
            plan: Plan {
                start: start(plan.start)?,
                lost: start(plan.lost)?,
                reauth: plan.reauth.map(duration),
            },
            begins: start(snapshot.begins)?,
            state: match required(snapshot.state, "where the peer stands")? {
                StateForm::Waiting(_) => State::Waiting,
                StateForm::Connecting(_) => State::Connecting,
                StateForm::Established(_) => State::Established,
                StateForm::BackingOff(until) => State::BackingOff(until.at(now)),
                StateForm::Terminated(_) => State::Terminated,
            },
            failures: snapshot.failures,
            not_before: at(snapshot.not_before),
            anew: Anew { planned: at(snapshot.reauth), wanted: at(snapshot.wanted) },
            reauthenticating: snapshot.reauthenticating,
            attempts: snapshot.attempts,
            up,
            restores: snapshot.restores.iter().map(restore).collect::<Result<_, _>>()?,
            refusals,
        })
    }
}
