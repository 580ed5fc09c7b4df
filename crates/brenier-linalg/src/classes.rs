use crate::moments::average_about;
use crate::product::{mirror, upper_gram};
use crate::{LinalgError, Rows};
use faer::prelude::ReborrowMut;
use faer::{Accum, Mat, MatMut, MatRef};
use pulp::Arch;
use rayon::prelude::*;

/// Rows of two classes about their means, by inner products.
///
/// The `m + n + 1` vectors are `z_i = x_i - m_s` of each row of the first class, `y_j - m_t` of each of the second, and the
/// gap of the means `m_t - m_s`, in this order.
///
/// Found in one pass over the rows, whatever their layout, without a centred copy of them: a few columns at a time are
/// centred where the processor's cache holds them, and their products added up. Nothing cancels, so the Gram matrix is as
/// good as that of rows that were centred first, however far from zero their mean lies.
#[derive(Debug, Clone)]
pub struct ClassGram<'a> {
    /// The rows of the two classes.
    pub rows: [Rows<'a>; 2],
    /// Their means. `[d]` each.
    pub means: [Vec<f64>; 2],
    /// `[m + n + 1, m + n + 1]`, symmetric to the last bit.
    pub gram: Mat<f64>,
}

/// Columns that are centred at once: with a few hundred rows, a part of a core's own cache.
const TILE: usize = 128;
/// Partial sums that are found side by side, and tiles that at least go into one: each is a matrix of the Gram matrix's
/// size, and all of them are to take less room than the rows.
const PARTS: usize = 4;
const LEAST_TILES: usize = 4;
/// Columns that a thread centres in one go, where there are many rows.
const COLUMNS: usize = 16;
/// Below this many values a tile is centred on the calling thread.
const PARALLEL_FROM: usize = 1 << 16;

impl<'a> ClassGram<'a> {
    /// Both classes, without weights. `above`: `[m, d]`, `below`: `[n, d]`, `m, n >= 1`.
    ///
    /// None where some value may not be finite or exceed `limit` in magnitude: [`Rows::within`] says which.
    ///
    /// # Errors
    /// [`LinalgError::TooFewRows`], [`LinalgError::NoColumns`], [`LinalgError::Widths`].
    pub fn within(
        limit: f64,
        above: MatRef<'a, f64>,
        below: MatRef<'a, f64>,
    ) -> Result<Option<Self>, LinalgError> {
        Rows::enough(1, above)?;
        Rows::enough(1, below)?;
        if above.ncols() != below.ncols() {
            return Err(LinalgError::Widths { left: above.ncols(), right: below.ncols() });
        }
        let mut means = [above, below].map(|rows| vec![0.0; rows.ncols()]);
        let [of_above, of_below] = &mut means;
        let mut gram = sum_of_parts(PARTS, [above, below], [of_above, of_below]);
        // A value beyond the limit shows in its mean or beside it; a NaN is under no bound.
        let [half, quarter] = [0.5 * limit, 0.25 * limit * limit];
        let good = means.iter().flatten().all(|mean| mean.abs() <= half)
            && (0..gram.nrows()).all(|i| gram[(i, i)] <= quarter);
        if !good {
            return Ok(None);
        }
        mirror(&mut gram);
        Ok(Some(Self { rows: [above, below].map(|rows| Rows(rows, None)), means, gram }))
    }
}

