use super::*;
use muster_runtime::config::{ConfigError, Loaded, Outcome, load};
use std::ffi::OsString;

const LEAST: &str = r#"
[provider]
id = "example"
[core]
url = "https://cloud.sdu.dk"
refresh_token_file = "refresh"
public_key_files = ["key"]
[fleet]
token_file = "join"
[[products]]
id = "u1-standard-1"
category = "u1-standard"
cores = 1
memory_gib = 4
"#;

fn of(text: &str, flags: &[&str]) -> Result<Box<Loaded<Config>>, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let arguments: Vec<OsString> =
        ["muster-coordinator", "--config", path].iter().chain(flags).map(OsString::from).collect();
    match load::<Config>(&PROGRAM, arguments, Vec::<(OsString, OsString)>::new())? {
        Outcome::Run(loaded) => Ok(loaded),
        Outcome::Print(text) => panic!("{text}"),
    }
}

#[test]
fn a_short_file_is_enough_and_defaults_are_those_of_the_documents() {
    let config = of(LEAST, &[]).unwrap().config;
    let settings = config.settings().unwrap();
    assert_eq!((settings.attempts, settings.lost_after_ms, settings.start_lease_ms), (3, 1_800_000, 20_000));
    assert!(!settings.round_up);
    assert_eq!(settings.no_credit_confirmations, 1);
    let catalogue = config.catalogue().unwrap();
    assert_eq!((catalogue.max_replicas, catalogue.window_ms), (1000, 300_000));
    assert!(catalogue.products[0].charge_per_core);
    assert!(config.http.listen.ip().is_loopback());
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text = LEAST.replace("\"example\"", "\"a b\"").replace("cores = 1", "cores = 0").replace("[\"key\"]", "[]");
    let text = text.replace("token_file = \"join\"", "");
    let flags = [
        "--fleet-listen=0.0.0.0:8472",
        "--operator-listen=0.0.0.0:8471",
        "--accounting-window-ms=1s",
        "--timeouts-lost-after-ms=1s",
    ];
    let error = of(&text, &flags).unwrap_err().to_string();
    for key in [
        "provider.id",
        "fleet.token_file",
        "operator.token_file",
        "core.public_key_files",
        "products",
        "accounting.window_ms",
        "timeouts.lost_after_ms",
    ] {
        assert!(error.contains(key), "{key} is missing in: {error}");
    }
}

#[test]
fn two_products_of_one_name_are_refused() {
    let product = LEAST.split("[[products]]").nth(1).unwrap();
    let error = of(&format!("{LEAST}[[products]]{product}"), &[]).unwrap_err().to_string();
    assert!(error.contains("each pair of category and id once"), "{error}");
    let error = of(&LEAST.replace("memory_gib", "memory"), &[]).unwrap_err().to_string();
    assert!(error.contains("products"), "{error}");
}

#[test]
fn etcd_needs_its_endpoints_and_nothing_else() {
    let config =
        of(LEAST, &["--store-kind=etcd", "--store-etcd-endpoints=http://a:2379,http://b:2379"]).unwrap().config;
    let etcd = config.store.etcd;
    assert_eq!(config.store.kind, StoreKind::Etcd);
    assert_eq!(etcd.endpoints, ["http://a:2379", "http://b:2379"]);
    assert_eq!((etcd.prefix.as_str(), etcd.incarnation, etcd.space_budget_mib), ("/muster", 0, 2048));
    assert_eq!((etcd.lease_ttl_ms, etcd.request_timeout_ms), (9_000, 2_000));
    // Without etcd as the store, nothing else of it is looked at.
    let config = of(LEAST, &["--store-etcd-user=muster"]).unwrap().config;
    assert_eq!(config.store.kind, StoreKind::Embedded);
}

#[test]
fn endpoints_of_etcd_without_the_word_that_it_is_the_store_are_not_passed_over() {
    let text = format!("{LEAST}[store.etcd]\nendpoints = [\"http://a:2379\"]\n");
    let error = of(&text, &[]).unwrap_err().to_string();
    assert!(error.contains("store.kind") && error.contains("since store.etcd.endpoints is set"), "{error}");
    assert!(of(&text, &["--store-kind=etcd"]).is_ok());
}

#[test]
fn everything_wrong_about_etcd_is_said_with_what_was_expected() {
    let wrong = |flags: &[&str], words: &[&str]| {
        let flags: Vec<&str> = ["--store-kind=etcd"].iter().chain(flags).copied().collect();
        let error = of(LEAST, &flags).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word} is missing in: {error}");
        }
    };
    wrong(&[], &["store.etcd.endpoints", "since store.kind is etcd"]);
    wrong(&["--store-etcd-endpoints=a:2379"], &["store.etcd.endpoints", "https://etcd-1.example.org:2379"]);
    for endpoint in ["http://127.0.0.1:99999", "http://127.0.0.1", "http://a:0", "http://[::1]", "http://a:1/v3"] {
        wrong(&[&format!("--store-etcd-endpoints={endpoint}")], &["store.etcd.endpoints", "with a port"]);
    }
    let fine = ["--store-kind=etcd", "--store-etcd-endpoints=http://[::1]:2379/"];
    assert!(of(LEAST, &fine).is_ok());
    wrong(&["--store-etcd-endpoints=http://a:1,https://b:1"], &["either all https or all http"]);
    wrong(&["--store-etcd-endpoints=https://a:1"], &["store.etcd.ca_file", "since store.etcd.endpoints are https"]);
    wrong(&["--store-etcd-endpoints=http://a:1", "--store-etcd-ca-file=x"], &["store.etcd.ca_file", "are http"]);
    let plain = "--store-etcd-endpoints=http://a:1";
    wrong(&[plain, "--store-etcd-user=muster"], &["store.etcd.password_file", "store.etcd.user"]);
    wrong(&[plain, "--store-etcd-password-file=x"], &["store.etcd.user"]);
    wrong(&[plain, "--store-etcd-prefix=muster/"], &["store.etcd.prefix", "/muster"]);
    wrong(&[plain, "--store-etcd-lease-ttl-ms=2s"], &["store.etcd.lease_ttl_ms", "3s to 60s"]);
    wrong(&[plain, "--store-etcd-request-timeout-ms=4s"], &["store.etcd.request_timeout_ms", "a third"]);
    wrong(
        &["--store-etcd-endpoints=https://a:1", "--store-etcd-ca-file=x", "--store-etcd-certificate-file=y"],
        &["store.etcd.key_file"],
    );
}
