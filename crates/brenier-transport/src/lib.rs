//! Maps that carry one set of activations onto another: Gaussian optimal transport, its baselines, and a
//! certificate of each fit.
//!
//! [`fit`] takes a [`Method`], the source rows (the behaviour to be changed), the target rows (the behaviour wanted)
//! and [`FitOptions`], and gives a [`Fit`]: a [`RowMap`] and its [`Certificate`].
//! [`GaussianOtMap`] is the short way for rows in any container ([`RowSource`]), and [`fit_moments`] the one for more rows than fit in memory: it
//! takes [`Moments`], streamed, merged and kept in a [`MomentsFile`], and says what they may have lost. Fits run in f64;
//! no `d x d` matrix appears where there are fewer rows than columns.
//!
//! | method | map | moves |
//! |---|---|---|
//! | [`Method::PcaOt`] | `x + shift + P (A_K - I) P^T (x - m_s)` | mean and covariance in the K leading axes of the pooled rows |
//! | [`Method::Gated`] | `x + p(x) (T(x) - x)`, `T` as above | the same, rows of the source alone |
//! | [`Method::Mixture`] | `x + sum_c p_c(x) (T_c(x) - x)` | a Gaussian mixture to another, in the same coordinates |
//! | [`Method::Ot`] | `m_t + A (x - m_s)` | mean and covariance in all directions |
//! | [`Method::Entropic`] | `m_t + E (x - m_s)` | mean and covariance in all directions, contracted |
//! | [`Method::Mean`] | `x + m_t - m_s` | the mean |
//! | [`Method::Rfa`] | `x - r r^T x`, `r` along `m_s - m_t` | one direction, to zero |
//! | [`Method::Ace`] | `x - r r^T (x - m_t)` | one direction, to the target's mean |
//! | [`Method::Leace`] | `x - r v^T (x - m) / v^T r`, `v = S^+ r` | one direction, what an affine predictor reads, to nothing |
//! | [`Method::ActMean`], [`Method::ActLinear`], [`Method::ActGaussian`] | `w * x + b` | every coordinate by itself |
//! | [`Method::Whitening`] | `m_t + S_t^{1/2} S_s^{-1/2} (x - m_s)` | as [`Method::Ot`], at a higher cost: the control |
//!
//! `A` is always the optimal (Monge, Brenier) map between the two covariances:
//!
//! ```math
//! A = S_s^{-1/2} ( S_s^{1/2} S_t S_s^{1/2} )^{1/2} S_s^{-1/2}
//! ```
//!
//! # Regularisation
//! None by default: maps are exact for the empirical covariances. On directions in which the source does not vary the
//! optimal map does not exist (a point cannot be spread), and there it is the identity plus the shift of the mean;
//! the certificate counts these directions (`floored`) and says how much of the target's variance they hold
//! (`unreachable`). Shrinkage ([`Shrinkage`]: Ledoit and Wolf's, OAS, or given), a probabilistic PCA of each class
//! (`latent`, [`Gaussian::probabilistic_pca`]) or an absolute regulariser (`reg_abs`, as POT has it) makes the map
//! defined everywhere, at the price of a push-forward that holds for the regularised covariances; the certificate's
//! `w2_after` is always measured on the rows themselves. The posterior gate alone is regularised by default, since a
//! density needs an inverse.
//!
//! # Weights
//! Rows may have weights ([`Samples`]): every method honours them, and so do the measures of the certificate.
//!
//! # Which method
//! - A few directions hold what differs, and rows are few: [`Method::PcaOt`] with a small K. It estimates K x K
//!   numbers and leaves the rest of a row as it is.
//! - The map will meet rows of the target too (as inside a running model): [`Method::Gated`].
//! - Rows are many beside d, or shrinkage is acceptable: [`Method::Ot`]. Look at `held_out`: a map that is exact for
//!   the rows fitted may be far off on others.
//! - A few directions of each class vary strongly and the others alike: [`Method::Ot`] with `latent`, chosen by
//!   [`select_latent`].
//! - Something to beat: [`Method::Mean`], which cannot overfit a covariance.
//!
//! # Pitfalls
//! - W2 is that of the two Gaussians. Classes that differ in shape alone look the same to it.
//! - The relative error of `A` grows as `eps sqrt(condition)` when fitted to rows, and as `eps condition` when made
//!   from covariance matrices: give rows where there are rows.
//! - AcT's least deviation, 1e-4, is an absolute number, as published: rescale very small activations.
//! - Weights are importance, not counts: a weight of 2 is a row taken twice wherever covariances are divided by `n`, but
//!   the unbiased divisor, estimated shrinkages, BIC and the prior of a mixture know that it was seen once.
//! - Push-forward alone makes no map the optimal one: read symmetry, positivity and the cost with it.
//!
//! # Example
//! ```
//! use brenier_transport::{FitOptions, Method, fit};
//! use faer::Mat;
//!
//! let source = Mat::from_fn(40, 6, |i, j| ((i * 7 + j * 3) as f64 * 0.7).sin());
//! let target = Mat::from_fn(50, 6, |i, j| 2.0 + 0.5 * ((i * 5 + j * 4) as f64 * 0.9).cos());
//! let options = FitOptions { components: 2, ..FitOptions::default() };
//! let fit = fit(Method::PcaOt, source.as_ref(), target.as_ref(), &options, None)?;
//! assert!(fit.certificate.train.w2_after < fit.certificate.train.w2_before);
//! # Ok::<(), brenier_transport::TransportError>(())
//! ```
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod calibrate;
mod certificate;
mod error;
mod fit;
mod fit_moments;
mod gaussian;
mod methods;
mod moments_file;
mod options;
mod ot;
mod ot_map;
mod random;
mod reduce;
mod samples;
mod select;

