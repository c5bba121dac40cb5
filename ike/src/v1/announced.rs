//! Vendor IDs (RFC 2408 section 3.16): what the peer says that it can, and what we say.

use super::nat::Natt;
use super::wire::{Payload, Payloads, vendor};

/// What the peer has announced by its vendor IDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) natt: Option<Natt>,
    /// The ID that it has announced that with.
    pub(super) natt_id: Option<[u8; 16]>,
    /// RFC 3706.
    pub(crate) dpd: bool,
    pub(crate) fragments: bool,
    /// It is one of us, and settles what crosses as we do.
    pub(crate) culvert: bool,
}

impl Announced {
    /// What this message adds to it. Of several ways to do NAT traversal the newest counts.
    pub(crate) fn note(&mut self, payloads: Payloads<'_>) {
        for id in payloads.vendors() {
            match vendor::known(id) {
                Some(vendor::Known::NatRfc) => self.note_natt(Natt::Rfc, id),
                Some(vendor::Known::NatDraft03) if self.natt != Some(Natt::Rfc) => {
                    self.note_natt(Natt::Draft, id);
                }
                Some(vendor::Known::NatDraft02 | vendor::Known::NatDraft02n) if self.natt.is_none() => {
                    self.note_natt(Natt::Draft, id);
                }
                Some(vendor::Known::Dpd) => self.dpd = true,
                Some(vendor::Known::Fragmentation) => self.fragments = true,
                Some(vendor::Known::Culvert) => self.culvert = true,
                _ => {}
            }
        }
    }

    /// What the last messages of phase 1, which are encrypted, add to it: some say only there that they speak RFC 3706. How NAT
    /// traversal is done has been settled by then.
    pub(crate) fn note_late(&mut self, payloads: Payloads<'_>) {
        let (natt, natt_id) = (self.natt, self.natt_id);
        self.note(payloads);
        (self.natt, self.natt_id) = (natt, natt_id);
    }

    fn note_natt(&mut self, natt: Natt, id: &[u8]) {
        self.natt = Some(natt);
        self.natt_id = id.try_into().ok();
    }

    /// What an answer says of it: nothing that the peer has not said, so that no answer is larger than what it answers.
    pub(crate) fn echo(self) -> Vec<Payload> {
        let natt = self.natt_id.map(|id| id.to_vec());
        let dpd = self.dpd.then(|| vendor::DPD.to_vec());
        let fragments = self.fragments.then(|| vendor::FRAGMENTATION.to_vec());
        let culvert = self.culvert.then(|| vendor::CULVERT.to_vec());
        [natt, dpd, fragments, culvert].into_iter().flatten().map(Payload::Vendor).collect()
    }
}

/// What we announce.
pub(crate) fn announcement() -> impl Iterator<Item = Payload> {
    let ids = [
        vendor::NAT_RFC,
        vendor::NAT_DRAFT_03,
        vendor::NAT_DRAFT_02N,
        vendor::NAT_DRAFT_02,
        vendor::DPD,
        vendor::FRAGMENTATION,
        vendor::CULVERT,
    ];
    ids.into_iter().map(|id| Payload::Vendor(id.to_vec()))
}
