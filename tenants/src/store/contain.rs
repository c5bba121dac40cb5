//! Panics of the database library end here.
//!
//! It checks a file when it is opened, but asserts rather than returns errors in many places behind that check. A file that
//! was damaged is no fault of the program: who reads the log gets one line that names the file, not the frames of a
//! stack.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is caught here and told as an error.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
    /// What the last one said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Puts back what it found, also if the work panics.
struct Contained(bool);

impl Contained {
    fn enter() -> Self {
        Self(CONTAINED.replace(true))
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        CONTAINED.set(self.0);
    }
}

/// Runs `work`; a panic is an error that says what it said. Whatever `work` changed when it panicked must be thrown away.
pub(crate) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if CONTAINED.get() {
                let payload = panic.payload();
                let text = payload.downcast_ref::<&str>().copied();
                let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
                let text = text.unwrap_or("no reason given");
                SAID.replace(text.lines().next().unwrap_or_default().to_owned());
            } else {
                before(panic);
            }
        }));
    });
    let _contained = Contained::enter();
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| SAID.take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_those_elsewhere_stay_panics() {
        assert_eq!(contained(|| 1), Ok(1));
        let inner = contained(|| {
            let nested: Result<(), String> = contained(|| panic!("within\nand more"));
            (nested, CONTAINED.get())
        });
        assert_eq!(inner, Ok((Err("within".to_owned()), true)));
        assert!(!CONTAINED.get());
    }
}
