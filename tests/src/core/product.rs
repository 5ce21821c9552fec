//! Products as Core stores them (protocol 8.7).

use serde::Serialize;
use serde_json::{Value, json};

use super::fault::ControlError;

/// Names one product of one provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ProductReference {
    /// Name of the product.
    pub id: String,
    /// Name of its category; wallets belong to categories.
    pub category: String,
    /// Provider id.
    pub provider: String,
}

impl ProductReference {
    /// Names a product.
    pub fn new(id: &str, category: &str, provider: &str) -> Self {
        Self { id: id.to_owned(), category: category.to_owned(), provider: provider.to_owned() }
    }

    pub(super) fn parse(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        Some(Self::new(text("id")?, text("category")?, text("provider")?))
    }
}

/// A `Product.Compute` in Core's shape, priced in `CREDITS_PER_MINUTE`. `price` is in credits per core-minute
/// (1,000,000 credits are 1 DKK).
pub fn compute_product(reference: &ProductReference, cores: u32, memory_gigabytes: u32, price: i64) -> Value {
    json!({
        "balance": null, "name": reference.id, "pricePerUnit": price,
        "category": {"name": reference.category, "provider": reference.provider},
        "description": "A machine of the stand-in", "priority": 0, "cpu": cores, "memoryInGigs": memory_gigabytes, "gpu": 0,
        "version": 1, "freeToUse": false, "unitOfPrice": "CREDITS_PER_MINUTE", "chargeType": "ABSOLUTE",
        "hiddenInGrantApplications": false, "productType": "COMPUTE",
    })
}

/// One version of a product.
#[derive(Clone)]
pub(super) struct Product {
    pub(super) reference: ProductReference,
    pub(super) price: i64,
    pub(super) free: bool,
    pub(super) version: u64,
    /// Without the `type` tag.
    pub(super) json: Value,
}

impl Product {
    pub(super) fn parse(value: &Value) -> Result<Self, ControlError> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let category = value.get("category").unwrap_or(&Value::Null);
        let of_category = |name: &str| category.get(name).and_then(Value::as_str);
        let (Some(name), Some(category), Some(provider)) = (text("name"), of_category("name"), of_category("provider"))
        else {
            return Err(ControlError::new(400, "product: expected name and category {name, provider}"));
        };
        let price = value.get("pricePerUnit").and_then(Value::as_i64).filter(|price| *price >= 0);
        let price =
            price.ok_or_else(|| ControlError::new(400, "product: expected pricePerUnit, an integer of at least 0"))?;
        let mut json = compute_product(&ProductReference::new(name, category, provider), 1, 1, price);
        for (key, given) in value.as_object().into_iter().flatten().filter(|(key, _)| *key != "type") {
            json[key] = given.clone();
        }
        Ok(Self {
            reference: ProductReference::new(name, category, provider),
            price,
            free: json["freeToUse"] == true,
            version: json["version"].as_u64().unwrap_or(1),
            json,
        })
    }

    /// As it stands in polymorphic positions: with the tag.
    pub(super) fn tagged(&self) -> Value {
        let mut json = self.json.clone();
        json["type"] = json!("compute");
        json
    }
}

/// All versions of all products.
#[derive(Default)]
pub(super) struct Catalogue {
    pub(super) versions: Vec<Product>,
}

impl Catalogue {
    /// Adds a product, or a new version of one that exists.
    pub(super) fn add(&mut self, mut product: Product) {
        if let Some(present) = self.current(&product.reference) {
            product.version = present.version + 1;
        }
        product.json["version"] = json!(product.version);
        self.versions.push(product);
    }

    /// The current version.
    pub(super) fn current(&self, reference: &ProductReference) -> Option<&Product> {
        self.versions.iter().filter(|product| product.reference == *reference).max_by_key(|product| product.version)
    }

    /// Current versions, or all.
    pub(super) fn list(&self, all_versions: bool) -> impl Iterator<Item = &Product> {
        let is_current =
            |product: &&Product| self.current(&product.reference).is_some_and(|it| it.version == product.version);
        self.versions.iter().filter(move |product| all_versions || is_current(product))
    }
}
