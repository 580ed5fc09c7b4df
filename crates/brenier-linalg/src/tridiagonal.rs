//! Eigenvalues, or some of the eigenpairs, of a symmetric tridiagonal matrix `T`, given by its diagonal `[n]`, `n >= 1`,
//! and by what is beside it, `[n - 1]`.

use crate::dot;
use faer::Mat;

/// All eigenvalues, descending, each to `eps |T|`: by the QL iteration with Wilkinson's shift, in the form of Pal, Walker
/// and Kahan, which works on the squares of what is beside the diagonal. None where it takes too many steps.
pub(crate) fn all_values(mut diagonal: Vec<f64>, mut beside: Vec<f64>) -> Option<Vec<f64>> {
    let n = diagonal.len();
    let size = diagonal.iter().chain(&beside).fold(0.0_f64, |a, x| a.max(x.abs()));
    if size == 0.0 {
        return Some(diagonal);
    }
    // It is quick where the large entries come last.
    if diagonal[n - 1].abs() < diagonal[0].abs() {
        diagonal.reverse();
        beside.reverse();
    }
    diagonal.iter_mut().for_each(|d| *d /= size);
    let mut squares: Vec<f64> = beside.iter().map(|e| (e / size) * (e / size)).collect();
    let (mut first, mut left) = (0, TURNS * n);
    while first < n {
        let negligible = |i: usize, d: &[f64], squares: &[f64]| {
            // Beside entries of nothing too it is small enough at some point.
            squares[i] <= (d[i] * d[i + 1]).abs().max(1e-8) * f64::EPSILON.powi(2) / 4.0
        };
        let last = (first..n - 1).find(|&i| negligible(i, &diagonal, &squares)).unwrap_or(n - 1);
        if last == first {
            first += 1;
        } else {
            left = left.checked_sub(1)?;
            turn(&mut diagonal[first..=last], &mut squares[first..last]);
        }
    }
    diagonal.iter_mut().for_each(|d| *d *= size);
    diagonal.sort_unstable_by(|a, b| b.total_cmp(a));
    Some(diagonal)
}

/// Steps of the QL iteration, for each eigenvalue, after which it is given up: it takes about two.
const TURNS: usize = 30;

/// One step of it on a matrix of which nothing beside the diagonal is negligible, which takes the first of that to 0.
fn turn(diagonal: &mut [f64], squares: &mut [f64]) {
    let m = squares.len();
    let root = squares[0].sqrt();
    let half = (diagonal[1] - diagonal[0]) / (2.0 * root);
    let shift = diagonal[0] - root / (half + half.hypot(1.0).copysign(half));
    let (mut cosine, mut sine) = (1.0, 0.0);
    let mut gamma = diagonal[m] - shift;
    let mut p = gamma * gamma;
    for i in (0..m).rev() {
        let square = squares[i];
        let r = p + square;
        if i + 1 < m {
            squares[i + 1] = sine * r;
        }
        let before = cosine;
        cosine = p / r;
        sine = square / r;
        let old = gamma;
        gamma = cosine * (diagonal[i] - shift) - sine * old;
        diagonal[i + 1] = old + (diagonal[i] - gamma);
        p = if cosine == 0.0 { before * square } else { gamma * gamma / cosine };
    }
    squares[0] = sine * p;
    diagonal[0] = shift + gamma;
}

/// The `count` largest eigenvalues, `count <= n`, descending, by bisection, and by inverse iteration unit vectors that are
/// orthogonal to each other, `[n, count]`. A value is known to `eps |T|`; that `T v = l v` to as much is for the caller to
/// see, since eigenvalues that lie closer to each other may not let it be so.
pub(crate) fn leading_pairs(diagonal: &[f64], beside: &[f64], count: usize) -> (Vec<f64>, Mat<f64>) {
    let n = diagonal.len();
    let (mut values, mut vectors) = (Vec::new(), Mat::zeros(n, count));
    for k in 0..count {
        let value = nth_largest(diagonal, beside, k);
        let factors = Factors::of(diagonal, beside, value);
        let mut vector: Vec<f64> = (0..n).map(|i| scattered(i + k * n)).collect();
        for _ in 0..STEPS {
            factors.solve(&mut vector);
            // The larger part first, lest the squares overflow.
            let largest = vector.iter().fold(0.0_f64, |a, x| a.max(x.abs()));
            scale(&mut vector, largest.recip());
            for known in (0..k).map(|k| vectors.col_as_slice(k)) {
                let along = dot(known, &vector);
                vector.iter_mut().zip(known).for_each(|(x, v)| *x -= along * v);
            }
            let length = dot(&vector, &vector).sqrt();
            scale(&mut vector, length.recip());
        }
        vectors.col_as_slice_mut(k).copy_from_slice(&vector);
        values.push(value);
    }
    (values, vectors)
}

