//! Passes through the model for the sake of logits at a few tokens.
//!
//! Logits come back through [`read_logits`], which lets only finite ones through, so that nothing here or above has to
//! ask whether a number is one.

use std::ops::Range;

use brenier_capture::batches;
use brenier_residual::{Batch, HookPoint, Overflow, ResidualError, ResidualModel, Row, Tap, read_logits};
use burn::tensor::Tensor;

use crate::EvalError;

/// Where a row comes from, for messages: what it is, e.g. `source_val, prompt`, and its index from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub what: &'static str,
    pub index: usize,
}

impl Item {
    /// The items of a list.
    pub fn of(what: &'static str) -> impl Fn(usize) -> Self {
        move |index| Self { what, index }
    }
}

/// A prompt, what follows it, and the tokens whose logits are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub item: Item,
    /// Prompt and forced continuation.
    pub ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens whose logits are read, by their index in the row.
    pub wanted: Range<usize>,
}

impl Case {
    /// A prompt with a forced continuation, read from the last token of the prompt to the last of all.
    pub fn forced(item: Item, prompt: &[u32], continuation: &[u32]) -> Self {
        let ids = [prompt, continuation].concat();
        let wanted = prompt.len().saturating_sub(1)..ids.len();
        Self { item, prompt: prompt.len(), ids, wanted }
    }

    /// Says where the pass over this case stopped being finite.
    fn not_finite(&self, model: &dyn ResidualModel, token: usize, tap: &mut dyn Tap) -> EvalError {
        let row = Row { ids: &self.ids, prompt: self.prompt };
        let overflow = Overflow::locate(model, row, token, tap);
        EvalError::Overflow { what: self.item.what, index: self.item.index, token, overflow }
    }
}

/// Told the logits of a wanted token, all finite: index of the case, index of the token in its row, logits.
pub(crate) type See<'a> = &'a mut dyn FnMut(usize, usize, &[f32]);

/// The logits at the wanted tokens of all cases, with `tap` in the pass.
pub(crate) fn logits(
    model: &dyn ResidualModel,
    cases: &[Case],
    rows: Option<usize>,
    tap: &mut dyn Tap,
    see: See<'_>,
) -> Result<(), EvalError> {
    for part in parts(model, cases, rows)? {
        let x = model.blocks(0..model.spec().layers, model.embed(&part.batch)?, &part.batch, None, tap)?;
        part.read(model, cases, x, tap, see)?;
    }
    Ok(())
}

/// Cases with the stream that leaves a block kept, so that an edit there recomputes only what follows.
pub(crate) struct Tails<'a> {
    model: &'a dyn ResidualModel,
    cases: &'a [Case],
    parts: Vec<(Part, Tensor<3>)>,
    layer: u16,
}

impl<'a> Tails<'a> {
    /// The stream that leaves block 0.
    pub fn new(
        model: &'a dyn ResidualModel,
        cases: &'a [Case],
        rows: Option<usize>,
    ) -> Result<Self, EvalError> {
        let mut all = Vec::new();
        for part in parts(model, cases, rows)? {
            let x = model.blocks(0..1, model.embed(&part.batch)?, &part.batch, None, &mut ())?;
            all.push((part, x));
        }
        Ok(Self { model, cases, parts: all, layer: 0 })
    }

    /// Goes on to the stream that leaves block `layer`.
    pub fn advance_to(&mut self, layer: u16) -> Result<(), EvalError> {
        if layer > self.layer {
            for (part, x) in &mut self.parts {
                let entering = x.clone();
                *x = self.model.blocks(self.layer + 1..layer + 1, entering, &part.batch, None, &mut ())?;
            }
            self.layer = layer;
        }
        Ok(())
    }

    /// The logits at the wanted tokens when `tap` acts on the stream that leaves this block.
    pub fn logits(&self, tap: &mut dyn Tap, see: See<'_>) -> Result<(), EvalError> {
        let at = HookPoint::resid_post(self.layer);
        for (part, x) in &self.parts {
            let x = x.clone();
            let x = tap.see(at, &part.batch, x)?;
            let layers = self.layer + 1..self.model.spec().layers;
            let x = self.model.blocks(layers, x, &part.batch, None, &mut ())?;
            part.read(self.model, self.cases, x, tap, see)?;
        }
        Ok(())
    }
}

