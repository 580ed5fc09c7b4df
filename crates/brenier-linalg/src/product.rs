//! Matrix products cut into fixed blocks, so that the bits do not depend on the number of threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

/// Rows and columns of an output block: large enough for faer's kernels, small enough to feed a few cores.
const BLOCK: usize = 96;
/// Below this many multiplications a product stays on the calling thread.
const PARALLEL_FROM: usize = 1 << 20;

/// `A B`. `a`: `[m, k]`, `b`: `[k, n]`, result `[m, n]`.
///
/// # Panics
/// If the inner sizes differ (a caller's mistake, never an input's).
pub fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    assert_eq!(a.ncols(), b.nrows(), "inner sizes of a product");
    blocks(a, b, false)
}

/// `A^T B`. `a`: `[k, m]`, `b`: `[k, n]`, result `[m, n]`.
///
/// # Panics
/// As [`product`].
pub fn transpose_product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    product(a.transpose(), b)
}

/// `A B^T`. `a`: `[m, k]`, `b`: `[n, k]`, result `[m, n]`.
///
/// # Panics
/// As [`product`].
pub fn product_with_transpose(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    product(a, b.transpose())
}

/// The Gram matrix `X X^T` of rows `[n, d]`: `[n, n]`, exactly symmetric, half the multiplications of a product.
/// The Gram matrix of the transpose, `gram(x.transpose())`, is the scatter matrix `X^T X`.
pub fn gram(rows: MatRef<'_, f64>) -> Mat<f64> {
    blocks(rows, rows.transpose(), true)
}

fn blocks(a: MatRef<'_, f64>, b: MatRef<'_, f64>, symmetric: bool) -> Mat<f64> {
    let (m, k, n) = (a.nrows(), a.ncols(), b.ncols());
    let mut places = Vec::new();
    for i in (0..m).step_by(BLOCK) {
        for j in (0..n).step_by(BLOCK) {
            if !symmetric || j >= i {
                places.push((i, j));
            }
        }
    }
    let one = |&(i, j): &(usize, usize)| {
        let (rows, columns) = (BLOCK.min(m - i), BLOCK.min(n - j));
        let mut block = Mat::zeros(rows, columns);
        matmul(block.as_mut(), Accum::Replace, a.subrows(i, rows), b.subcols(j, columns), 1.0, Par::Seq);
        (i, j, block)
    };
    let done: Vec<_> = if m.saturating_mul(n).saturating_mul(k) < PARALLEL_FROM {
        places.iter().map(one).collect()
    } else {
        places.par_iter().map(one).collect()
    };
    let mut out = Mat::zeros(m, n);
    for (i, j, block) in &done {
        out.as_mut().submatrix_mut(*i, *j, block.nrows(), block.ncols()).copy_from(block);
    }
    if symmetric {
        // The lower triangle mirrors the upper one, inside the diagonal blocks too.
        for j in 0..n {
            for i in j + 1..m {
                out[(i, j)] = out[(j, i)];
            }
        }
    }
    out
}
