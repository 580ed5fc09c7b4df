//! What a method makes, and what of it goes into a certificate, whether it was made of rows or of moments.

use crate::certificate::Optimality;
use crate::entropic::entropic_in;
use crate::joint::{Joint, OfRows};
use crate::monge::monge_in;
use crate::span::Spanned;
use crate::span_measure::Moved;
use crate::whitening::whitening;
use crate::{
    Calibration, Certificate, Covariance, EntropicLaws, ErasureLaws, FitOptions, Gaussian, Method,
    MixtureLaws, Quality, TransportError,
};
use brenier_linalg::transpose_product;
use brenier_map::{Affine, LowRank, RowMap, Symmetric};
use faer::{Mat, MatMut};

/// What a method makes, before it is measured.
pub(crate) struct Made {
    pub affine: Affine,
    pub norm: f64,
    pub gate: Option<brenier_map::Gate>,
    pub gate_shrinkage: Option<[f64; 2]>,
    pub optimality: Option<Optimality>,
    pub entropic: Option<EntropicLaws>,
    pub mixture: Option<MixtureLaws>,
    pub calibration: Option<Calibration>,
    pub erasure: Option<ErasureLaws>,
    pub control: Option<Optimality>,
    /// The coordinates in which the map is optimal, if not all.
    pub basis: Option<Mat<f64>>,
    /// The map in the coordinates of the rows, if it was found there and has yet to be measured,
    pub spanned: Option<Spanned>,
    /// or what it does to the rows,
    pub moved: Option<Moved>,
    /// or all that is measured, and the effective ranks of both classes.
    pub measured: Option<(Quality, [f64; 2])>,
    pub shrinkage: Option<[f64; 2]>,
    pub explained: Option<f64>,
    pub skipped: Option<usize>,
}

impl Made {
    pub(crate) fn plain(affine: Affine, norm: f64) -> Self {
        Self {
            affine,
            norm,
            gate: None,
            gate_shrinkage: None,
            optimality: None,
            entropic: None,
            erasure: None,
            control: None,
            mixture: None,
            calibration: None,
            basis: None,
            spanned: None,
            moved: None,
            measured: None,
            shrinkage: None,
            explained: None,
            skipped: None,
        }
    }

    /// A map in the axes of `basis`, `[d, K]`, that leaves the others as they are.
    pub(crate) fn in_axes(
        affine: Affine,
        optimality: Optimality,
        basis: Mat<f64>,
        shrinkage: [f64; 2],
        explained: f64,
    ) -> Self {
        let norm = optimality.max_eigenvalue.max(norm_beside(basis.ncols(), basis.nrows()));
        Self {
            optimality: Some(optimality),
            basis: Some(basis),
            shrinkage: Some(shrinkage),
            explained: Some(explained),
            ..Self::plain(affine, norm)
        }
    }

    /// The map, whose laws are complete with this, and what its certificate says before anything is measured: the effective
    /// ranks and `train` have to be put in. `means`: those of source and target, `[d]`; `rows`: how many these have.
    pub(crate) fn seal(
        self,
        method: Method,
        rows: [usize; 2],
        means: &[Vec<f64>; 2],
        options: &FitOptions,
    ) -> Result<Sealed, TransportError> {
        let Self { affine, mut optimality, mut control, basis, .. } = self;
        let mut map = RowMap::new(affine)?;
        if let Some(laws) = optimality.as_mut().or(control.as_mut()) {
            check_mean(means, &map, basis.as_ref(), laws)?;
        }
        if let Some(gate) = self.gate {
            map = map.with_gate(gate)?;
        }
        let regularised = matches!(
            method,
            Method::PcaOt | Method::Gated | Method::Ot | Method::Entropic | Method::Whitening
        );
        let certificate = Certificate {
            method,
            dim: map.dim(),
            source_rows: rows[0],
            target_rows: rows[1],
            effective_rows: None,
            covariance: match options.covariance {
                // A mixture is fitted by likelihood.
                Covariance::Sample if method != Method::Mixture => "sample".to_owned(),
                _ => "population".to_owned(),
            },
            components: method.uses_components().then_some(options.components),
            explained: self.explained,
            shift: method.uses_components().then_some(options.shift),
            shrinkage: self.shrinkage,
            gate_shrinkage: self.gate_shrinkage,
            reg_abs: if regularised { options.reg_abs.unwrap_or(0.0) } else { 0.0 },
            latent: options.latent.filter(|_| method.uses_latent()),
            effective_rank_source: f64::NAN,
            effective_rank_target: f64::NAN,
            norm: self.norm,
            skipped: self.skipped,
            optimality,
            entropic: self.entropic,
            mixture: self.mixture,
            calibration: self.calibration,
            erasure: self.erasure,
            control,
            bootstrap: None,
            sketch: None,
            train: Quality::default(),
            held_out: None,
        };
        Ok(Sealed { map, certificate, spanned: self.spanned, moved: self.moved, measured: self.measured })
    }
}

