//! The optimal map between two Gaussians, and what makes it the optimal one.
//!
//! ```text
//! T(x) = m_t + A (x - m_s),   A = S_s^{-1/2} ( S_s^{1/2} S_t S_s^{1/2} )^{1/2} S_s^{-1/2}
//! ```

use crate::certificate::Optimality;
use crate::error::TransportError;
use crate::gaussian::{Gaussian, bures_squared};
use brenier_linalg::{
    JointBasis, LinalgError, ThinSvd, gram, joint_basis, product, product_with_transpose, reduce,
    relative_floor, squared_norm, squared_norm_of_gram, symmetric_eigenvalues, symmetrize, thin_svd,
};
use brenier_map::{Affine, Dense, LowRank, Symmetric};
use faer::{Mat, MatRef};

/// How many times the rounding of one sum the conditions may be off, at a condition number of 1.
pub(crate) const TOLERANCE: f64 = 100.0;

/// No condition may be off by more than this, whatever rounding can explain: what is known no better says nothing.
pub(crate) const LARGEST_TOLERANCE: f64 = 1e-2;

/// The optimal map between two Gaussians,
///
/// ```text
/// T(x) = m_t + A (x - m_s),   A = c I + Q (A_r - c I) Q^T,   c = sqrt(e_t / e_s)
/// ```
///
/// with `Q` (`[d, r]`) an orthonormal basis of the joint span of the two factors, and `A_r` the optimal map inside it.
#[derive(Debug, Clone)]
pub struct Monge {
    map: SpanMap,
    optimality: Optimality,
}

/// The optimal map from `source` to `target`, checked against every condition that makes it optimal.
///
/// In the basis `Q`, with `F_s = W diag(s) V^T` and `F_t V diag(s) = . diag(g) U^T` (two singular value
/// decompositions, so that no covariance is squared),
///
/// ```text
/// A_r = I + V ( diag(1/s) U diag(g) U^T diag(1/s) - I ) V^T
/// ```
///
/// which is the optimal map on the range of the source (`s^2` above `dim * eps` of the largest) and the identity on
/// its null space, where an optimal map does not exist. If both isotropic parts are zero, `c = 1`.
///
/// That no map is cheaper is shown by the nuclear norm of the factors' product.
///
/// # Errors
/// [`TransportError::Widths`]; [`TransportError::Certificate`] if the result is off by more than rounding explains, or by
/// more than 1e-2.
///
/// References: M. Knott & C. S. Smith, "On the optimal mapping of distributions", J. Optim. Theory Appl. 43, 1984;
/// G. Peyré & M. Cuturi, "Computational Optimal Transport", 2019, remark 2.31; C. Bouveyron & M. Corneli, 2026 (the
/// low-rank-plus-isotropic form).
pub fn monge(source: &Gaussian, target: &Gaussian) -> Result<Monge, TransportError> {
    let (between, basis) = Between::gaussians(source, target)?;
    let Optimal { matrix, optimality } = optimal(&between)?;
    let means = [source.mean.clone(), target.mean.clone()];
    Ok(Monge { map: SpanMap { basis: basis.vectors, means, scale: between.scale(), matrix }, optimality })
}

impl Monge {
    /// What was measured of the map.
    pub fn optimality(&self) -> &Optimality {
        &self.optimality
    }

    /// `A`, `[d, d]`: for small dimensions, such as the K coordinates of a PCA.
    pub fn matrix(&self) -> Mat<f64> {
        self.map.matrix()
    }

    /// The map as a row operator: dense where the span is everything (`r = d`), else a multiple of the identity plus
    /// rank `r`.
    pub fn affine(&self) -> Affine {
        self.map.clone().into_affine()
    }
}

/// An optimal map in the span of two Gaussians.
pub(crate) struct Optimal {
    /// `A_r`, `[r, r]`.
    pub matrix: Mat<f64>,
    pub optimality: Optimality,
}

/// The formula, and the conditions.
pub(crate) fn optimal(between: &Between) -> Result<Optimal, TransportError> {
    let range = between.range_of_source()?;
    let (inner, w2_squared) = (|| root_formula(between, &range), || between.w2_squared_within(&range));
    // One after the other where what each holds is as large as the rows.
    let is_small = 2 * between.rank() < between.dim;
    let (inner, w2_squared) = if is_small { rayon::join(inner, w2_squared) } else { (inner(), w2_squared()) };
    let (kept, inner, w2_squared) = (range.kept, inner?, w2_squared?);
    let eigenvalues = inner.clone();
    let mut matrix = range.beside_identity(inner);
    symmetrize(&mut matrix);
    let (measured, eigenvalues) = rayon::join(
        || between.measure(matrix.as_ref(), range, w2_squared),
        || symmetric_eigenvalues(eigenvalues.as_ref()),
    );
    let ((mut optimality, sizes), mut eigenvalues) = (measured, eigenvalues?);
    if kept < between.rank() {
        eigenvalues.push(1.0);
    }
    if between.rest() > 0.0 {
        eigenvalues.push(between.scale());
    }
    [optimality.min_eigenvalue, optimality.max_eigenvalue] = extremes(&eigenvalues);
    check(&mut optimality, between.longest(), &sizes)?;
    Ok(Optimal { matrix, optimality })
}

