//! Continuing prompts, many at once.

use brenier_residual::{Batch, KvCache, Overflow, ResidualError, ResidualModel, Row, Tap, read_back};
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::rules::{LogitsRules, Text};
use crate::sampling::Sampler;

/// How to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens to add to a prompt.
    pub max_new_tokens: usize,
    /// Divides the logits before sampling; without one (or with 0) the likeliest token is taken.
    pub temperature: Option<f64>,
    /// Sample among so many of the likeliest tokens.
    pub top_k: Option<usize>,
    /// Sample among the fewest likeliest tokens that hold this share of probability, after `top_k`.
    pub top_p: Option<f64>,
    /// Seed of sampling. Each prompt has its own stream of random numbers, whatever batch it is in.
    pub seed: u64,
    /// Most rows to run at once. Speed and memory depend on it, results do not (beyond rounding).
    pub batch: usize,
    /// Changes to the logits before a token is picked; those that a checkpoint asks for are
    /// [`LanguageModel::rules`](crate::LanguageModel::rules).
    pub rules: LogitsRules,
}

impl Default for GenerateOptions {
    /// Greedy by the logits as they are, 128 tokens, 32 rows.
    fn default() -> Self {
        let (temperature, top_k, top_p) = (None, None, None);
        let rules = LogitsRules::default();
        Self { max_new_tokens: 128, temperature, top_k, top_p, seed: 0, batch: 32, rules }
    }
}

/// Why a continuation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended the text.
    Eos,
    /// As many tokens as were asked for.
    MaxNewTokens,
    /// Prompt and continuation fill the context.
    Context,
}

impl std::fmt::Display for Finish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Finish::Eos => "eos",
            Finish::MaxNewTokens => "max_new_tokens",
            Finish::Context => "context",
        })
    }
}

/// What a model made of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The new tokens, without the one that ended the text.
    pub ids: Vec<u32>,
    /// Why there are no more.
    pub finish: Finish,
}

/// Continues prompts; results stand in the order of the prompts.
///
/// Prompts of similar length run together, padded on the left, at most `options.batch` at once; rows that have
/// ended leave the batch. `tap` acts in every forward pass. `on_token` hears of each new token as it comes:
/// the prompt's index and the id.
///
/// ```
/// use brenier_model::{Architecture, Config, Decoder, Finish, GenerateOptions, generate};
/// use burn::tensor::Device;
///
/// let model = Decoder::init(&Config::small(Architecture::Llama), 1, &Device::flex());
/// let options = GenerateOptions { max_new_tokens: 5, ..GenerateOptions::default() };
/// let eos = [];
/// let texts = generate(&model, &[vec![1, 2], vec![3]], &eos, &options, &mut (), &mut |_, _| {})?;
/// assert_eq!(texts[1].ids.len(), 5);
/// assert_eq!(texts[1].finish, Finish::MaxNewTokens);
/// # Ok::<(), brenier_model::ModelError>(())
/// ```
///
/// # Errors
/// Options out of range; an empty prompt, one that leaves no room in the context or holds an id outside the
/// vocabulary (the error names the prompt's index); logits that are not finite; rules that forbid every token.
pub fn generate(
    model: &dyn ResidualModel,
    prompts: &[Vec<u32>],
    eos: &[u32],
    options: &GenerateOptions,
    tap: &mut dyn Tap,
    on_token: &mut dyn FnMut(usize, u32),
) -> Result<Vec<Generation>, ModelError> {
    let sampler = Sampler::new(options)?;
    if options.batch == 0 {
        let expected = "at least 1".to_owned();
        return Err(ModelError::Option { name: "batch", expected, found: "0".to_owned() });
    }
    for (prompt, ids) in prompts.iter().enumerate() {
        model.spec().check_ids(ids, 1).map_err(|source| ModelError::Prompt { prompt, source })?;
    }
    let mut results = vec![Generation { ids: Vec::new(), finish: Finish::MaxNewTokens }; prompts.len()];
    if options.max_new_tokens == 0 {
        return Ok(results);
    }
    let mut order: Vec<(usize, &[u32])> = prompts.iter().map(Vec::as_slice).enumerate().collect();
    // Longest first: if memory runs out, it does so at once.
    order.sort_by_key(|(_, prompt)| std::cmp::Reverse(prompt.len()));
    for chunk in order.chunks(options.batch) {
        let live = chunk.iter().map(|&(index, prompt)| Live {
            index,
            prompt,
            room: model.spec().context - prompt.len(),
            ids: Vec::new(),
            stream: sampler.stream(index),
        });
        let rows: Vec<Row<'_>> = chunk.iter().map(|(_, prompt)| Row::prompt(prompt)).collect();
        let batch = Batch::new(&rows, &model.spec().device)?;
        let mut run = Run { model, eos, options, sampler, results: &mut results };
        run.until_all_end(live.collect(), batch, tap, on_token)?;
    }
    Ok(results)
}

