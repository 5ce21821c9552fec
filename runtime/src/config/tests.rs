use super::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;

const KEYS: &[Key] = &[
    Key::new("name", Kind::Text, "what it is called").default("one"),
    Key::new("http.listen", Kind::SocketAddress, "where it listens").default("127.0.0.1:8470"),
    Key::new("http.answer_within_ms", Kind::DurationMs, "longest wait").default("4s"),
    Key::new("http.body_bytes", Kind::Bytes, "largest body").default("1MiB"),
    Key::new("http.compress", Kind::Boolean, "whether answers are compressed").default("false"),
    Key::new("core.url", Kind::Url, "where Core is").required(),
    Key::new("core.password", Kind::Text, "only for tests").secret(),
    Key::new("schedule.order", Kind::Choice(&["fair", "fifo"]), "order of the queue").default("fair"),
    Key::new("schedule.depth", Kind::Integer { min: 1, max: 100 }, "how many are looked at").default("10"),
    Key::new("schedule.weight", Kind::Number { min: 0.0, max: 1.0 }, "weight of age").default("0.5"),
    Key::new("schedule.zones", Kind::List, "zones").default(""),
    Key::new("schedule.labels", Kind::Labels, "labels").default(""),
    Key::new("telemetry.endpoint", Kind::Url, "collector").also_variable("OTEL_EXPORTER_OTLP_ENDPOINT"),
    Key::new("products", Kind::Tables, "what is offered").default("").shape::<Vec<Product>>(),
];
const PROGRAM: Program = Program { name: "sample", about: "a sample", version: "1.2.3", keys: &[KEYS] };

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    name: String,
    http: Http,
    core: Core,
    schedule: Schedule,
    telemetry: Telemetry,
    products: Vec<Product>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    listen: std::net::SocketAddr,
    answer_within_ms: u64,
    body_bytes: u64,
    compress: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Core {
    url: String,
    password: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Schedule {
    order: String,
    depth: u32,
    weight: f64,
    zones: Vec<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Telemetry {
    endpoint: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Product {
    name: String,
    cores: u32,
}

impl Validate for Config {
    fn validate(&self) -> Vec<Complaint> {
        let slow = self.http.answer_within_ms > 4_500;
        slow.then(|| Complaint::new("http.answer_within_ms", "at most 4500")).into_iter().collect()
    }
}

struct Layers<'a> {
    file: &'a str,
    variables: &'a [(&'a str, &'a str)],
    flags: &'a [&'a str],
}

impl Layers<'_> {
    fn load(&self) -> Result<Outcome<Config>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(self.file.as_bytes()).unwrap();
        let path = file.path().to_str().unwrap();
        let arguments = ["sample", "--config", path].into_iter().chain(self.flags.iter().copied());
        let variables = self.variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        load(&PROGRAM, arguments.map(OsString::from), variables)
            .map_err(|error| error.to_string().replace(path, "FILE"))
            .map(|outcome| match outcome {
                Outcome::Print(text) => Outcome::Print(text.replace(path, "FILE")),
                run @ Outcome::Run(_) => run,
            })
    }

    fn run(&self) -> Loaded<Config> {
        match self.load() {
            Ok(Outcome::Run(loaded)) => *loaded,
            other => panic!("{other:?}"),
        }
    }
}

const CORE: &str = "[core]\nurl = \"https://core.example.org\"\n";

#[test]
fn later_layers_win() {
    let layers = Layers {
        file: "name = \"file\"\n[http]\nlisten = \"127.0.0.1:1\"\nbody_bytes = 5\n[core]\nurl = \"http://file\"\n",
        variables: &[("MUSTER_HTTP_LISTEN", "127.0.0.1:2"), ("MUSTER_CORE_URL", "http://variable")],
        flags: &["--core-url", "http://flag", "--http-compress"],
    };
    let loaded = layers.run();
    let config = loaded.config;
    assert_eq!(config.core.password, None);
    let schedule = (&*config.schedule.order, config.schedule.depth, config.schedule.weight);
    assert_eq!(schedule, ("fair", 10, 0.5));
    assert_eq!((&*config.name, config.http.body_bytes), ("file", 5));
    assert_eq!(config.http.listen.port(), 2);
    assert_eq!(config.core.url, "http://flag");
    assert!(config.http.compress);
    assert_eq!(config.http.answer_within_ms, 4000);
    assert_eq!(loaded.origins["core.url"], Origin::Flag("--core-url".into()));
    assert_eq!(loaded.origins["http.listen"], Origin::Variable("MUSTER_HTTP_LISTEN".into()));
    assert_eq!(loaded.origins["http.answer_within_ms"], Origin::Default);
    assert!(matches!(loaded.origins["http.body_bytes"], Origin::File { line: 4, .. }));
}