/// A map that keeps its laws, before it is measured.
pub(crate) struct Sealed {
    pub map: RowMap,
    pub certificate: Certificate,
    /// As in [`Made`].
    pub spanned: Option<Spanned>,
    pub moved: Option<Moved>,
    pub measured: Option<(Quality, [f64; 2])>,
}

/// The norm of the identity on the axes that a map in `k` of `d` leaves as they are.
pub(crate) fn norm_beside(k: usize, d: usize) -> f64 {
    if k < d { 1.0 } else { 0.0 }
}

/// A map in all dimensions between two regularised Gaussians: [`Method::Entropic`], [`Method::Whitening`], else the
/// optimal one. It is measured on the rows if it is known what the Gaussians have of them.
pub(crate) fn between(
    method: Method,
    [source, target]: [Gaussian; 2],
    shrinkage: [f64; 2],
    of_rows: Option<OfRows>,
    options: &FitOptions,
) -> Result<Made, TransportError> {
    let joint = Joint::of(&source, &target)?;
    // As large as the rows, and so is the map, or twice that.
    drop((source, target));
    let (mut map, norm, entropic, control, optimality) = match method {
        Method::Entropic => {
            let sigma = options.entropic_sigma.between(joint.traces());
            let made = entropic_in(joint, sigma)?;
            (made.map, made.laws.max_eigenvalue, Some(made.laws), None, None)
        }
        Method::Whitening => {
            let made = whitening(joint)?;
            (made.map, made.norm, None, Some(made.control), None)
        }
        _ => {
            let made = monge_in(joint)?;
            (made.map, made.optimality.max_eigenvalue, None, None, Some(made.optimality))
        }
    };
    let measured = of_rows.map(|of| map.measure(&of)).transpose()?;
    let made = Made::plain(map.into_affine(), norm);
    Ok(Made { entropic, control, optimality, measured, shrinkage: Some(shrinkage), ..made })
}

/// `|T(m_s) - m_t|`, in the coordinates in which the map is optimal, relative to the size of means and spread.
fn check_mean(
    [source, target]: &[Vec<f64>; 2],
    map: &RowMap,
    basis: Option<&Mat<f64>>,
    optimality: &mut Optimality,
) -> Result<(), TransportError> {
    let moved = match map.affine() {
        // What such a map does to its own centre can be read off it.
        Affine::LowRank(LowRank { scale, mean, offset, .. })
        | Affine::Symmetric(Symmetric { scale, mean, offset, .. })
            if mean == source =>
        {
            source.iter().zip(offset).map(|(m, offset)| scale * m + offset).collect()
        }
        _ => {
            let mut moved = source.clone();
            map.apply_rows(MatMut::from_row_major_slice_mut(&mut moved, 1, map.dim()), 1.0)?;
            moved
        }
    };
    let off = Mat::from_fn(map.dim(), 1, |j, _| moved[j] - target[j]);
    let off = match basis {
        Some(basis) => transpose_product(basis.as_ref(), off.as_ref()),
        None => off,
    };
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let size = norm(source).max(norm(target)).max(optimality.w2_squared.sqrt());
    let found = if size > 0.0 { brenier_linalg::squared_norm(off.as_ref()).sqrt() / size } else { 0.0 };
    optimality.push_forward_mean = found;
    let allowed = optimality.tolerance * optimality.max_eigenvalue.max(1.0);
    if found <= allowed {
        Ok(())
    } else {
        Err(TransportError::Certificate { law: "T(m_s) = m_t", found, allowed })
    }
}
