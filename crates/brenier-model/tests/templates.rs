//! Chat templates against what Hugging Face transformers renders (tests/golden/templates).
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use brenier_model::{ChatTemplate, Message, ModelError, RenderOptions};
use serde_json::{Map, Value, json};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/templates")
}

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn renders_as_transformers_does() {
    let cases: Value =
        serde_json::from_str(&std::fs::read_to_string(golden().join("cases.json")).unwrap()).unwrap();
    let now = cases["now"].as_str().unwrap().parse().unwrap();
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 50, "the golden file lost its cases");
    let mut wrong = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        let name = case["template"].as_str().unwrap();
        let source = std::fs::read_to_string(golden().join(format!("{name}.jinja"))).unwrap();
        let template = ChatTemplate::new(source, map(&case["tokens"])).unwrap();
        let options = RenderOptions {
            add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
            now: Some(now),
            variables: map(&case["variables"]),
        };
        let messages = case["messages"].as_array().unwrap();
        let found = template.render_with(messages, &options);
        let as_expected = match (&found, case["text"].as_str()) {
            (Ok(text), Some(expected)) => text == expected,
            (Err(ModelError::TemplateRefused { message, .. }), None) => {
                message == case["refused"].as_str().unwrap()
            }
            _ => false,
        };
        if !as_expected {
            wrong.push(format!("case {i} ({name}):\nfound    {found:?}\nexpected {:?}", case["text"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What jinja2 renders, small templates of one or a few constructs each.
#[test]
fn renders_snippets_as_jinja2_does_or_not_at_all() {
    let golden: Value =
        serde_json::from_str(&std::fs::read_to_string(golden().join("snippets.json")).unwrap()).unwrap();
    let mut variables = map(&golden["context"]);
    let messages = variables.remove("messages").unwrap();
    let options = RenderOptions {
        add_generation_prompt: variables.remove("add_generation_prompt").unwrap().as_bool().unwrap(),
        now: Some(golden["now"].as_str().unwrap().parse().unwrap()),
        variables,
    };
    let render = |source: &str| {
        ChatTemplate::new(source, Map::new())
            .and_then(|template| template.render_with(messages.as_array().unwrap(), &options))
    };
    let (mut wrong, mut texts, mut errors) = (Vec::new(), 0, 0);
    for snippet in golden["snippets"].as_array().unwrap() {
        let source = snippet["source"].as_str().unwrap();
        let found = render(source);
        match (&found, snippet["text"].as_str()) {
            (Ok(text), Some(expected)) if text == expected => texts += 1,
            (Err(_), None) => errors += 1,
            _ => wrong.push(format!("{source}\nfound    {found:?}\nexpected {snippet}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(texts >= 150 && errors >= 140, "the golden file lost its cases");
    for snippet in golden["refused"].as_array().unwrap() {
        let source = snippet["source"].as_str().unwrap();
        let error = render(source).expect_err(source).to_string();
        assert!(error.contains("not supported") || error.contains("unknown date"), "{source}: {error}");
    }
}

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn rendered(files: &[(&str, &str)]) -> Result<String, ModelError> {
    let dir = directory(files);
    let template = ChatTemplate::read(dir.path())?.expect("a template");
    template.render(&[Message::user("x")], true)
}

#[test]
fn reads_the_template_from_where_transformers_does() {
    let config = r#"{"chat_template": "config {{ bos_token }}{{ eos_token }}{{ pad_token is defined }}",
        "bos_token": {"content": "<s>", "special": true}, "eos_token": "</s>", "pad_token": null}"#;
    assert_eq!(rendered(&[("tokenizer_config.json", config)]).unwrap(), "config <s></s>False");
    // A file of its own takes precedence.
    let own = ("chat_template.jinja", "own {{ bos_token }}\n");
    assert_eq!(rendered(&[("tokenizer_config.json", config), own]).unwrap(), "own <s>");
    assert_eq!(rendered(&[own]).unwrap(), "own ");
    // Several templates: the default one.
    let several = r#"{"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "default"}]}"#;
    assert_eq!(rendered(&[("tokenizer_config.json", several)]).unwrap(), "default");
    // Older checkpoints, without added_tokens_decoder, have a third file, which replaces what the other says.
    let older = [
        (
            "tokenizer_config.json",
            r#"{"chat_template": "{{ bos_token }}{{ eos_token }}", "bos_token": "<a>"}"#,
        ),
        ("special_tokens_map.json", r#"{"bos_token": "<b>", "eos_token": {"content": "</b>"}}"#),
    ];
    assert_eq!(rendered(&older).unwrap(), "<b></b>");
}

#[test]
fn a_model_without_a_template_has_none() {
    for files in [&[][..], &[("tokenizer_config.json", r#"{"bos_token": "<s>", "chat_template": null}"#)]] {
        assert!(ChatTemplate::read(directory(files).path()).unwrap().is_none());
    }
}

#[test]
fn broken_template_files_are_named_on_one_line() {
    let cases = [
        (vec![("tokenizer_config.json", "{\"chat_template\": ")], "tokenizer_config.json is not valid JSON"),
        (vec![("tokenizer_config.json", "[]")], "tokenizer_config.json is not valid JSON"),
        (vec![("tokenizer_config.json", r#"{"chat_template": 3}"#)], "expected a string or a list, found 3"),
        (
            vec![("tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": "x"}]}"#)],
            "expected a template named `default` in the list, found rag",
        ),
        (
            vec![("chat_template.jinja", "a\n{% for m in %}")],
            "chat_template.jinja: line 2 (counted from 1): syntax error",
        ),
        (
            vec![("chat_template.jinja", "{% if true %}")],
            "chat_template.jinja: line 1 (counted from 1): syntax error",
        ),
    ];
    for (files, expected) in cases {
        let error = rendered(&files).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "`{expected}` is not in: {error}");
    }
}

#[test]
fn a_failing_template_names_its_line() {
    let template = |source: &str| ChatTemplate::new(source, Map::new()).unwrap();
    let error = |source: &str| template(source).render(&[Message::user("x")], true).unwrap_err();
    let at = |source: &str, expected: &str| {
        let error = error(source);
        assert!(matches!(error, ModelError::Template { .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "`{expected}` is not in: {error}");
    };
    at(
        "\n\n{{ messages[0].content.nothing() }}",
        "line 3 (counted from 1): `str` object has no attribute `nothing`",
    );
    at("{{ missing.attribute.of }}", "line 1 (counted from 1): `missing` is undefined");
    at(
        "{% if true %}\n{{ messages | nofilter }}{% endif %}",
        "line 2 (counted from 1): no filter named `nofilter`",
    );
    at("{{ 1 +\n\n'a' }}", "line 1 (counted from 1): `+` does not take `int` and `str`");
    at(
        "{{ strftime_now('%Y') }}",
        "line 1 (counted from 1): asks for the date (strftime_now), and no date was given",
    );
    at("{{ missing | tojson }}", "a value of type `Undefined` cannot be written as JSON");
    at("{% for m in none %}{% endfor %}", "line 1 (counted from 1): `NoneType` object is not iterable");
    let refused = error("{{ raise_exception('Only\n' ~ 2 ~ ' roles') }}");
    assert!(matches!(refused, ModelError::TemplateRefused { .. }), "{refused:?}");
    assert!(refused.to_string().ends_with("refuses these messages: Only 2 roles"), "{refused}");
    let long = error("{{ raise_exception('x' * 100000) }}").to_string();
    assert!(long.len() < 2000 && long.ends_with("xxx..."), "{} bytes", long.len());
}

#[test]
fn the_date_is_the_callers() {
    let dated = ChatTemplate::new("{{ strftime_now('%Y-%m-%d') }}", Map::new()).unwrap();
    let now = "2024-02-29T12:00:00".parse().unwrap();
    let options = RenderOptions { now: Some(now), ..RenderOptions::default() };
    assert_eq!(dated.render_with(&[Message::user("x")], &options).unwrap(), "2024-02-29");
    // The clock is never read: without a date there is no text.
    assert!(dated.render(&[], false).is_err());
    let undated = ChatTemplate::new("{{ messages[0].content }} strftime_now", Map::new()).unwrap();
    assert!(dated.uses_date() && !undated.uses_date());
    // A template may ask first.
    let asks = "{% if date is defined %}{{ date }}{% else %}{{ strftime_now('%d %b') }}{% endif %}";
    let asks = ChatTemplate::new(asks, Map::new()).unwrap();
    assert!(asks.uses_date());
    let variables = map(&json!({"date": "today"}));
    let given = RenderOptions { variables, ..RenderOptions::default() };
    assert_eq!(asks.render_with::<Message>(&[], &given).unwrap(), "today");
    assert_eq!(asks.render_with::<Message>(&[], &options).unwrap(), "29 Feb");
}

#[test]
fn variables_take_precedence_over_tokens() {
    let tokens = map(&json!({"bos_token": "<s>"}));
    let template = ChatTemplate::new("{{ bos_token }}{{ tools is none }}{{ extra }}", tokens).unwrap();
    let variables = map(&json!({"bos_token": "<b>", "tools": [], "extra": 1.5}));
    let options = RenderOptions { variables, ..RenderOptions::default() };
    assert_eq!(template.render_with::<Message>(&[], &options).unwrap(), "<b>False1.5");
    assert_eq!(template.render(&[], false).unwrap(), "<s>True");
}

#[test]
fn the_hash_is_that_of_the_source() {
    let template = ChatTemplate::new("abc", Map::new()).unwrap();
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!((template.sha256().as_str(), template.source()), (expected, "abc"));
}
