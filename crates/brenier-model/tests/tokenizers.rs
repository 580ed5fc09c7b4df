//! Tokenizers against Hugging Face transformers (tests/golden/tokenizers), and their failures.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use brenier_model::{ChatTemplate, ModelError, Tokenizer};
use serde_json::Value;

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
