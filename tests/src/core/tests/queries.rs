//! Protocol 6.1 to 6.3, 6.5, 8.7.

use serde_json::{Value, json};

use super::provider::{Reply, World, request};

const BROWSE: &str = "/api/jobs/control/browse";

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_hold_every_job_once_and_end_with_null() {
    let world = World::new().await;
    let requests: Vec<_> = (0..23).map(|_| request()).collect();
    let mut all = world.core.submit_bulk(&requests).await.unwrap();
    let (_, page) = world.get(BROWSE).await;
    assert_eq!(page["itemsPerPage"], 50);
    let mut seen = Vec::new();
    let mut next = String::new();
    loop {
        let (status, page) = world.get(&format!("{BROWSE}?itemsPerPage=10&sortDirection=ascending{next}")).await;
        assert_eq!(status, 200);
        seen.extend(ids(&page));
        match page["next"].as_str() {
            Some(token) => next = format!("&next={token}"),
            None => break,
        }
    }
    assert_eq!(seen, all);
    all.reverse();
    assert_eq!(ids(&page), all, "newest first by default");
    assert_eq!(world.get(&format!("{BROWSE}?itemsPerPage=11")).await.1["itemsPerPage"], 50);
    assert_eq!(world.get(&format!("{BROWSE}?next=nonsense")).await.0, 400);
    assert_eq!(ids(&world.get(&format!("{BROWSE}?itemsToSkip=20")).await.1).len(), 3);
}

#[tokio::test]
async fn filters_select() {
    let world = World::new().await;
    let reply = json!({"responses": [{"id": "example-7"}]});
    world.provider.answer_creates([Reply::Json(200, reply)]);
    let first = world.core.submit(request().owner("alice", None).application("other", "2")).await.unwrap();
    let second = world.core.submit(request().owner("bob", None)).await.unwrap();
    assert_eq!(world.update(&[(&second, json!({"state": "RUNNING"}))]).await, 200);
    let of = async |query: &str| ids(&world.get(&format!("{BROWSE}?{query}")).await.1);
    assert_eq!(of("filterState=RUNNING").await, [second.as_str()]);
    assert_eq!(of("filterState=in_queue").await, [first.as_str()]);
    assert_eq!(of("filterCreatedBy=lic").await, [first.as_str()]);
    assert_eq!(of("filterApplication=other").await, [first.as_str()]);
    assert_eq!(of("filterProviderIds=example-6,example-7").await, [first.as_str()]);
    assert_eq!(of(&format!("filterIds={second},abc")).await, [second.as_str()]);
    assert_eq!(of("hideProductId=example-compute-1").await, [""; 0]);
    assert_eq!(of("filterProductCategory=example-compute&filterProvider=example").await.len(), 2);
    assert_eq!(of("filterCreatedAfter=99999999999999").await, [""; 0]);
    assert_eq!(world.get(&format!("{BROWSE}?filterState=GONE")).await.0, 400);
}

#[tokio::test]
async fn flags_fill_what_they_name() {
    let world = World::new().await;
    let id = world.job().await;
    let (_, plain) = world.get(&format!("/api/jobs/control/retrieve?id={id}")).await;
    assert!(plain["status"]["resolvedProduct"].is_null() && plain["status"]["resolvedApplication"].is_object());
    assert_eq!(plain["permissions"]["myself"], json!(["PROVIDER"]));
    let (_, full) =
        world.get(&format!("/api/jobs/control/retrieve?id={id}&includeProduct=true&includeSupport=true")).await;
    assert_eq!(full["status"]["resolvedProduct"]["name"], "example-compute-1");
    assert!(full["status"]["resolvedProduct"].get("type").is_none());
    assert_eq!(full["status"]["resolvedSupport"]["support"]["docker"]["logs"], true);
    for unknown in ["1", "abc", ""] {
        assert_eq!(world.get(&format!("/api/jobs/control/retrieve?id={unknown}")).await.0, 404);
    }
}

#[tokio::test]
async fn register_upserts_by_the_providers_id() {
    let world = World::new().await;
    let spec = json!({
        "application": {"name": "unknown", "version": "1"}, "product": {"id": "example-compute-1", "category": "example-compute",
        "provider": "example"}, "parameters": {}, "resources": [], "replicas": 1,
    });
    let item =
        |generated: &str| json!({"spec": spec, "providerGeneratedId": generated, "createdBy": "ada", "project": null});
    let path = "/api/jobs/control/register";
    let (status, first) = world.post(path, &json!({"items": [item("example-1"), item("example-2")]})).await;
    assert_eq!(status, 200, "{first}");
    let (_, again) = world.post(path, &json!({"items": [item("example-1")]})).await;
    assert_eq!(again["responses"][0], first["responses"][0]);
    assert_eq!(world.core.jobs().len(), 2);
    assert_eq!(world.post(path, &json!({"items": [item("a,b")]})).await.0, 400);
    assert_eq!(world.post(path, &json!({"items": [spec]})).await.0, 400);
    let mut foreign = item("example-3");
    foreign["spec"]["product"]["provider"] = json!("another");
    assert_eq!(world.post(path, &json!({"items": [foreign]})).await.0, 403);
}

#[tokio::test]
async fn products_have_versions_and_a_tag() {
    let world = World::new().await;
    let product = json!({
        "type": "compute", "name": "big", "pricePerUnit": 5, "category": {"name": "example-compute", "provider": "example"}, "cpu": 64,
    });
    assert_eq!(world.post("/api/products", &json!({"items": [product]})).await.0, 200);
    assert_eq!(world.post("/api/products", &json!({"items": [product]})).await.0, 200);
    let (_, page) = world.get("/api/products/browse?filterName=big").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!((&page["items"][0]["version"], &page["items"][0]["type"]), (&json!(2), &json!("compute")));
    let (_, all) = world.get("/api/products/browse?showAllVersions=true").await;
    assert_eq!(all["items"].as_array().unwrap().len(), 3);
    let (status, one) =
        world.get("/api/products/retrieve?filterName=big&filterCategory=example-compute&filterProvider=example").await;
    assert_eq!((status, &one["cpu"]), (200, &json!(64)));
    assert_eq!(world.get("/api/products/retrieve?filterName=big").await.0, 400);
    let mut foreign = product;
    foreign["category"]["provider"] = json!("another");
    assert_eq!(world.post("/api/products", &json!({"items": [foreign]})).await.0, 403);
}
