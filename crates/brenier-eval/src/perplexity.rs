//! Perplexity of raw text.

use brenier_hooks::{Edit, Intervention};
use brenier_residual::TokenSet;

use crate::forward::{Case, Item, log_sum_exp, logits};
use crate::{EvalError, Subject};

/// What [`perplexity`] does with edits, in words, for reports.
pub const TEXT_POLICY: &str = "raw text has no prompt: edits with `all` act on every token, edits with `generated` or \
                               `last+generated` on every token after bos, edits with `prompt` or `last` on none";

/// Sums of a perplexity.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Perplexity {
    /// Negative log-likelihood of all tokens scored, in nats.
    pub nll: f64,
    /// Tokens scored.
    pub tokens: usize,
}

impl Perplexity {
    /// `exp(sum NLL / sum tokens)`; `None` where nothing was scored.
    ///
    /// # Errors
    /// [`EvalError::NotFinite`] where it is beyond the range of f64, from 709 nats a token on.
    pub fn value(self) -> Result<Option<f64>, EvalError> {
        if self.tokens == 0 {
            return Ok(None);
        }
        let found = (self.nll / self.tokens as f64).exp();
        let what = || format!("perplexity of {} tokens at {:e} nats in all", self.tokens, self.nll);
        if found.is_finite() { Ok(Some(found)) } else { Err(EvalError::NotFinite { what: what(), found }) }
    }
}

/// Perplexity of passages under edits (none: the untouched model).
///
/// Each passage becomes `[bos] text eos`; without a bos its first token has no prediction, without an eos nothing is
/// appended, and of several the first is. Every later token is scored once. A passage longer than the context is read
/// in windows of the context's length that overlap by half, each token scored in the first window that holds it.
/// How edits act is said in [`TEXT_POLICY`].
///
/// # Errors
/// A tokenizer that refuses a passage; edits that do not fit the model; logits that are not finite.
pub fn perplexity(
    subject: &dyn Subject,
    text: &[String],
    edits: &[Edit],
    batch: Option<usize>,
) -> Result<Perplexity, EvalError> {
    let model = subject.model();
    let mut cases = Vec::new();
    for (index, passage) in text.iter().enumerate() {
        let mut ids: Vec<u32> = subject.bos().into_iter().collect();
        ids.extend(subject.encode(passage)?);
        ids.extend(subject.eos().first());
        let bos = usize::from(subject.bos().is_some());
        let item = Item { what: "text, passage", index };
        cases.extend(windows(item, &ids, model.spec().context, bos));
    }
    let mut tap = Intervention::new(model.spec(), &text_edits(edits))?;
    let mut sum = Perplexity::default();
    logits(model, &cases, batch, &mut tap, &mut |case, token, logits| {
        let next = cases.get(case).and_then(|case| case.ids.get(token + 1));
        if let Some(logit) = next.and_then(|&id| logits.get(id as usize)) {
            sum.nll += log_sum_exp(logits) - f64::from(*logit);
            sum.tokens += 1;
        }
    })?;
    Ok(sum)
}

/// A passage in windows; `prompt` tokens at its beginning are no text.
fn windows(item: Item, ids: &[u32], context: usize, prompt: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    let (mut start, mut scored) = (0, 1);
    while scored < ids.len() {
        let end = ids.len().min(start + context);
        let prompt = if start == 0 { prompt } else { 0 };
        // The token at `t` is predicted at `t - 1`.
        cases.push(Case {
            item,
            ids: ids[start..end].to_vec(),
            prompt,
            wanted: scored - 1 - start..end - 1 - start,
        });
        scored = end;
        start = end.saturating_sub(context - (context / 2).max(1));
    }
    cases
}

fn text_edits(edits: &[Edit]) -> Vec<Edit> {
    let on_text = |set| match set {
        TokenSet::All => Some(TokenSet::All),
        TokenSet::Generated | TokenSet::LastAndGenerated => Some(TokenSet::Generated),
        TokenSet::Prompt | TokenSet::Last => None,
    };
    edits.iter().filter_map(|edit| Some(Edit { tokens: on_text(edit.tokens)?, ..edit.clone() })).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ITEM: Item = Item { what: "text, passage", index: 0 };

    #[test]
    fn a_perplexity_is_finite_or_an_error() {
        let value = |nll: f64, tokens: usize| Perplexity { nll, tokens }.value();
        assert_eq!(value(0.0, 0).unwrap(), None);
        assert_eq!(value(4.0 * 2f64.ln(), 4).unwrap(), Some(2.0));
        // e^709 is within f64, e^710 is not.
        assert!(value(7090.0, 10).unwrap().is_some());
        let text = value(7100.0, 10).unwrap_err().to_string();
        assert!(text.contains("perplexity of 10 tokens at 7.1e3 nats in all: found inf"), "{text}");
        assert!(value(f64::NAN, 10).is_err());
    }

    #[test]
    fn a_long_passage_is_read_in_halves() {
        let ids: Vec<u32> = (0..11).collect();
        let cut: Vec<_> =
            windows(ITEM, &ids, 4, 1).into_iter().map(|case| (case.ids, case.prompt, case.wanted)).collect();
        let wanted = vec![
            (vec![0, 1, 2, 3], 1, 0..3),
            (vec![2, 3, 4, 5], 0, 1..3),
            (vec![4, 5, 6, 7], 0, 1..3),
            (vec![6, 7, 8, 9], 0, 1..3),
            (vec![8, 9, 10], 0, 1..2),
        ];
        assert_eq!(cut, wanted);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn every_token_but_the_first_is_scored_once(n in 0usize..60, context in 2usize..20) {
            let ids: Vec<u32> = (0..n as u32).collect();
            let mut scored = Vec::new();
            for case in windows(ITEM, &ids, context, 1) {
                prop_assert!(case.ids.len() <= context);
                scored.extend(case.wanted.clone().map(|token| case.ids[token + 1]));
            }
            prop_assert_eq!(scored, (1..n.max(1) as u32).collect::<Vec<_>>());
        }
    }
}
