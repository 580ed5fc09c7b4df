use crate::decompose::{relative_floor, symmetric_eigen, thin_svd};
use crate::error::LinalgError;
use crate::moments::{Covariance, reduce};
use crate::product::{gram, transpose_product};
use crate::rows::Rows;
use faer::{Mat, MatRef};

/// The largest magnitude of a value that goes in: its square, summed over any stream, stays finite.
pub(crate) const LIMIT: f64 = 1e100;

/// Mean and covariance factor of a stream of rows: any number of them in bounded memory, on any number of machines,
/// merged in any order.
///
/// The state is the count `n`, the mean `m` and a factor `R`, `[r, d]`, of the scatter:
///
/// ```text
/// R^T R = sum_i (x_i - m)(x_i - m)^T
/// one row x:   R <- [R; sqrt(n / (n + 1)) (x - m)],                 m <- m + (x - m) / (n + 1)
/// a merge:     R <- [R_1; R_2; sqrt(n_1 n_2 / (n_1 + n_2)) (m_2 - m_1)],   m <- m_1 + n_2 / (n_1 + n_2) (m_2 - m_1)
/// ```
///
/// `R` holds at most `2 min(cap, d)` rows. When a row has to go into a full one, it is shrunk to at most `cap` rows: with
/// the singular values `s_1 >= s_2 >= ...` of `R = U diag(s) V^T`,
///
/// ```text
/// R <- diag(sqrt(max(s_i^2 - s_{cap+1}^2, 0))) V^T,                 delta <- delta + s_{cap+1}^2
/// ```
///
/// so that the covariance `S' = F^T F` of [`Moments::factor`] stays below the true one `S`, and near it. In operator
/// norm, for every `k <= cap`, with the eigenvalues `l_1 >= l_2 >= ...` of `S`:
///
/// ```text
/// 0 <= S - S' <= delta / divisor,   delta / divisor <= removed / (cap + 1),
///                                   delta / divisor <= (l_{k+1} + l_{k+2} + ...) / (cap + 1 - k)
/// ```
///
/// [`Moments::bound`] is the middle number, known after the fact and often far below what the last inequality
/// promises. Nothing is lost (`delta = 0`, `S' = S` to rounding)
///
/// - while the rows fit: `n <= 2 cap + 1`, streamed or merged (the mean takes up one of them);
/// - for rows that span at most `cap` directions about their mean, however many there are: a squared singular value at
///   or under `max(2 cap, d) * eps` of the largest counts as zero, and is left out of `delta`, as rounding is;
/// - for `d <= cap`, whatever the rows: `R` is then reduced by its QR decomposition ([`reduce`]).
///
/// The rows go in one at a time, so that the state is the same bits however a stream is cut into batches, and whatever
/// the number of threads. Merges in another order give another `S'` within the same kind of bound.
/// [`Moments::into_parts`] and [`Moments::from_parts`] open the state and close it again, to be kept in a file.
///
/// # Memory
/// At most `2 min(cap, d) * d` numbers; a shrink takes about `cap * d` more while it lasts, two to three times that
/// where `d <= 2 cap`. For `2 cap < d` it goes through the `2 cap x 2 cap` Gram matrix of `R`: no `d x d` matrix.
///
/// Reference: M. Ghashami, E. Liberty, J. M. Phillips & D. P. Woodruff, "Frequent Directions: Simple and deterministic
/// matrix sketching", SIAM J. Comput. 45, 2016 (the form with a buffer of twice the size; its bounds and merges);
/// B. P. Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4, 1962;
/// T. F. Chan, G. H. Golub & R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
/// variances", COMPSTAT 1982 (the merge).
///
/// ```
/// use brenier_linalg::{Covariance, Moments, Rows, factor, mean, squared_norm};
/// use faer::mat;
///
/// let rows = mat![[1.0, 0.0, 2.0], [3.0, 1.0, 2.0], [5.0, 5.0, 2.0], [-1.0, 2.0, 2.0]];
/// let (first, second) = rows.as_ref().split_at_row(3);
/// let mut here = Moments::new(3, 2)?;
/// here.push(Rows::new(first)?)?;
/// let mut there = Moments::new(3, 2)?;
/// there.push(Rows::new(second)?)?;
/// here.merge(&there)?;
///
/// let all = Rows::new(rows.as_ref())?;
/// assert_eq!(here.count(), 4);
/// assert_eq!(here.mean(), mean(all));
/// let whole = factor(all, here.mean(), Covariance::Sample);
/// let held = here.factor(Covariance::Sample);
/// assert!((squared_norm(held.as_ref()) - squared_norm(whole.as_ref())).abs() < 1e-12);
/// assert_eq!(here.bound(Covariance::Sample), 0.0); // it fits: nothing was lost
/// # Ok::<(), brenier_linalg::LinalgError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    pub(crate) cap: usize,
    pub(crate) count: usize,
    pub(crate) mean: Vec<f64>,
    /// `R`, row after row.
    pub(crate) rows: Vec<f64>,
    pub(crate) delta: f64,
    pub(crate) removed: f64,
}

