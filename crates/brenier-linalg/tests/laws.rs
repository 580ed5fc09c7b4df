//! Closed forms and laws of the linear algebra, on both sides of `n = d`.
#![allow(clippy::unwrap_used)]

use brenier_linalg::*;
use faer::{Mat, MatRef, mat};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Rounding of sums over `size` terms, with room for the constants of the decompositions.
fn rounding(size: usize) -> f64 {
    100.0 * size as f64 * f64::EPSILON
}

fn noise(n: usize, d: usize, seed: u64) -> Mat<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    Mat::from_fn(n, d, |_, _| rng.random_range(-1.0..1.0))
}

fn distance(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    squared_norm((a - b).as_ref()).sqrt()
}

fn identity(n: usize) -> Mat<f64> {
    Mat::identity(n, n)
}

#[test]
fn products_agree_with_the_definition_across_block_edges() {
    for (m, k, n) in [(1, 1, 1), (5, 3, 7), (97, 10, 193), (200, 0, 3), (96, 33, 96)] {
        let (a, b) = (noise(m, k, 1), noise(k, n, 2));
        let by_hand = Mat::from_fn(m, n, |i, j| (0..k).map(|l| a[(i, l)] * b[(l, j)]).sum());
        assert!(distance(product(a.as_ref(), b.as_ref()).as_ref(), by_hand.as_ref()) < rounding(m * n));
        let square = gram(a.as_ref());
        assert!(
            distance(square.as_ref(), product_with_transpose(a.as_ref(), a.as_ref()).as_ref())
                < rounding(m * m)
        );
        assert_eq!(square, square.transpose().to_owned(), "a Gram matrix is symmetric to the bit");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let rows = noise(250, 300, 3);
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let rows = Rows::new(rows.as_ref()).unwrap();
            let pca = pca(rows, &mean(rows), None, 7).unwrap();
            (gram(rows.view()), pca.basis, nuclear_norm_of_product(rows.view(), rows.view()).unwrap())
        })
    };
    assert_eq!(run(1), run(4));
}

#[test]
fn the_mean_of_equal_rows_is_the_row() {
    let row = [1.0e9 + 0.1, -0.3, 1e-300, 7.0];
    let rows = Mat::from_fn(37, 4, |_, j| row[j]);
    assert_eq!(mean(Rows::new(rows.as_ref()).unwrap()), row);
    let centred = center(Rows::new(rows.as_ref()).unwrap(), &row);
    assert_eq!(squared_norm(centred.as_ref()), 0.0);
}

#[test]
fn the_divisors_are_those_of_the_names() {
    let rows = mat![[1.0], [3.0], [5.0]];
    let rows = Rows::new(rows.as_ref()).unwrap();
    let variance = |covariance| squared_norm(factor(rows, &mean(rows), covariance).as_ref());
    assert!((variance(Covariance::Sample) - 4.0).abs() < rounding(3));
    assert!((variance(Covariance::Population) - 8.0 / 3.0).abs() < rounding(3));
}

#[test]
fn pca_from_the_gram_matrix_and_from_the_covariance_are_one() {
    // The same rows, once wide and once padded by repetition to be tall: equal axes, either route.
    let wide = noise(12, 30, 4);
    let tall = Mat::from_fn(36, 30, |i, j| wide[(i % 12, j)]);
    let (wide, tall) = (Rows::new(wide.as_ref()).unwrap(), Rows::new(tall.as_ref()).unwrap());
    let a = pca(wide, &mean(wide), None, 5).unwrap();
    let b = pca(tall, &mean(tall), None, 5).unwrap();
    assert_eq!((a.rank, b.rank), (11, 11));
    assert!(distance(a.basis.as_ref(), b.basis.as_ref()) < 1e3 * rounding(36), "gaps of the spectrum divide");
    for (x, y) in a.eigenvalues.iter().zip(&b.eigenvalues) {
        assert!((x - y).abs() < rounding(36));
    }
    assert!((a.total - b.total).abs() < rounding(36));
}

