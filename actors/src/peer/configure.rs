//! Changes of a peer's configuration, and its end.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use tenants::Peer;

use super::PeerActor;
use crate::convert;
use crate::mailbox::deliver;
use crate::vocabulary::{Configure, Reconfigure, RemovePeer, SecretChanged};

impl PeerActor {
    /// Tells whoever looks for this peer what it negotiates with.
    fn register(&self) {
        if let Some((place, _)) = &self.places {
            place.configure(self.config.clone());
        }
    }

    /// Whether running SAs would have been negotiated differently under the new configuration.
    fn needs_restart(&self, new: &Peer) -> bool {
        let (old, new) = (&self.peer.spec, &new.spec);
        let policies = |spec: &tenants::PeerSpec| -> Vec<_> {
            spec.children
                .iter()
                .map(|c| {
                    (
                        c.name.clone(),
                        c.local_subnets.clone(),
                        c.remote_subnets.clone(),
                        c.esp_proposals.clone(),
                        c.mode,
                    )
                })
                .collect()
        };
        old.local_identity != new.local_identity
            || old.remote_identity != new.remote_identity
            || old.remote_addresses != new.remote_addresses
            || old.auth != new.auth
            || old.ike.proposals != new.ike.proposals
            || policies(old) != policies(new)
    }
}

impl Handler<Configure> for PeerActor {
    type Result = ();

    fn handle(&mut self, Configure(peer): Configure, ctx: &mut Self::Context) {
        let restart = self.needs_restart(&peer);
        self.peer = peer;
        self.config = convert::peer_config(&self.env.catalog, self.env.raw_esp, &self.peer).map(Arc::new);
        self.register();
        tracing::info!(peer = %self.peer.name, restart, "configuration changed");
        let plan = super::jittered_plan(&self.peer);
        if restart {
            self.close_all();
        } else if let Some(config) = &self.config {
            for conn in self.conns.values() {
                deliver(&conn.addr, Reconfigure(self.peer.clone(), config.clone()), &self.env.counters);
            }
        }
        self.supervisor.set_plan(Instant::now(), plan);
        self.arm(ctx);
        self.show();
    }
}

impl Handler<SecretChanged> for PeerActor {
    type Result = ();

    /// Running SAs stay: a key authenticates only the start of a connection.
    fn handle(&mut self, _: SecretChanged, _: &mut Self::Context) {
        self.config = convert::peer_config(&self.env.catalog, self.env.raw_esp, &self.peer).map(Arc::new);
        self.register();
    }
}

impl Handler<RemovePeer> for PeerActor {
    type Result = ();

    fn handle(&mut self, _: RemovePeer, ctx: &mut Self::Context) {
        self.leaving = true;
        // Whoever comes from now on is not for this actor. It stays on the board until it is gone.
        if let Some((place, _)) = &self.places {
            place.configure(None);
        }
        self.close_all();
        self.leave(ctx);
    }
}
