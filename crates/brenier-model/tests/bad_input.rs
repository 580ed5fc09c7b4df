//! Model directories broken file by file and value by value, beside those in loading.rs: the error is one line
//! that says what and where, and nothing panics.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use brenier_model::{
    ChatTemplate, GenerateOptions, LanguageModel, Message, ModelError, Prompt, PromptFormat, PromptOptions,
    Tokenizer, generate, read_prompts,
};
use burn::tensor::Device;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A copy of a golden model, to be broken.
struct Model {
    dir: TempDir,
}

impl Model {
    fn copy(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(golden("models").join(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() != "expected.safetensors" {
                std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        Self { dir }
    }

    /// One with a tokenizer and a template beside the weights.
    fn with_text(template: &str) -> Self {
        let model = Self::copy("llama2");
        let tokenizer = golden("tokenizers").join("byte-level/tokenizer.json");
        std::fs::copy(tokenizer, model.path("tokenizer.json")).unwrap();
        model.write("chat_template.jinja", template);
        model
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(file), bytes).unwrap();
    }

    /// Cuts or changes the bytes of a file.
    fn bytes(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.path(file)).unwrap();
        change(&mut bytes);
        self.write(file, bytes);
    }

    fn json(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&std::fs::read(self.path(file)).unwrap()).unwrap();
        change(&mut value);
        self.write(file, value.to_string());
    }

    fn config(&self, key: &str, value: Value) {
        self.json("config.json", |config| config[key] = value);
    }

    fn load(&self) -> Result<LanguageModel, ModelError> {
        LanguageModel::load(self.dir.path(), &Device::flex(), None)
    }

    /// Loading fails with one line that names a file of the directory and holds all of `parts`.
    #[track_caller]
    fn complains(&self, file: &str, parts: &[&str]) {
        let path = self.path(file).display().to_string();
        one_line(self.load().unwrap_err(), &[&[path.as_str()], parts].concat());
    }
}

fn golden(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(kind)
}

