//! Inner packets on their way into a tenant's device: those of one flow that came together are written as one.
//!
//! Nothing waits for company: what a turn of the shard has brought is written at its end. A packet never overtakes one of its
//! flow.

use std::io;
use std::sync::Arc;

use esp::Spi;
use esp::run::{self, Joiner};

use super::core::Core;
use crate::counters::Counter;
use crate::sys::tun::Offload;
use crate::tenant::Tenant;

/// What a turn has brought for devices.
pub(super) struct Joins {
    flows: Vec<Flow>,
    /// The one that goes first when all are in use.
    next_victim: usize,
}

/// Packets of one flow.
struct Flow {
    joiner: Joiner,
    tenant: Option<Arc<Tenant>>,
    /// Of the pair that brought them.
    spi: Spi,
    /// It is not to draw its flow to this shard.
    aside: bool,
}

impl Joins {
    pub(super) fn new() -> Self {
        let flow = || Flow { joiner: Joiner::new(), tenant: None, spi: Spi(0), aside: false };
        Self { flows: (0..FLOWS).map(|_| flow()).collect(), next_victim: 0 }
    }

    /// The flow of the tenant that the packet is of.
    fn find(&self, tenant: &Arc<Tenant>, packet: &[u8]) -> Option<usize> {
        self.flows.iter().position(|flow| flow.is_of(tenant) && flow.joiner.holds_flow_of(packet))
    }

    /// A place that is free, or else the one that is to be freed.
    fn place(&mut self) -> usize {
        self.flows.iter().position(|flow| flow.tenant.is_none()).unwrap_or_else(|| {
            self.next_victim = (self.next_victim + 1) % FLOWS;
            self.next_victim
        })
    }
}

impl Flow {
    fn is_of(&self, tenant: &Arc<Tenant>) -> bool {
        self.tenant.as_ref().is_some_and(|own| Arc::ptr_eq(own, tenant))
    }
}

impl Core {
    /// Writes a packet that came out of the pair `spi` to the tenant's device, now or with others at the end of the turn.
    pub(super) fn deliver(&mut self, spi: Spi, inner: &[u8]) {
        let Some(sa) = self.table.get_mut(spi) else { return };
        let (tenant, aside) = (&sa.tenant, sa.leaves_flows());
        let udp = match tenant.offload() {
            Some(Offload::Tcp) => false,
            Some(Offload::TcpAndUdp) => true,
            Some(Offload::None) | None => {
                let tenant = tenant.clone();
                return self.write(spi, &tenant, aside, inner);
            }
        };
        let known = self.joins.find(tenant, inner);
        if let Some(flow) = known.and_then(|at| self.joins.flows.get_mut(at))
            && flow.spi == spi
            && flow.joiner.append(inner)
        {
            return;
        }
        let tenant = tenant.clone();
        let Some(may_be) = run::may_be_of_a_run(inner, udp) else {
            // Of what flow it is may not be seen, as for a fragment: nothing of its tenant may come after it that came before.
            for at in 0..FLOWS {
                if self.joins.flows.get(at).is_some_and(|flow| flow.is_of(&tenant)) {
                    self.write_flow(at);
                }
            }
            return self.write(spi, &tenant, aside, inner);
        };
        let at = known.or_else(|| may_be.then(|| self.joins.place()));
        if let Some(at) = at {
            self.write_flow(at);
            if let Some(flow) = self.joins.flows.get_mut(at).filter(|_| may_be)
                && flow.joiner.begin(inner, udp)
            {
                (flow.tenant, flow.spi, flow.aside) = (Some(tenant), spi, aside);
                return;
            }
        }
        // By itself, as an acknowledgement without data. What is there of other flows stays: it is not overtaken by one of its own.
        self.write(spi, &tenant, aside, inner);
    }

    /// Writes all that is there.
    pub(super) fn deliver_joined(&mut self) {
        for at in 0..FLOWS {
            self.write_flow(at);
        }
    }

    fn write_flow(&mut self, at: usize) {
        let id = self.id;
        let Some(flow) = self.joins.flows.get_mut(at) else { return };
        let Some(tenant) = flow.tenant.take() else { return };
        let (spi, aside) = (flow.spi, flow.aside);
        if let Some(joined) = flow.joiner.finish() {
            let (packets, written) = (joined.packets, tenant.write_joined(id, aside, &joined));
            self.written(spi, &tenant, packets, written);
        }
    }

    fn write(&mut self, spi: Spi, tenant: &Arc<Tenant>, aside: bool, packet: &[u8]) {
        let written = tenant.write(self.id, aside, packet);
        self.written(spi, tenant, 1, written);
    }

    /// Counts what became of packets.
    fn written(
        &mut self,
        spi: Spi,
        tenant: &Arc<Tenant>,
        packets: usize,
        written: Option<io::Result<usize>>,
    ) {
        if written.is_some() {
            self.counters.count(Counter::TunWriteCalls);
        }
        let outcome = match written {
            Some(Ok(_)) => return self.counters.add(Counter::TunWritten, packets as u64),
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Counter::TunFull,
            Some(Err(_)) => {
                self.suspect(tenant);
                Counter::TunFailed
            }
            None if tenant.has_device() => Counter::TunAway,
            None => Counter::NoRoute,
        };
        self.counters.add(outcome, packets as u64);
        // The pair may be gone by now.
        if let Some(sa) = self.table.get_mut(spi) {
            for _ in 0..packets {
                sa.count_drop(outcome.name());
            }
        }
    }
}

/// Flows whose packets are joined at a time: as many as one receiving system call brings buffers, each of them of one sender.
/// 1 MiB per shard.
const FLOWS: usize = 16;
