//! Continuing prompts, many at once.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use brenier_residual::{
    Batch, KvCache, Overflow, ResidualError, ResidualModel, Row, Tap, read_back, read_likeliest,
};
use burn::tensor::Tensor;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::rules::{LogitsRules, Text};
use crate::sampling::Sampler;

/// Tokens of keys and values, rows times columns, that are kept at once where nobody says how many rows.
const TOKENS: usize = 1 << 14;
/// Most rows at once where nobody says how many.
const ROWS: usize = 64;
/// Tokens of prompts, rows times columns, that are read at once.
const PIECE: usize = 1 << 12;

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
    /// Most rows to run at once; `None` goes by the length of the prompts. Speed and memory depend on it, results do
    /// not (beyond rounding).
    pub batch: Option<usize>,
    /// Indices of prompts that are left out: their results are empty. Those of the others are what they would be with
    /// these, so that a generation can be done in parts.
    pub skip: BTreeSet<usize>,
    /// Tokens that end a text; those of a checkpoint are [`ModelDirectory::eos`](crate::ModelDirectory::eos).
    pub eos: Vec<u32>,
    /// Changes to the logits before a token is picked; those that a checkpoint asks for are
    /// [`ModelDirectory::rules`](crate::ModelDirectory::rules).
    pub rules: LogitsRules,
}

impl Default for GenerateOptions {
    /// Greedy by the logits as they are, 128 tokens, none of which ends the text.
    fn default() -> Self {
        Self {
            max_new_tokens: 128,
            temperature: None,
            top_k: None,
            top_p: None,
            seed: 0,
            batch: None,
            skip: BTreeSet::new(),
            eos: Vec::new(),
            rules: LogitsRules::default(),
        }
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

/// What happens in a [generation](generate_with), as it happens.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A new token.
    Token {
        /// Index of the prompt.
        prompt: usize,
        /// The token.
        id: u32,
    },
    /// A continuation that has ended.
    Ended {
        /// Index of the prompt.
        prompt: usize,
        /// The continuation.
        generation: &'a Generation,
    },
}

/// Continues prompts; results stand in the order of the prompts. `tap` acts in every forward pass.
///
/// Prompts run together, padded on the left; a row that has ended makes room for a prompt that waits. Which prompts
/// share a batch does not show in the results, beyond rounding. A prompt is read in pieces of bounded size, so that a
/// tap may see several tokens of a step over a cache.
///
/// ```
/// use brenier_model::{Architecture, Config, Decoder, Finish, GenerateOptions, generate};
/// use burn::tensor::Device;
///
/// let model = Decoder::init(&Config::small(Architecture::Llama), 1, &Device::flex());
/// let options = GenerateOptions { max_new_tokens: 5, ..GenerateOptions::default() };
/// let texts = generate(&model, &[vec![1, 2], vec![3]], &options, &mut ())?;
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
    options: &GenerateOptions,
    tap: &mut dyn Tap,
) -> Result<Vec<Generation>, ModelError> {
    generate_with(model, prompts, options, tap, &mut |_| ControlFlow::Continue(()))
}

