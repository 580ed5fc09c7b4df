use crate::baselines::{act_between, projection_between, shift_between};
use crate::gate::gate_between;
use crate::leace::{Pooled, erasure};
use crate::made::{Made, between};
use crate::pair::LIMIT;
use crate::pca_ot::{InAxes, middle, weights};
use crate::ppca::latent_of;
use crate::sketch::Known;
use crate::{Certificate, Covariance, Fit, FitOptions, Gaussian, Method, Shrinkage, Side, TransportError};
use brenier_linalg::{
    LinalgError, Moments, effective_rank, oas_of_factor, pca_of_factor, product, reduce, transpose_product,
};
use faer::{Mat, MatRef};

impl Gaussian {
    /// The Gaussian `N(m, S')` of moments, with `S'` the covariance of [`Moments::factor`]: that of the rows where
    /// nothing was lost, and below it by at most [`Moments::bound`] elsewhere.
    ///
    /// # Errors
    /// [`TransportError::Linalg`] if no row was taken in.
    pub fn from_moments(moments: &Moments, covariance: Covariance) -> Result<Self, TransportError> {
        if moments.count() == 0 {
            return Err(LinalgError::TooFewRows { needed: 1, found: 0 }.into());
        }
        let factor = reduce(moments.factor(covariance));
        Ok(Self { mean: moments.mean().to_vec(), factor, isotropic: 0.0 })
    }

    /// The Gaussian of `z = diag(1/roots) P^T (x - center)`.
    fn along(&self, basis: MatRef<'_, f64>, center: &[f64], roots: Option<&[f64]>) -> Self {
        let away = Mat::from_fn(self.dim(), 1, |j, _| self.mean[j] - center[j]);
        let (mean, factor) = (transpose_product(basis, away.as_ref()), product(self.factor(), basis));
        let root = |j: usize| roots.map_or(1.0, |roots| roots[j]);
        let factor = Mat::from_fn(factor.nrows(), factor.ncols(), |i, j| factor[(i, j)] / root(j));
        let mean = (0..basis.ncols()).map(|j| mean[(j, 0)] / root(j)).collect();
        Self { mean, factor: reduce(factor), isotropic: 0.0 }
    }
}

/// Fits `method` from the moments of the source (the behaviour to be changed) to those of the target (the behaviour
/// wanted): what [`fit`](crate::fit()) finds in the rows, to rounding, where the moments lost nothing.
///
/// The certificate's `sketch` says what they may have lost, and between which bounds the rows' own W2 lies. Its `train`
/// follows from the two Gaussians: exactly for an affine map; for [`Method::Gated`] only `w2_before` is known.
/// Effective ranks and laws are those of the moments' covariances.
///
/// Methods that need more than a mean and a covariance are refused ([`Method::Mixture`], [`Method::ActLinear`]), and so
/// are options that do: [`Shrinkage::Auto`] (fourth moments; it is the default of the gate's shrinkage, so
/// [`Method::Gated`] takes a number or [`Shrinkage::Oas`]), the gate's calibration, AcT's quantiles, the bootstrap, the
/// sliced distance.
///
/// ```
/// use brenier_linalg::Rows;
/// use brenier_transport::{FitOptions, Method, Moments, fit_moments};
/// use faer::Mat;
///
/// let mut source = Moments::new(6, 8)?;
/// let mut target = Moments::new(6, 8)?;
/// for batch in 0..20 {
///     let rows = Mat::from_fn(50, 6, |i, j| ((50 * batch + i) as f64 * (0.3 + 0.2 * j as f64)).sin());
///     source.push(Rows::new(rows.as_ref())?)?;
///     let rows = Mat::from_fn(50, 6, |i, j| 2.0 + 0.5 * ((50 * batch + i) as f64 * (0.4 + 0.1 * j as f64)).cos());
///     target.push(Rows::new(rows.as_ref())?)?;
/// }
/// let fit = fit_moments(Method::PcaOt, &source, &target, &FitOptions::default())?;
/// assert_eq!(fit.certificate.source_rows, 1000);
/// assert!(fit.certificate.train.w2_after < fit.certificate.train.w2_before);
/// assert_eq!(fit.certificate.sketch.unwrap().source.bound, 0.0); // no wider than the cap: nothing was lost
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`TransportError::NeedsRows`] as said above; else as [`fit`](crate::fit()), with [`TransportError::Rows`] for moments
/// of too few rows or of values beyond 1e60.
pub fn fit_moments(
    method: Method,
    source: &Moments,
    target: &Moments,
    options: &FitOptions,
) -> Result<Fit, TransportError> {
    options.check()?;
    refuse_what_needs_rows(method, options)?;
    let covariance = options.covariance;
    if source.width() != target.width() {
        let (expected, found) = (source.width(), target.width());
        return Err(TransportError::Widths { side: Side::Target, expected, found });
    }
    let gaussians = [
        checked(Side::Source, source, method, covariance)?,
        checked(Side::Target, target, method, covariance)?,
    ];
    let known = Known { moments: [source, target], gaussians, covariance };
    let [from, to] = &known.gaussians;

    let made = estimate(method, &known, options)?;
    let means = [from.mean().to_vec(), to.mean().to_vec()];
    let sealed = made.seal(method, [source.count(), target.count()], &means, options)?;
    let (train, sketch) = known.measure(&sealed.map, sealed.certificate.norm)?;
    let certificate = Certificate {
        effective_rank_source: effective_rank(from.factor()),
        effective_rank_target: effective_rank(to.factor()),
        sketch: Some(sketch),
        train,
        ..sealed.certificate
    };
    Ok(Fit { map: sealed.map, certificate, method })
}

