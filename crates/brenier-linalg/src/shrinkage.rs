use crate::error::LinalgError;
use crate::norms::{squared_norm, squared_norm_of_gram};
use crate::product::{gram, product};
use crate::weights::Weights;
use faer::{Mat, MatRef};

/// Rows that are looked at in one go, where there are more of them than columns.
const STRIP: usize = 256;

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
    /// The intensity for centred rows `[n, r]` and their weights, if they have any: then `S = sum w_i x_i x_i^T` for shares
    /// `w_i`, Ledoit and Wolf's has `b = sum_i w_i^2 |x_i x_i^T - S|_F^2 / d`, and OAS the effective number of rows,
    /// [`Weights::effective_count`], for `n`. `dim`: the number of dimensions, d, of which the columns may be coordinates.
    ///
    /// # Errors
    /// [`LinalgError::Shrinkage`] if a given intensity lies outside `0..=1`.
    pub fn intensity(
        self,
        centred: MatRef<'_, f64>,
        weights: Option<Weights<'_>>,
        dim: usize,
    ) -> Result<f64, LinalgError> {
        let n = centred.nrows();
        let shares = weights.map_or_else(|| vec![1.0 / n as f64; n], Weights::shares);
        match self {
            Self::Auto => Ok(ledoit_wolf_of_factor(weighed(centred, &shares).as_ref(), &shares, dim)),
            Self::Oas => {
                let rows = weights.map_or(n as f64, Weights::effective_count);
                Ok(oas_of_factor(weighed(centred, &shares).as_ref(), rows, dim))
            }
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
    let n = centred.nrows();
    let shares = vec![1.0 / n as f64; n];
    ledoit_wolf_of_factor(weighed(centred, &shares).as_ref(), &shares, centred.ncols())
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
    oas_of_factor(centred, centred.nrows() as f64, centred.ncols())
}

/// [`oas`] from a factor `F` of a covariance, `F^T F` being some multiple of `S`, the number of rows (an effective one,
/// perhaps) that this was made from, and the number of dimensions of which the columns may be coordinates. `[m, r]`.
pub fn oas_of_factor(factor: MatRef<'_, f64>, rows: f64, dim: usize) -> f64 {
    if rows == 0.0 || dim <= 1 {
        return 0.0;
    }
    let (trace, squares, d) = (squared_norm(factor), squared_norm_of_gram(factor), dim as f64);
    let spread = squares - trace * trace / d;
    // A spread that is rounding of the squares is no spread.
    if spread <= f64::EPSILON * d * squares {
        return 1.0;
    }
    ((squares + trace * trace) / ((rows + 1.0) * spread)).min(1.0)
}

/// The rows times the roots of their shares: a factor of `S`.
fn weighed(centred: MatRef<'_, f64>, shares: &[f64]) -> Mat<f64> {
    Mat::from_fn(centred.nrows(), centred.ncols(), |i, j| shares[i].sqrt() * centred[(i, j)])
}

/// [`ledoit_wolf`] from the factor of `S` that has `sqrt(w_i) x_i` for rows, `[n, r]`, with the shares `w_i` of the rows in
/// their weight, and the number of dimensions of which the columns may be coordinates: with
/// `|x_i x_i^T - S|^2 = |x_i|^4 - 2 x_i^T S x_i + |S|^2`.
pub fn ledoit_wolf_of_factor(factor: MatRef<'_, f64>, shares: &[f64], dim: usize) -> f64 {
    let (n, r) = factor.shape();
    if n == 0 || dim == 0 {
        return 0.0;
    }
    let (trace, d) = (squared_norm(factor), dim as f64);
    let wide = n <= r;
    let small = if wide { gram(factor) } else { gram(factor.transpose()) };
    let squares = squared_norm(small.as_ref());
    let spread = (squares - trace * trace / d) / d;
    // w_i x_i^T S x_i.
    let along: Vec<f64> = if wide {
        (0..n).map(|i| small.col_as_slice(i).iter().map(|x| x * x).sum()).collect()
    } else {
        let strips = (0..n).step_by(STRIP).map(|start| factor.subrows(start, STRIP.min(n - start)));
        strips
            .flat_map(|rows| {
                let through = product(rows, small.as_ref());
                let along = through.row_iter().zip(rows.row_iter());
                along.map(|(a, b)| a.iter().zip(b.iter()).map(|(a, b)| a * b).sum()).collect::<Vec<f64>>()
            })
            .collect()
    };
    let of_row = |(i, along): (usize, &f64)| {
        let (w, square) = (shares[i], factor.row(i).iter().map(|x| x * x).sum::<f64>());
        square * square - 2.0 * w * along + w * w * squares
    };
    let error = along.iter().enumerate().map(of_row).sum::<f64>() / d;
    // A spread that is rounding of the squares is no spread.
    if spread <= f64::EPSILON * squares || error <= 0.0 { 0.0 } else { error.min(spread) / spread }
}
