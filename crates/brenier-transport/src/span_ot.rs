//! The optimal map between two empirical Gaussians in the coordinates of their rows ([`Span`]): the same map as
//! [`monge`](crate::monge()), with no decomposition larger than the number of rows and no pass over `d` but the Gram
//! matrix and one lift of the directions.

use crate::certificate::Optimality;
use crate::joint::add_to_diagonal;
use crate::monge::check_laws;
use crate::span::{Span, Spanned, contrasted, contrasts_of_rows, entrywise, trace};
use crate::span_measure::Moved;
use crate::{Covariance, FitOptions, TransportError};
use brenier_linalg::{
    cholesky, dot, extreme_eigenvalues, geometric_mean, gram, lower_inverse, nuclear_norm, product,
    product_with_transpose, relative_floor, singular_values, squared_norm, symmetric_eigen,
    symmetric_eigenvalues, thin_svd,
};
use brenier_map::Symmetric;
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Mat, MatRef, Par};

/// Smallest share of the largest singular value of a product of roots, `S_t^{1/2} S_s^{1/2}`, that is known well enough:
/// to 1e-7.
const SMALLEST_ROOT: f64 = 1e-9;

/// A fitted map.
pub(crate) struct SpanOt {
    pub map: Symmetric,
    /// What it does to the rows.
    pub moved: Moved,
    pub optimality: Optimality,
    /// Shrinkage intensities of source and target.
    pub shrinkage: [f64; 2],
}

/// The optimal map between `N(m, (1 - a) S + e I)` of both sides, `e = a tr S / d + reg`, with the shrinkage `a` and the
/// regulariser that the options ask for. None where this route would cost digits, and [`monge`](crate::monge()) has to be
/// taken.
///
/// # Errors
/// As [`monge`](crate::monge()).
pub(crate) fn span_ot(span: &Span<'_>, options: &FitOptions) -> Result<Option<SpanOt>, TransportError> {
    let ((n_s, n_t), (of_source, of_target, _)) = (span.counts(), span.blocks());
    let (covariance, d) = (options.covariance, span.source_mean.len());
    let classes = [(of_source, covariance.divisor(n_s)), (of_target, covariance.divisor(n_t))];
    let mut shrinkage = [0.0; 2];
    let mut isotropic = [options.reg_abs.unwrap_or(0.0); 2];
    // What the sums of squares of each class are divided by, so that they make up what is kept of its covariance.
    let mut divisors = [0.0; 2];
    for (k, (block, divisor)) in classes.into_iter().enumerate() {
        shrinkage[k] = options.shrinkage.intensity_of_gram(block, d)?;
        isotropic[k] += shrinkage[k] * trace(block) / (divisor * d as f64);
        divisors[k] = divisor / (1.0 - shrinkage[k]);
    }
    let made = if isotropic == [0.0, 0.0] {
        singular(span, covariance)?
    } else if isotropic.iter().all(|&e| e > 0.0) && divisors.iter().all(|divisor| divisor.is_finite()) {
        regular(span, covariance, divisors, isotropic)?
    } else {
        None
    };
    Ok(made.map(|made| SpanOt { shrinkage, ..made }))
}

