//! Every message survives the wire; nothing a stranger can send does harm.

use super::*;
use crate::{MAX_MESSAGE_BYTES, MAX_REASON_BYTES, MAX_REPORTED_RANKS, v1};
use muster_domain::effect::ToWorker;
use muster_domain::id::{JobId, NodeName, RankKey};
use muster_domain::job::spec::ContainerSpec;
use muster_domain::peers::{PeerFiles, RankAddress, host_name, peer_files};
use muster_domain::rank::{Assignment, Command, RankEnd, RankReport, RankState};
use muster_domain::resources::Resources;
use muster_domain::worker::{Hello, Report};
use proptest::prelude::*;
use prost::Message;

fn key() -> impl Strategy<Value = RankKey> {
    ("[a-zA-Z0-9][a-zA-Z0-9-]{0,39}", any::<u32>(), any::<u32>()).prop_map(|(job, rank, attempt)| RankKey {
        job: JobId::new(job).unwrap(),
        rank,
        attempt,
    })
}

fn end() -> impl Strategy<Value = RankEnd> {
    prop_oneof![
        any::<i32>().prop_map(|code| RankEnd::Exited { code }),
        Just(RankEnd::OutOfMemory),
        any::<i32>().prop_map(|signal| RankEnd::Killed { signal }),
        Just(RankEnd::TimeLimit),
        Just(RankEnd::Stopped),
        Just(RankEnd::Vanished),
        Just(RankEnd::EngineRestarted),
    ]
}

fn state() -> impl Strategy<Value = RankState> {
    prop_oneof![
        Just(RankState::Preparing),
        "[a-z0-9.:]{0,40}".prop_map(|address| RankState::Prepared { address }),
        Just(RankState::Starting),
        Just(RankState::Removed),
        any::<u64>().prop_map(|age_ms| RankState::Running { age_ms }),
        (end(), any::<u64>()).prop_map(|(end, age_ms)| RankState::Ended { end, age_ms }),
        ("[^\0]{0,200}", any::<bool>()).prop_map(|(reason, retry)| RankState::Failed { reason, retry }),
    ]
}

fn rank_report() -> impl Strategy<Value = RankReport> {
    (key(), state(), any::<Option<u64>>()).prop_map(|(key, state, time_limit_ms)| RankReport {
        key,
        state,
        time_limit_ms,
    })
}

fn resources() -> impl Strategy<Value = Resources> {
    (any::<u32>(), any::<u64>(), any::<u32>()).prop_map(|(cores, memory_bytes, gpus)| Resources {
        cores,
        memory_bytes,
        gpus,
    })
}

fn texts() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    proptest::collection::btree_map("[a-zA-Z][a-zA-Z0-9_./]{0,20}", "[^\0]{0,60}", 0..6)
}

fn assignment() -> impl Strategy<Value = Assignment> {
    let container = ("[^\0]{0,80}", proptest::collection::vec("[^\0]{0,60}", 0..8), texts(), any::<(bool, bool)>())
        .prop_map(|(image, argv, env, (in_work_directory, as_root))| ContainerSpec {
            image,
            argv,
            env,
            in_work_directory,
            as_root,
        });
    let traceparent = proptest::option::of(Just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()));
    (key(), any::<u64>(), container, resources(), traceparent).prop_map(
        |(mut key, term, container, resources, trace)| {
            key.rank = key.rank.min(u32::MAX - 1);
            Assignment {
                replicas: key.rank + 1,
                host: host_name(&key.job, key.rank),
                key,
                term,
                container,
                resources,
                traceparent: trace,
            }
        },
    )
}

fn peers() -> impl Strategy<Value = PeerFiles> {
    (key(), 1..40_u32).prop_map(|(key, ranks)| gang(&key.job, ranks))
}

