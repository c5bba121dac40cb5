//! ICMP echo requests with a number of 64 bits, where that of ICMP would come round after a minute.

/// A request, or what the reply says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Tells the requests of one program from those of others.
    pub identifier: u16,
    /// Counts them.
    pub number: u64,
}

const REQUEST: u8 = 8;
const REPLY: u8 = 0;
/// Octets of ICMP's header, and of the whole message.
const HEADER: usize = 8;
const LENGTH: usize = 64;

impl Echo {
    /// The ICMP message (RFC 792).
    pub fn request(self) -> [u8; LENGTH] {
        let mut message = [0; LENGTH];
        message[0] = REQUEST;
        message[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        message[6..8].copy_from_slice(&(self.number as u16).to_be_bytes());
        message[HEADER..HEADER + 8].copy_from_slice(&self.number.to_be_bytes());
        let checksum = !sum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        message
    }

    /// Reads a reply from an IPv4 packet.
    pub fn reply(packet: &[u8]) -> Option<Self> {
        let header = usize::from(packet.first()? & 0xf) * 4;
        let message = packet.get(header..)?;
        let number = message.get(HEADER..)?.first_chunk()?;
        let identifier = message.get(4..)?.first_chunk()?;
        (message.len() == LENGTH && message.first() == Some(&REPLY) && sum(message) == 0xffff).then(|| Self {
            identifier: u16::from_be_bytes(*identifier),
            number: u64::from_be_bytes(*number),
        })
    }
}

/// The sum of RFC 1071 over an even number of octets.
fn sum(octets: &[u8]) -> u16 {
    let words = octets.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_and_nothing_else() {
        let echo = Echo { identifier: 7, number: 0x1_0002 };
        let mut packet = vec![0x45; 20];
        packet.extend(echo.request());
        assert_eq!(Echo::reply(&packet), None, "a request is none");
        // As a host answers: another type, and the checksum that follows from it.
        packet[20] = REPLY;
        packet[22..24].fill(0);
        let checksum = !sum(&packet[20..]);
        packet[22..24].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(Echo::reply(&packet), Some(echo));
        packet[40] ^= 1;
        assert_eq!(Echo::reply(&packet), None, "damaged");
        assert_eq!(Echo::reply(&packet[..30]), None, "cut");
    }
}
