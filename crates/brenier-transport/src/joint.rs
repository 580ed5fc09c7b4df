//! Two Gaussians in a basis of their joint span: what the maps between them are made from and measured by.

use crate::certificate::Optimality;
use crate::gaussian::bures_squared;
use crate::{Gaussian, TransportError};
use brenier_linalg::{
    JointBasis, LinalgError, ThinSvd, gram, joint_basis, product, product_with_transpose, relative_floor,
    squared_norm, squared_norm_of_gram, thin_svd,
};
use brenier_map::{Affine, Dense, LowRank};
use faer::{Mat, MatRef};

/// How many times the rounding of one sum the laws may be off, at a condition number of 1.
pub(crate) const TOLERANCE: f64 = 100.0;

/// Source and target, of one dimension `d`, and their factors in the coordinates of a basis `[d, r]` of their joint span.
pub(crate) struct Joint<'a> {
    source: &'a Gaussian,
    target: &'a Gaussian,
    pub basis: JointBasis,
    /// `[m, r]`.
    pub of_source: Mat<f64>,
    /// `[n, r]`.
    pub of_target: Mat<f64>,
}

impl<'a> Joint<'a> {
    pub(crate) fn of(source: &'a Gaussian, target: &'a Gaussian) -> Result<Self, TransportError> {
        source.same_width(target)?;
        let basis = joint_basis(source.factor(), target.factor())?;
        let (of_source, of_target) = (source.factor_in(&basis), target.factor_in(&basis));
        Ok(Self { source, target, basis, of_source, of_target })
    }

    /// `d - r`.
    pub(crate) fn rest(&self) -> f64 {
        (self.source.dim() - self.basis.rank) as f64
    }

    /// The longest sum in what is made of the two.
    pub(crate) fn longest(&self) -> usize {
        self.source.dim().max(self.of_source.nrows()).max(self.of_target.nrows())
    }

    /// What a map that pushes forward does outside the span. An isotropic source spreads the null space evenly; without one
    /// the null space cannot be moved but as a whole.
    pub(crate) fn scale(&self) -> f64 {
        let (e_s, e_t) = (self.source.isotropic(), self.target.isotropic());
        if e_s > 0.0 { (e_t / e_s).sqrt() } else { 1.0 }
    }

    /// The directions in which the source varies.
    pub(crate) fn range_of_source(&self) -> Result<Range, LinalgError> {
        Range::of(self.of_source.as_ref(), self.source.dim())
    }

    /// Measures a map `x -> m_t + A (x - m_s)`, which is `matrix` in the span, [`Self::scale`] times the identity outside
    /// it, and the identity off the `range` of the source: all of [`Optimality`] but its eigenvalues, the push-forward of
    /// the mean and the tolerance.
    pub(crate) fn measure(
        &self,
        matrix: MatRef<'_, f64>,
        range: &Range,
    ) -> Result<(Optimality, Sizes), TransportError> {
        let (of_source, of_target, axes) = (self.of_source.as_ref(), self.of_target.as_ref(), range.axes());
        let reached = product(of_target, axes);
        // Outside the span an isotropic source can be scaled to any isotropic target, and a flat one not at all.
        let (e_s, e_t, rest) = (self.source.isotropic(), self.target.isotropic(), self.rest());
        let outside = if e_s > 0.0 { rest * (e_s.sqrt() - e_t.sqrt()).powi(2) } else { 0.0 };
        let inside = squared_norm(reached.as_ref()) + if e_s > 0.0 { rest * e_t } else { 0.0 };
        let all = squared_norm(of_target) + rest * e_t;

        // A S_s A^T against S_t, both on the range of the source.
        let pushed = product(product_with_transpose(of_source, matrix).as_ref(), axes);
        let off = gram(pushed.as_ref().transpose()) - gram(reached.as_ref().transpose());
        let sizes = Sizes {
            source: squared_norm_of_gram(of_source).sqrt(),
            target: squared_norm_of_gram(of_target).sqrt(),
            cost: self.source.apart(self.target) + outside + squared_norm(of_source) + inside,
        };

        // The cost of moving, against the distance by the nuclear norm: two ways that share no decomposition.
        let mut step = matrix.transpose().to_owned();
        add_to_diagonal(&mut step, -1.0);
        let both = self.source.apart(self.target) + outside;
        let on_range = product_with_transpose(reached.as_ref(), axes);
        let optimality = Optimality {
            rank: range.kept,
            floored: self.basis.rank - range.kept,
            floor: range.floor,
            condition: range.condition(),
            push_forward_covariance: ratio(squared_norm(off.as_ref()).sqrt(), sizes.target),
            unreachable: ratio((all - inside).max(0.0), all),
            symmetry: asymmetry(matrix),
            transport_cost: squared_norm(product(of_source, step.as_ref()).as_ref()) + both,
            w2_squared: bures_squared(of_source, on_range.as_ref())? + both,
            ..Optimality::default()
        };
        Ok((optimality, sizes))
    }