/// The eigenvalue that `k` others are not under.
///
/// `x I - T` has as many negative pivots as there are eigenvalues above `x`.
pub(crate) fn nth_largest(diagonal: &[f64], beside: &[f64], k: usize) -> f64 {
    let at = |i: usize| beside.get(i).map_or(0.0, |x| x.abs());
    // Gershgorin's discs.
    let radius = |i: usize| if i == 0 { at(0) } else { at(i - 1) + at(i) };
    let ends = diagonal.iter().enumerate().map(|(i, d)| (d - radius(i), d + radius(i)));
    let (mut low, mut high) =
        ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (a, b)| (low.min(a), high.max(b)));
    let least = f64::EPSILON * low.abs().max(high.abs());
    loop {
        let middle = low + 0.5 * (high - low);
        let between = low < middle && middle < high;
        if !between || high - low <= 0.5 * least {
            return high;
        }
        if above(diagonal, beside, middle) <= k { high = middle } else { low = middle }
    }
}

/// Inverse iterations: one is enough for most, and the third changes nothing.
const STEPS: usize = 3;

/// How many eigenvalues lie above `x`.
fn above(diagonal: &[f64], beside: &[f64], x: f64) -> usize {
    let mut pivot = x - diagonal[0];
    let mut count = usize::from(pivot < 0.0);
    for (d, e) in diagonal[1..].iter().zip(beside) {
        // Beside a pivot of nothing the next is as large as there is, of the other sign.
        let taken = if pivot == 0.0 { f64::MAX * e.abs().min(1.0) } else { e * (e / pivot) };
        pivot = x - d - taken;
        count += usize::from(pivot < 0.0);
    }
    count
}

/// Triangular factors of `T - l I`, with rows exchanged so that no multiplier exceeds 1.
struct Factors {
    multipliers: Vec<f64>,
    exchanged: Vec<bool>,
    /// The diagonals of the upper factor.
    upper: [Vec<f64>; 3],
}

impl Factors {
    fn of(diagonal: &[f64], beside: &[f64], value: f64) -> Self {
        let n = diagonal.len();
        let largest = diagonal.iter().chain(beside).fold(0.0_f64, |a, x| a.max(x.abs()));
        // What stands for a pivot of nothing.
        let tiny = (f64::EPSILON * largest).max(f64::MIN_POSITIVE);
        let mut on: Vec<f64> = diagonal.iter().map(|d| d - value).collect();
        let mut next = [beside, &[0.0]].concat();
        let mut second = vec![0.0; n];
        let (mut multipliers, mut exchanged) = (Vec::new(), Vec::new());
        for (i, &below) in beside.iter().enumerate() {
            let exchange = on[i].abs() < below.abs();
            let multiplier = if exchange {
                let multiplier = on[i] / below;
                let (right, own) = (on[i + 1], next[i]);
                (on[i], next[i], second[i]) = (below, right, next[i + 1]);
                (on[i + 1], next[i + 1]) = (own - multiplier * right, -multiplier * second[i]);
                multiplier
            } else {
                if on[i].abs() < tiny {
                    on[i] = tiny;
                }
                let multiplier = below / on[i];
                on[i + 1] -= multiplier * next[i];
                multiplier
            };
            multipliers.push(multiplier);
            exchanged.push(exchange);
        }
        if on[n - 1].abs() < tiny {
            on[n - 1] = tiny;
        }
        Self { multipliers, exchanged, upper: [on, next, second] }
    }

    fn solve(&self, x: &mut [f64]) {
        for (i, (multiplier, exchange)) in self.multipliers.iter().zip(&self.exchanged).enumerate() {
            if *exchange {
                x.swap(i, i + 1);
            }
            x[i + 1] -= multiplier * x[i];
        }
        let [on, next, second] = &self.upper;
        for i in (0..x.len()).rev() {
            let right = |by: usize, row: &[f64]| x.get(i + by).map_or(0.0, |x| row[i] * x);
            x[i] = (x[i] - right(1, next) - right(2, second)) / on[i];
        }
    }
}