#[track_caller]
fn one_line(error: ModelError, parts: &[&str]) {
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    assert!(message.len() < 400, "{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

const SHARD: &str = "model-00002-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

#[test]
fn the_copies_are_sound() {
    for name in ["llama2", "llama31", "qwen25"] {
        Model::copy(name).load().unwrap();
    }
}

#[test]
fn broken_index() {
    for (index, parts) in [
        ("", &["not valid JSON"][..]),
        ("{", &["not valid JSON"]),
        ("[]", &["a JSON object"]),
        ("{}", &["weight_map"]),
        (r#"{"weight_map": {}}"#, &["tensor `model.embed_tokens.weight` is missing"]),
        (r#"{"weight_map": {"a": "../../etc/passwd"}}"#, &["weight_map.a", "beside the index"]),
        (r#"{"weight_map": {"a": 3}}"#, &["weight_map.a"]),
    ] {
        let model = Model::copy("llama2");
        model.write(INDEX, index);
        model.complains(INDEX, parts);
    }
}

#[test]
fn a_tensor_that_the_index_gives_to_a_shard_that_lacks_it() {
    // Both shards are the first one: the other's tensors are nowhere.
    let model = Model::copy("llama2");
    std::fs::copy(model.path("model-00001-of-00002.safetensors"), model.path(SHARD)).unwrap();
    model.complains(INDEX, &["tensor `", "is missing"]);
}

#[test]
fn safetensors_with_noise_in_the_header() {
    for at in [0, 3, 7, 8, 9, 40, 200] {
        let model = Model::copy("qwen25");
        model.bytes(SINGLE, |bytes| bytes[at] ^= 0xff);
        model.complains(SINGLE, &[]);
    }
    let model = Model::copy("qwen25");
    model.bytes(SINGLE, |bytes| bytes.push(0));
    model.complains(SINGLE, &["sound safetensors"]);
    // A pointer file where git-lfs did not fetch the weights.
    let model = Model::copy("qwen25");
    model.write(SINGLE, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n");
    model.complains(SINGLE, &["sound safetensors"]);
}

#[test]
fn every_size_is_held_against_the_tensors() {
    for (key, value) in [
        ("hidden_size", json!(64)),
        ("vocab_size", json!(212)),
        ("intermediate_size", json!(95)),
        ("num_key_value_heads", json!(2)),
    ] {
        let model = Model::copy("llama2");
        model.config(key, value);
        let message = model.load().unwrap_err().to_string();
        assert!(message.contains("expected shape") && message.contains("found ["), "{key}: {message}");
        one_line(model.load().unwrap_err(), &["model-0000", ".weight"]);
    }
}

#[test]
fn integer_weights() {
    let model = Model::copy("qwen25");
    model.bytes(SINGLE, |bytes| {
        let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap().replace("\"F16\"", "\"I16\"");
        bytes.splice(8..8 + header, text.into_bytes());
    });
    model.complains(SINGLE, &["F32, F16 or BF16", "I16"]);
}

#[test]
fn no_architecture_at_all() {
    let model = Model::copy("llama2");
    model.json("config.json", |config| {
        config.as_object_mut().unwrap().remove("architectures");
        config.as_object_mut().unwrap().remove("model_type");
    });
    model.complains("config.json", &["architecture", "LlamaForCausalLM"]);
}

#[test]
fn broken_config() {
    for (text, part) in [("", "not valid JSON"), ("{\"a\": ", "not valid JSON"), ("[]", "JSON object")] {
        let model = Model::copy("llama2");
        model.write("config.json", text);
        model.complains("config.json", &[part]);
    }
    for (key, value) in [
        ("hidden_size", json!(-48)),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(u64::MAX)),
        ("vocab_size", json!(1e12)),
        ("num_hidden_layers", json!(0)),
        ("num_hidden_layers", json!(100_000)),
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(5)),
        ("max_position_embeddings", json!(0)),
        ("rms_norm_eps", json!("small")),
        ("rms_norm_eps", json!(-1.0)),
        ("rope_theta", json!(0.0)),
        ("rope_theta", json!("10k")),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0})),
        (
            "rope_scaling",
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32}),
        ),
        ("rope_scaling", json!([1])),
        ("eos_token_id", json!("</s>")),
        ("eos_token_id", json!([1, -2])),
        ("tie_word_embeddings", json!("no")),
    ] {
        let model = Model::copy("llama2");
        model.config(key, value.clone());
        let Err(error) = model.load() else { panic!("{key}: {value} was taken") };
        let path = model.path("config.json").display().to_string();
        one_line(error, &[&path]);
    }
}

#[test]
fn broken_generation_config() {
    for text in ["", "[]", r#"{"eos_token_id": "x"}"#] {
        let model = Model::copy("llama2");
        model.write("generation_config.json", text);
        model.complains("generation_config.json", &[]);
    }
}

#[test]
fn without_eos_only_the_length_ends_a_text() {
    let model = Model::copy("llama2");
    model.config("eos_token_id", json!(null));
    std::fs::remove_file(model.path("generation_config.json")).unwrap();
    let model = model.load().unwrap();
    assert!(model.eos().is_empty());
    let options = GenerateOptions { max_new_tokens: 4, ..model.generate_options() };
    let texts = generate(model.model(), &[vec![1, 9]], &options, &mut ()).unwrap();
    assert_eq!(texts[0].ids.len(), 4);
}

