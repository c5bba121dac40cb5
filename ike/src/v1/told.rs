//! Identities and subnets in words.

use super::wire::Id;
use crate::identity::Identity;

impl Id {
    /// Who it says it is, also where that is nobody.
    pub(crate) fn told(&self) -> Identity {
        Identity { kind: self.kind, data: self.data.clone() }
    }

    /// Which subnet it names, or what stands there instead.
    pub(crate) fn told_as_subnet(&self) -> String {
        self.selector().map_or_else(|| self.told().to_string(), |selector| selector.to_string())
    }
}