impl Moments {
    /// Moments of no rows yet, of `width` columns, whose factor is shrunk to `cap` rows whenever `2 cap` are full.
    /// A `cap` of `width` or more never loses anything, and takes no more memory than `cap = width`.
    ///
    /// # Errors
    /// [`LinalgError::NoColumns`] for a width of 0, [`LinalgError::NoCap`] for a cap of 0.
    pub fn new(width: usize, cap: usize) -> Result<Self, LinalgError> {
        if width == 0 {
            return Err(LinalgError::NoColumns);
        }
        if cap == 0 {
            return Err(LinalgError::NoCap);
        }
        Ok(Self { cap, count: 0, mean: vec![0.0; width], rows: Vec::new(), delta: 0.0, removed: 0.0 })
    }

    /// Takes a batch of any size in. `[b, d]`.
    ///
    /// # Errors
    /// [`LinalgError::Widths`], [`LinalgError::WeightedMoments`] for rows with weights, and [`LinalgError::Magnitude`] for a
    /// value beyond 1e100, before anything is taken in.
    /// [`LinalgError::NoConvergence`] leaves the state of the rows before the one it was met at; `count` says which.
    pub fn push(&mut self, rows: Rows<'_>) -> Result<(), LinalgError> {
        self.same_width(rows.width())?;
        if rows.weights().is_some() {
            return Err(LinalgError::WeightedMoments);
        }
        let view = Rows::within(LIMIT, 1, rows.view())?.view();
        let mut away = vec![0.0; self.width()];
        for row in view.row_iter() {
            for ((away, x), mean) in away.iter_mut().zip(row.iter()).zip(&self.mean) {
                *away = x - mean;
            }
            let n = self.count as f64;
            self.append(&away, (n / (n + 1.0)).sqrt())?;
            for (mean, away) in self.mean.iter_mut().zip(&away) {
                *mean += away / (n + 1.0);
            }
            self.count = self.count.saturating_add(1);
        }
        Ok(())
    }

    /// Takes in all that `other` has seen: counts, bounds and removed traces add, factors are stacked and shrunk as
    /// needed. An empty `other` changes nothing.
    ///
    /// # Errors
    /// [`LinalgError::Widths`], [`LinalgError::Caps`], [`LinalgError::NoConvergence`]; the state is then as it was.
    pub fn merge(&mut self, other: &Self) -> Result<(), LinalgError> {
        self.same_width(other.width())?;
        if self.cap != other.cap {
            return Err(LinalgError::Caps { left: self.cap, right: other.cap });
        }
        if other.count == 0 {
            return Ok(());
        }
        if self.count == 0 {
            *self = other.clone();
            return Ok(());
        }
        let mut merged = self.clone();
        for row in other.rows.chunks_exact(other.width()) {
            merged.append(row, 1.0)?;
        }
        let share = other.count as f64 / (self.count as f64 + other.count as f64);
        let apart: Vec<f64> = other.mean.iter().zip(&self.mean).map(|(there, here)| there - here).collect();
        merged.append(&apart, (self.count as f64 * share).sqrt())?;
        for (mean, apart) in merged.mean.iter_mut().zip(&apart) {
            *mean += share * apart;
        }
        merged.count = merged.count.saturating_add(other.count);
        merged.delta += other.delta;
        merged.removed += other.removed;
        *self = merged;
        Ok(())
    }

    /// Number of rows taken in, n.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Width of a row, d.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Number of rows to which the factor is shrunk.
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// The mean row, `[d]`; zeros before the first row. No shrinking touches it.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// A factor `F` of the covariance, `F^T F = S'`, `R` over the root of the divisor: `[r, d]` with
    /// `r <= 2 min(cap, d)`; [`reduce`] makes it at most `d`. Fewer rows than were taken in may stand here even if
    /// nothing was lost, and none where all rows were equal.
    pub fn factor(&self, covariance: Covariance) -> Mat<f64> {
        let root = covariance.divisor(self.count).sqrt();
        let view = self.view();
        Mat::from_fn(view.nrows(), view.ncols(), |i, j| view[(i, j)] / root)
    }

    /// The largest eigenvalue that `S - S'` can have, `delta / divisor`: by how much the variance along any direction
    /// may be understated. 0 where nothing was lost.
    pub fn bound(&self, covariance: Covariance) -> f64 {
        self.delta / covariance.divisor(self.count)
    }

