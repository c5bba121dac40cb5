//! Telling the processor what is going to be read, so that it is fetched meanwhile.
#![allow(unsafe_code)]

/// Fetches a value, all of it.
#[inline]
pub(crate) fn fetch<T: ?Sized>(value: &T) {
    let (from, len) = (std::ptr::from_ref(value).cast::<u8>(), size_of_val(value));
    let skipped = from.addr() % LINE;
    for at in (0..len + skipped).step_by(LINE) {
        fetch_line(from.wrapping_sub(skipped).wrapping_add(at));
    }
}

/// Octets that are fetched at once.
const LINE: usize = 64;

#[inline]
fn fetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint. It reads nothing that the program could see and does not fault, whatever the address is; and every
        // processor of this architecture has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above. It changes no register, no flag and no memory.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_there_is_may_be_fetched() {
        let octets = [0_u8; 300];
        for from in 0..LINE {
            fetch(octets.get(from..).unwrap_or_default());
        }
        fetch::<[u8]>(&[]);
        fetch(&());
        fetch_line(std::ptr::null());
    }
}
