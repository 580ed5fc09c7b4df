//! Matrix products cut into fixed blocks, so that the bits do not depend on the number of threads.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Rows and columns of a block of a Gram matrix: large enough for faer's kernels, small enough to be shared out evenly.
const BLOCK: usize = 48;
/// Rows or columns of a strip of any other product.
const STRIP: usize = 256;
/// Rows of which a thread holds a copy where a product takes the place of its factor.
const COPIED: usize = 64;
/// Below this many multiplications a product stays on the calling thread.
const PARALLEL_FROM: usize = 1 << 20;

/// `A B`. `a`: `[m, k]`, `b`: `[k, n]`, result `[m, n]`.
///
/// # Panics
/// If the inner sizes differ (a caller's mistake, never an input's).
pub fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    assert_eq!(a.ncols(), b.nrows(), "inner sizes of a product");
    sum_of_products(&[(a, b)])
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

/// `A B` in the place of `A`, with a copy of no more than a few of its rows on each thread. `a`: `[m, k]`, `b`: `[k, k]`.
///
/// # Panics
/// As [`product`].
pub(crate) fn multiply_in_place(a: &mut Mat<f64>, b: MatRef<'_, f64>) {
    assert_eq!((a.ncols(), b.ncols()), b.shape(), "inner sizes of a product");
    let work = a.nrows().saturating_mul(b.nrows()).saturating_mul(b.ncols());
    let one = |strip: MatMut<'_, f64>| {
        let from = strip.to_owned();
        matmul(strip, Accum::Replace, from.as_ref(), b, 1.0, Par::Seq);
    };
    if work < PARALLEL_FROM {
        one(a.as_mut());
    } else {
        a.as_mut().par_row_chunks_mut(COPIED).for_each(one);
    }
}

/// Adds `A B` to a matrix, on the calling thread. `a`: `[m, k]`, `b`: `[k, n]`, `to`: `[m, n]`.
///
/// # Panics
/// As [`product`].
pub fn add_product(to: &mut Mat<f64>, a: MatRef<'_, f64>, b: MatRef<'_, f64>) {
    matmul(to.as_mut(), Accum::Add, a, b, 1.0, Par::Seq);
}

/// The Gram matrix `X X^T` of rows `[n, d]`: `[n, n]`, exactly symmetric, half the multiplications of a product.
/// The Gram matrix of the transpose, `gram(x.transpose())`, is the scatter matrix `X^T X`.
pub fn gram(rows: MatRef<'_, f64>) -> Mat<f64> {
    gram_of_parts(&[rows])
}

/// The Gram matrix of rows that lie in two matrices, `[m, d]` above `[n, d]`: `[m + n, m + n]`, exactly symmetric.
///
/// # Panics
/// If the widths differ (a caller's mistake).
pub fn gram_of_stack(above: MatRef<'_, f64>, below: MatRef<'_, f64>) -> Mat<f64> {
    assert_eq!(above.ncols(), below.ncols(), "widths of stacked rows");
    gram_of_parts(&[above, below])
}

/// `A_1^T B_1 + A_2^T B_2` with `A = [A_1; A_2]`, `[k, m]`, in two matrices and `B`, `[k, n]`, in one: `[m, n]`.
///
/// # Panics
/// If the sizes do not fit (a caller's mistake).
pub fn stack_transpose_product(
    above: MatRef<'_, f64>,
    below: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
) -> Mat<f64> {
    assert_eq!(above.nrows() + below.nrows(), b.nrows(), "inner sizes of a product");
    let (top, bottom) = b.split_at_row(above.nrows());
    sum_of_products(&[(above.transpose(), top), (below.transpose(), bottom)])
}

/// The sum of products `A B`, cut along the longer side of the result.
fn sum_of_products(terms: &[(MatRef<'_, f64>, MatRef<'_, f64>)]) -> Mat<f64> {
    let (m, n) = terms.first().map_or((0, 0), |(a, b)| (a.nrows(), b.ncols()));
    let work = terms.iter().map(|(a, _)| a.ncols()).sum::<usize>().saturating_mul(m).saturating_mul(n);
    let mut out = Mat::zeros(m, n);
    let by_rows = m >= n;
    let one = |(index, mut part): (usize, MatMut<'_, f64>)| {
        let at = index * STRIP;
        for (k, (a, b)) in terms.iter().enumerate() {
            let how = if k == 0 { Accum::Replace } else { Accum::Add };
            let (a, b) =
                if by_rows { (a.subrows(at, part.nrows()), *b) } else { (*a, b.subcols(at, part.ncols())) };
            matmul(part.as_mut(), how, a, b, 1.0, Par::Seq);
        }
    };
    if work < PARALLEL_FROM {
        one((0, out.as_mut()));
    } else if by_rows {
        out.as_mut().par_row_chunks_mut(STRIP).enumerate().for_each(one);
    } else {
        out.as_mut().par_col_chunks_mut(STRIP).enumerate().for_each(one);
    }
    out
}

/// The Gram matrix of stacked parts.
fn gram_of_parts(parts: &[MatRef<'_, f64>]) -> Mat<f64> {
    let n = parts.iter().map(|part| part.nrows()).sum::<usize>();
    let mut out = Mat::zeros(n, n);
    let mut blocks = Vec::new();
    let (mut right, mut left_of) = (out.as_mut(), 0);
    for strip in strips(parts) {
        let (columns, rest) = right.split_at_col_mut(strip.nrows());
        right = rest;
        left_of += strip.nrows();
        let (mut below, mut above) = (columns.subrows_mut(0, left_of), 0);
        for other in strips(parts) {
            if above == left_of {
                break;
            }
            let (block, rest) = below.split_at_row_mut(other.nrows());
            (below, above) = (rest, above + other.nrows());
            blocks.push((block, other, strip, above == left_of));
        }
    }
    let one = |(block, a, b, diagonal): (MatMut<'_, f64>, MatRef<'_, f64>, MatRef<'_, f64>, bool)| {
        let (upper, all) = (BlockStructure::TriangularUpper, BlockStructure::Rectangular);
        let of_block = if diagonal { upper } else { all };
        triangular::matmul(block, of_block, Accum::Replace, a, all, b.transpose(), all, 1.0, Par::Seq);
    };
    let width = parts.first().map_or(0, |part| part.ncols());
    if n.saturating_mul(n).saturating_mul(width) < PARALLEL_FROM {
        blocks.into_iter().for_each(one);
    } else {
        blocks.into_par_iter().for_each(one);
    }
    mirror(&mut out);
    out
}

/// The rows of all parts, so many at a time that lie in one.
fn strips<'a>(parts: &[MatRef<'a, f64>]) -> impl Iterator<Item = MatRef<'a, f64>> {
    parts.iter().flat_map(|&part| {
        (0..part.nrows())
            .step_by(BLOCK)
            .map(move |start| part.subrows(start, BLOCK.min(part.nrows() - start)))
    })
}

/// The lower triangle becomes what the upper one is, a block at a time: lines that lie apart are read together.
fn mirror(matrix: &mut Mat<f64>) {
    let n = matrix.nrows();
    for from in (0..n).step_by(BLOCK) {
        for to in (from..n).step_by(BLOCK) {
            for j in from..n.min(from + BLOCK) {
                for i in to.max(j)..n.min(to + BLOCK) {
                    matrix[(i, j)] = matrix[(j, i)];
                }
            }
        }
    }
}
