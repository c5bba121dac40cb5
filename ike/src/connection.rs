//! A negotiation with one peer and all that comes of it, whichever version of IKE the two speak. This is the one place that
//! tells the versions apart; whoever hosts a connection names none.

mod snapshot;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{self, Opening, PeerConfig};
use crate::event::{Datagram, Event, Nat, Transmit};
use crate::failure::Failure;
use crate::host::Host;
use crate::proposal::{Candidates, IkeChoice};
use crate::reception::{cost_of_exchange, cost_of_looking};
use crate::verbs::{Broken, Command, Counters, InitReply, LoggedKeys, Path};
use crate::{v1, v2};

/// A connection with a peer. Create it with [`Connection::initiate`] or [`Connection::respond`]; then, after each
/// `handle_*` call, drain [`Self::poll_event`] and carry every event out, then drain [`Self::poll_transmit`] and send,
/// then ask [`Self::poll_timeout`] when to call [`Self::handle_timeout`].
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub struct Connection(Version);

#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
enum Version {
    V2(Box<v2::Connection>),
    V1(Box<v1::Connection>),
}

/// The same of either version.
macro_rules! either {
    ($this:expr, $conn:ident => $call:expr) => {
        match $this {
            Version::V2($conn) => $call,
            Version::V1($conn) => $call,
        }
    };
}

impl Connection {
    /// Starts a connection with a peer.
    ///
    /// # Errors
    /// When the configuration has no IKE proposal or its group cannot be computed.
    pub fn initiate(
        now: Instant,
        host: &mut dyn Host,
        config: Arc<PeerConfig>,
        path: Path,
    ) -> Result<Self, Failure> {
        Ok(Self(match config.version {
            config::Version::V2 => Version::V2(Box::new(v2::Connection::initiate(now, host, config, path)?)),
            config::Version::V1(_) => {
                Version::V1(Box::new(v1::Connection::initiate(now, host, config, path)?))
            }
        }))
    }

    /// Answers a first message, by what [`crate::reception::classify`] says it opens. `candidates` are the peers that open so
    /// and might send from there; which one it is turns out later. The
    /// caller has checked the cookie, if one is due.
    ///
    /// What is cheap is looked at first. Nothing is computed, and no key pair made, for a request that is refused.
    pub fn respond(
        now: Instant,
        host: &mut dyn Host,
        opening: Opening,
        datagram: Datagram<'_>,
        natt_ports: (u16, u16),
        candidates: &Candidates,
        force_encapsulation: bool,
    ) -> InitReply<Self> {
        let (ports, force) = (natt_ports, force_encapsulation);
        match opening {
            Opening::Init => v2::Connection::respond(now, host, datagram, ports, candidates, force)
                .map(|conn| Self(Version::V2(conn))),
            Opening::Main | Opening::Aggressive => {
                v1::Connection::respond(now, host, datagram, ports, candidates, force)
                    .map(|conn| Self(Version::V1(conn)))
            }
        }
    }

