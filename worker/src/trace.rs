//! Spans of a job's life on this node, each a child of the command that led to it.

use muster_domain::id::RankKey;
use muster_runtime::telemetry::continue_from;
use tracing::Span;

/// Spans with the same fields; a macro, because tracing wants their names at compile time.
macro_rules! spans {
    ($($(#[$doc:meta])* $function:ident = $name:literal;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $function(key: &RankKey, traceparent: Option<&str>) -> Span {
            let span = tracing::info_span!(
                $name, job = %key.job, rank = key.rank, attempt = key.attempt, outcome = tracing::field::Empty
            );
            continue_from(&span, traceparent);
            span
        }
    )*};
}

spans! {
    /// Making a rank's container.
    prepare = "prepare";
    /// Writing its files and starting it.
    start = "start";
    /// From its start to its end.
    run = "run";
    /// Asking it to end.
    terminate = "terminate";
    /// Ending it.
    kill = "kill";
    /// Saving its logs and removing it.
    remove = "remove";
}

/// Taking in one command.
pub(crate) fn command(name: &str, key: &RankKey, term: u64, sequence: u64, traceparent: Option<&str>) -> Span {
    let span = tracing::info_span!(
        "command", command = name, job = %key.job, rank = key.rank, attempt = key.attempt, term, sequence
    );
    continue_from(&span, traceparent);
    span
}
