//! Questions and answers as they stand in the stream of a lane: length, number, kind, body.

use bytes::Bytes;
use snapshot::Octets;
use zeroize::Zeroizing;

/// Octets of a body at most: what is more is sent as several.
pub const MAX_BODY: usize = 4 << 20;
/// Length of what follows it, number, kind.
const HEADER: usize = 4 + 8 + 2;
/// A body of as much goes beside the others that are written at a time, not into one buffer with them.
const BESIDE: usize = 16 << 10;

/// A question, or an answer with the question's number.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) kind: u16,
    pub(super) body: Bytes,
}

impl std::fmt::Debug for Frame {
    /// Bodies have keys in them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, kind, body } = self;
        write!(f, "Frame {{ number: {number}, kind: {kind}, {} octets }}", body.len())
    }
}

/// Why a stream cannot be read any further.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame says that {stated} octets follow; at most {} may", HEADER - 4 + MAX_BODY)]
pub(super) struct FrameError {
    stated: usize,
}

/// What is written for these, in one go. It is wiped when it has been sent.
pub(super) fn encode(frames: &[Frame]) -> Vec<Bytes> {
    let mut out = Vec::new();
    for run in frames.chunk_by(|before, _| before.body.len() < BESIDE) {
        let beside = run.last().filter(|last| last.body.len() >= BESIDE);
        let within = |frame: &Frame| if frame.body.len() < BESIDE { frame.body.len() } else { 0 };
        // As large as it has to be from the start, for what grows leaves copies behind.
        let length = run.iter().map(|frame| HEADER + within(frame)).sum();
        let mut buffer = Vec::with_capacity(length);
        for frame in run {
            let length = u32::try_from(HEADER - 4 + frame.body.len()).unwrap_or(u32::MAX);
            buffer.extend_from_slice(&length.to_be_bytes());
            buffer.extend_from_slice(&frame.number.to_be_bytes());
            buffer.extend_from_slice(&frame.kind.to_be_bytes());
            if frame.body.len() < BESIDE {
                buffer.extend_from_slice(&frame.body);
            }
        }
        out.push(Octets::from(buffer).shared());
        out.extend(beside.map(|frame| frame.body.clone()));
    }
    out
}

/// Puts frames together from what comes.
#[derive(Default)]
pub(super) struct Decoder {
    pending: Bytes,
    header: Vec<u8>,
    begun: Option<Begun>,
}

/// A frame of which the header has come.
struct Begun {
    number: u64,
    kind: u16,
    body: Zeroizing<Vec<u8>>,
    length: usize,
}

impl Decoder {
    /// What has come, after all that came before has been taken.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        self.pending = chunk;
    }

    /// The next frame, if it is there.
    pub(super) fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.begun.is_none() {
            let missing = HEADER.saturating_sub(self.header.len());
            let part = self.pending.split_to(missing.min(self.pending.len()));
            self.header.extend_from_slice(&part);
            let Some((length, rest)) = self.header.split_first_chunk::<4>() else { return Ok(None) };
            let Some((number, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
            let Some((kind, _)) = rest.split_first_chunk::<2>() else { return Ok(None) };
            let stated = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let length = stated.checked_sub(HEADER - 4).filter(|length| *length <= MAX_BODY);
            let length = length.ok_or(FrameError { stated })?;
            let (number, kind) = (u64::from_be_bytes(*number), u16::from_be_bytes(*kind));
            let body = Zeroizing::new(Vec::with_capacity(length));
            self.begun = Some(Begun { number, kind, body, length });
            self.header.clear();
        }
        let Some(begun) = &mut self.begun else { return Ok(None) };
        let missing = begun.length - begun.body.len();
        let part = self.pending.split_to(missing.min(self.pending.len()));
        begun.body.extend_from_slice(&part);
        if begun.body.len() < begun.length {
            return Ok(None);
        }
        let whole = self.begun.take();
        Ok(whole.map(|Begun { number, kind, mut body, .. }| Frame {
            number,
            kind,
            body: Octets::from(std::mem::take(&mut *body)).shared(),
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame> {
        let lengths = [0, 1, 600, BESIDE - 1, BESIDE, 3, BESIDE + 1, MAX_BODY, 5];
        let frame = |(number, length): (usize, &usize)| Frame {
            number: number as u64,
            kind: number as u16 * 7,
            body: vec![number as u8; *length].into(),
        };
        lengths.iter().enumerate().map(frame).collect()
    }

    #[test]
    fn what_is_written_is_read_however_it_is_cut() {
        let frames = frames();
        let written = encode(&frames).concat();
        for size in [1, 13, 14, 15, 1_000, 70_000, written.len()] {
            let (mut decoder, mut read) = (Decoder::default(), Vec::new());
            for chunk in written.chunks(size) {
                decoder.feed(Bytes::copy_from_slice(chunk));
                while let Some(frame) = decoder.take().unwrap() {
                    read.push(frame);
                }
                assert!(decoder.pending.is_empty());
            }
            assert_eq!(read, frames, "in pieces of {size}");
        }
    }

    #[test]
    fn many_small_ones_are_written_as_one() {
        let small: Vec<Frame> = frames().into_iter().filter(|frame| frame.body.len() < BESIDE).collect();
        assert_eq!(encode(&small).len(), 1);
    }

    #[test]
    fn lengths_that_no_frame_has_are_an_error() {
        for length in [0, 9, 10 + MAX_BODY as u32 + 1, u32::MAX] {
            let mut decoder = Decoder::default();
            decoder.feed([&length.to_be_bytes()[..], &[0; 10]].concat().into());
            assert_eq!(decoder.take(), Err(FrameError { stated: length as usize }));
        }
    }

    #[test]
    fn bodies_do_not_show() {
        let frame = Frame { number: 1, kind: 2, body: Bytes::from_static(b"secret") };
        assert_eq!(format!("{frame:?}"), "Frame { number: 1, kind: 2, 6 octets }");
    }
}
