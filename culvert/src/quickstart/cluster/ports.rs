//! Ports that are chosen now, and taken some moments later by a process that is yet to start.

use std::io;
use std::ops::Range;

/// Below those that a system gives out by itself (from 32768 on Linux, from 49152 elsewhere): nobody is given one by chance between the choice
/// and the start of its process, nor while a node is down that comes back to its own.
const RANGE: Range<u16> = 10_000..30_000;
/// How many are looked at. Next to none of these is taken, unless whatever is asked for fails with each.
const TRIES: usize = 64;

/// Ports that `hold` could take; all are held until all are known, so that none is found twice.
pub(super) fn free<const N: usize, T>(hold: impl Fn(u16) -> io::Result<T>) -> io::Result<[u16; N]> {
    let (mut found, mut held, mut why) = (Vec::new(), Vec::new(), None);
    for _ in 0..TRIES {
        let port = rand::random_range(RANGE);
        match hold(port) {
            Ok(socket) => {
                held.push(socket);
                found.push(port);
            }
            Err(error) => why = Some(error),
        }
        if let Ok(ports) = <[u16; N]>::try_from(found.as_slice()) {
            return Ok(ports);
        }
    }
    Err(why.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn those_that_are_found_are_free_and_none_is_given_out_by_the_system() {
        let ports: [u16; 3] = free(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).unwrap();
        assert!(ports.iter().all(|port| RANGE.contains(port)), "{ports:?}");
        // What is taken is passed over, and where all are the reason is told.
        let asked = RefCell::new(Vec::new());
        let found: [u16; 2] = free(|port| {
            asked.borrow_mut().push(port);
            if asked.borrow().len() == 1 { Err(io::ErrorKind::AddrInUse.into()) } else { Ok(()) }
        })
        .unwrap();
        assert_eq!(asked.borrow()[1..], found);
        let refused = free::<1, ()>(|_| Err(io::ErrorKind::PermissionDenied.into())).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
