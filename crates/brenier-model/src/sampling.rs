//! From logits to the next token.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::error::ModelError;
use crate::generate::GenerateOptions;

/// Picks tokens by the options; checked once, then it cannot fail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampler {
    /// `None` is greedy.
    temperature: Option<f64>,
    top_k: usize,
    top_p: f64,
    seed: u64,
}

impl Sampler {
    pub(crate) fn new(options: &GenerateOptions) -> Result<Self, ModelError> {
        let wrong = |name, expected: &str, found: String| {
            Err(ModelError::Option { name, expected: expected.to_owned(), found })
        };
        match options.temperature {
            Some(t) if !(t.is_finite() && t >= 0.0) => {
                return wrong("temperature", "a number >= 0", t.to_string());
            }
            _ => {}
        }
        if options.top_k == Some(0) {
            return wrong("top_k", "at least 1", "0".to_owned());
        }
        match options.top_p {
            Some(p) if !(p > 0.0 && p <= 1.0) => return wrong("top_p", "0 < top_p <= 1", p.to_string()),
            _ => {}
        }
        Ok(Self {
            temperature: options.temperature.filter(|&t| t > 0.0),
            top_k: options.top_k.unwrap_or(usize::MAX),
            top_p: options.top_p.unwrap_or(1.0),
            seed: options.seed,
        })
    }

    /// Whether the likeliest token is always picked.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature.is_none()
    }

    /// The random numbers of one prompt: its own stream, so that what is drawn does not depend on the batch.
    pub(crate) fn stream(&self, prompt: usize) -> StdRng {
        // Consecutive indices far apart: multiples of the golden ratio, as in SplitMix64.
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        StdRng::seed_from_u64(self.seed.wrapping_add((prompt as u64).wrapping_mul(GOLDEN)))
    }

    /// The next token; `None` where no choice can be made, because a logit is NaN or none is finite.
    pub(crate) fn pick(&self, logits: &[f32], stream: &mut StdRng) -> Option<u32> {
        let best = argmax(logits)?;
        let Some(temperature) = self.temperature else { return u32::try_from(best).ok() };
        let top = f64::from(*logits.get(best)?);
        let weight = |&logit: &f32| ((f64::from(logit) - top) / temperature).exp();
        let mut choices: Vec<(f64, usize)> = logits.iter().map(weight).zip(0..).collect();
        self.cut(&mut choices);
        let total: f64 = choices.iter().map(|choice| choice.0).sum();
        let mut left = stream.random::<f64>() * total;
        let chosen = choices.iter().find(|choice| {
            left -= choice.0;
            left < 0.0
        });
        // Rounding can leave a last crumb unspent: it goes to the best token.
        u32::try_from(chosen.map_or(best, |choice| choice.1)).ok()
    }

    /// Leaves the choices that `top_k` and `top_p` allow, best first. Only those are sorted, not the vocabulary.
    fn cut(&self, choices: &mut Vec<(f64, usize)>) {
        if self.top_k >= choices.len() && self.top_p >= 1.0 {
            return;
        }
        // Best first, ties by the lower id, so that a cut is always the same.
        let by_weight = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if self.top_k < choices.len() {
            choices.select_nth_unstable_by(self.top_k, by_weight);
            choices.truncate(self.top_k);
        }
        let nucleus = self.top_p * choices.iter().map(|choice| choice.0).sum::<f64>();
        // As many of the best as hold the nucleus are looked for among ever more of them.
        let mut sorted = 64;
        loop {
            if sorted < choices.len() {
                choices.select_nth_unstable_by(sorted, by_weight);
            } else {
                sorted = choices.len();
            }
            choices[..sorted].sort_unstable_by(by_weight);
            let mut sum = 0.0;
            let enough = choices[..sorted].iter().position(|choice| {
                sum += choice.0;
                sum >= nucleus
            });
            match enough {
                Some(last) => return choices.truncate(last + 1),
                None if sorted == choices.len() => return,
                None => sorted *= 4,
            }
        }
    }
}

