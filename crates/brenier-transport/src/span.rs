//! Fits in the coordinates of the rows themselves.
//!
//! With fewer rows than columns everything a fit needs lies in the span of the rows: `z_i`, each row about the mean of
//! its class, and the gap of the means, `m_t - m_s`. One Gram matrix of these `n + 1` vectors holds all their inner
//! products, so maps are estimated, and measured on the rows, in numbers of size `n`; what has `d` entries is lifted
//! out of the rows once, at the end. No copy of the rows is made, centred or other.

use crate::certificate::{Quality, gate_quality};
use crate::fit::Pair;
use crate::{Covariance, TransportError};
use brenier_linalg::{
    gram_of_stack, mean, product, product_with_transpose, singular_values, squared_norm,
    stack_transpose_product,
};
use brenier_map::{LowRank, RowMap};
use faer::{Mat, MatRef};

/// What the route through the Gram matrix may cost, relative, in the direction that suffers most; beyond that a fit
/// goes the way that squares nothing.
const ACCURACY: f64 = 1e-10;

/// Source and target rows, by the inner products of what spans them.
pub(crate) struct Span<'a> {
    source: MatRef<'a, f64>,
    target: MatRef<'a, f64>,
    pub source_mean: Vec<f64>,
    pub target_mean: Vec<f64>,
    /// Of the source's `z`, the target's `z` and the gap, in this order. `[n + 1, n + 1]`.
    pub gram: Mat<f64>,
    /// What rounding may have put into an entry of it.
    noise: f64,
}

/// A map in these coordinates: `m_s + e` goes to `m_s + offset + scale e + U V^T e`, where `V^T e` are inner products.
pub(crate) struct Spanned {
    pub scale: f64,
    /// `[n + 1]`.
    pub offset: Vec<f64>,
    /// `[n + 1, r]`.
    pub u: Mat<f64>,
    /// `[n + 1, r]`.
    pub v: Mat<f64>,
}

