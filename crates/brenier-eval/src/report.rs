//! What a study or a scoring run found: data first, rendering apart.
//!
//! Every struct here is written to and read from `report.json` as it stands. A value that was not
//! measured (no answers file, no text) is `null`, never a number that looks like a measurement. All numbers are finite;
//! what failed has a reason in their place.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Mean, Paired, Rate};

/// The value of [`Report::schema`].
pub const REPORT_SCHEMA: &str = "brenier.report/1";

/// Everything that a study found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: String,
    /// The model that was studied.
    pub model: ModelInfo,
    /// The prompts it was studied with.
    pub data: DataInfo,
    /// The untouched model on test.
    pub baseline: Baseline,
    /// The setting that validation chose out of all methods. Test takes no part in the choice: where this setting fails
    /// there, it stays the one chosen, and its method says why it failed.
    pub selected: Setting,
    /// Every method on test, each at the setting that validation chose for it.
    pub methods: Vec<MethodReport>,
    /// Every setting tried on validation.
    pub sweep: Vec<SweepPoint>,
    /// How far apart source and target are, by layer, on validation.
    pub layers: Vec<LayerInfo>,
    /// Validation activations in two components at the selected layer.
    pub scatter: Option<Scatter>,
    /// What the study was told to do.
    pub settings: Settings,
    /// Versions of what ran.
    pub versions: BTreeMap<String, String>,
    /// Seconds spent.
    pub timings: Timings,
    /// Remarks that a reader of the numbers needs.
    pub notes: Vec<String>,
}

/// The model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Its architecture as its checkpoint names it.
    pub architecture: String,
    /// Decoder blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Most tokens in a row.
    pub context: usize,
    /// Dtype of the activations.
    pub dtype: String,
    /// Hash of config and weights.
    pub sha256: String,
}

/// The data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DataInfo {
    /// Prompts by file stem, e.g. `source_train`.
    pub prompts: BTreeMap<String, usize>,
    /// Known answers by file stem, e.g. `source_val_answers`.
    pub answers: BTreeMap<String, usize>,
    /// Passages of raw text for perplexity.
    pub text_lines: usize,
    /// Hashes by file name.
    pub sha256: BTreeMap<String, String>,
    /// The refusal phrases judged by: `built-in` or a file name.
    pub refusal_phrases: String,
}

/// The untouched model on test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Refusals among the completions of source prompts.
    pub refusal_rate: Rate,
    /// Right answers among the completions of source prompts.
    pub answer_rate: Option<Rate>,
    /// Refusals among the completions of target prompts.
    pub target_refusal_rate: Rate,
    /// Right answers among the completions of target prompts.
    pub target_answer_rate: Option<Rate>,
    /// Source answers that come out right once the first token of the answer is given: what is there to be
    /// recovered.
    pub latent_answer_rate: Option<Rate>,
    /// `exp(sum NLL / sum tokens)` over the text.
    pub perplexity: Option<f64>,
    /// Tokens scored for it.
    pub perplexity_tokens: usize,
    /// Mean refusal score (log-odds of a refusal as the next token) on source prompts of test.
    pub refusal_score: Option<f64>,
}

/// Where and how a method acts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The method's name as on the command line.
    pub method: String,
    /// Components K, where the method has them.
    pub components: Option<usize>,
    /// The layers whose activations the map was fitted on.
    pub layers: Vec<u16>,
    /// Where the edit is made: `resid_post`, or the sites of a projection.
    pub sites: Vec<String>,
    /// Strength of the edit.
    pub strength: f64,
    /// Shift of a subspace method: `subspace` or `full`.
    pub shift: Option<String>,
    /// Tokens acted on: `all`, `last+generated`, ...
    pub tokens: String,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.method)?;
        if let Some(k) = self.components {
            write!(f, "K {k}, ")?;
        }
        if let Some(shift) = &self.shift {
            write!(f, "shift {shift}, ")?;
        }
        let layers: Vec<String> = self.layers.iter().map(u16::to_string).collect();
        match layers.as_slice() {
            [] => {}
            [layer] => write!(f, "layer {layer} counted from 0, ")?,
            several => write!(f, "layers {} counted from 0, ", several.join(" "))?,
        }
        write!(f, "strength {}, tokens {})", self.strength, self.tokens)
    }
}

/// What was measured of a setting, or why it could not be.
///
/// In JSON, `"status": "ok"` and the measures, or `"status": "failed"` and the `reason`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome<T> {
    /// Everything that there is to measure.
    Ok(T),
    /// Something of it failed, so that nothing of it counts.
    Failed {
        /// The setting, where it failed, and what helps.
        reason: String,
    },
}

impl<T> Outcome<T> {
    /// The measures, where nothing failed.
    #[must_use]
    pub fn ok(&self) -> Option<&T> {
        match self {
            Self::Ok(measures) => Some(measures),
            Self::Failed { .. } => None,
        }
    }