/// The lowest index of the largest number; `None` with a NaN, or without a finite number.
fn argmax(logits: &[f32]) -> Option<usize> {
    if logits.iter().any(|logit| logit.is_nan()) {
        return None;
    }
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if best.is_finite() { logits.iter().position(|&logit| logit == best) } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn sampler(options: GenerateOptions) -> Sampler {
        Sampler::new(&options).unwrap()
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_equals() {
        let greedy = sampler(GenerateOptions::default());
        assert_eq!(greedy.pick(&[0.0, 3.0, 3.0, -1.0], &mut greedy.stream(0)), Some(1));
        assert_eq!(greedy.pick(&[f32::NEG_INFINITY, -4.0], &mut greedy.stream(0)), Some(1));
    }

    #[test]
    fn no_token_follows_from_nan_or_from_nothing() {
        let greedy = sampler(GenerateOptions::default());
        for logits in [vec![0.0, f32::NAN], vec![f32::NEG_INFINITY; 2], vec![1.0, f32::INFINITY], vec![]] {
            assert_eq!(greedy.pick(&logits, &mut greedy.stream(0)), None, "{logits:?}");
        }
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let options = GenerateOptions { temperature: Some(2.0), ..GenerateOptions::default() };
        let (sampler, n) = (sampler(options), 20_000);
        let logits = [1.0f32, 3.0, 0.0];
        let mut stream = sampler.stream(3);
        let mut counts = [0usize; 3];
        for _ in 0..n {
            counts[sampler.pick(&logits, &mut stream).unwrap() as usize] += 1;
        }
        let weights = logits.map(|logit| (f64::from(logit) / 2.0).exp());
        for (count, weight) in counts.iter().zip(weights) {
            let p = weight / weights.iter().sum::<f64>();
            // Five standard deviations of a binomial share.
            let tolerance = 5.0 * (p * (1.0 - p) / n as f64).sqrt();
            assert!((*count as f64 / n as f64 - p).abs() < tolerance, "{count} of {n} for p = {p}");
        }
    }

    #[test]
    fn wrong_options_are_refused() {
        let base = GenerateOptions::default();
        for options in [
            GenerateOptions { temperature: Some(-1.0), ..base.clone() },
            GenerateOptions { temperature: Some(f64::NAN), ..base.clone() },
            GenerateOptions { top_k: Some(0), ..base.clone() },
            GenerateOptions { top_p: Some(0.0), ..base.clone() },
            GenerateOptions { top_p: Some(1.5), ..base.clone() },
        ] {
            assert!(matches!(Sampler::new(&options), Err(ModelError::Option { .. })), "{options:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn cuts_keep_the_best(
            logits in prop::collection::vec(-5.0f32..5.0, 1..30), k in 1usize..6, p in 0.05f64..1.0, seed: u64,
        ) {
            let options = GenerateOptions {
                temperature: Some(1.0), top_k: Some(k), top_p: Some(p), seed, ..GenerateOptions::default()
            };
            let sampler = sampler(options);
            let id = sampler.pick(&logits, &mut sampler.stream(0)).unwrap() as usize;
            let better: Vec<f64> =
                logits.iter().filter(|&&logit| logit > logits[id]).map(|&logit| f64::from(logit).exp()).collect();
            prop_assert!(better.len() < k);
            // What is better than any token of the nucleus does not fill it alone.
            let mut best = logits.clone();
            best.sort_by(|a, b| b.total_cmp(a));
            let kept: f64 = best.iter().take(k).map(|&logit| f64::from(logit).exp()).sum();
            prop_assert!(better.iter().sum::<f64>() < p * kept);
        }

        #[test]
        fn a_nucleus_of_nearly_nothing_is_greedy(logits in prop::collection::vec(-5.0f32..5.0, 1..30), seed: u64) {
            let narrow = GenerateOptions {
                temperature: Some(1.0), top_p: Some(1e-9), seed, ..GenerateOptions::default()
            };
            let (narrow, greedy) = (sampler(narrow), sampler(GenerateOptions::default()));
            prop_assert_eq!(
                narrow.pick(&logits, &mut narrow.stream(1)), greedy.pick(&logits, &mut greedy.stream(1)));
        }
    }
}
