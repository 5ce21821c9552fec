//! What the tests of the edge stand on: a router, and behind its handle a real cluster without a store.

use crate::auth::fixture;
use crate::fleet::logs::LogRelay;
use crate::forward::{Door, Forward};
use crate::handle::{Handle, Input};
use crate::http::{App, HttpSettings, router};
use crate::testing::{noon, settings};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use muster_domain::cluster::Cluster;
use muster_domain::effect::{Documents, Effect, Refusal, RefusalKind};
use muster_domain::event::Event;
use muster_domain::id::ProviderId;
use muster_domain::product::{Period, Product};
use muster_ucloud::v2021::accept::Catalogue;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How the driver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As the cluster decides.
    Well,
    /// Refuses every call.
    Refuses(RefusalKind),
    /// Takes inputs and answers none.
    Silent,
    /// Answers questions, but no calls.
    Mute,
    /// Has stopped.
    Gone,
}

/// A router and what is behind it.
pub(crate) struct Stage {
    pub(crate) router: Router,
    pub(crate) app: App,
    events: Arc<Mutex<Vec<Event>>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Answer {
    /// The words of an error, which must have the shape of one.
    pub(crate) fn why(&self) -> &str {
        let fields = self.body.as_object().unwrap();
        assert_eq!(fields.len(), 2, "{fields:?}");
        assert!(fields["errorCode"].is_null() || fields["errorCode"].is_string());
        fields["why"].as_str().unwrap()
    }
}

pub(crate) fn catalogue() -> Catalogue {
    Catalogue {
        provider: ProviderId::new("example").unwrap(),
        products: vec![Product {
            id: "example-compute-1".to_owned(),
            category: "example-compute".to_owned(),
            cores: 1,
            memory_gib: 1,
            gpus: 0,
            period: Period::Minute,
            charge_per_core: true,
        }],
        max_replicas: 64,
        window_ms: 900_000,
    }
}

/// A handle whose driver is a cluster in memory in this mood; and the events that reached it.
pub(crate) fn driver(mood: Mood) -> (Handle, Arc<Mutex<Vec<Event>>>) {
    let (inputs, mut queue) = mpsc::channel(16);
    let (changes, _) = broadcast::channel(64);
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let (handle, seen) = (Handle::new(inputs, changes.clone()), Arc::clone(&events));
    tokio::spawn(async move {
        let (mut cluster, _) = Cluster::restore(settings(), 7, noon(), Documents::default());
        let mut unanswered = Vec::new();
        while mood != Mood::Gone
            && let Some(input) = queue.recv().await
        {
            let (event, caller) = match input {
                Input::Query(question) => {
                    if mood == Mood::Silent {
                        unanswered.push(Input::Query(question));
                    } else {
                        question(&cluster, noon());
                    }
                    continue;
                }
                Input::Event(event) => (event, None),
                Input::Call { event, reply, .. } => (event, Some(reply)),
            };
            seen.lock().unwrap().push(event.clone());
            match (mood, caller) {
                (Mood::Silent | Mood::Mute, Some(reply)) => {
                    unanswered.push(Input::Call { event, request: 0, reply });
                }
                (Mood::Refuses(kind), Some(reply)) => {
                    let _ = reply.send(Err(Refusal { kind, why: "no luck".to_owned() }));
                }
                (_, mut caller) => {
                    for effect in cluster.apply(noon(), event) {
                        match effect {
                            Effect::Reply { reply, .. } => {
                                let _ = caller.take().unwrap().send(reply);
                            }
                            Effect::Changed { job } => {
                                let _ = changes.send(job);
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
    });
    (handle, events)
}

impl Stage {
    pub(crate) fn new(mood: Mood) -> Self {
        let (handle, events) = driver(mood);
        let app = App {
            handle,
            forward: Forward::alone(Door::Ucloud),
            logs: LogRelay::new(),
            auth: Arc::new(fixture::authenticator()),
            settings: Arc::new(HttpSettings {
                provider: ProviderId::new("example").unwrap(),
                catalogue: catalogue(),
                answer_within: Duration::from_millis(200),
                most_sockets: 4,
            }),
            stop: CancellationToken::new(),
        };
        Self { router: router(app.clone()), app, events }
    }

    /// The events that reached the driver since the last look.
    pub(crate) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        send(&self.router, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, Body::empty())).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.raw(path, body.to_string()).await
    }

    pub(crate) async fn raw(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(Method::POST, path, body.into())).await
    }
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

/// A request with a good token. No content type, because none is demanded.
pub(crate) fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    let token = format!("Bearer {}", fixture::token());
    Request::builder().method(method).uri(path).header(header::AUTHORIZATION, token).body(body).unwrap()
}

pub(crate) fn items(items: &[Value]) -> Value {
    json!({ "items": items })
}

/// The smallest job that is accepted.
pub(crate) fn job(id: &str) -> Value {
    json!({
        "id": id,
        "owner": {"createdBy": "user", "project": null},
        "specification": {
            "application": {"name": "acme-batch", "version": "1.0.0"},
            "product": {"id": "example-compute-1", "category": "example-compute", "provider": "example"},
            "replicas": 1,
            "parameters": {"value": {"type": "text", "value": "Hello"}},
            "resources": [],
            "timeAllocation": {"hours": 1, "minutes": 0, "seconds": 0},
        },
        "status": {
            "state": "IN_QUEUE",
            "resolvedApplication": {
                "metadata": {"name": "acme-batch", "version": "1.0.0"},
                "invocation": {
                    "tool": {"name": "acme-batch", "version": "1.0.0", "tool": {"description": {
                        "info": {"name": "acme-batch", "version": "1.0.0"},
                        "backend": "DOCKER", "image": "acme/batch:1.0.0",
                    }}},
                    "invocation": [{"type": "word", "word": "acme-batch"}, {"type": "var", "variableNames": ["value"]}],
                    "parameters": [{"type": "text", "name": "value", "optional": true}],
                },
            },
        },
    })
}
