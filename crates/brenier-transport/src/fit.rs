use crate::certificate::Certificate;
use crate::certificate::bootstrap::bootstrap;
use crate::certificate::certify::{Certified, certify};
use crate::certificate::effect::measure;
use crate::certificate::sliced::measure_sliced;
use crate::error::{Side, TransportError};
use crate::methods::estimate;
use crate::options::{FitOptions, Method};
use crate::reduce::Reduced;
use crate::samples::class::{Class, checked, checked_classes, same_width};
use crate::samples::{HeldOut, Kept, Samples};
use brenier_linalg::{LinalgError, effective_rank, f32_noise};
use brenier_map::RowMap;

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
/// - [`TransportError::Certificate`]: a map that is off from a condition of its kind by more than rounding explains, or by
///   more than 1e-2, is refused. Every optimal map is held to symmetry, positivity, push-forward of mean and covariance and
///   cost = W2^2; an entropic one to its own condition, an erasure to no separation, `P^2 = P` and least change, the control
///   to its push-forward. The basis of the returned map is held to be orthonormal, and to read of the rows what the map was
///   found for.
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
    let classes = checked_classes(&source, &target, method.least_rows())?;
    let held_out = held_out
        .0
        .map(|(source, target)| {
            let source = checked(Side::HeldOutSource, source, 1)?;
            let target = checked(Side::HeldOutTarget, target, 1)?;
            same_width(Side::HeldOutSource, classes[0].width(), source.width())?;
            same_width(Side::HeldOutTarget, classes[0].width(), target.width())?;
            Ok::<_, TransportError>((source, target))
        })
        .transpose()?;

    let mut reduced = Reduced::of(&classes)?;
    if method == Method::Leace {
        reduced.noise = noise(&classes)?;
    }
    let made = || estimate(method, &classes, &reduced, options, None);
    let before =
        || Ok::<_, TransportError>((effective_ranks(&reduced, options)?, reduced.w2(options.covariance)?));
    // One after the other where what each holds is as large as the rows.
    let (made, before) = if reduced.is_small() { rayon::join(made, before) } else { (made(), before()) };
    let (made, (ranks, before)) = (made?, before?);
    let boot = options.bootstrap.as_ref();
    let boot =
        boot.map(|boot| bootstrap(method, &classes, &reduced, options, made.shrinkage, boot)).transpose()?;
    let Certified { map, certificate } = certify(method, made, reduced, &classes, options)?;

    let [source, target] = [classes[0].needed_rows("a fit")?, classes[1].needed_rows("a fit")?];
    let mut train = measure(&map, source, target, options.covariance, Some(before))?;
    let mut held_out = held_out
        .map(|(s, t)| Ok::<_, TransportError>((s, t, measure(&map, s, t, options.covariance, None)?)))
        .transpose()?;
    if let Some(sliced) = &options.sliced {
        train.sliced = Some(measure_sliced(&map, source, target, sliced)?);
        if let Some((source, target, quality)) = &mut held_out {
            quality.sliced = Some(measure_sliced(&map, *source, *target, sliced)?);
        }
    }
    let weighted = source.weights().is_some() || target.weights().is_some();
    let certificate = Certificate {
        effective_rows: weighted.then(|| [source.effective_count(), target.effective_count()]),
        effective_rank_source: ranks[0],
        effective_rank_target: ranks[1],
        bootstrap: boot,
        train,
        held_out: held_out.map(|(_, _, quality)| quality),
        ..certificate
    };
    Ok(Fit { map, certificate, method })
}

/// The effective ranks of both classes.
pub(crate) fn effective_ranks(reduced: &Reduced<'_>, options: &FitOptions) -> Result<[f64; 2], LinalgError> {
    let rank = |side| Ok(effective_rank(reduced.factor(side, options.covariance)?.as_ref()));
    Ok([rank(0)?, rank(1)?])
}

/// What rounding to f32 may have added to an eigenvalue of a class's covariance divided by `n`.
fn noise(classes: &[Class<'_>; 2]) -> Result<f64, LinalgError> {
    let of =
        |class: &Class<'_>| Ok::<_, LinalgError>(class.rows()?.map_or(0.0, |rows| f32_noise(rows.view())));
    Ok(of(&classes[0])?.max(of(&classes[1])?))
}