/// Between the empirical covariances themselves. On the range of the source, spanned by `V = F_s^T W / s` from
/// `F_s F_s^T = W diag(s^2) W^T`,
///
/// ```text
/// A = I + V (B - I) V^T,   B = diag(1/s) U diag(g) U^T diag(1/s),   F_t V diag(s) = . diag(g) U^T
/// ```
fn singular(span: &Span<'_>, covariance: Covariance) -> Result<Option<SpanOt>, TransportError> {
    let (n_s, n_t) = span.counts();
    let n = n_s + n_t;
    let d = span.source_mean.len();
    let (of_source, of_target, across) = span.blocks();
    let (root_s, root_t) = (covariance.divisor(n_s).sqrt(), covariance.divisor(n_t).sqrt());

    let eigen = symmetric_eigen(of_source)?;
    let largest = eigen.values.first().copied().unwrap_or(0.0);
    let floor = relative_floor(d);
    let kept = eigen.values.iter().take_while(|&&value| value > floor * largest).count();
    if kept == 0 || !span.resolves(eigen.values[kept - 1]) {
        return Ok(None);
    }
    let w = eigen.vectors.as_ref().subcols(0, kept);
    let s: Vec<f64> = eigen.values[..kept].iter().map(|value| value.sqrt() / root_s).collect();

    // F_t V diag(s) and F_t V, `[n_t, kept]`.
    let scaled = product(across, w);
    let scaled = Mat::from_fn(n_t, kept, |i, j| scaled[(i, j)] / (root_s * root_t));
    let reached = Mat::from_fn(n_t, kept, |i, j| scaled[(i, j)] / s[j]);
    let middle = thin_svd(scaled.as_ref())?;
    let half =
        Mat::from_fn(kept, middle.values.len(), |i, j| middle.right[(i, j)] * middle.values[j].sqrt() / s[i]);
    let inner = gram(half.as_ref());
    // In the eigenbasis of B the directions that are read and those that are written are the same, but for a factor.
    let own = symmetric_eigen(inner.as_ref())?;

    let axes = product(w, Mat::from_fn(kept, kept, |i, j| own.vectors[(i, j)] / (s[i] * root_s)).as_ref());
    let axes = Mat::from_fn(n + 1, kept, |i, j| if i < n_s { axes[(i, j)] } else { 0.0 });
    let gain: Vec<f64> = own.values.iter().map(|value| value - 1.0).collect();
    let (v, laws) = rayon::join(
        || span.lift(axes.as_ref()),
        || {
            let mut o = Optimality {
                rank: kept,
                floored: outside(span, w, &eigen.values[..kept])?,
                floor,
                condition: eigen.values[0] / eigen.values[kept - 1],
                ..Optimality::default()
            };
            let mut values = own.values.clone();
            if kept < d {
                values.push(1.0);
            }
            o.min_eigenvalue = values.iter().copied().fold(f64::INFINITY, f64::min);
            o.max_eigenvalue = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // A S_s A against S_t, both on the range of the source.
            let pushed = Mat::from_fn(kept, kept, |i, j| s[i] * inner[(i, j)]);
            let got = gram(pushed.as_ref().transpose());
            let want = gram(reached.as_ref().transpose());
            let size = squared_norm(of_target).sqrt() / (root_t * root_t);
            let off = squared_norm((&got - &want).as_ref()).sqrt();
            // The cost of moving, against the distance by the nuclear norm.
            let step =
                Mat::from_fn(kept, kept, |i, j| s[i] * (inner[(i, j)] - if i == j { 1.0 } else { 0.0 }));
            let gap = span.gram[(n, n)];
            let (from, to) = (s.iter().map(|s| s * s).sum::<f64>(), squared_norm(reached.as_ref()));
            let nuclear: f64 = singular_values(scaled.as_ref().transpose())?.iter().sum();
            let all = (0..n_t).map(|i| of_target[(i, i)]).sum::<f64>() / (root_t * root_t);
            o.push_forward_covariance = if size > 0.0 { off / size } else { off };
            o.unreachable = if all > 0.0 { ((all - to) / all).max(0.0) } else { 0.0 };
            o.transport_cost = squared_norm(step.as_ref()) + gap;
            o.w2_squared = (from + to - 2.0 * nuclear).max(0.0) + gap;
            check_laws(
                &mut o,
                d.max(n),
                size,
                squared_norm(of_source).sqrt() / (root_s * root_s),
                from + to + gap,
            )?;
            let written = columns_times(&axes, &gain);
            let spanned = Spanned::new(span, span.gap(), written.as_ref(), axes.as_ref());
            Ok::<_, TransportError>((o, span.measure(&spanned, None, covariance)?))
        },
    );
    let (optimality, moved) = laws?;
    let map = span.symmetric(1.0, v, Mat::from_fn(kept, kept, |i, j| if i == j { gain[i] } else { 0.0 }));
    Ok(Some(SpanOt { map, moved, optimality, shrinkage: [0.0, 0.0] }))
}

