//! What checkpoint directories may look like, and what is said about those that are broken.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use brenier_model::{
    Architecture, Config, Decoder, GenerateOptions, LanguageModel, ModelError, Prompt, PromptOptions, Rope,
    RopeScaling, generate,
};
use brenier_residual::{Batch, ResidualModel, Row};
use burn::tensor::{DType, Device};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models").join(name)
}

/// A copy of a golden checkpoint, to be spoiled.
fn copy(name: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    for file in std::fs::read_dir(golden(name)).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "expected.safetensors" {
            std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
    }
    dir
}

fn edit_config(dir: &Path, edit: impl FnOnce(&mut Value)) {
    let path = dir.join("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
}

fn refusal(dir: &Path) -> String {
    let error = LanguageModel::load(dir, &Device::flex(), None).unwrap_err().to_string();
    assert!(!error.contains('\n'), "one line: {error}");
    error
}

fn assert_names(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` in: {error}");
    }
}

#[test]
fn a_missing_shard_is_named() {
    let dir = copy("llama2");
    std::fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert_names(&refusal(dir.path()), &["model.safetensors.index.json", "model-00002-of-00002.safetensors"]);
}

#[test]
fn a_truncated_file_is_named_at_any_length() {
    for keep in [0, 5, 100, 20_000] {
        let dir = copy("llama31");
        let path = dir.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..keep]).unwrap();
        assert_names(&refusal(dir.path()), &["model.safetensors", "truncated"]);
    }
}

#[test]
fn a_wrong_shape_is_named_with_what_was_expected() {
    let dir = copy("qwen25");
    edit_config(dir.path(), |config| config["intermediate_size"] = json!(96));
    assert_names(
        &refusal(dir.path()),
        &["model.safetensors", "model.layers.0.mlp.gate_proj.weight", "[96, 32]", "[80, 32]"],
    );
}

#[test]
fn a_missing_tensor_is_named() {
    let dir = copy("qwen25");
    edit_config(dir.path(), |config| {
        config["num_hidden_layers"] = json!(5);
        config["layer_types"] = Value::Null;
    });
    assert_names(&refusal(dir.path()), &["model.layers.4.input_layernorm.weight", "missing"]);
    let dir = copy("qwen25");
    edit_config(dir.path(), |config| config["tie_word_embeddings"] = json!(false));
    assert_names(&refusal(dir.path()), &["lm_head.weight", "missing"]);
}

#[test]
fn an_unknown_architecture_is_named_with_those_supported() {
    let dir = copy("llama2");
    edit_config(dir.path(), |config| config["architectures"] = json!(["MambaForCausalLM"]));
    let error = refusal(dir.path());
    assert_names(&error, &["config.json", "MambaForCausalLM", "LlamaForCausalLM", "Qwen2ForCausalLM"]);
}

#[test]
fn what_would_run_wrongly_is_refused() {
    let refused = |name, edit: &dyn Fn(&mut Value), parts: &[&str]| {
        let dir = copy(name);
        edit_config(dir.path(), edit);
        assert_names(&refusal(dir.path()), parts);
    };
    refused(
        "llama31",
        &|c| c["rope_parameters"]["rope_type"] = json!("mrope"),
        &["rope_parameters.rope_type", "mrope"],
    );
    refused(
        "llama2",
        &|c| c["rope_scaling"] = json!({"type": "ntk", "factor": 2.0}),
        &["rope_scaling.", "ntk"],
    );
    refused(
        "llama31",
        &|c| drop(c["rope_parameters"].as_object_mut().unwrap().remove("factor")),
        &["factor"],
    );
    refused("llama2", &|c| c["hidden_act"] = json!("gelu"), &["hidden_act", "gelu"]);
    refused("llama2", &|c| c["num_key_value_heads"] = json!(3), &["num_key_value_heads"]);
    refused("llama2", &|c| c["num_key_value_heads"] = json!(0), &["num_key_value_heads"]);
    refused("llama2", &|c| c["hidden_size"] = json!("48"), &["hidden_size"]);
    refused("llama2", &|c| c["hidden_size"] = Value::Null, &["hidden_size"]);
    refused("llama2", &|c| c["quantization_config"] = json!({"quant_method": "gptq"}), &["gptq"]);
}

#[test]
fn broken_json_and_missing_files_are_named() {
    let dir = copy("llama2");
    std::fs::write(dir.path().join("config.json"), "{\"architectures\": [").unwrap();
    assert_names(&refusal(dir.path()), &["config.json", "JSON"]);
    assert_names(&refusal(Path::new("no/such/directory")), &["no/such/directory", "config.json"]);
    let dir = copy("qwen25");
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert_names(&refusal(dir.path()), &["model.safetensors"]);
    let dir = copy("llama2");
    let index = dir.path().join("model.safetensors.index.json");
    std::fs::write(index, json!({"weight_map": {"lm_head.weight": "../escape.safetensors"}}).to_string())
        .unwrap();
    assert_names(&refusal(dir.path()), &["weight_map.lm_head.weight", "../escape.safetensors"]);
}

#[test]
fn both_layouts_of_rope_give_the_same_model() {
    let dir = copy("llama31");
    let newer = Config::read(&dir.path().join("config.json")).unwrap();
    edit_config(dir.path(), |config| {
        let mut rope = config.as_object_mut().unwrap().remove("rope_parameters").unwrap();
        config["rope_theta"] = rope.as_object_mut().unwrap().remove("rope_theta").unwrap();
        config["rope_scaling"] = rope;
        let dtype = config.as_object_mut().unwrap().remove("dtype").unwrap();
        config["torch_dtype"] = dtype;
    });
    assert_eq!(Config::read(&dir.path().join("config.json")).unwrap(), newer);
    assert!(matches!(newer.rope.scaling, RopeScaling::Llama3 { original_context: 32, .. }));
    assert_eq!(newer.head_dim, 24);
}

#[test]
fn the_model_type_serves_where_architectures_is_missing() {
    let dir = copy("qwen25");
    edit_config(dir.path(), |config| drop(config.as_object_mut().unwrap().remove("architectures")));
    let config = Config::read(&dir.path().join("config.json")).unwrap();
    assert_eq!(config.architecture, Architecture::Qwen2);
}

#[test]
fn eos_is_a_number_or_a_list_and_falls_back_to_the_configuration() {
    let load = |dir: &Path| LanguageModel::load(dir, &Device::flex(), None).unwrap();
    assert_eq!(load(&golden("llama31")).eos(), [2, 9]);
    assert_eq!(load(&golden("qwen25")).eos(), [4]);
    assert_eq!(load(&golden("llama2")).bos(), Some(1));
    let dir = copy("llama31");
    std::fs::write(dir.path().join("generation_config.json"), "{}").unwrap();
    assert_eq!(load(dir.path()).eos(), [2, 9]);
    std::fs::remove_file(dir.path().join("generation_config.json")).unwrap();
    assert_eq!(load(dir.path()).eos(), [2, 9]);
}

#[test]
fn a_directory_without_tokenizer_takes_ids_and_says_what_text_needs() {
    let model = LanguageModel::load(&golden("llama2"), &Device::flex(), None).unwrap();
    assert!(model.tokenizer().is_none() && model.template().is_none());
    let options = PromptOptions::default();
    assert_eq!(model.prompt_ids(&Prompt::ids([5, 6]), &options).unwrap(), [5, 6]);
    let error = model.prompt_ids(&Prompt::text("hello"), &options).unwrap_err();
    assert!(matches!(error, ModelError::NoTemplate { .. }), "{error}");
    let raw = PromptOptions { raw: true, ..PromptOptions::default() };
    let error = model.prompt_ids(&Prompt::text("hello"), &raw).unwrap_err();
    assert_names(&error.to_string(), &["tokenizer.json"]);
}

#[test]
fn the_hash_is_that_of_configuration_and_weights_one_after_the_other() {
    use sha2::{Digest, Sha256};
    let model = LanguageModel::load(&golden("llama2"), &Device::flex(), None).unwrap();
    let mut hash = Sha256::new();
    for file in ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
        hash.update(std::fs::read(golden("llama2").join(file)).unwrap());
    }
    let expected: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(model.sha256().unwrap(), expected);
}

#[test]
fn prompts_that_do_not_fit_are_named() {
    let model = LanguageModel::load(&golden("llama2"), &Device::flex(), None).unwrap();
    let run = |prompts: &[Vec<u32>]| {
        let options = GenerateOptions::default();
        generate(model.model(), prompts, &options, &mut ()).unwrap_err().to_string()
    };
    assert_names(&run(&[vec![3], vec![4; 64]]), &["prompt 1", "64 tokens"]);
    assert_names(&run(&[vec![3], vec![]]), &["prompt 1", "no token"]);
    assert_names(&run(&[vec![3, 211]]), &["prompt 0", "211"]);
}

#[test]
fn a_saved_model_is_the_same_model() {
    for (architecture, tied, dtype) in
        [(Architecture::Llama, false, DType::F32), (Architecture::Qwen2, true, DType::BF16)]
    {
        let dir = TempDir::new().unwrap();
        let config = Config { tied, eos: vec![7], ..Config::small(architecture) };
        let fresh = Decoder::init(&config, 3, &Device::flex());
        fresh.save_safetensors(&dir.path().join("model.safetensors"), dtype).unwrap();
        std::fs::write(dir.path().join("config.json"), config.to_json().to_string()).unwrap();
        let loaded = LanguageModel::load(dir.path(), &Device::flex(), None).unwrap();
        assert_eq!((loaded.config().tied, loaded.eos()), (tied, &[7][..]));
        let batch = Batch::new(&[Row::prompt(&[1, 2, 3])], &Device::flex()).unwrap();
        let logits = |model: &dyn ResidualModel| -> Vec<f32> {
            model.forward(&batch, None, &mut ()).unwrap().into_data().iter::<f32>().collect()
        };
        if dtype == DType::F32 {
            assert_eq!(logits(&fresh), logits(loaded.model()));
        }
        let again = dir.path().join("again.safetensors");
        let decoder = Decoder::load(dir.path(), &Device::flex(), DType::F32).unwrap();
        decoder.save_safetensors(&again, dtype).unwrap();
        let first = std::fs::read(dir.path().join("model.safetensors")).unwrap();
        assert!(first == std::fs::read(again).unwrap(), "saving what was loaded changes nothing");
    }
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let bytes = |seed| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let decoder = Decoder::init(&Config::small(Architecture::Llama), seed, &Device::flex());
        decoder.save_safetensors(file.path(), DType::F32).unwrap();
        std::fs::read(file.path()).unwrap()
    };
    assert!(bytes(1) == bytes(1));
    assert!(bytes(1) != bytes(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_configuration_survives_its_json(
        qwen: bool, tied: bool, bias: bool, kv_heads in 1usize..4, groups in 1usize..4, half in 1usize..20,
        hidden in 1usize..100, theta in 10.0f64..1e6, eos in prop::collection::vec(0u32..1000, 0..3), stretch in 0..3,
    ) {
        let scaling = match stretch {
            0 => RopeScaling::Default,
            1 => RopeScaling::Linear { factor: 2.0 },
            _ => RopeScaling::Llama3 {
                factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 64,
            },
        };
        let config = Config {
            tied, kv_heads, heads: kv_heads * groups, head_dim: 2 * half, hidden, eos,
            rope: Rope { theta, scaling, ..Rope::default() },
            dtype: Some("bfloat16".to_owned()),
            ..Config::small(if qwen { Architecture::Qwen2 } else { Architecture::Llama })
        };
        let config = if qwen { config } else { Config { qkv_bias: bias, output_bias: bias, mlp_bias: bias, ..config } };
        prop_assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn no_configuration_makes_reading_panic(
        key in prop::sample::select(vec![
            "architectures", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "rope_scaling",
            "rope_theta", "eos_token_id", "vocab_size", "num_hidden_layers", "max_position_embeddings",
        ]),
        value in prop::sample::select(vec![
            json!(null), json!(0), json!(-1), json!(1e300), json!(u64::MAX), json!(7), json!("x"), json!([]),
            json!({}), json!([[]]), json!({"rope_type": 3}), json!({"rope_type": "llama3"}), json!(true),
        ]),
    ) {
        let mut json = Config::small(Architecture::Llama).to_json();
        json[key] = value;
        let _ = Config::from_json(&json);
    }
}
