//! The methods, one a file: what each makes of two classes in reduced coordinates.

pub(crate) mod axes;
pub(crate) mod baselines;
pub(crate) mod entropic;
pub(crate) mod gate;
pub(crate) mod gated;
pub(crate) mod leace;
pub(crate) mod mixture_ot;
pub(crate) mod ot;
pub(crate) mod pca_ot;
pub(crate) mod whitening;

use crate::calibrate::Calibration;
use crate::certificate::Optimality;
use crate::error::TransportError;
use crate::methods::axes::Axes;
use crate::methods::baselines::{act, mean_shift, projection};
use crate::methods::entropic::{EntropicLaws, entropic_fit};
use crate::methods::gated::gated;
use crate::methods::leace::{ErasureLaws, leace};
use crate::methods::mixture_ot::{MixtureLaws, mixture_ot};
use crate::methods::ot::ot;
use crate::methods::pca_ot::pca_ot;
use crate::methods::whitening::whitening;
use crate::options::{FitOptions, Method};
use crate::reduce::Reduced;
use crate::samples::class::Class;
use brenier_map::{Affine, Gate};
use faer::Mat;

/// What a method makes, before it is certified.
pub(crate) struct Estimate {
    pub fitted: Fitted,
    /// Spectral norm of the linear part.
    pub norm: f64,
    pub gate: Option<Gate>,
    pub gate_shrinkage: Option<[f64; 2]>,
    pub optimality: Option<Optimality>,
    pub entropic: Option<EntropicLaws>,
    pub mixture: Option<MixtureLaws>,
    pub calibration: Option<Calibration>,
    pub erasure: Option<ErasureLaws>,
    pub control: Option<Optimality>,
    /// The coordinates in which the map is optimal, if not all.
    pub axes: Option<Axes>,
    pub shrinkage: Option<[f64; 2]>,
    pub explained: Option<f64>,
    pub skipped: Option<usize>,
}

/// A map.
pub(crate) enum Fitted {
    /// In all dimensions.
    Lifted(Affine),
    /// `matrix` in the span of the classes, or in the columns of `inner` in it, `[r, k]`, if there are such, and `scale`
    /// times the identity outside, to be lifted.
    Span { scale: f64, matrix: Mat<f64>, inner: Option<Mat<f64>> },
}

impl Estimate {
    pub(crate) fn new(fitted: Fitted, norm: f64) -> Self {
        Self {
            fitted,
            norm,
            gate: None,
            gate_shrinkage: None,
            optimality: None,
            entropic: None,
            erasure: None,
            control: None,
            mixture: None,
            calibration: None,
            axes: None,
            shrinkage: None,
            explained: None,
            skipped: None,
        }
    }
}

/// Fits a method. `classes`: the rows themselves, for AcT alone, which knows the coordinates. `intensities`: shrinkage
/// intensities of the map's covariances in all dimensions, in place of those that the options ask for.
pub(crate) fn estimate(
    method: Method,
    classes: &[Class<'_>; 2],
    reduced: &Reduced<'_>,
    options: &FitOptions,
    intensities: Option<[f64; 2]>,
) -> Result<Estimate, TransportError> {
    match method {
        Method::PcaOt => pca_ot(reduced, options),
        Method::Gated => gated(reduced, options),
        Method::Mixture => mixture_ot(reduced, options),
        Method::Ot => ot(reduced, options, intensities),
        Method::Entropic => entropic_fit(reduced, options, intensities),
        Method::Whitening => whitening(reduced, options, intensities),
        Method::Leace => leace(reduced, options),
        Method::Mean => Ok(Estimate::new(Fitted::Lifted(mean_shift(&reduced.means)), 1.0)),
        Method::Rfa | Method::Ace => {
            let affine = projection(&reduced.means, method)?;
            Ok(Estimate::new(Fitted::Lifted(affine), if reduced.dim > 1 { 1.0 } else { 0.0 }))
        }
        Method::ActMean | Method::ActLinear | Method::ActGaussian => act(classes, method, options),
    }
}

/// The norm of the identity on the axes that a map in `k` of `d` leaves as they are.
pub(crate) fn norm_beside(k: usize, d: usize) -> f64 {
    if k < d { 1.0 } else { 0.0 }
}
