//! The reckoning: what was promised, held against what was seen.

use super::Calm;
use super::answers::CreateAnswers;
use super::lives::Lives;
use super::load::{Asked, Kind};
use super::nemesis::{Nemesis, Struck};
use super::report::{Line, Outcome};
use crate::core::{CoreJob, JobState};
use crate::harness::{RanksSeen, Reign, Site};
use muster_domain::view::JobView;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A create is answered in under 4 s or refused with 503 by then; the rest is this machine's.
const ANSWERED_WITHIN: Duration = Duration::from_millis(4_500);

/// Everything that was seen.
pub(super) struct Seen {
    pub(super) asked: Vec<Asked>,
    pub(super) answers: CreateAnswers,
    pub(super) reigns: Vec<Reign>,
    pub(super) ranks: RanksSeen,
    pub(super) struck: Vec<Struck>,
    pub(super) calm: Calm,
}

/// A job that was accepted, as Core sees it in the end.
struct Accepted<'a> {
    asked: &'a Asked,
    job: CoreJob,
    /// Its container ended while its engine was away. Docker does not know the exit code then, and says 255.
    code_lost: bool,
}

/// Judges. Wrong things are in the outcome.
///
/// # Errors
/// The operators' API does not answer.
pub(super) async fn judge(site: &Site, seen: &Seen) -> anyhow::Result<Outcome> {
    let ids = || seen.asked.iter().filter_map(|asked| Some((asked, asked.id.as_ref().ok()?)));
    let lost: Vec<String> = ids().filter(|(_, id)| site.core.job(id).is_none()).map(|(_, id)| id.clone()).collect();
    let engine_was_away =
        seen.struck.iter().any(|struck| matches!(struck.nemesis, Nemesis::StopDockerd | Nemesis::KillDockerd));
    let accept = |(asked, id): (_, &String)| {
        let job = site.core.job(id)?;
        Some(Accepted { asked, code_lost: engine_was_away && job.was_told("code 255"), job })
    };
    let accepted: Vec<Accepted<'_>> = ids().filter_map(accept).collect();
    let codes_lost = accepted.iter().filter(|it| it.code_lost).count();
    let views: Vec<JobView> = site.operator("/v1/jobs").await?;
    let views: BTreeMap<String, JobView> = views.into_iter().map(|view| (view.id.clone(), view)).collect();
    let lives = lives(site, &accepted);
    let left = site.rank_source().look().await.live;
    let lines = vec![
        Line::new("no accepted job was lost, and all came to an end", ended(&accepted, lost)),
        Line::new("every job ended as it had to, and was told so", right(&accepted)),
        Line::new("never two of one rank (10 looks a second, and by what ranks wrote)", twice(&seen.ranks, &lives)),
        Line::new(
            "no rank was started again, and each rank 0 did all its work",
            once(&seen.ranks, &accepted, &lives, &views),
        ),
        Line::new("every charge is exact, and nothing else was charged", charged(site, &accepted, &views)),
        Line::new("every create was answered 200 or 503, in time", answered(&seen.answers)),
        Line::new("a create that came twice was answered 200 or 503, and made one job", again(seen, &lives, &views)),
        Line::new("each term had one leader, and terms grew", led(&seen.reigns)),
        Line::new("all jobs were stable within 2 minutes, nothing owed within 5", calm(&seen.calm)),
        Line::new("no rank lives on", left.iter().map(|rank| format!("{rank:?}")).collect()),
    ];
    Ok(Outcome::new(lines, seen, accepted.len(), codes_lost))
}

