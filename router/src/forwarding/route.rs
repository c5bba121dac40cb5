//! A route.

use std::sync::Arc;

use esp::{SelectorPair, Selectors};

use crate::tunnel::Tunnel;

/// Traffic that may leave by a tunnel.
pub(crate) struct Route {
    pub(crate) tunnel: Arc<Tunnel>,
    /// In place, as they are read for every look-up.
    pub(crate) selectors: Selectors,
    /// It is there because the tunnel is configured, not because a pair is up: its traffic goes this way or none.
    pub(crate) declared: bool,
}

impl Route {
    pub(crate) fn new(tunnel: Arc<Tunnel>, selectors: Arc<SelectorPair>, declared: bool) -> Self {
        Self { tunnel, selectors: Selectors::new(selectors), declared }
    }
}
