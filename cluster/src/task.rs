//! The tasks of a node. In a simulation several nodes share one process: then each task belongs to a [`Process`] of its own, which can be made to
//! stand still between any two steps, or killed, with all that it has begun.

#[cfg(feature = "simulated")]
pub use simulated::Process;

/// A task of the node that whoever calls this belongs to.
#[cfg(not(feature = "simulated"))]
pub(crate) fn of_node<F: Future<Output = ()>>(task: F) -> F {
    task
}

#[cfg(feature = "simulated")]
pub(crate) use simulated::of_node;

/// Carries something out to its end, though whoever waits for it may go away: that one may be a caller over the network. `None` where the node
/// ends before.
pub(crate) async fn carried_out<T: Send + 'static>(
    what: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (tell, told) = tokio::sync::oneshot::channel();
    tokio::spawn(of_node(async move {
        let _ = tell.send(what.await);
    }));
    told.await.ok()
}

/// A task that is not to end as long as it is wanted: `ended` is called when it does, or panics, and not when it is dropped.
pub(crate) async fn unending(task: impl Future<Output = ()>, ended: impl FnOnce()) {
    let mut told = Told { ended: Some(ended), is_over: false };
    task.await;
    told.is_over = true;
}

struct Told<F: FnOnce()> {
    ended: Option<F>,
    is_over: bool,
}

impl<F: FnOnce()> Drop for Told<F> {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take().filter(|_| self.is_over || std::thread::panicking()) {
            ended();
        }
    }
}

#[cfg(feature = "simulated")]
mod simulated {
    use std::pin::{Pin, pin};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::task::{Context, Poll, Waker};

    tokio::task_local! {
        static OF: Process;
    }

    /// A process of a simulation. Clones are of the same.
    #[derive(Clone, Debug, Default)]
    pub struct Process(Arc<Mutex<State>>);

    #[derive(Debug, Default)]
    struct State {
        now: Now,
        /// Tasks that would go on.
        waiting: Vec<Waker>,
        /// One of its tasks has panicked.
        panicked: bool,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    enum Now {
        #[default]
        Runs,
        Stands,
        Killed,
    }

    impl Process {
        /// Makes it stand still, or go on.
        pub fn stop(&self, stopped: bool) {
            let mut state = self.state();
            if state.now != Now::Killed {
                state.now = if stopped { Now::Stands } else { Now::Runs };
            }
            state.waiting.drain(..).for_each(Waker::wake);
        }

        /// Ends it: nothing of it goes on.
        pub fn kill(&self) {
            let mut state = self.state();
            state.now = Now::Killed;
            state.waiting.drain(..).for_each(Waker::wake);
        }

        /// Whether it runs.
        pub fn runs(&self) -> bool {
            self.state().now == Now::Runs
        }

        /// Whether one of its tasks has panicked, which no history may have: where it matters the process would end, and here nobody would see it.
        pub fn has_panicked(&self) -> bool {
            self.state().panicked
        }

        /// A task of this process, and of it whatever that begins.
        pub fn task(
            self,
            task: impl Future<Output = ()> + Send + 'static,
        ) -> impl Future<Output = ()> + Send + 'static {
            let task = Box::pin(OF.scope(self.clone(), task));
            Task { process: self, task: Some(task) }
        }

        fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    struct Task<F> {
        process: Process,
        task: Option<Pin<Box<F>>>,
    }

    /// Notes that the task panics in which this is dropped.
    struct Noted<'a>(&'a Process);

    impl Drop for Noted<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.state().panicked = true;
            }
        }
    }

    impl<F: Future<Output = ()>> Future for Task<F> {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let this = &mut *self;
            let now = {
                let mut state = this.process.state();
                if state.now == Now::Stands {
                    state.waiting.retain(|waker| !waker.will_wake(context.waker()));
                    state.waiting.push(context.waker().clone());
                }
                state.now
            };
            match (now, &mut this.task) {
                (Now::Runs, Some(task)) => {
                    let _noted = Noted(&this.process);
                    pin!(task).poll(context)
                }
                (Now::Stands, _) => Poll::Pending,
                (Now::Killed, _) | (_, None) => {
                    this.task = None;
                    Poll::Ready(())
                }
            }
        }
    }

    pub(crate) fn of_node(
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        // Without a simulation around it, a process is never stopped.
        Process::task(OF.try_with(Clone::clone).unwrap_or_default(), task)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn the_end_of_what_must_go_on_is_told_however_it_comes() {
        let told = Arc::new(AtomicU32::default());
        let tell = || {
            let told = Arc::clone(&told);
            move || {
                told.fetch_add(1, Ordering::Relaxed);
            }
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(unending(ready(()), tell()));
        tasks.spawn(unending(async { panic!("a fault that is put in") }, tell()));
        let aborted = tasks.spawn(unending(pending(), tell()));
        tokio::task::yield_now().await;
        aborted.abort();
        while tasks.join_next().await.is_some() {}
        assert_eq!(told.load(Ordering::Relaxed), 2);
    }

    #[cfg(feature = "simulated")]
    #[tokio::test]
    async fn a_process_knows_that_a_task_of_it_has_panicked() {
        let [one, other] = [Process::default(), Process::default()];
        let inner = async { panic!("a fault that is put in") };
        let begins = async { drop(tokio::spawn(of_node(inner)).await) };
        let _ = tokio::spawn(one.clone().task(begins)).await;
        let _ = tokio::spawn(other.clone().task(ready(()))).await;
        assert!(one.has_panicked() && !other.has_panicked());
    }
}
