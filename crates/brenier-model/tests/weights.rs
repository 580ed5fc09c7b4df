//! Weights that do not fit their configuration, their index or each other, and weights that overflow 16 bits.
#![allow(clippy::unwrap_used)]

mod edited;

use std::collections::BTreeMap;

use brenier_model::LanguageModel;
use burn::tensor::{DType, Device};
use edited::{Model, Tensors, cases, floats, logits, prompts, scale, tensors_of, write_tensors};
use serde_json::{Value, json};

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
    // Stored frequencies may be those before or after scaling.
    for half in [1.0, 0.5] {
        let model = Model::copy("facts");
        model.set(json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 2.0}}));
        model.tensors(|tensors| {
            let frequencies = [half, half / 50f32.sqrt()];
            tensors.insert("model.rotary_emb.inv_freq".to_owned(), floats(&frequencies, &[2]));
        });
        assert!(model.load().unwrap().warnings().is_empty());
    }
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

#[test]
fn the_index_decides_between_shards() {
    let index = "model.safetensors.index.json";
    let edit = |model: &Model, edit: &dyn Fn(&mut Value)| {
        let mut json: Value = serde_json::from_slice(&std::fs::read(model.path(index)).unwrap()).unwrap();
        edit(&mut json["weight_map"]);
        model.write(index, &json);
    };
    let whole = Model::copy("facts").load().unwrap();
    let expected = logits(whole.model(), &[5, 9]);
    // Equal copies need no decision.
    let model = sharded(|_| {});
    let loaded = model.load().unwrap();
    assert!(loaded.warnings().is_empty());
    assert_eq!(logits(loaded.model(), &[5, 9]), expected);
    // Of two different ones the index takes one, whichever it is.
    let double = |tensors: &mut Tensors| scale(tensors.get_mut("lm_head.weight").unwrap(), 2.0);
    let model = sharded(double);
    let loaded = model.warned(&["two.safetensors", "`lm_head.weight`", "one.safetensors"]);
    assert_eq!(logits(loaded.model(), &[5, 9]), expected);
    edit(&model, &|map| map["lm_head.weight"] = json!("two.safetensors"));
    let loaded = model.warned(&["one.safetensors", "`lm_head.weight`", "two.safetensors"]);
    let doubled: Vec<f32> = expected.iter().map(|x| 2.0 * x).collect();
    assert_eq!(logits(loaded.model(), &[5, 9]), doubled);
    // Where it names neither, nothing decides.
    edit(&model, &|map| drop(map.as_object_mut().unwrap().remove("lm_head.weight")));
    model.refused(&["`lm_head.weight`", "one.safetensors", "two.safetensors"]);
    // A tensor that only a shard knows of is there all the same.
    let model = sharded(|_| {});
    edit(&model, &|map| drop(map.as_object_mut().unwrap().remove("model.norm.weight")));
    assert_eq!(logits(model.load().unwrap().model(), &[5, 9]), expected);
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
    // Sizes of tensors are checked one by one, their sum is not: with the header's own length it passes 2^64.
    const MOST: u64 = (1 << 61) - 1;
    for last in [0, 1, 7] {
        let model = Model::copy("facts");
        let sizes = [MOST; 8].into_iter().chain([last]);
        let mut begin = 0;
        let tensors = sizes.enumerate().map(|(i, size)| {
            let end = begin + size;
            let tensor = json!({"dtype": "U8", "shape": [size], "data_offsets": [begin, end]});
            begin = end;
            (format!("t{i}"), tensor)
        });
        let header = Value::Object(tensors.collect()).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 64]);
        std::fs::write(model.path("model.safetensors"), bytes).unwrap();
        model.refused(&["model.safetensors", "sound safetensors", "announces"]);
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
        let (exact, half) = (logits(exact.model(), prompt), logits(half.model(), prompt));
        let worst = exact.iter().zip(&half).map(|(e, h)| (e - h).abs()).fold(0.0f32, |a, b| a.max(b));
        assert!(half.iter().all(|x| x.is_finite()) && worst <= 0.02, "{worst}: {half:?} {exact:?}");
    }
}
