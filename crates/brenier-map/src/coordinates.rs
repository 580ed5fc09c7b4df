//! Rows along a few directions, and back: `z = B^T (x - c)`, and `x + w (g (x - m) + constant + U z)`.
//!
//! Plain loops, which [`pulp`] has compiled for the processor at hand. They take a few rows a tile of columns at a time, so
//! that the directions are read from memory once. Sums are of a fixed order: the bits of a row depend on nothing but its own
//! numbers.

use faer::{Mat, MatMut, MatRef};
use pulp::{Arch, NullaryFnOnce};
use std::borrow::Cow;
use std::ops::Range;

/// Partial sums of an inner product that are found side by side.
const LANES: usize = 16;
/// Columns that stay in the first cache while every direction is read.
const TILE: usize = 512;

/// Rows as they lie. `[n, d]`.
#[derive(Debug)]
pub enum RowViewMut<'a> {
    /// Of f32.
    F32(MatMut<'a, f32>),
    /// Of f64.
    F64(MatMut<'a, f64>),
}

/// f32 or f64.
pub trait Number: Copy + Send + Sync {
    /// 0.
    const ZERO: Self;
    /// Its name in Rust.
    const NAME: &'static str;

    /// In f64, as it is.
    fn widen(self) -> f64;

    /// The nearest such number.
    fn narrow(wide: f64) -> Self;

    /// Whether it is neither NaN nor infinite.
    fn is_finite(self) -> bool;

    /// Rows of such numbers.
    fn view_mut(rows: MatMut<'_, Self>) -> RowViewMut<'_>;
}

impl Number for f32 {
    const ZERO: Self = 0.0;
    const NAME: &'static str = "f32";

    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn narrow(wide: f64) -> Self {
        wide as f32
    }

    #[inline(always)]
    fn is_finite(self) -> bool {
        Self::is_finite(self)
    }

    fn view_mut(rows: MatMut<'_, Self>) -> RowViewMut<'_> {
        RowViewMut::F32(rows)
    }
}

impl Number for f64 {
    const ZERO: Self = 0.0;
    const NAME: &'static str = "f64";

    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }

    #[inline(always)]
    fn narrow(wide: f64) -> Self {
        wide
    }

    #[inline(always)]
    fn is_finite(self) -> bool {
        Self::is_finite(self)
    }

    fn view_mut(rows: MatMut<'_, Self>) -> RowViewMut<'_> {
        RowViewMut::F64(rows)
    }
}

/// `B^T (x - c)` of each row, as columns. `basis`: `[d, K]`, `center`: `d`, result: `[K, n]`.
pub(crate) fn along<T: Number>(basis: MatRef<'_, f64>, center: &[f64], rows: &[impl AsRef<[T]>]) -> Mat<f64> {
    let directions = contiguous(basis);
    let mut z = Mat::zeros(directions.len(), rows.len());
    for_this_processor(
        #[inline(always)]
        || {
            for tile in tiles(center.len()) {
                for (i, row) in rows.iter().enumerate() {
                    let (row, center) = (&row.as_ref()[tile.clone()], &center[tile.clone()]);
                    for (direction, z) in directions.iter().zip(z.col_as_slice_mut(i)) {
                        *z += inner_product(row, center, &direction[tile.clone()]);
                    }
                }
            }
        },
    );
    z
}

/// `sum_j (x_j - c_j) b_j`.
#[inline(always)]
fn inner_product<T: Number>(row: &[T], center: &[f64], direction: &[f64]) -> f64 {
    let (rows, rest) = row.as_chunks::<LANES>();
    let (centers, rest_center) = center.as_chunks::<LANES>();
    let (directions, rest_direction) = direction.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for ((x, c), b) in rows.iter().zip(centers).zip(directions) {
        for lane in 0..LANES {
            sums[lane] += (x[lane].widen() - c[lane]) * b[lane];
        }
    }
    let last = rest.iter().zip(rest_center).zip(rest_direction).map(|((x, c), b)| (x.widen() - c) * b);
    sums.iter().sum::<f64>() + last.sum::<f64>()
}

/// What a row gets, but for its weight and its coordinates.
pub(crate) struct Step<'a> {
    /// `g` and `m`, where `g` is not 0.
    pub grow: Option<(f64, &'a [f64])>,
    pub constant: &'a [f64],
    /// `[d, K]`.
    pub directions: MatRef<'a, f64>,
}

impl Step<'_> {
    /// Moves rows of coordinates `z`, `[K, n]`, each by its weight, of which 0 keeps every bit; the first row that was finite
    /// and is not any more, if there is one.
    pub(crate) fn apply<T: Number>(
        &self,
        rows: &mut [&mut [T]],
        weights: &[f64],
        z: MatRef<'_, f64>,
    ) -> Option<usize> {
        let directions = contiguous(self.directions);
        let mut finite = vec![(true, true); rows.len()];
        for_this_processor(
            #[inline(always)]
            || {
                let mut step = [0.0; TILE];
                for tile in tiles(self.constant.len()) {
                    let step = &mut step[..tile.len()];
                    for (i, row) in rows.iter_mut().enumerate().filter(|&(i, _)| weights[i] != 0.0) {
                        let row = &mut row[tile.clone()];
                        step.copy_from_slice(&self.constant[tile.clone()]);
                        if let Some((grow, mean)) = self.grow {
                            let places = step.iter_mut().zip(&*row).zip(&mean[tile.clone()]);
                            places.for_each(|((step, x), mean)| *step += grow * (x.widen() - mean));
                        }
                        for (direction, z) in directions.iter().zip(z.col(i).iter()) {
                            step.iter_mut()
                                .zip(&direction[tile.clone()])
                                .for_each(|(step, u)| *step += z * u);
                        }
                        finite[i] = both(finite[i], add(row, weights[i], step));
                    }
                }
            },
        );
        finite.iter().position(|&(before, after)| before && !after)
    }
}

/// Moves rows by steps of their own, `[d, n]`, each times a weight; as [`Step::apply`].
pub(crate) fn apply_steps<T: Number>(
    rows: &mut [&mut [T]],
    weights: &[f64],
    steps: MatRef<'_, f64>,
) -> Option<usize> {
    let steps = contiguous(steps);
    let mut finite = vec![(true, true); rows.len()];
    for_this_processor(
        #[inline(always)]
        || {
            for (i, row) in rows.iter_mut().enumerate().filter(|&(i, _)| weights[i] != 0.0) {
                finite[i] = add(row, weights[i], &steps[i]);
            }
        },
    );
    finite.iter().position(|&(before, after)| before && !after)
}

/// `x + w step`; whether all of `x` was finite before, and after.
#[inline(always)]
fn add<T: Number>(row: &mut [T], weight: f64, step: &[f64]) -> (bool, bool) {
    let before = all_finite(row);
    row.iter_mut().zip(step).for_each(|(x, step)| *x = T::narrow(x.widen() + weight * step));
    (before, all_finite(row))
}

#[inline(always)]
fn all_finite<T: Number>(values: &[T]) -> bool {
    // Without a branch for each value.
    values.iter().fold(true, |all, x| all & x.is_finite())
}

#[inline(always)]
fn both(a: (bool, bool), b: (bool, bool)) -> (bool, bool) {
    (a.0 & b.0, a.1 & b.1)
}

/// Runs a loop that is compiled for the processor at hand.
fn for_this_processor(body: impl FnMut()) {
    struct Body<F>(F);
    impl<F: FnMut()> NullaryFnOnce for Body<F> {
        type Output = ();

        // By `FnMut` and not by `FnOnce`, whose `call_once` would be a function of its own.
        #[inline(always)]
        fn call(mut self) {
            (self.0)();
        }
    }
    Arch::new().dispatch(Body(body));
}

fn tiles(width: usize) -> impl Iterator<Item = Range<usize>> {
    (0..width).step_by(TILE).map(move |start| start..width.min(start + TILE))
}

/// Columns, each in one piece: as it lies, or copied.
fn contiguous(matrix: MatRef<'_, f64>) -> Vec<Cow<'_, [f64]>> {
    matrix
        .col_iter()
        .map(|column| match column.try_as_col_major() {
            Some(column) => column.as_slice().into(),
            None => column.iter().copied().collect(),
        })
        .collect()
}

/// A quadratic form over the square of a number `s`, `(constant + linear . z + z^T quadratic z) / s^2`, at `z = s unit`:
/// with `s = 1` the form itself, with the magnitude of a far `z` what does not overflow.
pub(crate) fn form(constant: f64, linear: &[f64], quadratic: MatRef<'_, f64>, unit: &[f64], s: f64) -> f64 {
    let slope = |a: usize| {
        let curve = unit.iter().enumerate().map(|(b, z)| quadratic[(a, b)] * z);
        linear[a] / s + curve.sum::<f64>()
    };
    constant / s / s + unit.iter().enumerate().map(|(a, z)| z * slope(a)).sum::<f64>()
}

/// A vector over its magnitude, and its magnitude; the vector itself and 1 where it is small.
pub(crate) fn scaled(z: &[f64]) -> (Vec<f64>, f64) {
    let s = z.iter().fold(1.0_f64, |s, z| s.max(z.abs()));
    (z.iter().map(|z| z / s).collect(), s)
}
