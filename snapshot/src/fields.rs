//! Fields that messages of several kinds have.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::{Duration, Instant};

use crate::error::SnapshotError;
use crate::octets::{Octets, wipe};
use prost::Message;

/// Octets that nobody may see: wiped when dropped, and never printed.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct Secret {
    #[prost(bytes = "vec", tag = "1")]
    octets: Vec<u8>,
}

impl Secret {
    /// A copy of these.
    pub fn new(octets: &[u8]) -> Self {
        Self { octets: octets.to_vec() }
    }

    /// The octets themselves.
    pub fn give(mut self) -> Octets {
        std::mem::take(&mut self.octets).into()
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The octets, if there are as many as are wanted.
    ///
    /// # Errors
    /// With the name of the field, if there are not.
    pub fn array<const N: usize>(&self, field: &'static str) -> Result<&[u8; N], SnapshotError> {
        let wrong = |_| SnapshotError::value(field, format!("{} octets, {N} are needed", self.octets.len()));
        self.octets.as_slice().try_into().map_err(wrong)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut self.octets);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An address with its port.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Address {
    /// Four octets or sixteen.
    #[prost(bytes = "vec", tag = "1")]
    ip: Vec<u8>,
    #[prost(uint32, tag = "2")]
    port: u32,
    /// Of IPv6 alone, and zero but for link-local addresses.
    #[prost(uint32, tag = "3")]
    flow: u32,
    #[prost(uint32, tag = "4")]
    scope: u32,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let (flow, scope) = flow_and_scope(address);
        Self { ip: ip_octets(address.ip()), port: address.port().into(), flow, scope }
    }
}

impl Address {
    /// The address that it stands for.
    ///
    /// # Errors
    /// With the name of the field, if it stands for none.
    pub fn read(&self, field: &'static str) -> Result<SocketAddr, SnapshotError> {
        let port = u16::try_from(self.port).map_err(|error| SnapshotError::value(field, error))?;
        Ok(match ip(&self.ip, field)? {
            IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, self.flow, self.scope).into(),
        })
    }
}

pub(crate) const fn flow_and_scope(address: SocketAddr) -> (u32, u32) {
    match address {
        SocketAddr::V4(_) => (0, 0),
        SocketAddr::V6(v6) => (v6.flowinfo(), v6.scope_id()),
    }
}

/// Four octets or sixteen.
pub fn ip_octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// What [`ip_octets`] has made.
///
/// # Errors
/// With the name of the field, if it stands for no address.
pub fn ip(octets: &[u8], field: &'static str) -> Result<IpAddr, SnapshotError> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Ok(octets.into());
    }
    let octets = <[u8; 16]>::try_from(octets);
    octets.map(IpAddr::from).map_err(|_| SnapshotError::value(field, "no address of IPv4 or IPv6"))
}

/// A point in time, as nanoseconds after the snapshot was made, or before it: the clocks of two machines have nothing in
/// common.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Due {
    #[prost(sint64, tag = "1")]
    after: i64,
}

impl Due {
    /// `at`, seen from `now`.
    pub fn new(at: Instant, now: Instant) -> Self {
        let nanoseconds = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        let after = match at.checked_duration_since(now) {
            Some(ahead) => nanoseconds(ahead),
            None => -nanoseconds(now.duration_since(at)),
        };
        Self { after }
    }

    pub(crate) const fn after(self) -> i64 {
        self.after
    }

    /// The same, seen from another clock's `now`. What lies before that clock began is put at `now`.
    pub fn at(self, now: Instant) -> Instant {
        let span = Duration::from_nanos(self.after.unsigned_abs());
        let at = if self.after < 0 { now.checked_sub(span) } else { now.checked_add(span) };
        at.unwrap_or(now)
    }
}

/// A field that has to be there.
///
/// # Errors
/// With its name, if it is not.
pub fn required<T>(field: Option<T>, name: &'static str) -> Result<T, SnapshotError> {
    field.ok_or(SnapshotError::Missing(name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["192.0.2.1:500", "[2001:db8::1]:4500", "[fe80::1%3]:500", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(address).read("an address").unwrap(), address);
        }
        let odd = Address { ip: vec![1; 5], ..Address::default() };
        let said = odd.read("the peer's address").unwrap_err().to_string();
        assert_eq!(
            said,
            "the snapshot has an impossible value for the peer's address: no address of IPv4 or IPv6"
        );
    }

    #[test]
    fn times_come_back_by_another_clock() {
        let now = Instant::now();
        let other = now + Duration::from_secs(1_000);
        for after in [0, 1, 1_000_000_007] {
            let span = Duration::from_nanos(after);
            assert_eq!(Due::new(now + span, now).at(other), other + span);
            assert_eq!(Due::new(now, now + span).at(other), other - span);
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new(b"hunter2")), "Secret(..)");
    }
}
