use crate::calibrate::{CalibrationOptions, calibrate};
use crate::error::TransportError;
use crate::methods::Estimate;
use crate::methods::axes::Axes;
use crate::methods::gate::gate_along;
use crate::methods::pca_ot::pca_ot;
use crate::options::FitOptions;
use crate::reduce::Reduced;

/// [`pca_ot`] weighted by the posterior that a row belongs to the source. A calibrated gate has axes of its own.
pub(crate) fn gated(reduced: &Reduced<'_>, options: &FitOptions) -> Result<Estimate, TransportError> {
    let made = pca_ot(reduced, options)?;
    let calibration = match options.gate.calibrate {
        None => None,
        Some(folds) => {
            let grid = CalibrationOptions { folds, ..CalibrationOptions::default() };
            Some(calibrate(&reduced.classes, reduced.dim, options, &grid)?)
        }
    };
    let (gate, shrinkage) = match (&calibration, &made.axes) {
        (None, Some(axes)) => gate_along(axes, options)?,
        (None, None) => gate_along(&Axes::of(reduced, options)?, options)?,
        (Some(calibration), _) => {
            let chosen = calibration.apply(options);
            gate_along(&Axes::of(reduced, &chosen)?, &chosen)?
        }
    };
    Ok(Estimate { gate: Some(gate), gate_shrinkage: Some(shrinkage), calibration, ..made })
}
