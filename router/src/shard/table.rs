//! The SAs of a shard by the index in their SPI: two array look-ups, no hash.

use esp::Spi;

use crate::shard::Sa;

/// Pages appear as indexes come into use, so a shard with few SAs is small.
pub(crate) struct SaTable {
    /// The part of the SPI that all SAs of this shard share.
    slot: u8,
    shard: u8,
    pages: Vec<Option<Box<Page>>>,
    len: usize,
}

type Page = [Option<Box<Sa>>; PAGE_LEN];

impl SaTable {
    pub(crate) fn new(slot: u8, shard: u8) -> Self {
        Self { slot, shard, pages: Vec::new(), len: 0 }
    }

    /// The SA with exactly this SPI.
    pub(crate) fn get_mut(&mut self, spi: Spi) -> Option<&mut Sa> {
        if !self.is_ours(spi) {
            return None;
        }
        let (page, entry) = position(spi);
        self.pages.get_mut(page)?.as_mut()?.get_mut(entry)?.as_deref_mut()
    }

    pub(crate) fn contains(&self, spi: Spi) -> bool {
        let (page, entry) = position(spi);
        let page = self.pages.get(page).and_then(Option::as_ref);
        self.is_ours(spi) && page.and_then(|page| page.get(entry)).is_some_and(Option::is_some)
    }

    /// Puts an SA in its place and returns what was there.
    pub(crate) fn insert(&mut self, sa: Box<Sa>) -> Option<Box<Sa>> {
        let (page, entry) = position(sa.spi());
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages.get_mut(page)?.get_or_insert_with(|| Box::new([const { None }; PAGE_LEN]));
        let old = page.get_mut(entry)?.replace(sa);
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, spi: Spi) -> Option<Box<Sa>> {
        if !self.is_ours(spi) {
            return None;
        }
        let (page, entry) = position(spi);
        let removed = self.pages.get_mut(page)?.as_mut()?.get_mut(entry)?.take()?;
        self.len -= 1;
        Some(removed)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sa> {
        self.pages.iter().flatten().flat_map(|page| page.iter()).filter_map(|entry| entry.as_deref())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn is_ours(&self, spi: Spi) -> bool {
        spi.slot() == self.slot && spi.shard() == self.shard
    }
}

/// 8 KiB of pointers.
const PAGE_LEN: usize = 1024;

fn position(spi: Spi) -> (usize, usize) {
    let index = spi.index() as usize;
    (index / PAGE_LEN, index % PAGE_LEN)
}
