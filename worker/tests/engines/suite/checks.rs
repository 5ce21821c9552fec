//! The checks: what every engine promises.

use super::*;

pub(crate) async fn exit_codes_are_kept(fixture: &impl Fixture) {
    for code in [0, 1, 42, 255] {
        let (end, ..) = run(fixture, &script(fixture, &format!("exit {code}"))).await;
        assert_eq!(end, exited(code));
    }
    let rank = script(fixture, "sleep 0.3");
    let engine = fixture.engine();
    start(&*engine, &rank).await;
    let (end, age_ms) = engine.wait(&rank.key).await.unwrap();
    assert_eq!(end, exited(0));
    assert!((250..5000).contains(&age_ms), "ran {age_ms} ms");
    engine.remove(&rank.key).await.unwrap();
}

pub(crate) async fn output_and_errors_are_separate(fixture: &impl Fixture) {
    let rank = script(fixture, "echo out; echo err >&2; echo out again");
    let (_, stdout, stderr) = run(fixture, &rank).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("out\nout again\n", "err\n"));
    let saved = |name: &str| std::fs::read_to_string(fixture.job_dir(&rank.key.job).join(name)).unwrap();
    assert_eq!((saved("stdout.txt").as_str(), saved("stderr.txt").as_str()), ("out\nout again\n", "err\n"));
}

