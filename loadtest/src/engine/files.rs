//! How many sockets there can be: the limit of open files, raised as far as it goes, and the ports of an address. What does not fit is
//! told before anything starts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside the sockets of initiators: the API, pipes, the runtime's own.
const SPARE: u64 = 64;

/// Where the kernel says from which to which port it chooses one for a socket, of IPv6 as well.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// More sockets than the system allows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{wanted} sockets are needed, and {bound}{hint}")]
pub struct TooMany {
    wanted: u64,
    bound: Bound,
    hint: &'static str,
}

/// What says how many sockets there can be.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Bound {
    #[error("{0} open files are allowed; raise the hard limit (ulimit -Hn, LimitNOFILE=)")]
    Files(u64),
    #[error(
        "{0} ports are there for the one address that all send from; widen the range (sysctl net.ipv4.ip_local_port_range)"
    )]
    Ports(u64),
}

impl Bound {
    /// Of this process, whose sockets have one address if `one_address`, so that each takes a port of it. Raises the soft limit of
    /// open files to the hard one.
    pub(crate) fn find(one_address: bool) -> Self {
        let range = std::fs::read_to_string(PORT_RANGE).unwrap_or_default();
        Self::lower(sockets_allowed(), ports(&range).filter(|_| one_address))
    }

    fn lower(files: u64, ports: Option<u64>) -> Self {
        match ports {
            Some(ports) if ports < files => Self::Ports(ports),
            _ => Self::Files(files),
        }
    }

    const fn allowed(self) -> u64 {
        match self {
            Self::Files(allowed) | Self::Ports(allowed) => allowed,
        }
    }
}

/// Ports of a range as the kernel tells it, but for some that others may have.
fn ports(range: &str) -> Option<u64> {
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    let (low, high) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some((high + 1).saturating_sub(low + SPARE))
}

/// Raises the soft limit to the hard one; how many sockets can then be had.
fn sockets_allowed() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Best effort: what is allowed then is asked for anew.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    // No limit is none.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(SPARE)
}

/// Initiators for each socket, so that `count` of them fit, for which they share no more than they have to.
pub(crate) fn members_per_socket(
    count: u32,
    may_share: bool,
    asked: Option<u32>,
    bound: Bound,
) -> Result<u32, TooMany> {
    let allowed = bound.allowed();
    let each = match asked {
        _ if !may_share => 1,
        Some(each) => each,
        None => u32::try_from(u64::from(count).div_ceil(allowed.max(1))).unwrap_or(u32::MAX),
    };
    let each = each.max(1);
    let wanted = u64::from(count.div_ceil(each));
    if wanted <= allowed {
        return Ok(each);
    }
    let hint = match (may_share, asked) {
        (true, Some(_)) => ", or let more initiators share one (--per-socket)",
        (true, None) => "",
        (false, _) => {
            ", or use fewer tunnels: in IKEv1 peers are known by their addresses and cannot share one"
        }
    };
    Err(TooMany { wanted, bound, hint })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_shared_where_they_have_to_be() {
        let files = Bound::Files(19_936);
        assert_eq!(members_per_socket(19_000, true, None, files), Ok(1));
        assert_eq!(members_per_socket(100_000, true, None, files), Ok(6));
        assert_eq!(members_per_socket(100_000, true, Some(64), files), Ok(64));
    }

    #[test]
    fn sockets_of_one_address_have_a_port_each() {
        let many = 1 << 20;
        let ports = ports("32768\t60999\n");
        assert_eq!(Bound::lower(many, ports), Bound::Ports(28_168), "but for some that others have");
        assert_eq!(Bound::lower(1_000, ports), Bound::Files(1_000), "the lower bound counts");
        assert_eq!(Bound::lower(many, None), Bound::Files(many));
        assert_eq!((super::ports("rubbish"), super::ports("7 3")), (None, Some(0)));
        assert_eq!(members_per_socket(30_000, true, None, Bound::lower(many, ports)), Ok(2));
        let text =
            members_per_socket(30_000, false, None, Bound::lower(many, ports)).unwrap_err().to_string();
        assert!(text.contains("28168 ports") && text.contains("ip_local_port_range"), "{text}");
        assert!(Bound::find(true).allowed() <= Bound::find(false).allowed());
    }

    #[test]
    fn who_cannot_have_enough_is_told_how_many_there_are() {
        let alone = members_per_socket(20_000, false, Some(8), Bound::Files(19_936)).unwrap_err();
        let text = alone.to_string();
        assert!(text.contains("20000 sockets") && text.contains("19936") && text.contains("IKEv1"), "{text}");
        let asked = members_per_socket(20_000, true, Some(1), Bound::Files(100)).unwrap_err().to_string();
        assert!(asked.contains("--per-socket"), "{asked}");
    }

    #[test]
    fn the_limit_is_raised() {
        let allowed = sockets_allowed();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert!(allowed > 0);
    }
}
