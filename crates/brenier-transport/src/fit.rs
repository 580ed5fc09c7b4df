use crate::baselines::{act, mean_shift, projection};
use crate::bootstrap::bootstrap;
use crate::calibrate::calibrate;
use crate::certificate::{measure, measure_sliced};
use crate::gate::gate_along;
use crate::joint::OfRows;
use crate::leace::leace;
use crate::made::{Made, between, norm_beside};
use crate::mixture_ot::{MixtureOt, mixture_ot};
use crate::pair::{Pair, checked, checked_pair, scanned_pair};
use crate::pca_ot::{PcaOt, axes, pca_ot};
use crate::ppca::latent_gaussian;
use crate::samples::{HeldOut, Kept, Samples};
use crate::span::{self, Span};
use crate::span_ot::{SpanOt, span_ot};
use crate::{
    Calibration, CalibrationOptions, Certificate, FitOptions, Gaussian, Method, Side, TransportError,
};
use brenier_linalg::{Rows, effective_rank, factor, mean};
use brenier_map::{Affine, RowMap};

/// A fitted map with its certificate.
#[derive(Debug, Clone)]
pub struct Fit {
    /// The map.
    pub map: RowMap,
    /// What is known of it.
    pub certificate: Certificate,
    /// The method that made it.
    pub method: Method,
}

/// Fits `method` from `source` (the behaviour to be changed) to `target` (the behaviour wanted).
///
/// # Shapes
/// `source`: `[n_s, d]`, `target`: `[n_t, d]`, rows are samples; `held_out`: two such matrices of any number of rows,
/// which the certificate measures and the fit never sees. Rows may have weights ([`Samples::weighted`]), which every method
/// honours, and every measure of the certificate with it; rows of weight 0 are left out of the fit.
///
/// # Errors
/// - [`TransportError::Rows`]: a NaN or infinity, with row and column; bad weights; fewer than [`Method::least_rows`] rows.
/// - [`TransportError::Widths`]: rows of different widths.
/// - [`TransportError::Option`]: an option outside its range.
/// - [`TransportError::Linalg`] with `ComponentsExceedRank`: K larger than the rank of the pooled rows.
/// - [`TransportError::Mixture`]: too few rows, or too little weight, for so many components of a mixture.
/// - [`TransportError::LatentRank`]: a class whose rank is not above the number of latent directions.
/// - [`TransportError::SameMean`]: RFA, ACE or LEACE between equal means.
/// - [`TransportError::GateDegenerate`]: a class without a density in the gate's coordinates.
/// - [`TransportError::Certificate`]: a map that breaks a law of its kind by more than rounding explains is refused and
///   not returned: never, unless this program is wrong. Every optimal map is held to symmetry, positivity, push-forward of
///   mean and covariance and cost = W2^2; an entropic one to its own condition, an erasure to no separation, `P^2 = P` and
///   least change, the control to its push-forward.
pub fn fit<'a>(
    method: Method,
    source: impl Into<Samples<'a>>,
    target: impl Into<Samples<'a>>,
    options: &FitOptions,
    held_out: impl Into<HeldOut<'a>>,
) -> Result<Fit, TransportError> {
    // On rayon's threads from the first step to the last: a fit takes milliseconds, and waking them costs part of one.
    let (source, target, held_out) = (source.into(), target.into(), held_out.into());
    rayon::scope(|_| fit_here(method, source, target, options, held_out))
}