/// How many directions of the target lie outside the range of the source: the rank of what is left of its Gram matrix.
fn outside(span: &Span<'_>, w: MatRef<'_, f64>, values: &[f64]) -> Result<usize, TransportError> {
    let (_, of_target, across) = span.blocks();
    let inside = product(across, w);
    let inside = Mat::from_fn(inside.nrows(), inside.ncols(), |i, j| inside[(i, j)] / values[j].sqrt());
    let left = of_target - gram(inside.as_ref());
    let whole = (0..of_target.nrows()).map(|i| of_target[(i, i)]).fold(0.0, f64::max);
    let floor = relative_floor(span.source_mean.len()) * whole * of_target.nrows() as f64;
    Ok(symmetric_eigenvalues(left.as_ref())?.iter().take_while(|&&value| value > floor).count())
}

/// Between `c_s S_s + e_s I` and `c_t S_t + e_t I`, where `c S` is the scatter of a class over its `div`. An orthonormal
/// basis `Q` of the joint span comes from a Cholesky factor of the Gram matrix, in which the source varies in the leading
/// directions alone; with the covariances in it, `[r, r]`,
///
/// ```text
/// A = c I + Q (A_r - c I) Q^T,   A_r S_s A_r = S_t,   c = sqrt(e_t / e_s)
/// ```
fn regular(
    span: &Span<'_>,
    covariance: Covariance,
    [div_s, div_t]: [f64; 2],
    [e_s, e_t]: [f64; 2],
) -> Result<Option<SpanOt>, TransportError> {
    let (n_s, n_t) = span.counts();
    let d = span.source_mean.len();
    if n_s < 2 || n_t < 2 {
        return Ok(None);
    }
    let (a, r) = (n_s - 1, n_s + n_t - 2);
    // The Gram matrix of n - 1 combinations of each class, orthonormal and orthogonal to its mean: its lower triangle.
    let (of_source, of_target, across) = span.blocks();
    let mut small = Mat::zeros(r, r);
    for (block, row, column, divisor) in
        [(of_source, 0, 0, div_s), (of_target, a, a, div_t), (across, a, 0, (div_s * div_t).sqrt())]
    {
        let part = contrasted(block);
        for j in 0..part.ncols() {
            for (i, entry) in part.col_as_slice(j).iter().enumerate() {
                small[(row + i, column + j)] = entry / divisor;
            }
        }
    }
    let Some(l) = cholesky(small) else { return Ok(None) };
    let pivot = (0..r).map(|i| l[(i, i)] * l[(i, i)]).fold(f64::INFINITY, f64::min);
    if !span.resolves(pivot * div_s.min(div_t)) {
        return Ok(None);
    }
    let roots = [div_s.sqrt(), div_t.sqrt()];
    let (q, inside) = rayon::join(
        || span.lift_triangular(roots, lower_inverse(&l).transpose()),
        || inside(l.as_ref(), a, [e_s, e_t]),
    );
    let Some(inside) = inside else { return Ok(None) };
    let scale = (e_t / e_s).sqrt();
    let (laws, moved) = rayon::join(
        || inside.prove(d, scale, [e_s, e_t], span.gap_squared()),
        || moved(span, l.as_ref(), inside.matrix.as_ref(), scale, roots, covariance),
    );
    let mut core = inside.matrix;
    add_to_diagonal(&mut core, -scale);
    Ok(Some(SpanOt {
        map: span.symmetric(scale, q, core),
        moved: moved?,
        optimality: laws?,
        shrinkage: [0.0, 0.0],
    }))
}