/// `diag(1/s) U diag(g) U^T diag(1/s)` along the axes of the source's range, `[kept, kept]`: a Gram matrix, exactly symmetric
/// and positive semi-definite.
fn root_formula(between: &Between, range: &Range) -> Result<Mat<f64>, LinalgError> {
    let s = range.deviations();
    let mut across = product(between.of_target.as_ref(), range.axes());
    for (column, s) in across.as_mut().col_iter_mut().zip(s) {
        column.iter_mut().for_each(|x| *x *= s);
    }
    let ThinSvd { values, right: mut half } = thin_svd(across.as_ref())?;
    drop(across);
    for (column, g) in half.as_mut().col_iter_mut().zip(values) {
        column.iter_mut().zip(s).for_each(|(x, s)| *x = *x * g.sqrt() / s);
    }
    Ok(gram(half.as_ref()))
}

/// Refuses a map whose conditions, as measured, are off by more than rounding explains; `dim` is the longest sum.
fn check(o: &mut Optimality, dim: usize, sizes: &Sizes) -> Result<(), TransportError> {
    // Singular values are known to eps * sqrt(condition); the constants cover sums over the dimension.
    o.tolerance = TOLERANCE * relative_floor(dim + 16) * o.condition.sqrt();
    // Beside an identity, A is known to eps and not to eps |A|; this is what that does to A S_s A.
    let beside = if o.floored > 0 {
        (o.max_eigenvalue * sizes.source / sizes.target.max(f64::MIN_POSITIVE)).max(1.0)
    } else {
        1.0
    };
    let smallest = if o.max_eigenvalue > 0.0 { (-o.min_eigenvalue / o.max_eigenvalue).max(0.0) } else { 0.0 };
    let cost = ratio((o.transport_cost - o.w2_squared).abs(), sizes.cost);
    refuse_beyond(&[
        ("A = A^T", o.symmetry, o.tolerance),
        ("A positive semi-definite", smallest, o.tolerance),
        ("A S_s A = S_t", o.push_forward_covariance, o.tolerance * beside),
        ("transport cost = W2^2", cost, o.tolerance),
    ])
}

