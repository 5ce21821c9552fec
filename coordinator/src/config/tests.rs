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
