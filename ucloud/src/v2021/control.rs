//! Calls to Core about jobs (protocol 6, 7.1).

use super::envelope::FindByStringId;
use super::job::{JobSpecification, JobState};
use super::lenient;
use super::query::{Query, pairs};
use serde::{Deserialize, Serialize};

/// One item of `chargeCredits` (protocol 7.1). The amount is `units` times `numberOfProducts` times the price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceChargeCredits {
    /// The job.
    #[serde(deserialize_with = "lenient::required")]
    pub id: String,
    /// Unique over all charges of the provider; one that comes again is skipped.
    #[serde(deserialize_with = "lenient::required")]
    pub charge_id: String,
    /// The first factor.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub units: u64,
    /// The second factor, as Core of October reads it.
    #[serde(default = "lenient::number::<1>", deserialize_with = "lenient::number_or::<_, 1>")]
    pub number_of_products: i64,
    /// The second factor, as Core of December reads it.
    #[serde(default = "lenient::number::<1>", deserialize_with = "lenient::number_or::<_, 1>")]
    pub periods: i64,
    /// Who caused it; the job's creator if null.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub performed_by: Option<String>,
    /// For the user.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub description: Option<String>,
}

/// The answer to `chargeCredits`. Jobs in `insufficient_funds` were booked none the less (protocol 7.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceChargeCreditsResponse {
    /// Jobs whose wallet is below zero.
    #[serde(default, deserialize_with = "lenient::list")]
    pub insufficient_funds: Vec<FindByStringId>,
    /// Jobs whose charge had been booked before.
    #[serde(default, deserialize_with = "lenient::list")]
    pub duplicate_charges: Vec<FindByStringId>,
}

/// One item of `register` (protocol 6.5).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterItem {
    /// What runs.
    pub spec: JobSpecification,
    /// Our own id; without a comma.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub provider_generated_id: Option<String>,
    /// Whose it is; `_ucloud` if null.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub created_by: Option<String>,
    /// The project it belongs to.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub project: Option<String>,
}

/// Flags and filters of `retrieve` and `browse` (protocol 6.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobIncludeFlags {
    /// Fill `permissions.others`.
    pub include_others: bool,
    /// Fill `updates`.
    pub include_updates: bool,
    /// Fill `status.resolvedSupport` and `status.resolvedProduct`.
    pub include_support: bool,
    /// Fill `status.resolvedProduct`.
    pub include_product: bool,
    /// Without effect in 2021.
    pub include_parameters: Option<bool>,
    /// Without effect in 2021.
    pub include_application: Option<bool>,
    /// Application's name equals.
    pub filter_application: Option<String>,
    /// State equals.
    pub filter_state: Option<JobState>,
    /// Creator's name contains.
    pub filter_created_by: Option<String>,
    /// Not older, in milliseconds since the epoch.
    pub filter_created_after: Option<i64>,
    /// Not newer, in milliseconds since the epoch.
    pub filter_created_before: Option<i64>,
    /// Provider equals.
    pub filter_provider: Option<String>,
    /// Product equals.
    pub filter_product_id: Option<String>,
    /// Category equals.
    pub filter_product_category: Option<String>,
    /// Provider-generated ids, separated by commas.
    pub filter_provider_ids: Option<String>,
    /// Ids, separated by commas.
    pub filter_ids: Option<String>,
    /// Provider does not equal.
    pub hide_provider: Option<String>,
    /// Product does not equal.
    pub hide_product_id: Option<String>,
    /// Category does not equal.
    pub hide_product_category: Option<String>,
}

/// Where a listing begins and how it is cut (protocol 6.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// 10, 25, 50, 100 or 250; Core makes 50 of anything else.
    pub items_per_page: Option<u32>,
    /// From the page before.
    pub next: Option<String>,
    /// Without effect on a stable order.
    pub items_to_skip: Option<u64>,
    /// `createdAt`, `createdBy` or `resource`.
    pub sort_by: Option<String>,
    /// `ascending` or `descending`; to be sent always, because the default has changed (protocol 14).
    pub sort_direction: Option<String>,
}

