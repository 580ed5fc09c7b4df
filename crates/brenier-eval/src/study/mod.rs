//! The study: capture on train, choose on validation, report on test.

mod baseline;
mod candidates;
mod choose;
mod layers;
mod prepare;
mod rule;
mod sweep;
mod test;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use brenier_capture::{Fact, Position, Provenance};
use brenier_map::MapFile;
use brenier_residual::ResidualModel;
use brenier_transport::{Method, Shift};

use crate::complete::Judge;
use crate::{
    Completion, DataInfo, EvalError, Match, ModelInfo, Outcome, Phrases, Progress, REPORT_SCHEMA, Report,
    Settings, StudyData, Subject, TEXT_POLICY, Timings, to_json,
};
use candidates::fit_all;
use layers::{layer_info, scatter};
pub use prepare::prompt_ids;
use prepare::{Prepared, prepare};

/// What a study is to do; the defaults are those of the demo.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StudyOptions {
    /// Names of the methods, as on the command line; empty: all.
    pub methods: Vec<String>,
    /// Layers to try; empty: all.
    pub layers: Vec<u16>,
    /// Components K to try.
    pub components: Vec<usize>,
    /// Which part of the mean moves, to try.
    pub shifts: Vec<Shift>,
    /// Strengths to try for the best settings of a method, besides 1.
    pub strengths: Vec<f64>,
    /// Most tokens in a completion.
    pub max_new_tokens: usize,
    /// When a completion is right.
    pub matching: Match,
    /// Rows at once; `None` sizes batches by their tokens.
    pub batch: Option<usize>,
    /// Largest share of right target answers that a setting may cost on validation without being marked down.
    pub harm_bound: f64,
    /// Largest next-token KL on validation target prompts, where answers are not known.
    pub kl_bound: f64,
    /// Settings per method for which validation completions are generated.
    pub generated: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for StudyOptions {
    fn default() -> Self {
        Self {
            methods: Vec::new(),
            layers: Vec::new(),
            components: vec![1, 2, 4, 8],
            shifts: vec![Shift::Subspace, Shift::Full],
            strengths: vec![1.25, 1.5],
            max_new_tokens: 64,
            matching: Match::Exact,
            batch: None,
            harm_bound: 0.05,
            kl_bound: 0.1,
            generated: 2,
            seed: 0,
        }
    }
}

/// A finished study.
#[derive(Debug, Clone)]
pub struct Study {
    /// What was found.
    pub report: Report,
    /// The map of each method, by method name.
    pub maps: Vec<(String, MapFile)>,
    /// Every completion on test and what the judges said.
    pub completions: Vec<Completion>,
}

