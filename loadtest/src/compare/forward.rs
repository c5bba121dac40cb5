//! The way of everyone's packets without the work: from a TUN device into UDP and back. What no tunnel on this machine exceeds.
//!
//! With offload a packet of up to 64 KiB goes as it comes, in datagrams of one size by one call (UDP GSO), and is put together
//! again from what the kernel has joined (UDP GRO). Without, each packet is a datagram, and each takes two calls.

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use clap::Args;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt;
use socket2::SockRef;

use super::sys;

/// The device, on either side.
pub(crate) const DEVICE: &str = "cvcmpfwd";
/// The network inside that it is in.
pub(crate) const NETWORK: u8 = 51;
const PORT: u16 = 4501;
/// Octets of a datagram: with its headers it fits a path of 1500.
const SEGMENT: usize = 1_400;
/// Octets that one call sends at most: the largest whole number of segments that a datagram may stand for.
const CHUNK: usize = SEGMENT * 46;
/// A packet, its header, and its length before it.
const FRAME: usize = LENGTH + sys::VNET_HEADER + 65_535;
const LENGTH: usize = 4;
const BUFFER: usize = 8 << 20;

/// `loadtest forward`: what [`super::contestants`] starts.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Address to send from
    #[arg(long)]
    local: IpAddr,
    /// Address of the other one
    #[arg(long)]
    peer: IpAddr,
    /// Packet by packet
    #[arg(long)]
    plain: bool,
}

/// Forwards until it is killed.
///
/// # Errors
/// Without a device or socket.
pub fn run(arguments: &Arguments) -> io::Result<bool> {
    let device = sys::tun(DEVICE, !arguments.plain)?;
    let socket = UdpSocket::bind(SocketAddr::new(arguments.local, PORT))?;
    let options = SockRef::from(&socket);
    sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
    options.set_send_buffer_size(BUFFER)?;
    let peer = SocketAddr::new(arguments.peer, PORT);
    socket.connect(peer)?;
    if arguments.plain {
        return std::thread::scope(|scope| {
            scope.spawn(|| plain_out(&device, &socket));
            plain_in(&device, &socket)
        });
    }
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    // That made it nonblocking.
    socket.set_nonblocking(false)?;
    std::thread::scope(|scope| {
        scope.spawn(|| joined_out(&device, &socket, &state, peer));
        joined_in(&device, &socket, &state)
    })
}

fn plain_out(mut device: &File, socket: &UdpSocket) -> io::Result<bool> {
    let mut packet = vec![0; FRAME];
    loop {
        let len = device.read(&mut packet)?;
        // The other one may not be there yet.
        let _ = socket.send(packet.get(..len).unwrap_or_default());
    }
}

fn plain_in(mut device: &File, socket: &UdpSocket) -> io::Result<bool> {
    let mut packet = vec![0; FRAME];
    loop {
        let Ok(len) = socket.recv(&mut packet) else { continue };
        let _ = device.write(packet.get(..len).unwrap_or_default());
    }
}

fn joined_out(
    mut device: &File,
    socket: &UdpSocket,
    state: &UdpSocketState,
    peer: SocketAddr,
) -> io::Result<bool> {
    let mut frame = vec![0; FRAME + 1];
    loop {
        let len = device.read(frame.get_mut(LENGTH..FRAME).unwrap_or_default())?;
        let total = lay_out(&mut frame, len);
        for chunk in frame.get(..total).unwrap_or_default().chunks(CHUNK) {
            let segment_size = (chunk.len() > SEGMENT).then_some(SEGMENT);
            let transmit =
                Transmit { destination: peer, ecn: None, contents: chunk, segment_size, src_ip: None };
            let _ = state.try_send(UdpSockRef::from(socket), &transmit);
        }
    }
}

/// Writes the length before a packet; octets of the whole. The last datagram of a frame is shorter than the others, which is how
/// its end shows.
fn lay_out(frame: &mut [u8], len: usize) -> usize {
    if let Some(length) = frame.first_chunk_mut::<LENGTH>() {
        *length = u32::try_from(len).unwrap_or(0).to_be_bytes();
    }
    let total = LENGTH + len;
    total + usize::from(total.is_multiple_of(SEGMENT))
}

fn joined_in(mut device: &File, socket: &UdpSocket, state: &UdpSocketState) -> io::Result<bool> {
    let mut buffer = vec![0; 65_535];
    let mut frame = Frame::default();
    loop {
        let mut meta = [RecvMeta::default()];
        let mut slices = [IoSliceMut::new(&mut buffer)];
        if state.recv(UdpSockRef::from(socket), &mut slices, &mut meta).is_err() {
            continue;
        }
        let len = meta.first().map_or(0, |meta| meta.len);
        if let Some(packet) = frame.add(buffer.get(..len).unwrap_or_default()) {
            let _ = device.write(packet);
        }
    }
}

/// A frame on its way in.
#[derive(Default)]
struct Frame {
    octets: Vec<u8>,
    done: bool,
}

impl Frame {
    /// Adds what came at once; the packet when it is whole. One that lacks something is dropped.
    fn add(&mut self, octets: &[u8]) -> Option<&[u8]> {
        if std::mem::take(&mut self.done) {
            self.octets.clear();
        }
        self.octets.extend_from_slice(octets);
        if self.octets.len() > FRAME + 1 {
            self.octets.clear();
        }
        if octets.len().is_multiple_of(SEGMENT) {
            return None;
        }
        self.done = true;
        let length = u32::from_be_bytes(*self.octets.first_chunk::<LENGTH>()?);
        let end = LENGTH + usize::try_from(length).ok()?;
        (self.octets.len() - end.min(self.octets.len()) <= 1).then(|| self.octets.get(LENGTH..end)).flatten()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_any_size_comes_out_as_it_went_in_and_what_lacks_a_part_is_dropped() {
        let mut into = Frame::default();
        for len in [1, 1_395, 1_396, 1_397, 2_796, 40_000, CHUNK, 65_535 + sys::VNET_HEADER] {
            let mut out = vec![0; FRAME + 1];
            for (place, octet) in out[LENGTH..LENGTH + len].iter_mut().zip((0..=250).cycle()) {
                *place = octet;
            }
            let packet = out[LENGTH..LENGTH + len].to_vec();
            let total = lay_out(&mut out, len);
            let chunks: Vec<&[u8]> = out[..total].chunks(CHUNK).collect();
            let mut came = None;
            for chunk in &chunks {
                came = into.add(chunk).map(<[u8]>::to_vec);
            }
            assert_eq!(came.as_ref(), Some(&packet), "{len}");
            if chunks.len() > 1 {
                assert_eq!(into.add(chunks[1]), None, "its first part is lost");
            }
        }
    }
}