impl JobIncludeFlags {
    /// The query of `retrieve`.
    #[must_use]
    pub fn retrieve_query(&self, id: &str) -> String {
        let mut query = Query::default();
        self.add_to(&mut query);
        query.text("id", Some(id));
        query.finish()
    }

    /// The query of `browse`.
    #[must_use]
    pub fn browse_query(&self, paging: &Paging) -> String {
        let mut query = Query::default();
        self.add_to(&mut query);
        query.value("itemsPerPage", paging.items_per_page.as_ref());
        query.text("next", paging.next.as_deref());
        query.value("itemsToSkip", paging.items_to_skip.as_ref());
        query.text("sortBy", paging.sort_by.as_deref());
        query.text("sortDirection", paging.sort_direction.as_deref());
        query.finish()
    }

    fn add_to(&self, query: &mut Query) {
        query.flag("includeOthers", self.include_others);
        query.flag("includeUpdates", self.include_updates);
        query.flag("includeSupport", self.include_support);
        query.flag("includeProduct", self.include_product);
        query.value("includeParameters", self.include_parameters.as_ref());
        query.value("includeApplication", self.include_application.as_ref());
        query.text("filterApplication", self.filter_application.as_deref());
        query.value("filterState", self.filter_state.as_ref());
        query.text("filterCreatedBy", self.filter_created_by.as_deref());
        query.value("filterCreatedAfter", self.filter_created_after.as_ref());
        query.value("filterCreatedBefore", self.filter_created_before.as_ref());
        query.text("filterProvider", self.filter_provider.as_deref());
        query.text("filterProductId", self.filter_product_id.as_deref());
        query.text("filterProductCategory", self.filter_product_category.as_deref());
        query.text("filterProviderIds", self.filter_provider_ids.as_deref());
        query.text("filterIds", self.filter_ids.as_deref());
        query.text("hideProvider", self.hide_provider.as_deref());
        query.text("hideProductId", self.hide_product_id.as_deref());
        query.text("hideProductCategory", self.hide_product_category.as_deref());
    }

    /// Reads the flags of a query, as Core does (protocol 1.3): whatever is not `true` is false, enum values match
    /// exactly or by ignoring case, the rest is ignored.
    #[must_use]
    pub fn from_query(query: &str) -> Self {
        let mut flags = Self::default();
        for (name, value) in pairs(query) {
            let yes = value == "true";
            match name.as_str() {
                "includeOthers" => flags.include_others = yes,
                "includeUpdates" => flags.include_updates = yes,
                "includeSupport" => flags.include_support = yes,
                "includeProduct" => flags.include_product = yes,
                "includeParameters" => flags.include_parameters = Some(yes),
                "includeApplication" => flags.include_application = Some(yes),
                "filterApplication" => flags.filter_application = Some(value),
                "filterState" => flags.filter_state = lenient::named(&value.to_ascii_uppercase()),
                "filterCreatedBy" => flags.filter_created_by = Some(value),
                "filterCreatedAfter" => flags.filter_created_after = value.parse().ok(),
                "filterCreatedBefore" => flags.filter_created_before = value.parse().ok(),
                "filterProvider" => flags.filter_provider = Some(value),
                "filterProductId" => flags.filter_product_id = Some(value),
                "filterProductCategory" => flags.filter_product_category = Some(value),
                "filterProviderIds" => flags.filter_provider_ids = Some(value),
                "filterIds" => flags.filter_ids = Some(value),
                "hideProvider" => flags.hide_provider = Some(value),
                "hideProductId" => flags.hide_product_id = Some(value),
                "hideProductCategory" => flags.hide_product_category = Some(value),
                _ => {}
            }
        }
        flags
    }
}
