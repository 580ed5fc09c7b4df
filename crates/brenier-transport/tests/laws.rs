//! What makes a map the optimal one, asserted together; invariances; determinism.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_linalg::{squared_norm, symmetric_eigen};
use brenier_map::Affine;
use brenier_transport::{
    Certificate, Covariance, FitOptions, GateOptions, Gaussian, GaussianOtMap, Method, Shift, Shrinkage, fit,
    monge, w2,
};
use common::{covariance, linear_part, map_rows, relative, rows};
use faer::{Mat, mat};
use proptest::prelude::*;
use serde_json::Value;

/// Maps of covariances with a condition number of at most about 1e4, from sums over a few hundred terms.
const CLOSE: f64 = 1e-9;

#[test]
fn in_one_dimension_the_map_is_the_ratio_of_deviations() {
    let source = Gaussian::new(&[1.0], mat![[4.0]].as_ref()).unwrap();
    let target = Gaussian::new(&[-2.0], mat![[9.0]].as_ref()).unwrap();
    let map = monge(&source, &target).unwrap();
    assert!((map.matrix()[(0, 0)] - 1.5).abs() < 1e-14);
    // W2^2 = 3^2 + (3 - 2)^2.
    assert!((w2(&source, &target).unwrap() - 10.0_f64.sqrt()).abs() < 1e-14);
    assert!((map.optimality().transport_cost - 10.0).abs() < 1e-13);
}

#[test]
fn between_commuting_covariances_the_map_is_the_root_of_the_ratio() {
    // Both diagonal in the basis (1, 1), (1, -1): eigenvalues 1, 4 to 16, 1.
    let (h, turn) = (0.5, |a: f64, b: f64| mat![[a + b, a - b], [a - b, a + b]]);
    let source = Gaussian::new(&[0.0; 2], (turn(1.0, 4.0) * h).as_ref()).unwrap();
    let target = Gaussian::new(&[0.0; 2], (turn(16.0, 1.0) * h).as_ref()).unwrap();
    let expected = turn(4.0, 0.5) * h;
    assert!(relative(monge(&source, &target).unwrap().matrix().as_ref(), expected.as_ref()) < 1e-14);
    // W2^2 = (4 - 1)^2 + (2 - 1)^2.
    assert!((w2(&source, &target).unwrap() - 10.0_f64.sqrt()).abs() < 1e-13);
}

#[test]
fn the_laws_hold_together_and_whitening_breaks_one() {
    let (source, target) = (rows(90, 7, 1), rows(60, 7, 2));
    let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    let (a, _) = linear_part(&found.map);
    let ((m_s, s_s), (m_t, s_t)) = (covariance(source.as_ref()), covariance(target.as_ref()));
    assert!(relative(a.transpose(), a.as_ref()) < CLOSE, "symmetric");
    assert!(*symmetric_eigen(a.as_ref()).unwrap().values.last().unwrap() > 0.0, "positive");
    assert!(relative((&a * &s_s * &a).as_ref(), s_t.as_ref()) < CLOSE, "pushes the covariance forward");
    let (moved, _) = covariance(map_rows(&found.map, source.as_ref()).as_ref());
    for (x, y) in moved.iter().zip(&m_t) {
        assert!((x - y).abs() < CLOSE, "pushes the mean forward");
    }
    let apart: f64 = m_s.iter().zip(&m_t).map(|(x, y)| (x - y).powi(2)).sum();
    let cost = |a: &Mat<f64>| {
        let step = a - Mat::<f64>::identity(7, 7);
        let spent = &step * &s_s * step.transpose();
        apart + (0..7).map(|i| spent[(i, i)]).sum::<f64>()
    };
    let gaussian = |rows: &Mat<f64>| Gaussian::from_rows(rows.as_ref(), Covariance::Sample).unwrap();
    let distance = w2(&gaussian(&source), &gaussian(&target)).unwrap().powi(2);
    assert!((cost(&a) - distance).abs() < CLOSE * distance, "costs the distance");

    // Whitening-colouring by Cholesky factors pushes forward too, but is not symmetric and costs more.
    let lower = |s: &Mat<f64>| s.llt(faer::Side::Lower).unwrap().L().to_owned();
    let (l_s, l_t) = (lower(&s_s), lower(&s_t));
    let mut inverse = Mat::<f64>::identity(7, 7);
    faer::linalg::triangular_solve::solve_lower_triangular_in_place(
        l_s.as_ref(),
        inverse.as_mut(),
        faer::Par::Seq,
    );
    let control = &l_t * &inverse;
    assert!(relative((&control * &s_s * control.transpose()).as_ref(), s_t.as_ref()) < CLOSE);
    assert!(relative(control.transpose(), control.as_ref()) > 0.1);
    assert!(cost(&control) > 1.01 * distance);
}

