//! The highest rate of datagrams at which none is lost.
//!
//! Single datagrams, as most senders have them, and paced evenly; the receiver takes what comes by many at a time.
//!
//! The sender is one thread, and comes to its own end where datagrams are small: some hundred thousand calls a second, whatever their size, with all
//! that the system does of the path within a call. Where that is what ends the search the path may take more, and the figure says so.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use rustix::net::sockopt;
use rustix::thread::LinkNameSpaceType;
use socket2::SockRef;

use super::lab::{About as _, Lab, LabError, SIDES};
use super::sys;

/// How long a rate is tried.
const TRIAL: Duration = Duration::from_millis(1500);
/// A rate must come to this share of what is asked for, or the sender is the bound.
const REACHED: f64 = 0.97;
/// How often a rate must fail to be too high.
const TRIALS: u32 = 2;
/// The first rate that is tried, in datagrams a second; doubled until something is lost.
const FIRST: f64 = 4_000.0;
/// The highest that is tried.
const HIGHEST: f64 = 2_000_000.0;
/// Halvings of what is left after that: to some 3 %.
const HALVINGS: u32 = 5;
/// How often the sender catches up with its rate.
const TICK: Duration = Duration::from_micros(200);
/// What is under way at the end has arrived after this.
const SETTLE: Duration = Duration::from_millis(300);
/// Socket buffers: a burst is the path's to lose, not theirs.
const BUFFER: usize = 16 << 20;
/// Of the receiver.
const PORT: u16 = 7001;

/// What a trial has come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trial {
    /// Datagrams a second that were sent.
    pub(crate) rate: f64,
    /// Whether all arrived.
    pub(crate) whole: bool,
    /// The path has told the sender that it is at its end, which then waited for it.
    pub(crate) pushed_back: bool,
}

/// The highest rate that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Highest {
    /// Datagrams a second.
    rate: f64,
    /// Nothing was lost at what the sender came to: it says what that can, and of the path that it takes so much.
    by_sender: bool,
}

/// What a path takes without loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Udp {
    /// Mbit/s of payload.
    pub(crate) mbps: f64,
    /// It may take more, which this sender cannot send.
    pub(crate) at_least: bool,
}

/// Finds the highest rate: the rate of the best trial without loss, in datagrams a second. What fails is tried once more: a hiccup of
/// the machine, early on, would say the rest of the figure.
pub(crate) fn search(mut trial: impl FnMut(f64) -> Result<Trial, LabError>) -> Result<Highest, LabError> {
    // As long as nothing has failed nobody knows where the path ends. After that the last rate that failed says it: it is the lowest of them.
    let (mut low, mut high, mut highest) = (0.0, FIRST, Highest { rate: 0.0, by_sender: true });
    let mut good = |rate: f64, highest: &mut Highest| {
        let mut by_sender = false;
        for _ in 0..TRIALS {
            let outcome = trial(rate)?;
            if outcome.whole && outcome.rate >= REACHED * rate {
                highest.rate = highest.rate.max(outcome.rate);
                return Ok(true);
            }
            by_sender |= outcome.whole && !outcome.pushed_back;
        }
        highest.by_sender = by_sender;
        Ok::<bool, LabError>(false)
    };
    while high < HIGHEST && good(high, &mut highest)? {
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if good(middle, &mut highest)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(highest)
}

/// What is not lost between two addresses inside.
pub(crate) fn lossless(lab: &Lab, [near, far]: [IpAddr; 2], size: u16) -> Result<Udp, LabError> {
    let [left, right] = SIDES;
    let receiver = within(right, move || bound(SocketAddr::new(far, PORT)))?;
    let sender = within(left, move || {
        let socket = bound(SocketAddr::new(near, 0))?;
        socket.connect(SocketAddr::new(far, PORT))?;
        Ok(socket)
    })?;
    let mut number = 0u64;
    let best = search(|rate| {
        lab.check()?;
        number += 1;
        try_rate(&sender, &receiver, number, size, rate).about("datagrams")
    })?;
    Ok(Udp { mbps: best.rate * f64::from(size) * 8.0 / 1e6, at_least: best.by_sender })
}

/// Does something in a network namespace: a socket stays where it was made.
fn within<T: Send>(side: &str, make: impl FnOnce() -> io::Result<T> + Send) -> Result<T, LabError> {
    let work = || {
        let space = File::open(Path::new("/run/netns").join(side))?;
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&space),
            Some(LinkNameSpaceType::Network),
        )?;
        make()
    };
    let made = thread::scope(|scope| scope.spawn(work).join());
    made.unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))).about(side)
}

fn bound(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    let options = SockRef::from(&socket);
    sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
    options.set_send_buffer_size(BUFFER)?;
    Ok(socket)
}

