//! The road of design section 3: accepted, reserved, prepared, started together, found each other, ended, told, freed.

use super::{LIMIT, last_words, on_both_engines, run, shell, written};
use muster_domain::view::NodeView;
use muster_tests::core::{JobRequest, JobState};
use muster_tests::harness::{BUSYBOX_IMAGE, Engine, Site, SiteOptions};
use serde_json::Value;

on_both_engines! {
    the_seeds_job_runs_as_the_seeds_say;
    twenty_three_ranks_on_three_workers_find_each_other;
    arguments_and_environment_arrive_to_the_letter;
    logs_are_live_and_apart;
    the_time_allocation_is_extended;
    a_bulk_runs_whole;
    a_job_waits_for_room_and_says_why;
}

async fn the_seeds_job_runs_as_the_seeds_say(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 1)).await?;
    let vector = include_str!("../../../ucloud/tests/vectors/jobs-dec-create-simple.json");
    let steps: Value = serde_json::from_str(vector)?;
    let job = run(&site, JobRequest::whole(steps[0]["request"]["items"][0].clone())).await?;
    assert_eq!(job.states(), [JobState::Running, JobState::Success]);
    assert!(last_words(&job).contains("exited with code 0"), "{}", last_words(&job));
    site.wait_until_settled(LIMIT).await?;
    let output = written(&site, &job.id, "stdout.txt");
    let arguments: Vec<&str> = output.lines().take(3).collect();
    assert_eq!(
        arguments,
        ["argument 1 of 3: --debug", "argument 2 of 3: true", "argument 3 of 3: Hello, World!"],
        "{output}"
    );
    assert!(written(&site, &job.id, "stderr.txt").contains("debug is on"));
    let story = site.story(&job.id).await?;
    assert_eq!((story.job.state.as_str(), story.job.outcome.as_deref()), ("ended", Some("SUCCESS")));
    assert!(story.updates.iter().all(|update| update.acknowledged));
    assert_eq!(story.ranks[0].detail, "exit code 0");
    site.stop().await
}

async fn twenty_three_ranks_on_three_workers_find_each_other(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 3)).await?;
    // Every rank checks the files for itself and asks that every name resolves; rank 0 waits for the others' word.
    let script = r#"
        files=/etc/ucloud
        rank=$(cat $files/rank.txt)
        count=$(cat $files/number_of_nodes.txt)
        [ $count = 23 ] || exit 11
        [ $(cat $files/cores.txt) = 1 ] || exit 12
        [ $(sort -u $files/nodes.txt | grep -c .) = 23 ] || exit 13
        for number in $(seq 0 22); do
            host=$(cat $files/node-$number.txt)
            grep -q "[[:space:]]$host" /etc/hosts || exit 14
        done
        [ "$(hostname)" = "$(cat $files/node-$rank.txt)" ] || exit 15
        if echo x 2>/dev/null > $files/rank.txt; then exit 16; fi
        echo "$rank of $count in job $(cat $files/job_id.txt)" > /work/rank-$rank
        while [ $rank = 0 ] && [ $(ls /work | grep -c '^rank-') -lt 23 ]; do sleep 0.1; done
    "#;
    let id = site.core.submit(shell(script).replicas(23)).await?;
    site.core.wait_for(&id, |job| job.state == JobState::Running || job.state.is_final(), LIMIT).await?;
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await?;
    assert!(last_words(&job).contains("exited with code 0"), "{}", last_words(&job));
    for rank in 0..23 {
        assert_eq!(written(&site, &id, &format!("rank-{rank}")), format!("{rank} of 23 in job {id}\n"));
    }
    let story = site.story(&id).await?;
    for node in ["node-1", "node-2", "node-3"] {
        assert!(story.ranks.iter().any(|rank| rank.node == node), "{node} took no rank");
    }
    site.wait_until_settled(LIMIT).await?;
    let nodes: Vec<NodeView> = site.operator("/v1/nodes").await?;
    assert!(nodes.iter().all(|node| node.cores_used == 0));
    site.stop().await
}

