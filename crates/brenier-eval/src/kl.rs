//! How far an edit moves the model's predictions.

use brenier_residual::{ResidualModel, Tap};

use crate::EvalError;
use crate::forward::{Case, Item, divergence, logits};

/// Logits of the untouched model that are held at once: 128 MiB of f32.
const HELD: usize = 1 << 25;

/// `KL(base || edited)` of next-token distributions, a value a prompt, in nats, from raw logits in f64.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kl {
    /// After the last token of the prompt.
    pub prompt: Vec<f64>,
    /// Averaged over the forced continuation: the prediction of each of its tokens and of what follows it.
    pub continuation: Vec<f64>,
}

/// Compares the untouched model with the model under each of `taps`, on prompts with forced continuations, which are
/// the untouched model's own greedy completions where the mean over a continuation is to say something.
///
/// # Errors
/// Rows that the model cannot take; logits that are not finite, with or without a tap.
pub fn kl(
    model: &dyn ResidualModel,
    prompts: &[Vec<u32>],
    continuations: &[Vec<u32>],
    taps: &mut [&mut dyn Tap],
    batch: Option<usize>,
) -> Result<Vec<Kl>, EvalError> {
    let cases = forced("prompt", prompts, continuations);
    divergences(model, &cases, taps, batch)?.into_iter().collect()
}

/// Prompts with forced continuations; `what` they are, for messages.
pub(crate) fn forced(what: &'static str, prompts: &[Vec<u32>], continuations: &[Vec<u32>]) -> Vec<Case> {
    let items = (0..).map(Item::of(what));
    items
        .zip(prompts.iter().zip(continuations))
        .map(|(item, (p, next))| Case::forced(item, p, next))
        .collect()
}

/// KL divergences as [`kl`] gives them, with an error of its own for each tap: one that fails costs the others nothing.
pub(crate) fn divergences(
    model: &dyn ResidualModel,
    cases: &[Case],
    taps: &mut [&mut dyn Tap],
    batch: Option<usize>,
) -> Result<Vec<Result<Kl, EvalError>>, EvalError> {
    let mut found: Vec<Result<Kl, EvalError>> = taps.iter().map(|_| Ok(Kl::default())).collect();
    let mut rest = cases;
    while !rest.is_empty() {
        let mut held = 0;
        let fits = rest.iter().take_while(|case| {
            held += case.wanted.len() * model.spec().vocab;
            held <= HELD
        });
        let (some, others) = rest.split_at(fits.count().max(1));
        rest = others;
        let mut base: Vec<Vec<Vec<f32>>> =
            some.iter().map(|case| vec![Vec::new(); case.wanted.len()]).collect();
        logits(model, some, batch, &mut (), &mut |case, token, logits| {
            base[case][token - some[case].wanted.start] = logits.to_vec();
        })?;
        for (tap, found) in taps.iter_mut().zip(&mut found) {
            let Ok(kl) = found else { continue };
            let mut all: Vec<Vec<f64>> = some.iter().map(|case| vec![0.0; case.wanted.len()]).collect();
            let run = logits(model, some, batch, &mut **tap, &mut |case, token, logits| {
                let at = token - some[case].wanted.start;
                all[case][at] = divergence(&base[case][at], logits);
            });
            match run {
                Ok(()) => {
                    kl.prompt.extend(all.iter().filter_map(|values| values.first()));
                    let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
                    kl.continuation.extend(all.iter().map(mean));
                }
                Err(error) => *found = Err(error),
            }
        }
    }
    Ok(found)
}
