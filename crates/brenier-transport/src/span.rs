//! Fits in the coordinates of the rows themselves.
//!
//! With fewer rows than columns everything a fit needs lies in the span of the rows: `z_i`, each row about the mean of
//! its class, and the gap of the means, `m_t - m_s`. One Gram matrix of these `n + 1` vectors holds all their inner
//! products, so maps are estimated, and measured on the rows, in numbers of size `n`; what has `d` entries is lifted
//! out of the rows once, at the end. No copy of the rows is made, centred or other.

use crate::pair::Pair;
use brenier_linalg::{dot, product, squared_norm, stack_transpose_product, sum, transpose_product};
use brenier_map::Symmetric;
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::prelude::ReborrowMut;
use faer::{Accum, ColRef, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

/// What the route through the Gram matrix may cost, relative, in the direction that suffers most; beyond that a fit
/// goes the way that squares nothing.
const ACCURACY: f64 = 1e-10;

/// Columns of the rows that a thread lifts at once.
const STRIP: usize = 256;

/// Source and target rows, by the inner products of what spans them.
pub(crate) struct Span<'a> {
    pub source: MatRef<'a, f64>,
    pub target: MatRef<'a, f64>,
    pub source_mean: Vec<f64>,
    pub target_mean: Vec<f64>,
    /// Of the source's `z`, the target's `z` and the gap, in this order. `[n + 1, n + 1]`.
    pub gram: Mat<f64>,
    /// What rounding may have put into an entry of it,
    noise: f64,
    /// and into a sum of rows, each times at most 1, of which the mean should cancel.
    of_lift: f64,
}

/// A map in these coordinates: `m_s + e` goes to `m_s + offset + e + U V^T e`, where `V^T e` are inner products.
/// Kept as what measuring it needs: `G` is the Gram matrix, and `U` and `V` are `[n + 1, r]`.
pub(crate) struct Spanned {
    /// `[n + 1]`.
    pub offset: Vec<f64>,
    /// `G V`: what the directions read of each vector. `[n + 1, r]`.
    pub read: Mat<f64>,
    /// `G U`. `[n + 1, r]`.
    pub written: Mat<f64>,
    /// `U^T G U`. `[r, r]`.
    pub lengths: Mat<f64>,
}

impl Spanned {
    pub(crate) fn new(span: &Span<'_>, offset: Vec<f64>, u: MatRef<'_, f64>, v: MatRef<'_, f64>) -> Self {
        let (read, written) = (product(span.gram.as_ref(), v), product(span.gram.as_ref(), u));
        let lengths = transpose_product(u, written.as_ref());
        Self { offset, read, written, lengths }
    }
}

impl<'a> Span<'a> {
    /// With the Gram matrix of the pair ([`ClassGram`](brenier_linalg::ClassGram)); none where a class hardly varies beside
    /// its mean, or beside the gap.
    pub(crate) fn of(pair: &Pair<'a>, gram: Mat<f64>) -> Option<Self> {
        let (source, target) = (pair.source.view(), pair.target.view());
        let [source_mean, target_mean] = pair.means.clone();
        let n = source.nrows() + target.nrows();
        let largest = (0..=n).map(|i| gram[(i, i)]).fold(0.0, f64::max);
        let length = |mean: &[f64]| dot(mean, mean).sqrt();
        let farthest = length(&source_mean).max(length(&target_mean)) + largest.sqrt();
        let (noise, of_lift) = (2.0 * f64::EPSILON * largest, f64::EPSILON * farthest);
        let span = Self { source, target, source_mean, target_mean, gram, noise, of_lift };
        let (of_source, of_target, _) = span.blocks();
        (span.resolves(trace(of_source)) && span.resolves(trace(of_target))).then_some(span)
    }

    /// `|m_t - m_s|^2`.
    pub(crate) fn gap_squared(&self) -> f64 {
        self.gram[(self.rows(), self.rows())]
    }

    /// The means of source and target, `[d]`.
    pub(crate) fn means(&self) -> [Vec<f64>; 2] {
        [self.source_mean.clone(), self.target_mean.clone()]
    }

