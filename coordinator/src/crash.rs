//! Named steps at which a test may kill the process (reliability B.3). Compiles to nothing without `crash-points`.

/// When a step is passed, counted against `MUSTER_CRASH_POINT="<when>/<milestone>[:n]"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Decided, not yet durable.
    BeforeCommit,
    /// Durable, nothing sent yet.
    AfterCommit,
    /// Durable and sent.
    AfterEffects,
    /// Core answered, the driver does not know yet.
    Core,
}

impl When {
    /// The name inside `MUSTER_CRASH_POINT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::AfterEffects => "after-effects",
            Self::Core => "core",
        }
    }
}

/// Kills the process if this is the step, and the time, that the environment names.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn crash_point(_when: When, _milestone: &str) {}

/// Kills the process if this is the step, and the time, that the environment names.
#[cfg(feature = "crash-points")]
#[expect(
    clippy::disallowed_methods,
    reason = "the process is about to be killed; nothing can tell that a kernel took a message"
)]
pub fn crash_point(when: When, milestone: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let wanted = WANTED.get_or_init(|| std::env::var("MUSTER_CRASH_POINT").ok().map(|text| parse(&text)));
    let Some((step, nth)) = wanted else { return };
    let here = step.split_once('/').is_some_and(|(w, m)| w == when.name() && m == milestone);
    if here && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        if when == When::AfterEffects {
            // What was sent is in queues of this process; it counts as sent once the kernel has it.
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        tracing::warn!(step, nth, "crash point reached");
        // As kill -9 does: nothing is flushed, no destructor runs.
        if rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).is_err() {
            std::process::abort();
        }
    }
}

/// `step[:n]`; the first time if no number is given.
#[cfg(feature = "crash-points")]
fn parse(text: &str) -> (String, u64) {
    match text.rsplit_once(':').and_then(|(step, nth)| Some((step, nth.parse().ok()?))) {
        Some((step, nth)) => (step.to_owned(), nth),
        None => (text.to_owned(), 1),
    }
}

#[cfg(all(test, feature = "crash-points"))]
mod tests {
    #[test]
    fn a_step_is_counted_from_the_first() {
        assert_eq!(super::parse("core/update-answered"), ("core/update-answered".to_owned(), 1));
        assert_eq!(super::parse("after-commit/placed:3"), ("after-commit/placed".to_owned(), 3));
    }
}
