//! Steering by SPI: a classic BPF program that picks the socket of a `SO_REUSEPORT` group for each datagram.
#![allow(unsafe_code)]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use esp::Spi;
use libc::sock_filter;

/// Attaches the program to the group that `member` is in. The socket that bound first is number 0, the control socket;
/// those of the shards follow.
pub(crate) fn attach(member: &UdpSocket, shards: u32) -> io::Result<()> {
    let mut code = program(shards);
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    // SAFETY: `program` points to `code`, which outlives the call; the kernel copies and verifies it. The length is that
    // of the structure passed.
    let result = unsafe {
        libc::setsockopt(
            member.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Offsets count from the UDP payload. A load beyond the datagram's end returns 0, which is the control socket: so
/// keepalives and runts end there too.
fn program(shards: u32) -> [sock_filter; 8] {
    let statement = |code: u32, k: u32| sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |code: u32, k: u32, jt: u8| sock_filter { code: code as u16, jt, jf: 0, k };
    [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 5), // non-ESP marker: control
        statement(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, Spi::SHARD_SHIFT),
        statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, u32::from(Spi::MAX_SHARD)),
        jump(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, shards, 2), // no such shard: control
        statement(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 1),
        statement(libc::BPF_RET | BPF_A, 0),
        statement(libc::BPF_RET | libc::BPF_K, 0),
    ]
}

/// Return the accumulator; `libc` does not have it.
const BPF_A: u32 = 0x10;
