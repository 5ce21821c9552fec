use super::backoff::{Backoff, Recovery};
use super::client::{CallError, ClientSettings, CoreClient, Timing};
use super::delivery::{Courier, run};
use super::fake::FakeCore;
use super::outbox::Outbox;
use super::token::RefreshToken;
use crate::election::Validity;
use crate::handle::{Handle, Input};
use crate::metrics::Metrics;
use crate::testing::{job, noon, settings};
use muster_domain::accounting::Charge;
use muster_domain::cluster::Cluster;
use muster_domain::effect::Documents;
use muster_domain::event::{ChargeAnswer, Delivery, Event};
use muster_domain::id::{JobId, ProviderId};
use muster_domain::outbox::Notice;
use muster_domain::time::Moment;
use muster_runtime::secret::Secret;
use muster_ucloud::v2021::job::JobState;
use muster_ucloud::v2021::words::Words;
use serde_json::json;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

fn client(core: &FakeCore, refresh: &str) -> CoreClient {
    muster_runtime::tls::install_provider();
    CoreClient::new(ClientSettings {
        url: format!("http://{}/", core.address),
        refresh_token: RefreshToken::Fixed(Secret::new(refresh)),
        ca_file: None,
        timing: Timing { deadline: Duration::from_secs(2) },
    })
    .unwrap()
}

/// An outbox that delivers to a fake Core, and what the driver hears.
struct Stage {
    core: FakeCore,
    outbox: Outbox,
    heard: mpsc::Receiver<Input>,
    stop: CancellationToken,
    courier: Courier,
    /// Knows job 1000.
    cluster: Cluster,
}

impl Stage {
    async fn new() -> Self {
        let core = FakeCore::start().await;
        let (inputs, heard) = mpsc::channel(1000);
        let (changes, _) = broadcast::channel(1);
        let courier = Courier {
            client: client(&core, "good"),
            handle: Handle::new(inputs, changes),
            metrics: Metrics::new(),
            backoff: Backoff { first: Duration::from_millis(5), most: Duration::from_millis(20) },
            recovery: Recovery::default(),
            validity: Validity::unbounded(),
        };
        let outbox = Outbox::new(Words { provider: ProviderId::new("example").unwrap() });
        let documents = Documents { jobs: vec![job("1000")], nodes: Vec::new() };
        let (cluster, _) = Cluster::restore(settings(), 1, noon(), documents);
        Self { core, outbox, heard, stop: CancellationToken::new(), courier, cluster }
    }

    /// Delivers what waits already and what comes.
    fn deliver(&self) {
        tokio::spawn(run(self.courier.clone(), self.outbox.clone(), self.stop.clone()));
    }

    fn tell(&self, job: &str, number: u32) {
        self.outbox.tell(id(job), number, Notice::Running { nodes: vec!["n1".to_owned()] }, None);
    }

    fn charge(&self, job: &str, window: u32) {
        self.outbox.charge(Charge { job: id(job), window, periods: 5, units_per_period: 4, ranks: 2 }, None);
    }

    async fn hear(&mut self) -> Event {
        loop {
            match tokio::time::timeout(Duration::from_secs(10), self.heard.recv()).await.unwrap().unwrap() {
                Input::Event(event) => return event,
                Input::Query(question) => question(&self.cluster, noon()),
                Input::Call { .. } => panic!("not an event"),
            }
        }
    }

    async fn hear_told(&mut self, count: usize) -> Vec<(String, u32, Delivery)> {
        let mut all = Vec::new();
        for _ in 0..count {
            match self.hear().await {
                Event::Told { job, number, delivery } => all.push((job.to_string(), number, delivery)),
                other => panic!("{other:?}"),
            }
        }
        all.sort_by_key(|(job, number, _)| (job.parse::<u64>().unwrap(), *number));
        all
    }

