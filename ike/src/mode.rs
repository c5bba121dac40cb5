//! When a Child SA may be in transport mode, whichever version has asked for it.

use std::net::IpAddr;

use crate::failure::Failure;
use crate::wire::ts::{self, TrafficSelector};

/// Why transport mode is not possible between these ends for these selectors, ours and the peer's, if it is not.
pub(crate) fn no_transport(
    encapsulates: bool,
    (local, remote): (IpAddr, IpAddr),
    (local_ts, remote_ts): (&[TrafficSelector], &[TrafficSelector]),
) -> Option<Failure> {
    if encapsulates {
        return Some(Failure::TransportNat);
    }
    let host = |selectors: &[TrafficSelector], address| {
        selectors.iter().all(|ts| (ts.start, ts.end) == (address, address))
    };
    (!host(local_ts, local) || !host(remote_ts, remote)).then(|| Failure::TransportHosts {
        selectors: format!("{} === {}", ts::describe(local_ts), ts::describe(remote_ts)),
        addresses: format!("{local} === {remote}"),
    })
}

/// Whether asking again at once is of no use: somebody has to change the configuration.
pub(crate) fn is_final(failure: &Failure) -> bool {
    matches!(failure, Failure::Mode { .. } | Failure::TransportNat | Failure::TransportHosts { .. })
}
