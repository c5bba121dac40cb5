//! Vendor IDs (RFC 2408 section 3.16) that say what a peer can, or what it is.

/// NAT traversal by RFC 3947.
pub(crate) const NAT_RFC: &[u8] = b"\x4a\x13\x1c\x81\x07\x03\x58\x45\x5c\x57\x28\xf2\x0e\x95\x45\x2f";
/// NAT traversal by the first draft.
pub(crate) const NAT_DRAFT_00: &[u8] = b"\x44\x85\x15\x2d\x18\xb6\xbb\xcd\x0b\xe8\xa8\x46\x95\x79\xdd\xcc";
/// NAT traversal by draft 02.
pub(crate) const NAT_DRAFT_02: &[u8] = b"\xcd\x60\x46\x43\x35\xdf\x21\xf8\x7c\xfd\xb2\xfc\x68\xb6\xa4\x48";
/// The same, of a hash that was taken with the newline behind the text.
pub(crate) const NAT_DRAFT_02N: &[u8] = b"\x90\xcb\x80\x91\x3e\xbb\x69\x6e\x08\x63\x81\xb5\xec\x42\x7b\x1f";
/// NAT traversal by draft 03.
pub(crate) const NAT_DRAFT_03: &[u8] = b"\x7d\x94\x19\xa6\x53\x10\xca\x6f\x2c\x17\x9d\x92\x15\x52\x9d\x56";
/// Liveness (RFC 3706 section 5.1), with version 1.0 behind it.
pub(crate) const DPD: &[u8] = b"\xaf\xca\xd7\x13\x68\xa1\xf1\xc9\x6b\x86\x96\xfc\x77\x57\x01\x00";
/// Extended authentication (draft-beaulieu-ike-xauth-02).
pub(crate) const XAUTH: &[u8] = b"\x09\x00\x26\x89\xdf\xd6\xb7\x12";
/// Cisco's clients and their gateways.
pub(crate) const UNITY: &[u8] = b"\x12\xf5\xf2\x8c\x45\x71\x68\xa9\x70\x2d\x9f\xe2\x74\xcc\x01\x00";
/// Messages in fragments. Capabilities in four octets may follow.
pub(crate) const FRAGMENTATION: &[u8] = b"\x40\x48\xb7\xd5\x6e\xbc\xe8\x85\x25\xe7\xde\x7f\x00\xd6\xc2\xd3";
/// Windows; its version in four octets follows.
pub(crate) const MS_NT5: &[u8] = b"\x1e\x2b\x51\x69\x05\x99\x1c\x7d\x7c\x96\xfc\xbf\xb5\x87\xe4\x61";
/// Windows, when it has no SA with the other end.
pub(crate) const MS_INITIAL_CONTACT: &[u8] =
    b"\x26\x24\x4d\x38\xed\xdb\x61\xb3\x17\x2a\x36\xe3\xd0\xcf\xb8\x19";
/// strongSwan.
pub(crate) const STRONGSWAN: &[u8] = b"\x88\x2f\xe5\x6d\x6f\xd2\x0d\xbc\x22\x51\x61\x3b\x2e\xbe\x5b\xeb";

/// The octets of [`DPD`] and [`UNITY`] before the version.
const WITHOUT_VERSION: usize = 14;
/// Ours: SHA-256 of the name, the first half of it.
pub(crate) const CULVERT: &[u8] = b"\x96\x10\x89\x10\x58\x7f\x13\x44\x99\xa5\x63\x6d\x17\x6f\xa2\x98";
/// Octets of capabilities behind [`FRAGMENTATION`], or of a version behind [`MS_NT5`].
const SUFFIX: usize = 4;

/// A vendor ID that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// [`NAT_RFC`].
    NatRfc,
    /// [`NAT_DRAFT_00`].
    NatDraft00,
    /// [`NAT_DRAFT_02`].
    NatDraft02,
    /// [`NAT_DRAFT_02N`].
    NatDraft02n,
    /// [`NAT_DRAFT_03`].
    NatDraft03,
    /// [`DPD`], of whatever version.
    Dpd,
    /// [`FRAGMENTATION`], with or without capabilities.
    Fragmentation,
    /// [`XAUTH`].
    Xauth,
    /// [`UNITY`], of whatever version.
    Unity,
    /// [`MS_NT5`], of whatever version.
    MsNt5,
    /// [`MS_INITIAL_CONTACT`].
    MsInitialContact,
    /// [`STRONGSWAN`].
    StrongSwan,
    /// [`CULVERT`].
    Culvert,
}

/// Which of the known ones a vendor ID is.
pub(crate) fn known(id: &[u8]) -> Option<Known> {
    let versioned =
        |of: &[u8]| id.len() == of.len() && id.get(..WITHOUT_VERSION) == of.get(..WITHOUT_VERSION);
    let suffixed = |of| id.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.len() == SUFFIX);
    Some(match id {
        NAT_RFC => Known::NatRfc,
        NAT_DRAFT_00 => Known::NatDraft00,
        NAT_DRAFT_02 => Known::NatDraft02,
        NAT_DRAFT_02N => Known::NatDraft02n,
        NAT_DRAFT_03 => Known::NatDraft03,
        XAUTH => Known::Xauth,
        MS_INITIAL_CONTACT => Known::MsInitialContact,
        STRONGSWAN => Known::StrongSwan,
        CULVERT => Known::Culvert,
        _ if versioned(DPD) => Known::Dpd,
        _ if versioned(UNITY) => Known::Unity,
        _ if suffixed(FRAGMENTATION) => Known::Fragmentation,
        _ if suffixed(MS_NT5) => Known::MsNt5,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_capabilities_do_not_hide_what_it_is() {
        assert_eq!(known(NAT_RFC), Some(Known::NatRfc));
        assert_eq!(known(NAT_DRAFT_02N), Some(Known::NatDraft02n));
        assert_eq!(known(DPD), Some(Known::Dpd));
        let mut newer = DPD.to_vec();
        newer[14] = 2;
        assert_eq!(known(&newer), Some(Known::Dpd));
        newer[13] ^= 1;
        assert_eq!(known(&newer), None);
        assert_eq!(known(&DPD[..14]), None);
        let mut newer = UNITY.to_vec();
        newer[15] = 9;
        assert_eq!(known(&newer), Some(Known::Unity));
        for (suffix, expected) in [(0, true), (4, true), (3, false), (5, false)] {
            let id = [FRAGMENTATION, &[0x80, 0, 0, 0, 0][..suffix]].concat();
            assert_eq!(known(&id) == Some(Known::Fragmentation), expected, "{suffix}");
        }
        assert_eq!(known(&[]), None);
        assert_eq!(known(&NAT_RFC[..15]), None);
    }

    #[test]
    fn no_two_are_the_same() {
        let all = [
            NAT_RFC,
            NAT_DRAFT_00,
            NAT_DRAFT_02,
            NAT_DRAFT_02N,
            NAT_DRAFT_03,
            DPD,
            XAUTH,
            UNITY,
            FRAGMENTATION,
            MS_NT5,
            MS_INITIAL_CONTACT,
            STRONGSWAN,
        ];
        let mut names: Vec<String> = all.iter().map(|id| format!("{:?}", known(id).unwrap())).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }
}