/// Refuses what is off by more than is allowed, each `(condition, found, allowed)`.
pub(crate) fn refuse_beyond(conditions: &[(&'static str, f64, f64)]) -> Result<(), TransportError> {
    for &(law, found, allowed) in conditions {
        let allowed = allowed.min(LARGEST_TOLERANCE);
        if found.is_nan() || found > allowed {
            return Err(TransportError::Certificate { law, found, allowed });
        }
    }
    Ok(())
}

/// Source and target, of one dimension `d`, in the `r` coordinates of an orthonormal basis of their joint span.
#[derive(Debug, Clone)]
pub(crate) struct Between {
    /// A factor of the source's covariance, its isotropic part within: `[m, r]`, `m <= r` or the rows of its own factor.
    pub of_source: Mat<f64>,
    /// The target's.
    pub of_target: Mat<f64>,
    /// The isotropic parts of source and target.
    pub isotropic: [f64; 2],
    /// `|m_t - m_s|^2`.
    pub apart: f64,
    /// d.
    pub dim: usize,
}

impl Between {
    /// From two Gaussians in the coordinates.
    pub(crate) fn new(source: &Gaussian, target: &Gaussian, apart: f64, dim: usize) -> Self {
        let whole = |of: &Gaussian| {
            if of.isotropic == 0.0 {
                of.factor.clone()
            } else {
                reduce(of.with_isotropic(of.factor.as_ref()))
            }
        };
        Self {
            of_source: whole(source),
            of_target: whole(target),
            isotropic: [source.isotropic, target.isotropic],
            apart,
            dim,
        }
    }

    /// From two Gaussians in all dimensions; the basis found for them.
    pub(crate) fn gaussians(
        source: &Gaussian,
        target: &Gaussian,
    ) -> Result<(Self, JointBasis), TransportError> {
        source.same_width(target)?;
        let basis = joint_basis(source.factor(), target.factor())?;
        let inside = |of: &Gaussian| Gaussian {
            mean: Vec::new(),
            factor: reduce(of.plain_factor_in(&basis)),
            isotropic: of.isotropic,
        };
        Ok((Self::new(&inside(source), &inside(target), source.apart(target), source.dim()), basis))
    }

    /// r.
    pub(crate) fn rank(&self) -> usize {
        self.of_source.ncols()
    }

    /// `d - r`.
    pub(crate) fn rest(&self) -> f64 {
        (self.dim - self.rank()) as f64
    }

    /// The traces of the two covariances.
    pub(crate) fn traces(&self) -> [f64; 2] {
        let [e_s, e_t] = self.isotropic.map(|e| self.rest() * e);
        [squared_norm(self.of_source.as_ref()) + e_s, squared_norm(self.of_target.as_ref()) + e_t]
    }

    /// The longest sum in what is made of the two.
    pub(crate) fn longest(&self) -> usize {
        self.dim.max(self.of_source.nrows()).max(self.of_target.nrows())
    }

    /// What a map that pushes forward does outside the span. An isotropic source spreads the null space evenly; without one
    /// the null space cannot be moved but as a whole.
    pub(crate) fn scale(&self) -> f64 {
        let [e_s, e_t] = self.isotropic;
        if e_s > 0.0 { (e_t / e_s).sqrt() } else { 1.0 }
    }

    /// The directions in which the source varies.
    pub(crate) fn range_of_source(&self) -> Result<Range, LinalgError> {
        Range::of(self.of_source.as_ref(), self.dim, 0.0)
    }

    /// W2^2 between the source and the reachable part of the target, by the nuclear norm: a way that shares no decomposition
    /// with the map but that of the source.
    pub(crate) fn w2_squared_within(&self, range: &Range) -> Result<f64, LinalgError> {
        let reached = product(self.of_target.as_ref(), range.axes());
        let on_range = product_with_transpose(reached.as_ref(), range.axes());
        drop(reached);
        Ok(self.apart + self.outside() + bures_squared(self.of_source.as_ref(), on_range.as_ref())?)
    }

    /// The squared distance outside the span: there an isotropic source can be scaled to any isotropic target, and a flat
    /// one not at all.
    fn outside(&self) -> f64 {
        let [e_s, e_t] = self.isotropic;
        if e_s > 0.0 { self.rest() * (e_s.sqrt() - e_t.sqrt()).powi(2) } else { 0.0 }
    }

    /// Measures a map `x -> m_t + A (x - m_s)`, which is `matrix` in the span, [`Self::scale`] times the identity outside
    /// it, and the identity off the `range` of the source: all of [`Optimality`] but its eigenvalues, what concerns the
    /// returned operator, and the tolerance. `w2_squared`: [`Self::w2_squared_within`]. The range is used up.
    pub(crate) fn measure(
        &self,
        matrix: MatRef<'_, f64>,
        range: Range,
        w2_squared: f64,
    ) -> (Optimality, Sizes) {
        let (of_source, of_target, axes) = (self.of_source.as_ref(), self.of_target.as_ref(), range.axes());
        let reached = product(of_target, axes);
        let ([e_s, e_t], rest, outside) = (self.isotropic, self.rest(), self.outside());
        let inside = squared_norm(reached.as_ref()) + if e_s > 0.0 { rest * e_t } else { 0.0 };
        let all = squared_norm(of_target) + rest * e_t;

        // A S_s A^T against S_t, both on the range of the source.
        let mut off = {
            let pushed = product(product_with_transpose(of_source, matrix).as_ref(), axes);
            gram(pushed.as_ref().transpose())
        };
        off -= gram(reached.as_ref().transpose());
        let broken = squared_norm(off.as_ref()).sqrt();
        drop(off);
        let sizes = Sizes {
            source: squared_norm_of_gram(of_source).sqrt(),
            target: squared_norm_of_gram(of_target).sqrt(),
            cost: self.apart + outside + squared_norm(of_source) + inside,
        };

        let (rank, floor, condition) = (range.kept, range.floor, range.condition());
        drop((reached, range));

        let mut step = matrix.transpose().to_owned();
        add_to_diagonal(&mut step, -1.0);
        let moving = squared_norm(product(of_source, step.as_ref()).as_ref());
        let optimality = Optimality {
            rank,
            floored: self.rank() - rank,
            floor,
            condition,
            push_forward_covariance: ratio(broken, sizes.target),
            unreachable: ratio((all - inside).max(0.0), all),
            symmetry: asymmetry(matrix),
            transport_cost: self.apart + outside + moving,
            w2_squared,
            ..Optimality::default()
        };
        (optimality, sizes)
    }
}

/// What the conditions of a map are relative to.
pub(crate) struct Sizes {
    /// `|S_s|_F` and `|S_t|_F` in the span.
    pub source: f64,
    pub target: f64,
    /// The sum of what the cost is a difference of.
    pub cost: f64,
}

/// The row space of a factor, as far as it stands above the floor.
pub(crate) struct Range {
    pub svd: ThinSvd,
    /// Its dimension.
    pub kept: usize,
    /// Relative to the largest square.
    pub floor: f64,
}

impl Range {
    /// Of a factor whose columns are coordinates of `d` dimensions. A square of at most `noise` counts as zero too.
    pub(crate) fn of(factor: MatRef<'_, f64>, d: usize, noise: f64) -> Result<Self, LinalgError> {
        let svd = thin_svd(factor)?;
        let largest = svd.values.first().copied().unwrap_or(0.0);
        let mut floor = relative_floor(d.max(factor.nrows()));
        if noise > floor * largest * largest {
            floor = noise / (largest * largest);
        }
        let kept = svd.values.iter().take_while(|&&s| s > 0.0 && s * s > floor * largest * largest).count();
        Ok(Self { svd, kept, floor })
    }

    /// Its axes, `[r, kept]`.
    pub(crate) fn axes(&self) -> MatRef<'_, f64> {
        self.svd.right.as_ref().subcols(0, self.kept)
    }

    /// Standard deviations along them, `[kept]`.
    pub(crate) fn deviations(&self) -> &[f64] {
        &self.svd.values[..self.kept]
    }

    /// The largest variance over the smallest.
    pub(crate) fn condition(&self) -> f64 {
        let of = self.deviations();
        if let [.., smallest] = of { (of[0] / smallest).powi(2) } else { 1.0 }
    }

    /// `inner`, `[kept, kept]`, along the axes and the identity on what is orthogonal to them, by way of
    /// `I + V (. - I) V^T`; where nothing is, there is no need to lose digits of a small `inner` beside `I`. `[r, r]`.
    pub(crate) fn beside_identity(&self, mut inner: Mat<f64>) -> Mat<f64> {
        let axes = self.axes();
        let whole = self.kept == axes.nrows();
        if !whole {
            add_to_diagonal(&mut inner, -1.0);
        }
        let mut matrix = product_with_transpose(product(axes, inner.as_ref()).as_ref(), axes);
        if !whole {
            add_to_diagonal(&mut matrix, 1.0);
        }
        matrix
    }
}

/// `T(x) = m_t + (c I + Q (A_r - c I) Q^T) (x - m_s)`.
#[derive(Debug, Clone)]
pub(crate) struct SpanMap {
    /// `Q`, `[d, r]`; none for all coordinates.
    pub basis: Option<Mat<f64>>,
    /// `m_s` and `m_t`, `[d]`.
    pub means: [Vec<f64>; 2],
    /// c.
    pub scale: f64,
    /// `A_r`, `[r, r]`.
    pub matrix: Mat<f64>,
}

impl SpanMap {
    /// `A`, `[d, d]`.
    pub(crate) fn matrix(&self) -> Mat<f64> {
        let Some(basis) = &self.basis else { return self.matrix.clone() };
        let mut core = self.matrix.clone();
        add_to_diagonal(&mut core, -self.scale);
        let mut out = product_with_transpose(product(basis.as_ref(), core.as_ref()).as_ref(), basis.as_ref());
        add_to_diagonal(&mut out, self.scale);
        out
    }

    /// The map as a row operator: dense where the span is everything, else a multiple of the identity plus rank `r`.
    pub(crate) fn into_affine(self) -> Affine {
        let Self { basis, means: [from, to], scale, mut matrix } = self;
        let Some(basis) = basis else {
            let moved = product(matrix.as_ref(), Mat::from_fn(from.len(), 1, |j, _| from[j]).as_ref());
            let bias = to.iter().enumerate().map(|(i, m)| m - moved[(i, 0)]).collect();
            return Affine::Dense(Dense { matrix, bias });
        };
        let offset = to.iter().zip(&from).map(|(t, s)| t - scale * s).collect();
        add_to_diagonal(&mut matrix, -scale);
        if matrix == matrix.transpose() {
            return Affine::Symmetric(Symmetric { scale, mean: from, offset, basis, core: matrix });
        }
        let u = product(basis.as_ref(), matrix.as_ref());
        Affine::LowRank(LowRank { scale, mean: from, offset, u, v: basis })
    }
}

/// The smallest and the largest.
pub(crate) fn extremes(values: &[f64]) -> [f64; 2] {
    values.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], &x| [low.min(x), high.max(x)])
}

/// `|A - A^T|_F / |A|_F`.
pub(crate) fn asymmetry(matrix: MatRef<'_, f64>) -> f64 {
    let half: f64 = (0..matrix.ncols())
        .map(|j| (0..j).map(|i| (matrix[(i, j)] - matrix[(j, i)]).powi(2)).sum::<f64>())
        .sum();
    ratio((2.0 * half).sqrt(), squared_norm(matrix).sqrt())
}

/// `part / whole`, and `part` itself where there is no whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { part }
}

pub(crate) fn add_to_diagonal(matrix: &mut Mat<f64>, value: f64) {
    (0..matrix.nrows()).for_each(|i| matrix[(i, i)] += value);
}
