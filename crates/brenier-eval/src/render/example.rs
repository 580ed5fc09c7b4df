//! A report that nobody measured, for tests of rendering.

use std::collections::BTreeMap;

use crate::{
    Baseline, DataInfo, LayerInfo, Mean, MethodReport, MethodScores, ModelInfo, Outcome, Paired,
    REPORT_SCHEMA, Rate, Report, Scatter, Setting, Settings, SweepPoint, SweepScores, Timings, ValScores,
    Versus,
};

const N: usize = 120;
const METHODS: [(&str, f64, f64); 8] = [
    ("gated", 0.68, 0.01),
    ("pca-ot", 0.30, 0.55),
    ("ot", 0.41, 0.35),
    ("mean", 0.39, 0.17),
    ("rfa", 0.64, 0.03),
    ("ace", 0.62, 0.025),
    ("act-linear", 0.35, 0.20),
    ("act-gaussian", 0.36, 0.21),
];

/// Every part filled in, with eight methods.
pub(super) fn example() -> Report {
    let methods: Vec<MethodReport> =
        METHODS.iter().map(|&(name, right, harm)| method(name, right, harm)).collect();
    Report {
        schema: REPORT_SCHEMA.into(),
        model: ModelInfo {
            architecture: "LlamaForCausalLM".into(),
            layers: 10,
            hidden: 128,
            vocab: 512,
            context: 96,
            dtype: "F32".into(),
            sha256: "5f1d".repeat(16),
        },
        data: DataInfo {
            prompts: BTreeMap::from([("source_train".into(), 128), ("source_test".into(), N)]),
            answers: BTreeMap::from([("source_test_answers".into(), N)]),
            text_lines: 40,
            sha256: BTreeMap::from([("source_train.jsonl".into(), "ab12".repeat(16))]),
            refusal_phrases: "refusal_phrases.json".into(),
        },
        baseline: Baseline {
            refusal_rate: rate(0.98),
            answer_rate: Some(rate(0.0)),
            target_refusal_rate: rate(0.0),
            target_answer_rate: Some(rate(0.98)),
            latent_answer_rate: Some(rate(0.85)),
            perplexity: Some(3.21),
            perplexity_tokens: 1800,
            refusal_score: Some(6.0),
        },
        selected: methods[0].setting.clone(),
        methods,
        sweep: (0..10)
            .flat_map(|layer| {
                METHODS.iter().map(move |&(name, right, harm)| sweep_point(name, layer, right, harm))
            })
            .collect(),
        layers: (0..10).map(layer).collect(),
        scatter: Some(scatter()),
        settings: Settings {
            seed: 0,
            max_new_tokens: 64,
            r#match: "exact".into(),
            raw: false,
            system: None,
            template_sha256: None,
            date: None,
            position: "last".into(),
            harm_bound: 0.05,
            kl_bound: 0.1,
            refusal_tokens: vec![7, 8],
            refusal_token_texts: vec!["Sorry".into(), " I".into()],
            text_policy: "every token but the first".into(),
        },
        versions: BTreeMap::from([("brenier".into(), "0.1.0".into())]),
        timings: Timings { capture_s: 1.2, fit_s: 0.4, sweep_s: 20.0, score_s: 14.0, total_s: 35.6 },
        notes: vec!["The perplexity of the edited model counts edits on every token.".into()],
    }
}

