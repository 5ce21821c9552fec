//! `domain` decides and does no IO. Its manifest cannot, and its sources do not read clocks, chance or hash order.

use std::fs;
use std::path::{Path, PathBuf};

/// The only crates it may depend on.
const ALLOWED: [&str; 2] = ["serde", "thiserror"];

/// What its sources may not name, and why.
const FORBIDDEN: [(&str, &str); 12] = [
    ("tokio", "no runtime"),
    ("async fn", "no waiting"),
    ("std::net", "no sockets"),
    ("std::fs", "no files"),
    ("std::env", "no environment"),
    ("std::process", "no processes"),
    ("std::thread", "no threads"),
    ("SystemTime", "time is an argument"),
    ("Instant", "time is an argument"),
    ("HashMap", "its order differs from run to run"),
    ("HashSet", "its order differs from run to run"),
    ("println!", "no output"),
];

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_manifest_cannot_do_io() {
    let manifest = fs::read_to_string(here().join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names: Vec<&str> = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).collect();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        assert!(ALLOWED.contains(&name), "domain may not depend on {name}");
    }
}

#[test]
fn the_sources_read_no_clock_and_no_chance() {
    let mut folders: Vec<PathBuf> = vec![here().join("src")];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            read += 1;
            for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for (word, reason) in FORBIDDEN {
                    assert!(!code.contains(word), "{}:{}: {word}: {reason}", path.display(), number + 1);
                }
            }
        }
    }
    assert!(read > 20, "only {read} sources were found");
}
