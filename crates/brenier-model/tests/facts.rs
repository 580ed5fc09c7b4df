//! One fact in every spelling, and two statements of one fact: what transformers does with them
//! (`tests/golden/models/make_facts.py`), what is warned of, and what is refused.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use brenier_model::{Decoder, GenerateOptions, LanguageModel, LogitsRules, ModelError, generate};
use brenier_residual::{Batch, ResidualModel, Row};
use burn::tensor::{DType, Device};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Thirty roundings of f32 at the size of these logits, which are rounded to six digits in the file.
const TOLERANCE: f32 = 30.0 * 8.0 * f32::EPSILON + 1e-6;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models").join(name)
}

fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(golden("facts/cases.json")).unwrap()).unwrap()
}

/// Name to dtype, shape and bytes.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A copy of a checkpoint, to be edited.
struct Model(TempDir);

impl Model {
    fn copy(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(golden(name)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_owned();
            if file != "expected.safetensors" && file != "cases.json" {
                std::fs::copy(&path, dir.path().join(file)).unwrap();
            }
        }
        Self(dir)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, content: &Value) {
        std::fs::write(self.path(file), content.to_string()).unwrap();
    }

    fn config(&self, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(self.path("config.json")).unwrap()).unwrap();
        edit(config.as_object_mut().unwrap());
        self.write("config.json", &config);
    }

    fn set(&self, keys: Value) {
        let Value::Object(keys) = keys else { panic!("keys of config.json") };
        self.config(|config| config.extend(keys));
    }

    fn tensors(&self, edit: impl FnOnce(&mut Tensors)) {
        let file = self.path("model.safetensors");
        let mut tensors = tensors_of(&file);
        edit(&mut tensors);
        write_tensors(&file, &tensors);
    }

    fn case(case: &Value) -> Self {
        let model = Self::copy("facts");
        model.config(|config| {
            config.extend(case["config"].as_object().cloned().unwrap_or_default());
            for key in case["remove"].as_array().into_iter().flatten() {
                config.remove(key.as_str().unwrap()).unwrap();
            }
        });
        if case["generation"].is_object() {
            model.write("generation_config.json", &case["generation"]);
        }
        model.tensors(|tensors| {
            for op in case["tensors"].as_array().into_iter().flatten() {
                let name = |at: usize| op[at].as_str().unwrap().to_owned();
                match op[0].as_str().unwrap() {
                    "fill" => {
                        let width = op[2].as_u64().unwrap() as usize;
                        tensors.insert(name(1), floats(&vec![1.0; width], &[width]));
                    }
                    "copy" => drop(tensors.insert(name(2), tensors[&name(1)].clone())),
                    "drop" => drop(tensors.remove(&name(1)).unwrap()),
                    _ => {
                        let tensor = tensors.remove(&name(1)).unwrap();
                        tensors.insert(name(2), tensor);
                    }
                }
            }
        });
        model
    }

    fn load(&self) -> Result<LanguageModel, ModelError> {
        LanguageModel::load(self.0.path(), &Device::flex(), None)
    }

    /// Loading fails with one line that holds all of `parts`.
    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        let message = self.load().unwrap_err().to_string();
        assert!(!message.contains('\n') && message.len() < 500, "{message}");
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }

    /// Loading succeeds with exactly one warning, which holds all of `parts`.
    #[track_caller]
    fn warned(&self, parts: &[&str]) -> LanguageModel {
        let model = self.load().unwrap();
        let [warning] = model.warnings() else { panic!("one warning: {:?}", model.warnings()) };
        assert!(!warning.contains('\n'), "{warning}");
        for part in parts {
            assert!(warning.contains(part), "`{part}` is not in: {warning}");
        }
        model
    }
}

fn tensors_of(file: &Path) -> Tensors {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    tensors.iter().map(|(name, view)| (name.to_owned(), tensor(view))).collect()
}

fn write_tensors(file: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    std::fs::write(file, serialize(views, None).unwrap()).unwrap();
}