    async fn hear_charged(&mut self, count: usize) -> Vec<(String, ChargeAnswer)> {
        let mut all = Vec::new();
        for _ in 0..count {
            match self.hear().await {
                Event::Charged { job, window: 3, answer } => all.push((job.to_string(), answer)),
                other => panic!("{other:?}"),
            }
        }
        all.sort_by_key(|(job, _)| job.parse::<u64>().unwrap());
        all
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn updates_go_out_in_batches_with_their_guards() {
    let mut stage = Stage::new().await;
    for job in 1..=120 {
        stage.tell(&job.to_string(), 2);
    }
    stage.outbox.tell(id("121"), 0, Notice::TimeAllocation { total_ms: 60_000 }, None);
    stage.deliver();
    let told = stage.hear_told(121).await;
    assert!(told.iter().all(|(_, _, delivery)| *delivery == Delivery::Accepted));
    let mut sizes: Vec<usize> = stage.core.calls("update").iter().map(Vec::len).filter(|size| *size > 0).collect();
    sizes.sort_unstable();
    assert_eq!(sizes.iter().sum::<usize>(), 121);
    assert!(sizes.iter().all(|size| *size <= 50) && sizes.len() <= 5, "{sizes:?}");
    stage.core.script(|script| {
        let item = script.taken.iter().find(|item| item["id"] == "1").unwrap();
        assert_eq!(item["update"]["state"], "RUNNING");
        assert_eq!(item["update"]["expectedDifferentState"], true);
        let item = script.taken.iter().find(|item| item["id"] == "121").unwrap();
        assert_eq!(item["update"]["newTimeAllocation"], 60_000);
        assert_eq!(item["update"]["state"], json!(null));
    });
}

#[tokio::test]
async fn one_bad_job_does_not_hold_up_the_others() {
    let mut stage = Stage::new().await;
    stage.core.script(|script| {
        script.unknown.insert("17".to_owned());
        script.refused.insert("23".to_owned());
    });
    for job in 1..=40 {
        stage.tell(&job.to_string(), 0);
    }
    stage.outbox.disown(id("17"));
    stage.deliver();
    let told = stage.hear_told(40).await;
    for (job, _, delivery) in told {
        let expected = match job.as_str() {
            "17" => Delivery::UnknownJob,
            "23" => Delivery::Rejected { why: "Unable to use all requested resources (400)".to_owned() },
            _ => Delivery::Accepted,
        };
        assert_eq!(delivery, expected, "job {job}");
    }
    assert!(stage.core.calls("update").len() < 40, "halving takes fewer calls than one each");
}

#[tokio::test]
async fn charges_name_the_seeds_fields_and_an_empty_wallet_is_heard() {
    let mut stage = Stage::new().await;
    stage.core.script(|script| {
        script.broke.insert("2".to_owned());
        script.no_allocation.insert("3".to_owned());
        script.unknown.insert("4".to_owned());
    });
    for job in ["1", "2", "3", "4", "5"] {
        stage.charge(job, 3);
    }
    stage.deliver();
    let answers = stage.hear_charged(5).await;
    let expected = [
        ("1", ChargeAnswer::Booked),
        ("2", ChargeAnswer::InsufficientFunds),
        ("3", ChargeAnswer::InsufficientFunds),
        ("4", ChargeAnswer::UnknownJob),
        ("5", ChargeAnswer::Booked),
    ];
    assert_eq!(answers, expected.map(|(job, answer)| (job.to_owned(), answer)));
    stage.core.script(|script| {
        let item = script.taken.iter().find(|item| item["id"] == "1").unwrap();
        let expected = json!({
            "id": "1", "chargeId": "1-example-3", "units": 20, "numberOfProducts": 2, "periods": 2,
            "performedBy": null, "description": null,
        });
        assert_eq!(*item, expected);
    });
}

#[tokio::test]
async fn an_unavailable_core_is_asked_again_with_the_same_words() {
    let mut stage = Stage::new().await;
    // Also what looks like a verdict but is the fault of our token, of a proxy or of a redirect.
    stage.core.script(|script| script.next.extend([503, 500, 429, 302, 401, 403, 502]));
    stage.charge("1", 3);
    stage.deliver();
    assert_eq!(stage.hear_charged(1).await, [("1".to_owned(), ChargeAnswer::Booked)]);
    let calls = stage.core.calls("chargeCredits");
    assert_eq!(calls.len(), 8);
    assert_eq!(stage.core.script(|script| script.taken.len()), 1);
    stage.tell("1", 0);
    stage.tell("2", 0);
    assert_eq!(stage.hear_told(2).await.len(), 2);
}

#[tokio::test]
async fn a_spent_token_is_renewed_once() {
    let core = FakeCore::start().await;
    let client = client(&core, "good");
    assert!(client.knows(&id("1")).await.unwrap());
    assert!(client.knows(&id("1")).await.unwrap());
    assert_eq!(core.script(|script| script.tokens), 1);
    // Core forgets every token it gave: many callers notice, one fetches.
    core.script(|script| script.tokens = 10);
    let calls = (0..20).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.knows(&id("1")).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap().unwrap());
    }
    assert_eq!(core.script(|script| script.tokens), 11);
}

