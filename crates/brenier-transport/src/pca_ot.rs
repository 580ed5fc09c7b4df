use crate::certificate::Optimality;
use crate::fit::Pair;
use crate::samples::along;
use crate::span::{Span, Spanned};
use crate::{FitOptions, Gaussian, Pooling, Shift, Side, TransportError, monge};
use brenier_linalg::{
    Eigen, Rows, center, gram, mean, pca, product, relative_floor, symmetric_eigen, symmetric_inverse_root,
};
use brenier_map::{Affine, LowRank};
use faer::Mat;

/// A PCA-OT map, and the coordinates that a gate needs.
pub(crate) struct PcaOt {
    pub affine: Affine,
    pub optimality: Optimality,
    pub shrinkage: [f64; 2],
    pub axes: Axes,
    /// The map in the coordinates of the rows, where these were used.
    pub spanned: Option<Spanned>,
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
    /// The axes in the coordinates of a [`Span`], `[n + 1, K]`.
    spanned: Option<Mat<f64>>,
}

impl Axes {
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
) -> Result<PcaOt, TransportError> {
    let k = options.components;
    let axes = axes(pair, span, options)?;
    let reg = options.reg_abs.unwrap_or(0.0);
    let gaussian = |z: &Mat<f64>, side| {
        Gaussian::estimate(along(z, axes.weights(side))?, options.covariance, options.shrinkage, reg)
    };
    let ((in_source, shrunk_source), (in_target, shrunk_target)) =
        (gaussian(&axes.source, Side::Source)?, gaussian(&axes.target, Side::Target)?);
    let monge = monge(&in_source, &in_target)?;

    let mut correction = monge.matrix();
    for i in 0..k {
        correction[(i, i)] -= 1.0;
    }
    let (source_mean, target_mean) = match span {
        Some(span) => (span.source_mean.clone(), span.target_mean.clone()),
        None => (mean(pair.source), mean(pair.target)),
    };
    let step = Mat::from_fn(k, 1, |k, _| in_target.mean()[k] - in_source.mean()[k]);
    let offset = match options.shift {
        Shift::Full => target_mean.iter().zip(&source_mean).map(|(t, s)| t - s).collect(),
        Shift::Subspace => column(&product(axes.basis.as_ref(), step.as_ref())),
    };
    let spanned = axes.spanned.as_ref().map(|v| Spanned {
        scale: 1.0,
        offset: match options.shift {
            Shift::Full => (0..v.nrows()).map(|i| if i + 1 == v.nrows() { 1.0 } else { 0.0 }).collect(),
            Shift::Subspace => column(&product(v.as_ref(), step.as_ref())),
        },
        u: product(v.as_ref(), correction.as_ref()),
        v: v.clone(),
    });
    let affine = Affine::LowRank(LowRank {
        scale: 1.0,
        mean: source_mean,
        offset,
        u: product(axes.basis.as_ref(), correction.as_ref()),
        v: axes.basis.clone(),
    });
    let shrinkage = [shrunk_source, shrunk_target];
    let optimality = monge.optimality().clone();
    Ok(PcaOt { affine, optimality, shrinkage, axes, spanned })
}

/// The axes of the pooled rows, from inner products where these suffice.
pub(crate) fn axes(
    pair: &Pair<'_>,
    span: Option<&Span<'_>>,
    options: &FitOptions,
) -> Result<Axes, TransportError> {
    match span.map(|span| axes_of_span(span, options)).transpose()?.flatten() {
        Some(axes) => Ok(axes),
        None => axes_of_rows(pair, options),
    }
}

/// The share of the source in the pool, and the weight of one row of each class.
fn weights(n_s: usize, n_t: usize, pooling: Pooling) -> (f64, [f64; 2]) {
    let share = match pooling {
        Pooling::Rows => n_s as f64 / (n_s + n_t) as f64,
        Pooling::Classes => 0.5,
    };
    (share, [share / n_s as f64, (1.0 - share) / n_t as f64])
}

fn middle(source: &[f64], target: &[f64], share: f64) -> Vec<f64> {
    source.iter().zip(target).map(|(s, t)| share * s + (1.0 - share) * t).collect()
}

