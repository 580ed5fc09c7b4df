use crate::decompose::fix_signs;
use crate::tridiagonal::{leading_pairs, scattered};
use crate::{Eigen, LinalgError, cholesky, dot, product, relative_floor, symmetric_eigen};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

/// Size of the Krylov space at which the pairs are looked at for the first time, and least number of steps to the next.
const FIRST: usize = 16;
const STEPS: usize = 8;

/// A Krylov space pays only for a matrix of this size or larger, while it is this many times smaller than that, and holds
/// this many vectors at most.
const LEAST: usize = 128;
const SMALLER: usize = 2;
const LARGEST: usize = 240;

/// A vector that keeps less than this of its length has to be made orthogonal once more.
const CANCELLED: f64 = 0.5;

/// The `count` leading eigenpairs of a symmetric positive semi-definite matrix `[n, n]`, without the rest.
///
/// By the Lanczos process with full reorthogonalisation \[1\], from a fixed start, until the residuals
/// `|M v - l v|` are down to rounding, `eps l_1`. A Krylov space can miss an eigenvalue (one that is repeated, say); so
/// that none above the last was missed is proved by a Cholesky factor of
///
/// ```text
/// (l_k + n eps l_1) I - M + V diag(l) V^T
/// ```
///
/// which exists for the leading pairs alone (up to a tie of `l_k` within that bound). Where the process is slow or the
/// proof fails, [`symmetric_eigen`] does the work.
///
/// # Shapes
/// `[n, n]` to `min(count, n)` values, descending, and `[n, min(count, n)]` vectors; signs as in [`Eigen`].
///
/// # Errors
/// As [`symmetric_eigen`].
///
/// # References
/// 1. B. N. Parlett, *The Symmetric Eigenvalue Problem*, 1980, chapter 13; inertia by triangular factors, section 3.3.
pub fn leading_eigen(matrix: MatRef<'_, f64>, count: usize) -> Result<Eigen, LinalgError> {
    if let Some(found) = krylov_eigen(matrix, count)
        && are_leading(matrix, &found)
    {
        return Ok(found);
    }
    let Eigen { mut values, vectors } = symmetric_eigen(matrix)?;
    let count = count.min(matrix.nrows());
    values.truncate(count);
    Ok(Eigen { values, vectors: vectors.as_ref().subcols(0, count).to_owned() })
}

/// The first half of [`leading_eigen`]: pairs of a Krylov space, once they have settled; none where that takes too long.
/// That they are the leading ones is for [`are_leading`] to prove, which may be done while they are used already.
pub fn krylov_eigen(matrix: MatRef<'_, f64>, count: usize) -> Option<Eigen> {
    let n = matrix.nrows();
    let last = LARGEST.min(n / SMALLER);
    if n != matrix.ncols() || n < LEAST || last < FIRST.max(2 * count) {
        return None;
    }
    let mut space = Mat::<f64>::zeros(n, last + 1);
    let mut start = Mat::from_fn(n, 1, |i, _| scattered(i));
    let length = start.norm_l2();
    scale(&mut start, length.recip());
    space.col_mut(0).copy_from(start.col(0));
    let (mut diagonal, mut beside) = (Vec::new(), Vec::new());
    let (mut next, mut along) = (Mat::<f64>::zeros(n, 1), Mat::<f64>::zeros(last, 1));
    let (mut look, mut seen) = (FIRST.max(2 * count), None);
    for step in 1..=last {
        let (known, rest) = space.as_mut().split_at_col_mut(step);
        let known = known.as_ref();
        matmul(next.as_mut(), Accum::Replace, matrix, known.subcols(step - 1, 1), 1.0, Par::Seq);
        // What the last two hold of it is all but rounding of what is taken away; the pass over all that follows is the
        // second for these, and twice is enough (Parlett 1980, section 6-9).
        let mut own = dot(known.col(step - 1).try_as_col_major()?.as_slice(), next.col_as_slice(0));
        take(&mut next, own, known.subcols(step - 1, 1));
        if let Some(&before) = beside.last() {
            take(&mut next, before, known.subcols(step - 2, 1));
        }
        let mut length = next.norm_l2();
        for _ in 0..2 {
            let (before, mut part) = (length, along.as_mut().subrows_mut(0, step));
            matmul(part.as_mut(), Accum::Replace, known.transpose(), next.as_ref(), 1.0, Par::Seq);
            matmul(next.as_mut(), Accum::Add, known, part.as_ref(), -1.0, Par::Seq);
            own += part[(step - 1, 0)];
            length = next.norm_l2();
            if length > CANCELLED * before {
                break;
            }
        }
        diagonal.push(own);
        let ends = length <= f64::EPSILON * diagonal.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        if (ends && step >= count) || step == look {
            let (values, vectors) = leading_pairs(&diagonal, &beside, count);
            let residual = (0..count).map(|k| length * vectors[(step - 1, k)].abs());
            // A maximum passes over a NaN, which no pair may hold.
            let residual = residual.fold(0.0, |a: f64, b| if b.is_nan() { f64::INFINITY } else { a.max(b) });
            let goal = f64::EPSILON * values[0];
            if residual <= goal {
                let mut pairs = product(known, vectors.as_ref());
                fix_signs(&mut pairs);
                return Some(Eigen { values, vectors: pairs });
            }
            look = step + steps_left(seen.replace((step, residual)), (step, residual), goal);
            if look > last {
                return None;
            }
        }
        if ends {
            return None;
        }
        beside.push(length);
        scale(&mut next, length.recip());
        rest.col_mut(0).copy_from(next.col(0));
    }
    None
}

