//! Reduced coordinates: both classes in an orthonormal basis of the span of their rows.
//!
//! With fewer rows than columns all that a fit needs lies in the span of `x_i - m`, each row about the mean of its class,
//! and of the difference of the means. In an orthonormal basis of it the classes have as many columns as there are rows
//! and the same inner products, so every method works there as it would on the rows, and what it finds is lifted once.

use crate::error::TransportError;
use crate::gaussian::bures_squared;
use crate::samples::Owned;
use crate::samples::class::{Class, Known};
use brenier_linalg::{
    Covariance, JointBasis, LinalgError, cholesky, gram, joint_basis, lower_inverse, product, relative_floor,
    squared_norm, thin_svd, transpose_product,
};
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

/// What the Gram path may cost, relative, in the direction that suffers most; beyond that the SVD path is taken.
const ACCURACY: f64 = 1e-10;

/// Columns of the rows that a thread works on at once, and rows in these.
const STRIP: usize = 256;
const TILE: usize = 8;

/// Two classes in reduced coordinates.
pub(crate) struct Reduced<'a> {
    pub basis: Basis,
    /// About the source's mean, where the basis is not the identity.
    pub classes: [Class<'a>; 2],
    /// How many of the coordinates the classes vary in: the first. One more, if there is one, tells their means apart.
    pub rank: usize,
    /// Of how many dimensions these are coordinates, d.
    pub dim: usize,
    /// The means in all of these. `[d]` each.
    pub means: [Vec<f64>; 2],
    /// What the rounding of f32 rows may have added to an eigenvalue of a covariance divided by `n`; 0 if it is not known.
    pub noise: f64,
}

impl<'a> Reduced<'a> {
    /// By one of two constructors where rows are fewer than columns: through a Cholesky factor of their Gram matrix, which
    /// is fast and squares their condition number, where the error stays under 1e-10 (`is_resolved`), else through their
    /// singular value decomposition, which squares nothing. Where rows are as many as columns or more, the rows as they are,
    /// or in a basis of their span if that is smaller.
    pub(crate) fn of(classes: &'a [Class<'_>; 2]) -> Result<Self, TransportError> {
        Self::through(classes, GramBasis::of)
    }

    fn through(
        classes: &'a [Class<'_>; 2],
        gram_basis: impl Fn(Mat<f64>) -> Result<GramBasis, Mat<f64>>,
    ) -> Result<Self, TransportError> {
        let dim = classes[0].width();
        let counts = [vectors_of(&classes[0]), vectors_of(&classes[1])];
        if counts[0] + counts[1] + 2 >= dim {
            return Self::tall(classes, dim);
        }
        let n = counts[0] + counts[1];
        // The difference of the means comes last.
        let mut vectors = Mat::zeros(dim, n + 1);
        let (left, mut right) = vectors.as_mut().split_at_col_mut(counts[0]);
        put_vectors(&classes[0], left)?;
        put_vectors(&classes[1], right.as_mut().subcols_mut(0, counts[1]))?;
        let ends = classes[0].mean.iter().zip(&classes[1].mean);
        right.col_mut(counts[1]).iter_mut().zip(ends).for_each(|(gap, (from, to))| *gap = to - from);
        let (basis, coordinates, gap) = match gram_basis(vectors) {
            Ok(basis) => {
                let coordinates = basis.factor.as_ref().submatrix(0, 0, n, n).to_owned();
                let gap = basis.factor.row(n).iter().copied().collect();
                (Basis { span: Span::Gram(basis), gap: None }, coordinates, gap)
            }
            Err(mut vectors) => {
                vectors.truncate(dim, n);
                let (span, coordinates) = by_svd(vectors, counts[0])?;
                let mut basis = Basis { span, gap: None };
                let gap = basis.split_off(&classes[0].mean, &classes[1].mean);
                (basis, coordinates, gap)
            }
        };
        let rank = coordinates.ncols();
        let (above, below) = coordinates.split_at_row(counts[0]);
        let reduced = [
            in_coordinates(&classes[0], above, vec![0.0; gap.len()])?,
            in_coordinates(&classes[1], below, gap)?,
        ];
        let means = [classes[0].mean.clone(), classes[1].mean.clone()];
        Ok(Self { basis, classes: reduced, rank, dim, means, noise: 0.0 })
    }

    /// Rows as many as columns, or nearly.
    fn tall(classes: &'a [Class<'_>; 2], dim: usize) -> Result<Self, TransportError> {
        let JointBasis { vectors, rank } = {
            let factor = |class: &Class<'_>| class.factor(Covariance::Population);
            joint_basis(factor(&classes[0])?.as_ref(), factor(&classes[1])?.as_ref())?
        };
        let means = [classes[0].mean.clone(), classes[1].mean.clone()];
        let Some(vectors) = vectors else {
            let classes = [classes[0].view()?, classes[1].view()?];
            return Ok(Self { basis: Basis::identity(), classes, rank, dim, means, noise: 0.0 });
        };
        let along = |class: &Class<'_>| class.along(vectors.as_ref(), &classes[0].mean, None);
        let found = [along(&classes[0])?, along(&classes[1])?];
        let mut basis = Basis { span: Span::Columns(vectors), gap: None };
        let gap = basis.split_off(&means[0], &means[1]);
        let [source, target] = found;
        let classes = if gap.len() > rank {
            [widened(source, 0.0)?, widened(target, gap[rank])?]
        } else {
            [source, target]
        };
        Ok(Self { basis, classes, rank, dim, means, noise: 0.0 })
    }

    /// The coordinates as if they were all dimensions there are, but for [`Self::dim`]: for fits of which no more than
    /// numbers are wanted.
    pub(crate) fn of_coordinates(classes: [Class<'a>; 2], rank: usize, dim: usize) -> Self {
        let means = [classes[0].mean.clone(), classes[1].mean.clone()];
        Self { basis: Basis::identity(), classes, rank, dim, means, noise: 0.0 }
    }

    /// The covariance factor of a class in the coordinates in which the classes vary, `[m, rank]`.
    pub(crate) fn factor(&self, side: usize, covariance: Covariance) -> Result<Mat<f64>, LinalgError> {
        let factor = self.classes[side].factor(covariance)?;
        Ok(if factor.ncols() == self.rank {
            factor
        } else {
            factor.as_ref().subcols(0, self.rank).to_owned()
        })
    }

    /// Whether the coordinates are fewer than half of the dimensions, and so much smaller than the rows.
    pub(crate) fn is_small(&self) -> bool {
        2 * self.rank < self.dim
    }

    /// W2 between the classes.
    pub(crate) fn w2(&self, covariance: Covariance) -> Result<f64, LinalgError> {
        let (source, target) = (self.factor(0, covariance)?, self.factor(1, covariance)?);
        Ok((self.apart() + bures_squared(source.as_ref(), target.as_ref())?).sqrt())
    }

    /// `|m_t - m_s|^2`.
    pub(crate) fn apart(&self) -> f64 {
        self.means[0].iter().zip(&self.means[1]).map(|(s, t)| (t - s) * (t - s)).sum()
    }
}

