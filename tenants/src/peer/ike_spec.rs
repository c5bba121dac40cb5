//! What is configured of the IKE SA.

use std::fmt::Display;
use std::hash::Hash;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use culvert_proto::v1;
use ike::IkeProposal;
use ike::config::{Opening, Uniqueness};

use crate::limits;
use crate::peer::algorithms::Allowed;
use crate::peer::lifetime::{self, Span};
use crate::peer::pool::{self, Pool};
use crate::peer::version::IkeVersion;
use crate::violation::Violations;

/// What is configured of the IKE SA.
#[derive(Clone, Debug, PartialEq)]
pub struct IkeSpec {
    /// In the order of preference; at least one.
    pub proposals: Arc<[IkeProposal]>,
    /// Time since it was established.
    pub lifetime: Span<Duration>,
    /// After this long without a sign of life the peer is asked for one.
    pub dpd_interval: Duration,
    /// What follows when there is none; `None` goes by who begins.
    pub dpd_action: Option<DpdAction>,
    /// We authenticate anew after an IKE_SA has been used for this long.
    pub reauth_time: Option<Duration>,
    /// Which connection stays when the peer starts another.
    pub uniqueness: Uniqueness,
    /// Which version of IKE is spoken.
    pub version: IkeVersion,
}

/// What follows when the peer gives no sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DpdAction {
    /// Nothing: down until the peer or a command brings it up.
    Clear,
    /// The next packet brings it up.
    Hold,
    /// We bring it up.
    Restart,
}

impl IkeSpec {
    /// `legacy` allows legacy algorithms.
    pub(crate) fn parse(ike: Option<&v1::IkeConfig>, legacy: bool, faults: &mut Violations) -> Self {
        let given = ike.cloned().unwrap_or_default();
        let version = IkeVersion::parse(&given, faults);
        let allowed = Allowed { version, legacy };
        let (defaults, fault) = (|| allowed.default_ike(), |p: &_| allowed.fault_of_ike(p));
        let proposals = parse_proposals("proposals", &given.proposals, &pool::IKE, defaults, fault, faults);
        allowed.check_offer(&proposals, faults);
        let mut inner = Violations::new();
        let times = given.lifetime.unwrap_or_default();
        let lifetime = lifetime::parse_time(
            times.rekey_time,
            times.life_time,
            limits::DEFAULT_IKE_REKEY_TIME,
            &mut inner,
        );
        faults.add_all("lifetime", inner);
        Self {
            proposals,
            lifetime,
            dpd_interval: parse_dpd(given.dpd_interval, faults),
            dpd_action: parse_action(given.dpd_action, faults),
            reauth_time: parse_reauth(given.reauth_time, version, faults),
            uniqueness: parse_uniqueness(given.uniqueness, faults),
            version,
        }
    }

    pub(crate) fn to_proto(&self) -> v1::IkeConfig {
        let (version, v1) = self.version.to_proto();
        v1::IkeConfig {
            proposals: self.proposals.iter().map(ToString::to_string).collect(),
            lifetime: Some(v1::IkeLifetime {
                rekey_time: Some(lifetime::to_duration(self.lifetime.rekey)),
                life_time: Some(lifetime::to_duration(self.lifetime.life)),
            }),
            dpd_interval: Some(lifetime::to_duration(self.dpd_interval)),
            dpd_action: match self.dpd_action {
                None => v1::DpdAction::Unspecified,
                Some(DpdAction::Clear) => v1::DpdAction::Clear,
                Some(DpdAction::Hold) => v1::DpdAction::Hold,
                Some(DpdAction::Restart) => v1::DpdAction::Restart,
            }
            .into(),
            reauth_time: Some(lifetime::to_duration(self.reauth_time.unwrap_or_default())),
            uniqueness: match self.uniqueness {
                Uniqueness::Replace => v1::Uniqueness::Replace,
                Uniqueness::Keep => v1::Uniqueness::Keep,
            }
            .into(),
            version: version.into(),
            v1,
        }
    }

    /// How a negotiation opens.
    pub const fn opening(&self) -> Opening {
        self.version.opening()
    }

