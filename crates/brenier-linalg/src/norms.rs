use crate::decompose::singular_values;
use crate::error::LinalgError;
use crate::moments::reduce;
use crate::product::{gram, product_with_transpose};
use faer::{ColRef, MatRef};

/// Independent partial sums of a column: as many as are added in the time that one addition takes.
const LANES: usize = 8;

/// `|F|_F^2`, the trace of `F^T F`.
pub fn squared_norm(factor: MatRef<'_, f64>) -> f64 {
    let of_column = |column: ColRef<'_, f64>| match column.try_as_col_major() {
        Some(column) => dot(column.as_slice(), column.as_slice()),
        None => column.iter().map(|x| x * x).sum(),
    };
    factor.col_iter().map(of_column).sum()
}

/// `a . b`; what is longer than the other counts as far as that.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let length = a.len().min(b.len());
    let ((a, rest_a), (b, rest_b)) = (a[..length].as_chunks::<LANES>(), b[..length].as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f64>()
}

/// `|F^T F|_F^2`, through whichever of `F^T F` and `F F^T` is smaller.
pub fn squared_norm_of_gram(factor: MatRef<'_, f64>) -> f64 {
    let small = if factor.nrows() <= factor.ncols() { gram(factor) } else { gram(factor.transpose()) };
    squared_norm(small.as_ref())
}

/// Effective rank of a covariance `S = F^T F` as its participation ratio, `tr(S)^2 / tr(S^2)`: `k` for `k` equal
/// eigenvalues, near 1 when one direction dominates, 0 for `S = 0`. Needs no eigenvalue.
///
/// # Shapes
/// `factor`: `[m, d]`.
pub fn effective_rank(factor: MatRef<'_, f64>) -> f64 {
    let trace = squared_norm(factor);
    let squares = squared_norm_of_gram(factor);
    if squares > 0.0 { trace * trace / squares } else { 0.0 }
}

/// The nuclear norm `|F_a F_b^T|_*`, sum of the singular values: `tr (S_a^{1/2} S_b S_a^{1/2})^{1/2}` for
/// `S = F^T F`, exact for singular covariances too.
///
/// # Shapes
/// `a`: `[m, d]`, `b`: `[n, d]`; tall factors are reduced to `d` rows first.
///
/// # Errors
/// [`LinalgError::Widths`], [`LinalgError::NoConvergence`].
pub fn nuclear_norm_of_product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Result<f64, LinalgError> {
    if a.ncols() != b.ncols() {
        return Err(LinalgError::Widths { left: a.ncols(), right: b.ncols() });
    }
    let short = |x: MatRef<'_, f64>| (x.nrows() > x.ncols()).then(|| reduce(x.to_owned()));
    let (short_a, short_b) = (short(a), short(b));
    let a = short_a.as_ref().map_or(a, |x| x.as_ref());
    let b = short_b.as_ref().map_or(b, |x| x.as_ref());
    Ok(singular_values(product_with_transpose(a, b).as_ref())?.iter().sum())
}
