//! The SAs of a shard by the index in their SPI: two array look-ups, no hash.

use esp::Spi;

use crate::shard::Sa;

/// Pages appear as indexes come into use, so a shard with few SAs is small.
pub(crate) struct SaTable {
    /// The part of the SPI that all SAs of this shard share.
    slot: u8,
    shard: u8,
    pages: Vec<Option<Page>>,
}

impl SaTable {
    pub(crate) fn new(slot: u8, shard: u8) -> Self {
        Self { slot, shard, pages: Vec::new() }
    }

    /// The SA with exactly this SPI.
    pub(crate) fn get_mut(&mut self, spi: Spi) -> Option<&mut Sa> {
        if !self.is_ours(spi) {
            return None;
        }
        let (page, entry) = position(spi);
        self.pages.get_mut(page)?.as_mut()?.entries.get_mut(entry)?.as_deref_mut()
    }

    pub(crate) fn contains(&self, spi: Spi) -> bool {
        self.get(spi).is_some()
    }

    pub(crate) fn get(&self, spi: Spi) -> Option<&Sa> {
        let (page, entry) = position(spi);
        let page = self.pages.get(page)?.as_ref()?;
        page.entries.get(entry)?.as_deref().filter(|_| self.is_ours(spi))
    }

    /// Puts an SA in its place and returns what was there.
    pub(crate) fn insert(&mut self, sa: Box<Sa>) -> Option<Box<Sa>> {
        let (page, entry) = position(sa.spi());
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages.get_mut(page)?.get_or_insert_with(Page::new);
        let old = page.entries.get_mut(entry)?.replace(sa);
        page.used += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, spi: Spi) -> Option<Box<Sa>> {
        if !self.is_ours(spi) {
            return None;
        }
        let (at, entry) = position(spi);
        let page = self.pages.get_mut(at)?;
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

    fn is_ours(&self, spi: Spi) -> bool {
        spi.slot() == self.slot && spi.shard() == self.shard
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

fn position(spi: Spi) -> (usize, usize) {
    let index = spi.index() as usize;
    (index / PAGE_LEN, index % PAGE_LEN)
}
