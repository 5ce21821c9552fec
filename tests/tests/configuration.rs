//! `docs/configuration.md` is made from the tables of keys in the code; this test keeps it so. `make docs` writes it anew.

use muster_runtime::config::{Program, reference};
use std::path::Path;

const HEAD: &str = "# Configuration\n\n\
This page is made from the code by `make docs`.\n\n\
Each binary reads, in this order and with the later winning: its defaults, the file of `--config FILE` or of the\n\
variable `MUSTER_CONFIG` (TOML), variables, flags. Everything that is wrong is told at once, with the file or variable and the key.\n\
`--check-config` only checks, `--print-config` shows what is in force and where each value comes from. Durations are numbers of\n\
milliseconds or texts such as `90s`, `5m`, `1h`.\n\n";

#[test]
fn the_page_says_what_the_code_does() {
    let programs: [&Program; 3] =
        [&muster_coordinator::config::PROGRAM, &muster_worker::config::PROGRAM, &muster_cli::PROGRAM];
    let sections: Vec<String> = programs.iter().map(|program| reference(program.name, program.keys)).collect();
    let wanted = format!("{HEAD}{}", sections.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == wanted, "docs/configuration.md is not what the code says; run `make docs`");
}
