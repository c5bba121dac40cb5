//! The door: what to do with a datagram before any state is made for it. Classifies by SPI, holds the cookie gate (RFC 7296
//! section 2.6), which must stand before the first allocation, and the accounts of what first messages cost.

mod budget;
mod first;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::config::Opening;
use crate::crypto::auth::equal;
use crate::crypto::prf::HmacHash;
use crate::event::Datagram;
use crate::host::{Host, random_array};
use crate::v1;
use crate::wire::error::WireError;
use crate::wire::header::{HEADER_LEN, Header};
use crate::wire::message::Message;
use crate::wire::numbers::{ExchangeType, NotifyType, PayloadType};
use crate::wire::payload::{Notify, Payload};
use crate::wire::reader::Reader;

use first::Glance;

pub use budget::{Budget, Prefix, cost_of_exchange, cost_of_looking};
pub use first::{FirstMessage, MAX_FIRST_MESSAGE, Settled};

/// A new cookie secret this often; the one before still counts, so a cookie lives one to two intervals.
const COOKIE_SECRET_LIFE: Duration = Duration::from_secs(120);
/// Octets of a cookie: a version octet and half a SHA-256 HMAC.
const COOKIE_LEN: usize = 17;

/// Where a datagram belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A first message, and what it opens.
    First(Opening),
    /// A message to an IKE_SA of ours.
    Existing(Receivers),
}

/// SPIs of which one is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receivers([u64; 2]);

impl Receivers {
    /// In the order in which they are to be looked for. In IKEv2 there is one; IKEv1 does not say which side has sent a
    /// message, but as responder ours cannot be known to who has not been told it.
    pub fn spis(self) -> impl Iterator<Item = u64> {
        self.0.into_iter().filter(|spi| *spi != 0)
    }

    /// The first of them that something is registered under.
    pub fn find<T>(self, find: impl FnMut(u64) -> Option<T>) -> Option<T> {
        self.spis().find_map(find)
    }
}

/// Looks at the header alone. This is where it is told which version a datagram speaks; from here on the class says it.
///
/// # Errors
/// When it is not an IKE message of the datagram's length, or a first message that is too long.
pub fn classify(bytes: &[u8]) -> Result<Class, WireError> {
    let (opening, spis) = match Header::major(bytes) {
        Some(1) => {
            let header = v1::wire::Header::parse(bytes)?;
            (v1::wire::opening(&header), [header.spi_r, header.spi_i])
        }
        _ => {
            let header = Header::parse(&mut Reader::new(bytes), bytes.len())?;
            let init =
                header.exchange == ExchangeType::IKE_SA_INIT && !header.response && header.from_initiator;
            ((init && header.spi_r == 0).then_some(Opening::Init), [header.receiver_spi(), 0])
        }
    };
    match opening {
        Some(_) if bytes.len() > MAX_FIRST_MESSAGE => Err(WireError::TooLong(bytes.len())),
        Some(opening) => Ok(Class::First(opening)),
        None if spis == [0, 0] => Err(WireError::BadField("receiver SPI")),
        None => Ok(Class::Existing(Receivers(spis))),
    }
}

/// Answer to a message of another major version (RFC 7296 section 2.5), or `None` if none is due: requests only, so
/// that two confused peers do not answer each other forever.
pub fn wrong_version_reply(bytes: &[u8]) -> Option<Vec<u8>> {
    let version = *bytes.get(17)?;
    let flags = *bytes.get(19)?;
    // Lower versions are other protocols, whose peers do not understand the notify.
    if bytes.len() < HEADER_LEN || version >> 4 <= 2 || flags & 0x20 != 0 {
        return None;
    }
    let mut r = Reader::new(bytes);
    let (spi_i, spi_r) = (r.u64().ok()?, r.u64().ok()?);
    let message_id = bytes.get(20..24)?.try_into().ok().map(u32::from_be_bytes)?;
    let exchange = ExchangeType(*bytes.get(18)?);
    let header = Header {
        spi_i,
        spi_r,
        next: PayloadType::NONE,
        exchange,
        from_initiator: false,
        response: true,
        message_id,
        length: 0,
    };
    Some(Message::encode(header, &[Payload::Notify(Notify::new(NotifyType::INVALID_MAJOR_VERSION))]))
}

/// Issues and checks cookies without remembering any.
#[derive(Debug)]
pub struct CookieGate {
    version: u8,
    secret: Zeroizing<[u8; 32]>,
    previous: Zeroizing<[u8; 32]>,
    renew: Instant,
}

/// What the gate says.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Pass,
    /// Send this and keep nothing.
    Challenge(Vec<u8>),
    /// Not a first message.
    Malformed(WireError),
}

impl CookieGate {
    /// A gate with a fresh secret.
    pub fn new(now: Instant, host: &mut dyn Host) -> Self {
        let (secret, previous) = (random_array(host).into(), random_array(host).into());
        Self { version: 0, secret, previous, renew: now + COOKIE_SECRET_LIFE }
    }

    /// Judges a first message. While `required`, only one that returns a cookie made for it passes.
    pub fn check(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        datagram: Datagram<'_>,
        required: bool,
    ) -> Verdict {
        if !required {
            return Verdict::Pass;
        }
        if self.renew <= now {
            self.version = self.version.wrapping_add(1);
            self.previous = std::mem::replace(&mut self.secret, random_array(host).into());
            self.renew = now + COOKIE_SECRET_LIFE;
        }
        let Glance { header, nonce, cookie: returned } = match Glance::at(datagram.bytes) {
            Ok(glance) => glance,
            Err(error) => return Verdict::Malformed(error),
        };
        let spi = header.spi_i;
        let good = |version: u8, secret: &[u8; 32], got: &[u8]| {
            cookie(version, secret, nonce, datagram.remote, spi).is_some_and(|c| equal(&c, got))
        };
        if let Some(got) = returned
            && (good(self.version, &self.secret, got)
                || good(self.version.wrapping_sub(1), &self.previous, got))
        {
            return Verdict::Pass;
        }
        match cookie(self.version, &self.secret, nonce, datagram.remote, spi) {
            Some(cookie) => {
                let notify = Notify::with_data(NotifyType::COOKIE, cookie);
                Verdict::Challenge(crate::v2::refuse(&header, notify))
            }
            None => Verdict::Malformed(WireError::BadField("cookie")),
        }
    }
}

/// Cookie = version | hash of (Ni, IPi, port, SPIi) under the secret. The port is in, as many peers may share an
/// address.
fn cookie(version: u8, secret: &[u8; 32], nonce: &[u8], from: SocketAddr, spi: u64) -> Option<Vec<u8>> {
    let ip = match from.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let mac = HmacHash::Sha256
        .hmac(secret, &[&[version], nonce, &ip, &from.port().to_be_bytes(), &spi.to_be_bytes()])
        .ok()?;
    Some([&[version], mac.get(..COOKIE_LEN - 1)?].concat())
}
