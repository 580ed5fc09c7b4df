use crate::{LinalgError, Weights, gram, product, squared_norm, squared_norm_of_gram};
use faer::{Mat, MatRef};

/// How far a covariance is pulled towards a multiple of the identity: `(1 - a) S + a (tr S / d) I`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shrinkage {
    /// The intensity `a` of Ledoit & Wolf, [`ledoit_wolf`]: the one that minimises the expected squared error, with no
    /// assumption of normality.
    Auto,
    /// The intensity `a` of Chen, Wiesel, Eldar & Hero, [`oas`]: for rows that are about Gaussian; smaller in error than
    /// [`Shrinkage::Auto`] there when rows are few.
    Oas,
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
        self.weighted_intensity(centred, None)
    }

    /// The intensity for centred rows `[n, d]` with weights: the same estimates with `S = sum w_i x_i x_i^T` for shares
    /// `w_i`. Ledoit and Wolf's has `b = sum_i w_i^2 |x_i x_i^T - S|_F^2 / d`, and OAS the effective number of rows,
    /// [`Weights::effective_count`], for `n`.
    ///
    /// # Errors
    /// As [`Shrinkage::intensity`].
    pub fn weighted_intensity(
        self,
        centred: MatRef<'_, f64>,
        weights: Option<Weights<'_>>,
    ) -> Result<f64, LinalgError> {
        match self {
            Self::Auto => {
                Ok(weights.map_or_else(|| ledoit_wolf(centred), |w| weighted_ledoit_wolf(centred, w)))
            }
            Self::Oas => Ok(weights.map_or_else(
                || oas(centred),
                |w| oas_of_factor(weighed(centred, w).as_ref(), w.effective_count()),
            )),
            Self::Fixed(found) => given(found),
        }
    }

    /// The intensity for centred rows of `width` columns, from their Gram matrix `X X^T`, `[n, n]`, which holds all that
    /// the estimates need.
    ///
    /// # Errors
    /// As [`Shrinkage::intensity`].
    pub fn intensity_of_gram(self, gram: MatRef<'_, f64>, width: usize) -> Result<f64, LinalgError> {
        let (n, d) = (gram.nrows() as f64, width as f64);
        let trace: f64 = (0..gram.nrows()).map(|i| gram[(i, i)]).sum();
        let squares = squared_norm(gram);
        match self {
            Self::Auto => {
                let fourth = (0..gram.nrows()).map(|i| gram[(i, i)].powi(2)).sum::<f64>();
                Ok(ledoit_wolf_of_sums(n, d, trace, squares, fourth))
            }
            Self::Oas => Ok(oas_of_sums(n, d, trace, squares)),
            Self::Fixed(found) => given(found),
        }
    }
}

