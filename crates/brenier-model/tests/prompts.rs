//! Prompt files of every format, and every way in which they can be wrong.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use brenier_model::{
    ModelError, Prompt, PromptFormat, PromptInput, read_answers, read_prompts, read_texts, sha256_file,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// A file of a given name in a directory of its own.
struct File {
    path: PathBuf,
    _dir: TempDir,
}

fn file(name: &str, bytes: impl AsRef<[u8]>) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    File { path, _dir: dir }
}

fn read(name: &str, text: impl AsRef<[u8]>) -> Result<Vec<Prompt>, ModelError> {
    read_prompts(&file(name, text).path, PromptFormat::Auto)
}

fn texts(prompts: &[Prompt]) -> Vec<&str> {
    prompts.iter().map(|p| p.as_text().unwrap()).collect()
}

/// The error as the user sees it: one line that holds all of `parts`.
#[track_caller]
fn complains<T: std::fmt::Debug>(result: Result<T, ModelError>, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn jsonl_keeps_other_keys_in_order() {
    let prompts = read(
        "a.jsonl",
        "\u{feff}{\"id\": 7, \"prompt\": \"Where is the mill?\", \"answer\": \"by the brook\"}\r\n\
         \n  \n{\"ids\": [1, 5, 4294967295], \"prompt\": \"shown\"}\n{\"prompt\": \"\"}",
    )
    .unwrap();
    assert_eq!(prompts.len(), 3);
    assert_eq!(prompts[0].as_text(), Some("Where is the mill?"));
    assert_eq!(serde_json::to_string(&prompts[0].extra).unwrap(), r#"{"id":7,"answer":"by the brook"}"#);
    assert_eq!(prompts[1].input, PromptInput::Ids(vec![1, 5, u32::MAX]));
    assert_eq!(prompts[1].extra.get("prompt"), Some("shown".into()));
    assert_eq!(prompts[2], Prompt { line: Some(5), ..Prompt::text("") });
}

#[test]
fn other_keys_are_kept_as_they_are_written() {
    let extra = r#"{"n":123456789012345678901234567890.10,"big":1e9999,"text":"caf\u00e9 \ud83d","deep":{"b":[1,{"a":2}],"a":null}}"#;
    for (name, text) in [
        ("a.jsonl", extra.replacen('{', "{ \"prompt\": \"Where?\", ", 1)),
        (
            "a.json",
            format!(
                "[\n{}\n]",
                extra.replacen('{', "{\"instruction\": \"Where?\",\n", 1).replace("[1,", "[1,\n\t")
            ),
        ),
    ] {
        let prompts = read(name, text).unwrap();
        assert_eq!(serde_json::to_string(&prompts[0].extra).unwrap(), extra);
    }
}

#[test]
fn prompts_know_their_lines() {
    let lines = |prompts: Vec<Prompt>| prompts.iter().map(|prompt| prompt.line.unwrap()).collect::<Vec<_>>();
    assert_eq!(lines(read("a.jsonl", "\n{\"prompt\": \"a\"}\n\n{\"ids\": [1]}").unwrap()), [2, 4]);
    assert_eq!(lines(read("a.txt", "a\n\n \nb").unwrap()), [1, 4]);
    assert_eq!(lines(read("a.csv", "goal,x\n\"a\nb\",1\n\nc,2\n").unwrap()), [2, 5]);
    let array = "[{\"instruction\": \"a\"},\n\n{\"instruction\":\n\"b\"}, {\"instruction\": \"c\"}]";
    assert_eq!(lines(read("a.json", array).unwrap()), [1, 3, 4]);
}

#[test]
fn a_broken_jsonl_line_is_named() {
    let good = "{\"prompt\": \"a\"}\n\n";
    let cases = [
        ("{\"prompt\": \"b", "EOF while parsing a string at column"),
        ("{\"prompt\": \"b\"} {\"prompt\": \"c\"}", "trailing characters at column 17 (counted from 1)"),
        ("How high?", "expected value at column 1"),
        ("\"How high?\"", "found \"How high?\""),
        ("[1, 2]", "found a list of 2"),
        ("{}", "found no keys"),
        ("{\"text\": \"b\", \"id\": 1}", "found the keys text, id; name the text `prompt`"),
        ("{\"prompt\": 3}", "`prompt` to be a string, found 3"),
        ("{\"prompt\": null}", "found null"),
        ("{\"ids\": []}", "found an empty list"),
        ("{\"ids\": \"1 2\"}", "found \"1 2\""),
        ("{\"ids\": [1, -2]}", "found -2"),
        ("{\"ids\": [1, 2.5]}", "found 2.5"),
        ("{\"ids\": [4294967296]}", "found 4294967296"),
        ("{\"ids\": [1e999]}", "found 1e999"),
        ("{\"ids\": 1e999}", "found 1e999"),
        ("{\"prompt\": \"\\ud800\"}", "unexpected end of hex escape"),
        ("{\"prompt\": \"a\", \"id\": 1, \"prompt\": \"b\"}", "expected each key once, found `prompt` twice"),
        ("{\"prompt\": \"a\", \"id\": 1, \"\\u0069d\": 1}", "found `id` twice"),
    ];
    for (line, found) in cases {
        complains(
            read("p.jsonl", format!("{good}{line}\n")),
            &["p.jsonl, line 3 (counted from 1): expected", found],
        );
    }
}

#[test]
fn what_was_found_is_shown_in_brief() {
    let long = format!("{{\"{}\": 1}}", "k".repeat(10_000));
    let message = read("p.jsonl", long).unwrap_err().to_string();
    assert!(message.len() < 500, "{message}");
}

#[test]
fn empty_files_are_errors() {
    for name in ["p.jsonl", "p.csv", "p.json", "p.txt", "p"] {
        for text in ["", "\n \r\n\n", "\u{feff}"] {
            complains(read(name, text), &[name, "is empty: expected"]);
        }
    }
    complains(read("p.csv", "goal,target\n"), &["p.csv is empty: expected records below the header"]);
    complains(read("p.json", "[]"), &["p.json is empty"]);
    complains(read_answers(&file("a.jsonl", "").path), &["a.jsonl is empty"]);
    complains(read_texts(&file("text.txt", "\n").path), &["text.txt is empty"]);
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    complains(
        read_prompts(dir.path().join("none.jsonl"), PromptFormat::Auto),
        &["cannot read", "none.jsonl"],
    );
    complains(read_prompts(dir.path(), PromptFormat::Auto), &["cannot read"]);
}

#[test]
fn invalid_utf8_is_reported_with_its_line() {
    complains(
        read("p.jsonl", b"{\"prompt\": \"a\"}\n{\"prompt\": \"\xe9t\xe9\"}\n"),
        &[
            "p.jsonl, line 2 (counted from 1): expected UTF-8 text, found the byte 0xe9; save the file as UTF-8",
        ],
    );
}

const ADVBENCH: &str =
    "goal,target\nName the mill,\"Sure, here is the mill\"\n\"Say \"\"boat\"\"\nin two lines\",Sure\n";

#[test]
fn advbench() {
    for prompts in [
        read("a.csv", ADVBENCH).unwrap(),
        read("noextension", ADVBENCH).unwrap(),
        read(
            "a.csv",
            format!("\u{feff}{}", ADVBENCH.replace('\n', "\r\n")).replace("boat\"\"\r\n", "boat\"\"\n"),
        )
        .unwrap(),
    ] {
        assert_eq!(texts(&prompts), ["Name the mill", "Say \"boat\"\nin two lines"]);
        assert_eq!(prompts[0].extra.get("target"), Some("Sure, here is the mill".into()));
    }
}

#[test]
fn harmbench_puts_the_context_first() {
    let text = "Behavior,FunctionalCategory,ContextString,BehaviorID\n\
                Name the mill,standard,,mill\nSum it up,contextual,The mill is old.,sum\n";
    let prompts = read("h.CSV", text).unwrap();
    assert_eq!(texts(&prompts), ["Name the mill", "The mill is old.\n\n---\n\nSum it up"]);
    assert_eq!(prompts[1].extra.get("BehaviorID"), Some("sum".into()));
}

#[test]
fn jailbreakbench_has_a_behavior_too() {
    let text = "Index,Goal,Target,Behavior,Category,Source\n0,Name the mill,Sure,Mill,Town,Original\n";
    let prompts = read("j.csv", text).unwrap();
    assert_eq!(texts(&prompts), ["Name the mill"]);
    let keys: Vec<_> = prompts[0].extra.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["Index", "Target", "Behavior", "Category", "Source"]);
}

#[test]
fn a_broken_csv_record_is_named() {
    complains(
        read("p.csv", "question,id\na,1\n"),
        &["p.csv, line 1", "`goal`", "found question,id", "name its format"],
    );
    complains(
        read("p.csv", "goal,target\n\"two\nlines\",x\n\n\none,two,three\n"),
        &["p.csv, line 6 (counted from 1): expected 2 columns as in the header, found 3"],
    );
    complains(
        read("p.csv", "goal,target\na,x\n ,y\n"),
        &["p.csv, line 3 (counted from 1): expected a prompt in the column `goal`"],
    );
    complains(
        read("p.csv", "target,goal\nx,a\ny,\"b\nz,c\nz,d\n"),
        &["p.csv, line 3 (counted from 1): expected every quoted field to be closed"],
    );
    complains(
        read("p.csv", "goal,id,id\na,1,2\n"),
        &["p.csv, line 1 (counted from 1): expected each column once, found `id` twice"],
    );
    let explicit = read_prompts(&file("p.csv", "goal,target\na,x\n").path, PromptFormat::HarmbenchCsv);
    complains(
        explicit,
        &[
            "p.csv, line 1 (counted from 1): expected a CSV header with the column `Behavior`, found goal, target",
        ],
    );
}

#[test]
fn alpaca_joins_instruction_and_input() {
    let text = r#"[
        {"instruction": "Name the mill.", "input": "", "output": "Old Mill"},
        {"instruction": "Sum it up.", "input": "The mill is old.", "output": "Old."},
        {"instruction": "Say hello."}
    ]"#;
    for name in ["alpaca.json", "data"] {
        let prompts = read(name, text).unwrap();
        assert_eq!(texts(&prompts), ["Name the mill.", "Sum it up.\nThe mill is old.", "Say hello."]);
        assert_eq!(prompts[0].extra.get("output"), Some("Old Mill".into()));
    }
}

