//! Creates that come twice. A create is repeated by Core itself when it is not answered in time, and by whatever lies between;
//! the same job must come of both.

use crate::core::{CallFailure, Origin, ProviderAnswer, Repeat};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::time::Duration;

/// So many of a hundred creates are sent again.
const REPEATED_PERCENT: u32 = 5;
/// The second one comes at most so long after the first one was accepted, milliseconds. Some jobs have ended by then.
const LATEST_MS: u64 = 3_000;

/// How a create is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    /// Together with the first one.
    AtOnce,
    /// After the job was accepted.
    Afterwards,
    /// To some coordinator itself, at once or afterwards. It may just be down, and nobody asks another one instead.
    Elsewhere,
}

impl How {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::Afterwards => "after the answer",
            Self::Elsewhere => "to any one coordinator",
        }
    }
}

/// What a create that was sent again was told.
#[derive(Clone, Debug)]
pub(super) struct Again {
    pub(super) how: How,
    /// The status, or why there was no answer.
    pub(super) told: Result<u16, Origin>,
    why: String,
}

impl Again {
    /// Whether a create is sent again, and how.
    pub(super) fn choose(coordinators: &[String], random: &mut StdRng) -> Option<(How, Repeat)> {
        if random.random_range(0..100) >= REPEATED_PERCENT {
            return None;
        }
        let how = *[How::AtOnce, How::Afterwards, How::Elsewhere].choose(random)?;
        let wait = Duration::from_millis(random.random_range(0..LATEST_MS));
        let is_later = how == How::Afterwards || how == How::Elsewhere && random.random_bool(0.5);
        let provider_url = if how == How::Elsewhere { coordinators.choose(random).cloned() } else { None };
        Some((how, Repeat { provider_url, after_acceptance: is_later.then_some(wait) }))
    }

    pub(super) fn new(how: How, told: Result<ProviderAnswer, CallFailure>) -> Self {
        match told {
            Ok(answer) => Self { how, told: Ok(answer.status), why: answer.why() },
            Err(failure) => Self { how, told: Err(failure.origin), why: failure.why },
        }
    }

    /// What is wrong with the answer; `None` if it is as it should be.
    pub(super) fn wrong(&self) -> Option<String> {
        let is_fine = match self.told {
            Ok(status) => matches!(status, 200 | 503),
            Err(_) => self.how == How::Elsewhere,
        };
        (!is_fine).then(|| format!("{}: {:?}, {}", self.how.words(), self.told, self.why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_coordinator_that_was_asked_itself_may_be_silent() {
        let again = |how, told| Again { how, told, why: String::new() };
        for how in [How::AtOnce, How::Afterwards, How::Elsewhere] {
            assert_eq!(again(how, Ok(200)).wrong(), None);
            assert_eq!(again(how, Ok(503)).wrong(), None);
            assert!(again(how, Ok(409)).wrong().is_some());
        }
        assert!(again(How::AtOnce, Err(Origin::TimeOut)).wrong().is_some());
        assert_eq!(again(How::Elsewhere, Err(Origin::Connection)).wrong(), None);
    }
}
