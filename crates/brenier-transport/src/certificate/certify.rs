//! The step from what a method made to a map that is returned, checked as it is.

use crate::certificate::{Certificate, Optimality, Quality};
use crate::error::TransportError;
use crate::methods::{Estimate, Fitted};
use crate::options::{FitOptions, Method};
use crate::ot::{SpanMap, refuse_beyond};
use crate::random::SplitMix;
use crate::reduce::Reduced;
use crate::samples::class::Class;
use brenier_linalg::{Covariance, product, squared_norm, transpose_product};
use brenier_map::RowMap;
use faer::{Mat, MatMut, MatRef};

/// How far the basis of a returned map may be off, relative: ten times what the Gram path may cost.
const BASIS: f64 = 1e-9;

/// A map, and what its certificate says before anything is measured on rows.
pub(crate) struct Certified {
    pub map: RowMap,
    pub certificate: Certificate,
}

/// Lifts an estimate and checks the map that comes out: the basis it reads with, what that reads of the classes, and where
/// the mean goes. The effective ranks and `train` of the certificate have to be put in.
pub(crate) fn certify(
    method: Method,
    estimate: Estimate,
    reduced: Reduced<'_>,
    classes: &[Class<'_>; 2],
    options: &FitOptions,
) -> Result<Certified, TransportError> {
    let Estimate { mut optimality, mut control, axes, .. } = estimate;
    let covariance = Covariance::Population;
    let counts = [classes[0].count(), classes[1].count()];
    let mut conditions = optimality.as_mut().or(control.as_mut());
    let affine = match estimate.fitted {
        Fitted::Span { scale, matrix, inner } => {
            let mut inside = [reduced.factor(0, covariance)?, reduced.factor(1, covariance)?];
            let all = inner.is_none();
            let Reduced { basis, means, .. } = reduced;
            let basis = match inner {
                None => basis.into_columns(),
                Some(inner) => {
                    inside = inside.map(|inside| product(inside.as_ref(), inner.as_ref()));
                    Some(basis.lift_span(inner.as_ref()))
                }
            };
            if let Some(columns) = &basis {
                let off = orthonormality(columns.as_ref());
                let reading = reading(classes, columns.as_ref(), &inside, all)?;
                check_basis(off, reading)?;
                if let Some(o) = &mut conditions {
                    (o.orthonormality, o.reading) = (Some(off), Some(reading));
                }
            }
            drop(inside);
            SpanMap { basis, means, scale, matrix }.into_affine()
        }
        Fitted::Lifted(affine) => {
            if let Some(axes) = &axes {
                let along = |side: usize| -> Result<Mat<f64>, TransportError> {
                    Ok(product(reduced.classes[side].factor(covariance)?.as_ref(), axes.inner.as_ref()))
                };
                let off = orthonormality(axes.basis.as_ref());
                let reading = reading(classes, axes.basis.as_ref(), &[along(0)?, along(1)?], false)?;
                check_basis(off, reading)?;
                if let Some(o) = &mut conditions {
                    (o.orthonormality, o.reading) = (Some(off), Some(reading));
                }
            }
            affine
        }
    };
    let mut map = RowMap::new(affine)?;
    if let Some(conditions) = conditions {
        let means = [&classes[0].mean, &classes[1].mean];
        check_mean(means, &map, axes.as_ref().map(|axes| axes.basis.as_ref()), conditions)?;
    }
    if let Some(gate) = estimate.gate {
        map = map.with_gate(gate)?;
    }
    let regularised =
        matches!(method, Method::PcaOt | Method::Gated | Method::Ot | Method::Entropic | Method::Whitening);
    let certificate = Certificate {
        method,
        dim: map.dim(),
        source_rows: counts[0],
        target_rows: counts[1],
        effective_rows: None,
        covariance: match options.covariance {
            // A mixture is fitted by likelihood.
            Covariance::Sample if method != Method::Mixture => "sample".to_owned(),
            _ => "population".to_owned(),
        },
        components: method.uses_components().then_some(options.components),
        explained: estimate.explained,
        shift: method.uses_components().then_some(options.shift),
        target_spread: Some(options.only_for(method).target_spread).filter(|&tau| tau != 1.0),
        shrinkage: estimate.shrinkage,
        gate_shrinkage: estimate.gate_shrinkage,
        reg_abs: if regularised { options.reg_abs.unwrap_or(0.0) } else { 0.0 },
        latent: options.latent.filter(|_| method.uses_latent()),
        effective_rank_source: f64::NAN,
        effective_rank_target: f64::NAN,
        norm: estimate.norm,
        skipped: estimate.skipped,
        optimality,
        entropic: estimate.entropic,
        mixture: estimate.mixture,
        calibration: estimate.calibration,
        erasure: estimate.erasure,
        control,
        bootstrap: None,
        sketch: None,
        train: Quality::default(),
        held_out: None,
    };
    Ok(Certified { map, certificate })
}

/// Columns of random signs that an error matrix `E` is multiplied by: the mean of `|E g|^2` over such `g` is `|E|_F^2`.
///
/// Reference: M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1989.
const PROBES: usize = 16;

fn probes(n: usize) -> Mat<f64> {
    let mut random = SplitMix::new(0);
    Mat::from_fn(n, PROBES, |_, _| if random.next() >> 63 == 0 { 1.0 } else { -1.0 })
}

/// `|Q^T Q - I|_F / sqrt(r)`, by [`PROBES`].
fn orthonormality(columns: MatRef<'_, f64>) -> f64 {
    let by = probes(columns.ncols());
    let off = transpose_product(columns, product(columns, by.as_ref()).as_ref()) - &by;
    (squared_norm(off.as_ref()) / (PROBES * columns.ncols().max(1)) as f64).sqrt()
}

/// How far the classes' deviations, read with the columns, `[d, k]`, are off their coordinates `inside`, `[m, k]`, and, if
/// these are to hold `all`, how much of their variance is not in them; relative, by [`PROBES`].
fn reading(
    classes: &[Class<'_>; 2],
    columns: MatRef<'_, f64>,
    inside: &[Mat<f64>; 2],
    all: bool,
) -> Result<f64, TransportError> {
    let off = |side: usize| {
        let by = probes(inside[side].nrows());
        let combined = classes[side].combined(by.as_ref())?;
        let whole = squared_norm(combined.as_ref());
        if whole == 0.0 {
            return Ok(0.0);
        }
        let read = transpose_product(columns, combined.as_ref());
        let outside = if all { (whole - squared_norm(read.as_ref())).abs() / whole } else { 0.0 };
        let off = read - transpose_product(inside[side].as_ref(), by.as_ref());
        Ok::<_, TransportError>((squared_norm(off.as_ref()) / whole).sqrt().max(outside))
    };
    let (source, target) = rayon::join(|| off(0), || off(1));
    Ok(source?.max(target?))
}

/// Refuses a basis that is not orthonormal, or reads something else than what the map was found for.
fn check_basis(orthonormality: f64, reading: f64) -> Result<(), TransportError> {
    refuse_beyond(&[("Q^T Q = I", orthonormality, BASIS), ("Q^T (x - m) = coordinates of x", reading, BASIS)])
}

/// `|T(m_s) - m_t|`, in the coordinates in which the map is optimal, relative to the size of means and spread.
fn check_mean(
    [source, target]: [&Vec<f64>; 2],
    map: &RowMap,
    basis: Option<MatRef<'_, f64>>,
    optimality: &mut Optimality,
) -> Result<(), TransportError> {
    let mut moved = source.clone();
    map.apply_rows(MatMut::from_row_major_slice_mut(&mut moved, 1, map.dim()), 1.0)?;
    let off = Mat::from_fn(map.dim(), 1, |j, _| moved[j] - target[j]);
    let off = match basis {
        Some(basis) => transpose_product(basis, off.as_ref()),
        None => off,
    };
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let size = norm(source).max(norm(target)).max(optimality.w2_squared.sqrt());
    let found = if size > 0.0 { squared_norm(off.as_ref()).sqrt() / size } else { 0.0 };
    optimality.push_forward_mean = found;
    refuse_beyond(&[("T(m_s) = m_t", found, optimality.tolerance * optimality.max_eigenvalue.max(1.0))])
}