/// An orthonormal basis, `[d, r]`.
pub(crate) struct Basis {
    span: Span,
    /// One more column: the direction in which the means differ outside of the span. `[d]`.
    gap: Option<Vec<f64>>,
}

enum Span {
    /// All coordinates.
    Identity,
    /// `[d, r]`.
    Columns(Mat<f64>),
    Gram(GramBasis),
}

/// `Q = W L^{-T}` with vectors `W`, `[d, r + 1]`, of the Gram matrix `W^T W = L L^T`; the last is the difference of the
/// means.
struct GramBasis {
    vectors: Mat<f64>,
    factor: Mat<f64>,
}

impl Basis {
    pub(crate) fn identity() -> Self {
        Self { span: Span::Identity, gap: None }
    }

    /// The vectors of `[d, k]` with these coordinates in the span, `[rank, k]`.
    pub(crate) fn lift_span(&self, inner: MatRef<'_, f64>) -> Mat<f64> {
        match &self.span {
            Span::Identity => inner.to_owned(),
            Span::Columns(columns) => product(columns.as_ref(), inner),
            Span::Gram(GramBasis { vectors, factor }) => {
                let mut weights = inner.to_owned();
                let k = weights.nrows();
                let factor = factor.as_ref().submatrix(0, 0, k, k);
                solve_upper_triangular_in_place(factor.transpose(), weights.as_mut(), Par::Seq);
                product(vectors.as_ref().subcols(0, k), weights.as_ref())
            }
        }
    }