fn try_rate(
    sender: &UdpSocket,
    receiver: &UdpSocket,
    number: u64,
    size: u16,
    rate: f64,
) -> io::Result<Trial> {
    // A trial knows its own: what an earlier one has left may come late.
    let mut datagram = vec![0; size.into()];
    if let Some(mark) = datagram.first_chunk_mut::<8>() {
        *mark = number.to_be_bytes();
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let counting = scope.spawn(|| count(receiver, number, &over));
        let sent = send(sender, &datagram, rate);
        thread::sleep(SETTLE);
        over.store(true, Ordering::Relaxed);
        let arrived = counting.join().unwrap_or_else(|_| Err(io::Error::other("the receiver panicked")))?;
        let Sent { sent, elapsed, pushed_back } = sent?;
        Ok(Trial { rate: sent as f64 / elapsed.as_secs_f64(), whole: arrived >= sent, pushed_back })
    })
}

/// What a sender has come to.
struct Sent {
    sent: u64,
    elapsed: Duration,
    pushed_back: bool,
}

fn send(sender: &UdpSocket, datagram: &[u8], rate: f64) -> io::Result<Sent> {
    let begin = Instant::now();
    let (mut sent, mut pushed_back) = (0u64, false);
    loop {
        let elapsed = begin.elapsed();
        if elapsed >= TRIAL {
            return Ok(Sent { sent, elapsed, pushed_back });
        }
        // Rates are positive and far below what an integer holds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let due = (elapsed.as_secs_f64() * rate) as u64;
        while sent < due && begin.elapsed() < TRIAL {
            match sys::send_many(sender, datagram, usize::try_from(due - sent).unwrap_or(usize::MAX)) {
                Ok(count) => sent += count as u64,
                // The device's queue is full: the path is at its end, and the rate will not be reached.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN)) => {
                    pushed_back = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        thread::sleep(TICK);
    }
}

fn count(receiver: &UdpSocket, number: u64, over: &AtomicBool) -> io::Result<u64> {
    let state = UdpSocketState::new(UdpSockRef::from(receiver))?;
    let mut buffers: Vec<Vec<u8>> = vec![vec![0; 65_535]; BATCH_SIZE];
    let mut arrived = 0;
    while !over.load(Ordering::Relaxed) {
        let mut metas = vec![RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        match state.recv(UdpSockRef::from(receiver), &mut slices, &mut metas) {
            Ok(filled) => {
                for (buffer, meta) in buffers.iter().zip(&metas).take(filled) {
                    let all = buffer.get(..meta.len).unwrap_or_default();
                    let own = |one: &&[u8]| one.first_chunk::<8>() == Some(&number.to_be_bytes());
                    arrived += all.chunks(meta.stride.max(1)).filter(own).count() as u64;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(TICK / 2),
            Err(error) => return Err(error),
        }
    }
    Ok(arrived)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A path that loses what is above a rate, behind a sender that comes to another at most.
    fn searched(path: f64, sender: f64) -> Highest {
        let sent = |rate: f64| rate.min(sender);
        let trial = |rate| Trial { rate: sent(rate), whole: sent(rate) <= path, pushed_back: false };
        search(|rate| Ok(trial(rate))).unwrap()
    }

    fn found(path: f64, sender: f64) -> f64 {
        searched(path, sender).rate
    }

    #[test]
    fn it_is_told_whether_the_path_or_the_sender_was_the_bound() {
        let by_sender = |path, sender| searched(path, sender).by_sender;
        assert!(!by_sender(77_777.0, f64::INFINITY) && !by_sender(77_777.0, 90_000.0));
        assert!(by_sender(77_777.0, 60_000.0) && by_sender(f64::INFINITY, 90_000.0));
        // Nothing ever failed.
        assert!(by_sender(f64::INFINITY, f64::INFINITY));
        // Nothing arrives at all, or not even what is tried first can be sent.
        assert!(!by_sender(0.0, f64::INFINITY) && by_sender(f64::INFINITY, 100.0));
    }

    #[test]
    fn a_path_that_pushes_back_is_the_bound() {
        let path = 77_777.0;
        let best =
            search(|rate| Ok(Trial { rate: rate.min(path), whole: true, pushed_back: rate > path })).unwrap();
        assert!(!best.by_sender && best.rate <= path && best.rate >= path * 0.93, "{best:?}");
    }

    #[test]
    fn a_path_that_loses_once_is_as_fast_as_one_that_does_not() {
        let path = 77_777.0;
        for hiccup in 0..20 {
            let mut number = 0;
            let best = search(|rate| {
                number += 1;
                Ok(Trial { rate, whole: rate <= path && number != hiccup, pushed_back: false })
            });
            assert_eq!(best.unwrap(), searched(path, f64::INFINITY), "in trial {hiccup}");
        }
    }

    #[test]
    fn the_search_comes_near_the_rate_of_the_path_and_never_above() {
        for path in [100.0, 5_000.0, 77_777.0, 600_000.0] {
            let best = found(path, f64::INFINITY);
            assert!(best <= path && (best >= path * 0.93 || path < FIRST), "{path}: {best}");
        }
        assert!((found(f64::INFINITY, 90_000.0) - 90_000.0).abs() < 4_000.0, "bound by its sender");
        assert_eq!(found(0.0, 1e9), 0.0);
    }
}
