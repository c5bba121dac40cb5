//! Whether somebody is there to be flooded: messages to a port that nobody has are sent as well as any, and hurt nobody.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// On loopback the kernel says at once that nobody has a port.
const REFUSAL: Duration = Duration::from_millis(200);

/// Whether a socket receives there. An octet that is no message of IKE is sent, and nobody answers it but the kernel.
pub(super) fn is_there(to: SocketAddr) -> io::Result<bool> {
    let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    // A connected socket is told what ICMP says.
    probe.connect(to)?;
    probe.set_read_timeout(Some(REFUSAL))?;
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    let said = probe.send(&[0]).and_then(|_| probe.recv(&mut [0; 64]));
    Ok(!said.is_err_and(|error| refused(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_nobody_has_is_known() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = socket.local_addr().unwrap();
        assert!(is_there(to).unwrap());
        // It hears one other alone now, and nobody else is given its port.
        socket.connect((Ipv4Addr::LOCALHOST, 9)).unwrap();
        assert!(!is_there(to).unwrap());
    }
}
