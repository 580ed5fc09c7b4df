//! The geometry of Gaussians (distance, geodesic, barycentre), the methods that are no optimal maps, and what a
//! certificate says when asked for more.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_linalg::squared_norm;
use brenier_transport::{
    BarycenterOptions, Blur, BootstrapOptions, Covariance, FitOptions, Gaussian, Method, Shrinkage,
    SlicedOptions, TransportError, barycenter, directions, entropic, fit, geodesic, select_components, w2,
    w2_1d,
};
use common::{covariance, linear_part, map_rows, relative, rows};
use faer::Mat;
use proptest::prelude::*;

/// Maps of covariances with a condition number of at most about 1e4, from sums over a few hundred terms.
const CLOSE: f64 = 1e-9;
/// W2 of nearly equal Gaussians is a difference: known to the root of rounding.
const ROOT: f64 = 1e-6;

fn gaussian(rows: &Mat<f64>) -> Gaussian {
    Gaussian::from_rows(rows.as_ref(), Covariance::Sample).unwrap()
}

fn size(g: &Gaussian) -> f64 {
    (g.trace() + g.mean().iter().map(|x| x * x).sum::<f64>()).sqrt()
}

#[test]
fn entropic_transport_goes_from_the_optimal_map_to_a_constant_and_contracts() {
    let (source, target) = (rows(60, 5, 1), rows(50, 5, 2));
    let (s, t) = (gaussian(&source), gaussian(&target));
    let ot = fit(Method::Ot, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    let at = |sigma| {
        let options = FitOptions { entropic_sigma: Blur::Absolute(sigma), ..FitOptions::default() };
        fit(Method::Entropic, source.as_ref(), target.as_ref(), &options, None).unwrap()
    };
    let sharp = at(1e-5);
    assert!(relative(linear_part(&sharp.map).0.as_ref(), linear_part(&ot.map).0.as_ref()) < 1e-6);
    assert!((sharp.certificate.entropic.unwrap().cost - w2(&s, &t).unwrap().powi(2)).abs() < 1e-6);
    let blurred = at(1e5);
    assert!(linear_part(&blurred.map).0.norm_l2() < 1e-8);
    let mut kept = 1.0;
    for sigma in [0.1, 0.5, 2.0] {
        let found = at(sigma);
        let laws = found.certificate.entropic.unwrap();
        // The true covariance of the mapped rows is S_t - sigma^2 E, and falls with the blur.
        let (e, _) = linear_part(&found.map);
        let moved = covariance(map_rows(&found.map, source.as_ref()).as_ref()).1;
        let expected = covariance(target.as_ref()).1 - &e * (sigma * sigma);
        assert!(relative(moved.as_ref(), expected.as_ref()) < CLOSE);
        assert!(laws.variance_kept.unwrap() < kept && laws.push_forward_covariance > 1e-4);
        kept = laws.variance_kept.unwrap();
    }
    // Between equal Gaussians it is a strict contraction and not the identity.
    let same = entropic(&s, &s, 0.5).unwrap();
    assert!(same.laws().max_eigenvalue < 1.0 && same.laws().min_eigenvalue > 0.0);
    assert!(entropic(&s, &t, 0.0).is_err());
}

#[test]
fn few_rows_give_an_entropic_map_of_low_rank_that_is_the_dense_one() {
    let (source, target) = (rows(9, 40, 3), rows(7, 40, 4));
    for shrinkage in [Shrinkage::Fixed(0.0), Shrinkage::Fixed(0.2)] {
        let options = FitOptions { shrinkage, ..FitOptions::default() };
        let found = fit(Method::Entropic, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let brenier_map::Affine::Symmetric(form) = found.map.affine() else { panic!("a dense map") };
        assert_eq!(form.core.ncols(), 8 + 6);
        let by = found.certificate.shrinkage.unwrap()[0];
        let dense = |rows: &Mat<f64>| {
            let (mean, s) = covariance(rows.as_ref());
            let level = by * (0..40).map(|i| s[(i, i)]).sum::<f64>() / 40.0;
            let s = Mat::from_fn(40, 40, |i, j| (1.0 - by) * s[(i, j)] + if i == j { level } else { 0.0 });
            Gaussian::new(&mean, s.as_ref()).unwrap()
        };
        let sigma = found.certificate.entropic.as_ref().unwrap().sigma;
        let expected = entropic(&dense(&source), &dense(&target), sigma).unwrap();
        let expected = linear_part(&brenier_map::RowMap::new(expected.affine()).unwrap()).0;
        assert!(relative(linear_part(&found.map).0.as_ref(), expected.as_ref()) < CLOSE);
    }
}

#[test]
fn the_control_pushes_forward_and_is_not_optimal() {
    let (source, target) = (rows(90, 7, 5), rows(60, 7, 6));
    let run = |method| fit(method, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    let (control, ot) = (run(Method::Whitening), run(Method::Ot));
    assert!(control.certificate.optimality.is_none());
    let found = control.certificate.control.as_ref().unwrap();
    assert!(found.push_forward_covariance < CLOSE && found.push_forward_mean < CLOSE);
    let moved = covariance(map_rows(&control.map, source.as_ref()).as_ref());
    let expected = covariance(target.as_ref());
    assert!(relative(moved.1.as_ref(), expected.1.as_ref()) < CLOSE, "no row tells it from the optimal map");
    assert!(found.symmetry > 0.01, "but it is not symmetric: {}", found.symmetry);
    assert!(found.transport_cost > 1.001 * found.w2_squared, "and costs more");
    let laws = ot.certificate.optimality.unwrap();
    assert!((found.w2_squared - laws.w2_squared).abs() < CLOSE * laws.w2_squared);
    let apart = control.certificate.train.source_step.powi(2) - ot.certificate.train.source_step.powi(2);
    assert!(apart > 0.0, "on the rows themselves too");
    // Where the covariances commute the two are one map.
    let same =
        fit(Method::Whitening, source.as_ref(), source.as_ref(), &FitOptions::default(), None).unwrap();
    assert!(same.certificate.control.unwrap().symmetry < CLOSE);
}

#[test]
fn an_erasure_leaves_nothing_to_a_linear_reader_and_moves_least() {
    for (n, d) in [(60, 6), (8, 50)] {
        let (source, target) = (rows(n, d, 7), rows(n + 3, d, 8));
        let found =
            fit(Method::Leace, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
        let laws = found.certificate.erasure.unwrap();
        assert!(laws.separation < CLOSE && laws.idempotence < CLOSE && laws.orthogonality < CLOSE);
        assert!(laws.predictable > 0.1 && laws.predictable < 1.0 + CLOSE);
        let mean = |rows: &Mat<f64>| covariance(map_rows(&found.map, rows.as_ref()).as_ref()).0;
        for (s, t) in mean(&source).iter().zip(mean(&target)) {
            assert!((s - t).abs() < CLOSE);
        }
        // The orthogonal projection erases as much and moves more.
        let ace = fit(Method::Ace, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
        let moved = |map: &brenier_map::RowMap| {
            let all =
                Mat::from_fn(2 * n + 3, d, |i, j| if i < n { source[(i, j)] } else { target[(i - n, j)] });
            let step = map_rows(map, all.as_ref()) - &all;
            let middle: Vec<f64> =
                (0..d).map(|j| step.col(j).iter().sum::<f64>() / all.nrows() as f64).collect();
            (0..d).map(|j| step.col(j).iter().map(|x| (x - middle[j]).powi(2)).sum::<f64>()).sum::<f64>()
        };
        assert!(moved(&found.map) < moved(&ace.map));
    }
}

#[test]
fn a_certificate_with_intervals_and_slices_is_the_same_for_the_same_seed() {
    let (source, target) = (rows(40, 6, 9), rows(30, 6, 10));
    let held = Some((source.as_ref().subrows(30, 10), target.as_ref().subrows(25, 5)));
    let boot = BootstrapOptions { resamples: 40, ..BootstrapOptions::default() };
    for method in
        [Method::Ot, Method::PcaOt, Method::Entropic, Method::Leace, Method::ActGaussian, Method::Mean]
    {
        let run = |threads: usize, seed| {
            let boot = BootstrapOptions { seed, ..boot };
            let options = FitOptions {
                bootstrap: Some(boot),
                sliced: Some(SlicedOptions::default()),
                ..FitOptions::default()
            };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let fitted =
                || fit(method, source.as_ref(), target.as_ref(), &options, held).unwrap().certificate;
            pool.install(fitted)
        };
        let found = run(1, 0);
        assert_eq!(found, run(4, 0), "{method}");
        assert_ne!(found.bootstrap, run(1, 1).bootstrap, "{method}");
        let [low, high] = found.bootstrap.as_ref().unwrap().w2_before;
        assert!(low < high && low < 1.1 * found.train.w2_before && high > 0.9 * found.train.w2_before);
        match found.bootstrap.unwrap().norm {
            Some([low, high]) => {
                assert!(low < high && low < found.norm && high > 0.8 * found.norm, "{method}")
            }
            None => assert_eq!(method, Method::Mean),
        }
        for quality in [&found.train, found.held_out.as_ref().unwrap()] {
            let sliced = quality.sliced.as_ref().unwrap();
            assert!(sliced.before <= quality.w2_before * 1.5 && sliced.directions == 128);
        }
        assert!(found.train.sliced.as_ref().unwrap().after < found.train.sliced.unwrap().before, "{method}");
    }
}

#[test]
fn intervals_are_the_same_in_the_coordinates_of_few_rows() {
    // Six dimensions lifted into forty, where the fit goes through the Gram matrix: the numbers may not change.
    let (few, more, lift) = (rows(15, 6, 11), rows(12, 6, 12), rows(40, 40, 13));
    let turn = {
        let mixed = &lift + lift.transpose();
        brenier_linalg::symmetric_eigen(mixed.as_ref()).unwrap().vectors
    };
    let lift = turn.as_ref().subrows(0, 6).to_owned();
    let options = FitOptions {
        bootstrap: Some(BootstrapOptions { resamples: 30, ..BootstrapOptions::default() }),
        ..FitOptions::default()
    };
    let run = |s: &Mat<f64>, t: &Mat<f64>| {
        fit(Method::Ot, s.as_ref(), t.as_ref(), &options, None).unwrap().certificate.bootstrap.unwrap()
    };
    let (small, large) = (run(&few, &more), run(&(&few * &lift), &(&more * &lift)));
    for i in 0..2 {
        assert!((small.w2_before[i] - large.w2_before[i]).abs() < CLOSE * small.w2_before[i]);
        let (a, b) = (small.norm.unwrap()[i], large.norm.unwrap()[i]);
        assert!((a - b).abs() < 1e-7 * a, "{a} and {b}");
    }
}

#[test]
fn components_are_chosen_where_the_difference_is() {
    // Source and target differ in mean and spread along the three axes of largest variance, and in nothing else.
    let noise = |n: usize, seed: u64| directions(n, 12, seed);
    let spread = [12.0, 9.0, 7.0];
    let make = |n: usize, seed: u64, factor: f64, gap: f64| {
        let z = noise(n, seed);
        let unit = (n as f64).sqrt();
        Mat::from_fn(n, 12, |i, j| match spread.get(j) {
            Some(s) => unit * z[(i, j)] * s * factor + gap,
            None => unit * z[(i, j)],
        })
    };
    let (source, target) = (make(200, 1, 1.0, 0.0), make(160, 2, 0.4, 4.0));
    let options = FitOptions::default();
    let found =
        select_components(source.as_ref(), target.as_ref(), &[6, 1, 2, 3, 4, 3], &options, 5).unwrap();
    assert_eq!(found.components, 3, "{found:?}");
    let ks: Vec<usize> = found.table.iter().map(|one| one.components).collect();
    assert_eq!(ks, [1, 2, 3, 4, 6]);
    assert!(found.table.iter().all(|one| one.folds.len() == 5 && one.standard_error > 0.0));
    // Against a fit by hand of one fold.
    let cut = |rows: &Mat<f64>, out: bool| {
        let at: Vec<usize> = (0..rows.nrows()).filter(|i| (i % 5 == 1) == out).collect();
        Mat::from_fn(at.len(), 12, |i, j| rows[(at[i], j)])
    };
    let held = (cut(&source, true), cut(&target, true));
    let by_hand = fit(
        Method::PcaOt,
        cut(&source, false).as_ref(),
        cut(&target, false).as_ref(),
        &FitOptions { components: 3, ..options },
        Some((held.0.as_ref(), held.1.as_ref())),
    );
    let ratio = by_hand.unwrap().certificate.held_out.unwrap().w2_ratio.unwrap();
    assert!((ratio - found.table[2].folds[1]).abs() < CLOSE);
    for (candidates, folds) in [(&[][..], 5), (&[0], 5), (&[1], 1), (&[1], 81)] {
        let refused = select_components(source.as_ref(), target.as_ref(), candidates, &options, folds);
        assert!(matches!(refused.unwrap_err(), TransportError::Option { .. }));
    }
}

#[test]
fn singular_gaussians_have_geodesics_and_barycenters_in_their_span() {
    let (a, b) = (gaussian(&rows(5, 60, 14)), gaussian(&rows(8, 60, 15)));
    let whole = w2(&a, &b).unwrap();
    let middle = geodesic(&a, &b, 0.3).unwrap();
    assert_eq!(middle.factor().nrows(), 8);
    assert!((w2(&a, &middle).unwrap() - 0.3 * whole).abs() < CLOSE * whole);
    assert!((w2(&middle, &b).unwrap() - 0.7 * whole).abs() < CLOSE * whole);
    let found = barycenter(&[(7.0, a.clone()), (3.0, b.clone())], &BarycenterOptions::default()).unwrap();
    assert!(found.gaussian.factor().nrows() <= 12, "the joint span and no more");
    // The least value: 0.7 (0.3 W)^2 + 0.3 (0.7 W)^2.
    let least = 0.21 * whole * whole;
    assert!((found.objective - least).abs() < 1e-6 * least, "{} and {least}", found.objective);
    let refused = barycenter(&[(-1.0, a)], &BarycenterOptions::default()).unwrap_err();
    assert!(matches!(refused, TransportError::Option { name: "weight", .. }));
}

#[test]
fn one_dimensional_distances_of_steps() {
    assert_eq!(w2_1d(&[0.0], &[3.0, 3.0]), Some(3.0));
    // In sixths of the mass, (0, 0, 3, 3, 3, 3) against (0, 0, 0, 3, 3, 3).
    assert!((w2_1d(&[3.0, 0.0, 3.0], &[3.0, 0.0]).unwrap() - (9.0_f64 / 6.0).sqrt()).abs() < 1e-15);
    assert_eq!(w2_1d(&[], &[1.0]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// W2 is a metric: zero to itself, symmetric, and no way round is shorter.
    #[test]
    fn w2_is_a_metric(n in 2_usize..12, d in 1_usize..10, seed: u64) {
        let [a, b, c] = [1, 2, 3].map(|k| gaussian(&rows(n + k, d, seed ^ k as u64)));
        let (ab, bc, ac) = (w2(&a, &b).unwrap(), w2(&b, &c).unwrap(), w2(&a, &c).unwrap());
        prop_assert!((ab - w2(&b, &a).unwrap()).abs() < CLOSE * ab);
        prop_assert!(ac <= ab + bc + CLOSE * (ab + bc));
        prop_assert!(w2(&a, &a).unwrap() < ROOT * size(&a));
        prop_assert!(ab > ROOT * size(&a), "different rows are apart");
    }

    /// The gradient of a convex function is cyclically monotone: no rearrangement of its values is nearer.
    #[test]
    fn optimal_maps_are_cyclically_monotone(n in 3_usize..20, d in 2_usize..15, seed: u64) {
        let (source, target, x) = (rows(n, d, seed), rows(n + 2, d, seed ^ 5), rows(6, d, seed ^ 6));
        for method in [Method::Ot, Method::PcaOt, Method::Entropic] {
            let found = fit(method, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
            let y = map_rows(&found.map, x.as_ref());
            let along = |i: usize, j: usize| (0..d).map(|k| x[(i, k)] * y[(j, k)]).sum::<f64>();
            let own: f64 = (0..6).map(|i| along(i, i)).sum();
            let scale = (squared_norm(x.as_ref()) * squared_norm(y.as_ref())).sqrt();
            for shift in 1..6 {
                let cycle: f64 = (0..6).map(|i| along(i, (i + shift) % 6)).sum();
                prop_assert!(cycle <= own + CLOSE * scale, "{method}");
            }
        }
    }

    /// Ends, lengths and parts of a geodesic; and the barycentre of two lies on it.
    #[test]
    fn geodesics_have_constant_speed_and_compose(
        n in 2_usize..14, d in 1_usize..9, seed: u64, s in 0.0..1.0_f64, t in 0.0..1.0_f64, e in 0.0..0.5_f64
    ) {
        let regular = |g: &Mat<f64>, e: f64| {
            let (mean, c) = covariance(g.as_ref());
            let c = Mat::from_fn(d, d, |i, j| c[(i, j)] + if i == j { e } else { 0.0 });
            Gaussian::new(&mean, c.as_ref()).unwrap()
        };
        let (x, y) = (rows(n, d, seed), rows(n + 3, d, seed ^ 8));
        let (a, b) = (regular(&x, 0.1 + e), regular(&y, 0.2));
        let whole = w2(&a, &b).unwrap();
        let at = |t| geodesic(&a, &b, t).unwrap();
        let near = |p: &Gaussian, q: &Gaussian| w2(p, q).unwrap() < ROOT * (size(p) + size(q));
        prop_assert!(near(&at(0.0), &a) && near(&at(1.0), &b));
        prop_assert!((w2(&at(s), &at(t)).unwrap() - (s - t).abs() * whole).abs() < ROOT * (size(&a) + size(&b)));
        let part = geodesic(&at(s), &at(t), 0.25).unwrap();
        prop_assert!(near(&part, &at(0.75 * s + 0.25 * t)));
        let found = barycenter(&[(1.0 - t, a.clone()), (t, b.clone())], &BarycenterOptions::default()).unwrap();
        prop_assert!(found.converged, "residual {:e} after {}", found.residual, found.iterations);
        prop_assert!(near(&found.gaussian, &at(t)));
    }

    /// Shifting, scaling by a power of two and reordering the rows do to the map what they should, for every method.
    #[test]
    fn maps_know_no_unit_and_no_order(n in 6_usize..16, d in 3_usize..20, seed: u64) {
        let (source, target, probe) = (rows(n, d, seed), rows(n + 2, d, seed ^ 3), rows(4, d, seed ^ 4));
        let each = |rows: &Mat<f64>, f: &dyn Fn(f64) -> f64| Mat::from_fn(rows.nrows(), d, |i, j| f(rows[(i, j)]));
        let turned = |rows: &Mat<f64>| {
            let n = rows.nrows();
            Mat::from_fn(n, d, |i, j| rows[((i + 3) % n, j)])
        };
        // The seeded start of a mixture knows the order of the rows.
        for method in Method::ALL.into_iter().filter(|&method| method != Method::Mixture) {
            let map = |s: &Mat<f64>, t: &Mat<f64>| fit(method, s.as_ref(), t.as_ref(), &FitOptions::default(), None).unwrap().map;
            let plain = map_rows(&map(&source, &target), probe.as_ref());
            let off = |other: Mat<f64>| relative(other.as_ref(), plain.as_ref());
            prop_assert!(off(map_rows(&map(&turned(&source), &turned(&target)), probe.as_ref())) < 1e-6, "{} order", method);
            let large = |rows: &Mat<f64>| each(rows, &|x| 1024.0 * x);
            let scaled = map_rows(&map(&large(&source), &large(&target)), large(&probe).as_ref());
            prop_assert!(off(each(&scaled, &|x| x / 1024.0)) < 1e-6, "{} scale", method);
            // A projection through the origin knows where the origin is.
            if method != Method::Rfa {
                let away = |rows: &Mat<f64>| each(rows, &|x| x + 8.0);
                let shifted = map_rows(&map(&away(&source), &away(&target)), away(&probe).as_ref());
                prop_assert!(off(each(&shifted, &|x| x - 8.0)) < 1e-6, "{} shift", method);
            }
        }
    }
}
