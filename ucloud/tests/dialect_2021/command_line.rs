//! Command line and environment against a naive model that was written from the rules alone (protocol 9).

use crate::fixtures::{job, job_running, parameter};
use muster_ucloud::v2021::command::{command_line, environment};
use muster_ucloud::v2021::job::Job;
use muster_ucloud::v2021::problem::Problem;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn arguments(job: &Job) -> Result<Vec<String>, Problem> {
    let app = &job.status.resolved_application.as_ref().unwrap().invocation;
    command_line(app, job.specification.parameters.as_ref().unwrap())
}

fn variables(environment_of: Value, given: Value) -> Result<BTreeMap<String, String>, Problem> {
    let mut job = job_running(json!([parameter("integer", "n"), parameter("text", "t")]), json!([]), given);
    let app = &mut job.status.resolved_application.as_mut().unwrap().invocation;
    app.environment = serde_json::from_value(environment_of).unwrap();
    environment(app, job.specification.parameters.as_ref().unwrap())
}

#[test]
fn the_example_of_both_pages() {
    assert_eq!(arguments(&job()).unwrap(), ["acme-batch", "--debug", "true", "Hello, World!"]);
}

#[test]
fn the_worked_example() {
    let job = job_running(
        json!([parameter("integer", "a"), parameter("text", "b"), parameter("text", "absent")]),
        json!([{"type": "var", "variableNames": ["a", "absent", "b"], "prefixGlobal": "--entries", "suffixGlobal": "--end",
            "prefixVariable": "--entry", "suffixVariable": "--next", "isSuffixVariablePartOfArg": true}]),
        json!({"a": {"type": "integer", "value": 42}, "b": {"type": "text", "value": "hello"}}),
    );
    let expected = ["--entries", "--entry", "42--next", "--entry", "hello--next", "--end"];
    assert_eq!(arguments(&job).unwrap(), expected);
}

#[test]
fn every_kind_has_its_text() {
    let given = |kind: &str, field: &str, value: Value| json!({"type": kind, field: value});
    let cases = [
        (parameter("text", "x"), given("text", "value", json!("a b")), "a b"),
        (parameter("textarea", "x"), given("text", "value", json!("a\nb")), "a\nb"),
        (parameter("textarea", "x"), given("textarea", "value", json!("a\nb")), "a\nb"),
        (parameter("integer", "x"), given("integer", "value", json!(-7)), "-7"),
        (parameter("floating_point", "x"), given("floating_point", "value", json!(1)), "1.0"),
        (parameter("floating_point", "x"), given("floating_point", "value", json!(0.25)), "0.25"),
        (parameter("floating_point", "x"), given("floating_point", "value", json!(1e10)), "10000000000.0"),
        (parameter("floating_point", "x"), given("floating_point", "value", json!(-1e-9)), "-0.000000001"),
        (parameter("boolean", "x"), given("boolean", "value", json!(false)), "false"),
        (parameter("input_file", "x"), given("file", "path", json!("/12/a/../b//c d.txt/")), "/work/c d.txt"),
        (parameter("input_directory", "x"), given("file", "path", json!("/12")), "/work/12"),
        (parameter("peer", "x"), json!({"type": "peer", "hostname": "db", "jobId": "7"}), "db"),
        (parameter("ingress", "x"), given("ingress", "id", json!("5")), "5"),
        (parameter("network_ip", "x"), given("network", "id", json!("6")), "6"),
    ];
    for (parameter, value, expected) in cases {
        let job = job_running(
            json!([parameter]),
            json!([{"type": "word", "word": "run"}, {"type": "var", "variableNames": ["x"]}]),
            json!({"x": value}),
        );
        assert_eq!(arguments(&job).unwrap(), ["run", expected], "{value}");
    }
}

#[test]
fn options_and_truth_values_are_the_applications() {
    let mut flag = parameter("boolean", "b");
    flag["trueValue"] = json!("yes");
    flag["falseValue"] = json!("no");
    let mut choice = parameter("enumeration", "e");
    choice["options"] = json!([{"name": "fast", "value": "-O3"}]);
    let job = job_running(
        json!([flag, choice, parameter("enumeration", "f")]),
        json!([{"type": "var", "variableNames": ["b", "e", "f"]}]),
        json!({"b": {"type": "boolean", "value": true}, "e": {"type": "text", "value": "fast"},
            "f": {"type": "text", "value": "-O1"}}),
    );
    assert_eq!(arguments(&job).unwrap(), ["yes", "-O3", "-O1"]);
}

