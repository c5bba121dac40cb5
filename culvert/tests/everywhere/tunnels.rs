//! The tunnels of a node that is made up.

use super::*;

/// The tunnels of one made-up node.
pub(crate) struct Tunnels {
    pub(crate) up: BTreeSet<&'static str>,
    /// Beside those of the tunnels that are up.
    pub(crate) sas: Mutex<Vec<v1::Sa>>,
    /// As the node tells it.
    pub(crate) placement: OnceLock<Arc<Placement>>,
    /// Who answers for which slot, as far as it knows.
    pub(crate) owners: Mutex<BTreeMap<u8, String>>,
    /// How often it is asked before slot 1 has come, and all that is in it; `None` if it does not say which slots it has.
    pub(crate) comes_in: Mutex<Option<usize>>,
    pub(crate) orders: Mutex<Vec<String>>,
    /// The next one to rekey a tunnel or take it down, or to drain the node, is not done before that.
    pub(crate) gate: Mutex<Option<Arc<Notify>>>,
    /// The next one, with this reason.
    pub(crate) refuses: Mutex<Option<RuntimeError>>,
    /// All there were, and where those come that happen now.
    pub(crate) events: Mutex<(Vec<Happened>, broadcast::Sender<Happened>)>,
    /// How many of those that there had been were read.
    pub(crate) read: Arc<AtomicUsize>,
}

/// The number of the last event before the first.
pub(crate) const BEFORE: u64 = 5;
/// Whoever has a name now, as nobody has come after them.
const NOW: Whose = Whose { tenant: u32::MAX, peer: u64::MAX };

impl Tunnels {
    pub(crate) fn of(up: &[&'static str]) -> Arc<Self> {
        let events = Mutex::new((Vec::new(), broadcast::channel(16).0));
        Arc::new(Self {
            up: up.iter().copied().collect(),
            sas: Mutex::default(),
            placement: OnceLock::new(),
            owners: Mutex::default(),
            comes_in: Mutex::default(),
            orders: Mutex::default(),
            gate: Mutex::default(),
            refuses: Mutex::default(),
            events,
            read: Arc::default(),
        })
    }

    /// To those who have the names now.
    pub(crate) fn happens(&self, event: v1::Event) {
        let (kept, live) = &mut *self.events.lock().unwrap();
        let happened = Happened { event, whose: NOW };
        kept.push(happened.clone());
        live.send(happened).unwrap();
    }

    /// Streams end, and this happens before another begins.
    pub(crate) fn happens_unseen(&self, event: v1::Event) {
        self.has_happened(Happened { event, whose: NOW });
    }

    /// The same, to those with these numbers.
    pub(crate) fn has_happened(&self, happened: Happened) {
        let (kept, live) = &mut *self.events.lock().unwrap();
        kept.push(happened);
        *live = broadcast::channel(16).0;
    }

    pub(crate) fn watchers(&self) -> usize {
        self.events.lock().unwrap().1.receiver_count()
    }

    /// Whether it has not come yet.
    pub(crate) fn waits(&self) -> bool {
        let mut comes_in = self.comes_in.lock().unwrap();
        let waits = comes_in.is_some_and(|times| times > 0);
        *comes_in = comes_in.map(|times| times.saturating_sub(1));
        waits
    }

    pub(crate) fn status(&self, peer: &Peer) -> v1::PeerStatus {
        let up = self.up.contains(peer.name.to_string().rsplit('/').next().unwrap());
        let state = if up { v1::PeerState::Established } else { v1::PeerState::Waiting };
        v1::PeerStatus { state: state.into(), ..v1::PeerStatus::default() }
    }

    pub(crate) fn order(&self, what: &str, peer: &Peer) -> Result<v1::PeerStatus, RuntimeError> {
        match self.refuses.lock().unwrap().take() {
            Some(error) => return Err(error),
            None => self.orders.lock().unwrap().push(what.to_owned()),
        }
        Ok(self.status(peer))
    }

    /// Until the next one may be done.
    pub(crate) async fn at_gate(&self) {
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.notified().await;
        }
    }

    /// The next order is refused.
    pub(crate) fn refuse(&self, error: RuntimeError) {
        *self.refuses.lock().unwrap() = Some(error);
    }

    /// Waits until this is the only thing that was ordered.
    pub(crate) async fn until_told(&self, what: &str) {
        let told = async {
            loop {
                match self.orders().as_slice() {
                    [] => tokio::task::yield_now().await,
                    orders => return assert_eq!(orders, [what]),
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), told).await.unwrap();
    }

    pub(crate) fn orders(&self) -> Vec<String> {
        std::mem::take(&mut *self.orders.lock().unwrap())
    }
}

#[tonic::async_trait]
impl Runtime for Tunnels {
    fn health(&self) -> watch::Receiver<actors::Health> {
        NoRuntime.health()
    }

