//! Commands to a connection that the peer replaces before it has answered.

use actors::RekeyTarget;

use crate::common::{branch, catalog, node, until};

/// The peer is gone without a word, and makes a new connection when it is back: that has the new keys that somebody waits for.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_new_keys_has_those_of_the_newer_connection() {
    let node = node(catalog());
    let name = "tenants/acme/peers/b0".parse().unwrap();
    let sent_again =
        || node.control().node_status().counters.get("ike_retransmissions").copied().unwrap_or_default();
    for target in [RekeyTarget::Ike, RekeyTarget::Children, RekeyTarget::Child("lan".into())] {
        let mut first = branch(&node, 0);
        first.until("up", |r| r.up).await;
        first.vanish().await;
        let before = sent_again();
        let (control, name, ordered) = (node.control(), &name, target.clone());
        let asked = async { control.rekey(name, ordered).await };
        let back = async {
            until("asked in vain", || sent_again() > before).await;
            let mut second = branch(&node, 0);
            second.until("up again", |r| r.up).await;
            second
        };
        let (outcome, second) = tokio::join!(asked, back);
        assert!(outcome.is_ok(), "{target:?}: {outcome:?}");
        second.vanish().await;
    }
    node.shutdown().await;
}