fn gang(job: &JobId, ranks: u32) -> PeerFiles {
    let table: Vec<_> = (0..ranks)
        .map(|rank| RankAddress { host: host_name(job, rank), address: format!("10.1.{}.{}", rank / 250, rank % 250) })
        .collect();
    peer_files(job, 0, 4, &table)
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        assignment().prop_map(|assignment| Command::Prepare(Box::new(assignment))),
        (key(), peers(), any::<Option<u64>>(), any::<u64>()).prop_map(|(key, files, time_limit_ms, not_after_ms)| {
            Command::Start { key, files, time_limit_ms, not_after_ms }
        }),
        (key(), any::<Option<u64>>()).prop_map(|(key, time_limit_ms)| Command::SetTimeLimit { key, time_limit_ms }),
        key().prop_map(|key| Command::Stop { key }),
        key().prop_map(|key| Command::Remove { key }),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    let names = ("[a-z0-9][a-z0-9._-]{0,62}", "[a-f0-9-]{0,36}", "[^\0]{0,60}", "[a-z]{0,10}");
    let lists =
        (proptest::collection::vec("[^\0]{0,40}", 0..4), texts(), proptest::collection::vec(rank_report(), 0..6));
    (names, lists, resources(), any::<(u64, u64)>()).prop_map(
        |((node, boot_id, network_zone, engine), (categories, labels, ranks), capacity, (last_term, sent_at_ms))| {
            Hello {
                node: NodeName::new(node).unwrap(),
                boot_id,
                capacity,
                categories,
                labels,
                network_zone,
                engine_version: format!("{engine} 1"),
                engine,
                version: "0.1.0".to_owned(),
                last_term,
                sent_at_ms,
                ranks,
            }
        },
    )
}

fn uplink() -> impl Strategy<Value = Uplink> {
    let report = (any::<(u64, u64, bool, bool)>(), proptest::collection::vec(rank_report(), 0..6)).prop_map(
        |((sent_at_ms, applied_sequence, complete, engine_ok), ranks)| {
            Uplink::Report(Report { sent_at_ms, applied_sequence, complete, ranks, engine_ok })
        },
    );
    prop_oneof![
        hello().prop_map(|hello| Uplink::Hello(Box::new(hello))),
        report,
        (any::<u64>(), "[^\0]{0,60}").prop_map(|(log_id, reason)| Uplink::LogRefused { log_id, reason }),
    ]
}

fn downlink() -> impl Strategy<Value = Downlink> {
    let trace = proptest::option::of("00-[0-9a-f]{32}-[0-9a-f]{16}-01");
    prop_oneof![
        any::<u64>().prop_map(|term| ToWorker::Welcome { term }.into()),
        (any::<(u64, u64)>(), command(), trace).prop_map(|((sequence, term), command, traceparent)| Downlink::Say {
            message: ToWorker::Command { sequence, term, command },
            traceparent,
        }),
        any::<(u64, u64)>().prop_map(|(sent_at_ms, term)| ToWorker::Heard { sent_at_ms, term }.into()),
        (any::<u64>(), key()).prop_map(|(log_id, key)| Downlink::OpenLog { log_id, key }),
        "[^\0]{0,60}".prop_map(|reason| Downlink::Refused { reason }),
        ("[^\0]{0,60}", any::<u64>()).prop_map(|(address, term)| Downlink::Redirect { address, term }),
    ]
}

fn log_push() -> impl Strategy<Value = LogPush> {
    prop_oneof![
        any::<u64>().prop_map(|log_id| LogPush::Open { log_id }),
        (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..100)).prop_map(|(err, data)| LogPush::Piece {
            source: if err { LogSource::Stderr } else { LogSource::Stdout },
            data: data.into(),
        }),
        proptest::option::of("[^\0]{1,60}").prop_map(|error| LogPush::End { error }),
    ]
}

