//! Traffic selectors (RFC 7296 section 3.13).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::WireError;
use super::numbers::TsType;
use super::reader::Reader;
use super::writer::Writer;

/// Selectors in one payload: as many as its count, one octet, can say (RFC 7296 section 3.13).
pub const MAX_SELECTORS: usize = 255;

/// A range of addresses, a range of ports and a protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrafficSelector {
    /// IP protocol, 0 for any.
    pub protocol: u8,
    /// First port (or ICMP type and code).
    pub start_port: u16,
    /// Last port. `start_port` 65535 with `end_port` 0 is OPAQUE.
    pub end_port: u16,
    /// First address.
    pub start: IpAddr,
    /// Last address, of the same family.
    pub end: IpAddr,
}

impl TrafficSelector {
    /// All traffic of the addresses `start` to `end`.
    pub const fn range(start: IpAddr, end: IpAddr) -> Self {
        Self { protocol: 0, start_port: 0, end_port: u16::MAX, start, end }
    }

    /// What two selectors have in common, or `None`.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        if self.start.is_ipv4() != other.start.is_ipv4() {
            return None;
        }
        let protocol = match (self.protocol, other.protocol) {
            (0, p) | (p, 0) => p,
            (a, b) if a == b => a,
            _ => return None,
        };
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        let (start_port, end_port) = match (self.opaque(), other.opaque()) {
            (true, true) => (u16::MAX, 0),
            (true, false) if other.any_port() => (u16::MAX, 0),
            (false, true) if self.any_port() => (u16::MAX, 0),
            (false, false) => {
                let (first, last) =
                    (self.start_port.max(other.start_port), self.end_port.min(other.end_port));
                // What is left of ports 65535 and 0 would read as OPAQUE.
                if first > last {
                    return None;
                }
                (first, last)
            }
            _ => return None,
        };
        (start <= end).then_some(Self { protocol, start_port, end_port, start, end })
    }

    /// Whether everything `other` covers is covered.
    pub fn contains(&self, other: &Self) -> bool {
        self.intersect(other).as_ref() == Some(other)
    }

    const fn opaque(&self) -> bool {
        self.start_port == u16::MAX && self.end_port == 0
    }

    const fn any_port(&self) -> bool {
        self.start_port == 0 && self.end_port == u16::MAX
    }

    /// `None` for one of a kind that we do not know: whoever answers ignores it (RFC 7296 section 2.9). Labels are such (RFC 9478).
    fn parse(r: &mut Reader<'_>) -> Result<Option<Self>, WireError> {
        let kind = TsType(r.u8()?);
        let protocol = r.u8()?;
        let length = usize::from(r.u16()?);
        let mut body = r.sub(length.checked_sub(4).ok_or(WireError::Truncated)?)?;
        if !matches!(kind, TsType::TS_IPV4_ADDR_RANGE | TsType::TS_IPV6_ADDR_RANGE) {
            return Ok(None);
        }
        let (start_port, end_port) = (body.u16()?, body.u16()?);
        let (start, end): (IpAddr, IpAddr) = match kind {
            TsType::TS_IPV4_ADDR_RANGE => {
                (Ipv4Addr::from(body.array::<4>()?).into(), Ipv4Addr::from(body.array::<4>()?).into())
            }
            _ => (Ipv6Addr::from(body.array::<16>()?).into(), Ipv6Addr::from(body.array::<16>()?).into()),
        };
        body.finish()?;
        let this = Self { protocol, start_port, end_port, start, end };
        if start > end || (start_port > end_port && !this.opaque()) {
            return Err(WireError::BadField("traffic selector range"));
        }
        Ok(Some(this))
    }

    fn write(&self, w: &mut Writer) {
        w.with_length(2, |w| {
            let kind =
                if self.start.is_ipv4() { TsType::TS_IPV4_ADDR_RANGE } else { TsType::TS_IPV6_ADDR_RANGE };
            w.u8(kind.0);
            w.u8(self.protocol);
            w.u16(0);
            w.u16(self.start_port);
            w.u16(self.end_port);
            for ip in [self.start, self.end] {
                match ip {
                    IpAddr::V4(ip) => w.bytes(&ip.octets()),
                    IpAddr::V6(ip) => w.bytes(&ip.octets()),
                }
            }
        });
    }
}