    /// Takes in a datagram for this connection. What cannot be authenticated changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, host: &mut dyn Host, datagram: Datagram<'_>) {
        either!(&mut self.0, conn => conn.handle_datagram(now, host, datagram));
    }

    /// Carries out a command of the host.
    pub fn handle_command(&mut self, now: Instant, host: &mut dyn Host, command: Command) {
        either!(&mut self.0, conn => conn.handle_command(now, host, command));
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, host: &mut dyn Host) {
        either!(&mut self.0, conn => conn.handle_timeout(now, host));
    }

    /// The hard lifetime of the IKE_SA is over. The peer is told as on a close.
    pub fn expire(&mut self, now: Instant, host: &mut dyn Host) {
        either!(&mut self.0, conn => conn.expire(now, host));
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        either!(&mut self.0, conn => conn.poll_event())
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        either!(&mut self.0, conn => conn.poll_transmit())
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        either!(&self.0, conn => conn.poll_timeout())
    }

    /// The configured peer, once known.
    pub fn config(&self) -> Option<&Arc<PeerConfig>> {
        either!(&self.0, conn => conn.config())
    }

    /// Takes over a changed configuration. What is negotiated stays; later negotiations use it.
    pub fn set_config(&mut self, config: Arc<PeerConfig>) {
        either!(&mut self.0, conn => conn.set_config(config));
    }

    /// Whether both sides are authenticated and nothing has ended it.
    pub fn is_up(&self) -> bool {
        either!(&self.0, conn => conn.is_up())
    }

    /// Whether it has ended, so that it says nothing but what its peer asks for again.
    pub fn is_over(&self) -> bool {
        either!(&self.0, conn => conn.is_over())
    }

    /// Whether we have ended it, and the peer has not said yet that it knows.
    pub fn is_end_unheard(&self) -> bool {
        either!(&self.0, conn => conn.is_end_unheard())
    }

    /// Whether nothing more will come.
    pub fn is_finished(&self) -> bool {
        either!(&self.0, conn => conn.is_finished())
    }

    /// We started it.
    pub fn is_initiator(&self) -> bool {
        either!(&self.0, conn => conn.is_initiator())
    }

    /// Whether its first message was answered as it would not have been, had it been known who asks. A host that remembers
    /// whose address that is will answer the next one better.
    pub fn is_misjudged(&self) -> bool {
        either!(&self.0, conn => conn.is_misjudged())
    }

    /// When its first message was sent or arrived.
    pub fn began(&self) -> Instant {
        either!(&self.0, conn => conn.began())
    }

    /// SPIs of the IKE_SA in use: ours and the peer's.
    pub fn spis(&self) -> (u64, u64) {
        either!(&self.0, conn => conn.spis())
    }

    /// All SPIs of ours that lead to this connection.
    pub fn local_spis(&self) -> Vec<u64> {
        either!(&self.0, conn => conn.local_spis())
    }

    /// SPI of the initiator of the IKE_SA in use: both sides see the same.
    pub fn initiator_spi(&self) -> u64 {
        either!(&self.0, conn => conn.initiator_spi())
    }

    /// The algorithms of the IKE_SA in use.
    pub fn choice(&self) -> Option<IkeChoice> {
        either!(&self.0, conn => conn.choice())
    }

    /// How long the IKE_SA in use lasts by what both sides have said, if they say that: in IKEv2 each has a lifetime of its own.
    pub fn agreed_lifetime(&self) -> Option<Duration> {
        match &self.0 {
            Version::V2(_) => None,
            Version::V1(conn) => conn.agreed_lifetime(),
        }
    }

    /// When the peer ends the connection unless it is authenticated anew, if it has said so (AUTH_LIFETIME, RFC 4478).
    pub fn limited_by_peer(&self) -> Option<Instant> {
        match &self.0 {
            Version::V2(conn) => conn.limited_by_peer(),
            Version::V1(_) => None,
        }
    }

    /// Our address and the peer's, as they stand now.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        either!(&self.0, conn => conn.addresses())
    }

    /// Who is behind a NAT.
    pub fn nat(&self) -> Nat {
        either!(&self.0, conn => conn.nat())
    }

    /// Whether ESP goes in UDP: somebody is behind a NAT, or we want it so (RFC 7296 section 2.23).
    pub fn encapsulates(&self) -> bool {
        either!(&self.0, conn => conn.encapsulates())
    }

    /// How many IKE_SAs are held, those being replaced included.
    pub fn ike_sas(&self) -> usize {
        either!(&self.0, conn => conn.ike_sas())
    }

    /// The Child SA pairs in place: policy name, inbound and outbound SPI, and whether this is the sending one.
    pub fn child_sas(&self) -> Box<dyn Iterator<Item = (&Arc<str>, u32, u32, bool)> + '_> {
        either!(&self.0, conn => Box::new(conn.child_sas()))
    }

    /// Whether a pair, by its inbound SPI, was asked for as its policy was configured before.
    pub fn is_overtaken(&self, spi_in: u32) -> bool {
        either!(&self.0, conn => conn.is_overtaken(spi_in))
    }

    /// Counters since the connection began.
    pub fn counters(&self) -> Counters {
        either!(&self.0, conn => conn.counters())
    }

    /// About how many octets a half-open connection holds. The peer can make them more by fragments, up to a bound.
    pub fn half_open_octets(&self) -> usize {
        either!(&self.0, conn => conn.half_open_octets())
    }

    /// The keys of every IKE_SA that the connection has now. For a key log that somebody has asked for, and nothing else.
    pub fn logged_keys(&self) -> Vec<LoggedKeys> {
        either!(&self.0, conn => conn.logged_keys().collect())
    }

    /// Looks whether everything holds that has to.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), Broken> {
        either!(&self.0, conn => conn.check())
    }

    /// Forgets a pair without telling the peer, as a peer that lost state would. For tests of what the other side does.
    #[cfg(feature = "test-hooks")]
    pub fn forget_child(&mut self, spi_in: u32) {
        either!(&mut self.0, conn => conn.forget_child(spi_in));
    }

    /// Seals a message of IKEv1 for this connection as its peer would.
    #[cfg(feature = "test-hooks")]
    pub fn forge(&self, forgery: &v1::forge::Forgery) -> Option<Vec<u8>> {
        match &self.0 {
            Version::V2(_) => None,
            Version::V1(conn) => conn.forge_message(forgery),
        }
    }

    /// Answers every request to create or rekey with TEMPORARY_FAILURE from now on. For tests of what the other side does.
    #[cfg(feature = "test-hooks")]
    pub fn refuse_everything(&mut self) {
        either!(&mut self.0, conn => conn.refuse_everything());
    }
}