#[test]
fn pca_finds_the_axes_of_an_ellipse_with_a_positive_sign() {
    let rows = mat![[-2.0, 2.0], [2.0, -2.0], [-1.0, -1.0], [1.0, 1.0]];
    let found = pca(Rows::new(rows.as_ref()).unwrap(), &[0.0, 0.0], None, 2).unwrap();
    let h = 0.5_f64.sqrt();
    // Variances 16/4 along (1, -1) and 4/4 along (1, 1); on a tie of magnitudes rounding decides which is positive.
    assert!(
        (found.eigenvalues[0] - 4.0).abs() < rounding(4) && (found.eigenvalues[1] - 1.0).abs() < rounding(4)
    );
    assert!((found.basis[(0, 0)].abs() - h).abs() < rounding(4));
    assert!((found.basis[(0, 0)] + found.basis[(1, 0)]).abs() < rounding(4));
    assert!((found.basis[(0, 1)] - h).abs() < rounding(4) && (found.basis[(1, 1)] - h).abs() < rounding(4));
}

#[test]
fn more_components_than_the_rank_are_refused_with_the_numbers() {
    let rows = noise(4, 9, 5);
    let rows = Rows::new(rows.as_ref()).unwrap();
    let error = pca(rows, &mean(rows), None, 4).unwrap_err();
    assert_eq!(error, LinalgError::ComponentsExceedRank { components: 4, rank: 3, rows: 4, width: 9 });
    let constant = Mat::from_fn(6, 3, |_, j| 5.0 + j as f64);
    let constant = Rows::new(constant.as_ref()).unwrap();
    assert!(matches!(
        pca(constant, &mean(constant), None, 1),
        Err(LinalgError::ComponentsExceedRank { rank: 0, .. })
    ));
}

#[test]
fn noise_of_f32_does_not_count_as_rank() {
    let exact = product(noise(80, 3, 6).as_ref(), noise(3, 50, 7).as_ref());
    let stored = Mat::from_fn(80, 50, |i, j| f64::from(exact[(i, j)] as f32));
    let rows = Rows::new(stored.as_ref()).unwrap();
    assert_eq!(pca(rows, &mean(rows), None, 1).unwrap().rank, 3);
}

#[test]
fn empty_matrices_have_empty_decompositions() {
    assert!(symmetric_eigen(Mat::zeros(0, 0).as_ref()).unwrap().values.is_empty());
    for (m, n) in [(0, 4), (4, 0)] {
        let empty = Mat::zeros(m, n);
        assert_eq!(thin_svd(empty.as_ref()).unwrap().right.shape(), (n, 0));
        assert!(singular_values(empty.as_ref()).unwrap().is_empty());
        assert_eq!(symmetric_eigen(gram(empty.as_ref()).as_ref()).unwrap().values, vec![0.0; m]);
    }
}

#[test]
fn roots_of_a_diagonal_are_the_roots_and_the_null_space_stays_null() {
    let matrix = mat![[4.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 9.0]];
    let (root, inverse) =
        (symmetric_root(matrix.as_ref()).unwrap(), symmetric_inverse_root(matrix.as_ref()).unwrap());
    assert_eq!(root.floored, 1);
    assert!(
        distance(root.matrix.as_ref(), mat![[2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]].as_ref())
            < rounding(3)
    );
    let expected = mat![[0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0 / 3.0]];
    assert!(distance(inverse.matrix.as_ref(), expected.as_ref()) < rounding(3));
    assert!((inverse.log_determinant - 36.0_f64.ln()).abs() < rounding(3));
    assert!(matches!(
        symmetric_root(mat![[1.0, 0.0], [0.0, -1e-3]].as_ref()),
        Err(LinalgError::NotPositive { .. })
    ));
}

#[test]
fn a_joint_basis_spans_both_factors_whatever_their_scales() {
    let (a, b) = (noise(3, 40, 8), noise(4, 40, 9));
    let small = Mat::from_fn(4, 40, |i, j| 1e-30 * b[(i, j)]);
    let basis = joint_basis(a.as_ref(), small.as_ref()).unwrap();
    assert_eq!(basis.rank, 7);
    let q = basis.vectors.unwrap();
    assert!(distance(gram(q.as_ref().transpose()).as_ref(), identity(7).as_ref()) < rounding(40));
    for x in [&a, &b] {
        let back = product_with_transpose(product(x.as_ref(), q.as_ref()).as_ref(), q.as_ref());
        assert!(distance(back.as_ref(), x.as_ref()) < rounding(40) * squared_norm(x.as_ref()).sqrt());
    }
    assert!(joint_basis(noise(20, 6, 1).as_ref(), noise(2, 6, 2).as_ref()).unwrap().vectors.is_none());
    assert_eq!(joint_basis(Mat::zeros(2, 5).as_ref(), Mat::zeros(3, 5).as_ref()).unwrap().rank, 0);
}

