//! What only the process engine promises.

use super::{Process, process};
use crate::suite::{Fixture, assignment, await_output, new_job, not_run, observation, run, script, shell, start};
use muster_domain::agent::Observation;
use muster_domain::rank::RankEnd;
use muster_worker::engine::process::{Addresses, Isolation, ProcessSettings};
use muster_worker::engine::{Engine, Fault};
use rustix::process::{Signal, kill_process};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

const ALL: [Isolation; 3] = [Isolation::Namespaces, Isolation::UserNamespaces, Isolation::Plain];

/// The fixture, or a loud word that the check was not run.
fn ready(check: &str, isolation: Isolation, change: impl FnOnce(&mut ProcessSettings)) -> Option<Process> {
    process(isolation, change).map_err(|why| not_run("process", check, &why)).ok()
}

const BEAT: &str = "while :; do echo x >> beat; busybox sleep 0.05; done";

/// Nothing of the rank writes any more.
async fn assert_still(fixture: &Process, job: &muster_domain::id::JobId) {
    let beat = fixture.job_dir(job).join("beat");
    let size = fs::metadata(&beat).unwrap().len();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(fs::metadata(&beat).unwrap().len(), size, "a process of the rank lives on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rank_whose_supervisor_is_killed_has_vanished() {
    for isolation in ALL {
        let Some(fixture) = ready("vanished", isolation, |_| {}) else { continue };
        let rank = script(&fixture, &format!("busybox setsid /bin/sh -c '{BEAT}' & echo ready; {BEAT}"));
        start(&fixture.engine, &rank).await;
        await_output(&fixture.engine, &rank.key, "ready").await;
        let waiting = fixture.engine.wait(&rank.key);
        kill_process(fixture.shim_pid(&rank.key).unwrap(), Signal::KILL).unwrap();
        assert_eq!(waiting.await.unwrap().0, RankEnd::Vanished, "{isolation:?}");
        assert_still(&fixture, &rank.key.job).await;
        let seen = observation(&*fixture.restarted().await, &rank.key).await;
        assert!(matches!(seen, Some(Observation::Ended { end: RankEnd::Vanished, .. })), "{seen:?}");
        fixture.engine.remove(&rank.key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_supervisor_does_not_save_its_rank() {
    for isolation in ALL {
        let Some(fixture) = ready("stuck supervisor", isolation, |_| {}) else { continue };
        let rank = script(&fixture, &format!("busybox setsid /bin/sh -c '{BEAT}' & echo ready; {BEAT}"));
        start(&fixture.engine, &rank).await;
        await_output(&fixture.engine, &rank.key, "ready").await;
        kill_process(fixture.shim_pid(&rank.key).unwrap(), Signal::STOP).unwrap();
        fixture.engine.kill(&rank.key).await.unwrap();
        assert_eq!(fixture.engine.wait(&rank.key).await.unwrap().0, RankEnd::Vanished, "{isolation:?}");
        assert_still(&fixture, &rank.key.job).await;
        fixture.engine.remove(&rank.key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranks_of_another_boot_have_vanished_and_ended_ones_have_not() {
    let Some(fixture) = ready("another boot", Isolation::Namespaces, |_| {}) else { return };
    let [prepared, ended] = ["true", "exit 3"].map(|text| script(&fixture, text));
    fixture.engine.prepare(&prepared).await.unwrap();
    start(&fixture.engine, &ended).await;
    fixture.engine.wait(&ended.key).await.unwrap();
    for key in [&prepared.key, &ended.key] {
        let path = fixture.rank_folder(key).join("rank.json");
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["boot_id"] = "another".into();
        fs::write(path, record.to_string()).unwrap();
    }
    let engine = fixture.restarted().await;
    let seen = observation(&*engine, &prepared.key).await;
    assert_eq!(seen, Some(Observation::Ended { end: RankEnd::Vanished, age_ms: 0 }));
    let seen = observation(&*engine, &ended.key).await;
    assert!(matches!(seen, Some(Observation::Ended { end: RankEnd::Exited { code: 3 }, .. })), "{seen:?}");
    for key in [&prepared.key, &ended.key] {
        engine.remove(key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rank_sees_little_of_the_machine_and_changes_nothing() {
    for isolation in [Isolation::Namespaces, Isolation::UserNamespaces] {
        let Some(fixture) = ready("sandbox", isolation, |_| {}) else { continue };
        let state = fixture.settings.state_dir.display();
        let probe = format!(
            "for path in /usr/x /etc/x /x /sys/x /image/x /proc/sys/kernel/hostname; do \
               (echo x > $path) 2>/dev/null && echo \"WROTE $path\"; done; \
             for path in /etc/shadow /etc/ssh /root/.ssh /home/* /var/lib {state} /dev/vda /dev/mem /dev/kmsg; do \
               test -e $path && echo \"SEES $path\"; done; \
             for pid in /proc/[0-9]*; do echo x; done | busybox wc -l; \
             busybox mount -t tmpfs none /tmp 2>/dev/null && echo MOUNTED; \
             busybox grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | busybox head -1; \
             echo x > /tmp/x && echo x > /dev/shm/x && echo x > /dev/null && echo scratch works; \
             test -d /proc/self/fd && echo proc works; ls /proc/self/fd | busybox tr '\\n' ' '"
        );
        let (end, stdout, stderr) = run(&fixture, &script(&fixture, &probe)).await;
        assert_eq!(end, RankEnd::Exited { code: 0 }, "{stderr}");
        let mut lines = stdout.lines();
        let processes: u32 = lines.next().unwrap().trim().parse().unwrap_or_else(|_| panic!("{stdout}"));
        assert!(processes <= 4, "{isolation:?}: {stdout}");
        assert_eq!(lines.next(), Some("NoNewPrivs:\t1"), "{stdout}");
        assert_eq!(lines.next(), Some("scratch works"), "{stdout} {stderr}");
        assert_eq!(lines.next(), Some("proc works"), "{stdout}");
        // Its three streams, and the folder that is being listed.
        assert_eq!(lines.next(), Some("0 1 2 3 "), "{stdout}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_images_programs_come_first() {
    for isolation in ALL {
        let Some(fixture) = ready("image", isolation, |_| {}) else { continue };
        let bin = fixture.folder.path().join("images/acme/batch/1.0.0/bin");
        for (name, text, mode) in
            [("id", "#!/bin/sh\necho from the image $1\n", 0o755), ("dull", "no program\n", 0o644)]
        {
            fs::write(bin.join(name), text).unwrap();
            fs::set_permissions(bin.join(name), Permissions::from_mode(mode)).unwrap();
        }
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let rank = assignment(&fixture, &new_job(), 0, 1, argv(&["id", "now"]));
        assert_eq!(run(&fixture, &rank).await.1, "from the image now\n", "{isolation:?}");
        let dull = assignment(&fixture, &new_job(), 0, 1, argv(&["dull"]));
        let address = fixture.engine.prepare(&dull).await.unwrap();
        assert!(address.starts_with("127."), "{address}");
        let error = fixture.engine.start(&dull.key, &Default::default()).await.unwrap_err();
        assert_eq!(error.fault, Fault::Job);
        assert!(error.message.contains("`dull` in image acme/batch:1.0.0 cannot be executed"), "{error}");
        fixture.engine.remove(&dull.key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configured_user_runs_the_rank_and_owns_the_folder() {
    let set = |settings: &mut ProcessSettings| settings.user = Some((12345, 12346));
    let Some(fixture) = ready("user", Isolation::Namespaces, set) else { return };
    let rank = script(
        &fixture,
        "echo $(busybox id -u) $(busybox id -g); echo x > mine; cat /etc/ucloud/rank.txt; exec busybox grep CapEff /proc/self/status",
    );
    let (end, stdout, stderr) = run(&fixture, &rank).await;
    assert_eq!(end, RankEnd::Exited { code: 0 }, "{stderr}");
    assert_eq!(stdout, "12345 12346\n0\nCapEff:\t0000000000000000\n", "{stderr}");
    let saved = fixture.job_dir(&rank.key.job).join("stdout.txt");
    for path in [fixture.job_dir(&rank.key.job), fixture.job_dir(&rank.key.job).join("mine"), saved] {
        assert_eq!(fs::metadata(&path).unwrap().uid(), 12345, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_rank_is_told_where_its_files_are() {
    let Some(fixture) = ready("plain", Isolation::Plain, |_| {}) else { return };
    let rank = script(&fixture, "pwd; echo $HOME; cat $UCLOUD_ETC/rank.txt; busybox tail -n 1 $UCLOUD_HOSTS");
    let address = fixture.engine.prepare(&rank).await.unwrap();
    let (_, stdout, stderr) = run(&fixture, &rank).await;
    let folder = fixture.job_dir(&rank.key.job);
    let folder = folder.display();
    assert_eq!(stdout, format!("{folder}\n{folder}\n0\n{address}\t{}\n", rank.host), "{stderr}");
    let info = fixture.engine.describe().await.unwrap();
    assert!(info.warnings.iter().any(|warning| warning.contains("UCLOUD_ETC")), "{info:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_remembered_and_given_back() {
    let base = "127.60.0.0/30".parse().unwrap();
    let few = |settings: &mut ProcessSettings| settings.addresses = Addresses::Loopback { base };
    let Some(fixture) = ready("addresses", Isolation::Namespaces, few) else { return };
    let ranks = [(); 3].map(|()| script(&fixture, "true"));
    let first = fixture.engine.prepare(&ranks[0]).await.unwrap();
    let engine = fixture.restarted().await;
    let second = engine.prepare(&ranks[1]).await.unwrap();
    assert_ne!(first, second);
    let error = engine.prepare(&ranks[2]).await.unwrap_err();
    assert_eq!(error.fault, Fault::Node);
    engine.remove(&ranks[0].key).await.unwrap();
    assert_eq!(engine.prepare(&ranks[2]).await.unwrap(), first);
    assert!(engine.describe().await.unwrap().network_zone.starts_with("loopback-"));
    for rank in &ranks {
        engine.remove(&rank.key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_agent_left_half_done_is_swept() {
    let Some(fixture) = ready("sweep", Isolation::Namespaces, |settings| settings.log_retention = Duration::ZERO)
    else {
        return;
    };
    let ranks = fixture.settings.state_dir.join("ranks");
    fs::create_dir_all(ranks.join(".new-7-0-1/ucloud")).unwrap();
    fs::create_dir_all(ranks.join(".gone-8-0-1")).unwrap();
    fs::create_dir_all(fixture.settings.state_dir.join("logs")).unwrap();
    fs::write(fixture.settings.state_dir.join("logs/9-0-1.stdout.log"), "old").unwrap();
    // One damaged folder does not hide the others, and is left for a person to look at.
    fs::create_dir_all(ranks.join("10-0-1")).unwrap();
    fs::write(ranks.join("10-0-1/rank.json"), "{").unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let engine = fixture.restarted().await;
    let left: Vec<_> = fs::read_dir(&ranks).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["10-0-1"]);
    assert_eq!(fs::read_dir(fixture.settings.state_dir.join("logs")).unwrap().count(), 0);
    assert!(engine.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_traps_in_the_folder_do_not_catch_the_saved_logs() {
    let Some(fixture) = ready("traps", Isolation::Namespaces, |_| {}) else { return };
    let precious = fixture.folder.path().join("precious");
    fs::write(&precious, "untouched").unwrap();
    let trap = format!("echo out; ln -s {} stdout.txt; busybox mkfifo stderr.txt", precious.display());
    let rank = assignment(&fixture, &new_job(), 0, 1, shell(&trap));
    run(&fixture, &rank).await;
    assert_eq!(fs::read_to_string(precious).unwrap(), "untouched");
    let saved = fixture.job_dir(&rank.key.job).join("stdout.txt");
    assert_eq!(fs::read_to_string(saved).unwrap(), "out\n");
}
