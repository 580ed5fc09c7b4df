//! What a checkpoint asks of the logits before a token is picked from them.

mod read;

pub(crate) use read::{is_known, read};

/// Changes to the logits that `generation_config.json` asks for, applied before a token is picked, greedily or not.
///
/// They are those of transformers' `generate`, under its names and in its order; a prompt counts without padding.
/// The default changes nothing. Ids outside the vocabulary are passed over.
///
/// ```
/// use brenier_model::{Architecture, Config, Decoder, GenerateOptions, LogitsRules, generate};
/// use burn::tensor::Device;
///
/// let model = Decoder::init(&Config::small(Architecture::Llama), 1, &Device::flex());
/// let rules = LogitsRules { no_repeat_ngram_size: 1, ..LogitsRules::default() };
/// let options = GenerateOptions { max_new_tokens: 20, rules, ..GenerateOptions::default() };
/// let texts = generate(&model, &[vec![1, 2]], &options, &mut ())?;
/// let mut ids = texts[0].ids.clone();
/// ids.sort_unstable();
/// ids.dedup();
/// assert_eq!(ids.len(), 20, "no token comes twice");
/// # Ok::<(), brenier_model::ModelError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogitsRules {
    /// Added to the logit of a sequence's last token where what stands before ends with the rest of it.
    pub sequence_bias: Vec<(Vec<u32>, f32)>,
    /// Divides positive logits of tokens that are not in the prompt, multiplies negative ones.
    pub encoder_repetition_penalty: Option<f64>,
    /// Divides positive logits of tokens that are in the text so far, multiplies negative ones.
    pub repetition_penalty: Option<f64>,
    /// No sequence of so many tokens comes twice in prompt and continuation; 0 is no rule.
    pub no_repeat_ngram_size: usize,
    /// No sequence of so many tokens that is in the prompt is continued to; 0 is no rule.
    pub encoder_no_repeat_ngram_size: usize,
    /// Sequences that never come. A sequence of one token that ends a text is passed over.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// The text does not end before prompt and continuation have so many tokens.
    pub min_length: usize,
    /// The text does not end before the continuation has so many tokens; where given, `min_length` has no say.
    pub min_new_tokens: Option<usize>,
    /// What comes after a prompt of one token.
    pub forced_bos_token_id: Option<u32>,
    /// What comes as the last of `max_new_tokens`; of several, the lowest.
    pub forced_eos_token_id: Vec<u32>,
    /// After so many new tokens the logits of tokens that end the text grow by a power of this factor.
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// Tokens that never come.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that do not come first.
    pub begin_suppress_tokens: Vec<u32>,
}

/// A text on its way.
pub(crate) struct Text<'a> {
    pub prompt: &'a [u32],
    pub new: &'a [u32],
    /// Tokens that end it.
    pub eos: &'a [u32],
    pub max_new_tokens: usize,
}

impl LogitsRules {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn apply(&self, text: &Text<'_>, logits: &mut [f32]) {
        let ids = [text.prompt, text.new].concat();
        for (sequence, bias) in &self.sequence_bias {
            add_where_completed(sequence, *bias, &ids, logits);
        }
        if let Some(penalty) = self.encoder_repetition_penalty {
            // The inverse for what is in the prompt, so that everything else falls behind.
            penalise(text.prompt, 1.0 / penalty, logits);
        }
        if let Some(penalty) = self.repetition_penalty {
            penalise(&ids, penalty, logits);
        }
        ban_repetitions(self.no_repeat_ngram_size, &ids, &ids, logits);
        ban_repetitions(self.encoder_no_repeat_ngram_size, text.prompt, &ids, logits);
        for sequence in &self.bad_words_ids {
            if !matches!(sequence.as_slice(), [one] if text.eos.contains(one)) {
                add_where_completed(sequence, f32::NEG_INFINITY, &ids, logits);
            }
        }
        let too_short = match self.min_new_tokens {
            Some(least) => text.new.len() < least,
            None => ids.len() < self.min_length,
        };
        if too_short {
            set(text.eos, f32::NEG_INFINITY, logits);
        }
        if let Some(forced) = self.forced_bos_token_id.filter(|_| ids.len() == 1) {
            force(&[forced], logits);
        }
        if !self.forced_eos_token_id.is_empty() && text.new.len() + 1 == text.max_new_tokens {
            force(&self.forced_eos_token_id, logits);
        }
        if let Some((start, factor)) = self.exponential_decay_length_penalty {
            prefer_the_end(start, factor, text, logits);
        }
        set(&self.suppress_tokens, f32::NEG_INFINITY, logits);
        let begin = usize::from(text.prompt.len() == 1 && self.forced_bos_token_id.is_some());
        if text.new.len() == begin {
            set(&self.begin_suppress_tokens, f32::NEG_INFINITY, logits);
        }
    }
}

fn add_where_completed(sequence: &[u32], bias: f32, ids: &[u32], logits: &mut [f32]) {
    let Some((&last, before)) = sequence.split_last() else { return };
    if let Some(logit) = logits.get_mut(last as usize).filter(|_| ids.ends_with(before)) {
        *logit += bias;
    }
}

fn penalise(ids: &[u32], penalty: f64, logits: &mut [f32]) {
    let (mut ids, penalty) = (ids.to_vec(), penalty as f32);
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

/// Bans what would make the last `size` tokens a sequence of `from`.
fn ban_repetitions(size: usize, from: &[u32], ids: &[u32], logits: &mut [f32]) {
    let Some(before) = size.checked_sub(1).and_then(|before| ids.get(ids.len().checked_sub(before)?..))
    else {
        return;
    };
    for window in from.windows(size) {
        if let Some((last, beginning)) = window.split_last()
            && beginning == before
        {
            set(&[*last], f32::NEG_INFINITY, logits);
        }
    }
}

fn set(ids: &[u32], value: f32, logits: &mut [f32]) {
    for &id in ids {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = value;
        }
    }
}

fn force(ids: &[u32], logits: &mut [f32]) {
    logits.fill(f32::NEG_INFINITY);
    set(ids, 0.0, logits);
}

fn prefer_the_end(start: usize, factor: f64, text: &Text<'_>, logits: &mut [f32]) {
    let Some(beyond) = text.new.len().checked_sub(start) else { return };
    let power = factor.powi(i32::try_from(beyond).unwrap_or(i32::MAX)) - 1.0;
    for &id in text.eos {
        if let Some(logit) = logits.get_mut(id as usize).filter(|logit| logit.is_finite()) {
            *logit += logit.abs() * power as f32;
        }
    }
}
