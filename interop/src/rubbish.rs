//! Datagrams that are almost right: copies of real ones, cut, flipped, mixed and made up. One seed makes one sequence.

use std::fmt;

/// Ports of IKE, and of IKE and ESP behind NAT (RFC 3948).
const PORTS: [u16; 2] = [500, 4500];
/// Greater ones are several in one, by segmentation offload.
const MAX_LENGTH: usize = 1600;

/// A datagram that was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The one of its ports that is ours or the peer's: 500 or 4500.
    pub port: u16,
    /// What it carried.
    pub bytes: Vec<u8>,
}

impl Sample {
    /// Takes it from an IPv4 packet; `None` if that is no UDP of ours.
    pub fn of_ip_packet(packet: &[u8]) -> Option<Self> {
        let (first, protocol) = (*packet.first()?, *packet.get(9)?);
        let udp = packet.get(usize::from(first & 15) * 4..)?;
        let word = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
        let port = [word(2)?, word(0)?].into_iter().find(|port| PORTS.contains(port))?;
        let length = usize::from(word(4)?);
        let bytes = udp.get(8..length)?.to_vec();
        (first >> 4 == 4 && protocol == 17 && bytes.len() <= MAX_LENGTH).then_some(Self { port, bytes })
    }
}

/// A line of a file of samples: the port and the bytes in hexadecimal.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.port)?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Reads a file of samples. Lines that are not complete are left out: the writer was killed.
pub fn read_samples(text: &str) -> Vec<Sample> {
    let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    complete.lines().filter_map(read_sample).collect()
}

fn read_sample(line: &str) -> Option<Sample> {
    let (port, hex) = line.split_once(' ')?;
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes = hex.as_bytes().chunks(2).map(byte).collect::<Option<Vec<u8>>>()?;
    Some(Sample { port: port.parse().ok()?, bytes })
}

/// Makes rubbish.
#[derive(Debug)]
pub struct Recipe {
    state: u64,
}

impl Recipe {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// SplitMix64: enough for choosing, and the same on every machine.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(0) % bound.max(1)
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// The next datagram, and the port it goes to.
    pub fn make(&mut self, samples: &[Sample]) -> (u16, Vec<u8>) {
        let choice = self.below(samples.len());
        let (mut port, mut bytes) =
            samples.get(choice).map(|s| (s.port, s.bytes.clone())).unwrap_or_default();
        match self.below(7) {
            // As it was: a replay from somewhere else.
            0 => {}
            1 => bytes.truncate(self.below(bytes.len())),
            2 => self.flip(&mut bytes, 1),
            3 => {
                let count = 1 + self.below(16);
                self.flip(&mut bytes, count);
            }
            // Longer than it says.
            4 => {
                let length = 1 + self.below(200);
                bytes.extend(self.noise(length));
            }
            // The head of one, the tail of another.
            5 => {
                let other = self.below(samples.len());
                let cut = self.below(bytes.len());
                bytes.truncate(cut);
                bytes.extend(samples.get(other).and_then(|s| s.bytes.get(cut..)).unwrap_or_default());
            }
            _ => {
                let length = self.below(400);
                bytes = self.noise(length);
            }
        }
        if self.below(8) == 0 {
            port = PORTS[self.below(2)];
        }
        (port, bytes)
    }

    fn flip(&mut self, bytes: &mut [u8], count: usize) {
        for _ in 0..count {
            let (at, bit) = (self.below(bytes.len()), self.below(8));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_survive_the_file() {
        let samples = [Sample { port: 500, bytes: vec![0, 1, 255] }, Sample { port: 4500, bytes: vec![7] }];
        let text = format!("{}\n{}\n4500 ab", samples[0], samples[1]);
        assert_eq!(read_samples(&text), samples, "the last line is not complete");
    }

    #[test]
    fn udp_of_our_ports_is_taken() {
        let mut packet = vec![0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0x9c, 0x40, 0x11, 0x94, 0, 11, 0, 0, 1, 2, 3]);
        let sample = Sample { port: 4500, bytes: vec![1, 2, 3] };
        assert_eq!(Sample::of_ip_packet(&packet), Some(sample));
        packet[23] = 0x35;
        assert_eq!(Sample::of_ip_packet(&packet), None);
        assert_eq!(Sample::of_ip_packet(&packet[..21]), None);
    }

    #[test]
    fn a_seed_is_a_sequence() {
        let samples = [Sample { port: 500, bytes: vec![1; 60] }];
        let (mut one, mut other) = (Recipe::new(3), Recipe::new(3));
        assert!((0..500).all(|_| one.make(&samples) == other.make(&samples)));
    }
}