/// Reads the body of a TSi or TSr payload: the selectors of those kinds that we know, which may be none.
pub fn parse(mut r: Reader<'_>) -> Result<Vec<TrafficSelector>, WireError> {
    let count = usize::from(r.u8()?);
    r.take(3)?;
    if count == 0 {
        return Err(WireError::BadField("number of traffic selectors"));
    }
    let selectors = (0..count).map(|_| TrafficSelector::parse(&mut r)).collect::<Result<Vec<_>, _>>()?;
    r.finish()?;
    Ok(selectors.into_iter().flatten().collect())
}

/// Writes the body of a TSi or TSr payload.
pub fn write(w: &mut Writer, selectors: &[TrafficSelector]) {
    w.u8(u8::try_from(selectors.len()).unwrap_or(u8::MAX));
    w.bytes(&[0, 0, 0]);
    for ts in selectors {
        ts.write(w);
    }
}

/// How many comparisons of selectors one question may still take. A peer may send 255 of them on each side, and as many for each pair that it has: what
/// follows from all of them together would otherwise keep everybody waiting for seconds.
#[derive(Debug)]
pub struct Effort(usize);

/// Some tens of milliseconds, and several times what pairs of 255 disjoint subnets on each side take.
const COMPARISONS: usize = 2_000_000;

impl Default for Effort {
    fn default() -> Self {
        Self(COMPARISONS)
    }
}

impl Effort {
    /// `None` where it is too much.
    pub fn spend(&mut self, comparisons: usize) -> Option<()> {
        self.0 = self.0.saturating_sub(comparisons);
        (self.0 > 0).then_some(())
    }
}

/// Narrows an offer to what the configuration allows (RFC 7296 section 2.9): every overlap of the two sets, each
/// once. Empty when they have nothing in common. Of what would take too long to find the first is found, which is narrowing as well.
pub fn narrow(offered: &[TrafficSelector], configured: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let mut narrowed = Vec::new();
    let _whole = narrow_into(&mut narrowed, offered, configured, &mut Effort::default());
    narrowed
}

/// The same, and `None` where not all of it was found.
pub fn narrow_within(
    offered: &[TrafficSelector],
    configured: &[TrafficSelector],
    effort: &mut Effort,
) -> Option<Vec<TrafficSelector>> {
    let mut narrowed = Vec::new();
    narrow_into(&mut narrowed, offered, configured, effort)?;
    Some(narrowed)
}

fn narrow_into(
    narrowed: &mut Vec<TrafficSelector>,
    offered: &[TrafficSelector],
    configured: &[TrafficSelector],
    effort: &mut Effort,
) -> Option<()> {
    for ours in configured {
        effort.spend(offered.len())?;
        for overlap in offered.iter().filter_map(|theirs| ours.intersect(theirs)) {
            effort.spend(2 * narrowed.len())?;
            if !narrowed.iter().any(|n| n.contains(&overlap)) && narrowed.len() < MAX_SELECTORS {
                narrowed.retain(|n| !overlap.contains(n));
                narrowed.push(overlap);
            }
        }
    }
    Some(())
}