#[test]
fn structures_come_as_toml_text_or_json() {
    let expected = vec![Product { name: "a".into(), cores: 4 }];
    let file = format!("{CORE}[[products]]\nname = \"a\"\ncores = 4\n[schedule.labels]\nrack = \"3\"\n");
    let loaded = Layers { file: &file, variables: &[], flags: &["--schedule-zones", "a, b"] }.run();
    assert_eq!(loaded.config.products, expected);
    assert_eq!(loaded.config.schedule.labels["rack"], "3");
    assert_eq!(loaded.config.schedule.zones, ["a", "b"]);
    let variables =
        [("MUSTER_PRODUCTS", r#"[{"name": "a", "cores": 4}]"#), ("MUSTER_SCHEDULE_LABELS", "rack=3,zone=x")];
    let loaded = Layers { file: CORE, variables: &variables, flags: &[] }.run();
    assert_eq!(loaded.config.products, expected);
    assert_eq!(loaded.config.schedule.labels.len(), 2);
}

#[test]
fn customary_variables_count_and_ours_win() {
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://theirs:4317")];
    let loaded = Layers { file: CORE, variables: &variables, flags: &[] }.run();
    assert_eq!(loaded.config.telemetry.endpoint.unwrap(), "http://theirs:4317");
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://theirs:4317"), ("MUSTER_TELEMETRY_ENDPOINT", "http://ours:1")];
    let loaded = Layers { file: CORE, variables: &variables, flags: &[] }.run();
    assert_eq!(loaded.config.telemetry.endpoint.unwrap(), "http://ours:1");
}

#[test]
fn each_error_names_key_origin_and_what_was_expected() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str], &'a str);
    let cases: &[Case<'_>] = &[
        ("", &[], &[], "core.url (not set): required: where Core is; expected a URL"),
        (
            "[http]\nlisten = \"here\"",
            &[],
            &[],
            "http.listen (file FILE:2): expected an address and port such as 127.0.0.1:8470, not `here`",
        ),
        (
            "[http]\nlisten = 4",
            &[],
            &[],
            "http.listen (file FILE:2): expected an address and port such as 127.0.0.1:8470, not `4`",
        ),
        ("[http]\nlisten_on = \"x\"", &[], &[], "http.listen_on (file FILE:2): unknown key; did you mean http.listen?"),
        ("[core]\nlisten = \"x\"", &[], &[], "core.listen (file FILE:2): unknown key; did you mean http.listen?"),
        ("[htp]\n", &[], &[], "htp (file FILE:1): unknown key; did you mean [http]?"),
        (
            "quite_something = 1\n",
            &[],
            &[],
            "quite_something (file FILE:1): unknown key; --print-config lists all keys",
        ),
        ("http = 1\n", &[], &[], "http (file FILE:1): expected a section, [http]"),
        ("a = \n", &[], &[], "the file (file FILE:1): not TOML: "),
        (
            "",
            &[("MUSTER_SCHEDULE_DEPTH", "0")],
            &[],
            "schedule.depth (variable MUSTER_SCHEDULE_DEPTH): expected a whole number from 1 to 100, not `0`",
        ),
        (
            "",
            &[],
            &["--schedule-depth", "-1"],
            "schedule.depth (flag --schedule-depth): expected a whole number from 1 to 100, not `-1`",
        ),
        (
            "",
            &[],
            &["--schedule-order=lifo"],
            "schedule.order (flag --schedule-order): expected one of fair, fifo, not `lifo`",
        ),
        (
            "",
            &[],
            &["--schedule-weight=2"],
            "schedule.weight (flag --schedule-weight): expected a number from 0 to 1, not `2`",
        ),
        ("", &[], &["--http-answer-within-ms=2y"], "expected a duration such as 250ms, 2s, 5m, 1h or 7d, not `2y`"),
        ("", &[], &["--http-body-bytes=99999999999TiB"], "expected a size such as 64KiB"),
        ("", &[], &["--schedule-labels=a"], "schedule.labels (flag --schedule-labels): expected names with texts"),
        ("", &[], &["--core-url=ftp://x"], "core.url (flag --core-url): expected a URL such as"),
        ("[[products]]\nname = \"a\"\n", &[], &[], "products (file FILE:1): missing field `cores`"),
        (
            "[[products]]\nname = \"a\"\ncores = 1\ncolour = 2\n",
            &[],
            &[],
            "products (file FILE:1): unknown field `colour`",
        ),
        (
            CORE,
            &[("MUSTER_HTTP_ANSWER_WITHIN_MS", "5s")],
            &[],
            "http.answer_within_ms (variable MUSTER_HTTP_ANSWER_WITHIN_MS): expected at most 4500",
        ),
    ];
    for (file, variables, flags, expected) in cases {
        let error = Layers { file, variables, flags }.load().expect_err(expected);
        assert!(error.contains(expected), "{expected}\nis missing in\n{error}");
    }
}

#[test]
fn all_errors_are_listed_at_once() {
    let file = "[http]\nlisten = 1\ncolour = 2\n[[products]]\nname = 1\n";
    let variables = [("MUSTER_SCHEDULE_DEPTH", "x")];
    let error = Layers { file, variables: &variables, flags: &["--http-compress=maybe"] }.load().unwrap_err();
    assert!(error.starts_with("the configuration has 6 errors:\n"), "{error}");
    for part in ["http.listen (", "http.colour (", "products (", "schedule.depth (", "http.compress (", "core.url ("] {
        assert!(error.contains(part), "{part} is missing in\n{error}");
    }
}

