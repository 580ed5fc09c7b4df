//! What generation_config.json asks of the logits, against transformers (`tests/golden/models/make_facts.py`).
#![allow(clippy::unwrap_used)]

mod edited;

use brenier_model::{GenerateOptions, LogitsRules, generate};
use edited::{Model, cases, prompts};
use serde_json::json;

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
            let options = GenerateOptions {
                max_new_tokens,
                batch: Some(batch),
                eos: eos.to_vec(),
                rules: rules.clone(),
                ..GenerateOptions::default()
            };
            let found = generate(model.model(), &prompts, &options, &mut ()).unwrap();
            let found: Vec<Vec<u32>> = found.into_iter().map(|text| text.ids).collect();
            let expected = edited::prompts(&case["greedy"]);
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
        generate(model.model(), &[vec![5]], &options, &mut ())
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
