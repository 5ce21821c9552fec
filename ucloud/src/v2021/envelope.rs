//! What wraps a call's items (protocol 1.4).

use super::lenient;
use super::problem::Problem;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

/// Items of one bulk request (protocol 1.4).
pub const MOST_ITEMS: usize = 1000;

/// A request about several things at once; all succeed or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkRequest<T> {
    /// The items, in the order of the answers.
    pub items: Vec<T>,
}

impl<T> BulkRequest<T> {
    /// A request with these items.
    #[must_use]
    pub fn of(items: Vec<T>) -> Self {
        Self { items }
    }

    /// The items, if their number is allowed: 1 to [`MOST_ITEMS`].
    pub fn checked(self) -> Result<Vec<T>, Problem> {
        match self.items.len() {
            1..=MOST_ITEMS => Ok(self.items),
            other => Err(Problem::invalid(format!("items: expected 1 to {MOST_ITEMS} items, found {other}"))),
        }
    }
}

/// The answer to a bulk request: one per item, in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub struct BulkResponse<T> {
    /// The answers.
    #[serde(default = "Vec::new", deserialize_with = "lenient::list")]
    pub responses: Vec<T>,
}

impl<T> BulkResponse<T> {
    /// An answer with these entries.
    #[must_use]
    pub fn of(responses: Vec<T>) -> Self {
        Self { responses }
    }
}

impl BulkResponse<Option<FindByStringId>> {
    /// The answer to a `create` of `count` jobs: no ids of our own (protocol 3.2).
    #[must_use]
    pub fn no_ids(count: usize) -> Self {
        Self { responses: vec![None; count] }
    }
}

impl BulkResponse<Unit> {
    /// The answer to a bulk of `count` items that has nothing to tell.
    #[must_use]
    pub fn units(count: usize) -> Self {
        Self { responses: vec![Unit {}; count] }
    }
}

/// Names something by its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FindByStringId {
    /// The id.
    #[serde(deserialize_with = "lenient::required")]
    pub id: String,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "T: Deserialize<'de>"))]
pub struct PageV2<T> {
    /// How many items a page holds; may differ from what was asked for.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub items_per_page: u32,
    /// The items; may be empty although there is a next page.
    #[serde(default = "Vec::new", deserialize_with = "lenient::list")]
    pub items: Vec<T>,
    /// Where to go on; `None` is the end of the data, and only that.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub next: Option<String>,
}

/// "No result": `{}`. Anything is accepted in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unit {}

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(source).map(|_| Self {})
    }
}
