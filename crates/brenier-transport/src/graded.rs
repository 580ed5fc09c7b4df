//! Singular values and right vectors of a matrix whose last columns are far smaller than its first: in two halves.

use crate::span_ot::{cholesky, lower_inverse};
use brenier_linalg::{LinalgError, ThinSvd, gram, product, squared_norm, symmetric_eigen, transpose_product};
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Mat, MatRef, Par};

/// The last columns may have this share of the least square of the first, at most, for the two to be told apart.
const GRADE: f64 = 0.05;

/// Most steps to the invariant subspaces; each wins about the ratio of the squares of the two groups.
const STEPS: usize = 8;

/// The least share of the largest square in its group: eigenvalues know the smaller ones to `eps` over this.
const SPREAD: f64 = 1e-6;

/// The decomposition `X = . diag(values) right^T` of `[m, r]` whose columns from `first` on are so much smaller that its
/// singular values fall into two groups; none where they do not. A third of the work of
/// [`thin_svd`](brenier_linalg::thin_svd()), and as accurate.
///
/// With `M = X^T X` in blocks, `Z` solves the Riccati equation of the leading invariant subspace \[1\],
///
/// ```text
/// Z M_11 = M_21 + M_22 Z - Z M_12 Z,   B_1 = [I; Z] (I + Z^T Z)^{-1/2},   B_2 = [-Z^T; I] (I + Z Z^T)^{-1/2}
/// ```
///
/// (roots by Cholesky), and each group is decomposed by itself, from `X B_1` and `X B_2`. Forming `X B_2` anew is what
/// keeps the small values: squared beside the large ones they would be lost. That nothing is left between the groups
/// is measured.
///
/// # References
/// 1. G. W. Stewart, "Error and perturbation bounds for subspaces associated with certain eigenvalue problems",
///    SIAM Review 15, 1973.
pub(crate) fn graded_svd(x: MatRef<'_, f64>, first: usize) -> Result<Option<ThinSvd>, LinalgError> {
    let r = x.ncols();
    if first == 0 || first >= r || x.nrows() < r {
        return Ok(None);
    }
    let m = gram(x.transpose());
    let block = |i, j, rows, columns| m.as_ref().submatrix(i, j, rows, columns);
    let m21 = block(first, 0, r - first, first);
    let m22 = block(first, first, r - first, r - first);
    let Some(l) = cholesky(block(0, 0, first, first).to_owned()) else { return Ok(None) };
    let pivot = (0..first).map(|i| l[(i, i)] * l[(i, i)]).fold(f64::INFINITY, f64::min);
    if squared_norm(m22).sqrt() > GRADE * pivot {
        return Ok(None);
    }

    // Z^T, `[first, r - first]`.
    let mut z = Mat::zeros(first, r - first);
    for _ in 0..STEPS {
        let bent = product(product(z.as_ref(), m21).as_ref(), z.as_ref());
        let mut next = m21.transpose() + product(z.as_ref(), m22) - bent;
        solve_lower_triangular_in_place(l.as_ref(), next.as_mut(), Par::Seq);
        solve_upper_triangular_in_place(l.transpose(), next.as_mut(), Par::Seq);
        let moved = squared_norm((&next - &z).as_ref());
        z = next;
        if moved <= f64::EPSILON * f64::EPSILON {
            break;
        }
    }
    let (Some(leading), Some(trailing)) = (basis(z.as_ref()), basis(z.transpose())) else { return Ok(None) };
    let [z_leading, z_trailing] = [
        transpose_product(z.as_ref(), leading.as_ref()),
        product(z.as_ref(), trailing.as_ref()),
    ];
    let leading = Mat::from_fn(r, first, |i, j| {
        if i < first { leading[(i, j)] } else { z_leading[(i - first, j)] }
    });
    let trailing = Mat::from_fn(r, r - first, |i, j| {
        if i < first { -z_trailing[(i, j)] } else { trailing[(i - first, j)] }
    });
    let (leading, trailing) = rayon::join(|| Group::of(x, leading), || Group::of(x, trailing));
    let (Some(leading), Some(trailing)) = (leading?, trailing?) else { return Ok(None) };

    let between = transpose_product(leading.image.as_ref(), trailing.image.as_ref());
    let rounding = 8.0 * r as f64 * f64::EPSILON * squared_norm(x);
    if squared_norm(between.as_ref()).sqrt() > rounding || leading.values[first - 1] < trailing.values[0] {
        return Ok(None);
    }
    let right = Mat::from_fn(r, r, |i, j| {
        if j < first { leading.right[(i, j)] } else { trailing.right[(i, j - first)] }
    });
    Ok(Some(ThinSvd { values: [leading.values, trailing.values].concat(), right }))
}

