//! Two Gaussians in a basis of their joint span: what the maps between them are made from and measured by.

use crate::certificate::Optimality;
use crate::gaussian::{bures_squared, scaled};
use crate::span_measure::Moved;
use crate::{Gaussian, Quality, TransportError};
use brenier_linalg::{
    JointBasis, LinalgError, ThinSvd, effective_rank, gram, joint_basis, product, product_with_transpose,
    reduce, relative_floor, squared_norm, squared_norm_of_gram, thin_svd, transpose_product,
};
use brenier_map::{Affine, Dense, LowRank, Symmetric};
use faer::{Mat, MatRef};

/// How many times the rounding of one sum the laws may be off, at a condition number of 1.
pub(crate) const TOLERANCE: f64 = 100.0;

/// Source and target, of one dimension `d`, in the coordinates of a basis `[d, r]` of their joint span. Their factors, as
/// large as the rows they come from, need not outlive it.
#[derive(Debug, Clone)]
pub(crate) struct Joint {
    source_mean: Vec<f64>,
    target_mean: Vec<f64>,
    /// The isotropic parts of source and target.
    pub isotropic: [f64; 2],
    pub basis: JointBasis,
    /// A factor of the source's covariance, its isotropic part within: `[m, r]`, `m <= r` or the rows of its own factor.
    pub of_source: Mat<f64>,
    /// The same of the target.
    pub of_target: Mat<f64>,
    /// The same without isotropic parts, of those that have any.
    plain: [Option<Mat<f64>>; 2],
}

impl Joint {
    pub(crate) fn of(source: &Gaussian, target: &Gaussian) -> Result<Self, TransportError> {
        source.same_width(target)?;
        let basis = joint_basis(source.factor(), target.factor())?;
        let part = |of: &Gaussian| {
            let plain = reduce(of.plain_factor_in(&basis));
            if of.isotropic() == 0.0 {
                return (plain, None);
            }
            (reduce(of.with_isotropic(plain.as_ref())), Some(plain))
        };
        let ((of_source, plain_source), (of_target, plain_target)) = (part(source), part(target));
        Ok(Self {
            source_mean: source.mean.clone(),
            target_mean: target.mean.clone(),
            isotropic: [source.isotropic(), target.isotropic()],
            basis,
            of_source,
            of_target,
            plain: [plain_source, plain_target],
        })
    }

    pub(crate) fn dim(&self) -> usize {
        self.source_mean.len()
    }

    /// `d - r`.
    pub(crate) fn rest(&self) -> f64 {
        (self.dim() - self.basis.rank) as f64
    }

    /// The traces of the two covariances.
    pub(crate) fn traces(&self) -> [f64; 2] {
        let [e_s, e_t] = self.isotropic.map(|e| self.rest() * e);
        [squared_norm(self.of_source.as_ref()) + e_s, squared_norm(self.of_target.as_ref()) + e_t]
    }

    /// The squared distance of the two means.
    pub(crate) fn apart(&self) -> f64 {
        squared_norm(self.gap().as_ref())
    }

    /// `m_t - m_s`, `[d, 1]`.
    fn gap(&self) -> Mat<f64> {
        Mat::from_fn(self.dim(), 1, |j, _| self.target_mean[j] - self.source_mean[j])
    }

    /// The longest sum in what is made of the two.
    pub(crate) fn longest(&self) -> usize {
        self.dim().max(self.of_source.nrows()).max(self.of_target.nrows())
    }

    /// What a map that pushes forward does outside the span. An isotropic source spreads the null space evenly; without one
    /// the null space cannot be moved but as a whole.
    pub(crate) fn scale(&self) -> f64 {
        let [e_s, e_t] = self.isotropic;
        if e_s > 0.0 { (e_t / e_s).sqrt() } else { 1.0 }
    }

    /// The directions in which the source varies.
    pub(crate) fn range_of_source(&self) -> Result<Range, LinalgError> {
        Range::of(self.of_source.as_ref(), self.dim(), 0.0)
    }

    /// Measures a map `x -> m_t + A (x - m_s)`, which is `matrix` in the span, [`Self::scale`] times the identity outside
    /// it, and the identity off the `range` of the source: all of [`Optimality`] but its eigenvalues, the push-forward of
    /// the mean and the tolerance. The range is used up, and nothing as large as the rows is kept for longer than it is
    /// needed.
    pub(crate) fn measure(
        &self,
        matrix: MatRef<'_, f64>,
        range: Range,
    ) -> Result<(Optimality, Sizes), TransportError> {
        let (of_source, of_target, axes) = (self.of_source.as_ref(), self.of_target.as_ref(), range.axes());
        let reached = product(of_target, axes);
        // Outside the span an isotropic source can be scaled to any isotropic target, and a flat one not at all.
        let ([e_s, e_t], rest) = (self.isotropic, self.rest());
        let outside = if e_s > 0.0 { rest * (e_s.sqrt() - e_t.sqrt()).powi(2) } else { 0.0 };
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
            cost: self.apart() + outside + squared_norm(of_source) + inside,
        };

        let on_range = product_with_transpose(reached.as_ref(), axes);
        let (rank, floor, condition) = (range.kept, range.floor, range.condition());
        drop((reached, range));

