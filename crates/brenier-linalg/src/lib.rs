//! The linear algebra under Brenier's fits: f64 throughout, on [faer].
//!
//! Rows are samples: a matrix of activations is `[n, d]`, one vector a row. Everything here keeps to three rules.
//!
//! - **Small side first.** With fewer rows than columns the work is done on the `n x n` Gram matrix; a `d x d`
//!   matrix appears only where `d` is the smaller side ([`pca`], [`joint_basis`], [`reduce`]).
//! - **Floors are relative** to the largest eigenvalue ([`relative_floor`]), so that a result does not depend on the
//!   unit in which activations are measured.
//! - **One answer.** Eigenvalues descend, signs are fixed (the entry of largest magnitude is positive), and every
//!   product is cut into the same blocks whatever the number of threads, so a result is the same bits everywhere on
//!   one kind of machine.
//!
//! Rows may carry [`Weights`]; means, factors and principal axes honour them.
//!
//! ```
//! use brenier_linalg::{Rows, mean, pca};
//! use faer::mat;
//!
//! let rows = mat![[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [3.0, 1.0, 0.0], [-3.0, -1.0, 0.0]];
//! let rows = Rows::new(rows.as_ref())?;
//! let found = pca(rows, &mean(rows), None, 2)?;
//! assert_eq!(found.rank, 2);
//! assert!(found.eigenvalues[0] > found.eigenvalues[1]);
//! assert!(brenier_linalg::pca(rows, &mean(rows), None, 3).is_err()); // three components of rank two
//! # Ok::<(), brenier_linalg::LinalgError>(())
//! ```
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod basis;
mod decompose;
mod error;
mod moments;
mod norms;
mod parts;
mod pca;
mod positive;
mod product;
mod roots;
mod rows;
mod shrinkage;
mod source;
mod streaming;
mod weights;

pub use basis::{JointBasis, joint_basis, orthonormalize};
pub use decompose::{
    Eigen, ThinSvd, column_signs, f32_noise, relative_floor, singular_values, symmetric_eigen,
    symmetric_eigenvalues, thin_svd,
};
pub use error::LinalgError;
pub use moments::{Covariance, center, factor, mean, reduce};
pub use norms::{effective_rank, nuclear_norm_of_product, squared_norm, squared_norm_of_gram};
pub use parts::MomentsParts;
pub use pca::{Pca, pca, pca_of_factor};
pub use positive::{cholesky, lower_inverse};
pub use product::{
    add_product, gram, gram_of_stack, product, product_with_transpose, stack_transpose_product,
    transpose_product,
};
pub use roots::{Root, symmetric_inverse_root, symmetric_root, symmetrize};
pub use rows::Rows;
pub use shrinkage::{Shrinkage, ledoit_wolf, ledoit_wolf_of_factor, oas, oas_of_factor};
pub use source::{Number, RowMajor, RowSource, RowView, Weighted, Wide, matrix_of_rows};
pub use streaming::Moments;
pub use weights::Weights;