fn axes_of_rows(pair: &Pair<'_>, options: &FitOptions) -> Result<Axes, TransportError> {
    let (n_s, n_t) = (pair.source.count(), pair.target.count());
    let share = match options.pooling {
        Pooling::Rows => pair.share(),
        Pooling::Classes => 0.5,
    };
    let weights = pair.shares(share);
    let center_of_pool = middle(&mean(pair.source), &mean(pair.target), share);
    let (s, t) = (pair.source.view(), pair.target.view());
    let pooled =
        Mat::from_fn(n_s + n_t, pair.dim(), |i, j| if i < n_s { s[(i, j)] } else { t[(i - n_s, j)] });
    let pca = pca(Rows::new(pooled.as_ref())?, &center_of_pool, Some(&weights), options.components)?;
    let along = |rows: Rows<'_>| product(center(rows, &center_of_pool).as_ref(), pca.basis.as_ref());
    Ok(Axes {
        source: along(pair.source),
        target: along(pair.target),
        eigenvalues: pca.eigenvalues,
        total: pca.total,
        basis: pca.basis,
        center: center_of_pool,
        weights: [pair.source, pair.target].map(|rows| rows.weights().map(|weights| weights.raw().to_vec())),
        spanned: None,
    })
}

/// The same from inner products alone; none where rounding of these could be seen, or where the components exceed the
/// rank and the error has to name it.
fn axes_of_span(span: &Span<'_>, options: &FitOptions) -> Result<Option<Axes>, TransportError> {
    let ((n_s, n_t), n, k) = (span.counts(), span.rows(), options.components);
    let (share, weight) = weights(n_s, n_t, options.pooling);
    if k > n {
        return Ok(None);
    }
    // A row about the centre of the pool is its z and a part of the gap.
    let part = |i: usize| if i < n_s { share - 1.0 } else { share };
    let root = [weight[0].sqrt(), weight[1].sqrt()];
    let root = |i: usize| root[usize::from(i >= n_s)];
    let g = &span.gram;
    let between = |i: usize, j: usize| {
        g[(i, j)] + part(i) * g[(n, j)] + part(j) * g[(i, n)] + part(i) * part(j) * g[(n, n)]
    };
    let pooled = Mat::from_fn(n, n, |i, j| root(i) * root(j) * between(i, j));
    let total = (0..n).map(|i| pooled[(i, i)]).sum();
    let Eigen { values, vectors } = symmetric_eigen(pooled.as_ref())?;
    let values = values[..k].to_vec();
    let floor = relative_floor(n.max(span.source_mean.len())) * values[0];
    let resolved =
        values.iter().all(|&value| value > floor && span.resolves(value / weight[0].max(weight[1])));
    if !resolved {
        return Ok(None);
    }

    // P = Y^T U / sqrt(l), made orthonormal once more for what the Gram matrix lost.
    let mut coordinates = Mat::zeros(n + 1, k);
    for j in 0..k {
        for i in 0..n {
            coordinates[(i, j)] = root(i) * vectors[(i, j)] / values[j].sqrt();
            coordinates[(n, j)] += part(i) * coordinates[(i, j)];
        }
    }
    let lifted = span.lift(coordinates.as_ref());
    let mend = symmetric_inverse_root(gram(lifted.as_ref().transpose()).as_ref())?.matrix;
    let mut basis = product(lifted.as_ref(), mend.as_ref());
    let mut spanned = product(coordinates.as_ref(), mend.as_ref());
    for j in 0..k {
        let largest = basis.col(j).iter().fold(0.0_f64, |a, &b| if b.abs() > a.abs() { b } else { a });
        if largest < 0.0 {
            basis.as_mut().col_mut(j).iter_mut().for_each(|x| *x = -*x);
            spanned.as_mut().col_mut(j).iter_mut().for_each(|x| *x = -*x);
        }
    }
    let along = product(g.as_ref(), spanned.as_ref());
    let rows = |first: usize, count: usize| {
        Mat::from_fn(count, k, |i, j| along[(first + i, j)] + part(first + i) * along[(n, j)])
    };
    Ok(Some(Axes {
        source: rows(0, n_s),
        target: rows(n_s, n_t),
        eigenvalues: values,
        total,
        basis,
        center: middle(&span.source_mean, &span.target_mean, share),
        weights: [None, None],
        spanned: Some(spanned),
    }))
}

fn column(matrix: &Mat<f64>) -> Vec<f64> {
    (0..matrix.nrows()).map(|i| matrix[(i, 0)]).collect()
}