/// After how many steps to look again: a residual falls by about the same factor at each step, once it falls.
fn steps_left(before: Option<(usize, f64)>, now: (usize, f64), goal: f64) -> usize {
    let rate = before.map_or(0.0, |before| (before.1 / now.1).ln() / (now.0 - before.0) as f64);
    let left = if rate > 0.0 { ((now.1 / goal).ln() / rate).ceil() } else { f64::INFINITY };
    (left as usize).clamp(STEPS, now.0)
}

/// The second half of [`leading_eigen`]: whether these pairs are those of the largest eigenvalues. What is left of the
/// matrix without them stays below the last, to rounding.
pub fn are_leading(matrix: MatRef<'_, f64>, found: &Eigen) -> bool {
    let (Some(&first), Some(&last)) = (found.values.first(), found.values.last()) else { return true };
    let n = matrix.nrows();
    let weighted = Mat::from_fn(n, found.values.len(), |i, k| found.vectors[(i, k)] * found.values[k]);
    let mut left = matrix.to_owned();
    matmul(left.as_mut(), Accum::Add, weighted.as_ref(), found.vectors.transpose(), -1.0, Par::Seq);
    let bound = last + relative_floor(n) * first;
    for j in 0..n {
        for i in j..n {
            left[(i, j)] = if i == j { bound - left[(i, j)] } else { -left[(i, j)] };
        }
    }
    cholesky(left).is_some()
}

/// `column - by * other`.
fn take(column: &mut Mat<f64>, by: f64, other: MatRef<'_, f64>) {
    column.col_as_slice_mut(0).iter_mut().zip(other.col(0).iter()).for_each(|(x, other)| *x -= by * other);
}

fn scale(column: &mut Mat<f64>, by: f64) {
    column.as_mut().col_mut(0).iter_mut().for_each(|x| *x *= by);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gram, squared_norm};

    /// `Q diag(values) Q^T` with a `Q` that is orthonormal to rounding.
    fn with(values: &[f64]) -> Mat<f64> {
        let n = values.len();
        let noise = Mat::from_fn(n, n, |i, j| scattered(i * n + j));
        let q = symmetric_eigen(gram(noise.as_ref()).as_ref()).unwrap().vectors;
        let scaled = Mat::from_fn(n, n, |i, j| q[(i, j)] * values[j]);
        product(scaled.as_ref(), q.transpose())
    }

    fn agrees(matrix: &Mat<f64>, count: usize) {
        let found = leading_eigen(matrix.as_ref(), count).unwrap();
        let whole = symmetric_eigen(matrix.as_ref()).unwrap();
        let n = matrix.nrows();
        let eps = relative_floor(n) * whole.values[0];
        assert_eq!(found.values.len(), count.min(n));
        for (a, b) in found.values.iter().zip(&whole.values) {
            assert!((a - b).abs() <= eps, "{a} is not {b}");
        }
        let v = found.vectors.as_ref();
        let scaled = Mat::from_fn(n, v.ncols(), |i, k| v[(i, k)] * found.values[k]);
        let residual = product(matrix.as_ref(), v) - scaled;
        assert!(
            squared_norm(residual.as_ref()).sqrt() <= eps,
            "{:e}",
            squared_norm(residual.as_ref()).sqrt()
        );
        let identity = gram(v.transpose()) - Mat::<f64>::identity(v.ncols(), v.ncols());
        let off = squared_norm(identity.as_ref()).sqrt();
        assert!(off <= 4.0 * relative_floor(n), "{count} of {n}: {off:e}");
    }

    #[test]
    fn leading_pairs_are_those_of_the_whole_decomposition() {
        let n = 150;
        let decay: Vec<f64> = (0..n).map(|i| 0.8_f64.powi(i)).collect();
        let flat: Vec<f64> = (0..n).map(|i| 2.0 - i as f64 / n as f64).collect();
        for values in [&decay, &flat] {
            let matrix = with(values);
            for count in [1, 2, 5, 40, 150, 200] {
                agrees(&matrix, count);
            }
        }
    }

    #[test]
    fn a_krylov_space_settles_where_the_gap_is_wide() {
        let values: Vec<f64> = (0..150).map(|i| 0.8_f64.powi(i)).collect();
        let found = krylov_eigen(with(&values).as_ref(), 3);
        assert!(found.is_some_and(|found| (found.values[2] - 0.64).abs() < 1e-14));
    }

    #[test]
    fn a_repeated_eigenvalue_is_not_missed() {
        // One vector's Krylov space holds one direction of each eigenspace: it takes 1 for the second.
        let values: Vec<f64> = (0..150).map(|i| if i < 3 { 4.0 } else { 0.7_f64.powi(i) }).collect();
        let matrix = with(&values);
        let pairs = krylov_eigen(matrix.as_ref(), 3);
        assert!(pairs.is_none_or(|pairs| pairs.values[2] > 3.9 || !are_leading(matrix.as_ref(), &pairs)));
        agrees(&matrix, 3);
        let wrong = Eigen { values: vec![0.7], vectors: Mat::from_fn(150, 1, |i, _| f64::from(i == 0)) };
        assert!(!are_leading(matrix.as_ref(), &wrong));
    }

    #[test]
    fn zero_and_low_rank_matrices_have_leading_pairs_too() {
        agrees(&Mat::zeros(140, 140), 2);
        agrees(&with(&[vec![3.0, 1.0], vec![0.0; 138]].concat()), 5);
    }
}
