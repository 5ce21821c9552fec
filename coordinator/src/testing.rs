//! What tests of several modules share.

pub(crate) mod arbiter;
pub(crate) mod etcd;

use muster_domain::cluster::{Cluster, Settings};
use muster_domain::effect::{Documents, Effect, Write};
use muster_domain::event::Event;
use muster_domain::id::{ClusterName, JobId, NodeName, ProviderId};
use muster_domain::job::Job;
use muster_domain::job::spec::{ContainerSpec, JobSpec, Owner, Price};
use muster_domain::product::{Period, ProductRef};
use muster_domain::resources::Resources;
use muster_domain::time::{Moment, Now};
use muster_domain::worker::Hello;
use std::collections::BTreeMap;

pub(crate) fn settings() -> Settings {
    Settings {
        cluster: ClusterName::new("test").unwrap(),
        provider: ProviderId::new("example").unwrap(),
        version: "0".to_owned(),
        attempts: 3,
        offline_after_ms: 6_000,
        lost_after_ms: 1_800_000,
        prepare_timeout_ms: 600_000,
        start_lease_ms: 20_000,
        resend_ms: 5_000,
        retention_ms: 60_000,
        round_up: false,
        no_credit_confirmations: 1,
    }
}

pub(crate) fn spec(id: &str) -> JobSpec {
    JobSpec {
        id: JobId::new(id).unwrap(),
        owner: Owner { created_by: "user".to_owned(), project: None },
        name: None,
        application: "acme-batch 1.0.0".to_owned(),
        product: ProductRef {
            id: "u1-standard-1".to_owned(),
            category: "u1-standard".to_owned(),
            provider: ProviderId::new("example").unwrap(),
        },
        replicas: 1,
        time_limit_ms: Some(3_600_000),
        container: ContainerSpec {
            image: "acme/batch:1.0.0".to_owned(),
            argv: vec!["acme-batch".to_owned(), "--debug".to_owned()],
            ..ContainerSpec::default()
        },
        per_rank: Resources { cores: 1, memory_bytes: 1 << 30, gpus: 0 },
        price: Price { period: Period::Minute, units_per_period: 1, window_periods: 5 },
        traceparent: None,
    }
}

/// Both clocks at a fixed time.
pub(crate) fn noon() -> Now {
    Now { moment: Moment(1_000_000), wall_ms: 1_700_000_000_000 }
}

/// The document of a job that was just accepted.
pub(crate) fn job(id: &str) -> Job {
    let (mut cluster, _) = Cluster::restore(settings(), 1, noon(), Documents::default());
    let effects = cluster.apply(noon(), Event::Create { request: 1, jobs: vec![spec(id)] });
    let written = effects.into_iter().find_map(|effect| match effect {
        Effect::Write { write: Write::Job(job), .. } => Some(*job),
        _ => None,
    });
    written.expect("an accepted job is written")
}

/// What a worker says first.
pub(crate) fn hello(node: &str) -> Hello {
    Hello {
        node: NodeName::new(node).unwrap(),
        boot_id: "boot".to_owned(),
        capacity: Resources { cores: 4, memory_bytes: 1 << 30, gpus: 0 },
        categories: Vec::new(),
        labels: BTreeMap::new(),
        network_zone: "zone".to_owned(),
        engine: "fake".to_owned(),
        engine_version: "1".to_owned(),
        version: "0".to_owned(),
        last_term: 0,
        sent_at_ms: 1,
        ranks: Vec::new(),
    }
}
