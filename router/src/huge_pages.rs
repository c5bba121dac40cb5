//! Huge pages for a process that holds many pairs of SAs.
//!
//! Packets of many pairs meet memory that is in no cache, and with pages of 4 KiB each line of it costs a look-up of its page besides, which
//! is in none either. With few pairs there is nothing to be had by them, and they cost memory: of 2 MiB all is resident, whatever is used of it.
//! So what the system does by itself, never or always, is either too slow or too large.

use std::io;

use crate::sys::huge_pages::allow;

/// From so many pairs on: what some 10,000 hold is what the processor remembers the pages of (2,048 entries of 4 KiB).
const MANY: usize = 16_384;
/// Below so many none any more. Half, so that a number about [`MANY`] does not change it to and fro.
const FEW: usize = MANY / 2;

/// Whether this process has huge pages. The memory that it asks for has to be advised to have some, as an allocator does where it is told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugePages {
    allowed: bool,
}

impl HugePages {
    /// None from now on, until there are many pairs. To be called before memory is asked for.
    ///
    /// # Errors
    /// The system has no such thing, or a filter of system calls is in the way.
    pub fn withheld() -> io::Result<Self> {
        allow(false)?;
        Ok(Self { allowed: false })
    }

    /// There are so many pairs now.
    pub(crate) fn follow(&mut self, pairs: usize) {
        let wanted = pairs >= if self.allowed { FEW } else { MANY };
        if wanted == self.allowed {
            return;
        }
        self.allowed = wanted;
        match allow(wanted) {
            Ok(()) => tracing::info!(pairs, huge_pages = wanted, "memory follows the number of pairs"),
            Err(error) => {
                tracing::warn!(%error, pairs, huge_pages = wanted, "cannot say whether huge pages are wanted")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::{Arc, Mutex, PoisonError};

    use esp::{SelectorPair, Spi};

    use super::*;
    use crate::config::Uplink;
    use crate::model::{TenantId, TunnelId};
    use crate::registry::{Listing, Registry};
    use crate::slots::Slots;
    use crate::spis::Spis;
    use crate::sys::huge_pages::allowed;

    /// It is one process, and may be one for both tests.
    static TURN: Mutex<()> = Mutex::new(());

    #[test]
    fn many_pairs_have_huge_pages_and_few_have_none() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pages = HugePages::withheld().unwrap();
        assert!(!allowed().unwrap());
        for (pairs, has) in [
            (MANY - 1, false),
            (MANY, true),
            (FEW, true),
            (FEW - 1, false),
            (FEW, false),
            (MANY, true),
            (0, false),
        ] {
            pages.follow(pairs);
            assert_eq!(allowed().unwrap(), has, "{pairs} pairs");
        }
    }

    #[test]
    fn they_come_with_the_pairs_and_go_with_them() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let pages = HugePages::withheld().unwrap();
        let spis = Spis::new(Arc::new(Slots::new(1)), 1, 0);
        let mut registry = Registry::new(spis, Arc::default(), crate::uplink::Nudges::new().0, Some(pages));
        let tenant = TenantId(1);
        registry.add_tenant(tenant, Uplink::Hub).unwrap();
        let selectors = SelectorPair { local: Vec::new(), remote: Vec::new() };
        let mut enlist = |tunnel| -> (Spi, bool) {
            let spi = registry.spis.allocate(1, IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
            let pair = Listing { spi, tenant, tunnel: TunnelId(tunnel), own: false, selectors: &selectors };
            registry.enlist(&pair).unwrap();
            (spi, allowed().unwrap())
        };
        let all: Vec<_> = (1..=MANY as u64).map(&mut enlist).collect();
        assert_eq!(all.iter().filter(|(_, huge)| *huge).count(), 1, "with the last of them");
        for (spi, _) in all {
            registry.delist(spi);
        }
        assert!(!allowed().unwrap());
    }
}