    /// The reason of a failure.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok(_) => None,
            Self::Failed { reason } => Some(reason),
        }
    }
}

/// What validation said about a setting.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ValScores {
    /// Refusals among generated completions of source prompts.
    pub refusal_rate: Option<Rate>,
    /// Right source answers.
    pub answer_rate: Option<Rate>,
    /// Right target answers.
    pub target_answer_rate: Option<Rate>,
    /// Refusals among generated completions of target prompts.
    pub target_refusal_rate: Option<Rate>,
    /// Mean KL(base || edited) of the next token on target prompts.
    pub kl: Option<f64>,
    /// Whether the harm done stays within the bounds of [`Settings`].
    pub within_bounds: bool,
}

/// One method on test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodReport {
    /// Where and how it acts, chosen on validation; without layers where no setting could be measured there.
    #[serde(flatten)]
    pub setting: Setting,
    /// What test said, or why it says nothing.
    #[serde(flatten)]
    pub outcome: Outcome<MethodScores>,
    /// What validation said.
    pub val: Option<ValScores>,
    /// W2 between mapped source and target over W2 between source and target, on validation.
    pub heldout_w2_ratio: Option<f64>,
    /// The fit's certificate.
    pub certificate: serde_json::Value,
    /// The map's file, relative to the report.
    pub map: Option<String>,
    /// How this setting was chosen, in words.
    pub selection: String,
    /// Seconds spent on test.
    pub seconds: f64,
}

/// What test said of a method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodScores {
    /// Refusals among the completions of source prompts.
    pub refusal_rate: Rate,
    /// Right answers among the completions of source prompts.
    pub answer_rate: Option<Rate>,
    /// Refusals among the completions of target prompts.
    pub target_refusal_rate: Rate,
    /// Right answers among the completions of target prompts.
    pub target_answer_rate: Option<Rate>,
    /// Perplexity of the text under the edit.
    pub perplexity: Option<f64>,
    /// Mean KL(base || edited) of the next token after target prompts, in nats.
    pub kl: f64,
    /// The same with its interval.
    pub kl_prompt: Mean,
    /// KL averaged over the tokens of the base model's own greedy completion of target prompts.
    pub kl_continuation: Option<Mean>,
    /// Mean refusal score on source prompts.
    pub refusal_score: Option<f64>,
    /// This method against the untouched model, prompt by prompt.
    pub versus_baseline: Versus,
}

/// A method against the untouched model on the same test prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    /// Refusals of source prompts.
    pub refusal: Paired,
    /// Right source answers.
    pub answer: Option<Paired>,
    /// Refusals of target prompts.
    pub target_refusal: Paired,
    /// Right target answers.
    pub target_answer: Option<Paired>,
}

/// One setting on validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// Where and how it acts.
    #[serde(flatten)]
    pub setting: Setting,
    /// W2 between mapped source and target over W2 between source and target, on validation.
    pub heldout_w2_ratio: Option<f64>,
    /// What validation said, or why it says nothing.
    #[serde(flatten)]
    pub outcome: Outcome<SweepScores>,
}

/// What validation said of a setting that was tried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SweepScores {
    /// Mean refusal score (log-odds of a refusal as the next token) on source prompts.
    pub refusal_score: Option<f64>,
    /// Share of source prompts whose likeliest next token begins a refusal.
    pub first_token_refusal_rate: Option<Rate>,
    /// Share of source answers that greedy decoding gives, found by forcing the answer; no generation needed.
    pub forced_answer_rate: Option<Rate>,
    /// The same on target prompts.
    pub forced_target_answer_rate: Option<Rate>,
    /// Mean log-probability of a token of the right source answer, in nats.
    pub answer_log_prob: Option<f64>,
    /// The same of the right target answer.
    pub target_answer_log_prob: Option<f64>,
    /// Mean KL(base || edited) of the next token on target prompts.
    pub kl: Option<f64>,
    /// Refusals among completions of source prompts, where they were generated.
    pub refusal_rate: Option<Rate>,
    /// Right answers among them.
    pub answer_rate: Option<Rate>,
    /// Right answers among completions of target prompts.
    pub target_answer_rate: Option<Rate>,
}

/// Source against target at one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// The layer.
    pub layer: u16,
    /// Area under the ROC curve of the projection on the training mean difference, on validation.
    pub auc: f64,
    /// Fisher ratio `(m_s - m_t)^2 / (var_s + var_t)` of the same projection.
    pub fisher: f64,
    /// W2 between the classes on validation.
    pub w2: f64,
    /// Area under the ROC curve of the gate, on validation, where one was fitted.
    pub gate_auc: Option<f64>,
    /// Refusal score of the untouched model (the same at every layer).
    pub baseline_refusal_score: Option<f64>,
    /// Best setting of the selected method at this layer, by validation: its refusal score ...
    pub refusal_score: Option<f64>,
    /// ... refusals among its completions of validation source prompts ...
    pub refusal_rate: Option<Rate>,
    /// ... and right source answers on validation.
    pub answer_rate: Option<Rate>,
}

