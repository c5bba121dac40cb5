//! What the kernel drops because a socket's receive buffer is full, as it says with the next packet that it has room for.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::receive::Received;

/// Of one socket.
#[derive(Debug, Default)]
pub(crate) struct Overflow(AtomicU32);

impl Overflow {
    /// How many packets were dropped between those that were told of before and these. What the kernel had joined counts once.
    /// For the thread that receives.
    pub(crate) fn since(&self, received: &[Option<Received>]) -> u32 {
        let Some(total) = received.iter().flatten().rev().find_map(|about| about.dropped) else { return 0 };
        // The kernel counts round and round.
        total.wrapping_sub(self.0.swap(total, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once() {
        let overflow = Overflow::default();
        let about = |dropped| {
            let from = "127.0.0.1:4500".parse().unwrap();
            Some(Received { from, to: None, class: 0, len: 0, stride: 0, dropped })
        };
        assert_eq!(overflow.since(&[about(None), None]), 0);
        assert_eq!(overflow.since(&[about(None), about(Some(3)), about(Some(5)), None]), 5);
        assert_eq!(overflow.since(&[about(Some(5))]), 0);
        assert_eq!(overflow.since(&[]), 0);
        assert_eq!(overflow.since(&[about(Some(u32::MAX))]), u32::MAX - 5);
        assert_eq!(overflow.since(&[about(Some(1))]), 2);
    }
}