pub(crate) async fn arguments_and_environment_arrive_as_they_are(fixture: &impl Fixture) {
    let odd = ["two words", "", "a'b\"c", "$HOME `id` \\n ; exit 9", "ø 漢字 🦀", "-n", "line\nbreak", "*"];
    let mut argv = vec!["/bin/sh".to_owned(), "-c".to_owned()];
    argv.push(r#"for word in "$@"; do printf '<%s>' "$word"; done; printf '|%s|' "$ODD"; env | sort"#.to_owned());
    argv.push("name".to_owned());
    argv.extend(odd.map(str::to_owned));
    let mut rank = assignment(fixture, &new_job(), 0, 1, argv);
    rank.container.env.insert("ODD".to_owned(), "$x 'y' \"z\" é".to_owned());
    let (end, stdout, stderr) = run(fixture, &rank).await;
    assert_eq!(end, exited(0), "{stderr}");
    let wanted: String = odd.iter().map(|word| format!("<{word}>")).collect();
    assert!(stdout.starts_with(&format!("{wanted}|$x 'y' \"z\" é|")), "{stdout}");
    for secret_of_the_agent in ["CARGO", "REQUIRE_ALL"] {
        assert!(!stdout.contains(secret_of_the_agent), "{stdout}");
    }
    assert!(stdout.contains(&format!("HOSTNAME={}", rank.host)), "{stdout}");
}

pub(crate) async fn the_working_directory_is_the_jobs_folder(fixture: &impl Fixture) {
    let rank = script(fixture, "pwd; echo made > made.txt; hostname; cat /etc/hostname");
    let (end, stdout, stderr) = run(fixture, &rank).await;
    assert_eq!(end, exited(0), "{stderr}");
    assert_eq!(stdout, format!("/work\n{0}\n{0}\n", rank.host));
    let made = std::fs::read_to_string(fixture.job_dir(&rank.key.job).join("made.txt")).unwrap();
    assert_eq!(made, "made\n");
}

pub(crate) async fn ranks_of_a_job_share_its_folder(fixture: &impl Fixture) {
    let job = new_job();
    let gang = [
        assignment(fixture, &job, 0, 2, shell("echo ready > a.new && mv a.new a")),
        assignment(fixture, &job, 1, 2, shell("until test -e a; do sleep 0.05; done; cat a")),
    ];
    let engine = fixture.engine();
    start_gang(&*engine, &gang).await.unwrap();
    assert_eq!(engine.wait(&gang[1].key).await.unwrap().0, exited(0));
    assert_eq!(read_log(&*engine, &gang[1].key).await.0, "ready\n");
    for rank in &gang {
        engine.remove(&rank.key).await.unwrap();
    }
    let saved = std::fs::read_to_string(fixture.job_dir(&job).join("stdout-1.txt")).unwrap();
    assert_eq!(saved, "ready\n");
}

pub(crate) async fn peer_files_are_there_and_read_only(fixture: &impl Fixture) {
    let job = new_job();
    let look = "cd /etc/ucloud; for name in *; do echo \"[$name]\"; cat $name; done; \
                echo x > rank.txt && echo WRITABLE; echo x > new && echo WRITABLE; rm -f rank.txt && echo WRITABLE; \
                echo x > /etc/hosts && echo WRITABLE; true";
    let gang = [assignment(fixture, &job, 0, 2, shell("true")), assignment(fixture, &job, 1, 2, shell(look))];
    let engine = fixture.engine();
    start_gang(&*engine, &gang).await.unwrap();
    engine.wait(&gang[1].key).await.unwrap();
    let (stdout, _) = read_log(&*engine, &gang[1].key).await;
    let (zero, one) = (host_name(&job, 0), host_name(&job, 1));
    let wanted = format!(
        "[cores.txt]\n1\n[job_id.txt]\n{job}\n[node-0.txt]\n{zero}\n[node-1.txt]\n{one}\n[nodes.txt]\n{zero}\n{one}\n\
         [number_of_nodes.txt]\n2\n[rank.txt]\n1\n"
    );
    assert_eq!(stdout, wanted);
    for rank in &gang {
        engine.remove(&rank.key).await.unwrap();
    }
}

pub(crate) async fn ranks_reach_each_other_by_name_on_the_same_port(fixture: &impl Fixture) {
    let job = new_job();
    let serve = "me=$(cat /etc/ucloud/rank.txt); name=$(cat /etc/ucloud/node-$me.txt); \
                 own=$(busybox awk -v name=$name '$2 == name { print $1; exit }' /etc/hosts); \
                 busybox httpd -f -p $own:17391 -h /etc/ucloud & \
                 for peer in $(cat /etc/ucloud/nodes.txt); do \
                   until answer=$(busybox wget -q -O - http://$peer:17391/rank.txt); do sleep 0.05; done; \
                   echo \"$peer: I am $answer\"; touch done-$me-$peer; \
                 done; \
                 for rank in 0 1; do for peer in $(cat /etc/ucloud/nodes.txt); do \
                   until test -e done-$rank-$peer; do sleep 0.05; done; done; done";
    let gang = [0, 1].map(|rank| assignment(fixture, &job, rank, 2, shell(serve)));
    let engine = fixture.engine();
    start_gang(&*engine, &gang).await.unwrap();
    for rank in &gang {
        assert_eq!(engine.wait(&rank.key).await.unwrap().0, exited(0));
        let (stdout, stderr) = read_log(&*engine, &rank.key).await;
        let wanted = format!("{}: I am 0\n{}: I am 1\n", host_name(&job, 0), host_name(&job, 1));
        assert_eq!(stdout, wanted, "{stderr}");
        engine.remove(&rank.key).await.unwrap();
    }
}

pub(crate) async fn too_much_memory_ends_the_rank(fixture: &impl Fixture) {
    let mut rank = script(fixture, "x=$(busybox head -c 400000000 /dev/zero | busybox tr '\\0' x); echo ${#x}");
    rank.resources.memory_bytes = 64 << 20;
    assert_eq!(run(fixture, &rank).await.0, RankEnd::OutOfMemory);
}

pub(crate) async fn too_many_processes_are_refused(fixture: &impl Fixture) {
    let limit = fixture.pids_limit();
    let fork = format!("n=0; while test $n -lt {}; do n=$((n+1)); busybox sleep 60 & done; echo ALL", limit + 50);
    let rank = script(fixture, &format!("({fork}) 2>&1; busybox true; echo end; kill -9 0"));
    let (_, stdout, stderr) = run(fixture, &rank).await;
    assert!(!stdout.contains("ALL"), "{stdout} {stderr}");
}

pub(crate) async fn a_polite_rank_ends_at_sigterm(fixture: &impl Fixture) {
    let engine = fixture.engine();
    let rank = script(fixture, "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done");
    start(&*engine, &rank).await;
    await_output(&*engine, &rank.key, "ready").await;
    engine.terminate(&rank.key).await.unwrap();
    assert_eq!(engine.wait(&rank.key).await.unwrap().0, exited(5));
    assert!(read_log(&*engine, &rank.key).await.0.ends_with("bye\n"));
    engine.terminate(&rank.key).await.unwrap();
    engine.remove(&rank.key).await.unwrap();
    // A program that knows nothing of SIGTERM ends by it too.
    let rank = assignment(fixture, &new_job(), 0, 1, ["sleep", "600"].map(str::to_owned).to_vec());
    start(&*engine, &rank).await;
    engine.terminate(&rank.key).await.unwrap();
    let end = engine.wait(&rank.key).await.unwrap().0;
    assert!(end == RankEnd::Killed { signal: 15 } || end == exited(143), "{end:?}");
    engine.remove(&rank.key).await.unwrap();
}

pub(crate) async fn a_stubborn_rank_ends_at_sigkill(fixture: &impl Fixture) {
    let engine = fixture.engine();
    let rank = script(fixture, "trap '' TERM; echo ready; while :; do sleep 0.1; done");
    start(&*engine, &rank).await;
    await_output(&*engine, &rank.key, "ready").await;
    engine.terminate(&rank.key).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(500), engine.wait(&rank.key)).await;
    assert!(waited.is_err(), "it takes no notice of SIGTERM");
    engine.kill(&rank.key).await.unwrap();
    let end = engine.wait(&rank.key).await.unwrap().0;
    assert!(end == RankEnd::Killed { signal: 9 } || end == exited(137), "{end:?}");
    engine.kill(&rank.key).await.unwrap();
    engine.remove(&rank.key).await.unwrap();
}