    /// The vectors of `[d, k]` with these coordinates, `[r, k]`.
    pub(crate) fn lift(&self, coordinates: MatRef<'_, f64>) -> Mat<f64> {
        let rank = coordinates.nrows() - usize::from(self.gap.is_some());
        let mut lifted = self.lift_span(coordinates.subrows(0, rank));
        if let Some(gap) = &self.gap {
            let last = coordinates.row(coordinates.nrows() - 1);
            for (column, by) in lifted.as_mut().col_iter_mut().zip(last.iter()) {
                column.iter_mut().zip(gap).for_each(|(x, gap)| *x += by * gap);
            }
        }
        lifted
    }

    /// The columns of the span, `[d, r]`, without the direction of the means; none for all coordinates.
    pub(crate) fn into_columns(self) -> Option<Mat<f64>> {
        match self.span {
            Span::Identity => None,
            Span::Columns(columns) => Some(columns),
            Span::Gram(GramBasis { mut vectors, factor }) => {
                let (d, rank) = (vectors.nrows(), vectors.ncols() - 1);
                vectors.truncate(d, rank);
                let factor = factor.as_ref().submatrix(0, 0, rank, rank);
                // In place: L Q^T = W^T.
                vectors.as_mut().par_row_chunks_mut(STRIP).for_each(|strip| {
                    solve_lower_triangular_in_place(factor, strip.transpose_mut(), Par::Seq);
                });
                Some(vectors)
            }
        }
    }

    /// The coordinates of the difference of two means, for which the basis gets one more column where it lies outside.
    fn split_off(&mut self, from: &[f64], to: &[f64]) -> Vec<f64> {
        let gap = Mat::from_fn(from.len(), 1, |j, _| to[j] - from[j]);
        let size = squared_norm(gap.as_ref()).sqrt();
        let mut along = self.along(&gap);
        let mut rest = gap - self.lift(along.as_ref());
        // Twice is enough (Parlett 1980, section 6-9).
        let more = self.along(&rest);
        rest -= self.lift(more.as_ref());
        along += more;
        let length = squared_norm(rest.as_ref()).sqrt();
        let mut coordinates = along.col_as_slice(0).to_vec();
        if length > relative_floor(from.len()) * size {
            self.gap = Some(rest.col_as_slice(0).iter().map(|x| x / length).collect());
            coordinates.push(length);
        } else if coordinates.is_empty() {
            // Two equal points have a coordinate all the same, of any direction.
            self.gap = Some((0..from.len()).map(|j| if j == 0 { 1.0 } else { 0.0 }).collect());
            coordinates.push(0.0);
        }
        coordinates
    }

    /// `Q^T v` in the span. `[r, 1]`.
    fn along(&self, vector: &Mat<f64>) -> Mat<f64> {
        match &self.span {
            Span::Columns(columns) => transpose_product(columns.as_ref(), vector.as_ref()),
            Span::Identity | Span::Gram(_) => vector.clone(),
        }
    }
}

impl GramBasis {
    /// From the vectors of both classes and the difference of the means; the vectors again where the Gram matrix does not
    /// resolve them.
    fn of(vectors: Mat<f64>) -> Result<Self, Mat<f64>> {
        let mut scaled = gram(vectors.transpose());
        let n = scaled.nrows();
        // Each vector over its own length, lest a small class be lost beside a large one.
        let sizes: Vec<f64> = (0..n).map(|i| scaled[(i, i)].sqrt()).collect();
        for j in 0..n {
            for i in 0..n {
                scaled[(i, j)] = scaled[(i, j)] / sizes[i] / sizes[j];
            }
        }
        let Some(mut factor) = cholesky(scaled) else { return Err(vectors) };
        if !is_resolved(&factor) {
            return Err(vectors);
        }
        for j in 0..n {
            for i in j..n {
                factor[(i, j)] *= sizes[i];
            }
        }
        Ok(Self { vectors, factor })
    }
}

/// Whether rounding of a Gram matrix `L L^T` of unit vectors stays under [`ACCURACY`] in every direction: it moves eigenvalues
/// by about `2 eps sqrt(n)` at most, and the least of them is `1 / |L^{-1}|_F^2` or more.
fn is_resolved(factor: &Mat<f64>) -> bool {
    let noise = 2.0 * f64::EPSILON * (factor.nrows() as f64).sqrt();
    noise * squared_norm(lower_inverse(factor).as_ref()) <= ACCURACY
}