/// `C^{-T}` with `C C^T = I + Z Z^T`: makes the columns of `[I; Z^T]` orthonormal.
fn basis(z: MatRef<'_, f64>) -> Option<Mat<f64>> {
    let mut lengths = gram(z);
    for i in 0..lengths.nrows() {
        lengths[(i, i)] += 1.0;
    }
    Some(lower_inverse(&cholesky(lengths)?).transpose().to_owned())
}

/// The singular values of one group.
struct Group {
    values: Vec<f64>,
    /// Right singular vectors. `[r, k]`.
    right: Mat<f64>,
    /// `X B`. `[m, k]`.
    image: Mat<f64>,
}

impl Group {
    fn of(x: MatRef<'_, f64>, basis: Mat<f64>) -> Result<Option<Self>, LinalgError> {
        let image = product(x, basis.as_ref());
        let eigen = symmetric_eigen(gram(image.transpose()).as_ref())?;
        let (largest, smallest) = (eigen.values[0], eigen.values[eigen.values.len() - 1]);
        if smallest <= SPREAD * largest {
            return Ok(None);
        }
        let right = product(basis.as_ref(), eigen.vectors.as_ref());
        Ok(Some(Self { values: eigen.values.iter().map(|square| square.sqrt()).collect(), right, image }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;
    use brenier_linalg::thin_svd;

    /// Columns of unit size before `first`, times `grade` from there on, and mixed with the former.
    fn graded(m: usize, r: usize, first: usize, grade: f64) -> Mat<f64> {
        let mut random = SplitMix::new(5);
        let mut x = Mat::from_fn(m, r, |i, j| random.normal() + if i == j { 6.0 } else { 0.0 });
        for j in first..r {
            for i in 0..m {
                x[(i, j)] = grade * (x[(i, j)] + x[(i, j - first)]);
            }
        }
        x
    }

    /// `(X^T X)^{1/2}`, which does not depend on signs or on the order of equal values.
    fn root(svd: &ThinSvd) -> Mat<f64> {
        let scaled = Mat::from_fn(svd.right.nrows(), svd.values.len(), |i, j| svd.right[(i, j)] * svd.values[j]);
        product(scaled.as_ref(), svd.right.transpose())
    }

    #[test]
    fn two_groups_are_those_of_the_whole_decomposition() {
        for (m, r, first) in [(24, 24, 12), (30, 20, 7), (9, 5, 1), (9, 5, 4)] {
            let x = graded(m, r, first, 1e-6);
            let found = graded_svd(x.as_ref(), first).unwrap().expect("two groups");
            let whole = thin_svd(x.as_ref()).unwrap();
            for (a, b) in found.values.iter().zip(&whole.values) {
                // Both know a small value to eps of the largest.
                assert!((a - b).abs() <= 1e-14 * whole.values[0], "{a} is not {b}");
            }
            let orthonormal = gram(found.right.transpose()) - Mat::<f64>::identity(r, r);
            assert!(squared_norm(orthonormal.as_ref()).sqrt() <= 1e-14 * r as f64);
            let off = root(&found) - root(&whole);
            assert!(squared_norm(off.as_ref()).sqrt() <= 1e-14 * r as f64 * whole.values[0]);
        }
    }

    #[test]
    fn one_group_is_left_to_the_whole_decomposition() {
        assert!(graded_svd(graded(24, 24, 12, 1.0).as_ref(), 12).unwrap().is_none());
        assert!(graded_svd(graded(24, 24, 12, 0.05).as_ref(), 12).unwrap().is_none());
        assert!(graded_svd(Mat::zeros(6, 6).as_ref(), 3).unwrap().is_none());
        assert!(graded_svd(graded(6, 6, 3, 1e-6).as_ref(), 6).unwrap().is_none());
    }
}