#[test]
fn a_missing_file_says_what_to_do() {
    let arguments = ["sample", "--config", "/nonexistent/x.toml"].map(OsString::from);
    let error = load::<Config>(&PROGRAM, arguments, []).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/x.toml (not set): cannot be read: No such file"), "{error}");
}

#[test]
fn credentials_in_a_url_and_secrets_are_not_repeated() {
    let flags = ["--core-url=https://user:hunter2@core", "--core-password=hunter2", "--print-config"];
    let error = Layers { file: "", variables: &[], flags: &flags }.load().unwrap_err();
    assert!(error.contains("without credentials"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let variables = [("MUSTER_CORE_PASSWORD", "hunter2")];
    let Ok(Outcome::Print(text)) = Layers { file: CORE, variables: &variables, flags: &["--print-config"] }.load()
    else {
        panic!("not printed");
    };
    assert!(text.contains("# password is set and secret  # variable MUSTER_CORE_PASSWORD\n"), "{text}");
    assert!(!text.contains("hunter2"));
}

#[test]
fn what_is_printed_loads_again() {
    let file = format!("{CORE}[[products]]\nname = \"a\"\ncores = 4\n[schedule.labels]\n\"a b\" = \"3\"\n");
    let print = |file: &str| match (Layers { file, variables: &[], flags: &["--print-config"] }).load() {
        Ok(Outcome::Print(text)) => text,
        other => panic!("{other:?}"),
    };
    let first = print(&file);
    assert!(
        first.starts_with("# effective configuration of sample 1.2.3\nname = \"one\"  # default\nproducts = "),
        "{first}"
    );
    assert!(
        first.contains("[core]\nurl = \"https://core.example.org\"  # file FILE:2\n# password is not set\n"),
        "{first}"
    );
    assert!(first.contains("answer_within_ms = 4000  # default\n"), "{first}");
    let bare = |text: &str| text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(bare(&first), bare(&print(&first)));
}

#[test]
fn checks_help_and_version_print() {
    let print =
        |flag: &str| match (Layers { file: CORE, variables: &[("MUSTER_HTP_LISTEN", "x")], flags: &[flag] }).load() {
            Ok(Outcome::Print(text)) => text,
            other => panic!("{other:?}"),
        };
    assert!(print("--version").starts_with("sample 1.2.3"));
    let help = print("--help");
    assert!(help.contains("--http-listen <ADDRESS:PORT>"), "{help}");
    assert!(help.contains("MUSTER_HTTP_LISTEN"), "{help}");
    assert!(help.contains("[default: 127.0.0.1:8470]"), "{help}");
    let check = print("--check-config");
    let warning = "warning: variable MUSTER_HTP_LISTEN is not read by sample; did you mean http.listen?\n";
    let valid = "the configuration is valid; whether the files that it names can be used shows at the start";
    assert_eq!(check, format!("{warning}{valid}\n"));
}

#[test]
fn announcements_of_kubernetes_are_no_mistakes() {
    let variables = [("MUSTER_COORDINATOR_SERVICE_HOST", "10.0.0.1"), ("MUSTER_COORDINATOR_PORT", "tcp://10.0.0.1:80")];
    assert!(Layers { file: CORE, variables: &variables, flags: &[] }.run().warnings.is_empty());
}

#[test]
fn an_unknown_flag_is_an_error_with_a_suggestion() {
    let error = Layers { file: CORE, variables: &[], flags: &["--http-lisen=x"] }.load().unwrap_err();
    assert!(error.contains("--http-listen"), "{error}");
}

#[test]
fn the_reference_has_a_line_for_each_key() {
    let text = reference("sample", &[KEYS]);
    assert!(text.contains("### `[core]`"), "{text}");
    let line = "| `core.url` | a URL such as https://core.example.org, without credentials | **required** | `MUSTER_CORE_URL` | Where Core is |";
    assert!(text.contains(line), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("| `")).count(), KEYS.len());
}

#[test]
fn quantities_have_units() {
    let number = |kind: Kind, text: &str| kind.read_text(text).and_then(|value| value.as_integer());
    let cases = [("250ms", 250), ("2s", 2000), ("5m", 300_000), ("5min", 300_000), ("1 h", 3_600_000), ("7", 7)];
    for (text, expected) in cases {
        assert_eq!(number(Kind::DurationMs, text), Some(expected), "{text}");
    }
    for text in ["", "s", "-1s", "1.5s", "1S", "18446744073709551615d"] {
        assert_eq!(number(Kind::DurationMs, text), None, "{text}");
    }
    assert_eq!(number(Kind::Bytes, "2GiB"), Some(2 << 30));
    assert_eq!(number(Kind::Bytes, "2GB"), None);
}