pub use brenier_linalg::{
    Covariance, LinalgError, Moments, RowMajor, RowSource, RowView, Rows, Shrinkage, Weighted, Wide,
    matrix_of_rows,
};
pub use brenier_map::{Affine, Gate, MapError, RowMap, RowViewMut, RowsMut};
pub use calibrate::{Calibration, CalibrationOptions, CalibrationScore, calibrate_gate};
pub use certificate::bootstrap::{Bootstrap, BootstrapOptions};
pub use certificate::sketch::{Sketch, SketchBound};
pub use certificate::sliced::{Sliced, SlicedOptions, directions, sliced_w2, w2_1d};
pub use certificate::{Certificate, GateQuality, Optimality, Quality};
pub use error::{MixtureError, Side, TransportError};
/// The linear algebra of rows and maps.
pub use faer;
pub use fit::{Fit, fit};
pub use fit_moments::fit_moments;
pub use gaussian::geodesic::{Barycenter, BarycenterOptions, barycenter, geodesic};
pub use gaussian::mixture::fit::{
    CountScore, MixtureCount, MixtureFit, MixtureOptions, MixtureReport, Stop, fit_mixture,
};
pub use gaussian::mixture::plan::Plan;
pub use gaussian::mixture::{GaussianMixture, mixture_map, mixture_plan};
pub use gaussian::ppca::{LatentGaussian, LatentScore, LatentSelection, select_latent};
pub use gaussian::{Gaussian, w2};
pub use methods::entropic::{Blur, Entropic, EntropicLaws, entropic};
pub use methods::leace::ErasureLaws;
pub use methods::mixture_ot::MixtureLaws;
pub use moments_file::{MOMENTS_FORMAT, MomentsFile};
pub use options::{FitOptions, GateOptions, Method, Pooling, Shift};
pub use ot::{Monge, monge};
pub use ot_map::{GaussianOtBuilder, GaussianOtMap};
pub use samples::{HeldOut, Samples};
pub use select::{Candidate, Selection, select_components};
