//! The least a provider can be: answers Core as told and remembers what it was asked; and calls Core as a provider does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::core::{Core, CoreOptions, JobRequest, bind};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const LONG: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) username: Option<String>,
    pub(super) bearer: Option<String>,
    pub(super) body: Value,
}

/// How the next `create` is answered.
#[derive(Clone)]
pub(super) enum Reply {
    Json(u16, Value),
    Never,
}

#[derive(Default)]
struct Script {
    asked: Vec<Asked>,
    create: VecDeque<Reply>,
    init_status: Option<u16>,
    products: Vec<&'static str>,
    /// One list of frames per subscription; the stream id of the call is put in.
    follow: VecDeque<Vec<Value>>,
    follow_calls: Vec<Value>,
}

#[derive(Clone)]
pub(super) struct Provider(Arc<Mutex<Script>>);

pub(super) struct World {
    pub(super) core: Core,
    pub(super) provider: Provider,
    pub(super) http: reqwest::Client,
    pub(super) token: String,
}

impl Provider {
    async fn start() -> (Self, String) {
        let provider = Self(Arc::new(Mutex::new(Script { products: vec!["example-compute-1"], ..Script::default() })));
        let router = Router::new().fallback(answer).with_state(provider.clone());
        let (listener, address) = bind(None).await.unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (provider, format!("http://{address}"))
    }

    pub(super) fn asked(&self, path: &str) -> Vec<Asked> {
        self.0.lock().unwrap().asked.iter().filter(|asked| asked.path.ends_with(path)).cloned().collect()
    }

    pub(super) fn paths(&self) -> Vec<String> {
        let last = |asked: &Asked| asked.path.trim_start_matches("/ucloud/example/").to_owned();
        self.0.lock().unwrap().asked.iter().map(last).collect()
    }

    pub(super) fn answer_creates(&self, replies: impl IntoIterator<Item = Reply>) {
        self.0.lock().unwrap().create.extend(replies);
    }

    pub(super) fn answer_init(&self, status: u16) {
        self.0.lock().unwrap().init_status = Some(status);
    }

    pub(super) fn list_products(&self, products: &[&'static str]) {
        self.0.lock().unwrap().products = products.to_vec();
    }

    pub(super) fn stream(&self, frames: impl IntoIterator<Item = Value>) {
        self.0.lock().unwrap().follow.push_back(frames.into_iter().collect());
    }

    pub(super) fn follow_calls(&self) -> Vec<Value> {
        self.0.lock().unwrap().follow_calls.clone()
    }
}

async fn answer(State(provider): State<Provider>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    if let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        return upgrade.on_upgrade(async move |socket| serve_socket(provider, socket).await);
    }
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let path = parts.uri.path().to_owned();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let count = body["items"].as_array().map_or(0, Vec::len);
    let reply = {
        let mut script = provider.0.lock().unwrap();
        let bearer = text("authorization").map(|value| value.trim_start_matches("Bearer ").to_owned());
        script.asked.push(Asked { path: path.clone(), username: text("ucloud-username"), bearer, body });
        let support = |name: &&str| {
            let on = json!({"enabled": true, "logs": true, "timeExtension": true});
            json!({"product": {"id": name, "category": "example-compute", "provider": "example"}, "docker": on})
        };
        match path.trim_start_matches("/ucloud/example/") {
            "jobs" => {
                script.create.pop_front().unwrap_or(Reply::Json(200, json!({"responses": vec![Value::Null; count]})))
            }
            "jobs/retrieveProducts" => {
                Reply::Json(200, json!({"responses": script.products.iter().map(support).collect::<Vec<_>>()}))
            }
            "integration/init" => Reply::Json(script.init_status.unwrap_or(200), json!({})),
            _ => Reply::Json(200, json!({"responses": vec![json!({}); count]})),
        }
    };
    match reply {
        Reply::Json(status, body) => (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response(),
        Reply::Never => std::future::pending().await,
    }
}

async fn serve_socket(provider: Provider, mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Text(text) = message else { continue };
        let call: Value = serde_json::from_str(text.as_str()).unwrap();
        let frames = {
            let mut script = provider.0.lock().unwrap();
            script.follow_calls.push(call.clone());
            script.follow.pop_front().unwrap_or_default()
        };
        for mut frame in frames {
            if frame == "close" {
                return;
            }
            frame["streamId"] = call["streamId"].clone();
            if socket.send(Message::text(frame.to_string())).await.is_err() {
                return;
            }
        }
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut CoreOptions)) -> Self {
        let (provider, url) = Provider::start().await;
        let mut options = CoreOptions::new("example", &url);
        options.call_timeout = SECOND;
        options.follow_logs = false;
        change(&mut options);
        let core = Core::start(options).await.unwrap();
        let mut world = Self { core, provider, http: reqwest::Client::new(), token: String::new() };
        world.token = world.refresh().await;
        world
    }

    pub(super) async fn refresh(&self) -> String {
        let body = json!({"items": [{"refreshToken": self.core.keys().refresh_token()}]});
        let (status, answer) = self.post_with("/auth/providers/refresh", &body, None).await;
        assert_eq!(status, 200, "{answer}");
        answer["responses"][0]["accessToken"].as_str().unwrap().to_owned()
    }

    /// A job that the provider has accepted.
    pub(super) async fn job(&self) -> String {
        self.core.submit(request()).await.unwrap()
    }

    pub(super) async fn post_with(&self, path: &str, body: &Value, token: Option<&str>) -> (u16, Value) {
        let mut request = self.http.post(format!("{}{path}", self.core.url())).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_with(path, body, Some(&self.token)).await
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        let response =
            self.http.get(format!("{}{path}", self.core.url())).bearer_auth(&self.token).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Sends updates, each `(id, update)`, in one request.
    pub(super) async fn update(&self, updates: &[(&str, Value)]) -> u16 {
        let items: Vec<Value> = updates.iter().map(|(id, update)| json!({"id": id, "update": update})).collect();
        self.post("/api/jobs/control/update", &json!({"items": items})).await.0
    }

    /// Sends charges in one request.
    pub(super) async fn charge(&self, items: &[Value]) -> (u16, Value) {
        self.post("/api/jobs/control/chargeCredits", &json!({"items": items})).await
    }
}

pub(super) fn request() -> JobRequest {
    JobRequest::new("acme/batch:1.0.0").command(["acme-batch", "--fast"])
}

pub(super) fn charge(id: &str, charge_id: &str, units: i64, periods: i64) -> Value {
    json!({
        "id": id, "chargeId": charge_id, "units": units, "periods": periods, "numberOfProducts": periods,
        "performedBy": null, "description": null,
    })
}