#[test]
fn the_factored_map_is_the_dense_one_where_rows_are_few() {
    // 12 + 9 rows of width 50, regularised: the low-rank-plus-isotropic form against d x d arithmetic.
    let (source, target) = (rows(12, 50, 3), rows(9, 50, 4));
    for shrinkage in [Shrinkage::Fixed(0.2), Shrinkage::Auto] {
        let options = FitOptions { shrinkage, ..FitOptions::default() };
        let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let Affine::Symmetric(form) = found.map.affine() else {
            panic!("a d x d map where one of fewer directions is exact")
        };
        assert_eq!(form.core.ncols(), 11 + 8);
        let [alpha, beta] = found.certificate.shrinkage.unwrap();
        let dense = |rows: &Mat<f64>, by: f64| {
            let (mean, s) = covariance(rows.as_ref());
            let level = by * (0..50).map(|i| s[(i, i)]).sum::<f64>() / 50.0;
            let s = Mat::from_fn(50, 50, |i, j| (1.0 - by) * s[(i, j)] + if i == j { level } else { 0.0 });
            Gaussian::new(&mean, s.as_ref()).unwrap()
        };
        let (s, t) = (dense(&source, alpha), dense(&target, beta));
        let reference = monge(&s, &t).unwrap();
        assert!(relative(linear_part(&found.map).0.as_ref(), reference.matrix().as_ref()) < CLOSE);
        let laws = found.certificate.optimality.unwrap();
        assert!((laws.w2_squared.sqrt() - w2(&s, &t).unwrap()).abs() < CLOSE * laws.w2_squared.sqrt());
        assert!((laws.transport_cost - laws.w2_squared).abs() < CLOSE * laws.w2_squared);
    }
}

#[test]
fn condition_numbers_cost_their_root_and_not_themselves() {
    // Deviations from 1 to 1e-5 (condition 1e10) along turned axes to a sphere: A has the inverse deviations.
    // Through covariances the smallest would be known to eps * 1e10 = 2e-6, through factors to eps * 1e5.
    let d = 8;
    let turn = {
        let mixed = rows(d, d, 31);
        symmetric_eigen((&mixed + mixed.transpose()).as_ref()).unwrap().vectors
    };
    let deviation = |j: usize| 10_f64.powf(-5.0 * j as f64 / 7.0);
    // Plus and minus each axis: mean zero, covariance 2 / (2d - 1) times the squares.
    let star = |deviation: &dyn Fn(usize) -> f64| {
        let sign = |i: usize| if i < d { 1.0 } else { -1.0 };
        Mat::from_fn(2 * d, d, |i, j| if i % d == j { sign(i) * deviation(j) } else { 0.0 }) * &turn
    };
    let (source, target) = (star(&deviation), star(&|_| 1.0));
    let expected =
        turn.transpose() * Mat::from_fn(d, d, |i, j| if i == j { 1.0 / deviation(i) } else { 0.0 }) * &turn;
    let digits = 1e3 * f64::EPSILON * 1e5;
    let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    assert!(relative(linear_part(&found.map).0.as_ref(), expected.as_ref()) < digits);

    // The same inside a space of many more dimensions, through the Gram matrix.
    let lift = symmetric_eigen(
        {
            let m = rows(60, 60, 32);
            &m + m.transpose()
        }
        .as_ref(),
    )
    .unwrap()
    .vectors;
    let lift = lift.as_ref().subcols(0, d).transpose().to_owned();
    let (source, target) = (&source * &lift, &target * &lift);
    let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    let inside = &lift * linear_part(&found.map).0 * lift.transpose();
    assert!(relative(inside.as_ref(), expected.as_ref()) < digits);
}