fn ended(accepted: &[Accepted<'_>], lost: Vec<String>) -> Vec<String> {
    let open = accepted.iter().filter(|it| !it.job.state.is_final());
    let mut wrong: Vec<String> = open.map(|it| format!("job {} is still {:?}", it.job.id, it.job.state)).collect();
    wrong.extend(lost.into_iter().map(|id| format!("Core does not know job {id} any more")));
    wrong
}

fn right(accepted: &[Accepted<'_>]) -> Vec<String> {
    accepted
        .iter()
        .filter(|it| it.job.state.is_final() && !it.code_lost)
        .filter_map(|it| it.asked.kind.wrong(&it.job))
        .collect()
}

/// Of every rank of every accepted job.
fn lives(site: &Site, accepted: &[Accepted<'_>]) -> BTreeMap<(String, u64), Lives> {
    let ranks = accepted.iter().flat_map(|it| (0..it.asked.replicas).map(|rank| (it.job.id.clone(), rank)));
    ranks.map(|(job, rank)| (job.clone(), rank, site.work_folder(&job))).map(of_rank).collect()
}

fn of_rank((job, rank, folder): (String, u64, std::path::PathBuf)) -> ((String, u64), Lives) {
    ((job, rank), Lives::of(&folder, rank))
}

fn twice(seen: &RanksSeen, lives: &BTreeMap<(String, u64), Lives>) -> Vec<String> {
    let mut wrong: Vec<String> = seen.doubles.iter().cloned().collect();
    let overlaps = lives.iter().filter(|(_, lives)| lives.overlap);
    wrong.extend(overlaps.map(|((job, rank), _)| format!("job {job} rank {rank} wrote with two voices")));
    wrong
}

/// An attempt that did not get all its ranks started is undone and tried again, as another attempt: as many starts of a rank
/// as there were attempts are right, and more are not. A job of one attempt wrote as long as it was to run.
fn once(
    seen: &RanksSeen,
    accepted: &[Accepted<'_>],
    lives: &BTreeMap<(String, u64), Lives>,
    views: &BTreeMap<String, JobView>,
) -> Vec<String> {
    let mut wrong = seen.restarts();
    let attempts = |job: &String| views.get(job).map_or(0, |view| view.attempt as usize);
    for ((job, rank), lives) in lives {
        if lives.starts > attempts(job) {
            let (starts, attempts) = (lives.starts, attempts(job));
            wrong.push(format!("job {job} rank {rank} was started {starts} times in {attempts} attempts"));
        }
    }
    for Accepted { asked, job, .. } in accepted.iter().filter(|it| attempts(&it.job.id) == 1 && !it.code_lost) {
        let wrote = lives.get(&(job.id.clone(), 0)).map_or(0, |lives| lives.words);
        if let Some(seconds) = asked.kind.seconds().filter(|seconds| *seconds != wrote) {
            wrong.push(format!("job {} rank 0 wrote {wrote} times in {seconds} s", job.id));
        }
    }
    wrong
}

fn charged(site: &Site, accepted: &[Accepted<'_>], views: &BTreeMap<String, JobView>) -> Vec<String> {
    let mut wrong = Vec::new();
    for Accepted { asked, job, .. } in accepted {
        let charges: Vec<(i64, i64)> =
            site.core.charges_of(&job.id).iter().map(|charge| (charge.units, charge.periods)).collect();
        let minutes = asked.kind.minutes();
        // A job that did not run as it should is told of elsewhere; its charge must fit what it ran.
        let ran = views.get(&job.id).map_or(0, |view| view.ran_ms as i64 / 60_000);
        let due = if asked.kind == Kind::AMinute && job.states() != [JobState::Running, JobState::Success] {
            ran
        } else {
            minutes
        };
        let expected: Vec<(i64, i64)> = (due > 0).then_some((due, asked.replicas as i64)).into_iter().collect();
        if charges != expected || ran != due {
            wrong.push(format!("job {}: {charges:?} instead of {expected:?}; it ran {ran} whole minutes", job.id));
        }
    }
    let ours: BTreeSet<&String> = accepted.iter().map(|it| &it.job.id).collect();
    let strange = site.core.charges().into_iter().filter(|charge| !ours.contains(&charge.job));
    wrong.extend(strange.map(|charge| format!("a charge for a job that was not accepted: {charge:?}")));
    let changed = site.core.repeated_charges().into_iter();
    let changed = changed.filter(|repeated| repeated.amount != repeated.first_amount || !repeated.same_job);
    wrong.extend(changed.map(|repeated| format!("one charge id with two meanings: {repeated:?}")));
    wrong
}

fn answered(answers: &CreateAnswers) -> Vec<String> {
    let mut wrong = answers.odd.clone();
    let slow = answers.slowest();
    if slow > ANSWERED_WITHIN {
        wrong.push(format!("the slowest answer took {} ms", slow.as_millis()));
    }
    wrong
}

/// Creates that were sent again: how they were answered, and that no attempt of any rank had two processes or containers.
fn again(seen: &Seen, lives: &BTreeMap<(String, u64), Lives>, views: &BTreeMap<String, JobView>) -> Vec<String> {
    let mut wrong = Vec::new();
    for asked in &seen.asked {
        let Some(again) = &asked.again else { continue };
        let id = asked.id.as_deref().unwrap_or("that was refused");
        wrong.extend(again.wrong().map(|words| format!("job {id}, sent again {words}")));
        let attempts = views.get(id).map_or(0, |view| view.attempt as usize);
        for rank in 0..asked.replicas {
            let starts = lives.get(&(id.to_owned(), rank)).map_or(0, |lives| lives.starts);
            let none = BTreeSet::new();
            let alive = seen.ranks.lives.get(&(id.to_owned(), rank as u32)).unwrap_or(&none);
            let seen_in = alive.iter().map(|(attempt, _)| attempt).collect::<BTreeSet<_>>().len();
            if starts > attempts || alive.len() > seen_in {
                wrong.push(format!("job {id} rank {rank}: {starts} starts in {attempts} attempts, seen as {alive:?}"));
            }
        }
    }
    wrong
}

fn led(reigns: &[Reign]) -> Vec<String> {
    let mut wrong = Vec::new();
    for pair in reigns.windows(2) {
        if pair[0].term == pair[1].term {
            wrong.push(format!("{} and {} both led in term {}", pair[0].name, pair[1].name, pair[0].term));
        }
        // Terms are sorted: one that began before the one below it went backwards.
        if pair[1].from < pair[0].from {
            wrong.push(format!("term {} came after term {}", pair[0].term, pair[1].term));
        }
    }
    wrong
}

fn calm(calm: &Calm) -> Vec<String> {
    [&calm.stable, &calm.settled].into_iter().filter_map(|it| it.as_ref().err().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reign(term: u64, name: &str, from_ms: u64) -> Reign {
        let from = tokio::time::Instant::now() + Duration::from_millis(from_ms);
        Reign { term, name: name.to_owned(), from, to: from }
    }

    #[test]
    fn two_leaders_in_a_term_and_terms_that_go_back_are_seen() {
        assert!(led(&[reign(3, "a", 0), reign(5, "b", 1_000)]).is_empty());
        assert!(led(&[reign(3, "a", 0), reign(3, "b", 1_000)])[0].contains("both led in term 3"));
        assert!(led(&[reign(3, "a", 1_000), reign(5, "b", 0)])[0].contains("term 3 came after term 5"));
    }

    #[test]
    fn creates_that_are_late_or_answered_otherwise_are_seen() {
        let mut answers = CreateAnswers::default();
        answers.by_status.insert(Some(200), vec![3_900_000]);
        assert!(answered(&answers).is_empty());
        answers.by_status.insert(Some(503), vec![4_600_000]);
        answers.odd.push("no answer".to_owned());
        assert_eq!(answered(&answers).len(), 2);
    }

    #[test]
    fn a_rank_started_more_often_than_there_were_attempts_is_seen() {
        let lives = BTreeMap::from([(("7".to_owned(), 0), Lives { starts: 2, overlap: true, words: 9 })]);
        assert_eq!(once(&RanksSeen::default(), &[], &lives, &BTreeMap::new()).len(), 1);
        assert_eq!(twice(&RanksSeen::default(), &lives).len(), 1);
    }
}
