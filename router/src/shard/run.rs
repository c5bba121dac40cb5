//! Runs on their way out: many packets of one flow, looked up once.

use esp::Spi;
use esp::ip::{self, PacketInfo};
use esp::run::{Run, Segments};

use super::core::Core;
use super::outbound::Inner;
use crate::counters::Counter;
use crate::model::TenantId;

/// How many packets it stands for.
pub(super) fn packets(packet: &[u8], run: Option<Run>) -> u64 {
    run.map_or(1, |run| run.count(packet)) as u64
}

impl Core {
    /// Seals every packet of a run on a pair of this shard, whose selectors take them: each is written straight to where it is
    /// sealed.
    pub(super) fn seal_run(&mut self, spi: Spi, tenant: TenantId, packet: &[u8], run: Run) {
        let Some(sa) = self.table.get_mut(spi) else { return };
        let fits = run.largest() <= sa.max_inner(self.now);
        if sa.hosts.is_some() || !fits {
            return self.each_of(packet, run, |core, packet, info| {
                core.seal_here(spi, tenant, packet, Some(info), None);
            });
        }
        let (class, dont_fragment) = (sa.options.outer_class(packet), sa.outer_df(packet));
        let Some(mut segments) = Segments::new(packet, run) else {
            return self.counters.count(Counter::BadInner);
        };
        while let Some(len) = segments.next_len() {
            let inner = Inner { len, class, dont_fragment, upper: None };
            let mut written = false;
            self.seal(spi, &inner, |room| written = segments.write_next(room).is_some());
            if !written {
                // There was no room to write to, which is counted. Nor will there be for the rest.
                return;
            }
        }
    }

    /// Cuts a run for those who take single packets.
    pub(super) fn each_of(
        &mut self,
        packet: &[u8],
        run: Run,
        mut each: impl FnMut(&mut Self, &[u8], &PacketInfo),
    ) {
        let Some(mut segments) = Segments::new(packet, run) else {
            return self.counters.count(Counter::BadInner);
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(len) = segments.write_next(&mut scratch) {
            let packet = scratch.get(..len).unwrap_or_default();
            match ip::parse(packet) {
                Some(info) => each(self, packet, &info),
                None => self.counters.count(Counter::BadInner),
            }
        }
        self.scratch = scratch;
    }
}