#[test]
fn without_a_regulariser_few_rows_are_moved_on_their_span_alone() {
    let (source, target) = (rows(6, 30, 5), rows(40, 30, 6));
    let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    let laws = found.certificate.optimality.as_ref().unwrap();
    assert_eq!((laws.rank, laws.floored), (5, 25));
    assert!(laws.unreachable > 0.1, "five directions cannot hold what thirty do");
    let (a, _) = linear_part(&found.map);
    let (_, s_s) = covariance(source.as_ref());
    let eigen = symmetric_eigen(s_s.as_ref()).unwrap();
    let null = eigen.vectors.as_ref().subcols(5, 25).to_owned();
    assert!(
        relative((&a * &null).as_ref(), null.as_ref()) < CLOSE,
        "the identity where the source is constant"
    );
    // Between clouds that share a span the push-forward is exact.
    let lift = rows(5, 30, 7);
    let (few, more) = (rows(20, 5, 8), rows(25, 5, 9));
    let (source, target) = (&few * &lift, &more * &lift);
    let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    let laws = found.certificate.optimality.unwrap();
    assert_eq!((laws.rank, laws.floored), (5, 0));
    assert!(laws.unreachable < CLOSE);
    let moved = map_rows(&found.map, source.as_ref());
    assert!(relative(covariance(moved.as_ref()).1.as_ref(), covariance(target.as_ref()).1.as_ref()) < CLOSE);
}

#[test]
fn pca_ot_moves_its_components_and_nothing_else() {
    let (source, target) = (rows(40, 15, 10), rows(30, 15, 11));
    for (shift, complement_moves) in [(Shift::Subspace, false), (Shift::Full, true)] {
        let options = FitOptions { components: 3, shift, ..FitOptions::default() };
        let found = fit(Method::PcaOt, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let Affine::LowRank(form) = found.map.affine() else { panic!() };
        let p = &form.v;
        let moved = map_rows(&found.map, source.as_ref());
        let ((m_moved, s_moved), (m_t, s_t)) =
            (covariance((&moved * p).as_ref()), covariance((&target * p).as_ref()));
        assert!(relative(s_moved.as_ref(), s_t.as_ref()) < CLOSE);
        assert!(m_moved.iter().zip(&m_t).all(|(x, y)| (x - y).abs() < CLOSE));
        let step = &moved - &source;
        let outside = &step - &step * p * p.transpose();
        let lengths: Vec<f64> =
            outside.row_iter().map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).collect();
        let constant = lengths.iter().all(|x| (x - lengths[0]).abs() < CLOSE);
        assert!(constant, "the complement moves as a whole");
        assert_eq!(lengths[0] > CLOSE, complement_moves);
    }
}

#[test]
fn pca_ot_in_all_components_is_ot() {
    let (source, target) = (rows(40, 6, 12), rows(35, 6, 13));
    let options = FitOptions { components: 6, ..FitOptions::default() };
    let all = fit(Method::PcaOt, source.as_ref(), target.as_ref(), &options, None).unwrap();
    let ot = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, None).unwrap();
    let probe = rows(8, 6, 14);
    assert!(
        relative(map_rows(&all.map, probe.as_ref()).as_ref(), map_rows(&ot.map, probe.as_ref()).as_ref())
            < CLOSE
    );
}

#[test]
fn the_gate_tells_the_classes_apart_and_leaves_the_target_alone() {
    let source = rows(80, 12, 15);
    let other = rows(70, 12, 16);
    // Far apart beside their spread.
    let target = Mat::from_fn(70, 12, |i, j| other[(i, j)] + if j == 3 { 40.0 } else { 0.0 });
    let held = (source.as_ref().subrows(60, 20), target.as_ref().subrows(50, 20));
    let (train_s, train_t) = (source.as_ref().subrows(0, 60), target.as_ref().subrows(0, 50));
    let options = FitOptions::default();
    let gated = fit(Method::Gated, train_s, train_t, &options, Some(held)).unwrap();
    let plain = fit(Method::PcaOt, train_s, train_t, &options, Some(held)).unwrap();
    let (on, off) = (gated.certificate.held_out.unwrap(), plain.certificate.held_out.unwrap());
    let gate = on.gate.unwrap();
    assert_eq!(gate.auc, 1.0);
    assert!(gate.mean_source > 0.999 && gate.mean_target < 0.001);
    assert!(on.target_step < 1e-3 * off.target_step, "the ungated map pushes the target past itself");
    assert!((on.w2_after - off.w2_after).abs() < 1e-3 * off.w2_before);
}

