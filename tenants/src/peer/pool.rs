//! Lists that many peers have in common are in memory once: a hundred thousand peers have a handful of lists of proposals.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use ike::{EspProposal, IkeProposal};

/// Lists before it is looked for the first time which of them nobody has any more.
const FIRST_SWEEP: usize = 64;

/// Those for IKE SAs.
pub(crate) static IKE: LazyLock<Pool<IkeProposal>> = LazyLock::new(Pool::default);
/// Those for Child SAs.
pub(crate) static ESP: LazyLock<Pool<EspProposal>> = LazyLock::new(Pool::default);

/// Lists of a kind.
pub(crate) struct Pool<T>(Mutex<Lists<T>>);

struct Lists<T> {
    all: HashSet<Arc<[T]>>,
    /// With this many, those that nobody has go.
    sweep_at: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::new(Lists { all: HashSet::new(), sweep_at: FIRST_SWEEP }))
    }
}

impl<T: Eq + Hash> Pool<T> {
    /// The list as others have it, or this one for others to have.
    pub(crate) fn share(&self, list: Vec<T>) -> Arc<[T]> {
        // A panic leaves a set without one list.
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lists.all.get(list.as_slice()) {
            return Arc::clone(known);
        }
        if lists.all.len() >= lists.sweep_at {
            lists.all.retain(|list| Arc::strong_count(list) > 1);
            lists.sweep_at = FIRST_SWEEP.max(2 * lists.all.len());
        }
        let list: Arc<[T]> = list.into();
        lists.all.insert(Arc::clone(&list));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_same_has_one() {
        let pool = Pool::default();
        let (one, same, other) = (pool.share(vec![1, 2]), pool.share(vec![1, 2]), pool.share(vec![2, 1]));
        assert!(Arc::ptr_eq(&one, &same) && *other == [2, 1]);
    }

    #[test]
    fn what_nobody_has_any_more_goes() {
        let pool = Pool::default();
        let kept = pool.share(vec![0]);
        for n in 1..1_000 {
            pool.share(vec![n]);
        }
        assert!(pool.0.lock().unwrap().all.len() <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&kept, &pool.share(vec![0])));
    }
}
