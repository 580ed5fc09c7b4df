use crate::error::LinalgError;
use crate::moments::Covariance;
use crate::rows::Rows;
use faer::MatRef;

/// Checked weights of rows: finite, none negative, not all 0. Only their ratios matter, but for [`Weights::total`].
///
/// They are weights of reliability or importance: a row of weight 2 counts twice in every mean and covariance, which is
/// not to say that it was seen twice. Covariances divided by `n` ([`Covariance::Population`]) do not tell the two apart;
/// the unbiased divisor and the estimated shrinkages do, since they know how many rows there are.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    raw: &'a [f64],
    /// Largest of them, at `place`.
    largest: f64,
    place: usize,
    /// Sum of all over the largest: at least 1, at most their number, so that no weight is too large or too small.
    sum: f64,
}

impl<'a> Weights<'a> {
    /// Checks the weights of `rows` rows.
    ///
    /// # Errors
    /// [`LinalgError::WeightCount`], [`LinalgError::Weight`] for the first that is negative or not finite,
    /// [`LinalgError::NoWeight`] where all are 0.
    pub fn new(raw: &'a [f64], rows: usize) -> Result<Self, LinalgError> {
        if raw.len() != rows {
            return Err(LinalgError::WeightCount { rows, weights: raw.len() });
        }
        if let Some(row) = raw.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            return Err(LinalgError::Weight { row, weight: raw[row] });
        }
        let at_most = raw.iter().copied().enumerate().filter(|&(_, w)| w > 0.0);
        let Some((place, largest)) = at_most.reduce(|a, b| if b.1 > a.1 { b } else { a }) else {
            return Err(LinalgError::NoWeight { rows });
        };
        let sum = raw.iter().map(|w| w / largest).sum();
        Ok(Self { raw, largest, place, sum })
    }

    /// The weights as they were given.
    pub fn raw(self) -> &'a [f64] {
        self.raw
    }

    /// Their sum.
    pub fn total(self) -> f64 {
        self.sum * self.largest
    }

    /// Share of row `i`: its weight over the sum of all.
    ///
    /// # Panics
    /// If there is no row `i` (a caller's mistake).
    pub fn share(self, i: usize) -> f64 {
        self.raw[i] / self.largest / self.sum
    }

    /// All shares; they add up to 1.
    pub fn shares(self) -> Vec<f64> {
        (0..self.raw.len()).map(|i| self.share(i)).collect()
    }

    /// Number of rows whose weight is not 0.
    pub fn positive(self) -> usize {
        self.raw.iter().filter(|&&w| w > 0.0).count()
    }

    /// The place of the largest weight (the first, on a tie).
    pub fn heaviest(self) -> usize {
        self.place
    }

    /// The effective number of rows, `1 / sum w_i^2` for shares `w_i`: `n` for equal ones, near 1 where one row has
    /// nearly all weight.
    ///
    /// Reference: L. Kish, "Survey sampling", 1965.
    pub fn effective_count(self) -> f64 {
        1.0 / (0..self.raw.len()).map(|i| self.share(i).powi(2)).sum::<f64>()
    }

    /// What `sum w_i (x_i - m)(x_i - m)^T` (shares `w_i`) is divided by: 1, or `1 - sum w_i^2` for the unbiased
    /// estimate, which is `(n - 1) / n` for equal weights. 1 for one row alone, whose sum is 0.
    pub fn divisor(self, covariance: Covariance) -> f64 {
        // sum_i w_i (1 - w_i); what the heaviest row lacks to 1 is a sum, lest it cancel.
        let others = |i: usize| {
            if i == self.place {
                (0..self.raw.len()).filter(|&j| j != i).map(|j| self.share(j)).sum()
            } else {
                1.0 - self.share(i)
            }
        };
        let unbiased: f64 = (0..self.raw.len()).map(|i| self.share(i) * others(i)).sum();
        match covariance {
            Covariance::Sample if unbiased > 0.0 => unbiased,
            _ => 1.0,
        }
    }
}

/// The mean row with weights, `[d]`: about the heaviest row first and then once more about what was found, so that it is
/// exact to rounding for a mean far from zero, and exactly the row itself when all rows are equal.
pub(crate) fn weighted_mean(rows: MatRef<'_, f64>, weights: Weights<'_>) -> Vec<f64> {
    let shares = weights.shares();
    let start = rows.row(weights.heaviest());
    let mut mean: Vec<f64> = start.iter().copied().collect();
    for _ in 0..2 {
        for (j, m) in mean.iter_mut().enumerate() {
            let about = *m;
            let off: f64 = rows.col(j).iter().zip(&shares).map(|(x, w)| w * (x - about)).sum();
            *m += off;
        }
    }
    mean
}

impl<'a> Rows<'a> {
    /// The same rows with weights.
    ///
    /// # Errors
    /// As [`Weights::new`].
    pub fn with_weights(self, raw: &'a [f64]) -> Result<Self, LinalgError> {
        let weights = Weights::new(raw, self.count())?;
        Ok(Self(self.0, Some(weights)))
    }

    /// The weights, if the rows have any.
    pub fn weights(self) -> Option<Weights<'a>> {
        self.1
    }

    /// Sum of the weights; the number of rows without weights.
    pub fn total_weight(self) -> f64 {
        self.1.map_or(self.count() as f64, Weights::total)
    }

    /// [`Weights::effective_count`]; the number of rows without weights.
    pub fn effective_count(self) -> f64 {
        self.1.map_or(self.count() as f64, Weights::effective_count)
    }

    /// The weights with which the rows' centred squares add up to their covariance: `w_i / (1 - sum w^2)` or `w_i` for
    /// shares `w_i`; `1 / (n - 1)` or `1 / n` without weights. `[n]`.
    pub fn covariance_weights(self, covariance: Covariance) -> Vec<f64> {
        let n = self.count();
        match self.1 {
            None => vec![covariance.divisor(n).recip(); n],
            Some(weights) => {
                let divisor = weights.divisor(covariance);
                (0..n).map(|i| weights.share(i) / divisor).collect()
            }
        }
    }

    /// The covariance divided by `n` over the covariance asked for: `(n - 1) / n` or 1 without weights.
    pub fn spread(self, covariance: Covariance) -> f64 {
        let n = self.count();
        self.1.map_or(covariance.divisor(n) / n as f64, |weights| weights.divisor(covariance))
    }
}
