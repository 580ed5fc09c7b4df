//! Rows along a few directions, and back: `z = B^T (x - c)`, and `x + w (g (x - m) + constant + U z)`.
//!
//! A row at a time, in sums of a fixed order: its bits depend on nothing but its own numbers.

use faer::MatRef;

/// Partial sums of an inner product that are found side by side.
const LANES: usize = 8;
/// Columns that stay in the first cache while every direction is added to them.
const TILE: usize = 512;

/// A number that rows are made of.
pub(crate) trait Number: Copy + Send + Sync {
    const ZERO: Self;
    const NAME: &'static str;
    fn widen(self) -> f64;
    fn narrow(wide: f64) -> Self;
}

impl Number for f32 {
    const ZERO: Self = 0.0;
    const NAME: &'static str = "f32";

    fn widen(self) -> f64 {
        f64::from(self)
    }

    fn narrow(wide: f64) -> Self {
        wide as f32
    }
}

impl Number for f64 {
    const ZERO: Self = 0.0;
    const NAME: &'static str = "f64";

    fn widen(self) -> f64 {
        self
    }

    fn narrow(wide: f64) -> Self {
        wide
    }
}

/// `B^T (x - c)`. `basis`: `[d, K]`, `row` and `center`: `d`, result: `K`.
pub(crate) fn along<T: Number>(basis: MatRef<'_, f64>, center: &[f64], row: &[T]) -> Vec<f64> {
    basis.col_iter().map(|direction| inner_product(row, center, &contiguous(direction))).collect()
}

/// `sum_j (x_j - c_j) b_j`.
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
    /// Moves a row of coordinates `z`, `K` of them; whether it was finite and is not any more. A weight of 0 keeps every bit.
    pub(crate) fn apply<T: Number>(&self, row: &mut [T], weight: f64, z: &[f64]) -> bool {
        if weight == 0.0 {
            return false;
        }
        let mut moved = [0.0; TILE];
        let (mut finite, mut beyond) = (true, false);
        for (index, part) in row.chunks_mut(TILE).enumerate() {
            let at = index * TILE..index * TILE + part.len();
            let moved = &mut moved[..part.len()];
            moved.copy_from_slice(&self.constant[at.clone()]);
            if let Some((grow, mean)) = self.grow {
                let places = moved.iter_mut().zip(&*part).zip(&mean[at.clone()]);
                places.for_each(|((moved, x), mean)| *moved += grow * (x.widen() - mean));
            }
            for (direction, z) in self.directions.col_iter().zip(z) {
                let direction = contiguous(direction.subrows(at.start, part.len()));
                moved.iter_mut().zip(&*direction).for_each(|(moved, u)| *moved += z * u);
            }
            for (x, moved) in part.iter_mut().zip(&*moved) {
                finite &= x.widen().is_finite();
                *x = T::narrow(x.widen() + weight * moved);
                beyond |= !x.widen().is_finite();
            }
        }
        finite && beyond
    }
}

/// A column in one piece: as it lies, or copied.
fn contiguous(column: faer::ColRef<'_, f64>) -> std::borrow::Cow<'_, [f64]> {
    match column.try_as_col_major() {
        Some(column) => column.as_slice().into(),
        None => column.iter().copied().collect(),
    }
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