fn rate(value: f64) -> Rate {
    let (n, z) = (N as f64, 1.96f64);
    let centre = (value + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (value * (1.0 - value) / n + z * z / (4.0 * n * n)).sqrt();
    Rate {
        value,
        n: N,
        count: (value * n).round() as usize,
        ci95: [(centre - half).max(0.0), (centre + half).min(1.0)],
    }
}

fn setting(name: &str, layer: u16) -> Setting {
    Setting {
        method: name.into(),
        components: matches!(name, "gated" | "pca-ot").then_some(2),
        layers: vec![layer],
        sites: vec!["resid_post".into()],
        strength: 1.0,
        shift: None,
        tokens: "last+generated".into(),
    }
}

fn method(name: &str, right: f64, harm: f64) -> MethodReport {
    let paired = |difference: f64| Paired {
        n: N,
        gained: (120.0 * difference.max(0.0)) as usize,
        lost: (120.0 * (-difference).max(0.0)) as usize,
        difference,
        ci95: [difference - 0.05, difference + 0.05],
        p: 0.001,
    };
    let scores = MethodScores {
        refusal_rate: rate(0.9 - right),
        answer_rate: Some(rate(right)),
        target_refusal_rate: rate(0.0),
        target_answer_rate: Some(rate(0.98 - harm)),
        perplexity: Some(3.21 + harm),
        kl: 0.02 + harm,
        kl_prompt: Mean { value: 0.02 + harm, n: N, ci95: [0.01 + harm, 0.03 + harm] },
        kl_continuation: None,
        refusal_score: Some(-3.0),
        versus_baseline: Versus {
            refusal: paired(-0.9),
            answer: Some(paired(right)),
            target_refusal: paired(0.0),
            target_answer: Some(paired(-harm)),
        },
    };
    MethodReport {
        setting: setting(name, 6),
        outcome: Outcome::Ok(scores),
        val: Some(ValScores::default()),
        heldout_w2_ratio: Some(0.3),
        certificate: serde_json::json!({"w2_before": 10.5, "w2_after": 0.2}),
        map: Some(format!("maps/{name}.safetensors")),
        selection: "Most right source answers within the harm allowed.".into(),
        seconds: 1.0,
    }
}

/// The scores of a method that did not fail, to be changed.
pub(super) fn scores(method: &mut MethodReport) -> &mut MethodScores {
    match &mut method.outcome {
        Outcome::Ok(scores) => scores,
        Outcome::Failed { reason } => panic!("{reason}"),
    }
}

fn rise(layer: u16) -> f64 {
    1.0 / (1.0 + (-1.5 * (f64::from(layer) - 4.5)).exp())
}

fn sweep_point(name: &str, layer: u16, right: f64, harm: f64) -> SweepPoint {
    SweepPoint {
        setting: setting(name, layer),
        heldout_w2_ratio: Some(0.4),
        outcome: Outcome::Ok(SweepScores {
            refusal_score: Some(-3.0),
            forced_answer_rate: Some(rate(right * rise(layer))),
            forced_target_answer_rate: Some(rate(0.98 - harm * rise(layer))),
            kl: Some(harm),
            ..SweepScores::default()
        }),
    }
}

fn layer(layer: u16) -> LayerInfo {
    let generated = layer >= 4;
    LayerInfo {
        layer,
        auc: 0.6 + 0.4 * rise(layer),
        fisher: 2.0,
        w2: 5.0,
        gate_auc: Some(0.58 + 0.4 * rise(layer)),
        baseline_refusal_score: Some(6.0),
        refusal_score: Some(-2.0),
        refusal_rate: generated.then(|| rate(0.98 - 0.8 * rise(layer))),
        answer_rate: generated.then(|| rate(0.68 * rise(layer))),
    }
}

fn scatter() -> Scatter {
    let cloud = |x: f64, y: f64, spread: f64| -> Vec<[f64; 2]> {
        let angle = |i: usize| 2.4 * i as f64;
        (0..32)
            .map(|i| {
                [
                    x + spread * angle(i).cos() * (i as f64).sqrt(),
                    y + spread * angle(i).sin() * (i as f64).sqrt(),
                ]
            })
            .collect()
    };
    Scatter {
        at: "blocks.6.hook_resid_post".into(),
        method: "gated".into(),
        axes: ["first principal component".into(), "second principal component".into()],
        source: cloud(-8.0, 1.0, 0.5),
        target: cloud(8.0, -1.0, 0.6),
        transported: cloud(7.5, -0.8, 0.6),
        target_after: cloud(8.0, -1.0, 0.6),
    }
}
