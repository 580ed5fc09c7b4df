//! Tokenizers against Hugging Face transformers (tests/golden/tokenizers), and their failures.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use brenier_model::{ChatTemplate, ModelError, Tokenizer};
use serde_json::{Value, json};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers")
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn encodes_and_decodes_as_transformers_does() {
    let cases: Value =
        serde_json::from_str(&std::fs::read_to_string(golden().join("cases.json")).unwrap()).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 21, "the golden file lost its cases");
    for case in cases {
        let tokenizer = Tokenizer::read(golden().join(case["tokenizer"].as_str().unwrap())).unwrap();
        let text = case["text"].as_str().unwrap();
        let plain = tokenizer.encode(text, false).unwrap();
        assert_eq!(plain, ids(&case["plain"]), "{case}");
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids(&case["raw"]), "{case}");
        assert_eq!(tokenizer.decode(&plain, false).unwrap(), case["decoded"], "{case}");
        assert_eq!(tokenizer.decode(&plain, true).unwrap(), case["decoded_without_special"], "{case}");
    }
}

#[test]
fn names_tokens_both_ways() {
    let tokenizer = Tokenizer::read(golden().join("byte-fallback/tokenizer.json")).unwrap();
    assert_eq!(tokenizer.id_of("</s>"), Some(2));
    assert_eq!(tokenizer.token_of(2).as_deref(), Some("</s>"));
    assert_eq!(tokenizer.id_of("no such token"), None);
    assert_eq!(tokenizer.token_of(1_000_000), None);
    assert_eq!(tokenizer.vocab(), 420);
}

#[test]
fn a_rendered_prompt_holds_bos_once() {
    let tokenizer = Tokenizer::read(golden().join("byte-level")).unwrap();
    let source = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}<|turn|>{% endfor %}";
    let tokens = [("bos_token".to_owned(), "<|begin|>".into())].into_iter().collect();
    let template = ChatTemplate::new(source, tokens).unwrap();
    let ids = template.chat_ids(&tokenizer, "How high is the tower?", Some("Be brief."), None).unwrap();
    let text = "<|begin|>system: Be brief.<|turn|>user: How high is the tower?<|turn|>";
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    assert_eq!(ids.iter().filter(|id| **id == 0).count(), 1);
}

