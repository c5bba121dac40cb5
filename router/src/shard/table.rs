//! The SAs of a shard by the slot and the index in their SPI: three array look-ups, no hash.

use esp::Spi;

use crate::shard::Sa;
use crate::sys::prefetch::fetch;

/// Pages appear as indexes come into use, so a shard with few SAs is small.
pub(crate) struct SaTable {
    /// The part of the SPI that all SAs of this shard share.
    shard: u8,
    /// The pages of each slot. Most nodes have few slots, and one that is alone has one.
    slots: [Vec<Option<Page>>; SLOTS],
}

/// As many as an SPI can name.
const SLOTS: usize = Spi::MAX_SLOT as usize + 1;

impl SaTable {
    pub(crate) fn new(shard: u8) -> Self {
        Self { shard, slots: [const { Vec::new() }; SLOTS] }
    }

    /// The SA with exactly this SPI.
    pub(crate) fn get_mut(&mut self, spi: Spi) -> Option<&mut Sa> {
        if !self.is_ours(spi) {
            return None;
        }
        let (slot, page, entry) = position(spi);
        self.slots.get_mut(slot)?.get_mut(page)?.as_mut()?.entries.get_mut(entry)?.as_deref_mut()
    }

    /// Fetches where the table says whether there is one.
    pub(crate) fn fetch_place(&self, spi: Spi) {
        let (slot, page, entry) = position(spi);
        let page = self.slots.get(slot).and_then(|pages| pages.get(page)?.as_ref());
        if let Some(place) = page.and_then(|page| page.entries.get(entry)) {
            fetch(place);
        }
    }

    pub(crate) fn contains(&self, spi: Spi) -> bool {
        self.get(spi).is_some()
    }

    pub(crate) fn get(&self, spi: Spi) -> Option<&Sa> {
        let (slot, page, entry) = position(spi);
        let page = self.slots.get(slot)?.get(page)?.as_ref()?;
        page.entries.get(entry)?.as_deref().filter(|_| self.is_ours(spi))
    }

    /// Puts an SA in its place and returns what was there.
    pub(crate) fn insert(&mut self, sa: Box<Sa>) -> Option<Box<Sa>> {
        let (slot, page, entry) = position(sa.spi());
        let pages = self.slots.get_mut(slot)?;
        if pages.len() <= page {
            pages.resize_with(page + 1, || None);
        }
        let page = pages.get_mut(page)?.get_or_insert_with(Page::new);
        let old = page.entries.get_mut(entry)?.replace(sa);
        page.used += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, spi: Spi) -> Option<Box<Sa>> {
        if !self.is_ours(spi) {
            return None;
        }
        let (slot, at, entry) = position(spi);
        let page = self.slots.get_mut(slot)?.get_mut(at)?;
        let removed = page.as_mut()?.entries.get_mut(entry)?.take()?;
        if let Some(left) = page {
            left.used -= 1;
            // SPIs move on through the whole range, so pages are left behind.
            if left.used == 0 {
                *page = None;
            }
        }
        Some(removed)
    }

    /// Takes all SAs of a slot out.
    pub(crate) fn remove_slot(&mut self, slot: u8) -> impl Iterator<Item = Box<Sa>> + use<> {
        let pages = self.slots.get_mut(usize::from(slot)).map(std::mem::take).unwrap_or_default();
        pages.into_iter().flatten().flat_map(|page| {
            let entries: Box<[Option<Box<Sa>>]> = page.entries;
            entries.into_iter().flatten()
        })
    }

    fn is_ours(&self, spi: Spi) -> bool {
        spi.shard() == self.shard
    }
}

/// 8 KiB of pointers.
const PAGE_LEN: usize = 1024;

struct Page {
    entries: Box<[Option<Box<Sa>>; PAGE_LEN]>,
    /// Entries that are taken.
    used: usize,
}

impl Page {
    fn new() -> Self {
        Self { entries: Box::new([const { None }; PAGE_LEN]), used: 0 }
    }
}

fn position(spi: Spi) -> (usize, usize, usize) {
    let index = spi.index() as usize;
    (usize::from(spi.slot()), index / PAGE_LEN, index % PAGE_LEN)
}