/// Cases that run together.
struct Part {
    batch: Batch,
    /// Case and token in its row, row after row.
    wanted: Vec<(usize, usize)>,
    /// Where these stand in the batch.
    columns: Vec<usize>,
}

fn parts(model: &dyn ResidualModel, cases: &[Case], rows: Option<usize>) -> Result<Vec<Part>, EvalError> {
    let lengths: Vec<usize> = cases.iter().map(|case| case.ids.len()).collect();
    let (order, ranges) = batches(&lengths, rows);
    let mut parts = Vec::new();
    for range in ranges {
        let chosen: Vec<(usize, &Case)> =
            order[range].iter().filter_map(|&index| Some((index, cases.get(index)?))).collect();
        let rows: Vec<Row<'_>> =
            chosen.iter().map(|(_, case)| Row { ids: &case.ids, prompt: case.prompt }).collect();
        let batch = Batch::new(&rows, &model.spec().device)?;
        let (mut wanted, mut columns) = (Vec::new(), Vec::new());
        for (row, (index, case)) in chosen.iter().enumerate() {
            let start = row * batch.tokens() + batch.padding(row);
            wanted.extend(case.wanted.clone().map(|token| (*index, token)));
            columns.extend(case.wanted.clone().map(|token| start + token));
        }
        parts.push(Part { batch, wanted, columns });
    }
    Ok(parts)
}

impl Part {
    /// Unembeds the wanted tokens of the last block's stream and hands them on.
    fn read(
        &self,
        model: &dyn ResidualModel,
        cases: &[Case],
        x: Tensor<3>,
        tap: &mut dyn Tap,
        see: See<'_>,
    ) -> Result<(), EvalError> {
        let see = &mut |i: usize, logits: &[f32]| {
            let (case, token) = self.wanted[i];
            see(case, token, logits);
        };
        read_logits(model, x, &self.columns, see).map_err(|error| match error {
            ResidualError::NotFinite { row, .. } => {
                let (case, token) = self.wanted[row];
                cases[case].not_finite(model, token, tap)
            }
            other => other.into(),
        })
    }
}

/// `ln sum exp` of finite logits, in f64.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let top = f64::from(top);
    top + logits.iter().map(|&logit| (f64::from(logit) - top).exp()).sum::<f64>().ln()
}

/// Index of the largest of finite logits, the first of equals: greedy decoding's choice.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best.0 as u32
}

/// `KL(p || q) = sum p (ln p - ln q)` of two softmaxes of finite logits, in nats.
pub(crate) fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let (zp, zq) = (log_sum_exp(p), log_sum_exp(q));
    let term = |(&p, &q): (&f32, &f32)| {
        let (ln_p, ln_q) = (f64::from(p) - zp, f64::from(q) - zq);
        ln_p.exp() * (ln_p - ln_q)
    };
    let sum: f64 = p.iter().zip(q).map(term).sum();
    // Rounding can leave a zero a little under zero.
    if sum < 0.0 { 0.0 } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_of_coins() {
        // p = (1/2, 1/2), q = (1/4, 3/4): KL = ln 2 - ln(3)/2.
        let (p, q) = ([5.0f32, 5.0], [0.0f32, 3.0f32.ln()]);
        let wanted = 2f64.ln() - 0.5 * 3f64.ln();
        // ln 3 was rounded to f32.
        assert!((divergence(&p, &q) - wanted).abs() < f64::from(f32::EPSILON));
        assert_eq!(divergence(&q, &q), 0.0);
        // A token that p rules out adds nothing.
        assert_eq!(divergence(&[0.0, -1e5], &[0.0, 0.0]), 2f64.ln());
        // Rounding alone is no divergence, and never a negative one.
        let near = [0.1f32, 0.7, -3.0];
        assert!(divergence(&near, &near.map(|x| x + 1.0)) >= 0.0);
    }

    #[test]
    fn a_divergence_of_what_is_not_finite_is_no_number() {
        assert!(divergence(&[0.0, 1.0], &[f32::NAN, 1.0]).is_nan());
        assert!(divergence(&[f32::NAN, 1.0], &[0.0, 1.0]).is_nan());
    }

    #[test]
    fn large_logits_do_not_overflow() {
        assert!((log_sum_exp(&[1e4, 1e4]) - (1e4 + 2f64.ln())).abs() < 1e-11);
        assert_eq!(argmax(&[1.0, 3.0, 3.0, -7.0]), 1);
    }
}