        // The cost of moving, against the distance by the nuclear norm: two ways that share no decomposition.
        let both = self.apart() + outside;
        let moving = {
            let mut step = matrix.transpose().to_owned();
            add_to_diagonal(&mut step, -1.0);
            squared_norm(product(of_source, step.as_ref()).as_ref())
        };
        let optimality = Optimality {
            rank,
            floored: self.basis.rank - rank,
            floor,
            condition,
            push_forward_covariance: ratio(broken, sizes.target),
            unreachable: ratio((all - inside).max(0.0), all),
            symmetry: asymmetry(matrix),
            transport_cost: moving + both,
            w2_squared: bures_squared(of_source, on_range.as_ref())? + both,
            ..Optimality::default()
        };
        Ok((optimality, sizes))
    }

    /// The map that is `matrix` in the span and `scale` times the identity outside it.
    pub(crate) fn map(self, scale: f64, matrix: Mat<f64>) -> JointMap {
        JointMap { joint: self, scale, matrix }
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

/// `T(x) = m_t + (c I + Q (A_r - c I) Q^T) (x - m_s)` with a basis `Q`, `[d, r]`.
#[derive(Debug, Clone)]
pub(crate) struct JointMap {
    joint: Joint,
    scale: f64,
    matrix: Mat<f64>,
}

/// What two Gaussians have of the rows that they were estimated from.
pub(crate) struct OfRows {
    /// The shares of the rows' covariances that shrinkage has left, above 0.
    pub kept: [f64; 2],
    /// The rows' covariances divided by `n`, over those of the Gaussians.
    pub spreads: [f64; 2],
}

impl JointMap {
    /// `A`, `[d, d]`.
    pub(crate) fn matrix(&self) -> Mat<f64> {
        let Some(vectors) = &self.joint.basis.vectors else { return self.matrix.clone() };
        let mut core = self.matrix.clone();
        add_to_diagonal(&mut core, -self.scale);
        let mut out =
            product_with_transpose(product(vectors.as_ref(), core.as_ref()).as_ref(), vectors.as_ref());
        add_to_diagonal(&mut out, self.scale);
        out
    }

    /// What the map does to the rows that the two Gaussians are of, the numbers that moving the rows would give, since the
    /// basis holds what they are about their means; and the effective ranks of both classes. It uses up the factors, which
    /// nothing but this needs once there is a map.
    pub(crate) fn measure(&mut self, of: &OfRows) -> Result<(Quality, [f64; 2]), TransportError> {
        let Self { joint, matrix, scale } = self;
        let a = matrix.as_ref();
        let factor = |side: usize, whole: &mut Mat<f64>, plain: &mut Option<Mat<f64>>| {
            let whole = std::mem::replace(whole, Mat::new());
            scaled(plain.take().unwrap_or(whole), of.kept[side].sqrt().recip())
        };
        let [plain_source, plain_target] = &mut joint.plain;
        let source = factor(0, &mut joint.of_source, plain_source);
        let target = factor(1, &mut joint.of_target, plain_target);
        let step = |side: usize, rows: &Mat<f64>, mut moved: Mat<f64>| {
            moved -= rows;
            of.spreads[side] * squared_norm(moved.as_ref())
        };
        // T(y) - y = (A - I)(y - m_t) + A (m_t - m_s).
        let gap = joint.gap();
        let apart = squared_norm(gap.as_ref());
        let inside = match &joint.basis.vectors {
            Some(vectors) => transpose_product(vectors.as_ref(), gap.as_ref()),
            None => gap,
        };
        let outside = (apart - squared_norm(inside.as_ref())).max(0.0);
        let gap_moved = squared_norm(product(a, inside.as_ref()).as_ref()) + *scale * *scale * outside;
        let target_step = step(1, &target, product_with_transpose(target.as_ref(), a)) + gap_moved;
        let pushed = product_with_transpose(source.as_ref(), a);
        let moved = Moved {
            w2_after: bures_squared(pushed.as_ref(), target.as_ref())?.sqrt(),
            source_step: (step(0, &source, pushed) + apart).sqrt(),
            target_step: target_step.sqrt(),
            gate: None,
        };
        let w2_before = (apart + bures_squared(source.as_ref(), target.as_ref())?).sqrt();
        Ok((moved.from(w2_before), [effective_rank(source.as_ref()), effective_rank(target.as_ref())]))
    }

    /// The map as a row operator: dense where the span is everything (`r = d`), else a multiple of the identity plus
    /// rank `r`.
    pub(crate) fn into_affine(self) -> Affine {
        let Self { joint: Joint { source_mean: from, target_mean: to, basis, .. }, scale, mut matrix } = self;
        let Some(vectors) = basis.vectors else {
            let moved = product(matrix.as_ref(), Mat::from_fn(from.len(), 1, |j, _| from[j]).as_ref());
            let bias = to.iter().enumerate().map(|(i, m)| m - moved[(i, 0)]).collect();
            return Affine::Dense(Dense { matrix, bias });
        };
        let offset = to.iter().zip(&from).map(|(t, s)| t - scale * s).collect();
        add_to_diagonal(&mut matrix, -scale);
        if matrix == matrix.transpose() {
            return Affine::Symmetric(Symmetric { scale, mean: from, offset, basis: vectors, core: matrix });
        }
        let u = product(vectors.as_ref(), matrix.as_ref());
        Affine::LowRank(LowRank { scale, mean: from, offset, u, v: vectors })
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