impl Connection {
    /// Whether it belongs into the connection that its peer has rather than beside it; whether that is `up`, or only begun. In
    /// IKEv1 the pairs stay when phase 1 is done anew.
    pub fn joins(&self, up: bool) -> bool {
        match &self.0 {
            Version::V2(_) => false,
            Version::V1(conn) => conn.joins(up),
        }
    }

    /// Takes another connection of the same peer into this one.
    ///
    /// # Errors
    /// With that, if this one is over, or not of its kind.
    pub fn absorb(&mut self, now: Instant, host: &mut dyn Host, other: Self) -> Result<(), Self> {
        match (&mut self.0, other.0) {
            (Version::V1(conn), Version::V1(other)) => {
                conn.absorb(now, host, other).map_err(|other| Self(Version::V1(other)))
            }
            (_, other) => Err(Self(other)),
        }
    }

    /// What its first message has cost.
    fn first_cost(&self) -> u32 {
        match &self.0 {
            Version::V2(conn) => conn.choice().map_or(0, |choice| cost_of_exchange(choice.group)),
            Version::V1(conn) => conn.spent(),
        }
    }

    /// What was computed for its peer since it was last asked, for [`crate::reception::Budget`].
    pub fn take_cost(&mut self) -> u32 {
        match &mut self.0 {
            Version::V2(_) => 0,
            Version::V1(conn) => conn.take_spent(),
        }
    }
}

impl InitReply<Connection> {
    /// What it has cost to come to it, for [`crate::reception::Budget`]. A request of `octets` octets is refused before
    /// anything is computed for it.
    pub fn cost(&self, octets: usize) -> u32 {
        let exchange = match self {
            Self::Accepted(conn) => conn.first_cost(),
            Self::Refused(..) | Self::Dropped(_) => 0,
        };
        cost_of_looking(octets).saturating_add(exchange)
    }
}

/// What a hostile peer that has the keys of IKEv1 needs, for tests. All of it is of the IKE_SA that is in use.
#[cfg(feature = "test-hooks")]
impl Connection {
    /// HASH(1), (2) or (3) of a message of phase 2 (RFC 2409 section 5.5), by how many nonces are given, over what follows the
    /// HASH payload.
    pub fn v1_hash(&self, id: u32, nonces: &[&[u8]], rest: &[u8]) -> Option<Vec<u8>> {
        match &self.0 {
            Version::V1(conn) => conn.forge_hash(id, nonces, rest),
            Version::V2(_) => None,
        }
    }

    /// Encrypts payloads, the first of this type, as a message of phase 2, the first of its exchange if there is no IV. Beside
    /// it the IV of the next.
    pub fn v1_encrypt(
        &self,
        exchange: u8,
        id: u32,
        iv: Option<&[u8]>,
        (first, plain): (u8, &[u8]),
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        match &self.0 {
            Version::V1(conn) => conn.forge(exchange, id, iv, (first, plain)),
            Version::V2(_) => None,
        }
    }

    /// Our last message of main mode with further payloads, and our state as if it had left so. `before` is the message that it
    /// answers, if that was encrypted.
    pub fn v1_add_to_main(
        &mut self,
        message: &[u8],
        before: Option<&[u8]>,
        more: &[(u8, Vec<u8>)],
    ) -> Option<Vec<u8>> {
        match &mut self.0 {
            Version::V1(conn) => conn.add_to_main(message, before, more),
            Version::V2(_) => None,
        }
    }

    /// Decrypts a message of phase 2, the first of its exchange if there is no IV. Beside it the IV of the next.
    pub fn v1_decrypt(&self, message: &[u8], iv: Option<&[u8]>) -> Option<(Vec<u8>, Vec<u8>)> {
        match &self.0 {
            Version::V1(conn) => conn.decipher(message, iv),
            Version::V2(_) => None,
        }
    }
}