#[test]
fn flags_are_one_trimmed_argument() {
    let element =
        |kind: &str| json!([{"type": "word", "word": " run "}, {"type": kind, "variableName": "b", "flag": " -v x "}]);
    for kind in ["bool_flag", "flag"] {
        let with = |given| arguments(&job_running(json!([parameter("boolean", "b")]), element(kind), given)).unwrap();
        assert_eq!(with(json!({"b": {"type": "boolean", "value": true}})), [" run ", "-v x"]);
        assert_eq!(with(json!({"b": {"type": "boolean", "value": false}})), [" run "]);
        assert_eq!(with(json!({})), [" run "]);
        assert_eq!(with(json!({"b": null})), [" run "]);
    }
}

#[test]
fn defaults_stand_in_in_both_forms() {
    let with_default = |kind: &str, default: Value| {
        let mut parameter = parameter(kind, "x");
        parameter["defaultValue"] = default;
        arguments(&job_running(
            json!([parameter]),
            json!([{"type": "word", "word": "run"}, {"type": "var", "variableNames": ["x"]}]),
            json!({}),
        ))
    };
    for (kind, default, expected) in [
        ("text", json!("hello"), "hello"),
        ("text", json!(""), ""),
        ("text", json!({"type": "text", "value": "hello"}), "hello"),
        ("integer", json!(42), "42"),
        ("integer", json!("42"), "42"),
        ("integer", json!({"type": "integer", "value": 42}), "42"),
        ("floating_point", json!(2), "2.0"),
        ("boolean", json!(false), "false"),
        ("boolean", json!("true"), "true"),
        ("input_file", json!("/1/a.txt"), "/work/a.txt"),
    ] {
        assert_eq!(with_default(kind, default.clone()).unwrap(), ["run", expected], "{kind} {default}");
    }
    assert_eq!(with_default("integer", Value::Null).unwrap(), ["run"]);
    assert_eq!(with_default("integer", json!("")).unwrap(), ["run"]);
    for (kind, default) in
        [("integer", json!("many")), ("integer", json!([1])), ("text", json!({"type": "integer", "value": 1}))]
    {
        let why = with_default(kind, default).unwrap_err().why;
        assert!(why.contains('x'), "{why}");
    }
}