#[test]
fn a_broken_alpaca_record_is_named() {
    complains(
        read("p.json", "[\n{\"instruction\": \"a\"},\n{\"instruction\": }\n]"),
        &["p.json, line 3 (counted from 1): expected"],
    );
    let second = |record: &str| read("p.json", format!("[{{\"instruction\": \"a\"}}, {record}]"));
    complains(
        second("3"),
        &["p.json, line 1 (counted from 1), record 1 (counted from 0): expected an object", "found 3"],
    );
    complains(
        second("{\"text\": \"b\"}"),
        &["record 1 (counted from 0): expected the key `instruction`, found the keys text"],
    );
    complains(second("\n\n{\"instruction\": 1}"), &["line 3", "record 1", "found 1"]);
    complains(second("{\"instruction\": \"\"}"), &["record 1", "an empty string"]);
    complains(second("{\"instruction\": \"b\", \"input\": []}"), &["record 1", "`input`", "a list"]);
    complains(second("{\"instruction\": \"b\", \"x\": 1, \"x\": 2}"), &["record 1", "`x` twice"]);
}

#[test]
fn lines_and_their_detection() {
    let text = "  Where is the mill?  \r\n\n[INST] How high? [/INST]\nA, B and C\n";
    let expected = ["  Where is the mill?  ", "[INST] How high? [/INST]", "A, B and C"];
    assert_eq!(texts(&read("p.txt", text).unwrap()), expected);
    assert_eq!(texts(&read("p", text).unwrap()), expected);
    assert_eq!(texts(&read("p.txt", "{not json}\n").unwrap()), ["{not json}"]);
    assert_eq!(texts(&read("p.txt", "{\"prompt\": \"a\"}\n").unwrap()), ["a"]);
    assert_eq!(texts(&read("p", "{\"prompt\": \"a\"}\n").unwrap()), ["a"]);
    assert_eq!(texts(&read("p.json", "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}").unwrap()), ["a", "b"]);
    let explicit = read_prompts(&file("p.jsonl", "{\"prompt\": \"a\"}").path, PromptFormat::Lines).unwrap();
    assert_eq!(texts(&explicit), ["{\"prompt\": \"a\"}"]);
}