#[test]
fn a_missing_tokenizer_says_how_to_make_one() {
    let dir = tempfile::tempdir().unwrap();
    let error = Tokenizer::read(dir.path()).unwrap_err();
    assert!(matches!(error, ModelError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
    std::fs::write(dir.path().join("tokenizer.model"), "x").unwrap();
    let error = Tokenizer::read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("save_pretrained"), "{error}");
}

#[test]
fn a_broken_tokenizer_is_named_on_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let whole = std::fs::read(golden().join("byte-level/tokenizer.json")).unwrap();
    // The last two: cut within the decoder, and a character map that does not decode.
    let decoder = whole.windows(9).position(|w| w == b"\"decoder\"").unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let map = r#"{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#;
    let undecodable = text.replacen(r#"{"type":"NFC"}"#, map, 1);
    assert_ne!(undecodable, text);
    let half = &whole[..whole.len() / 2];
    let cut = &whole[..decoder + 20];
    for bytes in [&b""[..], b"{}", b"not json", b"\xff\xfe", b"[]", half, cut, undecodable.as_bytes()] {
        std::fs::write(&path, bytes).unwrap();
        let error = Tokenizer::read(&path).unwrap_err();
        assert!(matches!(error, ModelError::Tokenizer { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(&path.display().to_string()) && !error.contains('\n'), "{error}");
    }
}

/// A copy of a golden tokenizer, edited as a case of `declared.json` says.
fn edited(case: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let source = golden().join(case["tokenizer"].as_str().unwrap());
    for (file, keys) in [("tokenizer_config.json", "config"), ("tokenizer.json", "tokenizer_json")] {
        let mut content: Value = serde_json::from_slice(&std::fs::read(source.join(file)).unwrap()).unwrap();
        content.as_object_mut().unwrap().extend(case[keys].as_object().cloned().unwrap_or_default());
        std::fs::write(dir.path().join(file), content.to_string()).unwrap();
    }
    for (file, content) in case["files"].as_object().into_iter().flatten() {
        std::fs::write(dir.path().join(file), content.to_string()).unwrap();
    }
    dir
}

#[test]
fn declared_tokens_are_those_of_transformers() {
    let golden: Value =
        serde_json::from_slice(&std::fs::read(golden().join("declared.json")).unwrap()).unwrap();
    let texts: Vec<String> = serde_json::from_value(golden["texts"].clone()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 25, "the golden file lost its cases");
    for case in cases {
        let dir = edited(case);
        let tokenizer = Tokenizer::read(dir.path()).unwrap();
        for (text, (expected, decoded)) in
            texts.iter().zip(case["ids"].as_array().unwrap().iter().zip(case["decoded"].as_array().unwrap()))
        {
            let found = tokenizer.encode(text, false).unwrap();
            assert_eq!(found, ids(expected), "{}: {text}", case["name"]);
            assert_eq!(tokenizer.decode(&found, true).unwrap(), *decoded, "{}: {text}", case["name"]);
        }
        // Templates see the special tokens that have a name.
        let named = case["named"].as_object().unwrap();
        let source: String = named.keys().map(|name| format!("{{{{ {name} }}}}\n")).collect();
        std::fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
        let template = ChatTemplate::read(dir.path()).unwrap().unwrap();
        let expected: Vec<&str> = named.values().map(|token| token.as_str().unwrap()).collect();
        assert_eq!(template.render(&[], false).unwrap().trim_end(), expected.join("\n"), "{}", case["name"]);
    }
}

#[test]
fn two_ids_of_one_token_are_refused() {
    let declared = |id: &str, content: &str| {
        let token = json!({"content": content, "lstrip": false, "normalized": false, "rstrip": false,
            "single_word": false, "special": true});
        json!({"config": {"added_tokens_decoder": {id: token}}})
    };
    let turn = |id: u32| {
        let token = json!({"id": id, "content": "<|turn|>", "lstrip": false, "normalized": false, "rstrip": false,
            "single_word": false, "special": true});
        json!({"tokenizer_json": {"added_tokens": [token]}})
    };
    for (case, parts) in [
        // 2 in tokenizer.json; the next one free; that of another token; beyond a gap.
        (declared("7", "<|turn|>"), ["tokenizer_config.json", "`<|turn|>`", "7", "2"]),
        (declared("2", "<|im_start|>"), ["tokenizer_config.json", "`<|im_start|>`", "395", "`<|turn|>`"]),
        (declared("400", "<|im_start|>"), ["tokenizer_config.json", "`<|im_start|>`", "400", "395"]),
        (json!({"files": {"added_tokens.json": {"<|x|>": 2}}}), ["added_tokens.json", "`<|x|>`", "2", "395"]),
        (turn(3), ["tokenizer.json", "`<|turn|>`", "3", "2"]),
        (turn(400), ["tokenizer.json", "`<|turn|>`", "400", "2"]),
    ] {
        let mut case = case;
        case["tokenizer"] = json!("byte-level");
        let error = Tokenizer::read(edited(&case).path()).unwrap_err();
        assert!(matches!(error, ModelError::Contradiction { .. }), "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
        }
    }
}

#[test]
fn special_tokens_that_cannot_be_are_named() {
    for (config, part) in [
        (json!({"added_tokens_decoder": ["<x>"]}), "added_tokens_decoder"),
        (json!({"added_tokens_decoder": {"x": {"content": "<x>"}}}), "added_tokens_decoder"),
        (json!({"added_tokens_decoder": {"395": "<x>"}}), "added_tokens_decoder.395"),
        (json!({"bos_token": 3}), "bos_token"),
        (json!({"extra_special_tokens": "<x>"}), "extra_special_tokens"),
        (json!({"additional_special_tokens": [7]}), "additional_special_tokens"),
        (json!({"split_special_tokens": "no"}), "split_special_tokens"),
    ] {
        let dir = edited(&json!({"tokenizer": "byte-level", "config": config}));
        let error = Tokenizer::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json") && error.contains(part), "{error}");
    }
}

#[test]
fn a_panic_of_the_library_is_an_error_that_names_the_file() {
    let text = std::fs::read_to_string(golden().join("byte-level/tokenizer.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let with = |normalizer: &str| {
        std::fs::write(&path, text.replacen(r#"{"type":"NFC"}"#, normalizer, 1)).unwrap();
        Tokenizer::read(&path)
    };
    // Nothing is replaced by something: this panics at the first text that is not empty.
    let tokenizer = with(r#"{"type":"Replace","pattern":{"String":""},"content":"x"}"#).unwrap();
    for _ in 0..2 {
        let error = tokenizer.encode("How high is the tower?", true).unwrap_err();
        assert!(matches!(error, ModelError::Tokenize { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(&path.display().to_string()) && !error.contains('\n'), "{error}");
    }
    let sound = with(r#"{"type":"NFC"}"#).unwrap();
    assert_eq!(sound.decode(&sound.encode("How?", false).unwrap(), true).unwrap(), "How?");
}

#[test]
fn dropout_is_switched_off() {
    let whole: Value =
        serde_json::from_slice(&std::fs::read(golden().join("byte-level/tokenizer.json")).unwrap()).unwrap();
    let mut model = whole["model"].clone();
    let sound = Tokenizer::read(golden().join("byte-level")).unwrap();
    for dropout in [0.1, 0.5, 1.0] {
        model["dropout"] = json!(dropout);
        let case = json!({"tokenizer": "byte-level", "tokenizer_json": {"model": model}});
        let tokenizer = Tokenizer::read(edited(&case).path()).unwrap();
        for text in ["How high is the tower?", "The lighthouse keeper of Abach", "<|turn|>counts the boats"] {
            let expected = sound.encode(text, true).unwrap();
            for _ in 0..20 {
                assert_eq!(tokenizer.encode(text, true).unwrap(), expected);
            }
        }
    }
}
