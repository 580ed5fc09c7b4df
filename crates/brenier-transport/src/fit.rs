use crate::baselines::{act, mean_shift, projection};
use crate::certificate::{Optimality, measure};
use crate::gate::gate;
use crate::pca_ot::{PcaOt, pca_ot};
use crate::{Certificate, Covariance, FitOptions, Gaussian, Method, Side, TransportError, monge};
use brenier_linalg::{Rows, effective_rank, factor, mean, transpose_product};
use brenier_map::{Affine, RowMap};
use faer::{Mat, MatRef};

/// Largest magnitude of an input: sums of its fourth power over any number of rows stay finite.
const LIMIT: f64 = 1e60;

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
/// which the certificate measures and the fit never sees.
///
/// # Errors
/// - [`TransportError::Rows`]: a NaN or infinity, with row and column; fewer than [`Method::least_rows`] rows.
/// - [`TransportError::Widths`]: rows of different widths.
/// - [`TransportError::Option`]: an option outside its range.
/// - [`TransportError::Linalg`] with `ComponentsExceedRank`: K larger than the rank of the pooled rows.
/// - [`TransportError::SameMean`]: RFA or ACE between equal means.
/// - [`TransportError::GateDegenerate`]: a class without a density in the gate's coordinates.
/// - [`TransportError::Certificate`]: never, unless this program is wrong.
pub fn fit(
    method: Method,
    source: MatRef<'_, f64>,
    target: MatRef<'_, f64>,
    options: &FitOptions,
    held_out: Option<(MatRef<'_, f64>, MatRef<'_, f64>)>,
) -> Result<Fit, TransportError> {
    options.check()?;
    let least = method.least_rows();
    let pair =
        Pair { source: checked(Side::Source, source, least)?, target: checked(Side::Target, target, least)? };
    pair.same_width(Side::Target, pair.target)?;
    if let Some((source, target)) = held_out {
        pair.same_width(Side::HeldOutSource, checked(Side::HeldOutSource, source, 1)?)?;
        pair.same_width(Side::HeldOutTarget, checked(Side::HeldOutTarget, target, 1)?)?;
    }

    let mut made = estimate(method, &pair, options)?;
    if let Some(optimality) = &mut made.optimality {
        check_mean(&pair, &made.affine, made.basis.as_ref(), optimality)?;
    }
    let mut map = RowMap::new(made.affine)?;
    if let Some(gate) = made.gate {
        map = map.with_gate(gate)?;
    }
    let rank = |rows: Rows<'_>| effective_rank(factor(rows, &mean(rows), options.covariance).as_ref());
    let regularised = matches!(method, Method::PcaOt | Method::Gated | Method::Ot);
    let certificate = Certificate {
        method,
        dim: pair.dim(),
        source_rows: pair.source.count(),
        target_rows: pair.target.count(),
        covariance: match options.covariance {
            Covariance::Sample => "sample".to_owned(),
            Covariance::Population => "population".to_owned(),
        },
        components: method.uses_components().then_some(options.components),
        explained: made.explained,
        shift: method.uses_components().then_some(options.shift),
        shrinkage: made.shrinkage,
        gate_shrinkage: made.gate_shrinkage,
        reg_abs: if regularised { options.reg_abs.unwrap_or(0.0) } else { 0.0 },
        effective_rank_source: rank(pair.source),
        effective_rank_target: rank(pair.target),
        norm: made.norm,
        skipped: made.skipped,
        optimality: made.optimality,
        train: measure(&map, source, target, options.covariance)?,
        held_out: held_out.map(|(s, t)| measure(&map, s, t, options.covariance)).transpose()?,
    };
    Ok(Fit { map, certificate, method })
}

/// Checked source and target of one width.
pub(crate) struct Pair<'a> {
    pub source: Rows<'a>,
    pub target: Rows<'a>,
}

impl Pair<'_> {
    pub(crate) fn dim(&self) -> usize {
        self.source.width()
    }

    fn same_width(&self, side: Side, rows: Rows<'_>) -> Result<(), TransportError> {
        if rows.width() == self.dim() {
            Ok(())
        } else {
            Err(TransportError::Widths { side, expected: self.dim(), found: rows.width() })
        }
    }
}

