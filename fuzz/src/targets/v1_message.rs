//! Messages of IKEv1 through its codec: whole datagrams, and what decryption leaves of one, which is only noticed to be of a
//! wrong key by what it says. What reads is written and must read the same.

use ike::forge::{read_decrypted, read_message};

use crate::input::Input;

/// Octets of a header.
const HEADER: usize = 28;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.u8();
    if how & 1 != 0 {
        return read_decrypted(input.u8(), input.rest());
    }
    let mut datagram = input.rest().to_vec();
    read_message(&datagram);
    // The length field is what stops most inputs; a right one lets the rest be seen.
    if datagram.len() >= HEADER {
        let length = datagram.len() as u32;
        datagram[24..HEADER].copy_from_slice(&length.to_be_bytes());
        datagram[17] = 0x10;
        datagram[19] &= 0xfe;
        read_message(&datagram);
    }
}