    /// The map that is `matrix` in the span and `scale` times the identity outside it.
    pub(crate) fn map(self, scale: f64, matrix: Mat<f64>) -> JointMap {
        let (source_mean, target_mean) = (self.source.mean.clone(), self.target.mean.clone());
        JointMap { source_mean, target_mean, scale, basis: self.basis, matrix }
    }
}

/// What the laws of a map are relative to.
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
    /// Of a factor whose columns are coordinates of `d` dimensions.
    pub(crate) fn of(factor: MatRef<'_, f64>, d: usize) -> Result<Self, LinalgError> {
        let svd = thin_svd(factor)?;
        let largest = svd.values.first().copied().unwrap_or(0.0);
        let floor = relative_floor(d.max(factor.nrows()));
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

/// `T(x) = m_t + (c I + Q (A_r - c I) Q^T) (x - m_s)` with a basis `Q`, `[d, r]`.
#[derive(Debug, Clone)]
pub(crate) struct JointMap {
    source_mean: Vec<f64>,
    target_mean: Vec<f64>,
    scale: f64,
    basis: JointBasis,
    matrix: Mat<f64>,
}

impl JointMap {
    /// `A`, `[d, d]`.
    pub(crate) fn matrix(&self) -> Mat<f64> {
        let Some(vectors) = &self.basis.vectors else { return self.matrix.clone() };
        let mut out = product_with_transpose(self.correction(vectors).as_ref(), vectors.as_ref());
        add_to_diagonal(&mut out, self.scale);
        out
    }

    /// The map as a row operator: dense where the span is everything (`r = d`), else a multiple of the identity plus
    /// rank `r`.
    pub(crate) fn affine(&self) -> Affine {
        let (from, to) = (&self.source_mean, &self.target_mean);
        let Some(vectors) = &self.basis.vectors else {
            let moved = product(self.matrix.as_ref(), Mat::from_fn(from.len(), 1, |j, _| from[j]).as_ref());
            let bias = to.iter().enumerate().map(|(i, m)| m - moved[(i, 0)]).collect();
            return Affine::Dense(Dense { matrix: self.matrix.clone(), bias });
        };
        Affine::LowRank(LowRank {
            scale: self.scale,
            mean: from.clone(),
            offset: to.iter().zip(from).map(|(t, s)| t - self.scale * s).collect(),
            u: self.correction(vectors),
            v: vectors.clone(),
        })
    }

    /// `Q (A_r - c I)`, `[d, r]`.
    fn correction(&self, vectors: &Mat<f64>) -> Mat<f64> {
        let mut inner = self.matrix.clone();
        add_to_diagonal(&mut inner, -self.scale);
        product(vectors.as_ref(), inner.as_ref())
    }
}

/// The smallest and the largest.
pub(crate) fn extremes(values: &[f64]) -> [f64; 2] {
    values.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], &x| [low.min(x), high.max(x)])
}

/// `|A - A^T|_F / |A|_F`.
pub(crate) fn asymmetry(matrix: MatRef<'_, f64>) -> f64 {
    let off = matrix.to_owned() - matrix.transpose();
    ratio(squared_norm(off.as_ref()).sqrt(), squared_norm(matrix).sqrt())
}

/// `part / whole`, and `part` itself where there is no whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { part }
}

fn add_to_diagonal(matrix: &mut Mat<f64>, value: f64) {
    (0..matrix.nrows()).for_each(|i| matrix[(i, i)] += value);
}
