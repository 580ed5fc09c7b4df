use crate::certificate::Optimality;
use crate::pair::Pair;
use crate::samples::along;
use crate::span::{Span, Spanned, trace};
use crate::span_measure::Moved;
use crate::{FitOptions, Gaussian, Pooling, Shift, Side, TransportError, monge};
use brenier_linalg::{
    Eigen, LinalgError, Rows, are_leading, center, krylov_eigen, leading_eigen, orthonormalize,
    pca_of_factor, product, relative_floor, symmetric_eigen,
};
use brenier_map::{Affine, LowRank};
use faer::Mat;

/// A PCA-OT map, and the coordinates that a gate needs.
pub(crate) struct PcaOt {
    pub affine: Affine,
    pub optimality: Optimality,
    pub shrinkage: [f64; 2],
    pub axes: Axes,
    /// The map in the coordinates of the rows, where these were used,
    pub spanned: Option<Spanned>,
    /// and what it does to the rows, if that was asked for.
    pub moved: Option<Moved>,
}

/// The leading principal axes of the pooled rows, and the rows along them.
pub(crate) struct Axes {
    /// `P`, `[d, K]`.
    pub basis: Mat<f64>,
    /// Variance along each axis. `[K]`.
    pub eigenvalues: Vec<f64>,
    /// Variance along all axes.
    pub total: f64,
    /// Origin of the coordinates, `[d]`.
    pub center: Vec<f64>,
    /// The classes in the K coordinates. `[n, K]`.
    pub source: Mat<f64>,
    pub target: Mat<f64>,
    /// Their weights, if they have any.
    weights: [Option<Vec<f64>>; 2],
}

impl Axes {
    /// The share of the variance along these axes.
    pub(crate) fn explained(&self) -> f64 {
        self.eigenvalues.iter().sum::<f64>() / self.total
    }

    pub(crate) fn weights(&self, side: Side) -> Option<&[f64]> {
        self.weights[usize::from(side == Side::Target)].as_deref()
    }
}

/// `T(x) = x + shift + P (A_K - I) P^T (x - m_s)`.
///
/// `P`: `[d, K]`, the top K principal axes of the pooled rows; `A_K` the optimal map in these coordinates. The
/// identity on the complement is part of the map: lifting `P A_K P^T` alone would delete the complement.
///
/// Reference: G. Nanfack, E. Belilovsky & E. Dohmatob, arXiv 2603.04355, 2026.
pub(crate) fn pca_ot(
    pair: &Pair<'_>,
    span: Option<&Span<'_>>,
    options: &FitOptions,
    measured: bool,
) -> Result<PcaOt, TransportError> {
    if let Some(span) = span
        && let Some(found) = pca_ot_in_span(span, options, measured)?
    {
        return Ok(found);
    }
    let means = pair.means.clone();
    along_axes(axes_of_rows(pair, options)?, None, means, options, measured)
}

/// The same from inner products alone; none where [`axes_in_span`] finds none.
fn pca_ot_in_span(
    span: &Span<'_>,
    options: &FitOptions,
    measured: bool,
) -> Result<Option<PcaOt>, TransportError> {
    let Some(pooled) = pooled(span, options) else { return Ok(None) };
    let from = |pairs: &Eigen| match axes_in_span(span, options, &pooled, pairs) {
        Some((axes, coordinates)) => {
            let coordinates = Some((span, coordinates));
            along_axes(axes, coordinates, span.means(), options, measured).map(Some)
        }
        None => Ok(None),
    };
    if let Some(pairs) = krylov_eigen(pooled.as_ref(), options.components) {
        // That these are the leading pairs is proved while they are used.
        let (found, proven) = rayon::join(|| from(&pairs), || are_leading(pooled.as_ref(), &pairs));
        if proven {
            return found;
        }
    }
    from(&symmetric_eigen(pooled.as_ref())?)
}

