//! What users do with jobs (protocol 3.3, 4, 10.1).

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::browse::support_of;
use super::client::{CallFailure, ProviderAnswer};
use super::job::Render;
use super::product::ProductReference;
use super::request::JobRequest;
use super::shared::Shared;
use super::state::now_ms;

/// A create that comes once more with the same job, as whatever lies between Core and its provider may send one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repeat {
    /// Base URL that it goes to; `None`: where the first one goes.
    pub provider_url: Option<String>,
    /// How long after the job was accepted; `None`: together with the first one.
    pub after_acceptance: Option<Duration>,
}

/// Jobs that Core has written down and the provider is to accept.
struct Unconfirmed {
    ids: Vec<Arc<str>>,
    /// The create as it is sent.
    body: Value,
    username: String,
}

impl Shared {
    /// Creates jobs in one bulk call, all or none. When the provider does not accept them, they are deleted (reliability F3).
    pub(super) async fn submit(&self, requests: &[JobRequest]) -> Result<Vec<String>, CallFailure> {
        let unconfirmed = self.unconfirmed(requests).await?;
        self.create(&unconfirmed).await
    }

    /// Creates one job, and sends the same create once more. Answers what came of the job, and what the other create was told;
    /// `None`: it was to come after an acceptance, and there was none.
    pub(super) async fn submit_twice(
        &self,
        request: &JobRequest,
        repeat: &Repeat,
    ) -> (Result<String, CallFailure>, Option<Result<ProviderAnswer, CallFailure>>) {
        let unconfirmed = match self.unconfirmed(std::slice::from_ref(request)).await {
            Ok(unconfirmed) => unconfirmed,
            Err(failure) => return (Err(failure), None),
        };
        let id = unconfirmed.ids[0].to_string();
        let first = self.create(&unconfirmed);
        let (first, again) = match repeat.after_acceptance {
            None => {
                let (first, again) = tokio::join!(first, self.create_again(&unconfirmed, repeat));
                (first, Some(again))
            }
            Some(wait) => match first.await {
                Ok(ids) => {
                    tokio::time::sleep(wait).await;
                    (Ok(ids), Some(self.create_again(&unconfirmed, repeat).await))
                }
                refused => (refused, None),
            },
        };
        (first.map(|_| id), again)
    }

    async fn create_again(&self, unconfirmed: &Unconfirmed, repeat: &Repeat) -> Result<ProviderAnswer, CallFailure> {
        let token = self.core_token().map_err(|error| CallFailure::core(500, error.to_string()))?;
        let base = repeat.provider_url.clone().unwrap_or_else(|| self.provider_url());
        let url = format!("{base}{}", self.provider_path("jobs"));
        let Unconfirmed { body, username, .. } = unconfirmed;
        self.unnoted_call(Method::POST, &url, Some(body), Some(&token), Some(username)).await
    }

    async fn unconfirmed(&self, requests: &[JobRequest]) -> Result<Unconfirmed, CallFailure> {
        if requests.is_empty() || requests.len() > 1000 {
            return Err(CallFailure::core(400, "items: expected 1 to 1000 of them"));
        }
        let support = self.support().await.map_err(|failure| CallFailure { status: 502, ..failure })?;
        self.store_unconfirmed(requests, &support)
    }

    async fn create(&self, unconfirmed: &Unconfirmed) -> Result<Vec<String>, CallFailure> {
        let Unconfirmed { ids, body, username } = unconfirmed;
        let outcome = self.user_call(Method::POST, &self.provider_path("jobs"), body, username).await;
        let outcome = outcome.and_then(|(answer, attempts)| provider_ids(&answer.body, ids.len(), attempts));
        let mut state = self.state();
        match outcome {
            Ok(provider_ids) => {
                for (id, provider_id) in ids.iter().zip(provider_ids) {
                    if let Some(record) = state.record_mut(id) {
                        record.view.confirmed = true;
                        record.view.provider_generated_id = provider_id;
                        record.changed();
                    }
                }
                drop(state);
                self.changed();
                Ok(ids.iter().map(|id| id.to_string()).collect())
            }
            Err(failure) => {
                state.delete(ids);
                drop(state);
                self.changed();
                Err(failure)
            }
        }
    }

