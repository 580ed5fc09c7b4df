use crate::{LinalgError, squared_norm, squared_norm_of_gram};
use faer::MatRef;

/// How far a covariance is pulled towards a multiple of the identity: `(1 - a) S + a (tr S / d) I`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shrinkage {
    /// The intensity `a` of Ledoit & Wolf, [`ledoit_wolf`]: the one that minimises the expected squared error, with no
    /// assumption of normality.
    Auto,
    /// A given intensity in `0..=1`. `Fixed(0.0)` leaves the empirical covariance as it is.
    Fixed(f64),
}

impl Default for Shrinkage {
    fn default() -> Self {
        Self::Fixed(0.0)
    }
}

impl Shrinkage {
    /// The intensity for centred rows `[n, d]`.
    ///
    /// # Errors
    /// [`LinalgError::Shrinkage`] if a given intensity lies outside `0..=1`.
    pub fn intensity(self, centred: MatRef<'_, f64>) -> Result<f64, LinalgError> {
        match self {
            Self::Auto => Ok(ledoit_wolf(centred)),
            Self::Fixed(found) if (0.0..=1.0).contains(&found) => Ok(found),
            Self::Fixed(found) => Err(LinalgError::Shrinkage { found }),
        }
    }
}

/// The Ledoit-Wolf shrinkage intensity of centred rows `x_i`, `[n, d]`, with `S = sum x_i x_i^T / n`, `m = tr S / d`:
///
/// ```text
/// a = min(b, e) / e,   e = |S - m I|_F^2 / d,   b = sum_i |x_i x_i^T - S|_F^2 / (n^2 d)
/// ```
///
/// It is 0 where `S` is a multiple of the identity already (`e = 0`). Free of scale; costs one Gram matrix of the
/// smaller side.
///
/// Reference: O. Ledoit & M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices",
/// J. Multivariate Anal. 88, 2004, section 3.3 (scikit-learn's `ledoit_wolf` is the same number).
pub fn ledoit_wolf(centred: MatRef<'_, f64>) -> f64 {
    let (n, d) = (centred.nrows() as f64, centred.ncols() as f64);
    if n == 0.0 || d == 0.0 {
        return 0.0;
    }
    let trace = squared_norm(centred) / n;
    let squares = squared_norm_of_gram(centred) / (n * n);
    let fourth: f64 =
        centred.row_iter().map(|row| row.iter().map(|x| x * x).sum::<f64>().powi(2)).sum::<f64>() / n;
    let spread = (squares - trace * trace / d) / d;
    let error = (fourth - squares) / (n * d);
    // A spread that is rounding of the squares is no spread.
    if spread * d <= f64::EPSILON * d * squares || error <= 0.0 { 0.0 } else { error.min(spread) / spread }
}