#[test]
fn prior_temperature_and_threshold_act_on_the_log_odds() {
    let (source, target) = (rows(40, 5, 17), rows(40, 5, 17 + 1));
    let with = |gate| {
        let options = FitOptions { gate, ..FitOptions::default() };
        fit(Method::Gated, source.as_ref(), target.as_ref(), &options, None).unwrap().map
    };
    let plain = with(GateOptions::default());
    let p = plain.gate_rows(source.as_ref()).unwrap();
    let rare = with(GateOptions { prior: 0.1, ..GateOptions::default() }).gate_rows(source.as_ref()).unwrap();
    let soft =
        with(GateOptions { temperature: 4.0, ..GateOptions::default() }).gate_rows(source.as_ref()).unwrap();
    let cut = with(GateOptions { threshold: Some(0.5), ..GateOptions::default() });
    let cut = cut.gate_rows(source.as_ref()).unwrap();
    let odds = plain.gate().unwrap().log_odds(source.as_ref()).unwrap();
    let sigmoid = |t: f64| 1.0 / (1.0 + (-t).exp());
    for i in 0..p.len() {
        assert!((p[i] - sigmoid(odds[i])).abs() < CLOSE);
        assert!((rare[i] - sigmoid(odds[i] - 9.0_f64.ln())).abs() < CLOSE);
        assert!((soft[i] - sigmoid(odds[i] / 4.0)).abs() < CLOSE);
        assert_eq!(cut[i], if p[i] >= 0.5 { p[i] } else { 0.0 });
    }
}

#[test]
fn the_swapped_fit_is_the_inverse() {
    let (source, target) = (rows(50, 6, 19), rows(70, 6, 20));
    let there = fit(Method::Ot, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    let back = fit(Method::Ot, target.as_ref(), source.as_ref(), &FitOptions::default(), None).unwrap();
    let probe = rows(9, 6, 21);
    let round = map_rows(&back.map, map_rows(&there.map, probe.as_ref()).as_ref());
    assert!(relative(round.as_ref(), probe.as_ref()) < CLOSE);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (source, target) = (rows(130, 160, 22), rows(110, 160, 23));
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            Method::ALL.map(|method| {
                let found =
                    fit(method, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
                (found.map, found.certificate.optimality)
            })
        })
    };
    assert!(run(1) == run(4));
}

/// Equal but for the last bit, which serde_json's quick reading of numbers may lose.
fn same(a: &Value, b: &Value) {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            assert!((x - y).abs() <= 2.0 * f64::EPSILON * x.abs(), "{x} and {y}");
        }
        (Value::Array(x), Value::Array(y)) => {
            assert_eq!(x.len(), y.len());
            x.iter().zip(y).for_each(|(x, y)| same(x, y));
        }
        (Value::Object(x), Value::Object(y)) => {
            assert!(x.keys().eq(y.keys()));
            x.values().zip(y.values()).for_each(|(x, y)| same(x, y));
        }
        _ => assert_eq!(a, b),
    }
}

#[test]
fn a_certificate_survives_json() {
    let (source, target) = (rows(20, 4, 24), rows(20, 4, 25));
    for method in Method::ALL {
        let held = Some((source.as_ref(), target.as_ref()));
        let found = fit(method, source.as_ref(), target.as_ref(), &FitOptions::default(), held).unwrap();
        let text = serde_json::to_string(&found.certificate).unwrap();
        let back: Certificate = serde_json::from_str(&text).unwrap();
        same(&serde_json::to_value(&back).unwrap(), &serde_json::to_value(&found.certificate).unwrap());
        assert_eq!(back.optimality.is_some(), matches!(method, Method::PcaOt | Method::Gated | Method::Ot));
        assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
    }
}

