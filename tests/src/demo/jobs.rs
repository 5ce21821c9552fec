//! The four jobs of the demo.

use crate::core::{Core, CoreJob, JobRequest, JobState, ProductReference};
use crate::harness::BUSYBOX_IMAGE;
use anyhow::Context;
use std::time::Duration;

/// The seeds' own example of a job, as Core of December 2021 sends it.
const SEED: &str = include_str!("../../../ucloud/tests/vectors/jobs-dec-create-simple.json");

/// Rank 0 greets every other rank by the host names in `/etc/ucloud/node-*.txt` and prints the answers. The others listen
/// on their own host name until the gang is ended.
const GREETING: &str = r#"
files=${UCLOUD_ETC:-/etc/ucloud}
rank=$(cat $files/rank.txt)
host=$(cat $files/node-$rank.txt)
# busybox wants addresses where it binds, and where a machine without namespaces has no host table of the rank's own.
address() { awk -v host=$1 '$2 == host { print $1; exit }' ${UCLOUD_HOSTS:-/etc/hosts}; }
if [ $rank != 0 ]; then
    www=$(pwd)/www-$rank
    mkdir -p $www/cgi-bin
    printf '#!/bin/sh\necho; echo "rank %s on %s answers to: $QUERY_STRING"\n' $rank $host > $www/cgi-bin/greet
    chmod 755 $www/cgi-bin/greet
    echo "rank $rank listens on $host"
    exec httpd -f -p $(address $host):7000 -h $www
fi
number=1
while [ $number -lt $(cat $files/number_of_nodes.txt) ]; do
    other=$(cat $files/node-$number.txt)
    name=$other
    [ -z "$UCLOUD_HOSTS" ] || name=$(address $other)
    answer=
    tries=0
    while [ -z "$answer" ] && [ $tries -lt 100 ]; do
        answer=$(wget -q -O - "http://$name:7000/cgi-bin/greet?hello-from-rank-0" 2>/dev/null)
        [ -n "$answer" ] || sleep 0.1
        tries=$((tries + 1))
    done
    echo "$answer"
    number=$((number + 1))
done
"#;

/// Counts until it is ended.
const COUNTING: &str = "n=0; while [ $n -lt 600 ]; do n=$((n + 1)); echo step $n; sleep 1; done";

/// One of the demo's jobs, and what must come of it.
pub(super) struct DemoJob {
    pub(super) id: String,
    pub(super) title: &'static str,
    /// The states as Core must have seen them.
    pub(super) states: &'static [JobState],
    /// What the last words to the user must contain.
    pub(super) words: &'static str,
    /// What rank 0's log must contain.
    pub(super) log: &'static [&'static str],
    /// Whole minutes that must be charged, and for how many ranks; `None` if it ran for less than a minute.
    pub(super) charge: Option<(u64, u64)>,
}

const ENDED_WELL: &[JobState] = &[JobState::Running, JobState::Success];

/// Submits all four.
pub(super) async fn submit(core: &Core) -> anyhow::Result<Vec<DemoJob>> {
    let seed: serde_json::Value = serde_json::from_str(SEED)?;
    let seed = seed.pointer("/0/request/items/0").context("the seed holds a job")?.clone();
    let tiny = ProductReference::new("example-compute-tiny", "example-compute", "example");
    let shell = |name: &str, script: &str| {
        JobRequest::new(BUSYBOX_IMAGE).command(["sh", "-c", script]).name(name).product(&tiny)
    };
    // Enough for the check at submission, one core for one minute; two ranks cost twice that.
    core.set_wallet("poor", "example-compute", Some(1_000_000));

    Ok(vec![
        DemoJob {
            id: core.submit(JobRequest::whole(seed)).await?,
            title: "the seeds' acme-batch",
            states: ENDED_WELL,
            words: "exited with code 0",
            log: &["argument 2 of 3: true", "acme-batch: rank 0 is done: Hello, World!"],
            charge: None,
        },
        DemoJob {
            id: core.submit(shell("greeting", GREETING).replicas(3)).await?,
            title: "3 ranks, rank 0 greets the others over TCP",
            states: ENDED_WELL,
            words: "exited with code 0",
            log: &["rank 1 on j-", "rank 2 on j-", "answers to: hello-from-rank-0"],
            charge: None,
        },
        DemoJob {
            id: core.submit(shell("half way", COUNTING)).await?,
            title: "terminated half way",
            states: ENDED_WELL,
            words: "terminated",
            log: &["step 5"],
            charge: None,
        },
        DemoJob {
            id: core.submit(shell("dry", COUNTING).replicas(2).owner("poor", None)).await?,
            title: "2 ranks, the wallet holds one core-minute",
            states: ENDED_WELL,
            words: "No credits",
            log: &["step 50"],
            charge: Some((1, 2)),
        },
    ])
}

/// Terminates the third half way, and waits for the end of all. Over etcd that is after the kill of the leader.
pub(super) async fn see_to_the_end(core: &Core, jobs: &[DemoJob], over_etcd: bool) -> anyhow::Result<()> {
    let limit = Duration::from_secs(140);
    let half_way = &jobs[2].id;
    let step = if over_etcd { "step 16" } else { "step 5" };
    let counted = |job: &CoreJob| job.state.is_final() || job.log(0).stdout.contains(step);
    core.wait_for(half_way, counted, limit).await?;
    core.terminate(half_way).await?;
    for job in jobs {
        core.wait_for(&job.id, |seen| seen.state.is_final(), limit).await?;
    }
    Ok(())
}
