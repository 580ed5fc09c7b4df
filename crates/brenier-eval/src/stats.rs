//! Rates with intervals, and paired comparisons.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::EvalError;

/// The 97.5% point of the standard normal.
const Z: f64 = 1.959_963_984_540_054;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// A share of yes-or-no outcomes, with its 95% Wilson interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// `count / n`.
    pub value: f64,
    /// How many were looked at.
    pub n: usize,
    /// How many of them said yes.
    pub count: usize,
    /// 95% interval (Wilson), low and high.
    pub ci95: [f64; 2],
}

/// A mean over prompts, with a 95% percentile-bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// How many were averaged.
    pub n: usize,
    /// 95% interval (percentile bootstrap over the rows), low and high.
    pub ci95: [f64; 2],
}

/// Two yes-or-no outcomes on the same prompts, compared pair by pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Prompts.
    pub n: usize,
    /// Yes with this method, no without.
    pub gained: usize,
    /// No with this method, yes without.
    pub lost: usize,
    /// `(gained - lost) / n`.
    pub difference: f64,
    /// 95% interval of the difference (paired percentile bootstrap), low and high.
    pub ci95: [f64; 2],
    /// Two-sided exact McNemar p-value.
    pub p: f64,
}

impl Rate {
    /// `count` of `n` with its Wilson interval; `None` of none.
    ///
    /// With `p = count / n` and `z` the 97.5% point of the normal, the interval is
    /// `(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`.
    ///
    /// Reference: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    ///
    /// ```
    /// let rate = brenier_eval::Rate::new(98, 100).unwrap();
    /// assert!((rate.ci95[0] - 0.9300).abs() < 1e-4 && (rate.ci95[1] - 0.9945).abs() < 1e-4);
    /// ```
    #[must_use]
    pub fn new(count: usize, n: usize) -> Option<Self> {
        if n == 0 || count > n {
            return None;
        }
        let size = n as f64;
        let p = count as f64 / size;
        let centre = p + Z * Z / (2.0 * size);
        let half = Z * (p * (1.0 - p) / size + Z * Z / (4.0 * size * size)).sqrt();
        let scale = 1.0 + Z * Z / size;
        // At the ends the formula gives p itself, up to rounding.
        let low = if count == 0 { 0.0 } else { (centre - half) / scale };
        let high = if count == n { 1.0 } else { (centre + half) / scale };
        Some(Self { value: p, n, count, ci95: [low, high] })
    }

    /// The share of `true`.
    #[must_use]
    pub fn of(outcomes: &[bool]) -> Option<Self> {
        Self::new(outcomes.iter().filter(|&&yes| yes).count(), outcomes.len())
    }

    /// The share of `true` among what is known.
    #[must_use]
    pub fn of_known(outcomes: &[Option<bool>]) -> Option<Self> {
        Self::of(&outcomes.iter().filter_map(|&yes| yes).collect::<Vec<_>>())
    }
}

impl Mean {
    /// The mean with a percentile bootstrap over the values; `None` of none.
    ///
    /// # Errors
    /// [`EvalError::NotFinite`] where the mean is no finite number: a value is none, or the sum is too large.
    pub fn of(values: &[f64], seed: u64) -> Result<Option<Self>, EvalError> {
        let n = values.len();
        if n == 0 {
            return Ok(None);
        }
        let value = values.iter().sum::<f64>() / n as f64;
        let ci95 = bootstrap(n, seed, |row| values.get(row).copied().unwrap_or_default());
        match [value, ci95[0], ci95[1]].into_iter().find(|number| !number.is_finite()) {
            Some(found) => Err(EvalError::NotFinite { what: format!("mean of {n} values"), found }),
            None => Ok(Some(Self { value, n, ci95 })),
        }
    }
}

impl Paired {
    /// Compares the same prompts `with` and `without`; `None` of none.
    ///
    /// The p-value is McNemar's exact two-sided one: with `b` gained and `c` lost,
    /// `min(1, 2 sum_{i <= min(b, c)} C(b + c, i) / 2^(b + c))`.
    ///
    /// Reference: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
    #[must_use]
    pub fn of(with: &[bool], without: &[bool], seed: u64) -> Option<Self> {
        let n = with.len().min(without.len());
        if n == 0 {
            return None;
        }
        let difference: Vec<i8> =
            with.iter().zip(without).map(|(&a, &b)| i8::from(a) - i8::from(b)).collect();
        let gained = difference.iter().filter(|&&step| step > 0).count();
        let lost = difference.iter().filter(|&&step| step < 0).count();
        Some(Self {
            n,
            gained,
            lost,
            difference: (gained as f64 - lost as f64) / n as f64,
            ci95: bootstrap(n, seed, |row| difference.get(row).map_or(0.0, |&step| f64::from(step))),
            p: mcnemar(gained, lost),
        })
    }

