//! Control messages of `sendmsg` and `recvmsg`, as octets in an aligned buffer.
#![allow(unsafe_code)]

use libc::{c_int, cmsghdr};

/// Room for the control messages of one datagram. Twice what the four that are used take.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct ControlBuffer([u8; CONTROL_OCTETS]);

const CONTROL_OCTETS: usize = 256;
const _: () = assert!(align_of::<ControlBuffer>() >= align_of::<cmsghdr>());
/// Octets of a header with its padding.
const HEADER_LEN: usize = align(size_of::<cmsghdr>());

impl ControlBuffer {
    pub(crate) const fn new() -> Self {
        Self([0; CONTROL_OCTETS])
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    pub(crate) const fn capacity(&self) -> usize {
        CONTROL_OCTETS
    }

    /// Writes a message at `at`; where the next one goes. One that does not fit is left out.
    pub(crate) fn push(&mut self, at: usize, level: c_int, kind: c_int, data: &[u8]) -> usize {
        let len = HEADER_LEN + data.len();
        let Some(place) = self.0.get_mut(at..at + align(len)) else { return at };
        // SAFETY: `cmsghdr` is plain data for which all zeroes is a valid value.
        let mut header: cmsghdr = unsafe { std::mem::zeroed() };
        header.cmsg_len = len as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        // SAFETY: `place` has at least the size of a header, and the write does not need alignment.
        unsafe { place.as_mut_ptr().cast::<cmsghdr>().write_unaligned(header) };
        if let Some(to) = place.get_mut(HEADER_LEN..len) {
            to.copy_from_slice(data);
        }
        at + align(len)
    }

    /// Passes on level, kind and data of each message in the first `len` octets.
    pub(crate) fn each(&self, len: usize, mut found: impl FnMut(c_int, c_int, &[u8])) {
        let mut rest = self.0.get(..len).unwrap_or_default();
        while rest.len() >= size_of::<cmsghdr>() {
            // SAFETY: `rest` has at least the size of a header, every bit pattern is a valid one, and the read does not need
            // alignment.
            let header: cmsghdr = unsafe { rest.as_ptr().cast::<cmsghdr>().read_unaligned() };
            let len = header.cmsg_len;
            let Some(data) = rest.get(HEADER_LEN..len) else { return };
            found(header.cmsg_level, header.cmsg_type, data);
            rest = rest.get(align(len)..).unwrap_or_default();
        }
    }
}

/// As `CMSG_ALIGN`.
const fn align(len: usize) -> usize {
    len.next_multiple_of(size_of::<usize>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut buffer = ControlBuffer::new();
        let mut at = buffer.push(0, 1, 2, &[3; 5]);
        at = buffer.push(at, 4, 5, &[]);
        at = buffer.push(at, 6, 7, &[8; 12]);
        let end = buffer.push(at, 9, 9, &[0; CONTROL_OCTETS]);
        assert_eq!(end, at, "no room");
        let mut seen = Vec::new();
        buffer.each(at, |level, kind, data| seen.push((level, kind, data.to_vec())));
        assert_eq!(seen, [(1, 2, vec![3; 5]), (4, 5, vec![]), (6, 7, vec![8; 12])]);
    }

    #[test]
    fn the_layout_is_the_systems() {
        for len in 0..40u32 {
            let mut buffer = ControlBuffer::new();
            // SAFETY: calls with integers only.
            let (space, whole) = unsafe { (libc::CMSG_SPACE(len), libc::CMSG_LEN(len)) };
            assert_eq!(buffer.push(0, 0, 0, &vec![0; len as usize]), space as usize);
            assert_eq!(HEADER_LEN + len as usize, whole as usize);
        }
    }

    #[test]
    fn nonsense_ends_the_reading() {
        let mut buffer = ControlBuffer::new();
        buffer.0 = [0xff; CONTROL_OCTETS];
        buffer.each(CONTROL_OCTETS, |_, _, _| panic!("nothing is there"));
        buffer.0 = [0; CONTROL_OCTETS];
        buffer.each(CONTROL_OCTETS, |_, _, _| panic!("nothing is there"));
    }
}
