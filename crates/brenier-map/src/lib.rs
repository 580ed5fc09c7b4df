//! One operator for every intervention: an affine map of activation rows, its algebra, its file.
//!
//! A [`RowMap`] moves a row `x` (one activation vector of width `d`) to
//!
//! ```math
//! x + s\, p(x)\, (T(x) - x)
//! ```
//!
//! where `T` is an [`Affine`] map kept in its cheapest exact form, `p` the [`Gate`] (1 where there is
//! none) and `s` the strength, given at use: 0 changes nothing, 1 is the fitted map, values between
//! interpolate the displacement (for an optimal map that is the geodesic), negative ones go the other way.
//!
//! * [`LowRank`]: identity (or its multiple) plus low rank; `O(d r)` a row and never a `d x d` matrix.
//! * [`Symmetric`]: the same with a symmetric matrix, in half the memory; optimal maps in all dimensions are such.
//! * [`Diagonal`]: every coordinate for itself, optionally only inside a range.
//! * [`Dense`]: any matrix, for small widths.
//! * [`Mixture`]: affine maps in few coordinates, blended by the probabilities of a Gaussian mixture.
//! * [`MapFile`]: several maps with what was measured of them, as one safetensors file.
//! * [`container`]: how such a file is written and read, for other things that are kept beside maps.
//!
//! How a map is estimated is not known here, nor is any model.
//!
//! # What composes
//! Low-rank maps compose to a low-rank map whose rank is the sum, diagonal ones to a diagonal one, and anything else to
//! a dense one; a low-rank map is inverted inside its rank, and a symmetric one stays symmetric. A gate, a range or a mixture of several pieces is not
//! affine, and [`RowMap::compose`] and [`RowMap::inverse`] say so; [`RowMap::at_strength`] works for every map.
//!
//! # Pitfalls
//! - A row of [`LowRank`] goes through `x - mean` first: put the data's mean there, or digits cancel.
//! - Strength is applied at use and is not in the file, which holds the map at strength 1.
//! - f32 rows are computed in f64 and rounded once; a reader that computes in f32 differs by rounding.
//!
//! # Example
//!
//! ```
//! use brenier_map::{Affine, LowRank, RowMap};
//! use faer::Mat;
//!
//! // The mean shift x + c: rank 0.
//! let shift = LowRank {
//!     scale: 1.0,
//!     mean: vec![0.0; 3],
//!     offset: vec![1.0, 0.0, -2.0],
//!     u: Mat::zeros(3, 0),
//!     v: Mat::zeros(3, 0),
//! };
//! let map = RowMap::new(Affine::LowRank(shift))?;
//! let mut rows = Mat::<f64>::zeros(2, 3);
//! map.apply_rows(rows.as_mut(), 0.5)?;
//! assert_eq!(rows[(1, 2)], -1.0);
//! # Ok::<(), brenier_map::MapError>(())
//! ```
#![deny(missing_docs)]

mod affine;
mod algebra;
pub mod container;
mod coordinates;
mod error;
mod file;
mod gate;
mod map;
mod mixture;
mod rows_mut;
mod tensors;

pub use affine::{Affine, Dense, Diagonal, LowRank, Symmetric};
pub use coordinates::{Number, RowViewMut};
pub use error::MapError;
pub use file::{FORMAT, MapEntry, MapFile};
pub use gate::Gate;
pub use map::RowMap;
pub use mixture::{Mixture, Piece};
pub use rows_mut::RowsMut;
