//! Whose address it was, where IKE_SA_INIT had been answered as it would not have been, had that been known.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use ike::config::{Opening, PeerConfig};
use ike::proposal::{Candidates, Likely};
use tenants::Callers;

/// Addresses that are remembered. What is beyond, the oldest, is found out anew.
const MAX_ACQUAINTANCES: usize = 1_024;

/// The last peer of each such address. It decides nothing for others that come from there: its proposals only go first, and
/// UDP without a NAT is for one host, as behind a NAT it is used in any case.
#[derive(Default)]
pub(super) struct Acquaintances {
    by_address: HashMap<IpAddr, Arc<PeerConfig>>,
    order: VecDeque<IpAddr>,
}

impl Acquaintances {
    /// Remembers whose address it is.
    pub(super) fn note(&mut self, address: IpAddr, config: Arc<PeerConfig>) {
        let address = address.to_canonical();
        if self.by_address.insert(address, config).is_some() {
            return;
        }
        self.order.push_back(address);
        if self.order.len() > MAX_ACQUAINTANCES
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_address.remove(&oldest);
        }
    }

    /// Who may come from an address and open like this, with what is remembered of it.
    pub(super) fn refine(&self, address: IpAddr, opening: Opening, callers: Callers) -> Callers {
        let known = self.by_address.get(&address.to_canonical());
        let Some(config) = known.filter(|config| config.opening() == opening) else { return callers };
        let mut candidates = Candidates::default();
        // What is not configured any more is no candidate.
        let allowed = |p: &&ike::IkeProposal| callers.candidates.proposals().contains(p);
        let known: Vec<_> = config.ike_proposals.iter().filter(allowed).cloned().collect();
        candidates.add(Likely::Known, &known);
        candidates.add_all(&callers.candidates);
        Callers {
            candidates: Arc::new(candidates),
            force_encapsulation: callers.force_encapsulation || config.force_encapsulation,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ike::config::{Auth, Psk, Retransmit, Uniqueness};

    use super::*;

    fn config(proposals: &[&str], force_encapsulation: bool) -> Arc<PeerConfig> {
        Arc::new(PeerConfig {
            name: "tenants/acme/peers/b".into(),
            local_id: "hub.example".parse().unwrap(),
            remote_id: "b.example".parse().unwrap(),
            auth: Auth::Psk(Psk::new(b"secret".to_vec().into())),
            ike_proposals: proposals.iter().map(|p| p.parse().unwrap()).collect(),
            children: Vec::new(),
            dpd_interval: Duration::ZERO,
            force_encapsulation,
            uniqueness: Uniqueness::Replace,
            retransmit: Retransmit::DEFAULT,
            version: ike::config::Version::default(),
        })
    }

    #[test]
    fn who_came_from_there_before_goes_first_there_alone() {
        let (lax, strict) = ("aes128gcm16-prfsha256-x25519", "aes256gcm16-prfsha384-ecp384");
        let mut candidates = Candidates::default();
        for text in [lax, strict] {
            candidates.add(Likely::Possible, &config(&[text], false).ike_proposals);
        }
        let callers = Callers { candidates: Arc::new(candidates), force_encapsulation: false };
        let mut known = Acquaintances::default();
        known.note("192.0.2.1".parse().unwrap(), config(&[strict, "aes128-sha256-modp2048"], true));
        let there = known.refine("::ffff:192.0.2.1".parse().unwrap(), Opening::Init, callers.clone());
        assert!(there.force_encapsulation);
        assert_eq!(there.candidates.proposals()[0].to_string(), strict);
        assert_eq!(there.candidates.proposals().len(), 2, "what nobody is configured with is not remembered");
        let other = known.refine("192.0.2.1".parse().unwrap(), Opening::Main, callers.clone());
        assert!(!other.force_encapsulation, "it opens in one way alone");
        let elsewhere = known.refine("192.0.2.2".parse().unwrap(), Opening::Init, callers);
        assert!(!elsewhere.force_encapsulation);
        for n in 0..2_000u32 {
            known.note(IpAddr::V4(n.into()), config(&[lax], false));
        }
        assert_eq!((known.by_address.len(), known.order.len()), (MAX_ACQUAINTANCES, MAX_ACQUAINTANCES));
    }
}
