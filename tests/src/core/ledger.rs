//! Wallets and how Core judges `POST /api/jobs/control/chargeCredits` (protocol 7.1, 7.3).

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde_json::{Value, json};

use super::fault::ControlError;
use super::state::{State, push_bounded};
use super::update::{bulk, optional};

const REPEATED_KEPT: usize = 100_000;

/// A charge that was booked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Charge {
    /// When Core received it, milliseconds since 1970.
    pub at: u64,
    /// Job charged.
    pub job: String,
    /// The provider's id of the charge; the transaction's id is `{provider}-{chargeId}`.
    pub charge_id: String,
    /// First factor.
    pub units: i64,
    /// Second factor, as the December Core reads it.
    pub periods: i64,
    /// Second factor under its October name, if it was sent; Core does not read it.
    pub number_of_products: Option<i64>,
    /// Amount taken, credits: units x periods x price.
    pub amount: i64,
    /// Who paid.
    pub payer: String,
    /// Category of the wallet.
    pub category: String,
    /// Text sent with it.
    pub description: Option<String>,
}

/// A charge whose id had been booked before: skipped silently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RepeatedCharge {
    /// The provider's id of the charge.
    pub charge_id: String,
    /// Job named in the repetition.
    pub job: String,
    /// Amount booked the first time, credits.
    pub first_amount: i64,
    /// Amount of the repetition, credits. A difference is a fault of the provider: one id stands for one amount.
    pub amount: i64,
    /// Whether the repetition names the job of the first.
    pub same_job: bool,
}

/// Balance of one payer in one category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wallet {
    /// Project id, or name of the user.
    pub owner: String,
    /// Product category.
    pub category: String,
    /// Credits left, below zero if overdrawn; `None`: no allocation at all, so charges are refused with 402.
    pub balance: Option<i64>,
}

/// Wallets and booked charges.
#[derive(Default)]
pub(super) struct Ledger {
    wallets: BTreeMap<(String, String), Option<i64>>,
    default_balance: Option<i64>,
    pub(super) charges: Vec<Charge>,
    pub(super) repeated: VecDeque<RepeatedCharge>,
    /// Index into `charges` by charge id.
    booked: BTreeMap<String, usize>,
}

impl Ledger {
    pub(super) fn new(default_balance: Option<i64>) -> Self {
        Self { default_balance, ..Self::default() }
    }

    /// The balance; a wallet nobody has touched has the default.
    pub(super) fn balance(&self, owner: &str, category: &str) -> Option<i64> {
        let key = (owner.to_owned(), category.to_owned());
        self.wallets.get(&key).copied().unwrap_or(self.default_balance)
    }

    pub(super) fn set(&mut self, owner: &str, category: &str, balance: Option<i64>) {
        self.wallets.insert((owner.to_owned(), category.to_owned()), balance);
    }

    pub(super) fn wallets(&self) -> Vec<Wallet> {
        let wallet = |((owner, category), balance): (&(String, String), &Option<i64>)| Wallet {
            owner: owner.clone(),
            category: category.clone(),
            balance: *balance,
        };
        self.wallets.iter().map(wallet).collect()
    }

    /// Which of these ids were booked before, as an index into `charges`.
    fn booked_among(&self, charges: &[Charge]) -> BTreeMap<String, usize> {
        let entry =
            |charge: &Charge| self.booked.get_key_value(&charge.charge_id).map(|(id, index)| (id.clone(), *index));
        charges.iter().filter_map(entry).collect()
    }

    /// Books one charge and answers the new balance.
    fn book(&mut self, charge: Charge) -> i64 {
        let balance = self.balance(&charge.payer, &charge.category).unwrap_or(0).saturating_sub(charge.amount);
        self.set(&charge.payer.clone(), &charge.category.clone(), Some(balance));
        self.booked.insert(charge.charge_id.clone(), self.charges.len());
        self.charges.push(charge);
        balance
    }
}