#[test]
fn f32_rows_are_widened_and_not_fitted_in_f32() {
    let (source, target) = (rows(30, 5, 26), rows(30, 5, 27));
    let narrow = |rows: &Mat<f64>| Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| rows[(i, j)] as f32);
    let widened = |rows: &Mat<f32>| Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| f64::from(rows[(i, j)]));
    let (source, target) = (narrow(&source), narrow(&target));
    let short = GaussianOtMap::fit(source.as_ref(), target.as_ref()).unwrap().into_fit();
    let (source, target) = (widened(&source), widened(&target));
    let long = fit(Method::Ot, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    assert!(short.map == long.map);
    let gated = GaussianOtMap::builder().components(3).gated(GateOptions::default());
    let gated = gated.fit(source.as_ref(), target.as_ref()).unwrap();
    assert_eq!(gated.certificate().method, Method::Gated);
    assert_eq!(gated.certificate().components, Some(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any shape, any scale: the certificate holds (else `fit` is an error), the map's size does not depend on the
    /// unit, and the train distance is what is unreachable.
    #[test]
    fn ot_holds_its_certificate_at_any_shape_and_scale(
        n_s in 2_usize..20, n_t in 2_usize..20, d in 1_usize..25, seed: u64, power in -100_i32..100
    ) {
        let (source, target) = (rows(n_s, d, seed), rows(n_t, d, seed ^ 0xABCD));
        let unit = 2.0_f64.powi(power);
        let large = |rows: &Mat<f64>| Mat::from_fn(rows.nrows(), d, |i, j| unit * rows[(i, j)]);
        let options = FitOptions::default();
        let plain = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let scaled = fit(Method::Ot, large(&source).as_ref(), large(&target).as_ref(), &options, None).unwrap();
        let laws = plain.certificate.optimality.clone().unwrap();
        prop_assert_eq!(laws.rank, (n_s - 1).min(d));
        // A power of two changes exponents only.
        prop_assert_eq!(Some(laws.rank), scaled.certificate.optimality.as_ref().map(|laws| laws.rank));
        prop_assert!((plain.certificate.norm - scaled.certificate.norm).abs() <= 1e-6 * plain.certificate.norm);
        let quality = &plain.certificate.train;
        prop_assert!(quality.w2_after <= quality.w2_before * (1.0 + 1e-6));
        prop_assert!((scaled.certificate.train.w2_before - unit * quality.w2_before).abs() <= 1e-9 * unit * quality.w2_before);
    }

    /// A map between a set of rows and itself is the identity, whatever the method.
    #[test]
    fn equal_rows_give_the_identity(n in 3_usize..20, d in 2_usize..25, seed: u64, regularised: bool) {
        let x = rows(n, d, seed);
        let shrinkage = if regularised { Shrinkage::Auto } else { Shrinkage::Fixed(0.0) };
        let options = FitOptions { shrinkage, ..FitOptions::default() };
        for method in [Method::PcaOt, Method::Ot, Method::Gated, Method::Mean, Method::ActLinear, Method::ActGaussian] {
            let found = fit(method, x.as_ref(), x.as_ref(), &options, None).unwrap();
            let probe = rows(4, d, seed ^ 1);
            let off = relative(map_rows(&found.map, probe.as_ref()).as_ref(), probe.as_ref());
            prop_assert!(off < 1e-7, "{} is off by {:e}", method, off);
        }
    }

    /// Rotating the space rotates the map.
    #[test]
    fn ot_does_not_know_the_axes(seed: u64) {
        let (source, target, probe) = (rows(30, 6, seed), rows(25, 6, seed ^ 7), rows(5, 6, seed ^ 9));
        let mixed = rows(6, 6, seed ^ 11);
        let turn = symmetric_eigen((&mixed + mixed.transpose()).as_ref()).unwrap().vectors;
        let map = |s: &Mat<f64>, t: &Mat<f64>| fit(Method::Ot, s.as_ref(), t.as_ref(), &FitOptions::default(), None).unwrap().map;
        let straight = map_rows(&map(&source, &target), probe.as_ref());
        let turned = map_rows(&map(&(&source * &turn), &(&target * &turn)), (&probe * &turn).as_ref());
        let size = squared_norm(straight.as_ref()).sqrt();
        prop_assert!(squared_norm((&straight * &turn - &turned).as_ref()).sqrt() < 1e-7 * size);
    }
}
