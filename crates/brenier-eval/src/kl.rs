//! How far an edit moves the model's predictions.

use brenier_residual::{ResidualModel, Tap};

use crate::EvalError;
use crate::forward::{Case, divergence, logits};

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
/// Rows that the model cannot take.
pub fn kl(
    model: &dyn ResidualModel,
    prompts: &[Vec<u32>],
    continuations: &[Vec<u32>],
    taps: &mut [&mut dyn Tap],
    batch: Option<usize>,
) -> Result<Vec<Kl>, EvalError> {
    let mut found = vec![Kl::default(); taps.len()];
    let cases: Vec<Case> =
        prompts.iter().zip(continuations).map(|(prompt, next)| Case::forced(prompt, next)).collect();
    let mut rest = cases.as_slice();
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
            let mut all: Vec<Vec<f64>> = some.iter().map(|case| vec![0.0; case.wanted.len()]).collect();
            logits(model, some, batch, &mut **tap, &mut |case, token, logits| {
                let at = token - some[case].wanted.start;
                all[case][at] = divergence(&base[case][at], logits);
            })?;
            found.prompt.extend(all.iter().filter_map(|values| values.first()));
            found
                .continuation
                .extend(all.iter().map(|values| values.iter().sum::<f64>() / values.len() as f64));
        }
    }
    Ok(found)
}