fn given(intensity: f64) -> Result<f64, LinalgError> {
    if (0.0..=1.0).contains(&intensity) {
        Ok(intensity)
    } else {
        Err(LinalgError::Shrinkage { found: intensity })
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
    let fourth = centred.row_iter().map(|row| row.iter().map(|x| x * x).sum::<f64>().powi(2)).sum();
    ledoit_wolf_of_sums(n, d, squared_norm(centred), squared_norm_of_gram(centred), fourth)
}

/// From `sum |x_i|^2`, `|X X^T|_F^2` and `sum |x_i|^4`.
fn ledoit_wolf_of_sums(n: f64, d: f64, trace: f64, squares: f64, fourth: f64) -> f64 {
    if n == 0.0 || d == 0.0 {
        return 0.0;
    }
    let (trace, squares, fourth) = (trace / n, squares / (n * n), fourth / n);
    let spread = (squares - trace * trace / d) / d;
    let error = (fourth - squares) / (n * d);
    // A spread that is rounding of the squares is no spread.
    if spread * d <= f64::EPSILON * d * squares || error <= 0.0 { 0.0 } else { error.min(spread) / spread }
}

/// The shrinkage intensity of the oracle approximating shrinkage estimator (OAS) of centred rows, `[n, d]`, with
/// `S = sum x_i x_i^T / n`:
///
/// ```text
/// a = min( 1, (|S|_F^2 + (tr S)^2) / ((n + 1) (|S|_F^2 - (tr S)^2 / d)) )
/// ```
///
/// the limit of an iteration that estimates the best intensity for Gaussian rows and what it needs to know in turn. This
/// is scikit-learn's `oas`. The paper's formula (23) has two terms more, which vanish for large `d`:
///
/// ```text
/// ((1 - 2/d) |S|_F^2 + (tr S)^2) / ((n + 1 - 2/d) (|S|_F^2 - (tr S)^2 / d))
/// ```
///
/// It is 1 where `S` is a multiple of the identity already, and 0 for `d = 1`, where nothing depends on it. Free of scale;
/// costs one Gram matrix of the smaller side.
///
/// Reference: Y. Chen, A. Wiesel, Y. C. Eldar & A. O. Hero, "Shrinkage algorithms for MMSE covariance estimation", IEEE
/// Trans. Signal Process. 58, 2010, section III.
pub fn oas(centred: MatRef<'_, f64>) -> f64 {
    oas_of_factor(centred, centred.nrows() as f64)
}

/// [`oas`] from a factor `F` of a covariance, `F^T F` being some multiple of `S`, and the number of rows (an effective one,
/// perhaps) that this was made from. `[m, d]`.
pub fn oas_of_factor(factor: MatRef<'_, f64>, rows: f64) -> f64 {
    oas_of_sums(rows, factor.ncols() as f64, squared_norm(factor), squared_norm_of_gram(factor))
}

/// From `tr S` and `|S|_F^2`, up to a common factor of `S`.
fn oas_of_sums(rows: f64, d: f64, trace: f64, squares: f64) -> f64 {
    if rows == 0.0 || d <= 1.0 {
        return 0.0;
    }
    let spread = squares - trace * trace / d;
    // A spread that is rounding of the squares is no spread.
    if spread <= f64::EPSILON * d * squares {
        return 1.0;
    }
    ((squares + trace * trace) / ((rows + 1.0) * spread)).min(1.0)
}

/// The rows times the roots of their shares: a factor of `S`.
fn weighed(centred: MatRef<'_, f64>, weights: Weights<'_>) -> Mat<f64> {
    let roots: Vec<f64> = weights.shares().iter().map(|w| w.sqrt()).collect();
    Mat::from_fn(centred.nrows(), centred.ncols(), |i, j| roots[i] * centred[(i, j)])
}

/// With `|x_i x_i^T - S|^2 = |x_i|^4 - 2 x_i^T S x_i + |S|^2`.
fn weighted_ledoit_wolf(centred: MatRef<'_, f64>, weights: Weights<'_>) -> f64 {
    let (n, d) = centred.shape();
    let factor = weighed(centred, weights);
    let trace = squared_norm(factor.as_ref());
    // F S F^T, of which the diagonal is wanted: w_i x_i^T S x_i.
    let small = if n <= d { gram(factor.as_ref()) } else { gram(factor.as_ref().transpose()) };
    let squares = squared_norm(small.as_ref());
    let through = if n <= d { small.clone() } else { product(factor.as_ref(), small.as_ref()) };
    let spread = (squares - trace * trace / d as f64) / d as f64;
    let error: f64 = (0..n)
        .map(|i| {
            let w = weights.share(i);
            let square: f64 = factor.row(i).iter().map(|x| x * x).sum();
            let along: f64 = if n <= d {
                through.row(i).iter().map(|x| x * x).sum()
            } else {
                through.row(i).iter().zip(factor.row(i).iter()).map(|(a, b)| a * b).sum()
            };
            square * square - 2.0 * w * along + w * w * squares
        })
        .sum::<f64>()
        / d as f64;
    // A spread that is rounding of the squares is no spread.
    if spread <= f64::EPSILON * squares || error <= 0.0 { 0.0 } else { error.min(spread) / spread }
}
