//! One fact in every spelling, and two statements of one fact: what transformers does with them
//! (`tests/golden/models/make_facts.py`), what is warned of, and what is refused.
#![allow(clippy::unwrap_used)]

mod edited;

use brenier_model::Decoder;
use burn::tensor::{DType, Device};
use edited::{Model, cases, golden, logits};
use serde_json::{Value, json};

/// Thirty roundings of f32 at the size of these logits, which are rounded to six digits in the file.
const TOLERANCE: f32 = 30.0 * 8.0 * f32::EPSILON + 1e-6;

/// Cases in which one statement loses against another.
const WARNED: [(&str, &[&str]); 9] = [
    ("rope_scaling replaces rope_parameters", &["`rope_scaling`", "10000", "`rope_parameters`", "50"]),
    ("an empty rope_scaling replaces nothing", &["`rope_parameters.rope_theta` is 50", "`rope_theta` 7"]),
    ("the inner rope_theta wins", &["`rope_parameters.rope_theta` is 50", "`rope_theta` 7"]),
    ("rope_type wins over type", &["`rope_parameters.rope_type` is default", "linear"]),
    ("the outer original context wins", &["`original_max_position_embeddings` is 32", "16"]),
    ("the context serves as the original one", &["original_max_position_embeddings` is not given", "16"]),
    ("tied with another head", &["`lm_head.weight`", "`model.embed_tokens.weight`", "tie_word_embeddings"]),
    ("rotary buffers", &["rotary_emb.inv_freq", "theta 50"]),
    ("a table for each type of layer", &["full_attention", "transformers reads no table"]),
];

#[test]
fn every_spelling_gives_the_logits_of_transformers() {
    let golden = cases();
    let prompt: Vec<u32> = serde_json::from_value(golden["prompt"].clone()).unwrap();
    for case in golden["loading"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let edited = Model::case(case);
        let model = match WARNED.iter().find(|(warned, _)| *warned == name) {
            Some((_, parts)) => edited.warned(parts),
            None => edited.load().unwrap(),
        };
        let expected: Vec<f32> = serde_json::from_value(case["logits"].clone()).unwrap();
        let found = logits(model.model(), &prompt);
        let worst = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0f32, f32::max);
        assert!(worst <= TOLERANCE && found.len() == expected.len(), "{name}: {worst}");
        assert_eq!(model.warnings().is_empty(), WARNED.iter().all(|(warned, _)| *warned != name), "{name}");
        let decoder = Decoder::load(edited.0.path(), &Device::flex(), DType::F32).unwrap();
        assert_eq!(model.config().tied, decoder.lm_head.is_none(), "{name}");
    }
}

#[test]
fn what_tokenizer_and_model_state_differently_is_warned_of() {
    let model = Model::copy("facts");
    let tokenizer = |name: &str, keys: Value| {
        let from = golden("../tokenizers").join(name);
        std::fs::copy(from.join("tokenizer.json"), model.path("tokenizer.json")).unwrap();
        model.write("tokenizer_config.json", &keys);
        model.load().unwrap().warnings().to_vec()
    };
    let has = |warnings: &[String], parts: &[&str]| {
        let found = warnings.iter().any(|warning| parts.iter().all(|part| warning.contains(part)));
        assert!(found, "{parts:?} in {warnings:?}");
    };
    // `<|end|>` is 1, and the model ends a text with 3.
    let warnings = tokenizer("byte-level", json!({"eos_token": "<|end|>", "bos_token": "<|begin|>"}));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    has(&warnings, &["tokenizer.json", "no embedding", "342 more", "vocab_size is 48"]);
    has(&warnings, &["tokenizer_config.json", "`eos_token` is `<|end|>` (1)", "[3]"]);
    let warnings = tokenizer("byte-level", json!({"bos_token": "<|begin|>", "add_bos_token": false}));
    has(&warnings, &["`add_bos_token` is false", "adds the token"]);
    let warnings = tokenizer("byte-level", json!({"eos_token": "<|turn|>", "add_eos_token": true}));
    has(&warnings, &["`add_eos_token` is true", "does not add the token"]);
    let map = json!({"eos_token": "<|turn|>"});
    model.write("special_tokens_map.json", &map);
    let warnings = tokenizer("byte-level", json!({"eos_token": "<|end|>"}));
    has(&warnings, &["special_tokens_map.json: `eos_token` is `<|turn|>`", "`<|end|>`"]);
    let warnings = tokenizer("byte-level", json!({"eos_token": "<|end|>", "added_tokens_decoder": {}}));
    has(&warnings, &["tokenizer_config.json: `eos_token` is `<|end|>`", "`<|turn|>`"]);
    let turn = json!({"2": {"content": "<|turn|>", "rstrip": true, "special": true}});
    let warnings = tokenizer("byte-level", json!({"added_tokens_decoder": turn}));
    has(&warnings, &["`<|turn|>` has other properties"]);
    let warnings = tokenizer("byte-fallback", json!({"tokenizer_class": "LlamaTokenizerFast"}));
    has(&warnings, &["LlamaTokenizer", "may give other ids"]);
    // Where the tokenizer is broken, nothing but its use says so.
    std::fs::write(model.path("tokenizer.json"), "{").unwrap();
    assert!(model.load().unwrap().warnings().is_empty());
}

