//! One strongSwan on the left, one culvertd on the right.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    missing_docs
)]
#![allow(unreachable_pub)]

pub mod two;

use interop::charon::{Charon, Connection};
use interop::daemon::{Daemon, Peer, tenant};
use interop::lab::Lab;
use interop::traffic::until_ping;
use interop::wait::until;

pub const LEFT: &str = "10.1.0.1";
pub const RIGHT: &str = "10.2.0.1";

pub struct Pair {
    // Fields drop in this order: processes first, namespaces last.
    pub charon: Charon,
    pub culvertd: Daemon,
    pub left: String,
    pub right: String,
    pub lab: Lab,
}

impl Pair {
    /// Both run; nothing is configured but the tenant.
    pub fn open() -> Option<Self> {
        Self::open_with("")
    }

    /// With further lines of charon's own configuration.
    pub fn open_with(options: &str) -> Option<Self> {
        Self::open_with_both(options, |_| String::new())
    }

    /// With further lines of culvertd's configuration too.
    pub fn open_with_both(options: &str, lines: impl FnOnce(&Lab) -> String) -> Option<Self> {
        let mut lab = Lab::open()?;
        let (left, right) = (lab.namespace("left"), lab.namespace("right"));
        lab.wire((&left, "vl", "10.99.0.1/24"), (&right, "vr", "10.99.0.2/24"));
        lab.protect(&left, "10.1.0.1/32");
        let charon = Charon::start_with(&lab, &left, options);
        let culvertd = Daemon::start_with(&lab, &right, &lines(&lab));
        culvertd.apply(&[tenant("acme", "acme0", "10.2.0.1/32", None)]);
        Some(Self { charon, culvertd, left, right, lab })
    }

    /// Both are configured to fit.
    pub fn configured() -> Option<Self> {
        let pair = Self::open()?;
        pair.charon.load(&[Connection::usual()]);
        pair.culvertd.peer(&Peer::usual());
        Some(pair)
    }

    /// The tunnel is up, started by Culvert.
    pub fn culvert_starts() -> Option<Self> {
        let pair = Self::open()?;
        pair.charon.load(&[Connection::usual()]);
        pair.culvertd.peer(&Peer { start: true, ..Peer::usual() });
        pair.flows();
        Some(pair)
    }

    /// The tunnel is up, started by strongSwan.
    pub fn up() -> Option<Self> {
        let pair = Self::configured()?;
        pair.initiate();
        Some(pair)
    }

    pub fn initiate(&self) {
        let said = self.charon.initiate("ct");
        assert!(said.ok, "{}\n{}", said.text, self.culvertd.log());
        self.flows();
    }

    /// Packets go both ways.
    pub fn flows(&self) {
        until_ping(&self.left, LEFT, RIGHT);
    }

    /// One IKE SA and one Child SA on both sides, once what was replaced is gone.
    pub fn settled(&self) {
        until(
            "one SA of each kind on both sides",
            || {
                let sas = self.charon.sas();
                let ike = sas.matches("ESTABLISHED").count();
                let others = sas.matches("REKEY").count() + sas.matches("DELET").count();
                (ike, self.charon.installed(), others, self.culvertd.children("acme/left"))
            },
            |seen| *seen == (1, 1, 0, 1),
        );
    }
}
