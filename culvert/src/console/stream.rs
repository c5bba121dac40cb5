//! The stream to the node, which says in words why it broke.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::console::failure::tls_words;

/// What a node sends first that expects TLS and hears something else: an alert (RFC 8446 section 5.1).
const TLS_ALERT: u8 = 21;

/// Why the last connection of this process broke. A request that was about to be sent on it only learns that it was canceled.
static BROKEN: Mutex<Option<String>> = Mutex::new(None);

fn last() -> MutexGuard<'static, Option<String>> {
    BROKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why the last connection broke before the node said anything, if it did.
pub(crate) fn broken() -> Option<String> {
    last().clone()
}

/// Another connection is begun: what became of the one before is no cause of what happens now.
pub(crate) fn begin() {
    *last() = None;
}

/// A stream that says in words why it broke.
pub(crate) struct Stream<S> {
    inner: S,
    tls: bool,
    /// The node has said something.
    heard: bool,
}

impl<S> Stream<S> {
    /// In the clear.
    pub(crate) const fn plain(inner: S) -> Self {
        Self { inner, tls: false, heard: false }
    }

    /// Of TLS, after the handshake. In TLS 1.3 that is over for the client before the node has seen its certificate.
    pub(crate) const fn tls(inner: S) -> Self {
        Self { inner, tls: true, heard: false }
    }

    fn note(&self, error: io::Error) -> io::Error {
        if !self.heard {
            last().get_or_insert_with(|| error.to_string());
        }
        error
    }

    /// Why it broke; `None` where it was closed.
    fn broken(&self, error: Option<io::Error>) -> io::Error {
        let reason = error.as_ref().map(ToString::to_string).unwrap_or_default();
        let error = match (self.tls, tls_words(&reason)) {
            (true, Some(words)) => io::Error::other(words),
            (true, None) if !self.heard => {
                io::Error::other("TLS: the node closed the connection before it said anything")
            }
            (false, _) if !self.heard => {
                io::Error::other("the node closed the connection before it said anything")
            }
            _ => error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()),
        };
        self.note(error)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buf)) {
            Err(error) => return Poll::Ready(Err(self.broken(Some(error)))),
            Ok(()) if self.heard => {}
            Ok(()) => match buf.filled().get(before) {
                None if buf.remaining() > 0 => return Poll::Ready(Err(self.broken(None))),
                None => {}
                Some(&TLS_ALERT) if !self.tls => {
                    return Poll::Ready(Err(self.note(io::Error::other("the node speaks TLS there"))));
                }
                Some(_) => self.heard = true,
            },
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, octets));
        Poll::Ready(written.map_err(|error| self.broken(Some(error))))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = std::task::ready!(Pin::new(&mut self.inner).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.broken(Some(error))))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_not_told_of_the_one_before() {
        begin();
        let mut first = Stream::plain(tokio::io::empty());
        assert!(first.read_u8().await.is_err());
        assert!(broken().is_some_and(|reason| reason.contains("before it said anything")));
        begin();
        assert_eq!(broken(), None);
        let mut second = Stream::plain(&b"\0"[..]);
        assert_eq!(second.read_u8().await.ok(), Some(0));
        assert!(second.read_u8().await.is_err());
        assert_eq!(broken(), None, "the node had said something");
    }
}
