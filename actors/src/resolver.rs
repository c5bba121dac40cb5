//! Resolves the host names of peers, on threads of its own: the system's resolver blocks, perhaps for half a minute.
//!
//! A name that is being resolved is not resolved a second time meanwhile; whoever asks for it then is told of the same outcome.
//! What comes of it is put into the catalog first, where the responder looks, and then told. Tenants have their turns, and no
//! tenant has more than its share of the threads: one whose servers do not answer waits for them alone.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::Recipient;
use tenants::{Catalog, HostName, TenantName};

use crate::vocabulary::ToPeer;

/// Names that are resolved at a time. A resolver that answers within 10 ms does 3,200 in a second; one that does not answer
/// holds up these and no thread that does anything else.
const MAX_THREADS: usize = 32;
/// Of one tenant's: it takes eight tenants without a server that answers to hold up the others.
const THREADS_PER_TENANT: usize = 4;
/// Octets of a thread's stack: what the system's resolver has on it are a few buffers of a message.
const STACK: usize = 256 << 10;

type Function = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// How a host name becomes addresses. The call may block.
#[derive(Clone)]
pub struct Lookup(Arc<Function>);

impl Lookup {
    /// By a function.
    pub fn new(lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// The outcome in the form in which it is kept.
    fn of(&self, name: &HostName) -> Result<Vec<IpAddr>, String> {
        // A thread that ended by a panic would leave the name unresolved for ever.
        let found = panic::catch_unwind(AssertUnwindSafe(|| (self.0)(name.as_str())));
        let found = found.unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")));
        let found = found.map_err(|error| error.to_string())?;
        // 0.0.0.0 is what filtering servers answer for what they do not let through.
        let is_host = |address: &IpAddr| !address.is_unspecified() && !address.is_multicast();
        let hosts: Vec<IpAddr> = found.iter().copied().filter(is_host).collect();
        match (hosts.is_empty(), found.first()) {
            (false, _) => Ok(hosts),
            (true, Some(other)) => Err(format!("{other} is the address of no host")),
            (true, None) => Err("the name has no address".to_owned()),
        }
    }
}

impl Default for Lookup {
    /// As the system does it: /etc/hosts, DNS, and what else it is configured with.
    fn default() -> Self {
        Self::new(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

/// Resolves names for the actors of peers.
pub(crate) struct Resolver {
    lookup: Lookup,
    catalog: Arc<Catalog>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Who has names to be resolved; whose turn it is comes first.
    tenants: VecDeque<Share>,
    /// What is asked for and not told yet.
    asked: HashMap<HostName, Asked>,
    threads: usize,
}

/// A name that waits or is being resolved.
#[derive(Default)]
struct Asked {
    askers: Vec<Recipient<ToPeer>>,
    /// Among whose names it waits: of several that ask for it, whoever has its turn first has it resolved for all.
    tenants: Vec<TenantName>,
    /// A thread has taken it up.
    taken: bool,
}

/// What a tenant has asked for. Never without a name.
struct Share {
    tenant: TenantName,
    /// Names that no thread has taken up yet for this tenant, and some that one has for another.
    waiting: VecDeque<HostName>,
    /// Names that are being resolved.
    busy: usize,
}

impl Queue {
    fn push(&mut self, tenant: &TenantName, name: &HostName) {
        let asked = self.asked.entry(name.clone()).or_default();
        if asked.taken || asked.tenants.contains(tenant) {
            return;
        }
        asked.tenants.push(tenant.clone());
        let name = name.clone();
        match self.tenants.iter_mut().find(|share| share.tenant == *tenant) {
            Some(share) => share.waiting.push_back(name),
            None => {
                self.tenants.push_back(Share { tenant: tenant.clone(), waiting: [name].into(), busy: 0 });
            }
        }
    }

    /// Where the next tenant stands for which a thread may do something.
    fn turn(&self) -> Option<usize> {
        let may = |share: &Share| share.busy < THREADS_PER_TENANT && !share.waiting.is_empty();
        self.tenants.iter().position(may)
    }

    /// The next name, and whose it is.
    fn next(&mut self) -> Option<(TenantName, HostName)> {
        loop {
            let mut share = self.tenants.remove(self.turn()?)?;
            let name = share.waiting.pop_front()?;
            if let Some(asked) = self.asked.get_mut(&name).filter(|asked| !asked.taken) {
                asked.taken = true;
                share.busy += 1;
                let tenant = share.tenant.clone();
                self.tenants.push_back(share);
                return Some((tenant, name));
            }
            // Another tenant's turn came first. This one has not had its own.
            if share.busy > 0 || !share.waiting.is_empty() {
                self.tenants.push_front(share);
            }
        }
    }

    /// A name has been resolved in the turn of this tenant: who is to be told.
    fn done(&mut self, tenant: &TenantName, name: &HostName) -> Vec<Recipient<ToPeer>> {
        if let Some(at) = self.tenants.iter().position(|share| share.tenant == *tenant)
            && let Some(share) = self.tenants.get_mut(at)
        {
            share.busy -= 1;
            if share.busy == 0 && share.waiting.is_empty() {
                self.tenants.remove(at);
            }
        }
        self.asked.remove(name).unwrap_or_default().askers
    }
}

impl Resolver {
    pub(crate) fn new(lookup: Lookup, catalog: Arc<Catalog>) -> Self {
        Self { lookup, catalog, queue: Mutex::default() }
    }

    /// Has a tenant's name resolved. Returns at once; `asker` is told by [`ToPeer::Resolved`].
    pub(crate) fn ask(self: &Arc<Self>, tenant: &TenantName, name: &HostName, asker: Recipient<ToPeer>) {
        let mut queue = self.lock();
        queue.push(tenant, name);
        if let Some(asked) = queue.asked.get_mut(name)
            && !asked.askers.contains(&asker)
        {
            asked.askers.push(asker);
        }
        if queue.threads < MAX_THREADS && queue.turn().is_some() {
            let resolver = Arc::clone(self);
            let thread = std::thread::Builder::new().name("resolver".to_owned()).stack_size(STACK);
            // It ends with the queue, and nobody waits for it: not even the end of the process.
            match thread.spawn(move || resolver.work()) {
                Ok(_) => queue.threads += 1,
                Err(error) => tracing::error!(%error, "no thread to resolve names; those that run do it"),
            }
        }
    }

    fn work(&self) {
        while let Some((tenant, name)) = self.next() {
            let outcome = self.lookup.of(&name);
            let told = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
            if self.catalog.resolved(&name, outcome) {
                let addresses = self.catalog.resolution(&name).unwrap_or_default().addresses;
                tracing::info!(%name, ?addresses, "a peer's name has other addresses");
            }
            for asker in self.done(&tenant, &name) {
                // One with a full mailbox looks into the catalog when it has waited long enough.
                let _ = asker.try_send(ToPeer::Resolved(name.clone(), told.clone()));
            }
        }
    }

    fn done(&self, tenant: &TenantName, name: &HostName) -> Vec<Recipient<ToPeer>> {
        self.lock().done(tenant, name)
    }

    /// The next name; without one the thread ends.
    fn next(&self) -> Option<(TenantName, HostName)> {
        let mut queue = self.lock();
        let next = queue.next();
        if next.is_none() {
            queue.threads -= 1;
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_no_host_is_not_taken() {
        let of = |addresses: &[&str]| {
            let found: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            Lookup::new(move |_| Ok(found.clone())).of(&name("a.example"))
        };
        assert_eq!(of(&["0.0.0.0", "192.0.2.1"]).unwrap().len(), 1);
        assert!(of(&["0.0.0.0", "::"]).unwrap_err().contains("0.0.0.0 is the address of no host"));
        assert_eq!(of(&[]).unwrap_err(), "the name has no address");
        assert!(Lookup::new(|_| panic!("broken")).of(&name("a.example")).unwrap_err().contains("panicked"));
    }

    #[test]
    fn tenants_have_their_turns_and_none_has_more_than_its_share() {
        let tenant = |id: &str| -> TenantName { format!("tenants/{id}").parse().unwrap() };
        let (dead, well) = (tenant("dead"), tenant("well"));
        let mut queue = Queue::default();
        for n in 0..20 {
            queue.push(&dead, &name(&format!("n{n}.dead.example")));
        }
        queue.push(&well, &name("a.example"));
        queue.push(&well, &name("b.example"));
        let taken: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        let names: Vec<_> = taken.iter().map(|(_, name)| name.as_str()).collect();
        let expected = [
            "n0.dead.example",
            "a.example",
            "n1.dead.example",
            "b.example",
            "n2.dead.example",
            "n3.dead.example",
        ];
        assert_eq!(names, expected);
        // The first that is done with goes on with the next, whoever is done with another one.
        queue.done(&well, &name("a.example"));
        assert_eq!(queue.next(), None);
        queue.done(&dead, &name("n0.dead.example"));
        assert_eq!(queue.next().unwrap().1, name("n4.dead.example"));
        // What waits among the names of one is resolved in the turn of another that asks for it as well, and once.
        queue.push(&well, &name("n9.dead.example"));
        queue.push(&well, &name("n1.dead.example"));
        assert_eq!(queue.next(), Some((well.clone(), name("n9.dead.example"))));
        assert_eq!(queue.next(), None);
        queue.done(&well, &name("n9.dead.example"));
        queue.done(&well, &name("b.example"));
        assert_eq!(queue.tenants.len(), 1);
        let mut left = vec![1, 2, 3, 4];
        while let Some(n) = left.pop() {
            queue.done(&dead, &name(&format!("n{n}.dead.example")));
            let next =
                queue.next().map(|(_, name)| name.as_str()[1..].split('.').next().unwrap().parse().unwrap());
            assert_ne!(next, Some(9), "it has been resolved");
            left.extend(next);
        }
        assert!(queue.tenants.is_empty() && queue.asked.is_empty());
    }

    #[test]
    fn the_system_knows_what_etc_hosts_says() {
        let found = Lookup::default().of(&name("localhost")).unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
        // RFC 6761 section 6.4.
        assert!(Lookup::default().of(&name("no.such.name.invalid")).is_err());
    }
}