/// A basis of the span and the coordinates of the vectors in it, `[n, r]`: right singular vectors of the vectors, each
/// class over its own size, whose squared singular values lie above the floor.
fn by_svd(mut vectors: Mat<f64>, above: usize) -> Result<(Span, Mat<f64>), LinalgError> {
    let (d, n) = vectors.shape();
    let scale = |vectors: MatMut<'_, f64>, by: f64| {
        vectors.col_iter_mut().for_each(|column| column.iter_mut().for_each(|x| *x *= by));
    };
    let (left, right) = vectors.as_ref().split_at_col(above);
    let sizes = [left, right].map(|class| match squared_norm(class).sqrt() {
        0.0 => 1.0,
        size => size,
    });
    let (left, right) = vectors.as_mut().split_at_col_mut(above);
    scale(left, sizes[0].recip());
    scale(right, sizes[1].recip());
    let svd = thin_svd(vectors.transpose())?;
    let largest = svd.values.first().copied().unwrap_or(0.0);
    let floor = relative_floor(d.max(n)) * largest * largest;
    let rank = svd.values.iter().take_while(|&&s| s > 0.0 && s * s > floor).count();
    let columns =
        if rank == svd.right.ncols() { svd.right } else { svd.right.as_ref().subcols(0, rank).to_owned() };
    let mut coordinates = transpose_product(vectors.as_ref(), columns.as_ref());
    scale(coordinates.as_mut().subrows_mut(0, above), sizes[0]);
    scale(coordinates.as_mut().subrows_mut(above, n - above), sizes[1]);
    Ok((Span::Columns(columns), coordinates))
}

/// How many vectors span what a class is about its mean: one less than rows, since these add up to nothing.
fn vectors_of(class: &Class<'_>) -> usize {
    match &class.known {
        Known::Factor { factor, .. } => factor.nrows(),
        _ => class.count().saturating_sub(1),
    }
}

/// The vectors as columns, `[d, m]`, with the covariance divided by `n` for `W W^T`: of a factor its rows, of rows
/// `f_i = sqrt(w_i) (x_i - m)` all but the first component of `H f`, where the Householder reflection
/// `H = I - w w^T / (1 + u_1)`, `w = u + e_1`, takes the vector `u` of the roots of the shares, to which `f` is orthogonal,
/// to an axis.
fn put_vectors(class: &Class<'_>, out: MatMut<'_, f64>) -> Result<(), LinalgError> {
    if let Known::Factor { factor, .. } = &class.known {
        out.transpose_mut().copy_from(factor);
        return Ok(());
    }
    let roots: Vec<f64> = class.shares()?.into_iter().map(f64::sqrt).collect();
    let Some(rows) = class.rows()? else { return Ok(()) };
    if out.ncols() == 0 {
        return Ok(());
    }
    let (view, mean) = (rows.view(), &class.mean);
    let first = roots[0] / (1.0 + roots[0]);
    out.par_row_chunks_mut(STRIP).enumerate().for_each(|(index, mut strip)| {
        let at = index * STRIP;
        let about: Vec<f64> =
            (at..at + strip.nrows()).map(|j| mean[j] + first * (view[(0, j)] - mean[j])).collect();
        // A few rows at once, lest rows that are stored in columns be read a value at a time.
        for some in (0..strip.ncols()).step_by(TILE) {
            for (j, about) in about.iter().enumerate() {
                for i in some..strip.ncols().min(some + TILE) {
                    strip[(j, i)] = roots[i + 1] * (view[(i + 1, at + j)] - about);
                }
            }
        }
    });
    Ok(())
}

/// A class from the coordinates of its vectors, `[m, rank]`, about `mean`, `[r]`: the reflection taken back.
fn in_coordinates(
    class: &Class<'_>,
    vectors: MatRef<'_, f64>,
    mean: Vec<f64>,
) -> Result<Class<'static>, LinalgError> {
    let (r, rank) = (mean.len(), vectors.ncols());
    if let Known::Factor { count, .. } = &class.known {
        let factor = Mat::from_fn(vectors.nrows(), r, |i, j| if j < rank { vectors[(i, j)] } else { 0.0 });
        return Ok(Class { mean, known: Known::Factor { factor, count: *count } });
    }
    let roots: Vec<f64> = class.shares()?.into_iter().map(f64::sqrt).collect();
    let mut rows = Mat::from_fn(class.count(), r, |_, j| mean[j]);
    for j in 0..rank {
        let column = vectors.col(j);
        let along: f64 = column.iter().zip(&roots[1..]).map(|(y, root)| root * y).sum();
        rows[(0, j)] -= along / roots[0];
        for (i, y) in column.iter().enumerate() {
            rows[(i + 1, j)] += y / roots[i + 1] - along / (1.0 + roots[0]);
        }
    }
    Ok(Class { mean, known: Known::Owned(Owned { rows, weights: class.weights()? }) })
}

