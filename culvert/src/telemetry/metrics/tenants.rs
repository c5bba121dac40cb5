//! The sums of each tenant.

use std::time::{Duration, SystemTime};

use actors::{PeerView, Traffic, Troubles};

use super::definition::Definition;
use super::exit::{Exit, Number};
use super::packets::reason;
use super::source::{OfTenant, Reading, STATES, count_states, unix};
use super::table;

/// How long before a certificate ends those are told of it that have no series of their own otherwise. Its alert looks two weeks ahead.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Where there are too many: what alerts have to know of those whose uplink fails, and of those with a certificate that ends soon, `most` of each. How many peers fail out of how many no node
/// can tell by what it sees itself.
pub(super) fn write_failing(reading: &Reading, exit: &mut dyn Exit, tenants: &[OfTenant<'_>], most: usize) {
    let soon = SystemTime::now() + SOON;
    let ending = tenants.iter().filter_map(|of| Some((of, certificate_ends(reading, of)?)));
    for (tenant, end) in ending.filter(|(_, end)| *end < soon).take(most) {
        exit.number(&table::TENANT_CERTIFICATE, &[tenant.id()], unix(end).into());
    }
    let down = tenants.iter().filter(|of| uplink(reading, of) == Some(false));
    for tenant in down.take(most) {
        exit.number(&table::TENANT_UPLINK, &[tenant.id()], false.into());
    }
}

/// When the first of its certificates does, if it has some.
fn certificate_ends(reading: &Reading, of: &OfTenant<'_>) -> Option<SystemTime> {
    reading.secrets.get(&of.tenant.name)?.certificate_ends
}

/// Whether it works, where that is known.
fn uplink(reading: &Reading, of: &OfTenant<'_>) -> Option<bool> {
    let uplinks = &reading.figures.uplinks;
    let at = uplinks.binary_search_by(|(name, _)| name.cmp(&of.tenant.name)).ok()?;
    uplinks.get(at)?.1
}

pub(super) fn write(reading: &Reading, exit: &mut dyn Exit, tenants: &[OfTenant<'_>]) {
    for tenant in tenants {
        let counts = count_states(tenant.peers.iter());
        for (state, count) in STATES.into_iter().zip(counts) {
            exit.number(&table::TENANT_PEERS, &[tenant.id(), state], count.into());
        }
    }
    let secrets = |of: &OfTenant<'_>| reading.secrets.get(&of.tenant.name);
    let oldest = |of: &OfTenant<'_>| secrets(of).map(|secrets| unix(secrets.oldest).into());
    let number = |of: &OfTenant<'_>| Some(secrets(of).map_or(0, |secrets| secrets.count).into());
    let quotas = |of: &OfTenant<'_>| of.tenant.spec.quotas;
    each(exit, &table::TENANT_PEER_LIMIT, tenants, &|of| Some(quotas(of).max_peers.into()));
    each(exit, &table::TENANT_SECRETS, tenants, &number);
    each(exit, &table::TENANT_SECRET_LIMIT, tenants, &|of| Some(quotas(of).max_secrets.into()));
    each(exit, &table::TENANT_OLDEST_SECRET, tenants, &oldest);
    each(exit, &table::TENANT_CERTIFICATE, tenants, &|of| {
        certificate_ends(reading, of).map(|end| unix(end).into())
    });
    each(exit, &table::TENANT_UPLINK, tenants, &|of| uplink(reading, of).map(Number::from));
    each(exit, &table::TENANT_IKE_SAS, tenants, &|of| Some(of.sum(|view| view.ike_sas as u64)));
    each(exit, &table::TENANT_CHILD_SAS, tenants, &|of| Some(of.sum(|view| view.children.len() as u64)));
    let carried = |of: &OfTenant<'_>| -> Traffic {
        reading.figures.carried.get(&of.tenant.number).copied().unwrap_or_default()
    };
    for tenant in tenants {
        let carried = carried(tenant);
        exit.number(&table::TENANT_PACKETS, &[tenant.id(), "in"], carried.packets_in.into());
        exit.number(&table::TENANT_PACKETS, &[tenant.id(), "out"], carried.packets_out.into());
    }
    for tenant in tenants {
        let carried = carried(tenant);
        exit.number(&table::TENANT_BYTES, &[tenant.id(), "in"], carried.bytes_in.into());
        exit.number(&table::TENANT_BYTES, &[tenant.id(), "out"], carried.bytes_out.into());
    }
    for tenant in tenants {
        let number = tenant.tenant.number;
        for ((_, name), count) in reading.figures.drops.range((number, "")..(number.saturating_add(1), "")) {
            exit.number(&table::TENANT_DROPPED, &[tenant.id(), reason(name)], (*count).into());
        }
    }
    let troubles = |of: &OfTenant<'_>| -> Troubles {
        reading.figures.troubles.get(&of.tenant.name).copied().unwrap_or_default()
    };
    each(exit, &table::TENANT_FAILURES, tenants, &|of| Some(troubles(of).failures.into()));
    each(exit, &table::TENANT_LOSSES, tenants, &|of| Some(troubles(of).losses.into()));
}

fn each(
    exit: &mut dyn Exit,
    metric: &'static Definition,
    tenants: &[OfTenant<'_>],
    value: &dyn Fn(&OfTenant<'_>) -> Option<Number>,
) {
    for tenant in tenants {
        if let Some(value) = value(tenant) {
            exit.number(metric, &[tenant.id()], value);
        }
    }
}

impl OfTenant<'_> {
    pub(super) fn id(&self) -> &str {
        self.tenant.name.id()
    }

    fn sum(&self, of: fn(&PeerView) -> u64) -> Number {
        self.peers.iter().filter_map(|peer| peer.view).map(of).sum::<u64>().into()
    }
}
