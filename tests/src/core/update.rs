//! How Core judges `POST /api/jobs/control/update` (protocol 6.4).

use std::collections::BTreeMap;

use serde_json::Value;

use super::fault::ControlError;
use super::job::{HistoryEntry, JobState, Verdict};
use super::state::State;

/// One decoded item of the request.
pub(super) struct Update {
    id: String,
    entry: HistoryEntry,
}

/// Decodes a `BulkRequest<ResourceUpdateAndId<JobUpdate>>`.
pub(super) fn decode(body: &Value, now_ms: u64) -> Result<Vec<Update>, ControlError> {
    bulk(body)?.iter().map(|item| decode_item(item, now_ms)).collect()
}

/// The items of a bulk request: 1 to 1000 (protocol 1.4).
pub(super) fn bulk(body: &Value) -> Result<&[Value], ControlError> {
    let items = body.get("items").and_then(Value::as_array).map(Vec::as_slice);
    let items = items.ok_or_else(|| ControlError::new(400, "items: expected a list"))?;
    if items.is_empty() || items.len() > 1000 {
        return Err(ControlError::new(400, "items: expected 1 to 1000 of them"));
    }
    Ok(items)
}

/// An optional field: absent and null are the same, another type than expected is 400.
pub(super) fn optional<'a, T>(
    object: &'a Value,
    name: &str,
    read: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, ControlError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| ControlError::new(400, format!("{name}: wrong type"))),
    }
}

fn decode_item(item: &Value, now_ms: u64) -> Result<Update, ControlError> {
    let id = item.get("id").and_then(Value::as_str).ok_or_else(|| ControlError::new(400, "id: expected a string"))?;
    let update = item.get("update").filter(|update| update.is_object());
    let update = update.ok_or_else(|| ControlError::new(400, "update: expected an object"))?;
    // An unknown word takes the field's default, which is null (protocol 1.2).
    let state = |name: &str| Ok::<_, ControlError>(optional(update, name, Value::as_str)?.and_then(JobState::parse));
    optional(update, "timestamp", Value::as_i64)?;
    Ok(Update {
        id: id.to_owned(),
        entry: HistoryEntry {
            at: now_ms,
            state: state("state")?,
            status: optional(update, "status", Value::as_str)?.map(str::to_owned),
            output_folder: optional(update, "outputFolder", Value::as_str)?.map(str::to_owned),
            new_time_allocation: optional(update, "newTimeAllocation", Value::as_u64)?,
            expected_state: state("expectedState")?,
            expected_different_state: optional(update, "expectedDifferentState", Value::as_bool)?,
            verdict: Verdict::MessageOnly,
        },
    })
}

/// Applies a batch. On an error nothing was changed. Answers the ids of jobs that entered `RUNNING` for the first time.
pub(super) fn judge(state: &mut State, updates: Vec<Update>) -> Result<Vec<String>, ControlError> {
    if !updates.iter().all(|update| state.knows(&update.id)) {
        return Err(ControlError::unknown_resources());
    }
    // Guards look at the states before the request, also when it names a job twice.
    let before: BTreeMap<String, JobState> =
        updates.iter().filter_map(|update| Some((update.id.clone(), state.record(&update.id)?.view.state))).collect();
    let mut started = Vec::new();
    for Update { id, mut entry } in updates {
        let (Some(record), Some(present)) = (state.record_mut(&id), before.get(&id).copied()) else {
            continue;
        };
        entry.verdict = verdict(&entry, present);
        if entry.verdict == Verdict::Applied {
            let view = &mut record.view;
            if let Some(next) = entry.state {
                if next == JobState::Running && view.started_at.is_none() {
                    view.started_at = Some(entry.at);
                    started.push(id.clone());
                }
                view.ended_at = next.is_final().then_some(entry.at);
                view.state = next;
            }
            view.output_folder = entry.output_folder.clone().or(view.output_folder.take());
            view.allocation = entry.new_time_allocation.or(view.allocation);
        }
        record.view.history.push(entry);
        record.changed();
    }
    Ok(started)
}

fn verdict(entry: &HistoryEntry, present: JobState) -> Verdict {
    if entry.expected_state.is_some_and(|expected| expected != present) {
        return Verdict::ExpectedStateDiffers;
    }
    if entry.expected_different_state == Some(true) && entry.state == Some(present) {
        return Verdict::SameState;
    }
    if entry.state.is_none() && entry.output_folder.is_none() && entry.new_time_allocation.is_none() {
        return Verdict::MessageOnly;
    }
    if present.is_final() { Verdict::AlreadyFinal } else { Verdict::Applied }
}