/// What the map of `regular` does to the rows, which the rows of `L`, over their roots, are in its basis.
fn moved(
    span: &Span<'_>,
    l: MatRef<'_, f64>,
    a_r: MatRef<'_, f64>,
    scale: f64,
    roots: [f64; 2],
    covariance: Covariance,
) -> Result<Moved, TransportError> {
    let ((n_s, n_t), n) = (span.counts(), span.rows());
    let a = n_s - 1;
    let (source, target) = l.split_at_row(a);
    // Source rows vary in the leading directions alone.
    let source = source.subcols(0, a);
    let source_moved = product(source, a_r.subrows(0, a));
    let step = |rows: MatRef<'_, f64>, moved: &Mat<f64>, root: f64, count: usize| {
        let mut step = moved.clone();
        step.as_mut().subcols_mut(0, rows.ncols()).col_iter_mut().zip(rows.col_iter()).for_each(
            |(step, row)| {
                step.iter_mut().zip(row.iter()).for_each(|(step, x)| *step -= x);
            },
        );
        squared_norm(step.as_ref()) * root * root / count as f64
    };
    // T(y) - y = (A - I)(y - m_t) + A (m_t - m_s); the gap in the basis by its inner products with the contrasts.
    let with_gap = span.gram.as_ref().submatrix(0, n, n, 1);
    let (with_source, with_target) = with_gap.split_at_row(n_s);
    let mut gap = Mat::zeros(l.nrows(), 1);
    for (part, first, root) in [(with_source, 0, roots[0]), (with_target, a, roots[1])] {
        for (i, x) in contrasts_of_rows(part).col_as_slice(0).iter().enumerate() {
            gap[(first + i, 0)] = x / root;
        }
    }
    solve_lower_triangular_in_place(l, gap.as_mut(), Par::Seq);
    let outside = (span.gap_squared() - squared_norm(gap.as_ref())).max(0.0);
    let gap_moved = squared_norm(product(a_r, gap.as_ref()).as_ref()) + scale * scale * outside;
    let source_step = step(source, &source_moved, roots[0], n_s) + span.gap_squared();
    let (nuclear, target_step) = rayon::join(
        || nuclear_norm(product_with_transpose(target, source_moved.as_ref()).as_ref()),
        || step(target, &product(target, a_r), roots[1], n_t) + gap_moved,
    );
    let spread = squared_norm(source_moved.as_ref()) * roots[0] * roots[0];
    Ok(Moved {
        w2_after: span.w2(0.0, spread, nuclear? * roots[0] * roots[1], covariance),
        source_step: source_step.sqrt(),
        target_step: target_step.sqrt(),
        gate: None,
    })
}

/// The optimal map inside the joint span.
struct Inside {
    /// `A_r`, `[r, r]`.
    matrix: Mat<f64>,
    root: Root,
    /// `F_t`, `[n_t - 1, r]`.
    target: Mat<f64>,
    /// `S_t = F_t^T F_t + e_t I`, `[r, r]`.
    covariance: Mat<f64>,
}

fn inside(l: MatRef<'_, f64>, a: usize, [e_s, e_t]: [f64; 2]) -> Option<Inside> {
    let r = l.nrows();
    let mut of_source = gram(l.submatrix(0, 0, a, a).transpose());
    let mut source = Mat::zeros(r, r);
    add_to_diagonal(&mut of_source, e_s);
    source.as_mut().submatrix_mut(0, 0, a, a).copy_from(&of_source);
    for i in a..r {
        source[(i, i)] = e_s;
    }
    let target = l.subrows(a, r - a).to_owned();
    let mut covariance = gram(target.as_ref().transpose());
    add_to_diagonal(&mut covariance, e_t);
    // The squares of the singular values add up to tr(S_s S_t), and the least of them is e_s e_t or more.
    let largest = entrywise(source.as_ref(), covariance.as_ref());
    if e_s * e_t < SMALLEST_ROOT * SMALLEST_ROOT * largest {
        return None;
    }
    let root = Root { c: cholesky(of_source)?, isotropic: e_s.sqrt() };
    let matrix = geometric_mean(source, covariance.clone(), [e_s, e_t])?;
    Some(Inside { matrix, root, target, covariance })
}

/// `N_s = diag(C, sqrt(e_s) I)`, `[r, r]`, lower triangular, `N_s N_s^T = S_s`.
struct Root {
    /// `[a, a]`.
    c: Mat<f64>,
    isotropic: f64,
}

impl Root {
    /// `M N_s`, `[m, r]`.
    fn times_from_right(&self, left: MatRef<'_, f64>) -> Mat<f64> {
        let a = self.c.nrows();
        let mut out = left.to_owned();
        out.as_mut().subcols_mut(0, a).copy_from(product(left.subcols(0, a), self.c.as_ref()));
        for j in a..left.ncols() {
            out.col_as_slice_mut(j).iter_mut().for_each(|x| *x *= self.isotropic);
        }
        out
    }

