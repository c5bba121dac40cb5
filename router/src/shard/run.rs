//! Runs on their way out: many packets of one flow, looked up once.

use esp::ip::{self, PacketInfo};
use esp::run::{Run, Segments};
use esp::{SealError, Spi};

use super::core::Core;
use super::outbound::Inner;
use crate::came_from::CameFrom;
use crate::counters::Counter;

/// How many packets it stands for.
pub(super) fn packets(packet: &[u8], run: Option<Run>) -> u64 {
    run.map_or(1, |run| run.count(packet)) as u64
}

impl Core {
    /// Seals the packets of a run on a pair of this shard, whose selectors take them, but no more than `admitted` of them: each is
    /// written straight to where it is sealed.
    pub(super) fn seal_run(&mut self, spi: Spi, from: CameFrom, packet: &[u8], run: Run, admitted: u64) {
        let mut left = admitted.min(packets(packet, Some(run)));
        let Some(sa) = self.table.get_mut(spi) else { return };
        let fits = run.largest() <= sa.max_inner(self.now);
        if sa.hosts.is_some() || !fits {
            return self.each_of(packet, run, |core, packet, info| {
                if left > 0 {
                    core.seal_single(spi, from, packet, info);
                }
                left = left.saturating_sub(1);
            });
        }
        let (class, dont_fragment) = (sa.options.outer_class(packet), sa.outer_df(packet));
        let Some(mut segments) = Segments::new(packet, run) else {
            return self.counters.add(Counter::BadInner, packets(packet, Some(run)));
        };
        while left > 0
            && let Some(len) = segments.next_len()
        {
            left -= 1;
            let inner = Inner { len, class, dont_fragment, upper: None };
            let mut written = false;
            self.seal(spi, &inner, |room| written = segments.write_next(room).is_some());
            if !written {
                // There was no room to write to, which is counted of this one. Nor will there be for the rest.
                if let Some(sa) = self.table.get_mut(spi) {
                    sa.count_drops(SealError::NoSpace.name(), left);
                }
                return self.counters.add_seal(SealError::NoSpace, left);
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
            return self.counters.add(Counter::BadInner, packets(packet, Some(run)));
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
