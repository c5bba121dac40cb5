//! ICMP errors about datagrams that were sent, as the kernel queues them at the socket.
//!
//! Besides queueing it the kernel tells such an error once by whatever call on the socket comes next, and does not carry
//! that call out, be it about another peer or a receive. And whoever takes an error off the queue has the kernel tell the one
//! behind it so. [`unmistaken`] makes the call again, and not while errors are taken, so that nothing is lost by it.
#![allow(unsafe_code)]

use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::{c_int, iovec, sock_extended_err};
use mio::Token;
use socket2::{SockAddr, SockAddrStorage};

use super::control_message::ControlBuffer;

/// One error of ICMP or ICMPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reported {
    /// Where the datagram was sent. The port is 0 where the protocol has none.
    pub(crate) to: SocketAddr,
    /// Our address, to which the error came.
    pub(crate) local: Option<IpAddr>,
    /// Who sent the error.
    pub(crate) by: Option<IpAddr>,
    pub(crate) v6: bool,
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The MTU, where the error is about that.
    pub(crate) info: u32,
}

/// Takes errors off the queue of a socket and passes each on with the beginning of the datagram's contents, as far as the
/// error quotes it. True when there may be more.
pub(crate) fn take(fd: RawFd, mut each: impl FnMut(&Reported, &[u8])) -> bool {
    let _no_call_is_repeated = exclusive();
    for _ in 0..ERRORS_AT_ONCE {
        let mut name = SockAddrStorage::zeroed();
        let mut control = ControlBuffer::new();
        let mut quoted = [0; QUOTED_OCTETS];
        let mut piece = iovec { iov_base: quoted.as_mut_ptr().cast(), iov_len: quoted.len() };
        // SAFETY: `msghdr` is plain data for which all zeroes is a valid value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = name.size_of();
        header.msg_iov = &raw mut piece;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control.capacity() as _;
        // SAFETY: `header` points to `name`, `piece` with `quoted` behind it, and `control`, which outlive the call and are lent
        // to nobody else; every length is that of what it stands beside.
        let len = unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
        let Ok(len) = usize::try_from(len) else { return false };
        // SAFETY: the kernel has written an address of this length, or none, which leaves the zeroes of no family.
        let to = unsafe { SockAddr::new(name, header.msg_namelen) }.as_socket();
        let (mut local, mut error) = (None, None);
        control.each(header.msg_controllen, |level, kind, data| match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => local = v4(data, 8),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => local = v6(data, 0),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                error = Extended::read(data);
            }
            _ => {}
        });
        // What the kernel itself refuses is told by the call that sends, too.
        let (Some(to), Some(error)) = (to, error.filter(Extended::is_icmp)) else { continue };
        let Extended { origin, kind, code, info, by } = error;
        let v6 = origin == libc::SO_EE_ORIGIN_ICMP6;
        each(&Reported { to, local, by, v6, kind, code, info }, quoted.get(..len).unwrap_or_default());
    }
    true
}

/// Has a poll report errors of a socket, and nothing else of it. Where the socket is polled otherwise as well, that reports
/// them, too.
pub(crate) fn watch(poll: RawFd, fd: RawFd, token: Token) -> io::Result<()> {
    // Errors are always reported, so what is asked for is to hear of each only once.
    let mut event = libc::epoll_event { events: libc::EPOLLET as u32, u64: token.0 as u64 };
    // SAFETY: `event` outlives the call, which only reads it.
    let result = unsafe { libc::epoll_ctl(poll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a call on a socket, again if its error may be about something that was sent before.
pub(super) fn unmistaken<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match call() {
        Err(error) if may_be_reported(&error) => {}
        outcome => return outcome,
    }
    let _no_error_is_taken = exclusive();
    for _ in 2..TRIES {
        match call() {
            Err(error) if may_be_reported(&error) => {}
            outcome => return outcome,
        }
    }
    call()
}

/// Errors are taken, or calls repeated: for some microseconds either way, for none of them waits, and only after an error.
fn exclusive() -> MutexGuard<'static, ()> {
    static EXCLUSIVE: Mutex<()> = Mutex::new(());
    // Nothing is behind the lock that a panic could leave in disorder.
    EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this is what the kernel makes of an ICMP error (RFC 1122 section 4.1.3.3).
pub(super) fn may_be_reported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EPROTO
                | libc::EACCES
                | libc::EMSGSIZE
        )
    )
}

/// What of `sock_extended_err` and the address behind it counts here.
struct Extended {
    origin: u8,
    kind: u8,
    code: u8,
    info: u32,
    by: Option<IpAddr>,
}

impl Extended {
    fn read(data: &[u8]) -> Option<Self> {
        let octet = |at: usize| data.get(at).copied();
        let info = data.get(offset_of!(sock_extended_err, ee_info)..)?.first_chunk::<4>()?;
        // A `sockaddr_in` or `sockaddr_in6` of whoever sent the error.
        let offender = data.get(size_of::<sock_extended_err>()..).unwrap_or_default();
        let family = offender.first_chunk::<2>().map_or(0, |family| u16::from_ne_bytes(*family));
        let by = match c_int::from(family) {
            libc::AF_INET => v4(offender, offset_of!(libc::sockaddr_in, sin_addr)),
            libc::AF_INET6 => v6(offender, offset_of!(libc::sockaddr_in6, sin6_addr)),
            _ => None,
        };
        Some(Self {
            origin: octet(offset_of!(sock_extended_err, ee_origin))?,
            kind: octet(offset_of!(sock_extended_err, ee_type))?,
            code: octet(offset_of!(sock_extended_err, ee_code))?,
            info: u32::from_ne_bytes(*info),
            by,
        })
    }

    fn is_icmp(&self) -> bool {
        [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6].contains(&self.origin)
    }
}

fn v4(data: &[u8], at: usize) -> Option<IpAddr> {
    data.get(at..)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into())
}

fn v6(data: &[u8], at: usize) -> Option<IpAddr> {
    data.get(at..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into())
}

/// Some 20 µs, for which a call that is repeated waits.
const ERRORS_AT_ONCE: usize = 16;
/// A non-ESP marker and the two SPIs of IKE.
const QUOTED_OCTETS: usize = 20;
/// The second call finds the error that waited, the third and fourth are for those that came in between. They can be forged,
/// but a call takes a microsecond, so not often enough to fall between all of them for long.
const TRIES: u32 = 4;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn only_what_icmp_may_have_caused_is_tried_again() {
        let tries = |error: c_int| {
            let mut tries = 0;
            let outcome: io::Result<()> = unmistaken(|| {
                tries += 1;
                Err(io::Error::from_raw_os_error(error))
            });
            assert_eq!(outcome.unwrap_err().raw_os_error(), Some(error));
            tries
        };
        assert_eq!((tries(libc::ECONNREFUSED), tries(libc::EMSGSIZE)), (TRIES, TRIES));
        assert_eq!((tries(libc::EAGAIN), tries(libc::EPERM), tries(libc::EIO)), (1, 1, 1));
        let mut outcomes = [Err(io::Error::from_raw_os_error(libc::EHOSTUNREACH)), Ok(7)].into_iter();
        assert_eq!(unmistaken(|| outcomes.next().unwrap()).unwrap(), 7);
    }

    #[test]
    fn short_data_is_no_error() {
        for len in 0..size_of::<sock_extended_err>() {
            let whole = Extended::read(&vec![1; len]).is_some();
            assert!(!whole || len >= offset_of!(sock_extended_err, ee_info) + 4, "{len}");
        }
        assert_eq!(Extended::read(&[2; 20]).unwrap().by, None);
    }
}
