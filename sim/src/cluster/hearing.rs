//! Who hears whom: what heartbeats do in production (`cluster/src/mesh/hearing.rs`), without sending them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cluster::mesh::{BEAT, SILENT};
use latest::Latest as _;

use super::net::{Net, State};

impl Net {
    /// Something has changed: whoever is heard now is so with the next heartbeat, and whoever is not after a silence.
    pub(super) fn listen(self: &Arc<Self>) {
        let mut state = self.state();
        let names: Vec<String> = state.nodes.keys().cloned().collect();
        for at in &names {
            for other in names.iter().filter(|other| *other != at) {
                state.expect(self, other, at);
            }
            let gone: Vec<String> =
                state.heard_by(at).iter().filter(|name| !names.contains(name)).cloned().collect();
            for other in gone {
                state.expect(self, &other, at);
            }
        }
    }

    /// A node that stood still goes on: it gives each of the others its time anew, and has not noticed anything yet.
    pub(super) fn listen_anew(self: &Arc<Self>, at: &str) {
        self.state().will_hear.retain(|(_, to), _| to != at);
        self.listen();
    }
}

impl State {
    fn heard_by(&self, at: &str) -> Arc<BTreeSet<String>> {
        self.nodes.get(at).map(|there| there.hears.latest()).unwrap_or_default()
    }

    /// Both ways are needed: whoever hears nobody says so.
    fn audible(&self, from: &str, at: &str) -> bool {
        self.nodes.get(from).is_some_and(|there| there.process.runs())
            && self.gets_through(from, at)
            && self.gets_through(at, from)
    }

    fn expect(&mut self, net: &Arc<Net>, from: &str, at: &str) {
        let audible = self.audible(from, at);
        let key = (from.to_owned(), at.to_owned());
        let known =
            self.will_hear.get(&key).map_or_else(|| self.heard_by(at).contains(from), |(will, _)| *will);
        if known == audible {
            return;
        }
        self.changes += 1;
        let change = self.changes;
        self.will_hear.insert(key.clone(), (audible, change));
        let time = if audible { self.chance.time_up_to(BEAT) } else { SILENT + self.chance.time_up_to(BEAT) };
        tokio::spawn(tell(Arc::clone(net), key, change, time));
    }
}

/// Tells the node, if nothing has changed since.
async fn tell(net: Arc<Net>, key: (String, String), change: u64, time: Duration) {
    tokio::time::sleep(time).await;
    let state = net.state();
    let (from, at) = &key;
    let Some(there) = state.nodes.get(at).filter(|there| there.process.runs()) else { return };
    let Some((audible, _)) = state.will_hear.get(&key).filter(|(_, last)| *last == change) else { return };
    there.hears.send_if_modified(|all| {
        let now = Arc::make_mut(all);
        if *audible { now.insert(from.clone()) } else { now.remove(from) }
    });
}