/// Runs a study.
///
/// Maps are fitted on the last token of training prompts, at the stream that leaves each block. Settings (layer, K,
/// shift, strength, tokens) are chosen on validation alone, for each method by itself; test is looked at once, at the
/// end. The same data and seed give the same report, timings aside.
///
/// A setting or a method that cannot be measured, because its edit overflows the model's dtype or for another reason of
/// its own, is in the report as [`Outcome::Failed`], and everything else is as it would be without it.
///
/// # Errors
/// Prompts that do not fit the model, options out of range, an untouched model whose values are not finite (found before
/// anything is fitted), activations on which nothing can be fitted, or not one setting that can be measured.
pub fn study(
    subject: &dyn Subject,
    data: &StudyData,
    options: &StudyOptions,
    progress: &mut dyn Progress,
) -> Result<Study, EvalError> {
    let start = Instant::now();
    let spec = subject.model().spec();
    let (methods, layers) = check(options, spec.layers)?;
    let prepared = prepare(subject, data)?;
    let provenance = provenance(subject, data)?;
    let (phrases, text) = (&data.phrases, data.text.as_deref());
    let mut run = Run { subject, options, prepared, provenance, phrases, text };
    let mut notes = Vec::new();
    let mut timings = Timings::default();

    progress.stage("the untouched model", 0);
    run.find_lead()?;
    let refusal_tokens = run.find_refusal_tokens()?;
    if refusal_tokens.is_empty() {
        notes.push(
            "the untouched model refuses no training source prompt: there is no refusal score".to_owned(),
        );
    }
    let (baseline, untouched) = run.baseline(&refusal_tokens)?;
    let before = run.before(&refusal_tokens)?;
    timings.score_s = start.elapsed().as_secs_f64();

    let clock = Instant::now();
    let layer_rows = run.capture(&layers, progress)?;
    timings.capture_s = clock.elapsed().as_secs_f64();

    let clock = Instant::now();
    progress.stage("fitting", 0);
    let fitted = fit_all(&layer_rows, &methods, &options.components, &options.shifts, &mut notes)?;
    let candidates = &fitted.candidates;
    let mut infos = Vec::new();
    for rows in &layer_rows {
        infos.push(layer_info(rows, candidates)?);
    }
    timings.fit_s = clock.elapsed().as_secs_f64();

    let clock = Instant::now();
    let mut choice = run.choose(&methods, &fitted, &layer_rows, &before, &mut notes, progress)?;
    let best = &candidates[choice.tried[choice.best].candidate];
    let by_layer = run.by_layer(best.method, candidates, &mut choice.tried, &layer_rows, progress)?;
    for (info, index) in infos.iter_mut().zip(by_layer) {
        info.baseline_refusal_score = baseline.refusal_score;
        if let Some(scored) = index.and_then(|index| choice.tried[index].outcome.ok()) {
            info.refusal_score = scored.scores.refusal_score;
            info.refusal_rate = scored.scores.refusal_rate;
            info.answer_rate = scored.scores.answer_rate;
        }
    }
    let rows = layer_rows.iter().find(|rows| rows.layer == best.layer);
    let scatter = match outcome(&"the scatter plot", rows.map_or(Ok(None), |rows| scatter(rows, best)))? {
        Outcome::Ok(scatter) => scatter,
        Outcome::Failed { reason } => {
            notes.push(reason);
            None
        }
    };
    timings.sweep_s = clock.elapsed().as_secs_f64();

    let clock = Instant::now();
    let tested = run.test(candidates, &choice, data, &untouched, &refusal_tokens, progress)?;
    timings.score_s += clock.elapsed().as_secs_f64();
    timings.total_s = start.elapsed().as_secs_f64();
    progress.done();

    let selected = best.setting(choice.tried[choice.best].usage);
    let of_selected = tested.methods.iter().find(|method| method.setting == selected);
    if let Some(reason) = of_selected.and_then(|method| method.outcome.reason()) {
        notes.push(format!(
            "the setting that validation chose out of all methods failed on test; test takes no part in choosing, so no \
             other takes its place: {reason}"
        ));
    }
    notes.extend(remarks(&methods));
    let tried = choice.tried.iter().map(|tried| tried.point(&candidates[tried.candidate]));
    let report = Report {
        schema: REPORT_SCHEMA.to_owned(),
        model: model_info(subject)?,
        data: data_info(data),
        baseline,
        selected,
        methods: tested.methods,
        sweep: tried.chain(fitted.failed.iter().cloned()).collect(),
        layers: infos,
        scatter,
        settings: settings(subject, options, &run.provenance, refusal_tokens)?,
        versions: versions(),
        timings,
        notes,
    };
    to_json("report", &report)?;
    Ok(Study { report, maps: tested.maps, completions: tested.completions })
}

/// What became of a candidate: an error of its own is its failure, and costs the others nothing; a machine that fails
/// would fail the others too, and ends the study.
fn outcome<T>(of: &dyn fmt::Display, found: Result<T, EvalError>) -> Result<Outcome<T>, EvalError> {
    match found {
        Ok(found) => Ok(Outcome::Ok(found)),
        Err(error) if error.is_of_machine() => Err(error),
        Err(error) => Ok(Outcome::Failed { reason: format!("{of}: {error}") }),
    }
}

/// What every step of a study needs.
struct Run<'a> {
    subject: &'a dyn Subject,
    options: &'a StudyOptions,
    prepared: Prepared,
    /// How the activations that maps are fitted on are made.
    provenance: Provenance,
    phrases: &'a Phrases,
    text: Option<&'a [String]>,
}

impl<'a> Run<'a> {
    fn model(&self) -> &'a dyn ResidualModel {
        self.subject.model()
    }

    fn judge(&self) -> Judge<'a> {
        Judge {
            phrases: self.phrases,
            matching: self.options.matching,
            max_new_tokens: self.options.max_new_tokens,
            batch: self.options.batch,
            sample: None,
        }
    }
}

/// The methods of a study where none are named, in the order of the reports.
pub const STUDIED: [Method; 8] = [
    Method::PcaOt,
    Method::Gated,
    Method::Ot,
    Method::Mean,
    Method::Rfa,
    Method::Ace,
    Method::ActLinear,
    Method::ActGaussian,
];

/// Methods and layers, ready to be tried.
fn check(options: &StudyOptions, layers: u16) -> Result<(Vec<Method>, Vec<u16>), EvalError> {
    let refuse = |name, expected: &str, found: String| {
        Err(EvalError::Setting { name, expected: expected.to_owned(), found })
    };
    let methods = match options.methods.as_slice() {
        [] => STUDIED.to_vec(),
        // In the order of the reports, each once.
        names => {
            let wanted: Vec<Method> = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
            Method::ALL.into_iter().filter(|method| wanted.contains(method)).collect()
        }
    };
    let mut chosen: Vec<u16> =
        if options.layers.is_empty() { (0..layers).collect() } else { options.layers.clone() };
    chosen.sort_unstable();
    chosen.dedup();
    if let Some(layer) = chosen.iter().find(|&&layer| layer >= layers) {
        return refuse(
            "layers",
            &format!("layers from 0 to {}", layers.saturating_sub(1)),
            layer.to_string(),
        );
    }
    if methods.iter().any(|method| method.uses_components()) && options.components.is_empty() {
        return refuse("components", "at least one number", "none".to_owned());
    }
    if options.components.contains(&0) {
        return refuse("components", "1 or more", "0".to_owned());
    }
    if options.shifts.is_empty() {
        return refuse("shifts", "at least one", "none".to_owned());
    }
    for (name, bound) in [("harm bound", options.harm_bound), ("KL bound", options.kl_bound)] {
        if !bound.is_finite() {
            return refuse(name, "a finite number", bound.to_string());
        }
    }
    if let Some(strength) = options.strengths.iter().find(|strength| !strength.is_finite()) {
        return refuse("strengths", "finite numbers", strength.to_string());
    }
    if options.max_new_tokens == 0 {
        return refuse("max-new-tokens", "1 or more", "0".to_owned());
    }
    if options.batch == Some(0) {
        return refuse("batch", "1 or more", "0".to_owned());
    }
    Ok((methods, chosen))
}