/// Selectors as text, joined by commas.
pub fn describe(selectors: &[TrafficSelector]) -> String {
    selectors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match prefix_len(self.start, self.end) {
            Some(len) => write!(f, "{}/{len}", self.start)?,
            None => write!(f, "{}-{}", self.start, self.end)?,
        }
        if self.protocol != 0 || !self.any_port() {
            write!(f, "[{}", self.protocol)?;
            if self.opaque() {
                write!(f, "/opaque")?;
            } else if self.start_port == self.end_port {
                write!(f, "/{}", self.start_port)?;
            } else if !self.any_port() {
                write!(f, "/{}-{}", self.start_port, self.end_port)?;
            }
            write!(f, "]")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The prefix length when the range is exactly one prefix.
fn prefix_len(start: IpAddr, end: IpAddr) -> Option<u32> {
    let (start, end, bits) = match (start, end) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return None,
    };
    let host = start ^ end;
    let host_bits = 128 - host.leading_zeros();
    let is_mask = host.count_ones() == host_bits;
    (is_mask && start & host == 0 && end & host == host).then_some(bits - host_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(a: &str, b: &str) -> TrafficSelector {
        TrafficSelector::range(a.parse().unwrap(), b.parse().unwrap())
    }

    #[test]
    fn a_kind_that_nobody_knows_is_passed_over() {
        let known = ts("10.0.0.0", "10.0.0.255");
        let mut written = Writer::new();
        write(&mut written, std::slice::from_ref(&known));
        let written = written.finish();
        // A security label before it (RFC 9478), and alone.
        let label = [10, 0, 0, 8, b'a', b':', b'b', 0];
        let both = [&[2, 0, 0, 0], &label[..], &written[4..]].concat();
        assert_eq!(parse(Reader::new(&both)).unwrap(), [known]);
        let alone = [&[1, 0, 0, 0], &label[..]].concat();
        assert_eq!(parse(Reader::new(&alone)).unwrap(), []);
        // Its length is that of any.
        for length in [0, 3, 9] {
            let mut wrong = alone.clone();
            wrong[7] = length;
            assert!(parse(Reader::new(&wrong)).is_err(), "{length}");
        }
    }

    #[test]
    fn ranges_print_as_prefixes_where_they_are_one() {
        assert_eq!(ts("10.1.0.0", "10.1.255.255").to_string(), "10.1.0.0/16");
        assert_eq!(ts("0.0.0.0", "255.255.255.255").to_string(), "0.0.0.0/0");
        assert_eq!(ts("10.1.0.1", "10.1.0.1").to_string(), "10.1.0.1/32");
        assert_eq!(ts("10.1.0.1", "10.1.0.2").to_string(), "10.1.0.1-10.1.0.2");
        assert_eq!(ts("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").to_string(), "::/0");
    }

    #[test]
    fn narrowing_keeps_the_overlap_and_drops_what_is_covered_twice() {
        let all = ts("0.0.0.0", "255.255.255.255");
        let net = ts("10.1.0.0", "10.1.255.255");
        let host = ts("10.1.0.7", "10.1.0.7");
        assert_eq!(narrow(&[all], &[net]), [net]);
        assert_eq!(narrow(&[host, net], &[all]), [net]);
        assert_eq!(narrow(&[ts("::", "::1")], &[all]), []);
        assert_eq!(narrow(&[ts("10.2.0.0", "10.2.0.9")], &[net]), []);
    }

    #[test]
    fn ports_and_protocols_intersect() {
        let tcp =
            TrafficSelector { protocol: 6, start_port: 80, end_port: 90, ..ts("10.0.0.0", "10.0.0.255") };
        let any = ts("10.0.0.0", "10.0.0.255");
        assert_eq!(tcp.intersect(&any), Some(tcp));
        assert!(any.contains(&tcp) && !tcp.contains(&any));
        let udp = TrafficSelector { protocol: 17, ..tcp };
        assert_eq!(tcp.intersect(&udp), None);
        let opaque = TrafficSelector { start_port: u16::MAX, end_port: 0, ..any };
        assert_eq!(opaque.intersect(&any), Some(opaque));
        // The last port and the first have nothing in common, though together they read as OPAQUE.
        let of = |port| TrafficSelector { start_port: port, end_port: port, ..tcp };
        assert_eq!(of(u16::MAX).intersect(&of(0)), None);
        assert_eq!(of(0).intersect(&of(u16::MAX)), None);
        assert_eq!(of(0).intersect(&of(0)), Some(of(0)));
    }
}