    /// The variance lost over all directions, `tr S - tr S'`.
    pub fn removed(&self, covariance: Covariance) -> f64 {
        self.removed / covariance.divisor(self.count)
    }

    fn same_width(&self, width: usize) -> Result<(), LinalgError> {
        if self.width() == width {
            Ok(())
        } else {
            Err(LinalgError::Widths { left: self.width(), right: width })
        }
    }

    fn view(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.rows, self.rows.len() / self.width(), self.width())
    }

    /// Puts `weight * row` under the factor, which is shrunk first if it is full. On an error nothing has changed.
    fn append(&mut self, row: &[f64], weight: f64) -> Result<(), LinalgError> {
        if weight == 0.0 || row.iter().all(|&x| x == 0.0) {
            return Ok(());
        }
        let full = self.cap.min(self.width()).saturating_mul(2).saturating_mul(self.width());
        if self.rows.len() >= full {
            self.make_room()?;
        }
        if self.rows.len() == self.rows.capacity() {
            // Doubled as a vector doubles itself, but never beyond the buffer's full size.
            let more = self.rows.len().max(row.len()).min(full - self.rows.len());
            self.rows.reserve_exact(more);
        }
        self.rows.extend(row.iter().map(|x| weight * x));
        Ok(())
    }

    /// Replaces the factor by one of at most `min(cap, d)` rows.
    fn make_room(&mut self) -> Result<(), LinalgError> {
        // A power of two that keeps every square in range, so that the unit of the rows changes nothing.
        let largest = self.rows.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let exponent = largest.to_bits() & f64::INFINITY.to_bits();
        let unit = f64::from_bits(exponent).max(f64::MIN_POSITIVE);
        self.rows.iter_mut().for_each(|x| *x /= unit);
        let shrunk = shrink(self.view(), self.cap);
        self.rows.iter_mut().for_each(|x| *x *= unit);
        let shrunk = shrunk?;
        self.rows.clear();
        for row in shrunk.factor.row_iter() {
            self.rows.extend(row.iter().map(|x| unit * x));
        }
        self.delta += shrunk.delta * unit * unit;
        self.removed += shrunk.removed * unit * unit;
        Ok(())
    }
}

/// A factor after one step of Frequent Directions.
struct Shrunk {
    /// `[r, d]`, `r <= min(cap, d)`.
    factor: Mat<f64>,
    /// What was taken from every squared singular value.
    delta: f64,
    /// What the trace of `R^T R` lost.
    removed: f64,
}

/// The step itself: by QR alone for `d <= cap`, else through the smaller side of `rows`.
fn shrink(rows: MatRef<'_, f64>, cap: usize) -> Result<Shrunk, LinalgError> {
    let (r, d) = (rows.nrows(), rows.ncols());
    if d <= cap {
        return Ok(Shrunk { factor: reduce(rows.to_owned()), delta: 0.0, removed: 0.0 });
    }
    if r < d {
        let eigen = symmetric_eigen(gram(rows).as_ref())?;
        let cut = Cut::of(&eigen.values, cap, d);
        // diag(sqrt(l - delta)) V^T = diag(sqrt((l - delta) / l)) U^T R: the rows are turned, never divided by a
        // small value.
        let turned = Mat::from_fn(r, cut.kept, |i, j| {
            let share = (eigen.values[j] - cut.delta) / eigen.values[j];
            share.sqrt() * eigen.vectors[(i, j)]
        });
        let factor = transpose_product(turned.as_ref(), rows);
        return Ok(Shrunk { factor, delta: cut.delta, removed: cut.removed });
    }
    let svd = thin_svd(reduce(rows.to_owned()).as_ref())?;
    let squares: Vec<f64> = svd.values.iter().map(|s| s * s).collect();
    let cut = Cut::of(&squares, cap, r);
    let factor = Mat::from_fn(cut.kept, d, |i, j| (squares[i] - cut.delta).sqrt() * svd.right[(j, i)]);
    Ok(Shrunk { factor, delta: cut.delta, removed: cut.removed })
}

/// Where descending squared singular values are cut.
struct Cut {
    kept: usize,
    delta: f64,
    removed: f64,
}

impl Cut {
    /// `size`: the longer side of the matrix, for the floor.
    fn of(squares: &[f64], cap: usize, size: usize) -> Self {
        let floor = relative_floor(size) * squares.first().copied().unwrap_or(0.0);
        let delta = squares.get(cap).copied().filter(|&square| square > floor).unwrap_or(0.0);
        let kept = squares.iter().take_while(|&&square| square > delta.max(floor)).count();
        let removed = squares.iter().map(|square| square.clamp(0.0, delta)).sum();
        Self { kept, delta, removed }
    }
}
