//! Raw sockets of IP protocol 50: ESP without UDP (RFC 4303). Opening one needs `CAP_NET_RAW`.
//!
//! The kernel gives a packet to every raw socket of the protocol and the address, so each has a filter by the SPI that
//! lets only one of them keep it. A packet that reached any raw socket is never answered by ICMP.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use esp::Spi;
use libc::sock_filter;
use socket2::{Domain, Protocol, Socket, Type};

use super::socket_options::{self, Fragmentation};

/// Which packets a socket keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Those of this shard, and with the first one those of no shard that is there.
    Shard { number: u32, of: u32 },
    /// None: the socket only sends.
    Nothing,
}

/// Opens a socket bound to `address`.
pub(crate) fn open(address: IpAddr, keep: Keep, fragmentation: Fragmentation) -> io::Result<Socket> {
    let to = SocketAddr::new(address, 0);
    let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(libc::IPPROTO_ESP)))?;
    // One of IPv6 takes nothing of IPv4 anyway, and cannot be told so.
    let v6 = address.is_ipv6();
    // Before it is bound, so that nothing comes in past the filter.
    attach(&socket, &mut program(v6, keep))?;
    socket.set_nonblocking(true)?;
    socket_options::fragmentation(&socket, v6, fragmentation);
    socket_options::report_destination(&socket, v6);
    if v6 && fragmentation == Fragmentation::Refused {
        // Or the kernel does not learn the path's MTU from it.
        socket_options::queue_errors(&socket, v6);
    }
    socket.bind(&to.into())?;
    Ok(socket)
}

/// With IPv4 offsets count from the IP header, which raw sockets get; with IPv6 from the ESP header. What is too short for
/// the load is not kept.
fn program(v6: bool, keep: Keep) -> Vec<sock_filter> {
    let statement = |code: u32, k: u32| sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |code: u32, k: u32, jt: u8, jf: u8| sock_filter { code: code as u16, jt, jf, k };
    let Keep::Shard { number, of } = keep else {
        return vec![statement(libc::BPF_RET | libc::BPF_K, 0)];
    };
    let mut code = if v6 {
        vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)]
    } else {
        vec![
            statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0), // length of the IP header
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_IND, 0),
        ]
    };
    code.push(statement(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, Spi::SHARD_SHIFT));
    code.push(statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, u32::from(Spi::MAX_SHARD)));
    code.push(jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 2, 0));
    // Somebody has to count those of shards that are not there.
    let least = if number == 0 { of } else { u32::MAX };
    code.push(jump(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, least, 1, 0));
    code.push(statement(libc::BPF_RET | libc::BPF_K, 0));
    code.push(statement(libc::BPF_RET | libc::BPF_K, u32::MAX));
    code
}

fn attach(socket: &Socket, code: &mut [sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    // SAFETY: `program` points to `code`, which outlives the call; the kernel copies and verifies it. The length is that
    // of the structure passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