    /// The gap of the means alone, in coordinates.
    pub(crate) fn gap(&self) -> Vec<f64> {
        let mut offset = vec![0.0; self.rows() + 1];
        offset[self.rows()] = 1.0;
        offset
    }

    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.source.nrows(), self.target.nrows())
    }

    /// Number of rows in all, and the place of the gap.
    pub(crate) fn rows(&self) -> usize {
        self.gram.nrows() - 1
    }

    /// Whether an eigenvalue of the scatter of these rows stands so far above rounding that a decomposition of the
    /// Gram matrix is as good as one of the rows.
    pub(crate) fn resolves(&self, eigenvalue: f64) -> bool {
        let root = (self.rows() as f64).sqrt();
        self.noise * root <= ACCURACY * eigenvalue && self.of_lift * root <= ACCURACY * eigenvalue.sqrt()
    }

    /// Inner products of source rows (about their mean) with each other, of target rows, and of target with source.
    pub(crate) fn blocks(&self) -> (MatRef<'_, f64>, MatRef<'_, f64>, MatRef<'_, f64>) {
        let (n_s, n_t) = self.counts();
        let block = |i, j, rows, columns| self.gram.as_ref().submatrix(i, j, rows, columns);
        (block(0, 0, n_s, n_s), block(n_s, n_s, n_t, n_t), block(n_s, 0, n_t, n_s))
    }

    /// The vectors of `[d, r]` with these coordinates, `[n + 1, r]`.
    pub(crate) fn lift(&self, coordinates: MatRef<'_, f64>) -> Mat<f64> {
        let ((n_s, n_t), r) = (self.counts(), coordinates.ncols());
        let n = n_s + n_t;
        // Sums of rows about their mean are sums of rows with weights that add up to nothing; the gap is a difference
        // of two means.
        let mut weights = Mat::zeros(n, r);
        for k in 0..r {
            let column = coordinates.col(k);
            let mean_of = |from: usize, count: usize| {
                (from..from + count).map(|i| column[i]).sum::<f64>() / count as f64
            };
            let (of_source, of_target) = (mean_of(0, n_s), mean_of(n_s, n_t));
            let gap = column[n];
            for i in 0..n_s {
                weights[(i, k)] = column[i] - of_source - gap / n_s as f64;
            }
            for i in n_s..n {
                weights[(i, k)] = column[i] - of_target + gap / n_t as f64;
            }
        }
        stack_transpose_product(self.source, self.target, weights.as_ref())
    }

    /// `Y^T M` with the contrasts `Y` of source and target, each over its root, and an upper triangular `M`, `[r, r]`,
    /// `r = n - 2`. `[d, r]`.
    pub(crate) fn lift_triangular(&self, roots: [f64; 2], upper: MatRef<'_, f64>) -> Mat<f64> {
        let (a, r) = (self.source.nrows() - 1, upper.nrows());
        let mut out = Mat::zeros(self.source_mean.len(), r);
        let room = || Mat::zeros(r, STRIP);
        out.as_mut().par_row_chunks_mut(STRIP).enumerate().for_each_init(room, |room, (index, strip)| {
            let columns = |rows: MatRef<'a, f64>| rows.subcols(index * STRIP, strip.nrows());
            let mut y = room.as_mut().subcols_mut(0, strip.nrows());
            let (mut above, mut below) = y.rb_mut().split_at_row_mut(a);
            put_contrasts(columns(self.source), roots[0].recip(), above.as_mut());
            put_contrasts(columns(self.target), roots[1].recip(), below.as_mut());
            let (full, triangle) = (BlockStructure::Rectangular, BlockStructure::TriangularUpper);
            matmul(strip, full, Accum::Replace, y.transpose(), full, upper, triangle, 1.0, Par::Seq);
        });
        out
    }

    /// `T(x) = m_t + (c I + Q C Q^T) (x - m_s)`.
    pub(crate) fn symmetric(&self, scale: f64, basis: Mat<f64>, core: Mat<f64>) -> Symmetric {
        let offset = self.target_mean.iter().zip(&self.source_mean).map(|(t, s)| t - scale * s).collect();
        Symmetric { scale, mean: self.source_mean.clone(), offset, basis, core }
    }

    /// The squared length of a vector given in coordinates, `[n + 1]`.
    pub(crate) fn length(&self, coordinates: &[f64]) -> f64 {
        let column = |j: usize| dot(coordinates, self.gram.col_as_slice(j));
        coordinates.iter().enumerate().filter(|&(_, &x)| x != 0.0).map(|(j, x)| x * column(j)).sum()
    }
}

