use super::*;
use serde_json::json;

fn job() -> Value {
    json!({
        "id": "41", "state": "running", "outcome": null, "reason": "", "application": "gromacs 2021", "name": "fold",
        "owner": "alice", "project": "p1", "product": "cpu/cpu-4", "replicas": 2, "attempt": 2, "ran_ms": 3_720_000,
        "time_limit_ms": 7_200_000, "created_at_ms": 1_772_323_199_000_u64, "started_at_ms": 1_772_323_200_000_u64,
        "ended_at_ms": null
    })
}

#[test]
fn the_cluster() {
    let mut answer = json!({
        "cluster": "uni", "provider": "gok", "version": "0.1.0", "term": 7, "nodes_online": 3, "nodes": 4,
        "jobs_waiting": 1, "jobs_active": 2, "jobs_ended": 3, "owed_to_core": 0, "alarms": []
    });
    let expected = "\
cluster       uni
provider      gok
version       0.1.0
term          7
nodes         3 online of 4
jobs          1 waiting, 2 active, 3 ended
owed to Core  nothing

no alarms
";
    assert_eq!(tables(&Ask::Cluster, answer.clone()).unwrap(), expected);
    answer["role"] = json!("follower");
    answer["leader"] = json!({
        "name": "c2", "operator": "10.0.0.2:8471", "http": "10.0.0.2:8470", "fleet": "http://10.0.0.2:8472", "version": "0.1.0"
    });
    answer["brakes"] = json!([
        {"verdict": "lost", "held": true, "allowed": 3, "used": 3, "waiting": 7},
        {"verdict": "drain", "held": false, "allowed": 3, "used": 0, "waiting": 0}
    ]);
    let shown = tables(&Ask::Cluster, answer.clone()).unwrap();
    let expected = "role          follower\nleader        c2 at 10.0.0.2:8471\nterm          7\n";
    assert!(shown.contains(expected) && shown.contains("held back     7 lost\n"), "{shown}");
    answer["alarms"] = json!(["Core has not answered for 2 h"]);
    assert!(tables(&Ask::Cluster, answer).unwrap().ends_with("\nalarms\n  Core has not answered for 2 h\n"));
}

#[test]
fn the_nodes() {
    let answer = json!([{
        "name": "n1", "state": "online", "heard_ms_ago": 1200, "engine": "docker 29.5", "version": "0.1.0",
        "network_zone": "a", "cores": 64, "cores_used": 8, "memory_bytes": 274_877_906_944_u64,
        "memory_bytes_used": 1_610_612_736, "gpus": 2, "gpus_used": 0, "categories": [], "labels": {"rack": "3"},
        "admission": "draining", "drain_ends_in_ms": 570_000,
        "ranks": ["41/0", "41/1"], "unknown_ranks": ["9/0"]
    }, {
        "name": "node-2", "state": "offline", "heard_ms_ago": null, "engine": "process", "version": "0.1.0",
        "network_zone": "a", "cores": 4, "cores_used": 0, "memory_bytes": 0,
        "memory_bytes_used": 0, "gpus": 0, "gpus_used": 0, "categories": ["cpu", "gpu"], "labels": {},
        "ranks": [], "unknown_ranks": []
    }]);
    let expected = "\
NAME    STATE    ADMISSION                    HEARD  ENGINE        CORES             MEMORY   GPUS  RANKS  ZONE  CATEGORIES  LABELS  VERSION
n1      online   draining, 9 min 30 s left  1 s ago  docker 29.5  8 / 64  1.5 GiB / 256 GiB  0 / 2      2  a     all         rack=3  0.1.0
node-2  offline  schedulable                  never  process       0 / 4          0 B / 0 B  0 / 0      0  a     cpu,gpu     -       0.1.0

n1 has containers that no job here accounts for, left alone: 9/0
";
    assert_eq!(tables(&Ask::Nodes, answer).unwrap(), expected);
}

#[test]
fn the_brakes() {
    let brakes = json!([
        {"verdict": "lost", "held": true, "allowed": 3, "used": 3, "waiting": 7},
        {"verdict": "drain", "held": false, "allowed": 12, "used": 1, "waiting": 0, "released_for_ms": 240_000}
    ]);
    let expected = "\
VERDICT  STATE                    USED  ALLOWED  WAITING
lost     held                        3        3        7
drain    released for 4 min 00 s     1       12        0

7 jobs are held back: find out why so many are hit at once, then `muster brake release lost`
";

    assert_eq!(tables(&Ask::Release(None), brakes.clone()).unwrap(), expected);
    let cluster = json!({"cluster": "uni", "brakes": brakes});
    assert_eq!(tables(&Ask::Brakes, Ask::Brakes.narrow(cluster)).unwrap(), expected);
}

