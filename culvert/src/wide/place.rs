//! Which node carries an order to a tunnel out.

use std::sync::Arc;
use std::time::Duration;

use latest::Latest as _;
use tenants::Peer;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::ask::Node;
use super::held::Told;
use super::{Known, Wide, merge};
use crate::runtime::RuntimeError;

/// It, and why.
pub(super) struct Place {
    pub(super) at: At,
    /// It has the tunnel. Else nobody has, and it begins with the peer.
    pub(super) has: bool,
    /// Something is on its way between nodes, and the tunnel may be in it.
    pub(super) unsure: bool,
}

pub(super) enum At {
    Here,
    There(Node),
}

impl At {
    /// The name of another node.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Here => None,
            Self::There(node) => Some(&node.name),
        }
    }
}

/// How long a tunnel is looked for that some node is said to have and none has: it has just ended, or is on its way from one to another, or is
/// taken over. In that time the nodes agree; what they take for an answer comes to it.
const SETTLES: Duration = Duration::from_secs(1);
/// Between looks. Nodes mostly say what they have within such a time.
const LOOK: Duration = Duration::from_millis(100);

impl Wide {
    pub(super) async fn place(&self, peer: &Arc<Peer>) -> Result<Place, RuntimeError> {
        let Some((others, _)) = self.others() else {
            return Ok(Place { at: At::Here, has: true, unsure: false });
        };
        let until = Instant::now() + SETTLES;
        let (node, has, unsure) = loop {
            let Told { known: Known { mut what, away }, held } =
                self.statuses_once(std::slice::from_ref(peer)).await;
            if let Some(status) = what.pop().flatten().filter(merge::is_up) {
                break (status.node, true, false);
            }
            let placement = others.placement().latest();
            let node = self.home_of(&placement, peer);
            let is_said_to_have = placement.holds(&node, peer.uid);
            if is_said_to_have && self.hears(&node) && away.contains(&node) {
                let reason = format!(
                    "node {node}, which is said to have the tunnel, has not answered in time; ask again"
                );
                return Err(RuntimeError::Elsewhere(Box::new(Status::unavailable(reason))));
            }
            let unsure = !self.unsaid(&held).is_empty();
            if !(is_said_to_have || unsure) || Instant::now() >= until {
                break (node, false, unsure);
            }
            sleep(LOOK).await;
        };
        let is_own = node.is_empty() || node == self.own_name();
        let at = if is_own { At::Here } else { At::There(self.heard_node(others, &node)?) };
        Ok(Place { at, has, unsure })
    }
}