/// The upper triangle of the Gram matrix, halves added to halves, so that the order does not depend on the number of
/// threads.
fn sum_of_parts(parts: usize, rows: [MatRef<'_, f64>; 2], means: [&mut [f64]; 2]) -> Mat<f64> {
    let (n, d) = (rows[0].nrows() + rows[1].nrows(), rows[0].ncols());
    let tiles = d.div_ceil(TILE);
    if parts == 1 || tiles <= LEAST_TILES.max(2 * n / TILE) {
        return sum_of_tiles(rows, means);
    }
    let at = tiles / 2 * TILE;
    let (left, right) = (rows.map(|rows| rows.subcols(0, at)), rows.map(|rows| rows.subcols(at, d - at)));
    let [(s_left, s_right), (t_left, t_right)] = means.map(|means| means.split_at_mut(at));
    let (mut sum, other) = rayon::join(
        || sum_of_parts(parts / 2, left, [s_left, t_left]),
        || sum_of_parts(parts / 2, right, [s_right, t_right]),
    );
    for (j, (sum, other)) in sum.as_mut().col_iter_mut().zip(other.col_iter()).enumerate() {
        sum.subrows_mut(0, j + 1)
            .iter_mut()
            .zip(other.subrows(0, j + 1).iter())
            .for_each(|(sum, x)| *sum += x);
    }
    sum
}

/// The same, a tile after the other.
fn sum_of_tiles(rows: [MatRef<'_, f64>; 2], [of_above, of_below]: [&mut [f64]; 2]) -> Mat<f64> {
    let n = rows[0].nrows() + rows[1].nrows();
    let mut tile = Mat::zeros(n + 1, TILE.min(rows[0].ncols()));
    let mut sum = Mat::zeros(n + 1, n + 1);
    let means = of_above.chunks_mut(TILE).zip(of_below.chunks_mut(TILE));
    for (index, (of_above, of_below)) in means.enumerate() {
        let width = of_above.len();
        let rows = rows.map(|rows| rows.subcols(index * TILE, width));
        let mut tile = tile.as_mut().subcols_mut(0, width);
        center_tile(rows, [of_above, of_below], tile.rb_mut());
        upper_gram(&[tile.as_ref()], sum.as_mut(), Accum::Add);
    }
    sum
}

/// Puts the vectors' entries in these columns in `tile`, `[m + n + 1, columns]`, and the means in theirs.
fn center_tile(rows: [MatRef<'_, f64>; 2], [of_above, of_below]: [&mut [f64]; 2], tile: MatMut<'_, f64>) {
    if tile.nrows() * tile.ncols() < PARALLEL_FROM {
        return center_columns(rows, [of_above, of_below], tile);
    }
    let means = of_above.par_chunks_mut(COLUMNS).zip(of_below.par_chunks_mut(COLUMNS));
    tile.par_col_chunks_mut(COLUMNS).zip(means).enumerate().for_each(
        |(index, (tile, (of_above, of_below)))| {
            let rows = rows.map(|rows| rows.subcols(index * COLUMNS, tile.ncols()));
            center_columns(rows, [of_above, of_below], tile);
        },
    );
}

/// The same on the calling thread.
fn center_columns(rows: [MatRef<'_, f64>; 2], means: [&mut [f64]; 2], tile: MatMut<'_, f64>) {
    let (above, below) = tile.split_at_row_mut(rows[0].nrows());
    let (below, mut gap) = below.split_at_row_mut(rows[1].nrows());
    let [of_above, of_below] = means;
    center_class(rows[0], of_above, above);
    center_class(rows[1], of_below, below);
    for (j, (of_above, of_below)) in of_above.iter().zip(&*of_below).enumerate() {
        gap[(0, j)] = of_below - of_above;
    }
}

/// `x_i - mean` in `out`, the mean of each column in `means`.
fn center_class(rows: MatRef<'_, f64>, means: &mut [f64], mut out: MatMut<'_, f64>) {
    // Along the lines in which the rows lie.
    if rows.row_stride() != 1 {
        for (row, out) in rows.row_iter().zip(out.rb_mut().row_iter_mut()) {
            out.iter_mut().zip(row.iter()).for_each(|(out, x)| *out = *x);
        }
    }
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for ((j, mean), column) in means.iter_mut().enumerate().zip(out.col_iter_mut()) {
                let Some(column) = column.try_as_col_major_mut() else { continue };
                let column = column.as_slice_mut();
                if let Some(of_rows) = rows.col(j).try_as_col_major() {
                    column.copy_from_slice(of_rows.as_slice());
                }
                *mean = column[0] + average_about(column[0], column);
                column.iter_mut().for_each(|x| *x -= *mean);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{center, gram_of_stack, mean};

    fn rows(n: usize, d: usize, seed: usize, far: f64) -> Mat<f64> {
        let noise =
            |i: usize, j: usize| (((i * 7919 + j * 104_729 + seed) as f64).sin() * 43_758.545_3).fract();
        Mat::from_fn(n, d, |i, j| far * (1.0 + (j as f64 * 0.3).cos()) + noise(i, j))
    }

    #[test]
    fn it_is_the_gram_matrix_of_centred_rows_in_any_layout() {
        for (m, n, d) in [(1, 1, 1), (3, 1, 40), (17, 23, 130), (40, 41, 1500), (300, 250, 700)] {
            for far in [0.0, 1e8] {
                let (a, b) = (rows(m, d, 1, far), rows(n, d, 2, -far));
                let (a_t, b_t) = (a.transpose().to_owned(), b.transpose().to_owned());
                let [a_rows, b_rows] = [&a, &b].map(|x| Rows::new(x.as_ref()).unwrap());
                let (m_a, m_b) = (mean(a_rows), mean(b_rows));
                let gap = Mat::from_fn(1, d, |_, j| m_b[j] - m_a[j]);
                let centred = gram_of_stack(center(a_rows, &m_a).as_ref(), center(b_rows, &m_b).as_ref());
                for (a, b) in [(a.as_ref(), b.as_ref()), (a_t.transpose(), b_t.transpose())] {
                    let found = ClassGram::within(1e60, a, b).unwrap().unwrap();
                    let off = found.means.iter().flatten().zip(m_a.iter().chain(&m_b));
                    assert!(
                        off.clone().all(|(x, y)| (x - y).abs() <= 1e-15 * far.max(1.0)),
                        "{m} {n} {d} {far}"
                    );
                    let size = (m + n + d) as f64;
                    for j in 0..m + n {
                        for i in 0..m + n {
                            let off = (found.gram[(i, j)] - centred[(i, j)]).abs();
                            // A mean is rounded, and so is each entry about it.
                            assert!(off <= 1e-15 * size * far.max(1.0), "{m} {n} {d} {far}: {off:e}");
                        }
                    }
                    let length = crate::squared_norm(gap.as_ref());
                    assert!((found.gram[(m + n, m + n)] - length).abs() <= 1e-13 * length.max(1e-300));
                    assert!((0..=m + n).all(|i| found.gram[(i, 0)] == found.gram[(0, i)]));
                }
            }
        }
    }

    #[test]
    fn equal_rows_have_no_spread_at_all() {
        let a = Mat::from_fn(7, 300, |_, j| 0.1 + j as f64 * 1e5 / 3.0);
        let found = ClassGram::within(1e60, a.as_ref(), a.as_ref()).unwrap().unwrap();
        assert_eq!(found.gram, Mat::<f64>::zeros(15, 15));
        assert!((0..300).all(|j| found.means[0][j] == a[(0, j)]));
    }

    #[test]
    fn what_may_exceed_the_limit_is_not_taken() {
        let good = rows(5, 200, 1, 0.0);
        for bad in [f64::NAN, f64::INFINITY, -3.0] {
            for place in [(0, 0), (4, 199), (2, 150)] {
                let mut rows = good.clone();
                rows[place] = bad;
                assert!(ClassGram::within(2.5, rows.as_ref(), good.as_ref()).unwrap().is_none(), "{bad}");
                assert!(ClassGram::within(2.5, good.as_ref(), rows.as_ref()).unwrap().is_none(), "{bad}");
            }
        }
        assert!(ClassGram::within(2.5, good.as_ref(), Mat::zeros(3, 201).as_ref()).is_err());
        assert!(ClassGram::within(2.5, good.as_ref(), Mat::zeros(0, 200).as_ref()).is_err());
    }
}
