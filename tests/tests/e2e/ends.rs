//! Every way to end has a state of its own and words of its own.

use super::{LIMIT, eventually, last_words, on_both_engines, run, shell, written};
use muster_tests::core::{JobRequest, JobState, ProductReference};
use muster_tests::harness::{BUSYBOX_IMAGE, Engine, Site, SiteOptions};

on_both_engines! {
    an_exit_code_is_told_and_is_no_failure_of_ours;
    the_bad_end_of_one_rank_ends_all;
    memory_that_is_not_there;
    a_killed_rank;
    time_runs_out;
    terminated_by_the_user;
    an_image_that_does_not_exist;
    a_command_that_is_not_in_the_image;
    a_wallet_that_runs_dry;
}

async fn an_exit_code_is_told_and_is_no_failure_of_ours(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 1)).await?;
    let job = run(&site, shell("echo working; exit 42")).await?;
    assert_eq!(job.state, JobState::Success);
    assert!(last_words(&job).contains("code 42"), "{}", last_words(&job));
    site.stop().await
}

async fn the_bad_end_of_one_rank_ends_all(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 2)).await?;
    let script = "[ $(cat /etc/ucloud/rank.txt) = 2 ] && exit 7; sleep 600";
    let job = run(&site, shell(script).replicas(3)).await?;
    assert_eq!(job.states(), [JobState::Running, JobState::Success]);
    assert!(last_words(&job).contains("rank 2") && last_words(&job).contains("7"), "{}", last_words(&job));
    site.wait_until_settled(LIMIT).await?;
    site.stop().await
}

async fn memory_that_is_not_there(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 1)).await?;
    // The machine type has 1 GiB; dd touches every page of its block.
    let job = run(&site, shell("dd if=/dev/zero of=/dev/null bs=1600M count=1")).await?;
    assert_eq!(job.state, JobState::Success);
    assert!(last_words(&job).contains("memory"), "{}", last_words(&job));
    site.stop().await
}

async fn a_killed_rank(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 1)).await?;
    // Not by the rank's first process itself: the kernel shields that one inside its pid namespace.
    let job = run(&site, shell("sh -c 'kill -9 $$'; exit $?")).await?;
    // Docker cannot tell the exit code 137 from the signal 9.
    let words = last_words(&job);
    assert!(words.contains("137") || words.contains("signal 9"), "{words}");
    site.stop().await
}

async fn time_runs_out(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 1)).await?;
    let job = run(&site, shell("echo started; sleep 600").time_allocation(0, 0, 3).replicas(2)).await?;
    assert_eq!(job.states(), [JobState::Running, JobState::Expired]);
    assert!(last_words(&job).contains("time allocation"), "{}", last_words(&job));
    site.stop().await
}

async fn terminated_by_the_user(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 1)).await?;
    let script = "trap 'echo asked to end > /work/last; exit 0' TERM; touch /work/up; while true; do sleep 0.1; done";
    let id = site.core.submit(shell(script)).await?;
    site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await?;
    let up = site.work_folder(&id).join("up");
    eventually("the rank handles SIGTERM", || up.exists()).await;
    site.core.terminate(&id).await?;
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await?;
    assert_eq!(job.state, JobState::Success);
    assert!(last_words(&job).contains("terminated"), "{}", last_words(&job));
    assert_eq!(written(&site, &id, "last"), "asked to end\n", "SIGTERM came first");
    // Again, and for a job that is not known: both are fine.
    site.core.terminate(&id).await?;
    site.stop().await
}

async fn an_image_that_does_not_exist(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 2)).await?;
    let job = run(&site, JobRequest::new("acme/nothing:9").command(["true"]).replicas(2)).await?;
    assert_eq!(job.states(), [JobState::Failure]);
    assert!(last_words(&job).contains("acme/nothing:9"), "{}", last_words(&job));
    assert_eq!(site.story(&job.id).await?.job.attempt, 1, "another node would say the same");
    site.wait_until_settled(LIMIT).await?;
    assert!(site.core.charges_of(&job.id).is_empty());
    site.stop().await
}

async fn a_command_that_is_not_in_the_image(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 1)).await?;
    let job = run(&site, JobRequest::new(BUSYBOX_IMAGE).command(["no-such-command", "x"])).await?;
    assert_eq!(job.states(), [JobState::Failure]);
    assert!(last_words(&job).contains("no-such-command"), "{}", last_words(&job));
    site.stop().await
}

async fn a_wallet_that_runs_dry(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 1)).await?;
    site.core.set_wallet("poor", "example-compute", Some(1_000_000));
    let tiny = ProductReference::new("example-compute-tiny", "example-compute", "example");
    let job = run(&site, shell("sleep 600").replicas(2).owner("poor", None).product(&tiny)).await?;
    assert_eq!(job.states(), [JobState::Running, JobState::Success]);
    assert!(last_words(&job).contains("No credits"), "{}", last_words(&job));
    site.wait_until_settled(LIMIT).await?;
    let charges = site.core.charges_of(&job.id);
    assert_eq!(charges.iter().map(|charge| charge.amount).collect::<Vec<_>>(), [2_000_000]);
    assert_eq!(charges[0].charge_id, format!("{}-example-0", job.id));
    site.stop().await
}