fn refuse_what_needs_rows(method: Method, options: &FitOptions) -> Result<(), TransportError> {
    let refuse = |what: String, instead| Err(TransportError::NeedsRows { what, instead });
    let named = |why: &str| format!("method {method} ({why})");
    match method {
        Method::ActLinear => {
            return refuse(named("sorted values"), "use act-gaussian, or fit to activations");
        }
        Method::Mixture => {
            return refuse(named("expectation-maximisation"), "use gated, or fit to activations");
        }
        _ => {}
    }
    let shrinks = matches!(
        method,
        Method::PcaOt | Method::Gated | Method::Ot | Method::Entropic | Method::Whitening | Method::Leace
    );
    if shrinks && options.shrinkage == Shrinkage::Auto {
        return Err(fourth_moments("shrinkage"));
    }
    if method == Method::Gated {
        if options.gate.calibrate.is_some() {
            let instead = "give the gate's shrinkage and temperature, or fit to activations";
            return refuse("calibration of the gate".to_owned(), instead);
        }
        if options.gate.shrinkage == Shrinkage::Auto {
            return Err(fourth_moments("gate shrinkage"));
        }
    }
    if matches!(method, Method::ActMean | Method::ActGaussian) && options.act_range().is_some() {
        return refuse("a range of quantiles".to_owned(), "leave the quantiles out, or fit to activations");
    }
    if options.bootstrap.is_some() {
        return refuse("the bootstrap".to_owned(), "leave it out, or fit to activations");
    }
    if options.sliced.is_some() {
        return refuse("the sliced distance".to_owned(), "leave it out, or fit to activations");
    }
    Ok(())
}

fn fourth_moments(name: &str) -> TransportError {
    TransportError::NeedsRows {
        what: format!("Ledoit and Wolf's {name} (fourth moments)"),
        instead: "take oas or a number in 0..=1",
    }
}

