//! The slots of all nodes.

use std::time::Duration;

use culvert_proto::v1;
use latest::Follow as _;

use super::ask::in_time;
use super::{Wide, merge};
use crate::runtime::RuntimeError;

/// How long it may take until a node that was drained is shown so: it waits for a second itself before it says so, and etcd is slow while it
/// elects a leader.
const SHOWN: Duration = Duration::from_secs(5);

impl Wide {
    /// All slots, with what their owners and standbys know of them.
    pub(crate) async fn slots(&self) -> v1::ListSlotsResponse {
        let mut known = self.0.local.slots();
        let (answers, away) = self
            .each(|node| async move {
                let mut nodes = node.nodes();
                let asked = nodes.list_slots(v1::ListSlotsRequest {});
                in_time(asked).await.map(tonic::Response::into_inner)
            })
            .await;
        for (node, answer) in answers {
            merge::add_slots(&mut known, &node, answer);
        }
        known.nodes_away = away;
        known
    }

    /// Moves a slot of this owner. It takes as long as it takes: whoever waits has its own patience.
    pub(crate) async fn move_slot(
        &self,
        owner: &str,
        slot: u8,
        to: &str,
    ) -> Result<v1::MovedSlot, RuntimeError> {
        let others = self.others().filter(|(_, placement)| placement.own != owner);
        let Some((others, _)) = others else { return self.0.local.move_slot(slot, to).await };
        let node = self.heard_node(others, owner)?;
        let request = v1::MoveSlotRequest { name: format!("slots/{slot}"), to: to.to_owned() };
        self.ordered(&node, node.nodes().move_slot(request)).await
    }

    /// Moves all slots of this node or of another one to others; answers when this one knows that no slot goes there any more.
    pub(crate) async fn drain(&self, name: &str) -> Result<v1::DrainNodeResponse, RuntimeError> {
        let Some((others, placement)) = self.others() else { return self.0.local.drain().await };
        let drained = if placement.own == name {
            self.0.local.drain().await?
        } else {
            let node = self.heard_node(others, name)?;
            let request = v1::DrainNodeRequest { name: name.to_owned() };
            self.ordered(&node, node.nodes().drain_node(request)).await?
        };
        // Else whoever drains one node after the other has the last one drained as well: nobody else would be seen to have been.
        let mut placement = others.placement();
        let is_shown = placement.until(|now| now.nodes.iter().all(|node| node.name != name || node.drained));
        if tokio::time::timeout(SHOWN, is_shown).await.is_err() {
            tracing::warn!(node = name, "a node was drained, and etcd does not say so yet");
        }
        Ok(drained)
    }
}
