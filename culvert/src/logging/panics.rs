//! Panics in the log, as any other record of it.
//!
//! By itself a panic writes to standard error, whatever the format of the log is, and waits there if nobody reads it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

/// From now on whatever panics says so in the log.
pub(super) fn log() {
    panic::set_hook(Box::new(tell));
}

fn tell(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let text = info.payload().downcast_ref::<&str>().copied();
    let what =
        text.or_else(|| info.payload().downcast_ref::<String>().map(String::as_str)).unwrap_or("of no text");
    // Taken if `RUST_BACKTRACE` asks for it, as always.
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(thread, place, what, backtrace = trace, "panic");
}