pub(crate) async fn kill_takes_grandchildren_too(fixture: &impl Fixture) {
    let engine = fixture.engine();
    // Two generations down, in a session of its own, deaf to everything, and it touches a file as long as it lives.
    let beat = "busybox setsid /bin/sh -c 'trap \"\" TERM HUP INT; while :; do echo x >> beat; sleep 0.05; done' &";
    let rank = script(fixture, &format!("({beat}) ; until test -e beat; do sleep 0.05; done; echo ready; sleep 600"));
    start(&*engine, &rank).await;
    await_output(&*engine, &rank.key, "ready").await;
    engine.kill(&rank.key).await.unwrap();
    engine.wait(&rank.key).await.unwrap();
    let beat = fixture.job_dir(&rank.key.job).join("beat");
    let size = std::fs::metadata(&beat).unwrap().len();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(std::fs::metadata(&beat).unwrap().len(), size, "a grandchild lives on");
    engine.remove(&rank.key).await.unwrap();
}

pub(crate) async fn a_new_agent_adopts_what_runs(fixture: &impl Fixture) {
    let rank = script(fixture, "echo $$ >> starts; trap 'exit 6' TERM; echo ready; while :; do sleep 0.1; done");
    let first = fixture.engine();
    start(&*first, &rank).await;
    await_output(&*first, &rank.key, "ready").await;
    let Some(Observation::Started { started_at }) = observation(&*first, &rank.key).await else { panic!("it runs") };
    let second = fixture.restarted().await;
    let found = second.list().await.unwrap().into_iter().find(|found| found.key == rank.key).unwrap();
    assert_eq!(found.term, 7);
    let Observation::Started { started_at: seen } = found.observation else { panic!("it runs: {found:?}") };
    assert!(seen.0.abs_diff(started_at.0) < 1000);
    let again = second.start(&rank.key, &PeerFiles::default()).await.unwrap();
    assert!(again.0.abs_diff(started_at.0) < 1000, "a start that was done is not done again");
    let waiting = {
        let (second, key) = (Arc::clone(&second), rank.key.clone());
        async move { second.wait(&key).await }
    };
    let waiting = tokio::spawn(waiting);
    second.terminate(&rank.key).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().0, exited(6));
    let starts = std::fs::read_to_string(fixture.job_dir(&rank.key.job).join("starts")).unwrap();
    assert_eq!(starts.lines().count(), 1, "it was started once");
    second.remove(&rank.key).await.unwrap();
}

pub(crate) async fn a_new_agent_hears_of_an_end_it_missed(fixture: &impl Fixture) {
    let rank = script(fixture, "until test -e go; do sleep 0.05; done; touch gone; exit 23");
    start(&*fixture.engine(), &rank).await;
    let job = fixture.job_dir(&rank.key.job);
    std::fs::write(job.join("go"), "").unwrap();
    while !job.join("gone").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = fixture.restarted().await;
    let seen = observation(&*second, &rank.key).await;
    assert!(matches!(seen, Some(Observation::Ended { end: RankEnd::Exited { code: 23 }, .. })), "{seen:?}");
    assert_eq!(second.wait(&rank.key).await.unwrap().0, exited(23));
    second.remove(&rank.key).await.unwrap();
}

pub(crate) async fn a_missing_image_is_the_jobs_fault(fixture: &impl Fixture) {
    let mut rank = script(fixture, "true");
    rank.container.image = fixture.missing_image();
    let error = fixture.engine().prepare(&rank).await.unwrap_err();
    assert_eq!(error.fault, Fault::Job, "{error}");
    assert!(error.message.contains(&rank.container.image), "{error}");
    fixture.engine().remove(&rank.key).await.unwrap();
    assert_eq!(observation(&*fixture.engine(), &rank.key).await, None);
}