    /// Core's own checks, then rows written, unconfirmed.
    fn store_unconfirmed(&self, requests: &[JobRequest], support: &[Value]) -> Result<Unconfirmed, CallFailure> {
        let mut state = self.state();
        let now_ms = now_ms();
        let first = state.catalogue.list(false).next().map(|product| product.reference.clone());
        let mut checked = Vec::with_capacity(requests.len());
        for request in requests {
            let reference = request.product_reference().or_else(|| first.clone());
            let reference = reference.ok_or_else(|| CallFailure::core(400, "product: Core has none"))?;
            let product = state.catalogue.current(&reference).cloned();
            let product =
                product.ok_or_else(|| CallFailure::core(400, format!("product {} does not exist", reference.id)))?;
            let supported = support_of(support, &reference).cloned();
            let supported = supported
                .ok_or_else(|| CallFailure::core(502, format!("the provider does not list {}", reference.id)))?;
            if supported.pointer("/docker/enabled") != Some(&Value::Bool(true)) {
                return Err(CallFailure::core(
                    400,
                    format!("the provider does not run Docker tools on {}", reference.id),
                ));
            }
            let job = request.to_job(0, now_ms, &reference, &product.json, self.options.one_replica);
            let owner = job["owner"]["project"].as_str().or(job["owner"]["createdBy"].as_str()).unwrap_or_default();
            let balance = state.ledger.balance(owner, &reference.category);
            if !product.free && balance.is_none_or(|balance| balance < product.price) {
                return Err(CallFailure::core(402, "Insufficient funds"));
            }
            checked.push((job, product, supported));
        }
        let username = checked[0].0["owner"]["createdBy"].as_str().unwrap_or("_ucloud").to_owned();
        let mut ids = Vec::with_capacity(checked.len());
        let mut jobs = Vec::with_capacity(checked.len());
        for (mut job, product, supported) in checked {
            let number = state.assign_id();
            job["id"] = json!(number.to_string());
            let id = state.insert(number, &job, product.reference.clone(), now_ms);
            let with = Render { product: Some(&product.json), support: Some(&supported), ..Render::default() };
            jobs.extend(state.record(&id).map(|record| record.render(&with)));
            ids.push(id);
        }
        Ok(Unconfirmed { ids, body: json!({"items": jobs}), username })
    }

    /// The job as later calls carry it: with application, without product and support (protocol 3.3).
    pub(super) fn job_for_call(&self, id: &str) -> Result<(Value, String, ProductReference), CallFailure> {
        let state = self.state();
        let record = state.record(id).ok_or_else(|| CallFailure::core(404, format!("job {id} does not exist")))?;
        let job = record.render(&Render { updates: true, ..Render::default() });
        Ok((job, record.created_by.clone(), record.view.product.clone()))
    }

    /// Sends `terminate` in the name of the owner, or of `username`. The state does not change by it.
    pub(super) async fn terminate(&self, id: &str, username: Option<&str>) -> Result<(), CallFailure> {
        let (job, owner, _) = self.job_for_call(id)?;
        let path = self.provider_path("jobs/terminate");
        self.user_call(Method::POST, &path, &json!({"items": [job]}), username.unwrap_or(&owner)).await.map(drop)
    }

    /// Sends `extend`; the provider pushes the new allocation itself.
    pub(super) async fn extend(&self, id: &str, hours: u64, minutes: u64, seconds: u64) -> Result<(), CallFailure> {
        let (job, owner, product) = self.job_for_call(id)?;
        self.require_feature(&product, "timeExtension").await?;
        let requested = json!({"hours": hours, "minutes": minutes, "seconds": seconds});
        let body = json!({"items": [{"job": job, "requestedTime": requested}]});
        self.user_call(Method::POST, &self.provider_path("jobs/extend"), &body, &owner).await.map(drop)
    }

    /// Opens an interactive session; the answer is the `OpenSession`, or null.
    pub(super) async fn open_session(&self, id: &str, rank: u32, session_type: &str) -> Result<Value, CallFailure> {
        let (job, owner, _) = self.job_for_call(id)?;
        let body = json!({"items": [{"job": job, "rank": rank, "sessionType": session_type}]});
        let path = self.provider_path("jobs/interactiveSession");
        let (answer, attempts) = self.user_call(Method::POST, &path, &body, &owner).await?;
        let session = answer.body.pointer("/responses/0").cloned();
        session.ok_or_else(|| CallFailure::misfit("interactiveSession: expected one response", attempts))
    }

    /// Features that Core checks itself before it asks the provider (protocol 4.1).
    pub(super) async fn require_feature(&self, product: &ProductReference, feature: &str) -> Result<(), CallFailure> {
        let support = self.support().await.map_err(|failure| CallFailure { status: 502, ..failure })?;
        let enabled = support_of(&support, product).and_then(|entry| entry.pointer(&format!("/docker/{feature}")));
        if enabled == Some(&Value::Bool(true)) {
            return Ok(());
        }
        let refused = CallFailure::core(400, format!("the provider does not support {feature}"));
        Err(CallFailure { error_code: Some("FEATURE_NOT_SUPPORTED_BY_PROVIDER".to_owned()), ..refused })
    }
}

/// The ids in a `create` answer: one entry per job, null or `{id}` without a comma (protocol 3.2).
fn provider_ids(body: &Value, jobs: usize, attempts: u32) -> Result<Vec<Option<String>>, CallFailure> {
    let misfit = |why: &str| CallFailure::misfit(format!("create: {why}"), attempts);
    let responses =
        body.get("responses").and_then(Value::as_array).ok_or_else(|| misfit("expected {responses: [...]}"))?;
    if responses.len() != jobs {
        return Err(misfit(&format!("{} responses for {jobs} jobs", responses.len())));
    }
    let read = |response: &Value| match response {
        Value::Null => Ok(None),
        other => match other.get("id").and_then(Value::as_str) {
            Some(id) if id.contains(',') => Err(misfit("an id contains a comma")),
            Some(id) => Ok(Some(id.to_owned())),
            None => Err(misfit("expected null or {id}")),
        },
    };
    responses.iter().map(read).collect()
}