/// The facts of the model, as reports give them.
pub(crate) fn model_info(subject: &dyn Subject) -> Result<ModelInfo, EvalError> {
    let spec = subject.model().spec();
    Ok(ModelInfo {
        architecture: spec.architecture.clone(),
        layers: usize::from(spec.layers),
        hidden: spec.hidden,
        vocab: spec.vocab,
        context: spec.context,
        dtype: spec.dtype_name(),
        sha256: subject.sha256()?.to_owned(),
    })
}

fn data_info(data: &StudyData) -> DataInfo {
    let mut info = DataInfo {
        text_lines: data.text.as_ref().map_or(0, Vec::len),
        sha256: data.sha256.clone(),
        refusal_phrases: data.phrases.name().to_owned(),
        ..DataInfo::default()
    };
    for (side, splits) in [("source", &data.source), ("target", &data.target)] {
        for (split, prompts) in [("train", &splits.train), ("val", &splits.val), ("test", &splits.test)] {
            info.prompts.insert(format!("{side}_{split}"), prompts.len());
        }
        for (split, answers) in [("val", &splits.val_answers), ("test", &splits.test_answers)] {
            if let Some(answers) = answers {
                let known = answers.iter().filter(|answer| answer.is_some()).count();
                info.answers.insert(format!("{side}_{split}_answers"), known);
            }
        }
    }
    info
}

/// How the activations of a study are made.
fn provenance(subject: &dyn Subject, data: &StudyData) -> Result<Provenance, EvalError> {
    let (source, target) = (&data.source, &data.target);
    let all = [&source.train, &source.val, &source.test, &target.train, &target.val, &target.test];
    let mut provenance = subject.provenance(&all.map(Vec::as_slice))?;
    provenance.state(Fact::Position, Position::Last.to_string());
    provenance.state(Fact::Version, env!("CARGO_PKG_VERSION"));
    Ok(provenance)
}

fn settings(
    subject: &dyn Subject,
    options: &StudyOptions,
    provenance: &Provenance,
    tokens: Vec<u32>,
) -> Result<Settings, EvalError> {
    let texts = tokens.iter().map(|&token| subject.decode(&[token])).collect::<Result<_, _>>()?;
    let fact = |fact| provenance.get(fact).map(str::to_owned);
    Ok(Settings {
        seed: options.seed,
        max_new_tokens: options.max_new_tokens,
        r#match: options.matching.to_string(),
        raw: provenance.get(Fact::Raw) == Some("true"),
        system: provenance.system(),
        template_sha256: fact(Fact::Template),
        date: fact(Fact::Date),
        position: Position::Last.to_string(),
        harm_bound: options.harm_bound,
        kl_bound: options.kl_bound,
        refusal_tokens: tokens,
        refusal_token_texts: texts,
        text_policy: TEXT_POLICY.to_owned(),
    })
}

fn versions() -> BTreeMap<String, String> {
    let threads = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    BTreeMap::from([
        ("brenier".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("os".to_owned(), std::env::consts::OS.to_owned()),
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("threads".to_owned(), threads.to_string()),
    ])
}

/// What a reader must know to compare the methods.
fn remarks(methods: &[Method]) -> Vec<String> {
    let mut notes = vec![
        "every setting (layer, K, shift, strength, tokens acted on) was chosen on validation alone, for each method by \
         itself: the share of right source answers, less the harm to target prompts beyond its bound; within one \
         standard error of the best, the setting that makes the right answers likeliest"
            .to_owned(),
    ];
    if methods.contains(&Method::Rfa) {
        notes.push(
            "rfa projects at every block input, attention output and feed-forward output, on all tokens; its \
             direction is the difference of means at the last prompt token after the layer named"
                .to_owned(),
        );
    }
    if methods
        .iter()
        .any(|method| matches!(method, Method::ActMean | Method::ActLinear | Method::ActGaussian))
    {
        notes.push(
            "act acts at one layer, the best on validation, on the residual stream; its authors act on several at once"
                .to_owned(),
        );
    }
    notes
}