/// What a method makes, before it is measured.
struct Made {
    affine: Affine,
    norm: f64,
    gate: Option<brenier_map::Gate>,
    gate_shrinkage: Option<[f64; 2]>,
    optimality: Option<Optimality>,
    /// The coordinates in which the map is optimal, if not all.
    basis: Option<Mat<f64>>,
    shrinkage: Option<[f64; 2]>,
    explained: Option<f64>,
    skipped: Option<usize>,
}

impl Made {
    fn plain(affine: Affine, norm: f64) -> Self {
        Self {
            affine,
            norm,
            gate: None,
            gate_shrinkage: None,
            optimality: None,
            basis: None,
            shrinkage: None,
            explained: None,
            skipped: None,
        }
    }
}

fn estimate(method: Method, pair: &Pair<'_>, options: &FitOptions) -> Result<Made, TransportError> {
    let d = pair.dim();
    Ok(match method {
        Method::PcaOt | Method::Gated => {
            let of = pca_ot(pair, options)?;
            let made = if method == Method::Gated { Some(gate(&of, options)?) } else { None };
            let PcaOt { affine, optimality, shrinkage, pca, .. } = of;
            let outside = if options.components < d { 1.0 } else { 0.0 };
            let explained = pca.eigenvalues.iter().sum::<f64>() / pca.total;
            let (gate, gate_shrinkage) = made.unzip();
            Made {
                norm: optimality.max_eigenvalue.max(outside),
                affine,
                gate,
                gate_shrinkage,
                optimality: Some(optimality),
                basis: Some(pca.basis),
                shrinkage: Some(shrinkage),
                explained: Some(explained),
                skipped: None,
            }
        }
        Method::Ot => {
            let reg = options.reg_abs.unwrap_or(0.0);
            let gaussian = |rows| Gaussian::estimate(rows, options.covariance, options.shrinkage, reg);
            let ((source, a), (target, b)) = (gaussian(pair.source)?, gaussian(pair.target)?);
            let map = monge(&source, &target)?;
            let optimality = map.optimality().clone();
            Made {
                optimality: Some(optimality.clone()),
                shrinkage: Some([a, b]),
                ..Made::plain(map.affine(), optimality.max_eigenvalue)
            }
        }
        Method::Mean => Made::plain(mean_shift(pair), 1.0),
        Method::Rfa | Method::Ace => Made::plain(projection(pair, method)?, if d > 1 { 1.0 } else { 0.0 }),
        Method::ActLinear | Method::ActGaussian => {
            let (affine, skipped) = act(pair, method, options);
            let norm = match &affine {
                Affine::Diagonal(map) => map.weight.iter().fold(0.0_f64, |norm, w| norm.max(w.abs())),
                _ => 0.0,
            };
            Made { skipped: Some(skipped), ..Made::plain(affine, norm) }
        }
    })
}

fn checked(side: Side, rows: MatRef<'_, f64>, least: usize) -> Result<Rows<'_>, TransportError> {
    let checked = Rows::at_least(least, rows).map_err(|error| TransportError::Rows { side, error })?;
    if let Some((row, column)) = checked.first_above(LIMIT) {
        return Err(TransportError::Magnitude {
            side,
            row,
            column,
            value: rows[(row, column)],
            limit: LIMIT,
        });
    }
    Ok(checked)
}

/// `|T(m_s) - m_t|`, in the coordinates in which the map is optimal, relative to the size of means and spread.
fn check_mean(
    pair: &Pair<'_>,
    affine: &Affine,
    basis: Option<&Mat<f64>>,
    optimality: &mut Optimality,
) -> Result<(), TransportError> {
    let (source, target) = (mean(pair.source), mean(pair.target));
    let d = pair.dim();
    let mut moved = Mat::from_fn(1, d, |_, j| source[j]);
    RowMap::new(affine.clone())?.apply_rows(moved.as_mut(), 1.0)?;
    let off = Mat::from_fn(d, 1, |j, _| moved[(0, j)] - target[j]);
    let off = match basis {
        Some(basis) => transpose_product(basis.as_ref(), off.as_ref()),
        None => off,
    };
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let size = norm(&source).max(norm(&target)).max(optimality.w2_squared.sqrt());
    let found = if size > 0.0 { brenier_linalg::squared_norm(off.as_ref()).sqrt() / size } else { 0.0 };
    optimality.push_forward_mean = found;
    let allowed = optimality.tolerance * optimality.max_eigenvalue.max(1.0);
    if found <= allowed {
        Ok(())
    } else {
        Err(TransportError::Certificate { law: "T(m_s) = m_t", found, allowed })
    }
}
