//! Lines about tunnels, for whoever sends them on.

use std::sync::{Arc, OnceLock};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// What tells of tunnels: a line for each thing that happens to one.
const TUNNELS: &str = "actors";

/// Takes lines. It must not wait, for what writes them would; nor write such lines itself.
pub trait LineSink: Send + Sync {
    /// A line about a tunnel.
    fn line(&self, event: &Event<'_>);
}

/// Hands on what the log writes of tunnels, once somebody takes it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lines(Arc<OnceLock<Arc<dyn LineSink>>>);

impl Lines {
    /// From here on. Who was first stays.
    pub fn give_to(&self, sink: Arc<dyn LineSink>) {
        let _ = self.0.set(sink);
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if let Some(sink) = self.0.get()
            && is_of_tunnels(event.metadata())
        {
            sink.line(event);
        }
    }
}

/// What is finer than `info` is for looking into faults of the node.
fn is_of_tunnels(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && metadata.target().split("::").next() == Some(TUNNELS)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);

    impl LineSink for Seen {
        fn line(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(event.metadata().target().to_owned());
        }
    }

    #[test]
    fn lines_about_tunnels_are_handed_on_and_no_others() {
        let (lines, seen) = (Lines::default(), Arc::new(Seen::default()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines.clone()), || {
            tracing::info!(target: "actors::peer", "too early");
            lines.give_to(seen.clone());
            tracing::info!(target: "actors::peer::child", "one");
            tracing::warn!(target: "actors", "two");
            tracing::debug!(target: "actors::peer", "too fine");
            tracing::warn!(target: "actors_of_others", "another's");
            tracing::warn!(target: "culvert::telemetry::otlp::sender", "of the exporter itself");
        });
        assert_eq!(*seen.0.lock().unwrap(), ["actors::peer::child", "actors"]);
    }
}
