//! What another thread has for the actors of this one.
//!
//! A message that is put straight into the mailbox of an idle actor wakes its thread by a system call. What the standby of a slot answers is
//! the way on for some dozens of connections at once, so it is left for one task of the thread, which is woken once and hands all of it
//! out.

use std::cell::RefCell;

use tokio::sync::mpsc;

/// Handed out before the thread's other tasks have their turn.
const AT_A_TIME: usize = 256;

type Errand = Box<dyn FnOnce() + Send>;

thread_local! {
    static HERE: RefCell<Option<Post>> = const { RefCell::new(None) };
}

/// Where errands for a thread are left. There are as many at most as somebody waits for, which is bounded where it is waited.
#[derive(Clone)]
pub(crate) struct Post(mpsc::UnboundedSender<Errand>);

impl Post {
    /// Of this thread, which runs actors.
    pub(crate) fn here() -> Self {
        HERE.with_borrow_mut(|here| {
            let open = here.take().filter(|post| !post.0.is_closed());
            here.insert(open.unwrap_or_else(Self::open)).clone()
        })
    }

    fn open() -> Self {
        let (post, mut errands) = mpsc::unbounded_channel::<Errand>();
        actix::spawn(async move {
            let mut some = Vec::new();
            while errands.recv_many(&mut some, AT_A_TIME).await > 0 {
                some.drain(..).for_each(|errand| errand());
            }
        });
        Self(post)
    }

    /// Has it done there, after what was left before. It is dropped if nothing runs there any more.
    pub(crate) fn leave(&self, errand: impl FnOnce() + Send + 'static) {
        // An error is the thread's end.
        let _ = self.0.send(Box::new(errand));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errands_are_done_on_their_thread_and_in_order() {
        for _ in 0..2 {
            // What another system had on this thread is over.
            actix::System::new().block_on(async {
                let (done, mut all) = mpsc::unbounded_channel();
                let (post, thread) = (Post::here(), std::thread::current().id());
                let other = std::thread::spawn(move || {
                    for n in 0..1_000 {
                        let done = done.clone();
                        // The receiver waits below.
                        post.leave(move || {
                            let _ = done.send((n, std::thread::current().id()));
                        });
                    }
                });
                for n in 0..1_000 {
                    assert_eq!(all.recv().await, Some((n, thread)));
                }
                assert!(other.join().is_ok());
            });
        }
    }
}