#[test]
fn contradictions_are_refused_with_both_values() {
    let refused = |keys: Value, parts: &[&str]| {
        let model = Model::copy("facts");
        model.set(keys);
        model.refused(&[&["config.json"], parts].concat());
    };
    refused(json!({"model_type": "qwen2"}), &["LlamaForCausalLM", "qwen2"]);
    refused(json!({"model_type": "mistral"}), &["LlamaForCausalLM", "mistral"]);
    refused(json!({"architectures": ["Qwen2ForCausalLM"]}), &["Qwen2ForCausalLM", "llama"]);
    refused(
        json!({"architectures": ["LlamaForCausalLM", "Qwen2Model"]}),
        &["LlamaForCausalLM", "Qwen2Model"],
    );
    refused(
        json!({"architectures": ["LlamaForSequenceClassification"]}),
        &["LlamaForSequenceClassification"],
    );
    refused(json!({"layer_types": ["full_attention"]}), &["`num_hidden_layers` is 2", "1 entries"]);
    refused(
        json!({"layer_types": ["full_attention", "sliding_attention"]}),
        &["layer 1", "no field switches a window on"],
    );
    refused(
        json!({"rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 50.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10.0}}}),
        &["rope_parameters.full_attention", "theta 50", "rope_parameters.sliding_attention", "theta 10"],
    );
}

#[test]
fn settings_that_nothing_honours_are_refused_by_name() {
    let refused = |keys: Value, parts: &[&str]| {
        let model = Model::copy("facts");
        model.set(keys);
        model.refused(&[&["config.json"], parts].concat());
    };
    let rope = |rope: Value| json!({"rope_parameters": rope});
    for name in ["proportional", "mrope", "su", "axial", "ntk"] {
        let settings = json!({"rope_type": name, "rope_theta": 50.0, "factor": 2.0});
        refused(rope(settings), &["rope_parameters.rope_type", name]);
    }
    // A key that its rope type does not know is never passed over.
    let unknown = json!({"rope_type": "default", "rope_theta": 50.0, "factor": 2.0});
    refused(rope(unknown), &["rope_parameters.factor", "rope type default"]);
    refused(rope(json!({"rope_theta": 50.0, "factor": 2.0})), &["rope_parameters.factor"]);
    let unknown = json!({"rope_type": "linear", "factor": 2.0, "attention_factor": 0.5});
    refused(rope(unknown), &["rope_parameters.attention_factor"]);
    let unknown = json!({"rope_type": "linear", "factor": 2.0, "mrope_section": [1, 1]});
    refused(rope(unknown), &["rope_parameters.mrope_section"]);
    refused(
        json!({"rope_parameters": null, "rope_scaling": {"type": "linear", "factor": 2.0, "foo": 1}}),
        &["rope_scaling.foo"],
    );
    // Nothing is taken for granted in place of what is there and cannot be used.
    refused(rope(json!({"rope_type": "default", "rope_theta": null})), &["rope_theta", "null"]);
    refused(json!({"rope_parameters": null, "rope_theta": null}), &["rope_theta", "null"]);
    refused(rope(json!({"rope_type": "linear"})), &["rope_parameters.factor"]);
    refused(rope(json!({"rope_type": "dynamic"})), &["rope_parameters.factor"]);
    let yarn = |key: &str, value: Value| {
        let mut table = json!({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32});
        table[key] = value;
        rope(table)
    };
    refused(yarn("factor", json!(0)), &["rope_parameters.factor", "positive"]);
    refused(yarn("beta_fast", json!(-1)), &["rope_parameters.beta_fast", "positive"]);
    refused(yarn("attention_factor", json!(0)), &["rope_parameters.attention_factor", "positive"]);
    refused(
        yarn("original_max_position_embeddings", json!(0)),
        &["original_max_position_embeddings", "positive"],
    );
    refused(yarn("truncate", json!(1)), &["rope_parameters.truncate"]);
    refused(yarn("rope_theta", json!(1.0)), &["rope_theta", "yarn"]);
    refused(yarn("short_factor", json!([1.0])), &["rope_parameters.short_factor", "rope type yarn"]);
    let long = |short: Value, original: usize| {
        rope(json!({"rope_type": "longrope", "short_factor": short, "long_factor": [1.0, 2.0],
            "original_max_position_embeddings": original}))
    };
    refused(long(json!([1.0, 2.0, 3.0]), 32), &["short_factor", "2 numbers", "found 3"]);
    refused(long(json!([1.0, "2"]), 32), &["rope_parameters.short_factor", "positive numbers"]);
    refused(long(json!([1.0, 2.0]), 1), &["attention_factor", "inf"]);
    refused(rope(json!({"rope_type": "linear", "factor": null})), &["rope_parameters.factor"]);
    refused(rope(json!({"rope_type": "linear", "factor": "2"})), &["rope_parameters.factor"]);
    refused(rope(json!({"rope_type": ["linear"], "factor": 2.0})), &["rope_parameters.rope_type"]);
    refused(rope(json!({"rope_type": "default", "partial_rotary_factor": 0.5})), &["partial_rotary_factor"]);
    refused(json!({"partial_rotary_factor": 0.5}), &["partial_rotary_factor"]);
    refused(json!({"rope_parameters": null, "partial_rotary_factor": 0.5}), &["partial_rotary_factor"]);
    // A table for each type of layer.
    let full = json!({"rope_type": "default", "rope_theta": 50.0});
    refused(rope(json!({"sliding_attention": full})), &["rope_parameters.full_attention", "nothing"]);
    refused(rope(json!({"full_attention": full, "rope_theta": 50.0})), &["rope_parameters.full_attention"]);
    refused(
        rope(json!({"full_attention": {"rope_type": "mrope"}})),
        &["rope_parameters.full_attention.rope_type"],
    );
    refused(rope(json!({"full_attention": {"foo": 1}})), &["rope_parameters.full_attention.foo"]);
    // Other keys.
    for (key, value) in [
        ("sliding_window", json!(8)),
        ("layer_types", json!(["full_attention", "linear_attention"])),
        ("is_causal", json!(false)),
        ("is_encoder_decoder", json!(true)),
        ("attention_chunk_size", json!(8)),
        ("per_layer_config", json!({"0": {"num_attention_heads": 2}})),
        ("text_config", json!({"vocab_size": 48})),
        ("transformers_weights", json!("other.safetensors")),
        ("final_logit_softcapping", json!(30.0)),
        ("logits_scaling", json!(8.0)),
        ("embedding_multiplier", json!(12.0)),
        ("use_qk_norm", json!(true)),
        ("num_local_experts", json!(8)),
        ("quantization", json!({"bits": 4})),
        ("hidden_act", json!("gelu")),
    ] {
        refused(json!({key: value}), &[key]);
    }
    let model = Model::copy("facts");
    model.set(json!({"foo": 1, "some_new_scale": 0.5, "bar": null}));
    let loaded = model.warned(&["config.json", "`foo`", "`some_new_scale`"]);
    assert!(!loaded.warnings()[0].contains("bar"));
}

#[test]
fn a_window_needs_its_switch() {
    let model = Model::copy("qwen25");
    // What the fields of a window say is nothing while it is off.
    model.set(json!({"use_sliding_window": false, "sliding_window": 4, "max_window_layers": 0}));
    assert!(model.load().unwrap().warnings().is_empty());
    let layers = |model: &Model| {
        let model = model.load().unwrap();
        assert!(model.warnings().is_empty());
        (0..4).filter(|&layer| model.config().window_of(layer) == Some(4)).collect::<Vec<_>>()
    };
    assert!(layers(&model).is_empty());
    model.set(json!({"use_sliding_window": true, "layer_types": null}));
    assert_eq!(layers(&model), [0, 1, 2, 3]);
    model.set(json!({"max_window_layers": 3}));
    assert_eq!(layers(&model), [3]);
    model.set(json!({"max_window_layers": 4}));
    assert!(layers(&model).is_empty());
    let kinds = ["sliding_attention", "full_attention", "attention", "sliding_attention"];
    model.set(json!({"layer_types": kinds}));
    assert_eq!(layers(&model), [0, 3]);
    model.set(json!({"max_window_layers": 0, "sliding_window": null, "layer_types": null}));
    assert!(layers(&model).is_empty());
    model.set(json!({"attention_bias": false}));
    model.warned(&["`attention_bias`"]);
}