#[test]
fn variables_refer_to_each_other() {
    let given = json!({"n": {"type": "integer", "value": 3}, "t": {"type": "text", "value": "a b"}});
    let elements = json!({
        "WORD": {"type": "word", "word": "$HOME `x` 'y'"},
        "SOME": {"type": "var", "variableNames": ["n", "t"], "prefixGlobal": "-x"},
        "UNSET": {"type": "var", "variableNames": ["absent"]},
        "COPY": {"type": "env", "variable": "MORE"},
        "MORE": {"type": "env", "variable": "SOME"},
        "MISSING": {"type": "env", "variable": "NOWHERE"},
        "OF_UNSET": {"type": "env", "variable": "UNSET"},
        "SELF": {"type": "env", "variable": "SELF"},
        "PING": {"type": "env", "variable": "PONG"},
        "PONG": {"type": "env", "variable": "PING"},
    });
    let expected = [
        ("COPY", "-x 3 a b"),
        ("MISSING", "$(NOWHERE)"),
        ("MORE", "-x 3 a b"),
        ("OF_UNSET", "$(UNSET)"),
        ("PING", "$(PONG)"),
        ("PONG", "$(PING)"),
        ("SELF", "$(SELF)"),
        ("SOME", "-x 3 a b"),
        ("WORD", "$HOME `x` 'y'"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(variables(elements, given).unwrap(), expected);
    assert_eq!(variables(Value::Null, json!({})).unwrap(), BTreeMap::new());
}

#[test]
fn bad_variables_are_named() {
    for name in ["", "1A", "A-B", "A=B", "Ä", "A B"] {
        let mut elements = json!({});
        elements[name] = json!({"type": "word", "word": "x"});
        let why = variables(elements, json!({})).unwrap_err().why;
        assert!(why.starts_with("status.resolvedApplication.invocation.environment."), "{why}");
    }
    assert!(variables(json!({"A": {"type": "word", "word": "a\u{0}b"}}), json!({})).unwrap_err().why.contains("NUL"));
    assert!(variables(json!({"A": {"type": "env", "variable": "\u{0}"}}), json!({})).unwrap_err().why.contains("NUL"));
    assert!(variables(json!({"A": {"type": "script"}}), json!({})).unwrap_err().why.contains("script"));
    let long = "x".repeat(60 * 1024);
    let two = json!({"A": {"type": "word", "word": long}, "B": {"type": "word", "word": long}});
    assert!(variables(two, json!({})).unwrap_err().why.contains("65536 bytes"));
}

#[test]
fn long_chains_of_variables_are_followed_and_bounded() {
    let chain = |length: usize| {
        let mut elements = json!({format!("V{length}"): {"type": "word", "word": "end"}});
        for number in 0..length {
            elements[format!("V{number}")] = json!({"type": "env", "variable": format!("V{}", number + 1)});
        }
        variables(elements, json!({}))
    };
    assert_eq!(chain(1_000).unwrap()["V0"], "end");
    assert!(chain(1_024).unwrap_err().why.contains("at most 1024 variables"));
}

#[test]
fn few_elements_cannot_make_many_bytes() {
    let long = json!({"t": {"type": "text", "value": "x".repeat(64 * 1024)}});
    let names: Vec<&str> = vec!["t"; 100_000];
    let element = json!([{"type": "var", "variableNames": names, "isPrefixVariablePartOfArg": true}]);
    let why = arguments(&job_running(json!([parameter("text", "t")]), element, long)).unwrap_err().why;
    assert!(why.contains("131072 bytes"), "{why}");
}

/// One parameter of a random application: what JSON defines it, what was given, and the text that rules 9.2 and 9.3
/// make of it.
#[derive(Clone, Debug)]
struct Case {
    definition: Value,
    given: Option<Value>,
    text: Option<String>,
    truth: Option<bool>,
}

fn case() -> impl Strategy<Value = Case> {
    let text = "[ -~]{0,12}|.{0,6}".prop_filter("no NUL", |text| !text.contains('\0'));
    let value = prop_oneof![
        text.prop_map(|text| ("text", json!(text), text, None)),
        "[a-z\n ]{0,9}".prop_map(|text| ("textarea", json!(text), text, None)),
        any::<i64>().prop_map(|number| ("integer", json!(number), number.to_string(), None)),
        (-1_000_000i32..1_000_000).prop_map(|eighths| {
            let number = f64::from(eighths) / 8.0;
            ("floating_point", json!(number), format!("{number:?}"), None)
        }),
        any::<bool>().prop_map(|truth| (
            "boolean",
            json!(truth),
            if truth { "JA" } else { "NEIN" }.to_owned(),
            Some(truth)
        )),
        select(std::vec!["one", "two", "three"]).prop_map(|name| {
            let text = if name == "one" { "1" } else { name };
            ("enumeration", json!(name), text.to_owned(), None)
        }),
    ];
    (value, 0..4).prop_map(|((kind, value, text, truth), how)| {
        let mut definition = parameter(kind, "");
        if kind == "boolean" {
            definition["trueValue"] = json!("JA");
            definition["falseValue"] = json!("NEIN");
        }
        if kind == "enumeration" {
            definition["options"] = json!([{"name": "one", "value": "1"}]);
        }
        let tagged = json!({"type": if kind == "enumeration" { "text" } else { kind }, "value": value});
        let (given, default) = match how {
            0 => (Some(tagged), Value::Null),
            1 => (None, tagged),
            2 => (None, value),
            _ => (None, Value::Null),
        };
        let absent = given.is_none() && default.is_null();
        definition["defaultValue"] = default;
        Case { definition, given, text: (!absent).then_some(text), truth: truth.filter(|_| !absent) }
    })
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "undefined"];

fn element() -> impl Strategy<Value = Value> {
    let affix = || select(std::vec!["", " ", "-p", " --long ", "\t-x y\n"]);
    prop_oneof![
        "[ -~]{0,8}".prop_map(|word| json!({"type": "word", "word": word})),
        "[A-Z]{1,3}".prop_map(|name| json!({"type": "env", "variable": name})),
        (select(NAMES.to_vec()), affix(), any::<bool>()).prop_map(|(name, flag, old)| {
            json!({"type": if old { "flag" } else { "bool_flag" }, "variableName": name, "flag": flag})
        }),
        (vec(select(NAMES.to_vec()), 0..4), [affix(), affix(), affix(), affix()], any::<[bool; 2]>()).prop_map(
            |(names, [a, b, c, d], [e, f])| {
                json!({"type": "var", "variableNames": names, "prefixGlobal": a, "suffixGlobal": b, "prefixVariable": c,
                    "suffixVariable": d, "isPrefixVariablePartOfArg": e, "isSuffixVariablePartOfArg": f})
            }
        ),
    ]
}

/// The rules of 9.1, word by word, over plain JSON. `None` is a problem.
fn model(elements: &[Value], cases: &BTreeMap<&str, Case>) -> Option<Vec<String>> {
    let mut line: Vec<String> = Vec::new();
    let text = |value: &Value| value.as_str().unwrap().trim().to_owned();
    for element in elements {
        match element["type"].as_str().unwrap() {
            "word" => line.push(element["word"].as_str().unwrap().to_owned()),
            "env" => {}
            "flag" | "bool_flag" => {
                let case = cases.get(element["variableName"].as_str().unwrap());
                if let Some(case) = case.filter(|case| case.text.is_some())
                    && case.truth?
                {
                    line.push(text(&element["flag"]));
                }
            }
            _ => {
                let mut middle = Vec::new();
                for name in element["variableNames"].as_array().unwrap() {
                    let Some(value) = cases.get(name.as_str().unwrap()).and_then(|case| case.text.clone()) else {
                        continue;
                    };
                    let (before, after) = (text(&element["prefixVariable"]), text(&element["suffixVariable"]));
                    let joined = [&element["isPrefixVariablePartOfArg"], &element["isSuffixVariablePartOfArg"]];
                    let mut three = std::vec![(before, true), (value, false), (after, true)];
                    if joined[1] == true {
                        let suffix = three.pop().unwrap().0;
                        three[1].0 += &suffix;
                    }
                    if joined[0] == true {
                        let prefix = three.remove(0).0;
                        three[0].0 = prefix + &three[0].0;
                    }
                    middle.extend(
                        three.into_iter().filter(|(text, affix)| !(*affix && text.is_empty())).map(|(text, _)| text),
                    );
                }
                let some = element["variableNames"].as_array().unwrap().iter();
                if some.filter_map(|name| cases.get(name.as_str().unwrap())).any(|case| case.text.is_some()) {
                    line.extend(Some(text(&element["prefixGlobal"])).filter(|text| !text.is_empty()));
                    line.extend(middle);
                    line.extend(Some(text(&element["suffixGlobal"])).filter(|text| !text.is_empty()));
                }
            }
        }
    }
    line.first().filter(|program| !program.is_empty())?;
    Some(line)
}

fn build(cases: &BTreeMap<&str, Case>, elements: &[Value]) -> Job {
    let mut definitions = Vec::new();
    let mut given = json!({});
    for (name, case) in cases {
        let mut definition = case.definition.clone();
        definition["name"] = json!(name);
        definitions.push(definition);
        if let Some(value) = &case.given {
            given[*name] = value.clone();
        }
    }
    job_running(json!(definitions), json!(elements), given)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_command_line_follows_the_rules(
        cases in btree_map(select(std::vec!["a", "b", "c", "d"]), case(), 0..5),
        elements in vec(element(), 0..6),
    ) {
        let ours = arguments(&build(&cases, &elements)).ok();
        prop_assert_eq!(ours, model(&elements, &cases));
    }

    #[test]
    fn words_stay_and_each_value_is_one_argument(
        words in vec("[ -~]{1,8}", 1..5),
        value in "[ -~\n'\"$]{0,20}",
    ) {
        let mut elements: Vec<Value> = words.iter().map(|word| json!({"type": "word", "word": word})).collect();
        elements.push(json!({"type": "var", "variableNames": ["t"]}));
        let given = json!({"t": {"type": "text", "value": value}});
        let ours = arguments(&job_running(json!([parameter("text", "t")]), json!(elements), given)).unwrap();
        let mut expected = words;
        expected.push(value);
        prop_assert_eq!(ours, expected);
    }

    #[test]
    fn a_variable_is_the_line_joined_by_blanks(
        cases in btree_map(select(std::vec!["a", "b", "c", "d"]), case(), 0..5),
        element in element().prop_filter("not env", |element| element["type"] != "env"),
    ) {
        let mut job = build(&cases, &[]);
        let app = &mut job.status.resolved_application.as_mut().unwrap().invocation;
        app.environment = serde_json::from_value(json!({"V": element})).unwrap();
        let ours = environment(app, job.specification.parameters.as_ref().unwrap()).ok();
        // A program in front keeps the model from refusing an empty line.
        let line = model(&[json!({"type": "word", "word": "run"}), element], &cases);
        let expected = line.map(|line| match &line[1..] {
            [] => BTreeMap::new(),
            pieces => BTreeMap::from([("V".to_owned(), pieces.join(" "))]),
        });
        prop_assert_eq!(ours, expected);
    }
}
