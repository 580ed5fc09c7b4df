use crate::{LinalgError, gram, product_with_transpose, reduce, singular_values, symmetric_eigenvalues};
use faer::{ColRef, MatRef};
use pulp::Arch;

/// How far singular values may lie under the largest, on average (of the ratios), for eigenvalues to serve.
const LARGEST_SPREAD: f64 = 16.0;

/// Independent partial sums of a column: as many as are added in the time that one addition takes.
pub(crate) const LANES: usize = 16;

/// `|F|_F^2`, the trace of `F^T F`.
pub fn squared_norm(factor: MatRef<'_, f64>) -> f64 {
    let of_column = |column: ColRef<'_, f64>| match column.try_as_col_major() {
        Some(column) => dot(column.as_slice(), column.as_slice()),
        None => column.iter().map(|x| x * x).sum(),
    };
    factor.col_iter().map(of_column).sum()
}

/// `a . b`; what is longer than the other counts as far as that.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    Arch::new().dispatch(
        #[inline(always)]
        || dot_in_lanes(a, b),
    )
}

#[inline(always)]
fn dot_in_lanes(a: &[f64], b: &[f64]) -> f64 {
    let length = a.len().min(b.len());
    let ((a, rest_a), (b, rest_b)) = (a[..length].as_chunks::<LANES>(), b[..length].as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    total(sums) + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f64>()
}

/// The sum of all values.
pub fn sum(values: &[f64]) -> f64 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for block in blocks {
        sums.iter_mut().zip(block).for_each(|(sum, x)| *sum += x);
    }
    total(sums) + rest.iter().sum::<f64>()
}

/// The sum of all, halves on halves.
#[inline(always)]
pub(crate) fn total(mut sums: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
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
    nuclear_norm(product_with_transpose(a, b).as_ref())
}

/// The nuclear norm `|M|_*`, sum of the singular values `s_i` of `[m, n]`.
///
/// From the eigenvalues of the smaller Gram matrix where these know it as well: an eigenvalue is off by about
/// `eps s_1^2`, its root by `eps s_1^2 / (2 s_i)`, so that it takes no small `s_i` to do so. Else from a singular value
/// decomposition.
///
/// # Errors
/// [`LinalgError::NoConvergence`].
pub fn nuclear_norm(matrix: MatRef<'_, f64>) -> Result<f64, LinalgError> {
    let small = if matrix.nrows() <= matrix.ncols() { gram(matrix) } else { gram(matrix.transpose()) };
    let squares = symmetric_eigenvalues(small.as_ref())?;
    let largest = squares.first().copied().unwrap_or(0.0).max(0.0).sqrt();
    let spread: f64 = squares.iter().map(|square| largest / square.max(0.0).sqrt()).sum();
    if spread <= LARGEST_SPREAD * squares.len() as f64 {
        return Ok(squares.iter().map(|square| square.sqrt()).sum());
    }
    Ok(singular_values(matrix)?.iter().sum())
}