fn floats(values: &[f32], shape: &[usize]) -> (Dtype, Vec<usize>, Vec<u8>) {
    (Dtype::F32, shape.to_vec(), values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn scale(tensor: &mut (Dtype, Vec<usize>, Vec<u8>), factor: f32) {
    for bytes in tensor.2.as_chunks_mut::<4>().0 {
        *bytes = (f32::from_le_bytes(*bytes) * factor).to_le_bytes();
    }
}

/// Logits of a prompt's last token.
fn logits(decoder: &Decoder, prompt: &[u32]) -> Vec<f32> {
    let batch = Batch::new(&[Row::prompt(prompt)], &Device::flex()).unwrap();
    decoder.forward_last(&batch, None, &mut ()).unwrap().into_data().iter::<f32>().collect()
}

fn prompts(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Cases in which one statement loses against another.
const WARNED: [(&str, &[&str]); 8] = [
    ("rope_scaling replaces rope_parameters", &["`rope_scaling`", "10000", "`rope_parameters`", "50"]),
    ("an empty rope_scaling replaces nothing", &["`rope_parameters.rope_theta` is 50", "`rope_theta` 7"]),
    ("the inner rope_theta wins", &["`rope_parameters.rope_theta` is 50", "`rope_theta` 7"]),
    ("rope_type wins over type", &["`rope_parameters.rope_type` is default", "linear"]),
    ("the outer original context wins", &["`original_max_position_embeddings` is 32", "16"]),
    ("the context serves as the original one", &["original_max_position_embeddings` is not given", "16"]),
    ("tied with another head", &["`lm_head.weight`", "`model.embed_tokens.weight`", "tie_word_embeddings"]),
    ("rotary buffers", &["rotary_emb.inv_freq", "theta 50"]),
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
        let found = logits(model.decoder(), &prompt);
        let worst = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0f32, f32::max);
        assert!(worst <= TOLERANCE && found.len() == expected.len(), "{name}: {worst}");
        assert_eq!(model.warnings().is_empty(), WARNED.iter().all(|(warned, _)| *warned != name), "{name}");
        assert_eq!(model.config().tied, model.decoder().lm_head.is_none(), "{name}");
    }
}

#[test]
fn rules_of_generation_give_the_tokens_of_transformers() {
    let golden = cases();
    let prompts = prompts(&golden["prompts"]);
    let max_new_tokens = golden["new_tokens"].as_u64().unwrap() as usize;
    for case in golden["generation"].as_array().unwrap() {
        let model = Model::case(case).load().unwrap();
        let rules = model.rules().clone();
        let plain = ["nothing", "sampling alone"].iter().any(|name| case["name"] == *name);
        assert_eq!(rules.is_empty(), plain, "{}", case["name"]);
        // Without an eos in generation_config.json that of config.json counts here, but not in transformers.
        let named = case["generation"]["eos_token_id"].is_null() && case["generation"].is_object();
        let eos: &[u32] = if named { &[] } else { model.eos() };
        for batch in [1, 2] {
            let options =
                GenerateOptions { max_new_tokens, batch, rules: rules.clone(), ..GenerateOptions::default() };
            let found = generate(model.decoder(), &prompts, eos, &options, &mut (), &mut |_, _| {}).unwrap();
            let found: Vec<Vec<u32>> = found.into_iter().map(|text| text.ids).collect();
            let expected = self::prompts(&case["greedy"]);
            assert_eq!(found, expected, "{}, batches of {batch}", case["name"]);
        }
    }
}

#[test]
fn what_generation_asks_and_is_not_honoured_is_named_in_one_warning() {
    let model = Model::copy("facts");
    let generation = json!({
        "eos_token_id": 3, "bos_token_id": 1, "num_beams": 4, "diversity_penalty": 0.5, "guidance_scale": 1,
        "stop_strings": ["\n"], "penalty_alpha": 0.0, "cache_implementation": "quantized", "length_penalty": 2.0,
    });
    model.write("generation_config.json", &generation);
    let loaded =
        model.warned(&["generation_config.json", "num_beams = 4", "diversity_penalty = 0.5", "stop_strings"]);
    let warning = &loaded.warnings()[0];
    assert!(warning.contains("quantized"), "{warning}");
    for harmless in ["guidance_scale", "penalty_alpha", "length_penalty"] {
        assert!(!warning.contains(harmless), "{warning}");
    }
    model.write("generation_config.json", &json!({"eos_token_id": 3, "chat_format": "chatml"}));
    model.warned(&["generation_config.json", "`chat_format`"]);
    for (generation, parts) in [
        (json!({"eos_token_id": 9}), ["`eos_token_id` is [9]", "config.json [3]"]),
        (json!({"eos_token_id": null}), ["`eos_token_id` is not given", "[3]"]),
        (json!({"eos_token_id": [3, 4], "bos_token_id": 5}), ["`bos_token_id` is 5", "config.json 1"]),
    ] {
        model.write("generation_config.json", &generation);
        model.warned(&parts);
    }
    model.write("generation_config.json", &json!({"eos_token_id": 3, "repetition_penalty": 1.2}));
    model.set(json!({"repetition_penalty": 1.5}));
    model.warned(&["config.json has settings of generation too"]);
    model.set(json!({"repetition_penalty": 1.2}));
    assert!(model.load().unwrap().warnings().is_empty());
    std::fs::remove_file(model.path("generation_config.json")).unwrap();
    model.set(json!({"num_beams": 2}));
    let loaded = model.warned(&["config.json", "num_beams = 2"]);
    assert_eq!(loaded.rules().repetition_penalty, Some(1.2));
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
fn rules_that_cannot_be_are_refused() {
    for (key, value) in [
        ("repetition_penalty", json!(0.0)),
        ("repetition_penalty", json!("1.2")),
        ("no_repeat_ngram_size", json!(-1)),
        ("bad_words_ids", json!([3])),
        ("bad_words_ids", json!([[48]])),
        ("sequence_bias", json!({"[3]": 1.0})),
        ("sequence_bias", json!([[[3], "x"]])),
        ("forced_bos_token_id", json!(48)),
        ("forced_eos_token_id", json!([3, 480])),
        ("suppress_tokens", json!(["x"])),
        ("exponential_decay_length_penalty", json!([1])),
    ] {
        let model = Model::copy("facts");
        model.write("generation_config.json", &json!({"eos_token_id": 3, key: value}));
        model.refused(&["generation_config.json", key]);
    }
}

#[test]
fn rules_that_forbid_every_token_say_so() {
    let model = Model::copy("facts").load().unwrap();
    let run = |rules: LogitsRules| {
        let options = GenerateOptions { max_new_tokens: 3, rules, ..GenerateOptions::default() };
        generate(model.decoder(), &[vec![5]], &[], &options, &mut (), &mut |_, _| {})
    };
    let all = LogitsRules { suppress_tokens: (0..48).collect(), ..LogitsRules::default() };
    let message = run(all).unwrap_err().to_string();
    assert!(message.contains("prompt 0") && message.contains("forbid every token"), "{message}");
    // Ids outside of the vocabulary are passed over.
    let outside = LogitsRules {
        suppress_tokens: vec![999],
        bad_words_ids: vec![vec![999], vec![5, u32::MAX], vec![]],
        forced_eos_token_id: vec![2, u32::MAX],
        ..LogitsRules::default()
    };
    assert_eq!(run(outside).unwrap()[0].ids.len(), 3);
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
    for name in ["dynamic", "yarn", "longrope", "proportional", "mrope", "su"] {
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
        rope(json!({"full_attention": {"rope_type": "yarn"}})),
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
    model.set(json!({"use_sliding_window": true, "layer_types": null}));
    model.refused(&["use_sliding_window", "4 tokens"]);
    model.set(json!({"max_window_layers": 4}));
    model.load().unwrap();
    model.set(json!({"max_window_layers": 0, "sliding_window": null}));
    model.load().unwrap();
    model.set(json!({"attention_bias": false}));
    model.warned(&["`attention_bias`"]);
}

#[test]
fn every_tensor_that_is_not_used_is_named() {
    let with = |names: &[&str], parts: &[&str]| {
        let model = Model::copy("facts");
        model.tensors(|tensors| {
            for name in names {
                tensors.insert((*name).to_owned(), floats(&[1.0; 4], &[4]));
            }
        });
        model.refused(&[&["model.safetensors", "LlamaForCausalLM"], parts].concat());
    };
    with(&["model.layers.0.self_attn.q_norm.weight"], &["`model.layers.0.self_attn.q_norm.weight`"]);
    with(&["model.layers.1.self_attn.q_proj.bias"], &["`model.layers.1.self_attn.q_proj.bias`"]);
    with(&["lm_head.bias"], &["`lm_head.bias`"]);
    with(&["score.weight", "a", "b", "c", "d", "e", "f"], &["`a`", "and 2 more"]);
    // Fewer layers than there are.
    let model = Model::copy("facts");
    model.set(json!({"num_hidden_layers": 1}));
    model.refused(&["with 1 layers", "`model.layers.1.input_layernorm.weight`", "and 4 more"]);
    // Rotary buffers are known, and are compared where they can be.
    let model = Model::copy("facts");
    model.tensors(|tensors| {
        let frequencies = [1.0, 1.0 / 50f32.sqrt()];
        tensors.insert("model.rotary_emb.inv_freq".to_owned(), floats(&frequencies, &[2]));
        tensors.insert("model.layers.0.self_attn.rotary_emb.cos_cached".to_owned(), floats(&[0.0; 8], &[8]));
    });
    assert!(model.load().unwrap().warnings().is_empty());
    // The same tensor under both its names.
    let model = Model::copy("facts");
    model.tensors(|tensors| {
        tensors.insert("norm.weight".to_owned(), tensors["model.norm.weight"].clone());
    });
    model.refused(&["`model.norm.weight`", "`norm.weight`"]);
    // No head at all.
    let model = Model::copy("facts");
    model.tensors(|tensors| drop(tensors.remove("lm_head.weight")));
    model.refused(&["lm_head.weight", "missing"]);
}

/// A checkpoint in two shards, with a tensor in both.
fn sharded(second: impl FnOnce(&mut Tensors)) -> Model {
    let model = Model::copy("facts");
    let file = model.path("model.safetensors");
    let mut first = tensors_of(&file);
    std::fs::remove_file(&file).unwrap();
    let mut other = first.split_off("model.layers.1");
    other.insert("lm_head.weight".to_owned(), first["lm_head.weight"].clone());
    second(&mut other);
    let shard = |name: &str, tensors: &Tensors| write_tensors(&model.path(name), tensors);
    shard("one.safetensors", &first);
    shard("two.safetensors", &other);
    let map: BTreeMap<&String, &str> = other
        .keys()
        .map(|name| (name, "two.safetensors"))
        .chain(first.keys().map(|name| (name, "one.safetensors")))
        .collect();
    model.write("model.safetensors.index.json", &json!({"metadata": {}, "weight_map": map}));
    model
}

#[test]
fn the_index_decides_between_shards() {
    let index = "model.safetensors.index.json";
    let edit = |model: &Model, edit: &dyn Fn(&mut Value)| {
        let mut json: Value = serde_json::from_slice(&std::fs::read(model.path(index)).unwrap()).unwrap();
        edit(&mut json["weight_map"]);
        model.write(index, &json);
    };
    let whole = Model::copy("facts").load().unwrap();
    let expected = logits(whole.decoder(), &[5, 9]);
    // Equal copies need no decision.
    let model = sharded(|_| {});
    let loaded = model.load().unwrap();
    assert!(loaded.warnings().is_empty());
    assert_eq!(logits(loaded.decoder(), &[5, 9]), expected);
    // Of two different ones the index takes one, whichever it is.
    let double = |tensors: &mut Tensors| scale(tensors.get_mut("lm_head.weight").unwrap(), 2.0);
    let model = sharded(double);
    let loaded = model.warned(&["two.safetensors", "`lm_head.weight`", "one.safetensors"]);
    assert_eq!(logits(loaded.decoder(), &[5, 9]), expected);
    edit(&model, &|map| map["lm_head.weight"] = json!("two.safetensors"));
    let loaded = model.warned(&["one.safetensors", "`lm_head.weight`", "two.safetensors"]);
    let doubled: Vec<f32> = expected.iter().map(|x| 2.0 * x).collect();
    assert_eq!(logits(loaded.decoder(), &[5, 9]), doubled);
    // Where it names neither, nothing decides.
    edit(&model, &|map| drop(map.as_object_mut().unwrap().remove("lm_head.weight")));
    model.refused(&["`lm_head.weight`", "one.safetensors", "two.safetensors"]);
    // A tensor that only a shard knows of is there all the same.
    let model = sharded(|_| {});
    edit(&model, &|map| drop(map.as_object_mut().unwrap().remove("model.norm.weight")));
    assert_eq!(logits(model.load().unwrap().decoder(), &[5, 9]), expected);
    // One that the index gives to the wrong shard, and one that is too many.
    edit(&model, &|map| map["model.norm.weight"] = json!("one.safetensors"));
    model.refused(&[index, "`model.norm.weight`", "one.safetensors"]);
    let model = sharded(|tensors| drop(tensors.insert("model.extra".to_owned(), floats(&[1.0], &[1]))));
    model.refused(&["two.safetensors", "`model.extra`"]);
}

#[test]
fn a_single_file_comes_before_an_index() {
    let model = Model::copy("facts");
    model.set(json!({"torch_dtype": "float16"}));
    model.warned(&["`dtype` is float32", "`torch_dtype` float16"]);
    model.set(json!({"torch_dtype": "float32"}));
    model.write("model.safetensors.index.json", &json!({"weight_map": {"a": "b.safetensors"}}));
    model.warned(&["model.safetensors:", "model.safetensors.index.json"]);
    model.write("adapter_config.json", &json!({}));
    std::fs::remove_file(model.path("model.safetensors.index.json")).unwrap();
    model.warned(&["adapter_config.json", "not applied"]);
}

#[test]
fn a_header_that_announces_the_whole_address_space_is_refused() {
    for end in [u64::MAX, u64::MAX - 7, u64::MAX - 300, 1 << 63] {
        let model = Model::copy("facts");
        let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{end}],"data_offsets":[0,{end}]}}}}"#);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 64]);
        std::fs::write(model.path("model.safetensors"), bytes).unwrap();
        model.refused(&["model.safetensors", "sound safetensors"]);
    }
}

#[test]
fn products_of_queries_and_keys_beyond_the_range_of_f16_stay_near_f32() {
    let model = Model::copy("facts");
    // Logits of order one, products of queries and keys of order a million.
    model.tensors(|tensors| {
        for (name, tensor) in tensors {
            if name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight") {
                scale(tensor, 400.0);
            } else if name == "lm_head.weight" {
                scale(tensor, 0.1);
            }
        }
    });
    let prompts = prompts(&cases()["prompts"]);
    let load = |dtype| LanguageModel::load(model.0.path(), &Device::flex(), Some(dtype)).unwrap();
    let (exact, half) = (load(DType::F32), load(DType::F16));
    for prompt in &prompts {
        let (exact, half) = (logits(exact.decoder(), prompt), logits(half.decoder(), prompt));
        let worst = exact.iter().zip(&half).map(|(e, h)| (e - h).abs()).fold(0.0f32, |a, b| a.max(b));
        assert!(half.iter().all(|x| x.is_finite()) && worst <= 0.02, "{worst}: {half:?} {exact:?}");
    }
}