pub(crate) async fn a_missing_command_is_the_jobs_fault(fixture: &impl Fixture) {
    let engine = fixture.engine();
    for command in ["no-such-command", "/no/such/command", "/etc/passwd"] {
        let rank = assignment(fixture, &new_job(), 0, 1, vec![command.to_owned()]);
        let error = start_gang(&*engine, std::slice::from_ref(&rank)).await.unwrap_err();
        assert_eq!(error.fault, Fault::Job, "{error}");
        assert!(error.message.contains(command), "{error}");
        engine.remove(&rank.key).await.unwrap();
        assert_eq!(observation(&*engine, &rank.key).await, None);
    }
}

pub(crate) async fn removing_twice_is_fine_and_logs_stay(fixture: &impl Fixture) {
    let engine = fixture.engine();
    let rank = script(fixture, "echo kept; echo kept too >&2");
    start(&*engine, &rank).await;
    engine.wait(&rank.key).await.unwrap();
    engine.remove(&rank.key).await.unwrap();
    engine.remove(&rank.key).await.unwrap();
    assert_eq!(observation(&*engine, &rank.key).await, None);
    let wanted = ("kept\n".to_owned(), "kept too\n".to_owned());
    assert_eq!(read_log(&*engine, &rank.key).await, wanted);
    assert_eq!(read_log(&*fixture.restarted().await, &rank.key).await, wanted);
    let strange = RankKey { job: new_job(), rank: 0, attempt: 1 };
    engine.remove(&strange).await.unwrap();
    assert!(engine.logs(&strange).next().await.is_some_and(|piece| piece.is_err()));
}

pub(crate) async fn logs_are_followed_live(fixture: &impl Fixture) {
    let engine = fixture.engine();
    let rank = script(fixture, "for n in 1 2 3; do until test -e go-$n; do sleep 0.02; done; echo line $n; done");
    start(&*engine, &rank).await;
    let mut pieces = engine.logs(&rank.key);
    for number in 1..=3 {
        std::fs::write(fixture.job_dir(&rank.key.job).join(format!("go-{number}")), "").unwrap();
        let piece = pieces.next().await.unwrap().unwrap();
        assert_eq!(piece.bytes, format!("line {number}\n"));
    }
    assert!(pieces.next().await.is_none(), "the log ends with the rank");
    engine.remove(&rank.key).await.unwrap();
}

pub(crate) async fn a_flood_of_output_is_bounded_and_marked(fixture: &impl Fixture) {
    let limit = fixture.log_limit_bytes();
    let flood = format!("echo first; busybox yes flood | busybox head -c {}; echo last", 3 * limit);
    let (end, stdout, _) = run(fixture, &script(fixture, &flood)).await;
    assert_eq!(end, exited(0));
    assert!(stdout.len() as u64 <= limit + limit / 2, "{} bytes are kept of {limit}", stdout.len());
    assert!(stdout.contains("bytes dropped ...]"), "the gap is marked");
    assert!(stdout.ends_with("last\n"));
}

pub(crate) async fn a_prepared_rank_is_removed_cleanly(fixture: &impl Fixture) {
    let engine = fixture.engine();
    let rank = script(fixture, "touch ran");
    let address = engine.prepare(&rank).await.unwrap();
    let seen = observation(&*fixture.restarted().await, &rank.key).await;
    assert_eq!(seen, Some(Observation::Prepared { address }));
    assert!(engine.wait(&rank.key).await.is_err());
    engine.terminate(&rank.key).await.unwrap();
    engine.kill(&rank.key).await.unwrap();
    engine.remove(&rank.key).await.unwrap();
    assert_eq!(observation(&*engine, &rank.key).await, None);
    assert!(engine.start(&rank.key, &PeerFiles::default()).await.is_err(), "what is gone is not started");
    assert!(!fixture.job_dir(&rank.key.job).join("ran").exists());
}

pub(crate) async fn every_call_may_be_repeated(fixture: &impl Fixture) {
    let engine = fixture.engine();
    let rank = script(fixture, "echo once >> count; sleep 0.2");
    let address = engine.prepare(&rank).await.unwrap();
    assert_eq!(engine.prepare(&rank).await.unwrap(), address);
    let (one, two) = (Arc::clone(&engine), Arc::clone(&engine));
    let files = PeerFiles::default();
    let (first, second) = tokio::join!(one.start(&rank.key, &files), two.start(&rank.key, &files));
    assert!(first.unwrap().0.abs_diff(second.unwrap().0) < 1000);
    for _ in 0..2 {
        assert_eq!(engine.wait(&rank.key).await.unwrap().0, exited(0));
    }
    let count = std::fs::read_to_string(fixture.job_dir(&rank.key.job).join("count")).unwrap();
    assert_eq!(count, "once\n");
    engine.remove(&rank.key).await.unwrap();
    assert!(!engine.describe().await.unwrap().network_zone.is_empty());
}