    /// `M - N_s` in place of `M`, `[r, r]`; gives `<M, N_s>` and `|N_s|_F^2`.
    fn taken_from(&self, matrix: &mut Mat<f64>) -> (f64, f64) {
        let (a, r) = (self.c.nrows(), matrix.nrows());
        let (mut along, mut square) = (0.0, 0.0);
        for j in 0..r {
            let isotropic = [self.isotropic];
            let (own, from) = if j < a { (self.c.col_as_slice(j), 0) } else { (&isotropic[..], j) };
            let other = &mut matrix.col_as_slice_mut(j)[from..from + own.len()];
            along += dot(own, other);
            square += dot(own, own);
            other.iter_mut().zip(own).for_each(|(x, own)| *x -= own);
        }
        (along, square)
    }
}

impl Inside {
    /// The laws of an optimal map. That no map is cheaper is shown by duality, which holds for any positive definite A
    /// and needs no decomposition of the fit:
    ///
    /// ```text
    /// W2^2 >= |m_t - m_s|^2 + tr S_s + tr S_t - tr(A S_s) - tr(A^{-1} S_t)
    /// ```
    fn prove(
        &self,
        d: usize,
        scale: f64,
        [e_s, e_t]: [f64; 2],
        gap: f64,
    ) -> Result<Optimality, TransportError> {
        let (r, a) = (self.matrix.nrows(), self.root.c.nrows());
        let rest = (d - r) as f64;
        let outside = rest * (e_s.sqrt() - e_t.sqrt()).powi(2);
        let size = squared_norm(self.covariance.as_ref()).sqrt();
        let ((values, of_source), (backward, (mut o, from, forward))) = rayon::join(
            || {
                let of_source = || extreme_eigenvalues(gram(self.root.c.as_ref()).as_ref());
                rayon::join(|| extreme_eigenvalues(self.matrix.as_ref()), of_source)
            },
            // tr(A S_s) = <A N, N>; tr(A^{-1} S_t) by a Cholesky factor of A, which proves that it is positive too.
            || {
                rayon::join(
                    || {
                        let inverse = lower_inverse(&cholesky(self.matrix.clone())?);
                        let of_target = product_with_transpose(inverse.as_ref(), self.target.as_ref());
                        Some(squared_norm(of_target.as_ref()) + e_t * squared_norm(inverse.as_ref()))
                    },
                    || {
                        let mut pushed = self.root.times_from_right(self.matrix.as_ref());
                        let mut off = gram(pushed.as_ref());
                        off -= &self.covariance;
                        let off = squared_norm(off.as_ref()).sqrt();
                        let (forward, from) = self.root.taken_from(&mut pushed);
                        let o = Optimality {
                            rank: r,
                            floor: relative_floor(d),
                            push_forward_covariance: if size > 0.0 { off / size } else { off },
                            transport_cost: squared_norm(pushed.as_ref()) + gap + outside,
                            ..Optimality::default()
                        };
                        (o, from, forward)
                    },
                )
            },
        );
        let to = squared_norm(self.target.as_ref()) + r as f64 * e_t;
        let bures = from + to - forward - backward.unwrap_or(f64::INFINITY);
        o.w2_squared = bures.max(0.0) + gap + outside;
        let ([least, most], [least_of_source, most_of_source]) = (values?, of_source?);
        o.condition = most_of_source / e_s.min(least_of_source);
        o.min_eigenvalue = least.min(if r < d { scale } else { f64::INFINITY });
        o.max_eigenvalue = most.max(if r < d { scale } else { 0.0 });
        check_laws(&mut o, d.max(r + a), size, size, from + to + gap + outside + rest * e_t)?;
        Ok(o)
    }
}

fn columns_times(columns: &Mat<f64>, by: &[f64]) -> Mat<f64> {
    let mut out = columns.clone();
    for (j, by) in by.iter().enumerate() {
        out.col_as_slice_mut(j).iter_mut().for_each(|x| *x *= by);
    }
    out
}