/// [`generate`] that tells of each token and of each continuation as it comes, and can be stopped.
///
/// # Errors
/// As [`generate`]; [`ModelError::Stopped`] where `on_event` breaks.
pub fn generate_with(
    model: &dyn ResidualModel,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    tap: &mut dyn Tap,
    on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Vec<Generation>, ModelError> {
    let sampler = Sampler::new(options)?;
    if options.batch == Some(0) {
        let expected = "at least 1".to_owned();
        return Err(ModelError::Option { name: "batch", expected, found: "0".to_owned() });
    }
    for (prompt, ids) in prompts.iter().enumerate() {
        model.spec().check_ids(ids, 1).map_err(|source| ModelError::Prompt { prompt, source })?;
    }
    let none = Generation { ids: Vec::new(), finish: Finish::MaxNewTokens };
    let mut run = Run { model, options, sampler, tap, on_event, results: vec![none; prompts.len()] };
    let all = prompts.iter().map(Vec::as_slice).enumerate();
    let mut waiting: Vec<(usize, &[u32])> =
        all.filter(|(prompt, _)| !options.skip.contains(prompt)).collect();
    if options.max_new_tokens == 0 {
        for (prompt, _) in waiting {
            run.tell(Event::Ended { prompt, generation: &run.results[prompt].clone() })?;
        }
        return Ok(run.results);
    }
    // The longest is taken first: if memory runs out, it does so at once.
    waiting.sort_by_key(|(_, prompt)| prompt.len());
    let longest = waiting.last().map_or(1, |(_, prompt)| prompt.len());
    let rows = options.batch.unwrap_or_else(|| {
        (TOKENS / longest.saturating_add(options.max_new_tokens).min(model.spec().context)).clamp(1, ROWS)
    });
    let mut going: Option<Going<'_>> = None;
    while going.is_some() || !waiting.is_empty() {
        let free = rows.saturating_sub(going.as_ref().map_or(0, |going| going.live.len()));
        // A prompt by itself costs as much as a step of all rows: several are read at once.
        if !waiting.is_empty() && (going.is_none() || free >= rows.div_ceil(4)) {
            let new = waiting.split_off(waiting.len().saturating_sub(free));
            let new = run.read(new)?;
            going = match (going, new) {
                (Some(going), Some(new)) => Some(going.join(new)?),
                (going, new) => going.or(new),
            };
        }
        if let Some(last) = going.take() {
            going = run.step(last)?;
        }
    }
    Ok(run.results)
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

/// Rows that go on, the step that is to be run next, and what was read before it.
struct Going<'a> {
    live: Vec<Live<'a>>,
    batch: Batch,
    cache: KvCache,
}

impl Going<'_> {
    /// Puts other rows below these.
    fn join(mut self, other: Self) -> Result<Self, ModelError> {
        let batch = self.batch.append_rows(&other.batch)?;
        self.live.extend(other.live);
        self.cache.append_rows(other.cache);
        let spare = (0..batch.rows()).map(|row| batch.padding(row)).min().unwrap_or(0);
        self.cache.drop_columns(spare);
        self.batch = batch.drop_columns(spare);
        Ok(self)
    }
}

struct Run<'a> {
    model: &'a dyn ResidualModel,
    options: &'a GenerateOptions,
    sampler: Sampler,
    tap: &'a mut dyn Tap,
    on_event: &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    results: Vec<Generation>,
}