#[test]
fn what_came_of_an_order() {
    let node = |admission: &str, ranks: &[&str], ends: Option<u64>| {
        let node = json!({
            "name": "n1", "state": "online", "heard_ms_ago": 1200, "engine": "fake", "version": "0.1.0", "network_zone": "a",
            "cores": 64, "cores_used": 8, "memory_bytes": 0, "memory_bytes_used": 0, "gpus": 0, "gpus_used": 0,
            "categories": [], "labels": {}, "ranks": ranks, "unknown_ranks": [], "admission": admission, "drain_ends_in_ms": ends
        });
        tables(&Ask::Node { order: Order::Drain { deadline_ms: ends }, name: "n1".into() }, node).unwrap()
    };
    assert_eq!(node("cordoned", &["1/0"], None), "node n1 is cordoned and takes nothing new; 1 rank on it goes on\n");
    assert_eq!(
        node("draining", &["1/0", "1/1"], Some(600_000)),
        "node n1 is draining and takes nothing new; 2 ranks on it go on, for 10 min 00 s at most\n"
    );
    assert_eq!(node("drained", &[], Some(5)), "node n1 is drained and takes nothing new; nothing is placed on it\n");
    assert_eq!(node("schedulable", &[], None), "node n1 takes ranks again\n");
    let forget = Ask::Node { order: Order::Forget, name: "n1".into() };
    let shown = tables(&forget, json!({"forgotten": "n1"})).unwrap();
    assert!(shown.starts_with("node n1 is forgotten; "), "{shown}");
}

#[test]
fn the_jobs() {
    let mut ended = job();
    ended["id"] = json!("5");
    ended["state"] = json!("ended");
    ended["outcome"] = json!("FAILURE");
    ended["reason"] = json!("node n1 was lost\u{1b}[2J");
    ended["project"] = Value::Null;
    ended["time_limit_ms"] = Value::Null;
    let answer = json!([job(), ended]);
    let expected = "\
ID  STATE          APPLICATION   OWNER       PRODUCT    RANKS         RAN       LIMIT  CREATED               REASON
41  running        gromacs 2021  alice (p1)  cpu/cpu-4      2  1 h 02 min  2 h 00 min  2026-02-28T23:59:59Z  -
5   ended FAILURE  gromacs 2021  alice       cpu/cpu-4      2  1 h 02 min           -  2026-02-28T23:59:59Z  node n1 was lost\\u{1b}[2J
";
    let ask = |all, state: Option<&str>| Ask::Jobs { all, state: state.map(String::from) };
    assert_eq!(tables(&ask(true, None), answer.clone()).unwrap(), expected);
    let ids = |ask: Ask| match ask.narrow(answer.clone()) {
        Value::Array(jobs) => jobs.iter().filter_map(|job| job["id"].as_str().map(String::from)).collect::<Vec<_>>(),
        other => panic!("{other}"),
    };
    assert_eq!(ids(ask(false, None)), ["41"]);
    assert_eq!(ids(ask(true, None)), ["41", "5"]);
    assert_eq!(ids(ask(false, Some("ended"))), ["5"]);
}

#[test]
fn empty_lists_say_so() {
    let empty = || json!([]);
    let jobs = |all, state: Option<&str>| tables(&Ask::Jobs { all, state: state.map(String::from) }, empty()).unwrap();
    assert_eq!(jobs(false, None), "no jobs that have not ended; --all shows those that have\n");
    assert_eq!(jobs(true, None), "no jobs\n");
    assert_eq!(jobs(false, Some("queued")), "no jobs are queued\n");
    assert!(tables(&Ask::Nodes, empty()).unwrap().starts_with("no nodes; "));
}

#[test]
fn the_story_of_a_job() {
    let mut story = job();
    story["argv"] = json!(["mpirun", "-n", "2", "it's"]);
    story["image"] = json!("example.org/gromacs:2021");
    story["ranks"] = json!([
        {"rank": 0, "node": "n1", "state": "running", "detail": "", "host": "j-41-0", "address": "10.0.0.2", "age_ms": 3_720_000},
        {"rank": 1, "node": "n2", "state": "prepared", "detail": "", "host": "j-41-1", "address": null, "age_ms": null}
    ]);
    story["failed_attempts"] = json!([{"attempt": 1, "node": "n3", "reason": "the image cannot be pulled"}]);
    story["updates"] = json!([{"state": "RUNNING", "status": "It runs", "acknowledged": true}]);
    story["charges"] = json!([{"charge_id": "41-1", "periods": 60, "units": 240, "ranks": 2, "acknowledged": false}]);
    let expected = "\
job          41
name         fold
state        running
application  gromacs 2021
image        example.org/gromacs:2021
command      mpirun -n 2 'it'\\''s'
owner        alice (p1)
product      cpu/cpu-4
replicas     2
attempt      2
ran          1 h 02 min of 2 h 00 min
created      2026-02-28T23:59:59Z
started      2026-03-01T00:00:00Z

ranks
RANK  NODE  STATE            AGE  HOST    ADDRESS   DETAIL
   0  n1    running   1 h 02 min  j-41-0  10.0.0.2  -
   1  n2    prepared           -  j-41-1  -         -

failed attempts
ATTEMPT  NODE  REASON
      1  n3    the image cannot be pulled

updates
STATE    CORE KNOWS  STATUS
RUNNING  yes         It runs

charges
CHARGE  PERIODS  UNITS  RANKS  CORE KNOWS
41-1         60    240      2  not yet
";
    assert_eq!(tables(&Ask::Job("41".into()), story).unwrap(), expected);
}