    async fn list_sas(&self, scope: &Scope) -> Result<Vec<v1::Sa>, RuntimeError> {
        let sa = |up: &&str| v1::Sa { peer: format!("tenants/acme/peers/{up}"), ..v1::Sa::default() };
        if self.waits() {
            return Ok(Vec::new());
        }
        let all = self.up.iter().map(sa).chain(self.sas.lock().unwrap().clone());
        Ok(all.filter(|sa| scope.covers(&sa.peer)).collect())
    }

    fn watch(&self, after: u64) -> Result<HappenedStream, RuntimeError> {
        let (kept, live) = &*self.events.lock().unwrap();
        if (1..BEFORE).contains(&after) {
            return Err(RuntimeError::Lagged(BEFORE));
        }
        let missed = kept.iter().filter(|happened| after > 0 && happened.event.sequence > after);
        let missed: Vec<_> = missed.cloned().collect();
        let live = BroadcastStream::new(live.subscribe()).filter_map(Result::ok);
        let read = Arc::clone(&self.read);
        let missed = missed.into_iter().inspect(move |_| {
            read.fetch_add(1, Ordering::Relaxed);
        });
        Ok(Box::pin(tokio_stream::iter(missed).chain(live).map(Ok)))
    }

    fn last_event(&self) -> u64 {
        self.events.lock().unwrap().0.last().map_or(BEFORE, |happened| happened.event.sequence)
    }

    fn cluster(&self) -> Option<Arc<Placement>> {
        self.placement.get().cloned()
    }

    fn slots(&self) -> v1::ListSlotsResponse {
        let slot = |(number, owner)| v1::Slot { number: u32::from(number), owner, ..v1::Slot::default() };
        let slots = self.owners().into_iter().map(slot).collect();
        v1::ListSlotsResponse { slots, ..v1::ListSlotsResponse::default() }
    }

    async fn move_slot(&self, slot: u8, to: &str) -> Result<v1::MovedSlot, RuntimeError> {
        Err(RuntimeError::Refused(format!("{slot} is not for {to}")))
    }

    async fn drain(&self) -> Result<v1::DrainNodeResponse, RuntimeError> {
        self.orders.lock().unwrap().push("drain".to_owned());
        self.at_gate().await;
        Ok(v1::DrainNodeResponse::default())
    }

    fn owners(&self) -> BTreeMap<u8, String> {
        self.owners.lock().unwrap().clone()
    }

    fn settled(&self) -> Option<BTreeSet<u8>> {
        let comes_in = *self.comes_in.lock().unwrap();
        comes_in.map(|times| if times == 0 { [1].into() } else { BTreeSet::new() })
    }

    async fn node_status(&self) -> v1::NodeStatus {
        v1::NodeStatus::default()
    }

    async fn peer_statuses(&self, peers: &[Arc<Peer>]) -> Vec<Option<v1::PeerStatus>> {
        if self.waits() {
            return peers.iter().map(|_| Some(v1::PeerStatus::default())).collect();
        }
        peers.iter().map(|peer| Some(self.status(peer))).collect()
    }

    async fn send_dummies(&self, peer: Arc<Peer>, _: u16, _: u16) -> Result<u32, RuntimeError> {
        self.order("dummies", &peer).map(|_| 1)
    }

    async fn explain(&self, peer: Arc<Peer>) -> Result<v1::ExplainPeerResponse, RuntimeError> {
        let status = Some(self.status(&peer));
        let attempts = vec![v1::Attempt::default()];
        Ok(v1::ExplainPeerResponse { status, attempts, ..v1::ExplainPeerResponse::default() })
    }

    async fn initiate(&self, peer: Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError> {
        self.order("initiate", &peer)?;
        Err(RuntimeError::Failed("the peer does not answer".to_owned()))
    }

    async fn terminate(&self, peer: Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        let status = self.order(by, &peer);
        self.at_gate().await;
        status
    }

    async fn terminate_held(&self, peer: Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        let status = self.order(&format!("held: {by}"), &peer);
        self.at_gate().await;
        status
    }

    async fn let_be(&self, peer: Arc<Peer>) -> Result<(), RuntimeError> {
        self.order("let be", &peer).map(drop)
    }

    async fn rekey(&self, peer: Arc<Peer>, target: RekeyTarget) -> Result<v1::PeerStatus, RuntimeError> {
        let status = self.order(&format!("{target:?}"), &peer);
        self.at_gate().await;
        status
    }
}