/// The class with one more coordinate, the same for all its rows.
fn widened(class: Class<'static>, last: f64) -> Result<Class<'static>, LinalgError> {
    let Class { mut mean, known } = class;
    let r = mean.len();
    mean.push(last);
    let wider = |matrix: &Mat<f64>, last: f64| {
        Mat::from_fn(matrix.nrows(), r + 1, |i, j| if j < r { matrix[(i, j)] } else { last })
    };
    let known = match known {
        Known::Factor { factor, count } => Known::Factor { factor: wider(&factor, 0.0), count },
        Known::Owned(Owned { rows, weights }) => Known::Owned(Owned { rows: wider(&rows, last), weights }),
        Known::Rows(rows) => {
            let weights = rows.weights().map(|weights| weights.raw().to_vec());
            Known::Owned(Owned { rows: wider(&rows.view().to_owned(), last), weights })
        }
    };
    Ok(Class { mean, known })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::certify::certify;
    use crate::error::Side;
    use crate::methods::estimate;
    use crate::options::{FitOptions, Method};
    use crate::samples::Kept;
    use crate::samples::class::checked_classes;
    use brenier_linalg::Shrinkage;

    fn noise(n: usize, d: usize, seed: usize) -> Mat<f64> {
        let wave =
            |i: usize, j: usize| ((i * 7919 + j * 104_729 + seed * 1_299_709) as f64).sin() * 43_758.545_3;
        Mat::from_fn(n, d, |i, j| wave(i, j).fract())
    }

    /// Rows about a mean, of deviations that fall to `least` along the rows.
    fn graded(n: usize, d: usize, seed: usize, least: f64) -> Mat<f64> {
        let noise = noise(n, d, seed);
        let by = |i: usize| least.powf(i as f64 / (n - 1) as f64);
        Mat::from_fn(n, d, |i, j| seed as f64 + by(i) * noise[(i, j)])
    }

    fn kept(rows: &Mat<f64>) -> Kept<'_> {
        Kept::new(Side::Source, rows.as_ref().into()).unwrap()
    }

    fn is_gram(reduced: &Reduced<'_>) -> bool {
        matches!(reduced.basis.span, Span::Gram(_))
    }

    fn by_svd_alone<'a>(classes: &'a [Class<'_>; 2]) -> Reduced<'a> {
        Reduced::through(classes, Err).unwrap()
    }

    fn off(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
        (squared_norm((a - b).as_ref()) / squared_norm(b.as_ref())).sqrt()
    }

    /// Where a fit takes some rows.
    fn moved(
        method: Method,
        classes: &[Class<'_>; 2],
        reduced: Reduced<'_>,
        options: &FitOptions,
    ) -> Mat<f64> {
        let made = estimate(method, classes, &reduced, options, None).unwrap();
        let found = certify(method, made, reduced, classes, options).unwrap();
        let mut probe = noise(7, classes[0].width(), 99);
        found.map.apply_rows(probe.as_mut(), 1.0).unwrap();
        probe
    }

    #[test]
    fn coordinates_have_the_inner_products_of_the_rows_by_either_constructor() {
        let (source, target) = (noise(11, 60, 1), noise(14, 60, 2));
        let (s, t) = (kept(&source), kept(&target));
        let classes = checked_classes(&s, &t, 2).unwrap();
        for reduced in [Reduced::of(&classes).unwrap(), by_svd_alone(&classes)] {
            assert_eq!((reduced.rank, reduced.classes[0].width(), reduced.dim), (10 + 13, 10 + 13 + 1, 60));
            let all = |side: usize| reduced.classes[side].rows().unwrap().unwrap().view().to_owned();
            let away =
                |rows: &Mat<f64>| Mat::from_fn(rows.nrows(), 60, |i, j| rows[(i, j)] - classes[0].mean[j]);
            for (a, b) in [(0, 0), (0, 1), (1, 1)] {
                let rows = [away(&source), away(&target)];
                assert!(off(&(all(a) * all(b).transpose()), &(&rows[a] * rows[b].transpose())) < 1e-12);
            }
            let lifted = reduced.basis.lift(all(1).transpose());
            assert!(off(&lifted, &away(&target).transpose().to_owned()) < 1e-12);
        }
    }

    #[test]
    fn both_constructors_lead_to_one_map() {
        let (source, target) = (graded(11, 60, 1, 0.1), graded(14, 60, 2, 0.2));
        let (s, t) = (kept(&source), kept(&target));
        let classes = checked_classes(&s, &t, 2).unwrap();
        let plain = FitOptions::default();
        for options in [
            plain,
            FitOptions { reg_abs: Some(1e-3), ..plain },
            FitOptions { shrinkage: Shrinkage::Auto, ..plain },
            FitOptions { shrinkage: Shrinkage::Oas, ..plain },
        ] {
            for method in Method::ALL {
                let reduced = Reduced::of(&classes).unwrap();
                assert!(is_gram(&reduced));
                let found = moved(method, &classes, reduced, &options);
                let expected = moved(method, &classes, by_svd_alone(&classes), &options);
                assert!(off(&found, &expected) < 1e-9, "{method}: {:e}", off(&found, &expected));
            }
        }
    }

    #[test]
    fn the_switch_is_where_rounding_would_show_and_both_sides_agree() {
        let mut sides = [0, 0];
        for power in 0..14 {
            let (source, target) = (graded(9, 50, 1, 10_f64.powf(-0.5 * power as f64)), noise(8, 50, 2));
            let (s, t) = (kept(&source), kept(&target));
            let classes = checked_classes(&s, &t, 2).unwrap();
            let options = FitOptions { reg_abs: Some(1e-9), ..FitOptions::default() };
            let reduced = Reduced::of(&classes).unwrap();
            sides[usize::from(is_gram(&reduced))] += 1;
            let found = moved(Method::Ot, &classes, reduced, &options);
            let expected = moved(Method::Ot, &classes, by_svd_alone(&classes), &options);
            assert!(off(&found, &expected) < 1e-7, "1e-{power}/2: {:e}", off(&found, &expected));
        }
        assert!(sides[0] >= 3 && sides[1] >= 3, "one side alone was tried: {sides:?}");
    }

    #[test]
    fn near_duplicate_rows_and_equal_rows_take_the_svd() {
        let mut source = noise(9, 50, 1);
        for j in 0..50 {
            source[(3, j)] = source[(2, j)] * (1.0 + 1e-9);
        }
        let (target, point) = (noise(8, 50, 2), Mat::from_fn(4, 50, |_, j| j as f64));
        for (a, b, rank) in [(&source, &target, 8 + 7), (&target, &point, 7), (&point, &point, 0)] {
            let (s, t) = (kept(a), kept(b));
            let classes = checked_classes(&s, &t, 2).unwrap();
            let reduced = Reduced::of(&classes).unwrap();
            assert!(!is_gram(&reduced));
            assert!(reduced.rank <= rank && reduced.rank + 1 >= rank, "{} of {rank}", reduced.rank);
            moved(Method::Ot, &classes, reduced, &FitOptions::default());
        }
    }

    #[test]
    fn a_basis_that_is_not_what_the_map_was_found_in_is_refused() {
        let (source, target) = (noise(9, 50, 1), noise(8, 50, 2));
        let (s, t) = (kept(&source), kept(&target));
        let classes = checked_classes(&s, &t, 2).unwrap();
        let options = FitOptions::default();
        for method in [Method::Ot, Method::Entropic, Method::Whitening, Method::PcaOt] {
            for spoil in [
                |columns: &mut Mat<f64>| {
                    columns.col_as_slice_mut(0).iter_mut().for_each(|x| *x *= 1.0 + 1e-7)
                },
                |columns: &mut Mat<f64>| columns[(3, 1)] += 1e-7,
                // Orthonormal still, and the wrong way round.
                |columns: &mut Mat<f64>| columns.col_as_slice_mut(0).iter_mut().for_each(|x| *x = -*x),
            ] {
                let mut reduced = Reduced::of(&classes).unwrap();
                let mut made = estimate(method, &classes, &reduced, &options, None).unwrap();
                if let Some(axes) = &mut made.axes {
                    spoil(&mut axes.basis);
                } else {
                    let basis = std::mem::replace(&mut reduced.basis, Basis::identity());
                    let mut columns = basis.into_columns().unwrap();
                    spoil(&mut columns);
                    reduced.basis = Basis { span: Span::Columns(columns), gap: None };
                }
                let refused = certify(method, made, reduced, &classes, &options).map(|_| ()).unwrap_err();
                assert!(matches!(refused, TransportError::Certificate { .. }), "{method}: {refused}");
            }
        }
    }
}