/// The Gaussian of one class, of enough rows and of values whose fourth powers can be summed.
fn checked(
    side: Side,
    moments: &Moments,
    method: Method,
    covariance: Covariance,
) -> Result<Gaussian, TransportError> {
    let refuse = |error| Err(TransportError::Rows { side, error });
    let (needed, found) = (method.least_rows(), moments.count());
    if found < needed {
        return refuse(LinalgError::TooFewRows { needed, found });
    }
    let gaussian = Gaussian::from_moments(moments, covariance)?;
    let too_large = |x: &f64| x.abs() > LIMIT;
    let in_mean = gaussian.mean().iter().copied().find(too_large).map(|found| ("a mean", found));
    let in_factor = || gaussian.factor().col_iter().find_map(|column| column.iter().copied().find(too_large));
    match in_mean.or_else(|| in_factor().map(|found| ("a deviation", found))) {
        Some((part, found)) => {
            let expected = format!("at most {LIMIT:e} in magnitude");
            refuse(LinalgError::Moments { part: part.to_owned(), found, expected })
        }
        None => Ok(gaussian),
    }
}

fn estimate(method: Method, known: &Known<'_>, options: &FitOptions) -> Result<Made, TransportError> {
    let [source, target] = &known.gaussians;
    let (d, reg) = (source.dim(), options.reg_abs.unwrap_or(0.0));
    Ok(match method {
        Method::PcaOt | Method::Gated => {
            let axes = Axes::of(known, options)?;
            let along = |roots: Option<&[f64]>| {
                [source, target].map(|of| of.along(axes.basis.as_ref(), &axes.center, roots))
            };
            let ([in_source, in_target], shrinkage) =
                regularised(known, along(None), options.shrinkage, reg)?;
            let (inside, optimality) = InAxes::between(&in_source, &in_target)?;
            let means = [source.mean().to_vec(), target.mean().to_vec()];
            let affine = inside.embedded(&axes.basis, means, options.shift);
            let gate = (method == Method::Gated).then(|| {
                let roots: Vec<f64> = axes.eigenvalues.iter().map(|value| value.sqrt()).collect();
                let ([in_source, in_target], shrinkage) =
                    regularised(known, along(Some(&roots)), options.gate.shrinkage, 0.0)?;
                let gate =
                    gate_between(&axes.basis, &roots, &axes.center, [&in_source, &in_target], options)?;
                Ok::<_, TransportError>((gate, shrinkage))
            });
            let (gate, gate_shrinkage) = gate.transpose()?.unzip();
            let explained = axes.eigenvalues.iter().sum::<f64>() / axes.total;
            Made {
                gate,
                gate_shrinkage,
                ..Made::in_axes(affine, optimality, axes.basis, shrinkage, explained)
            }
        }
        Method::Leace => {
            let made = erasure(pooled(known, options.shrinkage)?)?;
            Made {
                shrinkage: Some([made.shrinkage; 2]),
                erasure: Some(made.laws),
                ..Made::plain(made.affine, made.norm)
            }
        }
        Method::Mean => Made::plain(shift_between(source.mean(), target.mean()), 1.0),
        Method::Rfa | Method::Ace => {
            let affine = projection_between(source.mean(), target.mean(), method)?;
            Made::plain(affine, if d > 1 { 1.0 } else { 0.0 })
        }
        Method::ActMean | Method::ActGaussian => {
            let (map, skipped) = act_between(source, target, method);
            let norm = map.weight.iter().fold(0.0_f64, |norm, w| norm.max(w.abs()));
            Made { skipped: Some(skipped), ..Made::plain(brenier_map::Affine::Diagonal(map), norm) }
        }
        _ => {
            let (gaussians, shrinkage) = match options.latent {
                None => regularised(known, [source.clone(), target.clone()], options.shrinkage, reg)?,
                Some(latent) => {
                    let of = |of, moments: &Moments| latent_of(of, latent, moments.count());
                    let [in_source, in_target] = known.moments;
                    let found = [of(source, in_source)?, of(target, in_target)?];
                    (found.map(|of| of.regularised(0.0, reg)), [0.0, 0.0])
                }
            };
            between(method, gaussians, shrinkage, None, options)?
        }
    })
}

