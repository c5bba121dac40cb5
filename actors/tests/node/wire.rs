//! A wire between a branch and the node, which holds answers of the branch back, and loses what it asks for.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use actors::Node;
use loadtest::InitiatorConfig;
use tokio::net::UdpSocket;

/// The numbers of two exchanges, and the bit of an answer (RFC 7296 section 3.1).
const CREATE_CHILD_SA: u8 = 36;
const IKE_AUTH: u8 = 35;
const ANSWER: u8 = 0x20;

#[derive(Default)]
struct State {
    holds: bool,
    loses: bool,
    is_cut: bool,
    loses_auth: bool,
    /// What is held back, and where it goes on.
    held: Vec<(Arc<UdpSocket>, Vec<u8>)>,
}

pub(crate) struct Wire {
    pub(crate) ports: (u16, u16),
    state: Arc<Mutex<State>>,
}

impl Wire {
    pub(crate) async fn to(node: &Node) -> Self {
        Self::to_ports(node.ports()).await
    }

    /// Of a node that may not be there yet.
    pub(crate) async fn to_ports((ike, natt): (u16, u16)) -> Self {
        let state = Arc::default();
        Self { ports: (carry(&state, ike).await, carry(&state, natt).await), state }
    }

    /// The branch is at its other end.
    pub(crate) fn lead(&self, config: &mut InitiatorConfig) {
        (config.ike_port, config.natt_port) = self.ports;
    }

    /// From now on the branch's answers to CREATE_CHILD_SA do not get to the node.
    pub(crate) fn hold(&self) {
        self.state.lock().unwrap().holds = true;
    }

    /// From now on the branch's own requests of CREATE_CHILD_SA do not get to the node.
    pub(crate) fn lose_requests(&self) {
        self.state.lock().unwrap().loses = true;
    }

    /// Whether nothing at all of the branch's gets to the node from now on.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.state.lock().unwrap().is_cut = is_cut;
    }

    /// Whether IKE_AUTH does not get to the node from now on.
    pub(crate) fn lose_auth(&self, loses: bool) {
        self.state.lock().unwrap().loses_auth = loses;
    }

    pub(crate) fn holds_something(&self) -> bool {
        !self.state.lock().unwrap().held.is_empty()
    }

    /// What was held back gets there, and what comes from now on.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock().unwrap();
        state.holds = false;
        for (to, bytes) in state.held.drain(..) {
            to.try_send(&bytes).unwrap();
        }
    }
}

/// Carries what is for this port of the node; the port of the branch's end.
async fn carry(state: &Arc<Mutex<State>>, port: u16) -> u16 {
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let near = UdpSocket::bind(any).await.unwrap();
    let far = Arc::new(UdpSocket::bind(any).await.unwrap());
    far.connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let (state, at) = (Arc::clone(state), near.local_addr().unwrap().port());
    tokio::spawn(async move {
        let (mut out, mut back, mut branch) = ([0; 2048], [0; 2048], None);
        loop {
            tokio::select! {
                Ok((len, from)) = near.recv_from(&mut out) => {
                    branch = Some(from);
                    let bytes = &out[..len];
                    let mut state = state.lock().unwrap();
                    if state.is_cut || state.loses_auth && exchange(bytes) == Some(IKE_AUTH) {
                        // Lost.
                    } else if state.holds && is_of_child(bytes) == Some(true) {
                        state.held.push((Arc::clone(&far), bytes.to_vec()));
                    } else if !state.loses || is_of_child(bytes) != Some(false) {
                        // A full socket loses it, as any wire may.
                        let _ = far.try_send(bytes);
                    }
                }
                Ok(len) = far.recv(&mut back) => {
                    if let Some(branch) = branch {
                        let _ = near.try_send_to(&back[..len], branch);
                    }
                }
            }
        }
    });
    at
}

fn exchange(datagram: &[u8]) -> Option<u8> {
    datagram.strip_prefix(&[0; 4]).unwrap_or(datagram).get(18).copied()
}

/// Of CREATE_CHILD_SA: whether it is an answer.
fn is_of_child(datagram: &[u8]) -> Option<bool> {
    let message = datagram.strip_prefix(&[0; 4]).unwrap_or(datagram);
    let at = message.get(18..20).filter(|at| at[0] == CREATE_CHILD_SA)?;
    Some(at[1] & ANSWER != 0)
}