fn fit_here(
    method: Method,
    source: Samples<'_>,
    target: Samples<'_>,
    options: &FitOptions,
    held_out: HeldOut<'_>,
) -> Result<Fit, TransportError> {
    options.check()?;
    let (source, target) = (Kept::new(Side::Source, source)?, Kept::new(Side::Target, target)?);
    // Two methods have no quick route through one Gram matrix.
    let quick = !matches!(method, Method::Entropic | Method::Whitening);
    let (samples, least) = ((source.samples(), target.samples()), method.least_rows());
    let (pair, gram) = if quick {
        scanned_pair(samples.0, samples.1, least)?
    } else {
        (checked_pair(samples.0, samples.1, least)?, None)
    };
    let held_out = held_out
        .0
        .map(|(source, target)| {
            let source = checked(Side::HeldOutSource, source, 1)?;
            let target = checked(Side::HeldOutTarget, target, 1)?;
            pair.same_width(Side::HeldOutSource, source)?;
            pair.same_width(Side::HeldOutTarget, target)?;
            Ok::<_, TransportError>((source, target))
        })
        .transpose()?;

    let span = gram.and_then(|gram| Span::of(&pair, gram));
    // The distance before the map needs no map.
    let in_span = span.as_ref().filter(|_| matches!(method, Method::PcaOt | Method::Gated | Method::Ot));
    let (made, before) = rayon::join(
        || estimate(method, &pair, span.as_ref(), options),
        || in_span.map(|span| span.w2_before(options.covariance)).transpose(),
    );
    let (made, before) = (made?, before?);
    let sealed = made.seal(method, [pair.source.count(), pair.target.count()], &pair.means, options)?;
    let map = sealed.map;

    let rank = |rows: Rows<'_>| effective_rank(factor(rows, &mean(rows), options.covariance).as_ref());
    let ranks = match (&span, &sealed.measured) {
        (Some(span), _) => {
            let (of_source, of_target, _) = span.blocks();
            [span::effective_rank(of_source), span::effective_rank(of_target)]
        }
        (None, Some((_, ranks))) => *ranks,
        (None, None) => [rank(pair.source), rank(pair.target)],
    };
    let in_span = match (sealed.moved, &span, &sealed.spanned) {
        (None, Some(span), Some(spanned)) => Some(span.measure(spanned, map.gate(), options.covariance)?),
        (moved, ..) => moved,
    };
    let mut train = match (sealed.measured, in_span.zip(before)) {
        (Some((quality, _)), _) => quality,
        (None, Some((moved, before))) => moved.from(before),
        (None, None) => measure(&map, pair.source, pair.target, options.covariance)?,
    };
    let boot = options.bootstrap.as_ref();
    let boot =
        boot.map(|boot| bootstrap(method, &pair, options, sealed.certificate.shrinkage, boot)).transpose()?;
    let mut held_out = held_out
        .map(|(s, t)| Ok::<_, TransportError>((s, t, measure(&map, s, t, options.covariance)?)))
        .transpose()?;
    if let Some(sliced) = &options.sliced {
        train.sliced = Some(measure_sliced(&map, pair.source, pair.target, sliced)?);
        if let Some((source, target, quality)) = &mut held_out {
            quality.sliced = Some(measure_sliced(&map, *source, *target, sliced)?);
        }
    }
    let certificate = Certificate {
        effective_rows: pair
            .weighted()
            .then(|| [pair.source.effective_count(), pair.target.effective_count()]),
        effective_rank_source: ranks[0],
        effective_rank_target: ranks[1],
        bootstrap: boot,
        train,
        held_out: held_out.map(|(_, _, quality)| quality),
        ..sealed.certificate
    };
    Ok(Fit { map, certificate, method })
}