/// A row that has not ended.
struct Live<'a> {
    index: usize,
    prompt: &'a [u32],
    /// Tokens that still fit into the context, counted at the start.
    room: usize,
    ids: Vec<u32>,
    stream: StdRng,
}

struct Run<'a> {
    model: &'a dyn ResidualModel,
    eos: &'a [u32],
    options: &'a GenerateOptions,
    sampler: Sampler,
    results: &'a mut [Generation],
}

impl Run<'_> {
    fn until_all_end(
        &mut self,
        mut live: Vec<Live<'_>>,
        mut batch: Batch,
        tap: &mut dyn Tap,
        on_token: &mut dyn FnMut(usize, u32),
    ) -> Result<(), ModelError> {
        let mut cache = KvCache::new(usize::from(self.model.spec().layers));
        loop {
            let logits = self.model.forward_last(&batch, Some(&mut cache), tap)?;
            let (mut kept, mut going, mut next) = (Vec::new(), Vec::new(), Vec::new());
            let vocab = logits.dims()[1];
            let mut logits = read_back(logits).map_err(|error| match error {
                ResidualError::NotFinite { row, .. } => self.not_finite(&live[row], tap),
                other => other.into(),
            })?;
            for (slot, (mut row, logits)) in live.drain(..).zip(logits.chunks_mut(vocab)).enumerate() {
                let index = row.index;
                let id = self.pick(&mut row, logits)?;
                match self.finish(&mut row, id, on_token) {
                    Some(finish) => {
                        if let Some(result) = self.results.get_mut(index) {
                            *result = Generation { ids: row.ids, finish };
                        }
                    }
                    None => {
                        kept.push(slot);
                        next.push(id);
                        going.push(row);
                    }
                }
            }
            if going.is_empty() {
                return Ok(());
            }
            if kept.len() < batch.rows() {
                batch = batch.select_rows(&kept);
                cache.select_rows(&kept);
            }
            batch = batch.next(&next)?;
            if self.model.rereads(&batch) {
                let texts: Vec<Vec<u32>> = going.iter().map(|row| [row.prompt, &row.ids].concat()).collect();
                let rows = going.iter().zip(&texts).map(|(row, ids)| Row { ids, prompt: row.prompt.len() });
                let rows: Vec<Row<'_>> = rows.collect();
                batch = Batch::new(&rows, &self.model.spec().device)?;
                cache = KvCache::new(usize::from(self.model.spec().layers));
            }
            live = going;
        }
    }

    /// Where the pass over a row stopped being finite.
    fn not_finite(&self, row: &Live<'_>, tap: &mut dyn Tap) -> ModelError {
        let ids = [row.prompt, &row.ids].concat();
        let whole = Row { ids: &ids, prompt: row.prompt.len() };
        let overflow = Overflow::locate(self.model, whole, ids.len() - 1, tap);
        ModelError::NotFinite { prompt: row.index, tokens: row.ids.len(), overflow }
    }

    /// The next token of a row, of logits that are finite until a rule forbids one.
    fn pick(&self, row: &mut Live<'_>, logits: &mut [f32]) -> Result<u32, ModelError> {
        let GenerateOptions { rules, max_new_tokens, .. } = self.options;
        if !rules.is_empty() {
            let text =
                Text { prompt: row.prompt, new: &row.ids, eos: self.eos, max_new_tokens: *max_new_tokens };
            rules.apply(&text, logits);
        }
        let none = ModelError::NoTokenLeft { prompt: row.index, tokens: row.ids.len() };
        self.sampler.pick(logits, &mut row.stream).ok_or(none)
    }

    /// Takes in a token; says why the row ends, if it does.
    fn finish(&self, row: &mut Live<'_>, id: u32, on_token: &mut dyn FnMut(usize, u32)) -> Option<Finish> {
        if self.eos.contains(&id) {
            return Some(Finish::Eos);
        }
        row.ids.push(id);
        on_token(row.index, id);
        if row.ids.len() == self.options.max_new_tokens {
            Some(Finish::MaxNewTokens)
        } else if row.ids.len() == row.room {
            Some(Finish::Context)
        } else {
            None
        }
    }
}
