//! The coordinator is killed at each step of reliability B.3 and started again: no job is lost, none runs twice, no charge
//! is lost or doubled. The steps are named by the `crash-points` feature, which the test command builds in.

use super::{LIMIT, last_words, shell, written};
use muster_tests::core::{CoreJob, JobState};
use muster_tests::harness::{Engine, Site, SiteOptions};

/// Each rank writes when it begins; rank 0 ends when both have.
const TWO_RANKS: &str = r#"
    rank=$(cat /etc/ucloud/rank.txt)
    echo begun >> /work/begun-$rank
    while [ ! -e /work/begun-1 ] || [ ! -e /work/begun-0 ]; do sleep 0.05; done
    [ $rank = 0 ] || sleep 600
"#;

/// Begins, runs for a whole minute and a little, ends. A busy machine may note late that it began.
const A_MINUTE: &str = "echo begun >> /work/begun-0; sleep 65";

fn at(point: &str) -> Vec<(String, String)> {
    vec![("MUSTER_CRASH_POINT".to_owned(), point.to_owned())]
}

/// A site whose coordinator dies at `point` as soon as the job gets there, and is started again.
async fn through(engine: Engine, point: &str, script: &str, replicas: u64) -> anyhow::Result<(Site, CoreJob)> {
    let mut site = Site::start(SiteOptions::new(engine, 2)).await?;
    // The job is accepted while there is no worker, so that the steps after the create are steps of their own.
    for worker in site.worker_names() {
        site.kill_worker(&worker).await?;
    }
    site.kill_coordinator().await?;
    site.start_coordinator(&at(point)).await?;
    let id = site.core.submit(shell(script).replicas(replicas)).await?;
    for worker in site.worker_names() {
        site.start_worker(&worker)?;
    }
    let mut doomed = site.take_coordinator()?;
    let status = doomed.ended(LIMIT).await?;
    anyhow::ensure!(!status.success(), "{point}: it ended by itself: {}", doomed.log_tail());
    site.start_coordinator(&[]).await?;
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await?;
    site.wait_until_settled(LIMIT).await?;
    Ok((site, job))
}

/// What must be true of a job whatever happened.
async fn nothing_lost_nothing_twice(
    point: &str,
    site: &Site,
    job: &CoreJob,
    replicas: u64,
    minutes: i64,
) -> anyhow::Result<()> {
    anyhow::ensure!(job.states() == [JobState::Running, JobState::Success], "{point}: {:?}", job.history);
    anyhow::ensure!(last_words(job).contains("code 0"), "{point}: {}", last_words(job));
    for rank in 0..replicas {
        let begun = written(site, &job.id, &format!("begun-{rank}"));
        anyhow::ensure!(begun == "begun\n", "{point}: rank {rank} began {begun:?}");
    }
    let story = site.story(&job.id).await?;
    anyhow::ensure!(story.job.attempt == 1, "{point}: {} attempts", story.job.attempt);
    let charges = site.core.charges_of(&job.id);
    let charged: i64 = charges.iter().map(|charge| charge.units).sum();
    anyhow::ensure!(charged == minutes, "{point}: charged {charged} instead of {minutes}: {charges:?}");
    for repeated in site.core.repeated_charges() {
        anyhow::ensure!(repeated.amount == repeated.first_amount, "{point}: an amount changed: {repeated:?}");
    }
    Ok(())
}

/// The steps that a job passes while it starts and ends.
const STEPS: [&str; 6] = ["placed", "prepared", "running", "stopping", "ended", "released"];

/// Two sites at a time.
async fn gangs_survive(engine: &Engine, points: &[String]) {
    for pair in points.chunks(2) {
        let runs = pair.iter().map(|point| async move {
            let (site, job) = through(engine.clone(), point, TWO_RANKS, 2).await?;
            nothing_lost_nothing_twice(point, &site, &job, 2, 0).await?;
            site.stop().await
        });
        for result in futures_util::future::join_all(runs).await {
            result.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_step_of_a_gangs_road() {
    let moments = ["before-commit", "after-commit", "after-effects"];
    let mut points: Vec<String> =
        STEPS.iter().flat_map(|step| moments.map(|moment| format!("{moment}/{step}"))).collect();
    points.extend(
        ["after-effects/accepted", "before-commit/acknowledged", "after-commit/acknowledged"].map(str::to_owned),
    );
    points.extend(["core/update-answered", "core/update-answered:2", "core/update-answered:3"].map(str::to_owned));
    gangs_survive(&Engine::Process, &points).await;
}

/// With containers the moment that matters is between what is durable and what was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_step_of_a_gangs_road_on_docker() {
    let Some(engine) = Engine::docker_for_tests("killed_at_each_step_of_a_gangs_road") else { return };
    let points: Vec<String> = STEPS.iter().map(|step| format!("after-commit/{step}")).collect();
    gangs_survive(&engine, &points).await;
}

/// The steps of money need a whole minute of running; all of them at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_step_of_a_charge() {
    let points = ["before-commit/sealed", "after-commit/sealed", "after-effects/sealed", "core/charge-answered"];
    let runs = points.iter().map(|point| async move {
        let (site, job) = through(Engine::Process, point, A_MINUTE, 1).await?;
        nothing_lost_nothing_twice(point, &site, &job, 1, 1).await?;
        site.stop().await
    });
    for result in futures_util::future::join_all(runs).await {
        result.unwrap();
    }
}

/// The create itself: Core gave up on it, so a job that became durable all the same is an orphan: never charged, and ended
/// when Core has denied it three times over a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_a_create_is_answered() {
    for point in ["before-commit/accepted", "after-commit/accepted"] {
        let mut site = Site::start(SiteOptions::new(Engine::Process, 1)).await.unwrap();
        site.kill_coordinator().await.unwrap();
        site.start_coordinator(&at(point)).await.unwrap();
        site.wait_for_nodes(1).await.unwrap();
        site.core.submit(shell("sleep 600")).await.expect_err("nobody answered");
        site.take_coordinator().unwrap().ended(LIMIT).await.unwrap();
        site.start_coordinator(&[]).await.unwrap();
        let jobs: Vec<muster_domain::view::JobView> = site.operator("/v1/jobs").await.unwrap();
        match jobs.as_slice() {
            [] => assert_eq!(point, "before-commit/accepted"),
            [orphan] => {
                assert_eq!(point, "after-commit/accepted");
                let story = site.wait_for_state(&orphan.id, "ended", LIMIT).await.unwrap();
                assert!(story.job.reason.contains("does not know"), "{}", story.job.reason);
                assert!(site.core.charges().is_empty());
            }
            more => panic!("{point}: {more:?}"),
        }
        site.stop().await.unwrap();
    }
}

/// Core processed a charge and an update, but its answers were lost: the same is sent again, and nothing is booked twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_core_that_are_lost_double_nothing() {
    let site = Site::start(SiteOptions::new(Engine::Process, 1)).await.unwrap();
    site.core.set_faults(muster_tests::core::Faults {
        drop_next_charge_answers: 1,
        drop_next_update_answers: 1,
        ..Default::default()
    });
    let id = site.core.submit(shell(A_MINUTE)).await.unwrap();
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await.unwrap();
    site.wait_until_settled(LIMIT).await.unwrap();
    nothing_lost_nothing_twice("lost answers", &site, &job, 1, 1).await.unwrap();
    assert_eq!(site.core.repeated_charges().len(), 1, "the charge was sent twice under one id");
    site.stop().await.unwrap();
}