fn estimate(
    method: Method,
    pair: &Pair<'_>,
    span: Option<&Span<'_>>,
    options: &FitOptions,
) -> Result<Made, TransportError> {
    let d = pair.dim();
    Ok(match method {
        Method::PcaOt | Method::Gated => {
            let of = pca_ot(pair, span, options, method == Method::PcaOt)?;
            let (made, calibration) = match method {
                Method::Gated => gate_of(pair, span, &of, options)?,
                _ => (None, None),
            };
            let PcaOt { affine, optimality, shrinkage, axes, spanned, moved } = of;
            let explained = axes.explained();
            let (gate, gate_shrinkage) = made.unzip();
            Made {
                gate,
                gate_shrinkage,
                calibration,
                spanned,
                moved,
                ..Made::in_axes(affine, optimality, axes.basis, shrinkage, explained)
            }
        }
        Method::Mixture => {
            let axes = axes(pair, span, options)?;
            let MixtureOt { affine, laws, norm } = mixture_ot(pair, &axes, options)?;
            Made {
                mixture: Some(laws),
                explained: Some(axes.explained()),
                ..Made::plain(affine, norm.max(norm_beside(options.components, d)))
            }
        }
        Method::Ot => {
            if let Some(span) = span.filter(|_| options.latent.is_none())
                && let Some(SpanOt { map, moved, optimality, shrinkage }) = span_ot(span, options)?
            {
                return Ok(Made {
                    optimality: Some(optimality.clone()),
                    shrinkage: Some(shrinkage),
                    moved: Some(moved),
                    ..Made::plain(Affine::Symmetric(map), optimality.max_eigenvalue)
                });
            }
            let (gaussians, shrinkage, of_rows) = gaussians(pair, options)?;
            between(method, gaussians, shrinkage, of_rows, options)?
        }
        Method::Entropic | Method::Whitening => {
            let (gaussians, shrinkage, of_rows) = gaussians(pair, options)?;
            between(method, gaussians, shrinkage, of_rows, options)?
        }
        Method::Leace => {
            let made = leace(pair, options)?;
            Made {
                shrinkage: Some([made.shrinkage; 2]),
                erasure: Some(made.laws),
                ..Made::plain(made.affine, made.norm)
            }
        }
        Method::Mean => Made::plain(mean_shift(pair), 1.0),
        Method::Rfa | Method::Ace => Made::plain(projection(pair, method)?, if d > 1 { 1.0 } else { 0.0 }),
        Method::ActMean | Method::ActLinear | Method::ActGaussian => {
            let (affine, skipped) = act(pair, method, options);
            let norm = match &affine {
                Affine::Diagonal(map) => map.weight.iter().fold(0.0_f64, |norm, w| norm.max(w.abs())),
                _ => 0.0,
            };
            Made { skipped: Some(skipped), ..Made::plain(affine, norm) }
        }
    })
}

/// The gate and its shrinkages, and the calibration if one was asked for: then the gate has axes of its own.
#[expect(clippy::type_complexity, reason = "three things, each optional")]
fn gate_of(
    pair: &Pair<'_>,
    span: Option<&Span<'_>>,
    of: &PcaOt,
    options: &FitOptions,
) -> Result<(Option<(brenier_map::Gate, [f64; 2])>, Option<Calibration>), TransportError> {
    let Some(folds) = options.gate.calibrate else { return Ok((Some(gate_along(&of.axes, options)?), None)) };
    let grid = CalibrationOptions { folds, ..CalibrationOptions::default() };
    let calibration = calibrate(pair, options, &grid)?;
    let chosen = calibration.apply(options);
    let gate = gate_along(&axes(pair, span, &chosen)?, &chosen)?;
    Ok((Some(gate), Some(calibration)))
}

/// The two regularised Gaussians in all dimensions, their shrinkage intensities, and what they have of the rows where that
/// is all that these are about their means.
#[expect(clippy::type_complexity, reason = "three things, two for each class")]
fn gaussians(
    pair: &Pair<'_>,
    options: &FitOptions,
) -> Result<([Gaussian; 2], [f64; 2], Option<OfRows>), TransportError> {
    let reg = options.reg_abs.unwrap_or(0.0);
    if let Some(latent) = options.latent {
        let gaussian = |rows: Rows<'_>| {
            latent_gaussian(rows, options.covariance, latent, rows.width())
                .map(|found| found.gaussian.regularised(0.0, reg))
        };
        return Ok(([gaussian(pair.source)?, gaussian(pair.target)?], [0.0, 0.0], None));
    }
    let gaussian = |rows| Gaussian::estimate(rows, options.covariance, options.shrinkage, reg);
    let ((source, a), (target, b)) = (gaussian(pair.source)?, gaussian(pair.target)?);
    let kept = [1.0 - a, 1.0 - b];
    let spreads = [pair.source, pair.target].map(|rows| rows.spread(options.covariance));
    let of_rows = kept.iter().all(|&kept| kept > 0.0).then_some(OfRows { kept, spreads });
    Ok(([source, target], [a, b], of_rows))
}