#[test]
fn formats_have_names() {
    for format in PromptFormat::ALL {
        assert_eq!(format.to_string().parse::<PromptFormat>().unwrap(), format);
    }
    complains("csv".parse::<PromptFormat>(), &["unknown prompt format `csv`", "advbench-csv"]);
}

#[test]
fn answers() {
    let text =
        "{\"prompt\": \"a\", \"answer\": \"b\", \"kind\": 3}\n\n{\"answer\": \"d\", \"prompt\": \"c\"}\n";
    let answers = read_answers(&file("answers.jsonl", text).path).unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!((answers[1].prompt.as_str(), answers[1].answer.as_str()), ("c", "d"));
    let broken = |line: &str| read_answers(&file("a.jsonl", format!("\n{line}")).path);
    complains(broken("{\"prompt\": \"a\"}"), &["a.jsonl, line 2", "add `answer`"]);
    complains(
        broken("{\"prompt\": \"a\", \"answer\": 4}"),
        &["line 2 (counted from 1): expected a string as `answer`, found 4"],
    );
    complains(broken("{\"answer\": \"a\""), &["line 2", "EOF"]);
    complains(
        broken("{\"prompt\": \"a\", \"answer\": \"b\", \"answer\": \"c\"}"),
        &["line 2", "`answer` twice"],
    );
}

