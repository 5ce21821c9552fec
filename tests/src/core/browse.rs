//! Which jobs a provider sees, and in which pages (protocol 6.1 to 6.3).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fault::ControlError;
use super::job::{JobRecord, JobState, Render};
use super::product::ProductReference;
use super::state::State;

/// The flat query of a control call.
#[derive(Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn new(pairs: BTreeMap<String, String>) -> Self {
        Self(pairs)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Anything but `true` is false (protocol 1.3).
    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    fn number(&self, name: &str) -> Result<Option<u64>, ControlError> {
        let read =
            |text: &str| text.parse().map_err(|_| ControlError::new(400, format!("{name}: expected an integer")));
        self.text(name).map(read).transpose()
    }

    fn list(&self, name: &str) -> Option<Vec<&str>> {
        self.text(name).map(|text| text.split(',').collect())
    }

    /// Whether the answer needs the provider's list of products.
    pub(super) fn wants_support(&self) -> bool {
        self.flag("includeSupport") || self.flag("includeProduct")
    }
}

/// `retrieve`: also jobs that the provider has not confirmed yet. 404 for everything unknown.
pub(super) fn retrieve(state: &State, query: &Query, support: &[Value]) -> Result<Value, ControlError> {
    let id = query.text("id").ok_or_else(|| ControlError::new(400, "id: missing"))?;
    let record = state.record(id).filter(|_| state.knows(id)).filter(|record| matches(record, query).unwrap_or(false));
    let record = record.ok_or_else(|| ControlError::new(404, "Not found"))?;
    Ok(render(state, record, query, support))
}

/// `browse`: one page of confirmed jobs.
pub(super) fn browse(state: &State, query: &Query, support: &[Value]) -> Result<Value, ControlError> {
    let size = query.number("itemsPerPage")?.filter(|size| [10, 25, 50, 100, 250].contains(size)).unwrap_or(50);
    if query.text("consistency") == Some("REQUIRE") {
        return Err(ControlError::new(400, "consistency: REQUIRE is not supported"));
    }
    let offset = match query.text("next") {
        Some(token) => token.strip_suffix('-').and_then(|offset| offset.parse::<u64>().ok()),
        None => Some(0),
    };
    let offset = offset.ok_or_else(|| ControlError::new(400, "next: not a token of ours"))?;
    let offset = offset.saturating_add(query.number("itemsToSkip")?.unwrap_or(0));

    let mut selected = Vec::new();
    for (id, record) in &state.jobs {
        if record.view.confirmed && state.knows(&record.view.id) && matches(record, query)? {
            selected.push((*id, record));
        }
    }
    match query.text("sortBy").unwrap_or("createdAt") {
        "createdBy" => selected.sort_by(|(a, left), (b, right)| (&left.created_by, a).cmp(&(&right.created_by, b))),
        "createdAt" => selected.sort_by_key(|(id, record)| (record.view.created_at, *id)),
        _ => {}
    }
    if query.text("sortDirection") != Some("ascending") {
        selected.reverse();
    }
    let total = selected.len() as u64;
    let page: Vec<Value> = selected
        .into_iter()
        .skip(usize::try_from(offset).unwrap_or(usize::MAX))
        .take(usize::try_from(size).unwrap_or(50))
        .map(|(_, record)| render(state, record, query, support))
        .collect();
    let reached = offset.saturating_add(size);
    let next = (reached < total).then(|| format!("{reached}-"));
    Ok(json!({"itemsPerPage": size, "items": page, "next": next}))
}

fn matches(record: &JobRecord, query: &Query) -> Result<bool, ControlError> {
    let view = &record.view;
    let equals = |name: &str, value: &str| query.text(name).is_none_or(|wanted| wanted == value);
    let hidden = |name: &str, value: &str| query.text(name) == Some(value);
    let state = match query.text("filterState") {
        Some(word) => {
            Some(JobState::parse(&word.to_uppercase()).ok_or_else(|| ControlError::new(400, "filterState: unknown"))?)
        }
        None => None,
    };
    let ids = query.list("filterIds");
    let provider_ids = query.list("filterProviderIds");
    Ok(equals("filterApplication", &record.application)
        && state.is_none_or(|state| state == view.state)
        && query.text("filterCreatedBy").is_none_or(|part| record.created_by.contains(part))
        && query.number("filterCreatedAfter")?.is_none_or(|after| view.created_at >= after)
        && query.number("filterCreatedBefore")?.is_none_or(|before| view.created_at <= before)
        && equals("filterProvider", &view.product.provider)
        && equals("filterProductId", &view.product.id)
        && equals("filterProductCategory", &view.product.category)
        && !hidden("hideProvider", &view.product.provider)
        && !hidden("hideProductId", &view.product.id)
        && !hidden("hideProductCategory", &view.product.category)
        && ids.is_none_or(|ids| ids.contains(&view.id.as_str()))
        && provider_ids.is_none_or(|ids| view.provider_generated_id.as_deref().is_some_and(|id| ids.contains(&id))))
}

fn render(state: &State, record: &JobRecord, query: &Query, support: &[Value]) -> Value {
    let reference = &record.view.product;
    let product = state.catalogue.current(reference).map(|product| &product.json);
    record.render(&Render {
        product: product.filter(|_| query.wants_support()),
        support: support_of(support, reference).filter(|_| query.flag("includeSupport")),
        updates: query.flag("includeUpdates"),
        others: query.flag("includeOthers"),
        seen_by_provider: true,
    })
}

/// The provider's `ComputeSupport` for a product, if it lists it.
pub(super) fn support_of<'a>(support: &'a [Value], reference: &ProductReference) -> Option<&'a Value> {
    support.iter().find(|entry| entry.get("product").and_then(ProductReference::parse).as_ref() == Some(reference))
}
