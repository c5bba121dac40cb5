//! The sockets of one shard and listen address: UDP with and without DF, and raw ESP where there is any.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use socket2::Socket;

use crate::options::Encapsulation;
use crate::overflow::Overflow;
use crate::port::{BUFFER_BYTES, Origin, Port, ReceiveBuffers};
use crate::sys::raw_esp::{self, Keep};
use crate::sys::receive::{self, BUFFERS};
use crate::sys::socket_options::{Fragmentation, enlarge_buffers, report_overflow};

/// What a shard receives on and sends by.
pub(crate) struct ShardPort {
    /// Receives; sends what must not be fragmented.
    pub(crate) udp: Port,
    /// Sends what may be.
    fragmenting: Port,
    pub(crate) raw: Option<RawPort>,
}

/// A way out for one kind of packet.
#[derive(Clone, Copy)]
pub(crate) struct Exit<'a> {
    pub(crate) fd: RawFd,
    /// The UDP socket behind it, which may do segmentation offload.
    pub(crate) udp: Option<&'a Port>,
}

impl ShardPort {
    pub(crate) fn new(udp: Port, fragmenting: Port, raw: Option<RawPort>) -> Self {
        Self { udp, fragmenting, raw }
    }

    /// All its UDP sockets: the kernel queues ICMP errors at any of them.
    pub(crate) fn udp_ports(&self) -> [&Port; 2] {
        [&self.udp, &self.fragmenting]
    }

    /// By which socket to send. `None` for raw ESP where there is none.
    pub(crate) fn exit(&self, encapsulation: Encapsulation, dont_fragment: bool) -> Option<Exit<'_>> {
        match encapsulation {
            Encapsulation::Udp => {
                let port = if dont_fragment { &self.udp } else { &self.fragmenting };
                Some(Exit { fd: port.fd(), udp: Some(port) })
            }
            Encapsulation::Raw => {
                let raw = self.raw.as_ref()?;
                let socket = if dont_fragment { &raw.socket } else { &raw.fragmenting };
                Some(Exit { fd: socket.as_raw_fd(), udp: None })
            }
        }
    }
}

/// Raw ESP of one shard and listen address.
pub(crate) struct RawPort {
    /// Receives what is for the shard; sends what must not be fragmented.
    socket: Socket,
    fragmenting: Socket,
    address: IpAddr,
    overflow: Overflow,
}

impl RawPort {
    /// Opens the sockets of shard `number` of `of`.
    pub(crate) fn open(address: IpAddr, number: usize, of: usize) -> io::Result<Self> {
        let keep = Keep::Shard { number: number as u32, of: of as u32 };
        let socket = raw_esp::open(address, keep, Fragmentation::Refused)?;
        let fragmenting = raw_esp::open(address, Keep::Nothing, Fragmentation::Allowed)?;
        enlarge_buffers(&socket, BUFFER_BYTES);
        report_overflow(&socket);
        Ok(Self { socket, fragmenting, address, overflow: Overflow::default() })
    }

    /// What it is bound to.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// For registering with a poll.
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Receives a packet into each buffer and passes on its ESP. `WouldBlock` when there is none. How many the kernel dropped before, as
    /// the buffer was full (those that are for other shards may be among them), and whether there may be more at once.
    pub(crate) fn receive(
        &self,
        buffers: &mut ReceiveBuffers,
        mut each: impl FnMut(&mut [u8], Origin),
    ) -> io::Result<(u32, bool)> {
        let mut filled = [None; BUFFERS];
        let more = receive::receive(self.fd(), &mut buffers.0, &mut filled)?;
        for (buffer, about) in buffers.0.iter_mut().zip(&filled) {
            let Some(about) = about else { continue };
            let packet = buffer.get_mut(..about.len).unwrap_or_default();
            let mut origin = Origin {
                from: about.from,
                local: SocketAddr::new(about.to.unwrap_or(self.address), 0),
                class: about.class,
                encapsulation: Encapsulation::Raw,
                relayed: false,
            };
            origin.from.set_port(0);
            // Raw sockets of IPv4 get the IP header as well, those of IPv6 do not.
            let esp = if self.address.is_ipv4() { strip_header(packet, &mut origin) } else { packet };
            each(esp, origin);
        }
        Ok((self.overflow.since(&filled), more))
    }
}

/// What follows an IPv4 header; nothing if that is not whole.
fn strip_header<'a>(packet: &'a mut [u8], origin: &mut Origin) -> &'a mut [u8] {
    if let Some(header) = packet.first_chunk::<20>() {
        origin.class = header[1];
        origin.local.set_ip(Ipv4Addr::new(header[16], header[17], header[18], header[19]).into());
    }
    let header_len = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    packet.get_mut(header_len..).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_header_is_read_and_stripped() {
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut origin = Origin {
            from: nobody,
            local: nobody,
            class: 0,
            encapsulation: Encapsulation::Raw,
            relayed: false,
        };
        let mut packet =
            vec![0x46, 0xba, 0, 0, 0, 0, 0, 0, 64, 50, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1];
        packet.extend([9; 8]);
        assert_eq!(strip_header(&mut packet, &mut origin), [9; 8]);
        assert_eq!((origin.class, origin.local.ip().to_string()), (0xba, "10.0.0.2".to_owned()));
        for len in 0..24 {
            assert!(strip_header(&mut packet[..len], &mut origin).len() < 8);
        }
        assert!(strip_header(&mut [], &mut origin).is_empty());
    }
}
