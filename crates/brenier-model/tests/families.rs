//! What holds in every family: hook points mean the same, a saved model is the same model, a configuration survives its
//! JSON; and how each family reads its own settings.
#![allow(clippy::unwrap_used)]

mod edited;

use std::collections::BTreeMap;

use brenier_model::{Activation, Architecture, Config, Decoder, LanguageModel, RopeScaling, Window};
use brenier_residual::{Batch, HookPoint, ResidualError, Row, Site, Tap, TokenView};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use edited::{Model, floats, golden, logits};
use serde_json::{Value, json};

/// Golden checkpoints by family.
const GOLDENS: [(Architecture, &str); 8] = [
    (Architecture::Llama, "llama31"),
    (Architecture::Mistral, "mistral"),
    (Architecture::Qwen2, "qwen2-window"),
    (Architecture::Qwen3, "qwen3"),
    (Architecture::Gemma2, "gemma2"),
    (Architecture::Gemma3, "gemma3"),
    (Architecture::Phi3, "phi3"),
    (Architecture::Olmo2, "olmo2"),
];

#[derive(Default)]
struct Keep(BTreeMap<HookPoint, Tensor<3>>);

impl Tap for Keep {
    fn wants(&self, _: HookPoint) -> bool {
        true
    }
    fn visit(&mut self, at: HookPoint, _: &dyn TokenView, x: Tensor<3>) -> Result<Tensor<3>, ResidualError> {
        self.0.insert(at, x.clone());
        Ok(x)
    }
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn config(json: &Value) -> Result<Config, String> {
    Config::from_json(json).map_err(|error| error.to_string())
}

#[test]
fn every_family_has_a_golden() {
    assert_eq!(GOLDENS.map(|(architecture, _)| architecture), Architecture::ALL);
    for (architecture, name) in GOLDENS {
        assert_eq!(Config::read(&golden(name).join("config.json")).unwrap().architecture, architecture);
    }
}

#[test]
fn what_is_added_to_the_stream_is_what_the_hook_points_say() {
    for (_, name) in GOLDENS {
        let model = LanguageModel::load(&golden(name), &Device::flex(), None).unwrap();
        let batch =
            Batch::new(&[Row::prompt(&[12, 13, 14, 15, 16]), Row::prompt(&[17, 18])], &Device::flex());
        let mut keep = Keep::default();
        model.model().observe(&batch.unwrap(), &mut keep).unwrap();
        let at = |layer, site| keep.0[&HookPoint { layer, site }].clone();
        for layer in 0..model.model().spec().layers {
            let mid = at(layer, Site::ResidPre) + at(layer, Site::AttnOut);
            assert_eq!(values(mid), values(at(layer, Site::ResidMid)), "{name}, attention of block {layer}");
            let post = at(layer, Site::ResidMid) + at(layer, Site::MlpOut);
            assert_eq!(values(post), values(at(layer, Site::ResidPost)), "{name}, MLP of block {layer}");
            if layer > 0 {
                assert_eq!(
                    values(at(layer, Site::ResidPre)),
                    values(at(layer - 1, Site::ResidPost)),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn a_saved_model_is_the_same_model() {
    for architecture in Architecture::ALL {
        let config = Config { layers: 3, eos: vec![7], ..Config::small(architecture) };
        let fresh = Decoder::init(&config, 3, &Device::flex());
        assert_eq!(fresh.num_params(), config.parameters(), "{architecture:?}");
        let dir = tempfile::tempdir().unwrap();
        fresh.save_safetensors(&dir.path().join("model.safetensors"), DType::F32).unwrap();
        std::fs::write(dir.path().join("config.json"), config.to_json().to_string()).unwrap();
        let loaded = LanguageModel::load(dir.path(), &Device::flex(), None).unwrap();
        assert!(loaded.warnings().is_empty(), "{:?}", loaded.warnings());
        let ids: Vec<u32> = (1..20).collect();
        assert_eq!(logits(&fresh, &ids), logits(loaded.model(), &ids), "{architecture:?}");
    }
}

#[test]
fn the_names_of_saved_tensors_are_those_of_the_checkpoint() {
    for (_, name) in GOLDENS {
        let decoder = Decoder::load(&golden(name), &Device::flex(), DType::F32).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        decoder.save_safetensors(file.path(), DType::F32).unwrap();
        let saved = edited::tensors_of(file.path());
        let mut expected = BTreeMap::new();
        for entry in std::fs::read_dir(golden(name)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            if file.starts_with("model") && file.ends_with(".safetensors") {
                expected.extend(edited::tensors_of(&path));
            }
        }
        assert_eq!(saved.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (tensor, (_, shape, _)) in &expected {
            assert_eq!(saved[tensor].1, *shape, "{name} {tensor}");
        }
    }
}

#[test]
fn a_golden_configuration_survives_its_json() {
    for (_, name) in GOLDENS {
        let read = Config::read(&golden(name).join("config.json")).unwrap();
        assert_eq!(config(&read.to_json()), Ok(read), "{name}");
    }
}

#[test]
fn both_layouts_of_rope_give_the_same_model_in_every_family() {
    for (architecture, name) in GOLDENS {
        let text = std::fs::read(golden(name).join("config.json")).unwrap();
        let json: Value = serde_json::from_slice(&text).unwrap();
        let read = config(&json).unwrap();
        let mut other = json.clone();
        let keys = other.as_object_mut().unwrap();
        match keys.remove("rope_parameters") {
            Some(mut table) if architecture == Architecture::Gemma3 => {
                keys.insert(
                    "rope_local_base_freq".to_owned(),
                    table["sliding_attention"]["rope_theta"].take(),
                );
                keys.insert("rope_theta".to_owned(), table["full_attention"]["rope_theta"].take());
                table["full_attention"].as_object_mut().unwrap().remove("rope_theta");
                keys.insert("rope_scaling".to_owned(), table["full_attention"].take());
            }
            Some(mut table) => {
                let theta = table.as_object_mut().unwrap().remove("rope_theta").unwrap();
                keys.insert("rope_theta".to_owned(), theta);
                keys.insert("rope_scaling".to_owned(), table);
            }
            None => {
                let mut table = keys.remove("rope_scaling").filter(|old| !old.is_null()).unwrap_or(json!({}));
                table["rope_theta"] = keys.remove("rope_theta").unwrap();
                keys.insert("rope_parameters".to_owned(), table);
            }
        }
        assert_eq!(config(&other), Ok(read), "{name}");
    }
}

/// A configuration with nothing but sizes.
fn bare(architecture: Architecture, more: Value) -> Value {
    let mut json = json!({
        "architectures": [architecture.name()],
        "vocab_size": 64,
        "hidden_size": 512,
        "intermediate_size": 40,
        "num_hidden_layers": 13,
        "num_attention_heads": 32,
    });
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json
}

#[test]
fn what_a_configuration_leaves_out_is_what_transformers_takes() {
    let of = |architecture| config(&bare(architecture, json!({}))).unwrap();
    let llama = of(Architecture::Llama);
    assert_eq!((llama.context, llama.kv_heads, llama.head_dim, llama.norm_eps), (2048, 32, 16, 1e-6));
    assert_eq!((llama.tied, llama.window, llama.activation), (false, None, Activation::Silu));
    let mistral = of(Architecture::Mistral);
    assert_eq!((mistral.context, mistral.kv_heads), (131_072, 8));
    assert_eq!(mistral.window, Some(Window { tokens: 4096, layers: None }));
    let qwen2 = of(Architecture::Qwen2);
    assert_eq!((qwen2.context, qwen2.kv_heads, qwen2.head_dim, qwen2.qkv_bias), (32_768, 32, 16, true));
    assert_eq!((of(Architecture::Qwen3).head_dim, of(Architecture::Qwen3).window), (128, None));
    let gemma2 = of(Architecture::Gemma2);
    assert_eq!((gemma2.context, gemma2.kv_heads, gemma2.head_dim, gemma2.tied), (8192, 4, 256, true));
    assert_eq!((gemma2.attention_softcap, gemma2.final_softcap), (Some(50.0), Some(30.0)));
    assert_eq!((gemma2.query_scalar, gemma2.activation), (Some(256.0), Activation::GeluTanh));
    assert_eq!(
        (gemma2.window_of(0), gemma2.window_of(1), gemma2.window_of(2)),
        (Some(4096), None, Some(4096))
    );
    let gemma3 = of(Architecture::Gemma3);
    assert_eq!((gemma3.context, gemma3.final_softcap), (131_072, None));
    let full: Vec<usize> = (0..13).filter(|&layer| gemma3.window_of(layer).is_none()).collect();
    assert_eq!(full, [5, 11]);
    assert_eq!((gemma3.rope_of(5).theta, gemma3.rope_of(6).theta), (1e6, 1e4));
    let phi3 = of(Architecture::Phi3);
    assert_eq!((phi3.context, phi3.kv_heads, phi3.norm_eps, phi3.window), (4096, 32, 1e-5, None));
    assert_eq!((of(Architecture::Olmo2).context, of(Architecture::Olmo2).norm_eps), (2048, 1e-5));
}

#[test]
fn null_is_not_the_same_as_nothing() {
    let of = |architecture, more| config(&bare(architecture, more)).unwrap();
    assert_eq!(of(Architecture::Mistral, json!({"sliding_window": null})).window, None);
    assert_eq!(of(Architecture::Mistral, json!({"num_key_value_heads": null})).kv_heads, 32);
    let gemma2 =
        of(Architecture::Gemma2, json!({"attn_logit_softcapping": null, "final_logit_softcapping": null}));
    assert_eq!((gemma2.attention_softcap, gemma2.final_softcap), (None, None));
}

#[test]
fn a_family_refuses_what_it_does_not_have_by_name() {
    let refused = |architecture, more: Value, parts: &[&str]| {
        let error = config(&bare(architecture, more)).unwrap_err();
        assert!(!error.contains('\n'), "{error}");
        for part in parts {
            assert!(error.contains(part), "`{part}` in: {error}");
        }
    };
    let kinds = |kind: &str| json!({"layer_types": vec![kind; 13]});
    refused(Architecture::Mistral, kinds("full_attention"), &["`layer_types`", "layer 0", "4096"]);
    refused(Architecture::Mistral, json!({"sliding_window": 0}), &["sliding_window", "positive"]);
    refused(Architecture::Qwen3, kinds("sliding_attention"), &["layer 0", "no field switches a window on"]);
    refused(Architecture::Qwen3, kinds("linear_attention"), &["layer_types", "linear_attention"]);
    refused(Architecture::Gemma2, json!({"sliding_window": null}), &["sliding_window", "null"]);
    refused(
        Architecture::Gemma2,
        json!({"use_bidirectional_attention": true}),
        &["use_bidirectional_attention"],
    );
    refused(
        Architecture::Gemma2,
        json!({"query_pre_attn_scalar": 0}),
        &["query_pre_attn_scalar", "positive"],
    );
    refused(Architecture::Gemma2, json!({"attn_logit_softcapping": -1.0}), &["attn_logit_softcapping"]);
    refused(Architecture::Gemma2, json!({"hidden_activation": "gelu"}), &["hidden_activation", "gelu"]);
    refused(Architecture::Gemma3, json!({"attn_logit_softcapping": 50.0}), &["attn_logit_softcapping"]);
    refused(Architecture::Gemma3, json!({"sliding_window_pattern": 0}), &["sliding_window_pattern"]);
    let flat = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}});
    refused(
        Architecture::Gemma3,
        flat,
        &["rope_parameters.rope_type", "only full_attention and sliding_attention"],
    );
    let twice = json!({
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "rope_parameters": {"full_attention": {"rope_type": "default"}},
    });
    refused(Architecture::Gemma3, twice, &["`rope_scaling`", "linear", "`rope_parameters.full_attention`"]);
    refused(Architecture::Phi3, json!({"attention_bias": true}), &["attention_bias"]);
    refused(Architecture::Phi3, json!({"lm_head_bias": true}), &["lm_head_bias"]);
    let rope = |rope: Value| json!({"rope_scaling": rope, "original_max_position_embeddings": 1024});
    refused(
        Architecture::Phi3,
        rope(json!({"type": "linear", "factor": 2.0})),
        &["rope_scaling.rope_type", "linear"],
    );
    let short = json!({"type": "su", "short_factor": [1.0, 1.0], "long_factor": vec![1.0; 8]});
    refused(Architecture::Phi3, rope(short), &["short_factor", "8 numbers", "found 2"]);
    let negative = json!({"type": "su", "short_factor": vec![-1.0; 8], "long_factor": vec![1.0; 8]});
    refused(Architecture::Phi3, rope(negative), &["short_factor", "positive"]);
    refused(Architecture::Phi3, json!({"partial_rotary_factor": 0.32}), &["partial_rotary_factor", "even"]);
    refused(Architecture::Phi3, json!({"partial_rotary_factor": 1.5}), &["partial_rotary_factor"]);
    refused(Architecture::Olmo2, json!({"partial_rotary_factor": 0.5}), &["partial_rotary_factor"]);
    refused(Architecture::Olmo2, json!({"sliding_window": 64}), &["sliding_window", "64"]);
    let wrapper = json!({"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"});
    refused(Architecture::Gemma3, wrapper, &["Gemma3ForConditionalGeneration", "Gemma3ForCausalLM"]);
}

#[test]
fn configurations_as_they_are_published_are_read_without_a_word() {
    let gemma2 = json!({
        "attention_bias": false, "attention_dropout": 0.0, "attn_logit_softcapping": 50.0, "bos_token_id": 2,
        "cache_implementation": "hybrid", "eos_token_id": 1, "final_logit_softcapping": 30.0, "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "initializer_range": 0.02,
        "max_position_embeddings": 8192, "model_type": "gemma2", "pad_token_id": 0, "query_pre_attn_scalar": 224,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": 4096, "sliding_window_size": 4096,
        "torch_dtype": "float32", "transformers_version": "4.42.4", "use_cache": true, "num_key_value_heads": 8,
    });
    let gemma3 = json!({
        "attention_bias": false, "attention_dropout": 0.0, "attn_logit_softcapping": null,
        "cache_implementation": "hybrid", "eos_token_id": [1, 106], "final_logit_softcapping": null,
        "hidden_activation": "gelu_pytorch_tanh", "model_type": "gemma3_text", "rope_local_base_freq": 10000,
        "rope_scaling": null, "rope_theta": 1_000_000, "sliding_window": 512, "sliding_window_pattern": 6,
        "use_cache": true,
    });
    let phi3 = json!({
        "_name_or_path": "Phi-3-mini", "attention_bias": false, "attention_dropout": 0.0,
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}, "embd_pdrop": 0.0, "full_attn_mod": 1,
        "interpolate_factor": 1, "lm_head_bias": false, "mlp_bias": false, "model_type": "phi3",
        "max_position_embeddings": 131_072, "original_max_position_embeddings": 4096, "pad_token_id": 32000,
        "partial_rotary_factor": 0.75, "resid_pdrop": 0.0, "rope_theta": 10000.0, "sliding_window": 262_144,
        "rope_scaling": {"type": "longrope", "short_factor": vec![1.0; 3], "long_factor": vec![1.5; 3]},
    });
    let qwen3 = json!({
        "attention_bias": false, "attention_dropout": 0.0, "head_dim": 128, "max_window_layers": 36,
        "model_type": "qwen3", "rope_scaling": null, "rope_theta": 1_000_000, "sliding_window": null,
        "use_sliding_window": false, "num_key_value_heads": 8,
    });
    let mistral =
        json!({"model_type": "mistral", "sliding_window": null, "head_dim": null, "rope_theta": 1e6});
    let olmo2 =
        json!({"model_type": "olmo2", "attention_bias": false, "rope_scaling": null, "rope_theta": 5e5});
    for (architecture, keys) in [
        (Architecture::Gemma2, gemma2),
        (Architecture::Gemma3, gemma3),
        (Architecture::Phi3, phi3),
        (Architecture::Qwen3, qwen3),
        (Architecture::Mistral, mistral),
        (Architecture::Olmo2, olmo2),
    ] {
        let mut json = bare(architecture, keys);
        json.as_object_mut().unwrap().extend([
            ("hidden_size".to_owned(), json!(64)),
            ("num_attention_heads".to_owned(), json!(8)),
            ("num_hidden_layers".to_owned(), json!(2)),
        ]);
        let small = config(&json).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let decoder = Decoder::init(&small, 1, &Device::flex());
        decoder.save_safetensors(&dir.path().join("model.safetensors"), DType::BF16).unwrap();
        std::fs::write(dir.path().join("config.json"), json.to_string()).unwrap();
        let model = LanguageModel::load(dir.path(), &Device::flex(), None).unwrap();
        assert!(model.warnings().is_empty(), "{architecture:?}: {:?}", model.warnings());
        if let RopeScaling::LongRope { attention_factor, original_context, .. } = model.config().rope.scaling
        {
            assert_eq!(original_context, 4096);
            assert_eq!(attention_factor, (1.0 + 32f64.ln() / 4096f64.ln()).sqrt());
        }
    }
}

#[test]
fn a_tensor_of_another_family_is_not_passed_over() {
    for (name, tensor) in [
        ("mistral", "model.layers.0.self_attn.q_norm.weight"),
        ("olmo2", "model.layers.0.input_layernorm.weight"),
        ("phi3", "model.layers.0.self_attn.q_proj.weight"),
        ("gemma2", "model.layers.1.self_attn.k_norm.weight"),
    ] {
        let model = Model::copy(name);
        let file = if name == "mistral" || name == "gemma2" {
            "model-00001-of-00002.safetensors"
        } else {
            "model.safetensors"
        };
        let mut tensors = edited::tensors_of(&model.path(file));
        tensors.insert(tensor.to_owned(), floats(&[1.0; 2], &[2]));
        edited::write_tensors(&model.path(file), &tensors);
        model.refused(&[&format!("`{tensor}`")]);
    }
}