/// Points in two components.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scatter {
    /// Hook point of the activations.
    pub at: String,
    /// The method that moved them.
    pub method: String,
    /// Names of the two axes.
    pub axes: [String; 2],
    /// Source activations.
    pub source: Vec<[f64; 2]>,
    /// Target activations.
    pub target: Vec<[f64; 2]>,
    /// Source activations after the map.
    pub transported: Vec<[f64; 2]>,
    /// Target activations after the map: what it does to those it should leave alone.
    pub target_after: Vec<[f64; 2]>,
}

/// What a study was told to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Seed of the bootstrap; decoding is greedy.
    pub seed: u64,
    /// Most tokens in a completion.
    pub max_new_tokens: usize,
    /// How a completion is compared with its answer: `exact` or `contains`.
    pub r#match: String,
    /// Whether prompts went without the chat template.
    pub raw: bool,
    /// The system message, where one was given.
    pub system: Option<String>,
    /// Hash of the chat template; `none` for raw prompts, `null` for prompts given as ids.
    pub template_sha256: Option<String>,
    /// The date that the chat template was rendered with, where it shows one.
    pub date: Option<String>,
    /// The position whose activations are fitted.
    pub position: String,
    /// Largest share of right target answers that a setting may cost on validation.
    pub harm_bound: f64,
    /// Largest mean next-token KL on validation target prompts, where answers are not known.
    pub kl_bound: f64,
    /// Ids whose probability is the refusal score.
    pub refusal_tokens: Vec<u32>,
    /// The same as text.
    pub refusal_token_texts: Vec<String>,
    /// How interventions act on raw text.
    pub text_policy: String,
}

/// Seconds spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Capturing activations.
    pub capture_s: f64,
    /// Fitting maps.
    pub fit_s: f64,
    /// Trying settings on validation.
    pub sweep_s: f64,
    /// Measuring on test.
    pub score_s: f64,
    /// All together.
    pub total_s: f64,
}

/// What was done to the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterventionInfo {
    /// The edits in words: where, how strongly, on which tokens.
    pub edits: String,
    /// The map file that they came from, where they came from one.
    #[serde(flatten)]
    pub map: Option<MapUse>,
}

/// A map file, put to use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapUse {
    /// The file.
    pub map: String,
    /// Its hash.
    pub map_sha256: String,
    /// Tokens acted on.
    pub tokens: Chosen<String>,
    /// Strength of the edits.
    pub strength: Chosen<f64>,
    /// What was different when the map was fitted.
    pub differences: Vec<DifferenceInfo>,
    /// What the file does not say, of what a map depends on.
    pub unstated: Vec<String>,
}

/// A setting, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen<T> {
    /// Its value.
    pub value: T,
    /// Where that comes from.
    pub from: Origin,
    /// What the map file records.
    pub recorded: Option<T>,
}

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The user.
    Given,
    /// The map file.
    Recorded,
    /// Neither.
    Default,
}

/// A fact that differs between things that were to be made alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceInfo {
    /// The fact, by its key in the metadata of files.
    pub fact: String,
    /// Its values, by what states them.
    pub values: BTreeMap<String, String>,
}

/// What `score` found; parts that were not asked for are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreReport {
    /// `brenier.score/1`.
    pub schema: String,
    /// The model.
    pub model: ModelInfo,
    /// The intervention, or `null` for the untouched model.
    pub intervention: Option<InterventionInfo>,
    /// Refusals among completions.
    pub refusal_rate: Option<Rate>,
    /// Right answers among completions.
    pub answer_rate: Option<Rate>,
    /// Perplexity of the text.
    pub perplexity: Option<f64>,
    /// Tokens scored for it.
    pub perplexity_tokens: usize,
    /// KL(base || edited) of the next token after harmless prompts, in nats.
    pub kl: Option<Mean>,
    /// KL averaged over the base model's greedy completion of harmless prompts.
    pub kl_continuation: Option<Mean>,
    /// How many completions ended at eos, at the limit, or where the context ends.
    pub finish: BTreeMap<String, usize>,
    /// How interventions act on raw text.
    pub text_policy: Option<String>,
    /// Seconds spent.
    pub seconds: f64,
}

/// One completion and what the judges said of it: a line of `completions.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// `baseline` or the method's name.
    pub method: String,
    /// `source` or `target`.
    pub side: String,
    /// Index of the prompt in its file.
    pub index: usize,
    /// The prompt as given: text or ids.
    pub prompt: serde_json::Value,
    /// What the model wrote.
    pub completion: String,
    /// Why it stopped: `eos`, `max_new_tokens` or `context`.
    pub finish: String,
    /// Whether it is a refusal.
    pub refused: bool,
    /// Whether it is right; `null` where the answer is not known.
    pub right: Option<bool>,
    /// The right answer, where known.
    pub answer: Option<String>,
}
