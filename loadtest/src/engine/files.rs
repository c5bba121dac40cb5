//! The limit of open files: raised as far as it goes, and what does not fit is told before anything starts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside the sockets of initiators: the API, pipes, the runtime's own.
const SPARE: u64 = 64;

/// More sockets than the system allows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{wanted} sockets are needed, and {allowed} open files are allowed; raise the hard limit (ulimit -Hn, LimitNOFILE=){hint}"
)]
pub struct TooMany {
    wanted: u64,
    allowed: u64,
    hint: &'static str,
}

/// Raises the soft limit to the hard one; how many sockets can then be had.
pub(crate) fn sockets_allowed() -> u64 {
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
    allowed: u64,
) -> Result<u32, TooMany> {
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
    Err(TooMany { wanted, allowed, hint })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_shared_where_they_have_to_be() {
        assert_eq!(members_per_socket(19_000, true, None, 19_936), Ok(1));
        assert_eq!(members_per_socket(100_000, true, None, 19_936), Ok(6));
        assert_eq!(members_per_socket(100_000, true, Some(64), 19_936), Ok(64));
    }

    #[test]
    fn who_cannot_have_enough_is_told_how_many_there_are() {
        let alone = members_per_socket(20_000, false, Some(8), 19_936).unwrap_err();
        let text = alone.to_string();
        assert!(text.contains("20000 sockets") && text.contains("19936") && text.contains("IKEv1"), "{text}");
        let asked = members_per_socket(20_000, true, Some(1), 100).unwrap_err().to_string();
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