impl Run<'_> {
    /// Reads prompts, up to and with their first new token.
    fn read<'p>(&mut self, prompts: Vec<(usize, &'p [u32])>) -> Result<Option<Going<'p>>, ModelError> {
        let live = prompts.into_iter().map(|(index, prompt)| Live {
            index,
            prompt,
            room: self.model.spec().context - prompt.len(),
            ids: Vec::new(),
            stream: self.sampler.stream(index),
        });
        let going = self.enter(live.collect())?;
        self.step(going)
    }

    /// Reads rows from their first token in pieces of bounded size, all but the last piece: the next step. Rows that have
    /// new tokens already are read up to the last token, so that they can be joined with others.
    fn enter<'p>(&mut self, live: Vec<Live<'p>>) -> Result<Going<'p>, ModelError> {
        let spec = self.model.spec();
        let texts: Vec<Vec<u32>> = live.iter().map(|row| [row.prompt, &row.ids].concat()).collect();
        let rows = live.iter().zip(&texts).map(|(row, ids)| Row { ids, prompt: row.prompt.len() });
        let batch = Batch::new(&rows.collect::<Vec<_>>(), &spec.device)?;
        let mut cache = KvCache::new(usize::from(spec.layers));
        let piece = (PIECE / batch.rows()).max(1);
        let tokens = batch.tokens();
        let last = if live.iter().any(|row| !row.ids.is_empty()) {
            tokens - 1
        } else {
            (tokens - 1) / piece * piece
        };
        for start in (0..last).step_by(piece) {
            let batch = batch.columns(start..last.min(start + piece));
            let x = self.model.embed(&batch)?;
            self.model.blocks(0..spec.layers, x, &batch, Some(&mut cache), self.tap)?;
        }
        Ok(Going { live, batch: batch.columns(last..tokens), cache })
    }

    /// Runs a step, and takes in the token that follows in each row.
    fn step<'p>(&mut self, going: Going<'p>) -> Result<Option<Going<'p>>, ModelError> {
        let Going { mut live, mut batch, mut cache } = going;
        let logits = self.model.forward_last(&batch, Some(&mut cache), self.tap)?;
        let chosen = self.choose(&mut live, logits)?;
        let (mut kept, mut next, mut still) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, (mut row, id)) in live.into_iter().zip(chosen).enumerate() {
            match self.finish(&mut row, id)? {
                Some(finish) => {
                    let generation = Generation { ids: row.ids, finish };
                    self.tell(Event::Ended { prompt: row.index, generation: &generation })?;
                    self.results[row.index] = generation;
                }
                None => {
                    kept.push(slot);
                    next.push(id);
                    still.push(row);
                }
            }
        }
        if still.is_empty() {
            return Ok(None);
        }
        if kept.len() < batch.rows() {
            batch = batch.select_rows(&kept);
            cache.select_rows(&kept);
        }
        let batch = batch.next(&next)?;
        if self.model.rereads(&batch) {
            return self.enter(still).map(Some);
        }
        Ok(Some(Going { live: still, batch, cache }))
    }

    /// The next token of each row.
    fn choose(&mut self, live: &mut [Live<'_>], logits: Tensor<2>) -> Result<Vec<u32>, ModelError> {
        let GenerateOptions { rules, eos, max_new_tokens, .. } = self.options;
        if self.sampler.is_greedy() && rules.is_empty() {
            return read_likeliest(logits).map_err(|error| self.located(error, live));
        }
        let vocab = logits.dims()[1];
        let mut logits = read_back(logits).map_err(|error| self.located(error, live))?;
        let rows = live.iter_mut().zip(logits.chunks_mut(vocab));
        let pick = |(row, logits): (&mut Live<'_>, &mut [f32])| {
            // Logits are finite until a rule forbids a token.
            let text = Text { prompt: row.prompt, new: &row.ids, eos, max_new_tokens: *max_new_tokens };
            rules.apply(&text, logits);
            let none = ModelError::NoTokenLeft { prompt: row.index, tokens: row.ids.len() };
            self.sampler.pick(logits, &mut row.stream).ok_or(none)
        };
        rows.map(pick).collect()
    }

    /// Takes in a token; says why the row ends, if it does.
    fn finish(&mut self, row: &mut Live<'_>, id: u32) -> Result<Option<Finish>, ModelError> {
        if self.options.eos.contains(&id) {
            return Ok(Some(Finish::Eos));
        }
        row.ids.push(id);
        self.tell(Event::Token { prompt: row.index, id })?;
        Ok(if row.ids.len() == self.options.max_new_tokens {
            Some(Finish::MaxNewTokens)
        } else if row.ids.len() == row.room {
            Some(Finish::Context)
        } else {
            None
        })
    }

    fn tell(&mut self, event: Event<'_>) -> Result<(), ModelError> {
        match (self.on_event)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ModelError::Stopped),
        }
    }

    /// An error of reading logits; where they are not finite, with the place where the pass over the row stops being so.
    fn located(&mut self, error: ResidualError, live: &[Live<'_>]) -> ModelError {
        let ResidualError::NotFinite { row, .. } = error else { return error.into() };
        let row = &live[row];
        let ids = [row.prompt, &row.ids].concat();
        let whole = Row { ids: &ids, prompt: row.prompt.len() };
        let overflow = Overflow::locate(self.model, whole, ids.len() - 1, self.tap);
        ModelError::NotFinite { prompt: row.index, tokens: row.ids.len(), overflow }
    }
}