impl<'a> Span<'a> {
    /// None where there are no fewer rows than columns, or where a class hardly varies beside its mean.
    pub(crate) fn new(pair: &Pair<'a>) -> Option<Self> {
        let (source, target) = (pair.source.view(), pair.target.view());
        let (n_s, n_t) = (source.nrows(), target.nrows());
        if n_s + n_t >= pair.dim() {
            return None;
        }
        let (source_mean, target_mean) = (mean(pair.source), mean(pair.target));
        let raw = gram_of_stack(source, target);
        let n = n_s + n_t;
        let largest = (0..n).map(|i| raw[(i, i)]).fold(0.0, f64::max);

        // Inner products with the means of both classes, and of these among themselves, are averages of entries.
        let average = |i: usize, from: usize, count: usize| {
            (from..from + count).map(|j| raw[(i, j)]).sum::<f64>() / count as f64
        };
        let with_source: Vec<f64> = (0..n).map(|i| average(i, 0, n_s)).collect();
        let with_target: Vec<f64> = (0..n).map(|i| average(i, n_s, n_t)).collect();
        let of = |with: &[f64], from: usize, count: usize| {
            with[from..from + count].iter().sum::<f64>() / count as f64
        };
        let (ss, st) = (of(&with_source, 0, n_s), of(&with_source, n_s, n_t));
        let (ts, tt) = (of(&with_target, 0, n_s), of(&with_target, n_s, n_t));
        let between = |i: usize, j: usize| match (i < n_s, j < n_s) {
            (true, true) => raw[(i, j)] - with_source[i] - with_source[j] + ss,
            (false, false) => raw[(i, j)] - with_target[i] - with_target[j] + tt,
            (true, false) => raw[(i, j)] - with_target[i] - with_source[j] + ts,
            (false, true) => raw[(j, i)] - with_target[j] - with_source[i] + ts,
        };
        let along = |i: usize| {
            let about = if i < n_s { ts - ss } else { tt - st };
            (with_target[i] - with_source[i]) - about
        };
        let gap: f64 = source_mean.iter().zip(&target_mean).map(|(s, t)| (t - s) * (t - s)).sum();
        let gram = Mat::from_fn(n + 1, n + 1, |i, j| match (i == n, j == n) {
            (true, true) => gap,
            (true, false) => along(j),
            (false, true) => along(i),
            (false, false) => between(i, j),
        });
        let noise = 2.0 * f64::EPSILON * largest;
        let span = Self { source, target, source_mean, target_mean, gram, noise };
        let (of_source, of_target, _) = span.blocks();
        // Classes that hardly vary beside their means are lost in the rounding of these.
        (span.resolves(trace(of_source)) && span.resolves(trace(of_target))).then_some(span)
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
        self.noise * (self.rows() as f64).sqrt() <= ACCURACY * eigenvalue
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

    /// The map that moves `m_s` by `offset`, `[d]`, with these directions.
    pub(crate) fn low_rank(&self, scale: f64, offset: &[f64], u: Mat<f64>, v: Mat<f64>) -> LowRank {
        let offset = offset.iter().zip(&self.source_mean).map(|(o, m)| o + (1.0 - scale) * m).collect();
        LowRank { scale, mean: self.source_mean.clone(), offset, u, v }
    }

    /// What a map does to the rows themselves: the same numbers that moving the rows would give.
    pub(crate) fn measure(
        &self,
        spanned: &Spanned,
        map: &RowMap,
        covariance: Covariance,
    ) -> Result<Quality, TransportError> {
        let (n_s, n_t) = self.counts();
        let n = n_s + n_t;
        let (of_source, of_target, across) = self.blocks();
        let (div_s, div_t) = (covariance.divisor(n_s), covariance.divisor(n_t));
        let (trace_s, trace_t) = (trace(of_source) / div_s, trace(of_target) / div_t);
        let gap = self.gram[(n, n)];

        let (share_s, share_t) = (map.gate_rows(self.source)?, map.gate_rows(self.target)?);
        let steps_s = self.steps(spanned, 0, &share_s);
        let steps_t = self.steps(spanned, n_s, &share_t);
        let source_step = (self.trace_of(steps_s.as_ref()) / n_s as f64).max(0.0).sqrt();
        let target_step = (self.trace_of(steps_t.as_ref()) / n_t as f64).max(0.0).sqrt();

        // Moved rows about m_s, their mean, and what is left about it.
        let mut moved = steps_s;
        for i in 0..n_s {
            moved[(i, i)] += 1.0;
        }
        let mut average: Vec<f64> =
            (0..=n).map(|j| (0..n_s).map(|i| moved[(i, j)]).sum::<f64>() / n_s as f64).collect();
        for (j, middle) in average.iter().enumerate() {
            for i in 0..n_s {
                moved[(i, j)] -= middle;
            }
        }
        average[n] -= 1.0;
        let off = Mat::from_fn(1, n + 1, |_, j| average[j]);
        let apart = self.trace_of(off.as_ref()).max(0.0);
        let with_all = product(moved.as_ref(), self.gram.as_ref());
        let with_target = with_all.as_ref().submatrix(0, n_s, n_s, n_t);
        let spread: f64 =
            (0..n_s).map(|i| (0..=n).map(|j| with_all[(i, j)] * moved[(i, j)]).sum::<f64>()).sum::<f64>()
                / div_s;
        let root = (div_s * div_t).sqrt();
        let (before, after) = rayon::join(|| singular_values(across), || singular_values(with_target));
        let nuclear = |values: Vec<f64>| values.iter().sum::<f64>() / root;
        let distance = |apart: f64, trace: f64, nuclear: f64| {
            (apart + (trace + trace_t - 2.0 * nuclear).max(0.0)).sqrt()
        };
        let w2_before = distance(gap, trace_s, nuclear(before?));
        let w2_after = distance(apart, spread, nuclear(after?));
        Ok(Quality {
            w2_before,
            w2_after,
            w2_ratio: (w2_before > 0.0).then(|| w2_after / w2_before),
            source_step,
            target_step,
            gate: gate_quality(map, self.source, self.target)?,
            ..Quality::default()
        })
    }

    /// `p_i (T(x_i) - x_i)` for the rows of a class that begin at `first`, in coordinates. `[n_class, n + 1]`.
    fn steps(&self, map: &Spanned, first: usize, share: &[f64]) -> Mat<f64> {
        let n = self.rows();
        let is_target = first > 0;
        // Inner products of the rows about m_s with the directions that are read.
        let read = product(self.gram.as_ref(), map.v.as_ref());
        let z = Mat::from_fn(share.len(), map.v.ncols(), |i, k| {
            read[(first + i, k)] + if is_target { read[(n, k)] } else { 0.0 }
        });
        let lifted = product_with_transpose(z.as_ref(), map.u.as_ref());
        Mat::from_fn(share.len(), n + 1, |i, j| {
            let own = if j == first + i || (is_target && j == n) { map.scale - 1.0 } else { 0.0 };
            share[i] * (own + map.offset[j] + lifted[(i, j)])
        })
    }

    /// The sum of squared lengths of vectors given in coordinates, `[m, n + 1]`.
    fn trace_of(&self, coordinates: MatRef<'_, f64>) -> f64 {
        let with_all = product(coordinates, self.gram.as_ref());
        let rows = 0..coordinates.nrows();
        rows.map(|i| (0..coordinates.ncols()).map(|j| with_all[(i, j)] * coordinates[(i, j)]).sum::<f64>())
            .sum()
    }
}

/// Effective rank `tr(S)^2 / tr(S^2)` from the Gram matrix of centred rows.
pub(crate) fn effective_rank(gram: MatRef<'_, f64>) -> f64 {
    let squares = squared_norm(gram);
    if squares > 0.0 { trace(gram).powi(2) / squares } else { 0.0 }
}

fn trace(matrix: MatRef<'_, f64>) -> f64 {
    (0..matrix.nrows()).map(|i| matrix[(i, i)]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::measure;
    use crate::pca_ot::pca_ot;
    use crate::span_ot::{SpanOt, span_ot};
    use crate::{FitOptions, Gaussian, Pooling, Shift, monge};
    use brenier_linalg::Rows;
    use brenier_map::Affine;

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
    fn same_quality(a: &Quality, b: &Quality) {
        for (a, b) in [
            (a.w2_before, b.w2_before),
            (a.w2_after, b.w2_after),
            (a.source_step, b.source_step),
            (a.target_step, b.target_step),
        ] {
            // A distance of nothing is a difference of traces, and known to their rounding alone.
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{a} is not {b}");
        }
    }

    #[test]
    fn the_span_gives_the_map_and_the_measures_that_the_rows_give() {
        let (source, target, fresh) = (rows(17, 90, 1, 2.0), rows(23, 90, 2, -1.0), rows(9, 90, 3, 0.5));
        let pair =
            Pair { source: Rows::new(source.as_ref()).unwrap(), target: Rows::new(target.as_ref()).unwrap() };
        let span = Span::new(&pair).expect("more columns than rows");
        for reg in [0.0, 1e-3] {
            let covariance = Covariance::Sample;
            let SpanOt { map, spanned, .. } =
                span_ot(&span, covariance, [reg, reg]).unwrap().expect("well conditioned");
            let map = RowMap::new(Affine::LowRank(map)).unwrap();
            let gaussian =
                |rows| Gaussian::estimate(rows, covariance, crate::Shrinkage::Fixed(0.0), reg).unwrap().0;
            let careful = monge(&gaussian(pair.source), &gaussian(pair.target)).unwrap();
            let careful = RowMap::new(careful.affine()).unwrap();
            for rows in [&source, &target, &fresh] {
                close(&moved(&map, rows), &moved(&careful, rows), 1e-9);
            }
            let found = span.measure(&spanned, &map, covariance).unwrap();
            same_quality(&found, &measure(&map, source.as_ref(), target.as_ref(), covariance).unwrap());
        }
    }

    #[test]
    fn principal_components_of_the_span_are_those_of_the_rows() {
        let (source, target) = (rows(17, 90, 1, 2.0), rows(23, 90, 2, -1.0));
        let pair =
            Pair { source: Rows::new(source.as_ref()).unwrap(), target: Rows::new(target.as_ref()).unwrap() };
        let span = Span::new(&pair).expect("more columns than rows");
        for (pooling, shift) in [(Pooling::Rows, Shift::Subspace), (Pooling::Classes, Shift::Full)] {
            let options = FitOptions { components: 3, pooling, shift, ..FitOptions::default() };
            let quick = pca_ot(&pair, Some(&span), &options).unwrap();
            let careful = pca_ot(&pair, None, &options).unwrap();
            close(&quick.axes.basis, &careful.axes.basis, 1e-9);
            close(&quick.axes.source, &careful.axes.source, 1e-9);
            close(&quick.axes.target, &careful.axes.target, 1e-9);
            let map = RowMap::new(quick.affine).unwrap();
            close(&moved(&map, &source), &moved(&RowMap::new(careful.affine).unwrap(), &source), 1e-9);
            let found = span.measure(&quick.spanned.expect("of the span"), &map, options.covariance).unwrap();
            same_quality(
                &found,
                &measure(&map, source.as_ref(), target.as_ref(), options.covariance).unwrap(),
            );
        }
    }

    #[test]
    fn a_mean_that_drowns_the_spread_is_left_to_the_careful_way() {
        let far = |seed| {
            let mut far = rows(12, 60, seed, 0.0);
            far.as_mut().col_iter_mut().for_each(|column| column.iter_mut().for_each(|x| *x += 1e7));
            far
        };
        let (source, target) = (far(1), far(2));
        let pair =
            Pair { source: Rows::new(source.as_ref()).unwrap(), target: Rows::new(target.as_ref()).unwrap() };
        assert!(Span::new(&pair).is_none());
    }
}
