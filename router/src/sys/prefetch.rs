//! Telling the processor what is going to be read, so that it is fetched meanwhile.
#![allow(unsafe_code)]

/// Fetches a value, all of it.
#[inline]
pub(crate) fn fetch<T: ?Sized>(value: &T) {
    fetch_octets(std::ptr::from_ref(value).cast(), size_of_val(value));
}

/// Fetches all from the one value up to the other, which is behind it in the same thing.
#[inline]
pub(crate) fn fetch_between<T, U>(first: &T, last: &U) {
    let (from, to) = (std::ptr::from_ref(first).cast::<u8>(), std::ptr::from_ref(last).cast::<u8>());
    fetch_octets(from, (to.addr() + size_of::<U>()).saturating_sub(from.addr()));
}

#[inline]
fn fetch_octets(from: *const u8, len: usize) {
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
        for last in octets.iter().step_by(50) {
            fetch_between(&octets, last);
            fetch_between(last, &octets);
        }
    }
}
