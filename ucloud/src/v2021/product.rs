//! Products at Core (protocol 7.2, 8.7).

use super::lenient;
use super::query::Query;
use serde::{Deserialize, Serialize};

/// Names a product.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProductReference {
    /// The product's name.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub id: String,
    /// The category's name.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub category: String,
    /// The provider.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub provider: String,
}

/// Names a category of products.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProductCategoryId {
    /// The category's name.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub name: String,
    /// The provider.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub provider: String,
}

/// What one unit of a price is (protocol 7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProductPriceUnit {
    /// Money for a number bought once.
    CreditsPerUnit,
    /// A number, counted once or as a level.
    PerUnit,
    /// Money by the core-minute.
    #[default]
    CreditsPerMinute,
    /// Money by the core-hour.
    CreditsPerHour,
    /// Money by the core-day.
    CreditsPerDay,
    /// Core-minutes.
    UnitsPerMinute,
    /// Core-hours.
    UnitsPerHour,
    /// Core-days.
    UnitsPerDay,
}

/// Whether a charge adds or states a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChargeType {
    /// It adds.
    #[default]
    Absolute,
    /// It states the present level.
    DifferentialQuota,
}

/// What kind of thing a product is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProductType {
    /// Room for files.
    Storage,
    /// A machine type.
    #[default]
    Compute,
    /// A public link.
    Ingress,
    /// A licence.
    License,
    /// A public address.
    NetworkIp,
}

macro_rules! product {
    ($(#[$doc:meta])* $name:ident { $($fields:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            /// The caller's balance, where asked for.
            #[serde(default, deserialize_with = "lenient::optional")]
            pub balance: Option<i64>,
            /// The product's name; `id` in a [`ProductReference`].
            #[serde(default, deserialize_with = "lenient::scalar")]
            pub name: String,
            /// Price of one unit and period.
            #[serde(default, deserialize_with = "lenient::scalar")]
            pub price_per_unit: i64,
            /// The category.
            #[serde(default, deserialize_with = "lenient::object")]
            pub category: ProductCategoryId,
            /// For people.
            #[serde(default, deserialize_with = "lenient::scalar")]
            pub description: String,
            /// Order in listings.
            #[serde(default, deserialize_with = "lenient::scalar")]
            pub priority: i64,
            $($fields)*
            /// Grows with every change of the product.
            #[serde(default = "lenient::number::<1>", deserialize_with = "lenient::number_or::<_, 1>")]
            pub version: i64,
            /// Whether nothing is charged.
            #[serde(default, deserialize_with = "lenient::scalar")]
            pub free_to_use: bool,
            /// What one unit is.
            #[serde(default, deserialize_with = "lenient::known_or_default")]
            pub unit_of_price: ProductPriceUnit,
            /// Whether a charge adds.
            #[serde(default, deserialize_with = "lenient::known_or_default")]
            pub charge_type: ChargeType,
            /// Whether applications for grants leave it out.
            #[serde(default, deserialize_with = "lenient::scalar")]
            pub hidden_in_grant_applications: bool,
            /// What kind of thing it is.
            #[serde(default, deserialize_with = "lenient::known")]
            pub product_type: Option<ProductType>,
        }
    };
}

product!(
    /// A machine type. Carries no `type` where it stands for itself.
    ComputeProduct {
        /// Virtual cores.
        #[serde(default, deserialize_with = "lenient::optional")]
        pub cpu: Option<i64>,
        /// Memory.
        #[serde(default, deserialize_with = "lenient::optional")]
        pub memory_in_gigs: Option<i64>,
        /// GPUs.
        #[serde(default, deserialize_with = "lenient::optional")]
        pub gpu: Option<i64>,
    }
);
product!(
    /// Room for files, a public link or a public address: nothing beside the common fields.
    PlainProduct {}
);
product!(
    /// A licence.
    LicenseProduct {
        /// What it is for.
        #[serde(default, deserialize_with = "lenient::list")]
        pub tags: Vec<String>,
    }
);

/// A product where its kind is not known beforehand: with a `type`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Product {
    /// A machine type.
    Compute(ComputeProduct),
    /// Room for files.
    Storage(PlainProduct),
    /// A public link.
    Ingress(PlainProduct),
    /// A licence.
    License(LicenseProduct),
    /// A public address.
    NetworkIp(PlainProduct),
}

impl ComputeProduct {
    /// How a job names this product.
    #[must_use]
    pub fn reference(&self) -> ProductReference {
        ProductReference {
            id: self.name.clone(),
            category: self.category.name.clone(),
            provider: self.category.provider.clone(),
        }
    }
}

/// Filters of `/api/products/browse` and `/api/products/retrieve` (protocol 8.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProductFlags {
    /// Name equals.
    pub filter_name: Option<String>,
    /// Provider equals.
    pub filter_provider: Option<String>,
    /// Kind equals.
    pub filter_area: Option<ProductType>,
    /// Category equals.
    pub filter_category: Option<String>,
    /// Version equals.
    pub filter_version: Option<i64>,
    /// Old versions too.
    pub show_all_versions: bool,
    /// Fill `balance`.
    pub include_balance: bool,
}

impl ProductFlags {
    /// Adds the flags to a query.
    pub fn add_to(&self, query: &mut Query) {
        query.text("filterName", self.filter_name.as_deref());
        query.text("filterProvider", self.filter_provider.as_deref());
        query.value("filterArea", self.filter_area.as_ref());
        query.text("filterCategory", self.filter_category.as_deref());
        query.value("filterVersion", self.filter_version.as_ref());
        query.flag("showAllVersions", self.show_all_versions);
        query.flag("includeBalance", self.include_balance);
    }
}