#[test]
fn the_nuclear_norm_is_the_trace_of_the_root_of_roots() {
    let (a, b) = (noise(20, 6, 10), noise(9, 6, 11));
    let root = symmetric_root(gram(a.as_ref().transpose()).as_ref()).unwrap().matrix;
    let middle =
        product(product(root.as_ref(), gram(b.as_ref().transpose()).as_ref()).as_ref(), root.as_ref());
    let mut middle = middle;
    symmetrize(&mut middle);
    let inner = symmetric_root(middle.as_ref()).unwrap().matrix;
    let trace: f64 = (0..6).map(|i| inner[(i, i)]).sum();
    let found = nuclear_norm_of_product(a.as_ref(), b.as_ref()).unwrap();
    assert!((found - trace).abs() < rounding(20) * trace);
}

#[test]
fn ledoit_wolf_is_its_definition_and_has_no_unit() {
    for (n, d) in [(15, 4), (5, 12), (2, 3)] {
        let rows = noise(n, d, n as u64);
        let rows = Rows::new(rows.as_ref()).unwrap();
        let x = center(rows, &mean(rows));
        let s = Mat::from_fn(d, d, |i, j| (0..n).map(|k| x[(k, i)] * x[(k, j)]).sum::<f64>() / n as f64);
        let m = (0..d).map(|i| s[(i, i)]).sum::<f64>() / d as f64;
        let e =
            squared_norm((&s - Mat::from_fn(d, d, |i, j| if i == j { m } else { 0.0 })).as_ref()) / d as f64;
        let b = (0..n)
            .map(|k| squared_norm((Mat::from_fn(d, d, |i, j| x[(k, i)] * x[(k, j)]) - &s).as_ref()))
            .sum::<f64>()
            / (n * n * d) as f64;
        let found = ledoit_wolf(x.as_ref());
        assert!((found - b.min(e) / e).abs() < rounding(n * d));
        let large = Mat::from_fn(n, d, |i, j| 1e30 * x[(i, j)]);
        assert!((ledoit_wolf(large.as_ref()) - found).abs() < rounding(n * d));
    }
    assert_eq!(ledoit_wolf(Mat::zeros(4, 3).as_ref()), 0.0);
    // Four points whose covariance is a multiple of the identity: nothing to shrink.
    assert_eq!(ledoit_wolf(mat![[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]].as_ref()), 0.0);
}

#[test]
fn oracle_approximating_shrinkage_is_its_definition_and_has_no_unit() {
    for (n, d) in [(15, 4), (9, 12), (200, 3)] {
        // Axes of differing variance, else there is nothing to tell.
        let raw = noise(n, d, n as u64);
        let rows = Mat::from_fn(n, d, |i, j| raw[(i, j)] * if j == 0 { 9.0 } else { 1.0 });
        let rows = Rows::new(rows.as_ref()).unwrap();
        let x = center(rows, &mean(rows));
        let s = Mat::from_fn(d, d, |i, j| (0..n).map(|k| x[(k, i)] * x[(k, j)]).sum::<f64>() / n as f64);
        let (trace, squares) = ((0..d).map(|i| s[(i, i)]).sum::<f64>(), squared_norm(s.as_ref()));
        let expected = (squares + trace * trace) / ((n + 1) as f64 * (squares - trace * trace / d as f64));
        assert!(expected < 1.0, "else the test says nothing");
        let found = oas(x.as_ref());
        assert!((found - expected).abs() < rounding(n * d));
        assert!((Shrinkage::Oas.intensity(x.as_ref(), None, d).unwrap() - found).abs() < rounding(n * d));
        let large = Mat::from_fn(n, d, |i, j| 1e30 * x[(i, j)]);
        assert!((oas(large.as_ref()) - found).abs() < rounding(n * d));
    }
    // Never above 1; 1 for a multiple of the identity, and 0 where nothing depends on it.
    assert_eq!(oas(mat![[1.0, 0.0, 0.0], [-1.0, 1e-3, 0.0]].as_ref()), 1.0);
    assert_eq!(oas(mat![[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]].as_ref()), 1.0);
    assert_eq!(oas(Mat::zeros(4, 3).as_ref()), 1.0);
    assert_eq!(oas(mat![[1.0], [-1.0]].as_ref()), 0.0);
}