/// A number in -1..1 from a place, such that no structure of a matrix is likely to be orthogonal to a vector of them.
pub(crate) fn scattered(place: usize) -> f64 {
    let mut z = (place as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn scale(vector: &mut [f64], by: f64) {
    vector.iter_mut().for_each(|x| *x *= by);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symmetric_eigen;

    fn dense(diagonal: &[f64], beside: &[f64]) -> Mat<f64> {
        Mat::from_fn(diagonal.len(), diagonal.len(), |i, j| match i.abs_diff(j) {
            0 => diagonal[i],
            1 => beside[i.min(j)],
            _ => 0.0,
        })
    }

    #[test]
    fn the_leading_pairs_are_those_of_all() {
        for n in [1, 2, 3, 17, 90] {
            for unit in [1e-120, 1.0, 1e120] {
                let diagonal: Vec<f64> = (0..n).map(|i| unit * (scattered(i) + 0.5)).collect();
                let beside: Vec<f64> = (1..n).map(|i| unit * scattered(i + n)).collect();
                let matrix = dense(&diagonal, &beside);
                let all = symmetric_eigen(matrix.as_ref()).unwrap();
                let count = n.min(4);
                let (values, vectors) = leading_pairs(&diagonal, &beside, count);
                for (k, &value) in values.iter().enumerate() {
                    assert!((value - all.values[k]).abs() < 1e-13 * unit, "n = {n}");
                    let v = vectors.as_ref().subcols(k, 1);
                    let off = (&matrix * v - faer::Scale(value) * v).norm_l2();
                    assert!(off < 1e-13 * unit, "n = {n}: |T v - l v| = {off:e}");
                }
                let gram = vectors.transpose() * &vectors;
                assert!((gram - Mat::<f64>::identity(count, count)).norm_max() < 1e-14);
            }
        }
    }

    #[test]
    fn all_values_are_those_of_a_decomposition() {
        for n in [1, 2, 3, 17, 90] {
            for unit in [1e-120, 1.0, 1e120] {
                let graded = |i: usize| 0.5_f64.powi(i as i32);
                let noise: (Vec<f64>, Vec<f64>) = (
                    (0..n).map(|i| unit * scattered(i)).collect(),
                    (1..n).map(|i| unit * scattered(i + n)).collect(),
                );
                let down: (Vec<f64>, Vec<f64>) = (
                    (0..n).map(|i| unit * graded(i)).collect(),
                    (1..n).map(|i| unit * 0.3 * graded(i)).collect(),
                );
                let up = (down.0.iter().rev().copied().collect(), down.1.iter().rev().copied().collect());
                let parts = (vec![unit; n], (1..n).map(|i| if i % 3 == 0 { 0.0 } else { unit }).collect());
                for (diagonal, beside) in [noise, down, up, parts, (vec![0.0; n], vec![0.0; n - 1])] {
                    let expected = symmetric_eigen(dense(&diagonal, &beside).as_ref()).unwrap().values;
                    let found = all_values(diagonal, beside).unwrap();
                    for (found, expected) in found.iter().zip(&expected) {
                        assert!((found - expected).abs() < 1e-13 * unit, "n = {n}: {found:e} {expected:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn eigenvalues_that_fall_together_have_orthogonal_vectors() {
        // Wilkinson's matrix, whose largest pair agrees to fourteen digits; one in two parts; the identity; nothing.
        let wilkinson: Vec<f64> = (0..21).map(|i| (10.0 - i as f64).abs()).collect();
        let parts = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0];
        for (diagonal, beside) in [
            (wilkinson, vec![1.0; 20]),
            (vec![2.0; 8], parts.to_vec()),
            (vec![1.0; 6], vec![0.0; 5]),
            (vec![0.0; 6], vec![0.0; 5]),
        ] {
            let all = symmetric_eigen(dense(&diagonal, &beside).as_ref()).unwrap();
            let (values, vectors) = leading_pairs(&diagonal, &beside, 2);
            assert!(values.iter().zip(&all.values).all(|(a, b)| (a - b).abs() < 1e-13));
            let gram = vectors.transpose() * &vectors;
            assert!((gram - Mat::<f64>::identity(2, 2)).norm_max() < 1e-12, "{vectors:?}");
        }
    }
}
