//! What Core asks for: create, terminate, extend.

use super::Cluster;
use super::track::Tracked;
use crate::effect::{Milestone, Refusal, RefusalKind};
use crate::event::Extension;
use crate::guard::{self, Guard};
use crate::id::{JobId, RequestId};
use crate::job::spec::JobSpec;
use crate::job::{EndCause, Job, Life};
use crate::outbox::Notice;
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet};

/// Jobs that have not ended: beyond this, creates are asked to come again (I12).
const MOST_OPEN_JOBS: usize = 100_000;
/// Extensions of one job: each leaves a notice in its document (I12).
const MOST_EXTENSIONS: u32 = 200;

impl Cluster {
    /// All or none. A job that is known is fine if the same was asked for then (I3; Core repeats creates).
    pub(super) fn on_create(&mut self, now: Now, request: RequestId, specs: Vec<JobSpec>) {
        let mut fresh: Vec<JobSpec> = Vec::new();
        let mut in_request: BTreeMap<JobId, usize> = BTreeMap::new();
        for (index, spec) in specs.into_iter().enumerate() {
            let earlier = match in_request.get(&spec.id) {
                Some(position) => fresh.get(*position),
                None => self.jobs.get(&spec.id).map(|tracked| &tracked.job.spec),
            };
            match earlier {
                Some(earlier) if earlier.asks_the_same(&spec) && guard::stands(Guard::IdempotentCreate) => {}
                Some(_) => {
                    let why = format!(
                        "items[{index}].id: job {} was accepted before with another specification; a job id is used once",
                        spec.id
                    );
                    return self.reply(request, Err(Refusal { kind: RefusalKind::Conflict, why }));
                }
                None => {
                    in_request.insert(spec.id.clone(), fresh.len());
                    fresh.push(spec);
                }
            }
        }
        if self.store_is_full && !fresh.is_empty() {
            let why = "the provider's store is nearly full; its operator has been told, try again later".to_owned();
            return self.reply(request, Err(Refusal { kind: RefusalKind::Unavailable, why }));
        }
        if self.queue.len() + self.holding.len() + fresh.len() > MOST_OPEN_JOBS {
            let why = format!("more than {MOST_OPEN_JOBS} jobs are open; try again when some have ended");
            return self.reply(request, Err(Refusal { kind: RefusalKind::Unavailable, why }));
        }
        for spec in fresh {
            let id = spec.id.clone();
            let job = Job::new(spec, self.next_sequence, now.wall_ms);
            self.next_sequence += 1;
            self.adopt(now, job);
            self.save(&id, Milestone::Accepted);
        }
        self.reply(request, Ok(()));
    }

    /// Takes a document into the indexes, whether it is new or restored.
    pub(super) fn adopt(&mut self, now: Now, job: Job) {
        let id = job.spec.id.clone();
        if job.life == Life::Queued {
            self.queue.insert(job.sequence, id.clone());
            self.replan = true;
        }
        let tracked = Tracked::new(job, now.moment);
        if tracked.job.life.holds_room() {
            self.take_room(&tracked.job);
            self.holding.insert(id.clone());
        }
        if matches!(tracked.job.life, Life::Running { .. }) {
            self.running += 1;
        }
        self.jobs.insert(id, tracked);
    }

    /// Always answered with success (`protocol.md` 16.5); Core is told FAILURE about a job that is not known.
    pub(super) fn on_terminate(&mut self, now: Now, request: RequestId, ids: &[JobId]) {
        for id in ids {
            if self.jobs.contains_key(id) {
                self.stop(now, id, EndCause::Terminated);
                self.drive(now, id);
            } else {
                self.disown(now, id);
            }
        }
        self.reply(request, Ok(()));
    }

    /// Each wish adds to our present allocation (`protocol.md` 16.12). All or none.
    pub(super) fn on_extend(&mut self, now: Now, request: RequestId, items: &[Extension]) {
        let mut wishes: BTreeMap<&JobId, u32> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let count = wishes.entry(&item.job).or_default();
            *count += 1;
            if let Err((kind, why)) = self.may_extend(item, *count) {
                let why = format!("items[{index}].{why}");
                return self.reply(request, Err(Refusal { kind, why }));
            }
        }
        let mut changed = BTreeSet::new();
        for item in items {
            let Some(tracked) = self.jobs.get_mut(&item.job) else {
                continue;
            };
            let job = &mut tracked.job;
            let Some(limit_ms) = job.time_limit_ms else {
                continue;
            };
            let total_ms = limit_ms.saturating_add(item.add_ms);
            job.time_limit_ms = Some(total_ms);
            job.extensions += 1;
            let unsent = job.notices.len() > job.told as usize + usize::from(tracked.telling.is_some());
            match job.notices.last_mut() {
                // Core only needs the newest total.
                Some(Notice::TimeAllocation { total_ms: last }) if unsent => *last = total_ms,
                _ => job.notices.push(Notice::TimeAllocation { total_ms }),
            }
            changed.insert(item.job.clone());
        }
        for id in &changed {
            self.save(id, Milestone::Other);
            self.drive(now, id);
        }
        self.reply(request, Ok(()));
    }

    fn may_extend(&self, item: &Extension, wishes: u32) -> Result<(), (RefusalKind, String)> {
        let Some(tracked) = self.jobs.get(&item.job) else {
            return Err((RefusalKind::NotFound, format!("job.id: job {} is not known here", item.job)));
        };
        let job = &tracked.job;
        if matches!(job.life, Life::Ended { .. } | Life::Stopping { .. }) {
            return Err((RefusalKind::Invalid, format!("job.id: job {} has ended or is being stopped", item.job)));
        }
        if job.extensions + wishes > MOST_EXTENSIONS {
            let why = format!("job.id: job {} was extended {MOST_EXTENSIONS} times, which is the most", item.job);
            return Err((RefusalKind::Invalid, why));
        }
        Ok(())
    }

    /// Decides a job's end, if it is not decided yet. The caller drives the job afterwards.
    pub(super) fn stop(&mut self, now: Now, id: &JobId, cause: EndCause) {
        let Some(tracked) = self.jobs.get_mut(id) else {
            return;
        };
        let job = &mut tracked.job;
        let milestone = match &job.life {
            Life::Stopping { .. } | Life::Ended { .. } if guard::stands(Guard::OneEnd) => return,
            Life::Queued => {
                self.queue.remove(&job.sequence);
                self.replan = true;
                job.account.settle(&job.spec.price, 0, false);
                Milestone::Ended
            }
            life => {
                self.running -= u64::from(matches!(life, Life::Running { .. }));
                Milestone::Stopping
            }
        };
        job.stop(cause, now.wall_ms);
        tracked.since = now.moment;
        tracked.held_back = None;
        tracked.wait = None;
        self.save(id, milestone);
    }
}