/// The nonzero part of a matrix `[m, n]` whose rows and columns add up to nothing, `[m - 1, n - 1]`: in orthonormal
/// [`contrasts`] on both sides.
pub(crate) fn contrasted(matrix: MatRef<'_, f64>) -> Mat<f64> {
    let (m, n) = (matrix.nrows() - 1, matrix.ncols());
    let rows = contrasts_of_rows(matrix);
    // The same on the other side, a column at a time.
    let one = 1.0 / (n as f64).sqrt();
    let mut step = vec![0.0; m];
    for column in (0..n).map(|j| rows.col_as_slice(j)) {
        step.iter_mut().zip(column).for_each(|(step, x)| *step += one * x);
    }
    let by = one / (1.0 - one);
    step.iter_mut().zip(rows.col_as_slice(0)).for_each(|(step, x)| *step = by * (*step - x));
    let mut out = Mat::zeros(m, n - 1);
    for j in 1..n {
        let column = out.col_as_slice_mut(j - 1).iter_mut().zip(rows.col_as_slice(j).iter().zip(&step));
        column.for_each(|(out, (x, step))| *out = x - step);
    }
    out
}

/// Orthonormal combinations of rows, `[m, d]`, all orthogonal to their sum: a Householder reflection that takes the
/// vector of ones to the first axis, without its first row. `[m - 1, d]`.
pub(crate) fn contrasts_of_rows(rows: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(rows.nrows() - 1, rows.ncols());
    put_contrasts(rows, 1.0, out.as_mut());
    out
}

/// Puts the [`contrasts_of_rows`], times `scale`, in `out`, `[m - 1, d]`.
fn put_contrasts(rows: MatRef<'_, f64>, scale: f64, out: MatMut<'_, f64>) {
    // w = e - e_1 with e = ones / sqrt(m): |w|^2 = 2 (1 - one), and w is `one` but for its first entry.
    let one = 1.0 / (rows.nrows() as f64).sqrt();
    for (row, out) in rows.col_iter().zip(out.col_iter_mut()) {
        let all = row.try_as_col_major().map_or_else(|| row.iter().sum(), |row| sum(row.as_slice()));
        let step = one * (one * all - row[0]) / (1.0 - one);
        out.iter_mut().zip(row.iter().skip(1)).for_each(|(out, x)| *out = scale * (x - step));
    }
}

/// The sum of products of entries.
pub(crate) fn entrywise(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    let of_columns =
        |(a, b): (ColRef<'_, f64>, ColRef<'_, f64>)| match (a.try_as_col_major(), b.try_as_col_major()) {
            (Some(a), Some(b)) => dot(a.as_slice(), b.as_slice()),
            _ => a.iter().zip(b.iter()).map(|(a, b)| a * b).sum(),
        };
    a.col_iter().zip(b.col_iter()).map(of_columns).sum()
}

pub(crate) fn column(matrix: &Mat<f64>) -> Vec<f64> {
    matrix.col_as_slice(0).to_vec()
}

/// Effective rank `tr(S)^2 / tr(S^2)` from the Gram matrix of centred rows.
pub(crate) fn effective_rank(gram: MatRef<'_, f64>) -> f64 {
    let squares = squared_norm(gram);
    if squares > 0.0 { trace(gram).powi(2) / squares } else { 0.0 }
}

