use crate::error::TransportError;
use crate::methods::{Estimate, Fitted};
use crate::options::FitOptions;
use crate::ot::{Between, optimal};
use crate::reduce::Reduced;
use brenier_linalg::{Shrinkage, joint_basis};
use faer::Mat;

/// The optimal map between the (regularised) Gaussians of the classes, in all dimensions.
pub(crate) fn ot(
    reduced: &Reduced<'_>,
    options: &FitOptions,
    intensities: Option<[f64; 2]>,
) -> Result<Estimate, TransportError> {
    let Pair { between, shrinkage, inner } = gaussians(reduced, options, intensities)?;
    let found = optimal(&between)?;
    let norm = found.optimality.max_eigenvalue;
    Ok(Estimate {
        optimality: Some(found.optimality),
        shrinkage: Some(shrinkage),
        ..Estimate::new(Fitted::Span { scale: between.scale(), matrix: found.matrix, inner }, norm)
    })
}

/// The two regularised Gaussians in the coordinates in which the classes vary.
pub(crate) struct Pair {
    pub between: Between,
    /// Their shrinkage intensities.
    pub shrinkage: [f64; 2],
    /// The span of the two in these coordinates, where it is smaller by design: of a probabilistic PCA. `[r, k]`.
    pub inner: Option<Mat<f64>>,
}

/// The two Gaussians, shrunk by given intensities or by those that the options ask for.
pub(crate) fn gaussians(
    reduced: &Reduced<'_>,
    options: &FitOptions,
    intensities: Option<[f64; 2]>,
) -> Result<Pair, TransportError> {
    let (reg, dim) = (options.reg_abs.unwrap_or(0.0), reduced.dim);
    let gaussian = |side: usize| {
        let class = &reduced.classes[side];
        let (mut gaussian, intensity) = match (options.latent, intensities) {
            (Some(latent), _) => {
                let found = class.probabilistic_pca(options.covariance, latent, dim)?;
                (found.gaussian.regularised(0.0, reg), 0.0)
            }
            (None, given) => {
                let shrinkage = given.map_or(options.shrinkage, |given| Shrinkage::Fixed(given[side]));
                class.gaussian(options.covariance, shrinkage, reg, dim)?
            }
        };
        if gaussian.factor.ncols() > reduced.rank {
            gaussian.factor = gaussian.factor.as_ref().subcols(0, reduced.rank).to_owned();
        }
        Ok::<_, TransportError>((gaussian, intensity))
    };
    let ((source, a), (target, b)) = (gaussian(0)?, gaussian(1)?);
    let (mut source, mut target, mut inner) = (source, target.narrowed(options.target_spread), None);
    if options.latent.is_some() {
        let basis = joint_basis(source.factor(), target.factor())?;
        for gaussian in [&mut source, &mut target] {
            gaussian.factor = gaussian.plain_factor_in(&basis);
        }
        inner = basis.vectors;
    }
    Ok(Pair { between: Between::new(&source, &target, reduced.apart(), dim), shrinkage: [a, b], inner })
}