    /// Whether it asks that we begin at some time, for which an address is needed.
    pub(crate) fn begins(&self) -> Option<&'static str> {
        match self.dpd_action {
            Some(DpdAction::Restart) => Some("ike.dpd_action RESTART"),
            Some(DpdAction::Hold) => Some("ike.dpd_action HOLD"),
            _ => self.reauth_time.map(|_| "ike.reauth_time"),
        }
    }
}

/// Proposals in the order of preference, each held against `fault`; the defaults if there are none.
pub(crate) fn parse_proposals<P>(
    field: &str,
    texts: &[String],
    pool: &Pool<P>,
    defaults: impl FnOnce() -> Vec<P>,
    fault: impl Fn(&P) -> Option<String>,
    faults: &mut Violations,
) -> Arc<[P]>
where
    P: FromStr<Err: Display> + Eq + Hash,
{
    if texts.len() > limits::MAX_PROPOSALS {
        faults.add(field, format!("{} of them; at most {}", texts.len(), limits::MAX_PROPOSALS));
    } else if texts.is_empty() {
        return pool.share(defaults());
    }
    let parse = |(i, text): (usize, &String)| {
        let parsed = text.parse().map_err(|error: P::Err| error.to_string());
        let checked = parsed.and_then(|proposal| match fault(&proposal) {
            Some(fault) => Err(fault),
            None => Ok(proposal),
        });
        faults.note(format!("{field}[{i}]"), checked)
    };
    pool.share(texts.iter().take(limits::MAX_PROPOSALS).enumerate().filter_map(parse).collect())
}

fn parse_dpd(interval: Option<prost_types::Duration>, faults: &mut Violations) -> Duration {
    let interval =
        interval.and_then(|interval| faults.note("dpd_interval", lifetime::from_duration(interval)));
    let Some(interval) = interval.filter(|interval| !interval.is_zero()) else {
        return limits::DEFAULT_DPD_INTERVAL;
    };
    if !(limits::MIN_DPD_INTERVAL..=limits::MAX_DPD_INTERVAL).contains(&interval) {
        let (min, max) = (limits::MIN_DPD_INTERVAL.as_secs(), limits::MAX_DPD_INTERVAL.as_secs());
        faults.add("dpd_interval", format!("{} s is not {min} to {max} s", interval.as_secs_f64()));
    }
    interval
}

fn parse_action(action: i32, faults: &mut Violations) -> Option<DpdAction> {
    match v1::DpdAction::try_from(action) {
        Ok(v1::DpdAction::Unspecified) => None,
        Ok(v1::DpdAction::Clear) => Some(DpdAction::Clear),
        Ok(v1::DpdAction::Hold) => Some(DpdAction::Hold),
        Ok(v1::DpdAction::Restart) => Some(DpdAction::Restart),
        Err(_) => {
            faults.add("dpd_action", format!("unknown value {action}; expected CLEAR, HOLD or RESTART"));
            None
        }
    }
}

fn parse_uniqueness(uniqueness: i32, faults: &mut Violations) -> Uniqueness {
    match v1::Uniqueness::try_from(uniqueness) {
        Ok(v1::Uniqueness::Unspecified | v1::Uniqueness::Replace) => Uniqueness::Replace,
        Ok(v1::Uniqueness::Keep) => Uniqueness::Keep,
        Err(_) => {
            faults.add("uniqueness", format!("unknown value {uniqueness}; expected REPLACE or KEEP"));
            Uniqueness::Replace
        }
    }
}

fn parse_reauth(
    time: Option<prost_types::Duration>,
    version: IkeVersion,
    faults: &mut Violations,
) -> Option<Duration> {
    let time = faults.note("reauth_time", lifetime::from_duration(time?))?;
    if time.is_zero() {
        return None;
    }
    if version.is_v1() {
        let fault =
            "makes no sense with version IKEV1, where each rekey authenticates anew; set lifetime.rekey_time";
        faults.add("reauth_time", fault);
        return None;
    }
    if !(limits::MIN_REAUTH_TIME..=limits::MAX_REAUTH_TIME).contains(&time) {
        let (min, max) = (limits::MIN_REAUTH_TIME.as_secs(), limits::MAX_REAUTH_TIME.as_secs());
        faults.add("reauth_time", format!("{} s is not {min} to {max} s", time.as_secs_f64()));
    }
    Some(time)
}