    /// As [`of`](Self::of) over the prompts where both are known.
    #[must_use]
    pub fn of_known(with: &[Option<bool>], without: &[Option<bool>], seed: u64) -> Option<Self> {
        let (a, b): (Vec<bool>, Vec<bool>) = with.iter().zip(without).filter_map(|(&a, &b)| a.zip(b)).unzip();
        Self::of(&a, &b, seed)
    }
}

/// Exact two-sided p-value of `b` against `c` under a fair coin.
fn mcnemar(b: usize, c: usize) -> f64 {
    let n = b + c;
    // ln of C(n, i) / 2^n, from term to term; sums of exponentials neither overflow nor vanish early.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for i in 0..=b.min(c) {
        tail += term.exp();
        term += ((n - i) as f64).ln() - ((i + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// 2.5% and 97.5% points of the mean under resampling.
fn bootstrap(n: usize, seed: u64, value: impl Fn(usize) -> f64) -> [f64; 2] {
    let mut random = StdRng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| (0..n).map(|_| value(random.random_range(0..n))).sum::<f64>() / n as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    let point = |share: f64| means[(share * (RESAMPLES - 1) as f64).round() as usize];
    [point(0.025), point(0.975)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mcnemar_by_hand() {
        assert_eq!(mcnemar(0, 0), 1.0);
        assert!((mcnemar(0, 5) - 2.0 / 32.0).abs() < 1e-15);
        // 2 (1 + 10 + 45) / 1024
        assert!((mcnemar(8, 2) - 112.0 / 1024.0).abs() < 1e-14);
        assert_eq!(mcnemar(8, 2), mcnemar(2, 8));
        assert_eq!(mcnemar(3, 3), 1.0);
        assert!(mcnemar(2000, 0) == 0.0 && mcnemar(3000, 3000) == 1.0);
    }

    #[test]
    fn pairs_count_what_changed() {
        let with = [true, true, false, true];
        let without = [false, true, true, false];
        let paired = Paired::of(&with, &without, 1).unwrap();
        assert_eq!((paired.gained, paired.lost, paired.difference), (2, 1, 0.25));
        assert_eq!(paired, Paired::of(&with, &without, 1).unwrap());
        let known =
            Paired::of_known(&[Some(true), None, Some(false)], &[Some(false), Some(true), None], 1).unwrap();
        assert_eq!((known.n, known.gained, known.lost), (1, 1, 0));
        assert!(Paired::of(&[], &[], 1).is_none());
    }

    #[test]
    fn equal_values_have_no_spread() {
        let mean = Mean::of(&[0.5; 9], 3).unwrap().unwrap();
        assert_eq!((mean.value, mean.ci95), (0.5, [0.5, 0.5]));
        assert!(Mean::of(&[], 3).unwrap().is_none() && Rate::of(&[]).is_none());
    }

    #[test]
    fn a_mean_is_finite_or_an_error() {
        // Zeros hide one value from most resamples.
        let with = |value: f64| [[0.0; 99].as_slice(), &[value]].concat();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = Mean::of(&with(value), 3).unwrap_err();
            assert!(matches!(error, EvalError::NotFinite { found, .. } if !found.is_finite()), "{error}");
        }
        // Finite values whose sum is not, in the mean or in a resample alone.
        assert!(Mean::of(&[1.7e308; 4], 3).is_err());
        assert!(Mean::of(&[1.7e308, -1.7e308, 1.7e308, -1.7e308], 3).is_err());
        assert!(Mean::of(&with(1e300), 3).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Wilson's interval solves `|p - q| = z sqrt(q(1-q)/n)` at both ends, contains p and stays in [0, 1].
        #[test]
        fn wilson_solves_its_equation(n in 1usize..2000, share in 0.0f64..=1.0) {
            let count = (share * n as f64).round() as usize;
            let rate = Rate::new(count, n).unwrap();
            let [low, high] = rate.ci95;
            prop_assert!((0.0..=rate.value).contains(&low) && (rate.value..=1.0).contains(&high));
            for q in [low, high] {
                if q > 0.0 && q < 1.0 {
                    let bound = Z * (q * (1.0 - q) / n as f64).sqrt();
                    prop_assert!(((rate.value - q).abs() - bound).abs() < 1e-12);
                }
            }
        }

        #[test]
        fn a_bootstrap_interval_holds_the_mean(values in prop::collection::vec(-5.0f64..5.0, 1..40), seed: u64) {
            let mean = Mean::of(&values, seed).unwrap().unwrap();
            // The resampled means are centred on the mean: at the 95% points only for tiny n can it lie outside.
            prop_assert!(mean.ci95[0] <= mean.value + 1e-12 && mean.value <= mean.ci95[1] + 1e-12);
        }
    }
}