#[test]
fn the_effective_rank_of_equal_axes_is_their_number() {
    assert!((effective_rank(identity(5).as_ref()) - 5.0).abs() < rounding(5));
    assert_eq!(effective_rank(Mat::<f64>::zeros(3, 5).as_ref()), 0.0);
    let one = Mat::from_fn(4, 6, |i, j| (1 + i) as f64 * (1 + j) as f64);
    assert!((effective_rank(one.as_ref()) - 1.0).abs() < rounding(6));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn decompositions_put_back_together_give_the_matrix(n in 1_usize..14, d in 1_usize..14, seed: u64, power in -100_i32..100) {
        let unit = 2.0_f64.powi(power);
        let x = noise(n, d, seed);
        let x = Mat::from_fn(n, d, |i, j| unit * x[(i, j)]);
        let size = squared_norm(x.as_ref());

        let s = gram(x.as_ref().transpose());
        let eigen = symmetric_eigen(s.as_ref()).unwrap();
        prop_assert!(eigen.values.windows(2).all(|w| w[0] >= w[1]));
        let scaled = Mat::from_fn(d, d, |i, j| eigen.vectors[(i, j)] * eigen.values[j]);
        let back = product_with_transpose(scaled.as_ref(), eigen.vectors.as_ref());
        prop_assert!(distance(back.as_ref(), s.as_ref()) <= rounding(n.max(d)) * size);
        for column in eigen.vectors.col_iter() {
            let largest = column.iter().copied().fold(0.0_f64, |m, v| if v.abs() > m.abs() { v } else { m });
            prop_assert!(largest > 0.0);
        }

        let svd = thin_svd(x.as_ref()).unwrap();
        let squares: f64 = svd.values.iter().map(|v| v * v).sum();
        prop_assert!((squares - size).abs() <= rounding(n.max(d)) * size);
        let projected = product(x.as_ref(), svd.right.as_ref());
        for (j, value) in svd.values.iter().enumerate() {
            let length = projected.col(j).iter().map(|v| v * v).sum::<f64>().sqrt();
            prop_assert!((length - value).abs() <= rounding(n.max(d)) * size.sqrt());
        }

        let short = reduce(x.clone());
        prop_assert!(short.nrows() <= d);
        prop_assert!(distance(gram(short.as_ref().transpose()).as_ref(), s.as_ref()) <= rounding(n.max(d)) * size);

        let root = symmetric_root(s.as_ref()).unwrap().matrix;
        prop_assert!(distance(gram(root.as_ref()).as_ref(), s.as_ref()) <= rounding(n.max(d)) * size);
    }

    #[test]
    fn principal_axes_are_orthonormal_and_hold_their_variance(n in 2_usize..12, d in 1_usize..20, seed: u64) {
        let x = noise(n, d, seed);
        let rows = Rows::new(x.as_ref()).unwrap();
        let about = mean(rows);
        let rank = (n - 1).min(d);
        let found = pca(rows, &about, None, rank).unwrap();
        prop_assert!(distance(gram(found.basis.as_ref().transpose()).as_ref(), identity(rank).as_ref()) < rounding(n.max(d)));
        let z = product(center(rows, &about).as_ref(), found.basis.as_ref());
        let s = gram(z.as_ref().transpose());
        let expected = Mat::from_fn(rank, rank, |i, j| if i == j { n as f64 * found.eigenvalues[i] } else { 0.0 });
        prop_assert!(distance(s.as_ref(), expected.as_ref()) < 1e3 * rounding(n.max(d)) * found.total * n as f64);
    }
}

#[test]
fn eigenvalues_alone_are_those_of_the_decomposition() {
    for n in [0, 1, 2, 3, 5, 40, 130] {
        let half = noise(n, n, n as u64);
        let indefinite = &half + half.transpose();
        let zero = Mat::zeros(n, n);
        for matrix in [indefinite, gram(noise(n, n + 3, 7).as_ref()), zero, identity(n)] {
            let all = symmetric_eigen(matrix.as_ref()).unwrap().values;
            let alone = symmetric_eigenvalues(matrix.as_ref()).unwrap();
            let within = rounding(n) * all.iter().fold(0.0_f64, |a, x| a.max(x.abs()));
            assert!(all.len() == alone.len() && all.iter().zip(&alone).all(|(a, b)| (a - b).abs() <= within));
        }
    }
    assert!(symmetric_eigenvalues(Mat::zeros(2, 3).as_ref()).is_err());
}

#[test]
fn no_component_is_no_basis() {
    let rows = noise(6, 4, 3);
    let rows = Rows::new(rows.as_ref()).unwrap();
    let found = pca(rows, &mean(rows), None, 0).unwrap();
    assert_eq!((found.basis.shape(), found.eigenvalues.len(), found.rank), ((4, 0), 0, 4));
}
