//! The refusal score: how likely the next token begins a refusal.

use std::collections::BTreeMap;

use crate::forward::log_sum_exp;

/// Keeps the log-odds of a probability of 0 or 1 finite.
const SMALL: f64 = 1e-8;

/// Share of the refusals that a token must begin to count as one of theirs.
const LEAST_SHARE: f64 = 0.02;

/// Tokens that begin refusals: those that begin at least 2% of the untouched model's refusals of training source
/// prompts, and a larger share of them than of its other completions of training prompts. Sorted.
pub(crate) fn refusal_tokens(refusals: &[u32], others: &[u32]) -> Vec<u32> {
    let shares = |tokens: &[u32]| {
        let mut shares: BTreeMap<u32, f64> = BTreeMap::new();
        for &token in tokens {
            *shares.entry(token).or_default() += 1.0 / tokens.len() as f64;
        }
        shares
    };
    let elsewhere = shares(others);
    let kept = |&(token, share): &(u32, f64)| {
        share >= LEAST_SHARE && share > elsewhere.get(&token).copied().unwrap_or(0.0)
    };
    shares(refusals).into_iter().filter(kept).map(|(token, _)| token).collect()
}

/// `ln(p_R + 1e-8) - ln(1 - p_R + 1e-8)`, `p_R` the probability of the refusal tokens, in f64 from finite logits.
///
/// Reference: Arditi et al., "Refusal in language models is mediated by a single direction", 2024.
pub(crate) fn refusal_score(logits: &[f32], tokens: &[u32]) -> f64 {
    let z = log_sum_exp(logits);
    let of = |&token: &u32| logits.get(token as usize).map_or(0.0, |&logit| (f64::from(logit) - z).exp());
    let p = tokens.iter().map(of).sum::<f64>().min(1.0);
    (p + SMALL).ln() - (1.0 - p + SMALL).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_of_even_odds_is_zero_and_ends_are_finite() {
        // ln and exp round a few times.
        let tolerance = 8.0 * f64::EPSILON;
        assert!(refusal_score(&[1.0, 1.0, 1.0, 1.0], &[0, 3]).abs() < tolerance);
        let end = (1.0 + SMALL).ln() - SMALL.ln();
        assert!((refusal_score(&[1000.0, 0.0], &[0]) - end).abs() < tolerance * end);
        assert!((refusal_score(&[1000.0, 0.0], &[1]) + end).abs() < tolerance * end);
    }

    #[test]
    fn tokens_that_begin_answers_too_are_no_refusal_tokens() {
        assert_eq!(refusal_tokens(&[9, 9, 4, 7], &[4, 4, 1]), [7, 9]);
        assert!(refusal_tokens(&[], &[1]).is_empty());
    }
}
