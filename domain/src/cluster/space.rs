//! What the store's space allows, and what is forgotten when: at the end of its retention, or early when space is short.

use super::Cluster;
use crate::effect::{DocumentKey, Effect, Milestone};
use crate::id::JobId;
use crate::time::{Moment, Now};

/// Shares of the store's budget, in percent: where operators are told, and where new jobs are refused.
const STORE_ALARM_PERCENT: u64 = 60;
const STORE_FULL_PERCENT: u64 = 80;
/// While the store is nearly full, ended jobs are kept no longer than this.
const KEPT_WHEN_FULL_MS: u64 = 24 * 60 * 60_000;
/// Jobs forgotten early in one decision.
const MOST_SWEPT: usize = 100;
/// The time between two such decisions.
const SWEEP_AGAIN_MS: u64 = 1_000;

/// Early forgetting while the store is nearly full.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// When it goes on, while there may be something to forget.
    pub(super) due: Option<Moment>,
    /// Whether the last tick was spent on it, so that the next one is not.
    just_swept: bool,
}

impl Cluster {
    /// What is accepted must stay writable to its end: before the store is full, nothing new is accepted (reliability B.5).
    pub(super) fn on_store_space(&mut self, now: Now, used_bytes: u64, budget_bytes: u64) {
        let share = |percent: u64| used_bytes >= budget_bytes / 100 * percent;
        self.store_is_full = share(STORE_FULL_PERCENT);
        self.sweep.due = self.store_is_full.then_some(now.moment);
        if used_bytes >= budget_bytes {
            self.alarm(
                "the store has no room left: new jobs are refused, and jobs that ended more than a day ago are forgotten; \
                 compact and defragment it and clear its alarm, or raise its quota and the budget"
                    .to_owned(),
            );
        } else if share(STORE_ALARM_PERCENT) {
            let what = if self.store_is_full {
                "new jobs are refused, and jobs that ended more than a day ago are forgotten"
            } else {
                "new jobs are refused at 80 %"
            };
            self.alarm(format!(
                "the store takes {} MiB of the {} MiB it may take, {what}; compact and defragment it, or raise its quota \
                 and the budget",
                used_bytes >> 20,
                budget_bytes >> 20
            ));
        }
    }

    /// Forgets some of the oldest ended jobs, if the store is nearly full. Answers whether it did: then the decision has
    /// removals only, which a store takes that takes nothing else any more (reliability F10), and must stay so.
    pub(super) fn sweep(&mut self, now: Now) -> bool {
        let due = self.sweep.due.is_some_and(|due| due <= now.moment);
        let alone = self.writes.is_empty() && self.effects.iter().all(|effect| matches!(effect, Effect::Alarm { .. }));
        if !due || self.sweep.just_swept || !alone {
            self.sweep.just_swept = false;
            return false;
        }
        let retention_ms = self.settings.retention_ms;
        let is_old =
            |until_ms: u64| until_ms.saturating_sub(retention_ms).saturating_add(KEPT_WHEN_FULL_MS) <= now.wall_ms;
        // A job whose containers are not confirmed gone is kept: forgotten, they would be nobody's.
        let old = self.retention.iter().take_while(|(until_ms, _)| is_old(*until_ms));
        let old = old.filter(|(_, id)| !self.holding.contains(id)).take(MOST_SWEPT).cloned();
        let old: Vec<(u64, JobId)> = old.collect();
        self.sweep.due = (old.len() == MOST_SWEPT).then(|| now.moment.plus_ms(SWEEP_AGAIN_MS));
        self.sweep.just_swept = !old.is_empty();
        for entry in &old {
            self.retention.remove(entry);
            self.forget(&entry.1);
        }
        !old.is_empty()
    }

    /// Ended jobs whose time is over.
    pub(super) fn end_retention(&mut self, now: Now) {
        while let Some((wall_ms, id)) = self.retention.first().cloned() {
            if wall_ms > now.wall_ms {
                break;
            }
            self.retention.pop_first();
            self.forget(&id);
        }
        let next = self.retention.first().map(|(wall_ms, _)| wall_ms.saturating_sub(now.wall_ms));
        self.retention_at = next.map(|wait_ms| now.moment.plus_ms(wait_ms.clamp(1_000, 3_600_000)));
    }

    fn forget(&mut self, id: &JobId) {
        if let Some(tracked) = self.jobs.remove(id) {
            if let Some(wake) = tracked.wake {
                self.timers.remove(&(wake, id.clone()));
            }
            if self.holding.remove(id) {
                self.give_room(&tracked.job);
            }
        }
        self.writes.insert(DocumentKey::Job(id.clone()), vec![Milestone::Other]);
    }
}