/// Through the bytes and back.
fn carried<W: Message + Default, D: Into<W> + TryFrom<W, Error = Malformed>>(value: D) -> Result<D, Malformed> {
    let wire: W = value.into();
    D::try_from(W::decode(wire.encode_to_vec().as_slice()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_a_worker_says_arrives(uplink in uplink()) {
        prop_assert_eq!(carried::<v1::SessionRequest, _>(uplink.clone()), Ok(uplink));
    }

    #[test]
    fn what_the_coordinator_says_arrives(downlink in downlink()) {
        prop_assert_eq!(carried::<v1::SessionResponse, _>(downlink.clone()), Ok(downlink));
    }

    #[test]
    fn a_log_arrives(push in log_push()) {
        prop_assert_eq!(carried::<v1::PushLogRequest, _>(push.clone()), Ok(push));
    }

    /// Whatever decodes is either good, and then survives another round, or an error; it is never a panic.
    #[test]
    fn noise_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(wire) = v1::SessionRequest::decode(bytes.as_slice())
            && let Ok(uplink) = Uplink::try_from(wire)
        {
            prop_assert_eq!(carried::<v1::SessionRequest, _>(uplink.clone()), Ok(uplink));
        }
        if let Ok(wire) = v1::SessionResponse::decode(bytes.as_slice())
            && let Ok(downlink) = Downlink::try_from(wire)
        {
            prop_assert_eq!(carried::<v1::SessionResponse, _>(downlink.clone()), Ok(downlink));
        }
    }
}

fn one_key() -> RankKey {
    RankKey { job: JobId::new("54112").unwrap(), rank: 0, attempt: 1 }
}

fn ordered(order: v1::command::Order) -> Malformed {
    let command = v1::Command { sequence: 1, term: 1, traceparent: String::new(), order: Some(order) };
    let message = Some(v1::session_response::Message::Command(command));
    Downlink::try_from(v1::SessionResponse { message }).unwrap_err()
}

fn reported(report: v1::RankReport) -> Malformed {
    let report = v1::Report { ranks: vec![report], ..Default::default() };
    let message = Some(v1::session_request::Message::Report(report));
    Uplink::try_from(v1::SessionRequest { message }).unwrap_err()
}

#[test]
fn an_error_names_the_field() {
    let missing = Uplink::try_from(v1::SessionRequest { message: None }).unwrap_err();
    assert_eq!(missing.field, "message");
    let stop = v1::Stop { key: Some(v1::RankKey { job: "../etc".to_owned(), rank: 0, attempt: 1 }) };
    assert_eq!(
        ordered(v1::command::Order::Stop(stop)).to_string(),
        "fleet message: field command.stop.key.job: job id \"../etc\" is not usable: expected 1 to 40 letters, digits \
         or '-', beginning with a letter or digit"
    );
    assert_eq!(ordered(v1::command::Order::Remove(v1::Remove { key: None })).field, "command.remove.key");
    assert_eq!(
        ordered(v1::command::Order::Prepare(v1::Prepare { assignment: None })).field,
        "command.prepare.assignment"
    );
}

#[test]
fn unknown_values_of_enums_are_refused() {
    for kind in [0, 7, -1, i32::MAX] {
        let state = v1::rank_report::State::Ended(v1::RankEnded { kind, ..Default::default() });
        let report = v1::RankReport { key: Some(one_key().into()), time_limit_ms: None, state: Some(state) };
        let error = reported(report);
        assert_eq!(error.field, "report.ranks[0].ended.kind");
        assert!(error.problem.contains(&kind.to_string()), "{error}");
    }
    let report = v1::RankReport { key: Some(one_key().into()), time_limit_ms: None, state: None };
    assert_eq!(reported(report).field, "report.ranks[0].state");
    for source in [0, 3] {
        let piece = v1::LogPiece { source, data: bytes::Bytes::new() };
        let message = Some(v1::push_log_request::Message::Piece(piece));
        assert_eq!(LogPush::try_from(v1::PushLogRequest { message }).unwrap_err().field, "piece.source");
    }
}

#[test]
fn a_receiver_that_knows_no_restarts_of_engines_reads_that_the_rank_vanished() {
    let state = RankState::Ended { end: RankEnd::EngineRestarted, age_ms: 5 };
    let mut report: v1::RankReport = RankReport { key: one_key(), state: state.clone(), time_limit_ms: None }.into();
    assert_eq!(RankReport::try_from(report.clone()).unwrap().state, state);
    let Some(v1::rank_report::State::Ended(ended)) = &mut report.state else { panic!("{report:?}") };
    ended.engine_restarted = false;
    let vanished = RankState::Ended { end: RankEnd::Vanished, age_ms: 5 };
    assert_eq!(RankReport::try_from(report.clone()).unwrap().state, vanished);
    // With any other kind the field says nothing.
    let Some(v1::rank_report::State::Ended(ended)) = &mut report.state else { panic!("{report:?}") };
    (ended.engine_restarted, ended.kind) = (true, v1::EndKind::Exited.into());
    let exited = RankState::Ended { end: RankEnd::Exited { code: 0 }, age_ms: 5 };
    assert_eq!(RankReport::try_from(report).unwrap().state, exited);
}

#[test]
fn oversize_lists_and_texts_are_refused() {
    let rank: v1::RankReport = RankReport { key: one_key(), state: RankState::Preparing, time_limit_ms: None }.into();
    let report = v1::Report { ranks: vec![rank; MAX_REPORTED_RANKS + 1], ..Default::default() };
    let message = Some(v1::session_request::Message::Report(report));
    assert_eq!(Uplink::try_from(v1::SessionRequest { message }).unwrap_err().field, "report.ranks");

    let data = bytes::Bytes::from(vec![0; crate::MAX_LOG_PIECE_BYTES + 1]);
    let message = Some(v1::push_log_request::Message::Piece(v1::LogPiece { source: 1, data }));
    assert_eq!(LogPush::try_from(v1::PushLogRequest { message }).unwrap_err().field, "piece.data");

    let failed = v1::RankFailed { reason: "x".repeat(MAX_REASON_BYTES + 1), retry: false };
    let state = Some(v1::rank_report::State::Failed(failed));
    let report = v1::RankReport { key: Some(one_key().into()), time_limit_ms: None, state };
    assert_eq!(reported(report).field, "report.ranks[0].failed.reason");
}

#[test]
fn a_start_cannot_write_outside_of_its_directory_or_forge_host_lines() {
    let start = |files: &[(&str, &str)], hosts: &[(&str, &str)]| {
        let files = v1::PeerFiles {
            files: files.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect(),
            hosts: hosts
                .iter()
                .map(|(address, host)| v1::HostEntry { address: (*address).to_owned(), host: (*host).to_owned() })
                .collect(),
        };
        let key = Some(one_key().into());
        ordered(v1::command::Order::Start(v1::Start { key, files: Some(files), ..Default::default() }))
    };
    for name in ["", ".", "..", "../passwd", "/etc/passwd", "a/b", "a\0b", ".hidden"] {
        assert_eq!(start(&[(name, "x")], &[]).field, "command.start.files.files", "{name:?}");
    }
    for address in ["10.0.0.1 evil", "10.0.0.1\n10.0.0.2", "#"] {
        assert_eq!(start(&[], &[(address, "a")]).field, "command.start.files.hosts.address", "{address:?}");
    }
    for host in ["", "a b", "a\nb", "-a"] {
        assert_eq!(start(&[], &[("10.0.0.1", host)]).field, "command.start.files.hosts.host", "{host:?}");
    }
}

#[test]
fn an_assignment_is_checked() {
    let good = Assignment {
        key: one_key(),
        term: 3,
        container: ContainerSpec::default(),
        resources: Resources::default(),
        replicas: 1,
        host: "j-54112-rank-0".to_owned(),
        traceparent: None,
    };
    let error = |change: &dyn Fn(&mut v1::Assignment)| {
        let mut wire: v1::Assignment = good.clone().into();
        change(&mut wire);
        Assignment::try_from(wire).unwrap_err().field
    };
    assert_eq!(error(&|a| a.replicas = 0), "replicas");
    assert_eq!(error(&|a| a.host = "a/b".to_owned()), "host");
    assert_eq!(error(&|a| a.container = None), "container");
    assert_eq!(error(&|a| a.resources = None), "resources");
    assert_eq!(error(&|a| a.traceparent = "a\nb".to_owned()), "traceparent");
    let container = |a: &mut v1::Assignment| a.container.clone().unwrap_or_default();
    assert_eq!(
        error(&|a| a.container = Some(v1::ContainerSpec { argv: vec!["a\0".to_owned()], ..container(a) })),
        "container.argv"
    );
    assert_eq!(
        error(&|a| {
            let env = [("A=B".to_owned(), String::new())].into();
            a.container = Some(v1::ContainerSpec { env, ..container(a) });
        }),
        "container.env"
    );
}

#[test]
fn long_reasons_are_cut_where_they_are_sent() {
    let state = RankState::Failed { reason: "å".repeat(MAX_REASON_BYTES), retry: true };
    let sent = Uplink::Report(Report {
        ranks: vec![RankReport { key: one_key(), state, time_limit_ms: None }],
        ..Default::default()
    });
    let Ok(Uplink::Report(report)) = carried::<v1::SessionRequest, _>(sent) else { panic!("expected a report") };
    let RankState::Failed { reason, .. } = &report.ranks[0].state else { panic!("expected a failure") };
    assert!(reason.len() <= MAX_REASON_BYTES);
    assert!(reason.ends_with(" ... (cut)"));
}

#[test]
fn the_greatest_messages_fit() {
    let files = gang(&JobId::new("9".repeat(40)).unwrap(), 1000);
    let command = Command::Start { key: one_key(), files, time_limit_ms: None, not_after_ms: 1 };
    let start: v1::SessionResponse = Downlink::from(ToWorker::Command { sequence: 1, term: 1, command }).into();
    let length = start.encoded_len();
    assert!(length < 512 << 10, "{length} bytes for a start");
    let rank: v1::RankReport =
        RankReport { key: one_key(), state: RankState::Running { age_ms: u64::MAX }, time_limit_ms: Some(u64::MAX) }
            .into();
    assert!(rank.encoded_len() * MAX_REPORTED_RANKS < MAX_MESSAGE_BYTES);
}
