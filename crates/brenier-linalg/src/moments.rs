use crate::rows::Rows;
use crate::weights::weighted_mean;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::qr::no_pivoting::factor as qr;
use faer::{Mat, MatRef, Par};
use rayon::prelude::*;

/// Columns whose mean is found at once.
const TILE: usize = 128;
/// Below this many values a mean stays on the calling thread.
const PARALLEL_FROM: usize = 1 << 16;
/// Partial sums of a column that are found side by side.
const LANES: usize = 8;

/// What a sum of squares is divided by to make a covariance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Covariance {
    /// `n - 1`: the unbiased estimate.
    #[default]
    Sample,
    /// `n`: the maximum-likelihood estimate, as POT has it.
    Population,
}

impl Covariance {
    /// The divisor for `rows` samples of equal weight ([`Weights::divisor`](crate::Weights::divisor) for others). For one
    /// sample it is 1 in both conventions: the sum of squares is zero, and so is the covariance.
    pub fn divisor(self, rows: usize) -> f64 {
        match self {
            Self::Sample => rows.saturating_sub(1).max(1) as f64,
            Self::Population => rows.max(1) as f64,
        }
    }
}

/// The mean row, `[d]` (weighted, if the rows have weights), with a second pass over the residuals: exact to rounding even
/// for a mean far from zero, and exactly the row itself when all rows are equal.
pub fn mean(rows: Rows<'_>) -> Vec<f64> {
    if let Some(weights) = rows.weights() {
        return weighted_mean(rows.view(), weights);
    }
    let view = rows.view();
    let mut out = vec![0.0; rows.width()];
    let tile = |(index, out): (usize, &mut [f64])| average(view.subcols(index * TILE, out.len()), out);
    if rows.count() * rows.width() < PARALLEL_FROM {
        out.chunks_mut(TILE).enumerate().for_each(tile);
    } else {
        out.par_chunks_mut(TILE).enumerate().for_each(tile);
    }
    out
}

/// `x_i - mean`. `[n, d]`.
///
/// # Panics
/// If `mean` is not `d` long (a caller's mistake).
pub fn center(rows: Rows<'_>, mean: &[f64]) -> Mat<f64> {
    assert_eq!(mean.len(), rows.width(), "length of the mean");
    let view = rows.view();
    Mat::from_fn(rows.count(), rows.width(), |i, j| view[(i, j)] - mean[j])
}

/// A factor `F` of the covariance of rows about `mean`, `F^T F = S`: the centred rows over the root of the divisor, each
/// times the root of its share if the rows have weights ([`Rows::covariance_weights`]). `[n, d]`.
pub fn factor(rows: Rows<'_>, mean: &[f64], covariance: Covariance) -> Mat<f64> {
    if rows.weights().is_some() {
        let mut centred = center(rows, mean);
        let roots: Vec<f64> = rows.covariance_weights(covariance).iter().map(|w| w.sqrt()).collect();
        for column in centred.as_mut().col_iter_mut() {
            column.iter_mut().zip(&roots).for_each(|(x, root)| *x *= root);
        }
        return centred;
    }
    let root = covariance.divisor(rows.count()).sqrt();
    let mut centred = center(rows, mean);
    for column in centred.as_mut().col_iter_mut() {
        column.iter_mut().for_each(|x| *x /= root);
    }
    centred
}

/// The same `F^T F` with at most `d` rows: `F` itself if it is wide, else the triangular factor of its QR
/// decomposition, so that nothing is squared. `[n, d]` to `[min(n, d), d]`.
pub fn reduce(factor: Mat<f64>) -> Mat<f64> {
    let (n, d) = (factor.nrows(), factor.ncols());
    if n <= d {
        return factor;
    }
    let mut work = factor;
    let block = qr::recommended_block_size::<f64>(n, d);
    let mut coefficients = Mat::zeros(block, d);
    let scratch = qr::qr_in_place_scratch::<f64>(n, d, block, Par::Seq, Default::default());
    qr::qr_in_place(
        work.as_mut(),
        coefficients.as_mut(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    );
    upper_triangle(work.as_ref().subrows(0, d))
}

/// Puts the average row, `[d]`, in `out`, in two passes: the average, and that of what is left. Sums run in a fixed order
/// for each layout of the rows.
fn average(rows: MatRef<'_, f64>, out: &mut [f64]) {
    match rows.try_as_col_major() {
        Some(columns) => {
            for (j, out) in out.iter_mut().enumerate() {
                let column = columns.col(j).as_slice();
                *out = average_about(0.0, column);
                *out += average_about(*out, column);
            }
        }
        None => {
            out.fill(0.0);
            add_average(rows, out);
            add_average(rows, out);
        }
    }
}

/// The average of `x_i - about`.
fn average_about(about: f64, values: &[f64]) -> f64 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for block in blocks {
        sums.iter_mut().zip(block).for_each(|(sum, x)| *sum += x - about);
    }
    (sums.iter().sum::<f64>() + rest.iter().map(|x| x - about).sum::<f64>()) / values.len() as f64
}

/// Adds the average of `x_i - about` to `about`, row after row.
fn add_average(rows: MatRef<'_, f64>, about: &mut [f64]) {
    let n = rows.nrows() as f64;
    let mut sums = vec![0.0; about.len()];
    for row in rows.row_iter() {
        for ((sum, x), about) in sums.iter_mut().zip(row.iter()).zip(&*about) {
            *sum += x - about;
        }
    }
    for (about, sum) in about.iter_mut().zip(sums) {
        *about += sum / n;
    }
}

fn upper_triangle(matrix: MatRef<'_, f64>) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| if i <= j { matrix[(i, j)] } else { 0.0 })
}
