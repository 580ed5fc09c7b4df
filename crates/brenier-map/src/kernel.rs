//! Low-rank maps of rows that lie one after the other in memory, in one pass over them.
//!
//! A row is read and written once; what every row needs (the mean, the directions) is used for several rows at a time
//! while it is in the nearest cache. Sums run in a fixed order over fixed lanes, so the bits depend neither on the
//! number of threads nor on the instruction set.

use faer::{ColMut, MatMut};
use pulp::Arch;

use crate::LowRank;

/// Above this rank matrix products are the faster way.
pub(crate) const LARGEST_RANK: usize = 16;

/// Rows that share one pass over the directions.
const ROWS: usize = 4;
/// Columns held widened on the stack, for all rows of a group.
const COLUMNS: usize = 256;
/// Independent partial sums of an inner product.
const LANES: usize = 8;

/// A number that rows are made of.
pub(crate) trait Number: Copy + Send + Sync {
    fn widen(self) -> f64;
    fn narrow(wide: f64) -> Self;
}

impl Number for f32 {
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn narrow(wide: f64) -> Self {
        wide as f32
    }
}

impl Number for f64 {
    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }

    #[inline(always)]
    fn narrow(wide: f64) -> Self {
        wide
    }
}

/// Adds `weight[i] (T(x_i) - x_i)` to each row; a row of weight 0 keeps every bit. Rows: `n` of `d`.
pub(crate) fn add_displacement<T: Number>(map: &LowRank, rows: &mut [&mut [T]], weight: &[f64]) {
    let grow = map.scale - 1.0;
    let constant: Vec<f64> = map.mean.iter().zip(&map.offset).map(|(m, c)| grow * m + c).collect();
    let plan = Plan { map, grow, constant: &constant };
    Arch::new().dispatch(|| {
        for (rows, weight) in rows.chunks_mut(ROWS).zip(weight.chunks(ROWS)) {
            plan.group(rows, weight);
        }
    });
}

/// Each row as a slice, where the values of a row lie one after the other.
pub(crate) fn row_slices<T>(rows: MatMut<'_, T>) -> Option<Vec<&mut [T]>> {
    rows.transpose_mut().col_iter_mut().map(slice).collect()
}

fn slice<T>(row: ColMut<'_, T>) -> Option<&mut [T]> {
    Some(row.try_as_col_major_mut()?.as_slice_mut())
}

struct Plan<'a> {
    map: &'a LowRank,
    grow: f64,
    /// `T(x) - x` is `grow (x - mean) + constant + U V^T (x - mean)`.
    constant: &'a [f64],
}

impl Plan<'_> {
    #[inline(always)]
    fn group<T: Number>(&self, rows: &mut [&mut [T]], weight: &[f64]) {
        let count = rows.len();
        let d = self.map.mean.len();
        let mut z = [[0.0_f64; LARGEST_RANK]; ROWS];
        let mut wide = [[0.0_f64; COLUMNS]; ROWS];
        for start in (0..d).step_by(COLUMNS) {
            let width = COLUMNS.min(d - start);
            let mean = &self.map.mean[start..start + width];
            for i in 0..count {
                let row = &rows[i][start..start + width];
                for ((wide, x), mean) in wide[i][..width].iter_mut().zip(row).zip(mean) {
                    *wide = x.widen() - mean;
                }
            }
            for k in 0..self.map.v.ncols() {
                let v = &self.map.v.col_as_slice(k)[start..start + width];
                for (z, wide) in z.iter_mut().zip(&wide[..count]) {
                    z[k] += inner_product(&wide[..width], v);
                }
            }
        }
        let mut moved = [[0.0_f64; COLUMNS]; ROWS];
        for start in (0..d).step_by(COLUMNS) {
            let width = COLUMNS.min(d - start);
            let (mean, constant) =
                (&self.map.mean[start..start + width], &self.constant[start..start + width]);
            for i in 0..count {
                let row = &rows[i][start..start + width];
                let places = moved[i][..width].iter_mut().zip(row).zip(mean.iter().zip(constant));
                for ((moved, x), (mean, constant)) in places {
                    *moved = self.grow * (x.widen() - mean) + constant;
                }
            }
            for k in 0..self.map.u.ncols() {
                let u = &self.map.u.col_as_slice(k)[start..start + width];
                for (z, moved) in z.iter().zip(&mut moved[..count]) {
                    let z = z[k];
                    for (moved, u) in moved[..width].iter_mut().zip(u) {
                        *moved += z * u;
                    }
                }
            }
            for i in 0..count {
                if weight[i] == 0.0 {
                    continue;
                }
                let row = &mut rows[i][start..start + width];
                for (x, moved) in row.iter_mut().zip(&moved[i][..width]) {
                    *x = T::narrow(x.widen() + weight[i] * moved);
                }
            }
        }
    }
}

#[inline(always)]
fn inner_product(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_lanes.remainder(), b_lanes.remainder());
    for (a, b) in a_lanes.zip(b_lanes) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use faer::Mat;

    use crate::{Affine, LowRank, RowMap};

    #[test]
    fn rows_in_one_pass_go_where_matrix_products_take_them() {
        // Widths about the edges of lanes and of columns held at once, counts about the edges of groups and blocks.
        for (n, d, rank) in [(1, 1, 1), (5, 7, 3), (4, 256, 16), (66, 257, 2), (131, 603, 5)] {
            let wave = |i: usize, j: usize, by: f64| ((i * 31 + j * 17 + 1) as f64 * by).sin();
            let map = LowRank {
                scale: 0.7,
                mean: (0..d).map(|j| wave(j, 0, 0.3)).collect(),
                offset: (0..d).map(|j| wave(j, 1, 0.4)).collect(),
                u: Mat::from_fn(d, rank, |i, j| wave(i, j, 0.5)),
                v: Mat::from_fn(d, rank, |i, j| wave(i, j, 0.6)),
            };
            let map = RowMap::new(Affine::LowRank(map)).unwrap();
            let mut columns = Mat::from_fn(n, d, |i, j| wave(i, j, 0.7));
            let mut rows = columns.transpose().to_owned();
            map.apply_rows(columns.as_mut(), 0.8).unwrap();
            map.apply_rows(rows.as_mut().transpose_mut(), 0.8).unwrap();
            for i in 0..n {
                for j in 0..d {
                    let (found, expected) = (rows[(j, i)], columns[(i, j)]);
                    assert!(
                        (found - expected).abs() <= 1e-12 * d as f64,
                        "{n} x {d}: {found} is not {expected}"
                    );
                }
            }
        }
    }
}
