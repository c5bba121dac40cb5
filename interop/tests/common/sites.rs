//! Peers of a cluster: strongSwan with several connections, each from an address of its own, and a culvertd.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, dead_code, unreachable_pub)]

use interop::charon::{Charon, Connection};
use interop::cluster::{ADDRESS, Cluster, INSIDE};
use interop::daemon::{Daemon, Peer, tenant};
use interop::lab::Lab;
use interop::traffic::until_ping;
use interop::wait::until;

/// Connections of strongSwan: packets of each go where the router sends those of its address.
pub const SITES: usize = 6;
/// What the culvertd in front protects.
pub const FAR: &str = "10.3.0.1";

/// What a connection of strongSwan protects.
pub fn inside_of(n: usize) -> String {
    format!("10.1.0.{n}")
}

pub struct Sites {
    pub charon: Charon,
    pub culvertd: Daemon,
    pub site: String,
    pub far: String,
}

impl Sites {
    /// Everything is up, and packets flow by all tunnels.
    pub fn open() -> Option<(Cluster, Self)> {
        let mut cluster = Cluster::start(Lab::open()?);
        let (site, far) = (cluster.site("site", 97, SITES), cluster.site("far", 96, 1));
        let lab = &cluster.lab;
        let mut connections = Vec::new();
        for n in 1..=SITES {
            lab.protect(&site, &format!("{}/32", inside_of(n)));
            cluster.node(n % 3).peer(&Cluster::peer(n));
            connections.push(Connection {
                name: format!("t{n}"),
                addresses: (format!("10.97.0.{n}"), ADDRESS.into()),
                identities: (format!("s{n}.example"), "right.example".into()),
                selectors: (format!("{}/32", inside_of(n)), format!("{INSIDE}/32")),
                ..Connection::usual()
            });
        }
        let charon = Charon::start_with(lab, &site, "retransmit_tries = 5");
        charon.load(&connections);
        let of_far = |name: &str| Peer { psk: "of-far".into(), name: name.into(), ..Peer::usual() };
        cluster.node(0).peer(&Peer {
            identities: ("right.example".into(), "far.example".into()),
            address: "10.96.0.1".into(),
            subnets: (format!("{INSIDE}/32"), format!("{FAR}/32")),
            ..of_far("acme/far")
        });
        let culvertd = Daemon::start(lab, &far);
        culvertd.apply(&[tenant("acme", "acme0", &format!("{FAR}/32"), None)]);
        for connection in &connections {
            let said = charon.initiate(&connection.child());
            assert!(said.ok, "{}", said.text);
        }
        culvertd.peer(&Peer {
            identities: ("far.example".into(), "right.example".into()),
            address: ADDRESS.into(),
            subnets: (format!("{FAR}/32"), format!("{INSIDE}/32")),
            start: true,
            ..of_far("acme/hub")
        });
        let sites = Self { charon, culvertd, site, far };
        sites.all_answer();
        Some((cluster, sites))
    }

    /// Waits until packets go by all tunnels.
    pub fn all_answer(&self) {
        (1..=SITES).for_each(|n| until_ping(&self.site, &inside_of(n), INSIDE));
        until_ping(&self.far, FAR, INSIDE);
    }

    /// The SPIs of all IKE SAs and Child SAs of strongSwan, but those of the connection that is rekeyed here.
    pub fn spis(&self) -> Vec<String> {
        let (sas, mut of_last) = (self.charon.sas(), false);
        let last = format!("t{SITES}: ");
        let others = sas.lines().filter(|line| {
            // What is of a connection is indented below it.
            of_last = if line.starts_with(' ') { of_last } else { line.starts_with(&last) };
            !of_last
        });
        spis(&others.collect::<Vec<_>>().join("\n"))
    }

    /// Those of one connection.
    pub fn spis_of(&self, n: usize) -> Vec<String> {
        spis(&self.charon.swanctl(&["--list-sas", "--ike", &format!("t{n}")]).text)
    }

    /// A Child SA is rekeyed by strongSwan.
    pub fn rekeyed(&self) {
        let before = self.spis_of(SITES);
        let said = self.charon.swanctl(&["--rekey", "--child", &format!("ct{SITES}")]);
        assert!(said.ok, "{}", said.text);
        self.until_rekeyed(SITES, &before);
    }

    /// Waits until both SPIs of the Child SA of a connection are new, and those of its IKE SA as before.
    pub fn until_rekeyed(&self, n: usize, before: &[String]) {
        let fresh = |now: &Vec<String>| {
            now.len() == before.len() && now.iter().filter(|spi| !before.contains(spi)).count() == 2
        };
        until("a Child SA is rekeyed", || self.spis_of(n), fresh);
    }
}

impl Drop for Sites {
    #[allow(clippy::print_stderr, reason = "a trial that fails says why where tests do")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("strongSwan:\n{}", self.charon.sas());
        }
    }
}

fn spis(sas: &str) -> Vec<String> {
    let hex = |word: &str| {
        let word = word.trim_end_matches(['*', ',']).trim_end_matches("_i").trim_end_matches("_r");
        let fits = matches!(word.len(), 8 | 16) && word.chars().all(|c| c.is_ascii_hexdigit());
        fits.then(|| word.to_owned())
    };
    let mut spis: Vec<String> = sas.split_whitespace().filter_map(hex).collect();
    spis.sort();
    spis
}
