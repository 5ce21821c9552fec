//! Protocol 7.1, 7.3.

use serde_json::json;

use super::provider::{World, charge, request};
use crate::core::JobState;

const CATEGORY: &str = "example-compute";
const PRICE: i64 = 1_000_000;

#[tokio::test]
async fn the_project_pays_units_times_periods_times_price() {
    let world = World::new().await;
    let id = world.core.submit(request().owner("user", Some("project-1"))).await.unwrap();
    world.core.set_wallet("project-1", CATEGORY, Some(100 * PRICE));
    let (status, answer) = world.charge(&[charge(&id, "c-1", 15, 2)]).await;
    assert_eq!((status, answer), (200, json!({"insufficientFunds": [], "duplicateCharges": []})));
    assert_eq!(world.core.wallet("project-1", CATEGORY), Some(70 * PRICE));
    let booked = &world.core.charges_of(&id)[0];
    assert_eq!((booked.amount, booked.payer.as_str(), booked.number_of_products), (30 * PRICE, "project-1", Some(2)));
    // The December Core reads `periods` only; it is 1 if absent.
    let october = json!({"id": id, "chargeId": "c-2", "units": 5, "numberOfProducts": 3});
    assert_eq!(world.charge(&[october]).await.0, 200);
    assert_eq!(world.core.wallet("project-1", CATEGORY), Some(65 * PRICE));
}

#[tokio::test]
async fn a_repeated_charge_is_skipped_silently_over_all_jobs() {
    let world = World::new().await;
    let (first, second) = (world.job().await, world.job().await);
    world.core.set_wallet("user", CATEGORY, Some(100 * PRICE));
    assert_eq!(world.charge(&[charge(&first, "same", 10, 1)]).await.0, 200);
    let (status, answer) = world.charge(&[charge(&first, "same", 10, 1), charge(&second, "same", 20, 1)]).await;
    assert_eq!((status, answer), (200, json!({"insufficientFunds": [], "duplicateCharges": []})));
    assert_eq!(world.core.wallet("user", CATEGORY), Some(90 * PRICE));
    let repeated = world.core.repeated_charges();
    assert_eq!(repeated.len(), 2);
    assert!(repeated[0].same_job && repeated[0].amount == repeated[0].first_amount);
    assert!(!repeated[1].same_job && repeated[1].amount == 20 * PRICE);
}

#[tokio::test]
async fn duplicates_within_one_request_are_booked_and_zero_leaves_no_record() {
    let world = World::new().await;
    let id = world.job().await;
    world.core.set_wallet("user", CATEGORY, Some(100 * PRICE));
    assert_eq!(world.charge(&[charge(&id, "twice", 10, 1), charge(&id, "twice", 10, 1)]).await.0, 200);
    assert_eq!(world.core.wallet("user", CATEGORY), Some(80 * PRICE));
    assert_eq!(world.charge(&[charge(&id, "nothing", 0, 1)]).await.0, 200);
    assert_eq!(world.charge(&[charge(&id, "nothing", 1, 1)]).await.0, 200);
    assert_eq!(world.core.wallet("user", CATEGORY), Some(79 * PRICE), "the id of a zero charge is not used up");
}

#[tokio::test]
async fn an_overdrawn_wallet_is_booked_below_zero_and_reported() {
    let world = World::new().await;
    let (poor, rich) = (world.job().await, world.core.submit(request().owner("other", None)).await.unwrap());
    world.core.set_wallet("user", CATEGORY, Some(5 * PRICE));
    let (status, answer) = world.charge(&[charge(&poor, "a", 10, 1), charge(&rich, "b", 10, 1)]).await;
    assert_eq!((status, answer), (200, json!({"insufficientFunds": [{"id": poor}], "duplicateCharges": []})));
    assert_eq!(world.core.wallet("user", CATEGORY), Some(-5 * PRICE));
    assert_eq!(world.core.job(&poor).unwrap().state, JobState::InQueue, "Core does not stop the job");
    // Sent again it is a duplicate and no longer reported.
    let (_, answer) = world.charge(&[charge(&poor, "a", 10, 1)]).await;
    assert_eq!(answer["insufficientFunds"], json!([]));
    assert_eq!(world.core.wallet("user", CATEGORY), Some(-5 * PRICE));
}

#[tokio::test]
async fn a_payer_without_wallet_fails_the_whole_batch() {
    let world = World::new().await;
    let (none, rich) = (world.job().await, world.core.submit(request().owner("other", None)).await.unwrap());
    world.core.set_wallet("user", CATEGORY, None);
    world.core.set_wallet("other", CATEGORY, Some(100 * PRICE));
    assert_eq!(world.charge(&[charge(&rich, "b", 10, 1), charge(&none, "a", 10, 1)]).await.0, 402);
    assert_eq!(world.core.wallet("other", CATEGORY), Some(100 * PRICE));
    assert!(world.core.charges().is_empty());
    assert_eq!(world.charge(&[charge(&rich, "b", 10, 1)]).await.0, 200);
}

#[tokio::test]
async fn bad_charges_are_refused_whole() {
    let world = World::new().await;
    let id = world.job().await;
    for bad in
        [charge(&id, "x", -1, 1), charge(&id, "x", 1, 0), charge("99999999", "x", 1, 1), json!({"id": id, "units": 1})]
    {
        assert_eq!(world.charge(&[charge(&id, "good", 1, 1), bad]).await.0, 400);
    }
    assert_eq!(world.charge(&[charge(&id, "x", i64::MAX, 2)]).await.0, 400);
    assert_eq!(world.charge(&[]).await.0, 400);
    assert!(world.core.charges().is_empty());
    // Charges are still taken after the end.
    assert_eq!(world.update(&[(&id, json!({"state": "SUCCESS"}))]).await, 200);
    assert_eq!(world.charge(&[charge(&id, "last", 1, 1)]).await.0, 200);
}

#[tokio::test]
async fn a_product_that_the_provider_no_longer_lists_cannot_be_charged() {
    let world = World::with(|options| options.support_cache = std::time::Duration::ZERO).await;
    let id = world.job().await;
    world.provider.list_products(&[]);
    assert_eq!(world.charge(&[charge(&id, "a", 1, 1)]).await.0, 502);
    world.provider.list_products(&["example-compute-1"]);
    assert_eq!(world.charge(&[charge(&id, "a", 1, 1)]).await.0, 200);
}
