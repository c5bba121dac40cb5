//! `log.level`: how much is logged.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// What is wrong with a level or directives. A word that is no level would be taken for a part of the program, of which there is
/// none, and nothing would be logged at all.
pub(crate) fn check_level(directives: &str) -> Result<(), String> {
    let expected = |what: &str| {
        Err(format!(
            "{what:?} is no level; expected off, error, warn, info, debug or trace, or directives such as info,culvert=debug"
        ))
    };
    if directives.trim().is_empty() {
        return expected(directives);
    }
    for directive in directives.split(',').map(str::trim) {
        let alone = !directive.contains(['=', '[', ']', '{', '}']);
        if alone && directive.parse::<LevelFilter>().is_err() {
            return expected(directive);
        }
    }
    EnvFilter::try_new(directives)
        .map(drop)
        .map_err(|error| format!("{directives:?}: {error}; expected such as info"))
}