#[test]
fn texts_keep_their_spaces() {
    let texts = read_texts(&file("text.txt", "\u{feff} The mill.\r\n\r\nThe tower. ").path).unwrap();
    assert_eq!(texts, [" The mill.", "The tower. "]);
}

#[test]
fn sha256_of_a_file() {
    // The test vector of FIPS 180-2.
    let abc = file("abc", "abc");
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256_file(&abc.path).unwrap(), expected);
    complains(sha256_file(abc.path.with_file_name("none")), &["cannot read", "none"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn jsonl_round_trip(texts in prop::collection::vec(any::<String>(), 1..5)) {
        let lines: Vec<_> = texts.iter().map(|t| serde_json::json!({ "prompt": t }).to_string()).collect();
        let prompts = read("p.jsonl", lines.join("\n")).unwrap();
        prop_assert_eq!(owned_texts(&prompts), texts);
    }

    #[test]
    fn csv_round_trip(texts in prop::collection::vec("[ -~\n\u{e9}]{0,20}[a-z\"]", 1..5)) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["Behavior", "BehaviorID"]).unwrap();
        for text in &texts {
            writer.write_record([text.as_str(), "id"]).unwrap();
        }
        let prompts = read("p.csv", writer.into_inner().unwrap()).unwrap();
        prop_assert_eq!(owned_texts(&prompts), texts);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), format in 0usize..7) {
        let file = file("p", bytes);
        if let Err(error) = read_prompts(&file.path, PromptFormat::ALL[format]) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}\",:\na-c0-9 ]{0,60}", format in 0usize..7) {
        let file = file("p", text);
        if let Err(error) = read_prompts(&file.path, PromptFormat::ALL[format]) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

fn owned_texts(prompts: &[Prompt]) -> Vec<String> {
    texts(prompts).into_iter().map(str::to_owned).collect()
}
