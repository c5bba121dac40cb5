//! By which configuration of its peer a connection was agreed on. A change that is made while its node is gone, or that the node has not heard of,
//! is seen by this where the connection goes on.

use prost::Message;
use snapshot::Writer;
use tenants::{Peer, impact};

use super::ConnectionRow;
use crate::numbered::Numbered;

/// By which configuration a connection was agreed on.
///
/// Revisions alone would not do, for most changes leave the IKE_SA as it is. The digest alone would not either: a node may be behind the one that
/// it takes a connection from, and versions of Culvert may say a default otherwise. It is of what the catalog shows to everybody, so it gives
/// nothing away that could be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Agreed {
    /// The revision of the catalog that wrote the peer last.
    #[prost(uint64, tag = "1")]
    revision: u64,
    /// Of all that a change of makes the IKE_SA start afresh.
    #[prost(fixed64, tag = "2")]
    digest: u64,
}

impl Agreed {
    /// By what is configured of the peer here.
    pub(crate) fn by(peer: &Peer) -> Self {
        Self { revision: peer.meta.revision, digest: snapshot::digest(&impact::agreed_by(&peer.spec)) }
    }

    /// Whether nothing that was configured since makes the IKE_SA start afresh.
    pub(crate) const fn is_as(self, now: Self) -> bool {
        self.digest == now.digest
    }

    /// Whether the IKE_SA is to start afresh where the peer is configured like this. Not where that is older: what is newer comes by and by.
    pub(crate) const fn is_overtaken(self, here: Self) -> bool {
        here.revision > self.revision && !self.is_as(here)
    }

    /// What is said of it from now on, where the peer is configured like this.
    pub(crate) const fn seen_from(self, here: Self) -> Self {
        if self.revision > here.revision || self.is_overtaken(here) { self } else { here }
    }

    pub(super) fn write(self, w: &mut Writer, tag: u32) {
        let Self { revision, digest } = self;
        let form = w.begin(tag);
        w.uint(1, revision);
        w.fixed64(2, digest);
        w.end(form);
    }
}

/// By which configuration a connection of another node was agreed on, seen from here. One of a version that does not say so counts as agreed on by
/// what is configured here.
pub(crate) fn agreed_of(row: &ConnectionRow, here: &Numbered) -> Agreed {
    row.agreed.map_or(here.agreed(), |agreed| agreed.seen_from(here.agreed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Agreed = Agreed { revision: 7, digest: 1 };
    const NEW: Agreed = Agreed { revision: 9, digest: 2 };

    #[test]
    fn what_is_newer_overtakes_and_what_is_older_does_not() {
        let renamed = Agreed { revision: 9, ..OLD };
        assert!(OLD.is_overtaken(NEW) && !NEW.is_overtaken(OLD));
        assert!(!OLD.is_overtaken(renamed) && !renamed.is_overtaken(OLD));
        // The same, said otherwise by another version.
        assert!(!OLD.is_overtaken(Agreed { digest: 2, ..OLD }));
    }

    #[test]
    fn what_was_agreed_on_stays_until_this_node_has_heard_of_it() {
        let renamed = Agreed { revision: 9, ..OLD };
        let said_otherwise = Agreed { digest: 2, ..OLD };
        assert_eq!(NEW.seen_from(OLD), NEW, "this node is behind");
        assert_eq!(OLD.seen_from(NEW), OLD, "until it is closed");
        assert_eq!(OLD.seen_from(renamed), renamed);
        assert_eq!(OLD.seen_from(said_otherwise), said_otherwise);
    }
}
