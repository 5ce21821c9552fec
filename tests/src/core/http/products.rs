//! Products as the provider reads and registers them (protocol 8.7).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query as UrlQuery, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::{Answer, App, json_body};
use crate::core::fault::ControlError;
use crate::core::product::Product;
use crate::core::shared::Shared;
use crate::core::update::bulk;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/products/browse", get(browse))
        .route("/api/products/retrieve", get(retrieve))
        .route("/api/products", post(create))
}

type Pairs = UrlQuery<BTreeMap<String, String>>;

async fn browse(State(shared): App, UrlQuery(query): Pairs) -> Answer {
    let text = |name: &str| query.get(name).map(String::as_str);
    let number = |name: &str| text(name).and_then(|text| text.parse::<usize>().ok());
    let size = number("itemsPerPage").filter(|size| [10, 25, 50, 100, 250].contains(size)).unwrap_or(50);
    let offset = match text("next") {
        Some(token) => token.strip_suffix('-').and_then(|offset| offset.parse::<usize>().ok()),
        None => Some(0),
    };
    let offset = offset.ok_or_else(|| ControlError::new(400, "next: not a token of ours"))?;
    let state = shared.state();
    let all: Vec<Value> = state
        .catalogue
        .list(text("showAllVersions") == Some("true"))
        .filter(|it| matches(it, &query))
        .map(Product::tagged)
        .collect();
    let reached = offset.saturating_add(size);
    let next = (reached < all.len()).then(|| format!("{reached}-"));
    let page: Vec<&Value> = all.iter().skip(offset).take(size).collect();
    Ok(Json(json!({"itemsPerPage": size, "items": page, "next": next})))
}

async fn retrieve(State(shared): App, UrlQuery(query): Pairs) -> Answer {
    for name in ["filterName", "filterCategory", "filterProvider"] {
        if !query.contains_key(name) {
            return Err(ControlError::new(400, format!("{name}: missing")));
        }
    }
    let state = shared.state();
    let found =
        state.catalogue.list(query.contains_key("filterVersion")).find(|it| matches(it, &query)).map(Product::tagged);
    found.map(Json).ok_or_else(|| ControlError::new(404, "Not found"))
}

fn matches(product: &Product, query: &BTreeMap<String, String>) -> bool {
    let equals = |name: &str, value: &str| query.get(name).is_none_or(|wanted| wanted == value);
    equals("filterName", &product.reference.id)
        && equals("filterCategory", &product.reference.category)
        && equals("filterProvider", &product.reference.provider)
        && equals("filterArea", "COMPUTE")
        && equals("filterVersion", &product.version.to_string())
}

async fn create(State(shared): App, body: Bytes) -> Answer {
    let body = json_body(&body)?;
    let mut products = Vec::new();
    for item in bulk(&body)? {
        if item.get("type").and_then(Value::as_str) != Some("compute") {
            return Err(ControlError::new(400, "type: this Core takes compute products only"));
        }
        let product = Product::parse(item)?;
        if product.reference.provider != shared.options.provider_id {
            return Err(ControlError::new(403, "Forbidden"));
        }
        products.push(product);
    }
    let mut state = shared.state();
    products.into_iter().for_each(|product| state.catalogue.add(product));
    Ok(Json(json!({})))
}