/// One decoded item of the request.
pub(super) struct ChargeItem {
    pub(super) id: String,
    charge_id: String,
    units: i64,
    periods: i64,
    number_of_products: Option<i64>,
    description: Option<String>,
}

/// Decodes a `BulkRequest<ResourceChargeCredits>` of December: `periods`, 1 if absent.
pub(super) fn decode(body: &Value) -> Result<Vec<ChargeItem>, ControlError> {
    bulk(body)?.iter().map(decode_item).collect()
}

fn decode_item(item: &Value) -> Result<ChargeItem, ControlError> {
    let text = |name: &str| {
        let value = item.get(name).and_then(Value::as_str).map(str::to_owned);
        value.ok_or_else(|| ControlError::new(400, format!("{name}: expected a string")))
    };
    let units = item.get("units").and_then(Value::as_i64).filter(|units| *units >= 0);
    let periods = optional(item, "periods", Value::as_i64)?.unwrap_or(1);
    if periods < 1 {
        return Err(ControlError::new(400, "periods: expected at least 1"));
    }
    optional(item, "performedBy", Value::as_str)?;
    Ok(ChargeItem {
        id: text("id")?,
        charge_id: text("chargeId")?,
        units: units.ok_or_else(|| ControlError::new(400, "units: expected an integer of at least 0"))?,
        periods,
        number_of_products: item.get("numberOfProducts").and_then(Value::as_i64),
        description: optional(item, "description", Value::as_str)?.map(str::to_owned),
    })
}

/// Books a batch in one transaction. On an error nothing was booked.
///
/// A repeated id is skipped and named nowhere; ids repeated inside one request are not noticed and both booked; an amount of 0
/// leaves no record; an overdrawn wallet is booked below zero and its job reported.
pub(super) fn judge(state: &mut State, items: Vec<ChargeItem>, now_ms: u64) -> Result<Value, ControlError> {
    if !items.iter().all(|item| state.knows(&item.id)) {
        return Err(ControlError::unknown_resources());
    }
    let mut charges = Vec::with_capacity(items.len());
    for item in items {
        let record = state.record(&item.id).ok_or_else(ControlError::unknown_resources)?;
        let view = &record.view;
        let product = state.catalogue.current(&view.product);
        let product = product.ok_or_else(|| ControlError::new(400, "product of the job does not exist"))?;
        if !product.free && state.ledger.balance(&view.payer, &view.product.category).is_none() {
            return Err(ControlError::new(402, "Insufficient funds"));
        }
        let amount = item.units.checked_mul(item.periods).and_then(|it| it.checked_mul(product.price));
        let amount = amount.ok_or_else(|| ControlError::new(400, "units: the amount is too large"))?;
        charges.push(Charge {
            at: now_ms,
            job: item.id,
            charge_id: item.charge_id,
            units: item.units,
            periods: item.periods,
            number_of_products: item.number_of_products,
            amount: if product.free { 0 } else { amount },
            payer: view.payer.clone(),
            category: view.product.category.clone(),
            description: item.description,
        });
    }
    let known_before = state.ledger.booked_among(&charges);
    let mut insufficient = Vec::new();
    for charge in charges {
        if let Some(first) = known_before.get(&charge.charge_id).and_then(|index| state.ledger.charges.get(*index)) {
            let repeated = RepeatedCharge {
                charge_id: charge.charge_id.clone(),
                job: charge.job.clone(),
                first_amount: first.amount,
                amount: charge.amount,
                same_job: first.job == charge.job,
            };
            push_bounded(&mut state.ledger.repeated, repeated, REPEATED_KEPT);
        } else if charge.amount > 0 {
            let job = charge.job.clone();
            if state.ledger.book(charge) < 0 {
                insufficient.push(json!({"id": job}));
            }
            if let Some(record) = state.record(&job) {
                record.changed();
            }
        }
    }
    Ok(json!({"insufficientFunds": insufficient, "duplicateCharges": []}))
}