pub(crate) fn trace(matrix: MatRef<'_, f64>) -> f64 {
    (0..matrix.nrows()).map(|i| matrix[(i, i)]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::measure;
    use crate::gate::gate_along;
    use crate::pair::scanned_pair;
    use crate::pca_ot::pca_ot;
    use crate::span_ot::{SpanOt, span_ot};
    use crate::{Covariance, FitOptions, GateOptions, Gaussian, Pooling, Quality, Shift, Shrinkage, monge};
    use brenier_map::{Affine, RowMap};

    fn rows(n: usize, d: usize, seed: usize, mean: f64) -> Mat<f64> {
        let wave = |i: usize, j: usize| ((i * 37 + j * 11 + seed * 101) as f64 * 0.618).sin();
        Mat::from_fn(n, d, |i, j| {
            // The sine of a linear form would have rank two; what is left after the point does not.
            let noise = (((i * 7919 + j * 104_729 + seed * 1_299_709) as f64).sin() * 43_758.545_3).fract();
            mean * (1.0 + (j as f64 * 0.3).cos()) + wave(i, j % 5) + 0.4 * noise
        })
    }

    fn moved(map: &RowMap, rows: &Mat<f64>) -> Mat<f64> {
        let mut out = rows.clone();
        map.apply_rows(out.as_mut(), 1.0).unwrap();
        out
    }

    fn close(a: &Mat<f64>, b: &Mat<f64>, within: f64) {
        let off = squared_norm((a - b).as_ref()).sqrt();
        assert!(off <= within * squared_norm(b.as_ref()).sqrt(), "off by {off:e}");
    }

    /// Every number of the two, one beside the other.
    fn same_quality(a: &Quality, b: &Quality, within: f64) {
        for (a, b) in [
            (a.w2_before, b.w2_before),
            (a.w2_after, b.w2_after),
            (a.source_step, b.source_step),
            (a.target_step, b.target_step),
        ] {
            assert!((a - b).abs() <= within * b.abs().max(1.0), "{a} is not {b}");
        }
    }

    #[test]
    fn the_span_gives_the_map_and_the_measures_that_the_rows_give() {
        let (source, target, fresh) = (rows(17, 90, 1, 2.0), rows(23, 90, 2, -1.0), rows(9, 90, 3, 0.5));
        let (pair, gram) = scanned_pair(source.as_ref().into(), target.as_ref().into(), 1).unwrap();
        let span = Span::of(&pair, gram.expect("more columns than rows")).expect("rows near zero");
        let covariance = Covariance::Sample;
        for (reg, shrinkage) in [
            (0.0, Shrinkage::Fixed(0.0)),
            (1e-3, Shrinkage::Fixed(0.0)),
            (0.0, Shrinkage::Fixed(0.3)),
            (0.02, Shrinkage::Auto),
            (0.0, Shrinkage::Oas),
        ] {
            let options = FitOptions { covariance, shrinkage, reg_abs: Some(reg), ..FitOptions::default() };
            let SpanOt { map, moved: moved_in_span, shrinkage: shrunk, optimality } =
                span_ot(&span, &options).unwrap().expect("well conditioned");
            let map = RowMap::new(Affine::Symmetric(map)).unwrap();
            let gaussian = |rows| Gaussian::estimate(rows, covariance, shrinkage, reg).unwrap();
            let ((of_source, a), (of_target, b)) = (gaussian(pair.source), gaussian(pair.target));
            assert!((shrunk[0] - a).abs() < 1e-12 && (shrunk[1] - b).abs() < 1e-12, "{shrunk:?} {a} {b}");
            let careful = monge(&of_source, &of_target).unwrap();
            for (found, expected) in [
                (optimality.transport_cost, careful.optimality().transport_cost),
                (optimality.condition, careful.optimality().condition),
                (optimality.max_eigenvalue, careful.optimality().max_eigenvalue),
                (optimality.min_eigenvalue, careful.optimality().min_eigenvalue),
            ] {
                assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found} is not {expected}");
            }
            let careful = RowMap::new(careful.affine()).unwrap();
            for rows in [&source, &target, &fresh] {
                close(&moved(&map, rows), &moved(&careful, rows), 1e-9);
            }
            let found = moved_in_span.from(span.w2_before(covariance).unwrap());
            let expected = measure(&map, source.as_ref(), target.as_ref(), covariance).unwrap();
            // A distance of nothing is a difference of traces, and known to their rounding alone.
            same_quality(&found, &expected, 1e-6);
        }
    }

    #[test]
    fn principal_components_of_the_span_are_those_of_the_rows() {
        let (source, target) = (rows(17, 90, 1, 2.0), rows(23, 90, 2, -1.0));
        let (pair, gram) = scanned_pair(source.as_ref().into(), target.as_ref().into(), 1).unwrap();
        let span = Span::of(&pair, gram.expect("more columns than rows")).expect("rows near zero");
        for (pooling, shift) in [(Pooling::Rows, Shift::Subspace), (Pooling::Classes, Shift::Full)] {
            let options = FitOptions { components: 3, pooling, shift, ..FitOptions::default() };
            let quick = pca_ot(&pair, Some(&span), &options, true).unwrap();
            let careful = pca_ot(&pair, None, &options, true).unwrap();
            close(&quick.axes.basis, &careful.axes.basis, 1e-9);
            close(&quick.axes.source, &careful.axes.source, 1e-9);
            close(&quick.axes.target, &careful.axes.target, 1e-9);
            let map = RowMap::new(quick.affine).unwrap();
            close(&moved(&map, &source), &moved(&RowMap::new(careful.affine).unwrap(), &source), 1e-9);
            let moved_in_span = quick.moved.expect("of the span");
            let found = moved_in_span.from(span.w2_before(options.covariance).unwrap());
            let expected = measure(&map, source.as_ref(), target.as_ref(), options.covariance).unwrap();
            same_quality(&found, &expected, 1e-11);
        }
    }

    #[test]
    fn a_gated_map_is_measured_in_the_span_as_on_the_rows() {
        let (source, target) = (rows(17, 90, 1, 0.4), rows(23, 90, 2, 0.1));
        let (pair, gram) = scanned_pair(source.as_ref().into(), target.as_ref().into(), 1).unwrap();
        let span = Span::of(&pair, gram.expect("more columns than rows")).expect("rows near zero");
        for shift in [Shift::Subspace, Shift::Full] {
            let gate = GateOptions { temperature: 3.0, ..GateOptions::default() };
            let options = FitOptions { components: 3, shift, gate, ..FitOptions::default() };
            let made = pca_ot(&pair, Some(&span), &options, false).unwrap();
            let (gate, _) = gate_along(&made.axes, &options).unwrap();
            let map = RowMap::new(made.affine).unwrap().with_gate(gate.clone()).unwrap();
            let spanned = made.spanned.expect("of the span");
            let before = span.w2_before(options.covariance).unwrap();
            let found = span.measure(&spanned, Some(&gate), options.covariance).unwrap().from(before);
            let expected = measure(&map, source.as_ref(), target.as_ref(), options.covariance).unwrap();
            same_quality(&found, &expected, 1e-11);
            let (found, expected) = (found.gate.unwrap(), expected.gate.unwrap());
            assert_eq!(found, expected);
            // Open to different degrees, or the test would be that of a map without a gate.
            assert!(
                found.mean_source > 0.6 && found.mean_target < 0.4 && found.mean_target > 1e-3,
                "{found:?}"
            );
        }
    }

    fn far(seed: usize, by: f64) -> Mat<f64> {
        let mut far = rows(12, 60, seed, 0.0);
        far.as_mut().col_iter_mut().for_each(|column| column.iter_mut().for_each(|x| *x += by));
        far
    }

    #[test]
    fn a_mean_far_from_zero_costs_the_span_nothing_that_shows() {
        let (source, target) = (far(1, 1e4), far(2, 1e4));
        let (pair, gram) = scanned_pair(source.as_ref().into(), target.as_ref().into(), 1).unwrap();
        let span = Span::of(&pair, gram.expect("more columns than rows")).expect("a spread that shows");
        let options = FitOptions { components: 2, ..FitOptions::default() };
        let quick = pca_ot(&pair, Some(&span), &options, true).unwrap();
        assert!(quick.spanned.is_some());
        let careful = pca_ot(&pair, None, &options, true).unwrap();
        close(&quick.axes.basis, &careful.axes.basis, 1e-10);
        close(&quick.axes.source, &careful.axes.source, 1e-10);
    }

    #[test]
    fn a_mean_that_drowns_the_spread_is_left_to_the_careful_way() {
        let (source, target) = (far(1, 1e7), far(2, 1e7));
        let (pair, gram) = scanned_pair(source.as_ref().into(), target.as_ref().into(), 1).unwrap();
        assert!(Span::of(&pair, gram.expect("more columns than rows")).is_none());
    }
}