#[tokio::test]
async fn a_refused_refresh_token_is_said_and_concludes_nothing() {
    let core = FakeCore::start().await;
    let client = client(&core, "secret-and-wrong");
    let error = client.knows(&id("1")).await.unwrap_err();
    let CallError::Unavailable(why) = error else { panic!("{error:?}") };
    assert!(why.contains("403") && why.contains("core.refresh_token_file"), "{why}");
    assert!(!why.contains("secret-and-wrong"));
    assert!(!format!("{client:?}").contains("secret-and-wrong"));
    assert!(core.calls("retrieve").is_empty());
}

#[tokio::test]
async fn updates_of_one_job_arrive_in_order() {
    let mut stage = Stage::new().await;
    stage.deliver();
    stage.core.script(|script| script.next.extend([503, 503]));
    // As the brain does: the next one is sent when the one before was answered.
    for number in 0..10 {
        stage.tell("1", number);
        stage.tell("2", number);
        assert_eq!(stage.hear_told(2).await.len(), 2);
    }
    let taken = stage.core.script(|script| script.taken.iter().filter(|item| item["id"] == "1").count());
    assert_eq!(taken, 10);
}

#[tokio::test]
async fn a_listing_is_asked_for_as_core_wants_it() {
    let core = FakeCore::start().await;
    let page = client(&core, "good").browse(JobState::Running, None).await.unwrap();
    assert_eq!((page.items.len(), page.next.as_deref()), (1, Some("250-")));
    let query = &core.calls("browse")[0][0];
    assert!(query.contains("filterState=RUNNING") && query.contains("sortDirection=ascending"), "{query}");
}

#[tokio::test]
async fn a_core_that_is_not_there_is_unavailable() {
    let core = FakeCore::start().await;
    let mut gone = core.clone();
    gone.address = "127.0.0.1:9".parse().unwrap();
    let error = client(&gone, "good").knows(&id("1")).await.unwrap_err();
    assert!(matches!(&error, CallError::Unavailable(why) if why.contains("not reachable")), "{error:?}");
}

/// I8: one item that Core stumbles over holds up no other, and is taken as soon as Core can take it.
#[tokio::test]
async fn what_core_stumbles_over_holds_up_nothing_else() {
    let mut stage = Stage::new().await;
    stage.core.script(|script| script.stumbles.extend((1..=8).map(|number| (number * 20).to_string())));
    for job in 1..=200 {
        stage.charge(&job.to_string(), 3);
    }
    stage.deliver();
    let booked = stage.hear_charged(192).await;
    assert!(booked.iter().all(|(_, answer)| *answer == ChargeAnswer::Booked));
    stage.core.script(|script| script.stumbles.clear());
    let late = stage.hear_charged(8).await;
    assert_eq!(late[0], ("20".to_owned(), ChargeAnswer::Booked));
}

#[tokio::test]
async fn a_job_is_disowned_once_and_not_when_it_is_known_by_then() {
    let mut stage = Stage::new().await;
    stage.core.script(|script| script.next.push_back(503));
    stage.outbox.disown(id("17"));
    stage.outbox.disown(id("1000"));
    stage.deliver();
    // The first call fails, and is not made again; another one asks anew.
    let asks_again = async {
        while stage.core.calls("update").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stage.outbox.disown(id("18"));
        stage.outbox.tell(id("1"), 0, Notice::Running { nodes: vec!["n1".to_owned()] }, None);
    };
    let answers = async {
        loop {
            match stage.heard.recv().await.unwrap() {
                Input::Query(question) => question(&stage.cluster, noon()),
                Input::Event(Event::Told { .. }) => break,
                _ => panic!("neither"),
            }
        }
    };
    tokio::join!(asks_again, answers);
    let taken = stage.core.script(|script| script.taken.clone());
    let ids: Vec<&str> = taken.iter().filter_map(|item| item["id"].as_str()).collect();
    assert!(ids.contains(&"18") && ids.contains(&"1"), "{ids:?}");
    assert!(!ids.contains(&"17") && !ids.contains(&"1000"), "{ids:?}");
}

#[tokio::test]
async fn nothing_is_sent_to_core_while_leadership_is_in_doubt() {
    let mut stage = Stage::new().await;
    stage.courier.validity.set(Moment(0));
    stage.tell("1", 0);
    stage.charge("1", 3);
    stage.deliver();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(stage.core.calls("update").is_empty() && stage.core.calls("chargeCredits").is_empty());
    // A late keepalive renews it.
    stage.courier.validity.set(Moment(u64::MAX));
    for _ in 0..2 {
        stage.hear().await;
    }
}
