use crate::certificate::Certificate;
use crate::certificate::certify::{Certified, certify};
use crate::certificate::sketch::Streamed;
use crate::error::{Side, TransportError};
use crate::fit::{Fit, effective_ranks};
use crate::gaussian::Gaussian;
use crate::methods::estimate;
use crate::options::{FitOptions, Method};
use crate::reduce::Reduced;
use crate::samples::class::{Class, Known, LIMIT, same_width};
use brenier_linalg::{Covariance, LinalgError, Moments, Shrinkage};

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
    same_width(Side::Target, source.width(), target.width())?;
    let gaussians = [
        checked(Side::Source, source, method, covariance)?,
        checked(Side::Target, target, method, covariance)?,
    ];
    let classes = [class(source), class(target)];
    let reduced = Reduced::of(&classes)?;
    let made = estimate(method, &classes, &reduced, options, None)?;
    let ranks = effective_ranks(&reduced, options)?;
    let Certified { map, certificate } = certify(method, made, reduced, &classes, options)?;
    let streamed = Streamed { moments: [source, target], gaussians, covariance };
    let (train, sketch) = streamed.measure(&map, certificate.norm)?;
    let certificate = Certificate {
        effective_rank_source: ranks[0],
        effective_rank_target: ranks[1],
        sketch: Some(sketch),
        train,
        ..certificate
    };
    Ok(Fit { map, certificate, method })
}

fn class(moments: &Moments) -> Class<'static> {
    let known = Known::Factor { factor: moments.factor(Covariance::Population), count: moments.count() };
    Class { mean: moments.mean().to_vec(), known }
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