/// The map in these axes; `coordinates`: those of the axes in the span, `[n + 1, K]`, of which the basis is yet to be
/// lifted.
fn along_axes(
    mut axes: Axes,
    coordinates: Option<(&Span<'_>, Mat<f64>)>,
    means: [Vec<f64>; 2],
    options: &FitOptions,
    measured: bool,
) -> Result<PcaOt, TransportError> {
    let reg = options.reg_abs.unwrap_or(0.0);
    let gaussian = |z: &Mat<f64>, side| {
        Gaussian::estimate(along(z, axes.weights(side))?, options.covariance, options.shrinkage, reg)
    };
    let ((in_source, shrunk_source), (in_target, shrunk_target)) =
        (gaussian(&axes.source, Side::Source)?, gaussian(&axes.target, Side::Target)?);
    let (mut inside, optimality) = InAxes::between(&in_source, &in_target)?;

    let (mut spanned, mut moved) = (None, None);
    if let Some((span, v)) = &coordinates {
        let offset = match options.shift {
            Shift::Full => span.gap(),
            Shift::Subspace => column(&product(v.as_ref(), inside.step.as_ref())),
        };
        let u = product(v.as_ref(), inside.correction.as_ref());
        let map = Spanned::new(span, offset, u.as_ref(), v.as_ref());
        // What has `d` entries is found while the map is measured on the rows, which takes longer.
        let (quality, basis) = rayon::join(
            || measured.then(|| span.measure(&map, None, options.covariance)).transpose(),
            || lifted(span, v),
        );
        inside.turn(&axes.settle(basis?));
        (spanned, moved) = (Some(map), quality?);
    }
    let affine = inside.embedded(&axes.basis, means, options.shift);
    let shrinkage = [shrunk_source, shrunk_target];
    Ok(PcaOt { affine, optimality, shrinkage, axes, spanned, moved })
}

/// The optimal map between two Gaussians in the K coordinates of some axes, as what it adds to the identity.
pub(crate) struct InAxes {
    /// `A_K - I`, `[K, K]`.
    correction: Mat<f64>,
    /// The difference of the two means, `[K, 1]`.
    step: Mat<f64>,
}

impl InAxes {
    pub(crate) fn between(
        source: &Gaussian,
        target: &Gaussian,
    ) -> Result<(Self, Optimality), TransportError> {
        let (monge, k) = (monge(source, target)?, source.dim());
        let mut correction = monge.matrix();
        for i in 0..k {
            correction[(i, i)] -= 1.0;
        }
        let step = Mat::from_fn(k, 1, |k, _| target.mean()[k] - source.mean()[k]);
        Ok((Self { correction, step }, monge.optimality().clone()))
    }

    /// The same for axes times these signs, `[K]`.
    fn turn(&mut self, signs: &[f64]) {
        for (j, of_column) in signs.iter().enumerate() {
            self.step[(j, 0)] *= of_column;
            for (i, of_row) in signs.iter().enumerate() {
                self.correction[(i, j)] *= of_row * of_column;
            }
        }
    }

    /// The same in all `d` dimensions, the identity on the complement of the axes, `[d, K]`. `means`: those of source and
    /// target, `[d]`.
    pub(crate) fn embedded(
        &self,
        basis: &Mat<f64>,
        [source_mean, target_mean]: [Vec<f64>; 2],
        shift: Shift,
    ) -> Affine {
        Affine::LowRank(LowRank {
            scale: 1.0,
            offset: match shift {
                Shift::Full => target_mean.iter().zip(&source_mean).map(|(t, s)| t - s).collect(),
                Shift::Subspace => column(&product(basis.as_ref(), self.step.as_ref())),
            },
            mean: source_mean,
            u: product(basis.as_ref(), self.correction.as_ref()),
            v: basis.clone(),
        })
    }
}

/// The axes of the pooled rows, from inner products where these suffice.
pub(crate) fn axes(
    pair: &Pair<'_>,
    span: Option<&Span<'_>>,
    options: &FitOptions,
) -> Result<Axes, TransportError> {
    if let Some(span) = span
        && let Some(pooled) = pooled(span, options)
        && let Some((mut axes, coordinates)) =
            axes_in_span(span, options, &pooled, &leading_eigen(pooled.as_ref(), options.components)?)
    {
        axes.settle(lifted(span, &coordinates)?);
        return Ok(axes);
    }
    axes_of_rows(pair, options)
}

/// The share of the source in the pool, and the weight of one row of each class.
pub(crate) fn weights(n_s: usize, n_t: usize, pooling: Pooling) -> (f64, [f64; 2]) {
    let share = match pooling {
        Pooling::Rows => n_s as f64 / (n_s + n_t) as f64,
        Pooling::Classes => 0.5,
    };
    (share, [share / n_s as f64, (1.0 - share) / n_t as f64])
}

pub(crate) fn middle(source: &[f64], target: &[f64], share: f64) -> Vec<f64> {
    source.iter().zip(target).map(|(s, t)| share * s + (1.0 - share) * t).collect()
}

fn axes_of_rows(pair: &Pair<'_>, options: &FitOptions) -> Result<Axes, TransportError> {
    let (n_s, n_t) = (pair.source.count(), pair.target.count());
    let share = match options.pooling {
        Pooling::Rows => pair.share(),
        Pooling::Classes => 0.5,
    };
    let roots: Vec<f64> = pair.shares(share).iter().map(|w| w.sqrt()).collect();
    let center_of_pool = middle(&pair.means[0], &pair.means[1], share);
    let (s, t) = (pair.source.view(), pair.target.view());
    let factor = Mat::from_fn(n_s + n_t, pair.dim(), |i, j| {
        ((if i < n_s { s[(i, j)] } else { t[(i - n_s, j)] }) - center_of_pool[j]) * roots[i]
    });
    let pca = pca_of_factor(factor, options.components)?;
    let along = |rows: Rows<'_>| product(center(rows, &center_of_pool).as_ref(), pca.basis.as_ref());
    Ok(Axes {
        source: along(pair.source),
        target: along(pair.target),
        eigenvalues: pca.eigenvalues,
        total: pca.total,
        basis: pca.basis,
        center: center_of_pool,
        weights: [pair.source, pair.target].map(|rows| rows.weights().map(|weights| weights.raw().to_vec())),
    })
}

/// A row about the centre of the pool is its `z` and so much of the gap.
fn part_of_gap(span: &Span<'_>, options: &FitOptions) -> impl Fn(usize) -> f64 {
    let (n_s, n_t) = span.counts();
    let (share, _) = weights(n_s, n_t, options.pooling);
    move |i| if i < n_s { share - 1.0 } else { share }
}

/// The root of the weight of each row.
fn root_of_weight(span: &Span<'_>, options: &FitOptions) -> impl Fn(usize) -> f64 {
    let (n_s, n_t) = span.counts();
    let roots = weights(n_s, n_t, options.pooling).1.map(f64::sqrt);
    move |i| roots[usize::from(i >= n_s)]
}

/// The Gram matrix of the weighed rows about the centre of the pool; none for fewer rows than components.
fn pooled(span: &Span<'_>, options: &FitOptions) -> Option<Mat<f64>> {
    let (n, g) = (span.rows(), &span.gram);
    if options.components > n {
        return None;
    }
    let parts: Vec<f64> = (0..n).map(part_of_gap(span, options)).collect();
    let roots: Vec<f64> = (0..n).map(root_of_weight(span, options)).collect();
    let gaps = &g.col_as_slice(n)[..n];
    let mut pooled = Mat::zeros(n, n);
    for j in 0..n {
        let (own, root, with_gap) = (parts[j], roots[j], gaps[j] + parts[j] * g[(n, n)]);
        let column = pooled.col_as_slice_mut(j).iter_mut().zip(g.col_as_slice(j));
        for ((entry, z), ((part, of_row), gap)) in column.zip(parts.iter().zip(&roots).zip(gaps)) {
            *entry = of_row * root * (z + part * with_gap + own * gap);
        }
    }
    Some(pooled)
}

/// The axes from the leading eigenpairs (or more) of [`pooled`], but for the basis, of which the coordinates `[n + 1, K]`
/// are given: [`lifted`] makes it of these and [`Axes::settle`] puts it in. None where rounding could be seen, or where the
/// components exceed the rank and the error has to name it.
fn axes_in_span(
    span: &Span<'_>,
    options: &FitOptions,
    pooled: &Mat<f64>,
    pairs: &Eigen,
) -> Option<(Axes, Mat<f64>)> {
    let ((n_s, n_t), n, k) = (span.counts(), span.rows(), options.components);
    let (share, weight) = weights(n_s, n_t, options.pooling);
    let (part, root) = (part_of_gap(span, options), root_of_weight(span, options));
    let (values, vectors) = (&pairs.values[..k], &pairs.vectors);
    let floor = relative_floor(n.max(span.source_mean.len())) * values[0];
    let resolved =
        values.iter().all(|&value| value > floor && span.resolves(value / weight[0].max(weight[1])));
    if !resolved {
        return None;
    }

    // P = Y^T U / sqrt(l).
    let mut spanned = Mat::zeros(n + 1, k);
    for j in 0..k {
        for i in 0..n {
            spanned[(i, j)] = root(i) * vectors[(i, j)] / values[j].sqrt();
            spanned[(n, j)] += part(i) * spanned[(i, j)];
        }
    }
    let along = product(span.gram.as_ref(), spanned.as_ref());
    let rows = |first: usize, count: usize| {
        Mat::from_fn(count, k, |i, j| along[(first + i, j)] + part(first + i) * along[(n, j)])
    };
    let axes = Axes {
        source: rows(0, n_s),
        target: rows(n_s, n_t),
        eigenvalues: values.to_vec(),
        total: trace(pooled.as_ref()),
        basis: Mat::new(),
        center: middle(&span.source_mean, &span.target_mean, share),
        weights: [None, None],
    };
    Some((axes, spanned))
}

/// The axes themselves, made orthonormal once more for what the Gram matrix lost. `[d, K]`.
fn lifted(span: &Span<'_>, coordinates: &Mat<f64>) -> Result<Mat<f64>, LinalgError> {
    orthonormalize(span.lift(coordinates.as_ref()))
}

impl Axes {
    /// Puts the basis in, turned so that in each axis the entry of largest magnitude is positive, and turns the rest with
    /// it. Gives the signs, `[K]`.
    fn settle(&mut self, basis: Mat<f64>) -> Vec<f64> {
        let largest =
            |column: &[f64]| column.iter().fold(0.0_f64, |a, &b| if b.abs() > a.abs() { b } else { a });
        let sign = |j| if largest(basis.col_as_slice(j)) < 0.0 { -1.0 } else { 1.0 };
        let signs: Vec<f64> = (0..basis.ncols()).map(sign).collect();
        self.basis = basis;
        for part in [&mut self.basis, &mut self.source, &mut self.target] {
            for (j, sign) in signs.iter().enumerate() {
                part.col_as_slice_mut(j).iter_mut().for_each(|x| *x *= sign);
            }
        }
        signs
    }
}

fn column(matrix: &Mat<f64>) -> Vec<f64> {
    (0..matrix.nrows()).map(|i| matrix[(i, 0)]).collect()
}