/// Source and target in some coordinates, shrunk and regularised, and their shrinkage intensities.
fn regularised(
    known: &Known<'_>,
    [source, target]: [Gaussian; 2],
    shrinkage: Shrinkage,
    reg: f64,
) -> Result<([Gaussian; 2], [f64; 2]), TransportError> {
    let [n_s, n_t] = known.moments.map(Moments::count);
    let (a, b) = (intensity(shrinkage, source.factor(), n_s)?, intensity(shrinkage, target.factor(), n_t)?);
    Ok(([source.regularised(a, reg), target.regularised(b, reg)], [a, b]))
}

/// The shrinkage intensity of a covariance, of which a factor is given, made from so many rows.
fn intensity(shrinkage: Shrinkage, factor: MatRef<'_, f64>, rows: usize) -> Result<f64, TransportError> {
    match shrinkage {
        Shrinkage::Fixed(intensity) => Ok(intensity),
        Shrinkage::Oas => Ok(oas_of_factor(factor, rows as f64)),
        Shrinkage::Auto => Err(fourth_moments("shrinkage")),
    }
}

/// The leading principal axes of the pooled rows.
struct Axes {
    basis: Mat<f64>,
    eigenvalues: Vec<f64>,
    total: f64,
    center: Vec<f64>,
}

impl Axes {
    /// The pooled scatter about the centre `c = p m_s + (1 - p) m_t` of the pool is
    /// `p S_s + (1 - p) S_t + p (1 - p) (m_t - m_s)(m_t - m_s)^T` with covariances that divide by n.
    fn of(known: &Known<'_>, options: &FitOptions) -> Result<Self, TransportError> {
        let [source, target] = &known.gaussians;
        let [n_s, n_t] = known.moments.map(Moments::count);
        let (share, [of_source, of_target]) = weights(n_s, n_t, options.pooling);
        let divisor = |n| known.covariance.divisor(n);
        let rows =
            stacked(known, [of_source * divisor(n_s), of_target * divisor(n_t), share * (1.0 - share)]);
        let pca = pca_of_factor(rows, options.components).map_err(|error| match error {
            // The rows that were streamed, not those of the factors.
            LinalgError::ComponentsExceedRank { components, rank, width, .. } => {
                let rows = n_s.saturating_add(n_t);
                LinalgError::ComponentsExceedRank { components, rank, rows, width }
            }
            other => other,
        })?;
        let center = middle(source.mean(), target.mean(), share);
        Ok(Self { basis: pca.basis, eigenvalues: pca.eigenvalues, total: pca.total, center })
    }
}

/// The factor of the covariance of all rows of both classes together.
fn pooled(known: &Known<'_>, shrinkage: Shrinkage) -> Result<Pooled, TransportError> {
    let [source, target] = &known.gaussians;
    let [n_s, n_t] = known.moments.map(Moments::count);
    let divisor = |n| known.covariance.divisor(n);
    let n = n_s.saturating_add(n_t);
    let (share, all) = (n_s as f64 / n as f64, divisor(n));
    let apart = share * n_t as f64;
    let rows = stacked(known, [divisor(n_s) / all, divisor(n_t) / all, apart / all]);
    Ok(Pooled {
        means: [source.mean().to_vec(), target.mean().to_vec()],
        share,
        intensity: intensity(shrinkage, rows.as_ref(), n)?,
        rows,
        above: source.factor().nrows(),
        spread: all / n as f64,
        noise: 0.0,
    })
}

/// The factors of source and target above each other, and the difference of the means under them, each by the root of
/// its weight.
fn stacked(known: &Known<'_>, weights: [f64; 3]) -> Mat<f64> {
    let [source, target] = &known.gaussians;
    let [of_source, of_target, of_gap] = weights.map(f64::sqrt);
    let (above, below) = (source.factor(), target.factor());
    let (m, n) = (above.nrows(), below.nrows());
    Mat::from_fn(m + n + 1, source.dim(), |i, j| {
        if i < m {
            of_source * above[(i, j)]
        } else if i < m + n {
            of_target * below[(i - m, j)]
        } else {
            of_gap * (target.mean()[j] - source.mean()[j])
        }
    })
}