#[test]
fn weights_that_are_not_numbers() {
    let model = Model::copy("llama2");
    model.bytes(SHARD, |bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    // Either the loader or the first step says so; a token must not come out of it.
    let error = match model.load() {
        Err(error) => error,
        Ok(model) => {
            let prompts: Vec<Vec<u32>> = (0..211).map(|id| vec![id]).collect();
            let options = GenerateOptions { max_new_tokens: 1, ..GenerateOptions::default() };
            generate(model.model(), &prompts, &options, &mut ()).unwrap_err()
        }
    };
    one_line(error, &[]);
}

#[test]
fn broken_tokenizer_or_template() {
    let text = Prompt::text("How high is the tower?");
    let raw = PromptOptions { raw: true, ..PromptOptions::default() };
    let chat = PromptOptions::default();

    let bare = Model::copy("llama2").load().unwrap();
    one_line(bare.prompt_ids(&text, &chat).unwrap_err(), &["no chat template"]);

    let broken = Model::with_text("{{ messages[0].content }}");
    broken.bytes("tokenizer.json", |bytes| bytes.truncate(50));
    let model = broken.load().unwrap();
    one_line(model.prompt_ids(&text, &raw).unwrap_err(), &["tokenizer.json is no usable tokenizer"]);

    let broken = Model::with_text("{% if %}");
    let model = broken.load().unwrap();
    one_line(model.prompt_ids(&text, &chat).unwrap_err(), &["chat_template.jinja", "line 1"]);
    assert!(!model.prompt_ids(&text, &raw).unwrap().is_empty());

    let template = "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}x";
    let strict = Model::with_text(template).load().unwrap();
    let system = PromptOptions { system: Some("Be brief.".to_owned()), ..PromptOptions::default() };
    one_line(strict.prompt_ids(&text, &system).unwrap_err(), &["refuses", "No system role"]);
    let x = Tokenizer::read(golden("tokenizers/byte-level")).unwrap().encode("x", false).unwrap();
    assert_eq!(strict.prompt_ids(&text, &chat).unwrap(), x);
}

#[test]
fn a_template_without_its_special_tokens_is_refused_when_it_is_read() {
    let bytes = std::fs::read(golden("tokenizers/byte-level/tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let read = |json: &serde_json::Value| {
        std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
        Tokenizer::read(dir.path())
    };
    assert!(read(&json).is_ok());
    json["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "B", "type_id": 0}}],
        "pair": [],
        "special_tokens": {},
    });
    let error = read(&json).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("post_processor"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_byte_in_tokenizer_json_does_not_panic(at in any::<prop::sample::Index>(), byte: u8) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(golden("tokenizers/byte-level/tokenizer.json")).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        std::fs::write(dir.path().join("tokenizer.json"), bytes).unwrap();
        match Tokenizer::read(dir.path()) {
            Ok(tokenizer) => drop(tokenizer.encode("How high is the tower?", true)),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }

    #[test]
    fn no_template_panics(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12)) {
        let result = ChatTemplate::new(pieces.concat(), Default::default())
            .and_then(|template| template.render(&[Message::user("x")], true));
        if let Err(error) = result {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

const PIECES: &[&str] = &[
    "{%",
    "%}",
    "{{",
    "}}",
    "{#",
    "#}",
    "-",
    " for m in messages ",
    " endfor ",
    " if ",
    " endif ",
    " else ",
    " generation ",
    " endgeneration ",
    "m.content",
    "messages",
    "[::-1]",
    "[0]",
    "(",
    ")",
    "|tojson(indent=2)",
    "|join('é')",
    "\n",
    "'",
    "☃",
    " set x = ",
    "1",
    "strftime_now('%Q')",
    ".split(',')",
    "raise_exception('no')",
];

#[test]
fn nothing_nested_too_deep_overflows() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(50_000), close.repeat(50_000));
    let templates = [
        format!("{{{{ {} }}}}", deep("(", ")")),
        format!("{{{{ {} }}}}", deep("[", "]")),
        deep("{% if true %}", "{% endif %}"),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "x".repeat(1 << 20),
    ];
    for source in templates {
        let rendered = ChatTemplate::new(source, Default::default()).and_then(|t| t.render(&[], true));
        one_line(rendered.unwrap_err(), &["chat template"]);
    }
    let dir = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "prompts.json", "prompts.jsonl"] {
        std::fs::write(dir.path().join(file), deep("[", "]")).unwrap();
    }
    one_line(Tokenizer::read(dir.path()).unwrap_err(), &["tokenizer.json"]);
    for file in ["prompts.json", "prompts.jsonl"] {
        one_line(read_prompts(dir.path().join(file), PromptFormat::Auto).unwrap_err(), &[file, "line 1"]);
    }
}