async fn arguments_and_environment_arrive_to_the_letter(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 1)).await?;
    let odd = ["two  blanks", "it's \"quoted\"", "$HOME `id` ; rm", "", "tab\tand\nline", "æøå ☃", "--flag=*"];
    let script = r#"printf '%s\n' "$#" > /work/count; printf '<%s>' "$@" > /work/arguments; printf '%s' "$GREETING" > /work/greeting"#;
    let words: Vec<&str> = ["sh", "-c", script, "sh"].into_iter().chain(odd).collect();
    let request = JobRequest::new(BUSYBOX_IMAGE).command(words).environment("GREETING", "a b $x 'c'");
    let job = run(&site, request).await?;
    assert!(last_words(&job).contains("code 0"), "{}", last_words(&job));
    let expected: String = odd.iter().map(|word| format!("<{word}>")).collect();
    assert_eq!(written(&site, &job.id, "count").trim(), "7");
    assert_eq!(written(&site, &job.id, "arguments"), expected);
    assert_eq!(written(&site, &job.id, "greeting"), "a b $x 'c'");
    site.stop().await
}

async fn logs_are_live_and_apart(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 2)).await?;
    let script = r#"
        rank=$(cat /etc/ucloud/rank.txt)
        echo "out of $rank"
        echo "err of $rank" >&2
        while [ ! -e /work/go ]; do sleep 0.1; done
        echo "end of $rank"
    "#;
    let id = site.core.submit(shell(script).replicas(2)).await?;
    let heard = |rank: u32| {
        move |job: &muster_tests::core::CoreJob| {
            let log = job.log(rank);
            log.stdout == format!("out of {rank}\n") && log.stderr == format!("err of {rank}\n")
        }
    };
    // While the ranks still run and wait for us.
    site.core.wait_for(&id, heard(0), LIMIT).await?;
    site.core.wait_for(&id, heard(1), LIMIT).await?;
    std::fs::write(site.work_folder(&id).join("go"), "")?;
    let whole = |job: &muster_tests::core::CoreJob| {
        (0..2).all(|rank| job.log(rank).stdout.ends_with(&format!("end of {rank}\n")))
    };
    let job = site.core.wait_for(&id, move |job| whole(job) && job.state.is_final(), LIMIT).await?;
    assert_eq!(job.log(1).stdout, "out of 1\nend of 1\n");
    site.stop().await
}

async fn the_time_allocation_is_extended(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 1)).await?;
    let script = "while [ ! -e /work/go ]; do sleep 0.1; done";
    let id = site.core.submit(shell(script).time_allocation(0, 0, 20)).await?;
    let running = site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await?;
    site.core.extend(&id, 0, 5, 0).await?;
    site.core.extend(&id, 0, 0, 30).await?;
    let all = Some(20_000 + 300_000 + 30_000);
    site.core.wait_for(&id, |job| job.allocation == all, LIMIT).await?;
    let ran_past = move |story: &muster_domain::view::JobStory| story.job.ran_ms > 21_000 || story.job.state == "ended";
    let story = site.wait_for_operator(&format!("/v1/jobs/{id}"), ran_past, LIMIT).await?;
    assert_eq!(story.job.state, "running", "it outlived its first allocation: {running:?}");
    std::fs::write(site.work_folder(&id).join("go"), "")?;
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await?;
    assert_eq!(job.state, JobState::Success);
    site.stop().await
}

async fn a_bulk_runs_whole(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 2)).await?;
    let requests: Vec<JobRequest> = (0..6).map(|number| shell(&format!("echo {number} > /work/number"))).collect();
    let ids = site.core.submit_bulk(&requests).await?;
    for (number, id) in ids.iter().enumerate() {
        let job = site.core.wait_for(id, |job| job.state.is_final(), LIMIT).await?;
        assert_eq!(job.state, JobState::Success);
        assert_eq!(written(&site, id, "number"), format!("{number}\n"));
    }
    site.stop().await
}

async fn a_job_waits_for_room_and_says_why(engine: Engine) -> anyhow::Result<()> {
    let site = Site::start(SiteOptions::new(engine, 1)).await?;
    let first = site.core.submit(shell("while [ ! -e /work/go ]; do sleep 0.1; done").replicas(8)).await?;
    site.core.wait_for(&first, |job| job.state == JobState::Running, LIMIT).await?;
    let second = site.core.submit(shell("true")).await?;
    let told = site.core.wait_for(&second, |job| !job.history.is_empty(), LIMIT).await?;
    assert!(last_words(&told).contains("0 of 1 ranks would fit now"), "{}", last_words(&told));
    assert_eq!(told.state, JobState::InQueue);
    std::fs::write(site.work_folder(&first).join("go"), "")?;
    let done = site.core.wait_for(&second, |job| job.state.is_final(), LIMIT).await?;
    assert_eq!(done.state, JobState::Success);
    site.wait_until_settled(LIMIT).await?;
    site.stop().await
}
