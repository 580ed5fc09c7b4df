use crate::basis::orthonormalize;
use crate::decompose::{fix_signs, relative_floor, symmetric_eigen};
use crate::error::LinalgError;
use crate::moments::center;
use crate::product::{gram, transpose_product};
use crate::rows::Rows;
use faer::Mat;

/// The leading principal axes of a set of rows.
#[derive(Debug, Clone)]
pub struct Pca {
    /// Principal axes as orthonormal columns, by descending eigenvalue; in each, the entry of largest magnitude is
    /// positive. `[d, K]`.
    pub basis: Mat<f64>,
    /// The K leading eigenvalues of the weighted scatter `sum_i w_i (x_i - c)(x_i - c)^T`, descending. `[K]`.
    pub eigenvalues: Vec<f64>,
    /// Trace of that scatter: the sum of all its eigenvalues.
    pub total: f64,
    /// Its numerical rank: eigenvalues above `max(n, d) * eps * largest`.
    pub rank: usize,
}

/// The top `components` principal axes of `rows` about `center`.
///
/// `weights` (`[n]`, non-negative) weigh the rows; without them every row weighs its share of the weights that the rows
/// carry, or `1 / n`. For `n < d` the axes come
/// from the `n x n` Gram matrix (`P = Z^T U / sqrt(w)`, orthonormalised once more), else from the `d x d` scatter.
///
/// # Errors
/// [`LinalgError::ComponentsExceedRank`] if there are fewer independent directions than asked for;
/// [`LinalgError::Shape`] if `center` or `weights` have the wrong length; [`LinalgError::NoConvergence`].
///
/// Reference: M. E. Tipping & C. M. Bishop, "Probabilistic principal component analysis", JRSS B 61, 1999 (the axes);
/// L. Sirovich, "Turbulence and the dynamics of coherent structures", Q. Appl. Math. 45, 1987 (by the Gram matrix).
pub fn pca(
    rows: Rows<'_>,
    about: &[f64],
    weights: Option<&[f64]>,
    components: usize,
) -> Result<Pca, LinalgError> {
    let (n, d) = (rows.count(), rows.width());
    if about.len() != d {
        return Err(LinalgError::Shape { expected: (1, d), found: (1, about.len()) });
    }
    if let Some(weights) = weights.filter(|weights| weights.len() != n) {
        return Err(LinalgError::Shape { expected: (n, 1), found: (weights.len(), 1) });
    }
    let own = rows.weights().map(|own| own.shares());
    let weights = weights.or(own.as_deref());
    let mut centred = center(rows, about);
    for column in centred.as_mut().col_iter_mut() {
        for (i, x) in column.iter_mut().enumerate() {
            *x *= weights.map_or(1.0 / n as f64, |weights| weights[i]).sqrt();
        }
    }
    pca_of_factor(centred, components)
}

/// The top `components` principal axes from a factor `F`, `[n, d]`, of the scatter `F^T F`: centred rows, each times the root of its weight.
///
/// # Errors
/// [`LinalgError::ComponentsExceedRank`], [`LinalgError::NoConvergence`].
pub fn pca_of_factor(factor: Mat<f64>, components: usize) -> Result<Pca, LinalgError> {
    let (n, d) = factor.shape();
    let wide = n < d;
    let small = if wide { gram(factor.as_ref()) } else { gram(factor.as_ref().transpose()) };
    // As large as the rows, and of no more use where they are tall.
    let factor = wide.then_some(factor);
    let eigen = symmetric_eigen(small.as_ref())?;
    let floor = relative_floor(n.max(d)) * eigen.values.first().copied().unwrap_or(0.0);
    let rank = eigen.values.iter().take_while(|&&value| value > floor).count();
    if components > rank {
        return Err(LinalgError::ComponentsExceedRank { components, rank, rows: n, width: d });
    }
    let vectors = eigen.vectors.as_ref().subcols(0, components);
    let mut basis = match factor {
        Some(factor) => {
            let scaled = Mat::from_fn(n, components, |i, j| vectors[(i, j)] / eigen.values[j].sqrt());
            orthonormalize(transpose_product(factor.as_ref(), scaled.as_ref()))?
        }
        None => vectors.to_owned(),
    };
    fix_signs(&mut basis);
    let total = eigen.values.iter().sum();
    Ok(Pca { basis, eigenvalues: eigen.values[..components].to_vec(), total, rank })
}
