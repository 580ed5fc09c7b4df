//! Probabilistic PCA: against POT's "HD" Gaussians and scikit-learn (tests/golden/estimators/make.py), its definition, its
//! refusals, and the choice of the number of directions.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_linalg::symmetric_eigen;
use brenier_transport::{
    BootstrapOptions, Covariance, FitOptions, Gaussian, GaussianOtMap, Method, Shrinkage, TransportError,
    fit, monge, select_latent,
};
use common::{Golden, covariance, linear_part, map_rows, relative, rows};
use faer::{Mat, MatRef};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::f64::consts::TAU;

/// The references go through covariances of a condition of about 1e2 and explicit roots.
const DIGITS: f64 = 1e-9;

/// Noise of a given deviation and `q` directions of deviation 3, turned; `[n, d]`.
fn latent_rows(n: usize, d: usize, q: usize, noise: f64, seed: u64) -> Mat<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let axes = Mat::from_fn(q, d, |_, _| normal());
    let factors = Mat::from_fn(n, q, |_, _| 3.0 / (d as f64).sqrt() * normal());
    let strong = &factors * &axes;
    Mat::from_fn(n, d, |i, j| strong[(i, j)] + noise * normal() + 1.0)
}

/// `F^T F + e I`.
fn dense(gaussian: &Gaussian) -> Mat<f64> {
    let d = gaussian.dim();
    gaussian.factor().transpose() * gaussian.factor() + gaussian.isotropic() * Mat::<f64>::identity(d, d)
}

/// The definition, by way of the `d x d` covariance.
fn by_definition(rows: MatRef<'_, f64>, q: usize) -> (Mat<f64>, f64) {
    let (_, s) = covariance(rows);
    let d = s.nrows();
    let eigen = symmetric_eigen(s.as_ref()).unwrap();
    let e = eigen.values[q..].iter().sum::<f64>() / (d - q) as f64;
    let u = eigen.vectors.as_ref().subcols(0, q);
    let scaled = Mat::from_fn(d, q, |i, j| u[(i, j)] * (eigen.values[j] - e));
    (scaled * u.transpose() + e * Mat::<f64>::identity(d, d), e)
}

#[test]
fn pot_finds_the_same_high_dimensional_map() {
    for name in ["tall", "wide"] {
        let golden = Golden::read(&format!("../estimators/{name}.safetensors"));
        let (source, target, probe) =
            (golden.matrix("source"), golden.matrix("target"), golden.matrix("probe"));
        let latent = golden.number("latent") as usize;
        let plain =
            FitOptions { latent: Some(latent), covariance: Covariance::Population, ..FitOptions::default() };
        let regular = FitOptions { reg_abs: Some(golden.number("reg")), ..plain };
        for (key, options) in [("pot/hd", plain), ("pot/hd-reg", regular)] {
            let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, None).unwrap();
            let off = relative(map_rows(&found.map, probe.as_ref()).as_ref(), golden.matrix(key).as_ref());
            assert!(off < DIGITS, "{name} {key}: off by {off:e}");
            assert_eq!(found.certificate.latent, Some(latent));
            assert_eq!(found.certificate.shrinkage, Some([0.0, 0.0]));
        }
        let short = GaussianOtMap::builder().latent(latent).covariance(Covariance::Population);
        let short = short.fit(source.as_ref(), target.as_ref()).unwrap();
        let off = relative(map_rows(short.map(), probe.as_ref()).as_ref(), golden.matrix("pot/hd").as_ref());
        assert!(off < DIGITS, "{name}: off by {off:e}");
    }
}

#[test]
fn scikit_learn_finds_the_same_likelihood_and_noise() {
    let golden = Golden::read("../estimators/tall.safetensors");
    let (source, latent) = (golden.matrix("source"), golden.number("latent") as usize);
    let found = Gaussian::probabilistic_pca(source.as_ref(), Covariance::Sample, latent).unwrap();
    let expected = golden.matrix("sklearn/ppca");
    assert!((found.log_likelihood - expected[(0, 0)]).abs() < 1e-12 * expected[(0, 0)].abs());
    assert!((found.noise - expected[(0, 1)]).abs() < 1e-12 * expected[(0, 1)]);
}

#[test]
fn it_is_its_definition_with_the_trace_of_the_covariance() {
    for (n, d) in [(40, 6), (7, 11), (12, 12)] {
        let x = rows(n, d, 5);
        for q in [1, 2, 5] {
            let found = Gaussian::probabilistic_pca(x.as_ref(), Covariance::Sample, q).unwrap();
            let (expected, noise) = by_definition(x.as_ref(), q);
            assert!(relative(dense(&found.gaussian).as_ref(), expected.as_ref()) < 1e-12, "{n} {d} {q}");
            assert!((found.noise - noise).abs() < 1e-11 * noise);
            let (mean, s) = covariance(x.as_ref());
            let trace: f64 = (0..d).map(|i| s[(i, i)]).sum();
            assert!((found.gaussian.trace() - trace).abs() < 1e-13 * trace);
            assert!(found.gaussian.mean().iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-14));
            assert_eq!(found.gaussian.factor().nrows(), q, "no d x d matrix");

            // The mean log-density of the rows themselves.
            let eigen = symmetric_eigen(expected.as_ref()).unwrap();
            let along = Mat::from_fn(n, d, |i, j| x[(i, j)] - mean[j]) * &eigen.vectors;
            let square = |i: usize| (0..d).map(|j| along[(i, j)].powi(2) / eigen.values[j]).sum::<f64>();
            let determinant: f64 = eigen.values.iter().map(|l| l.ln()).sum();
            let mean_square = (0..n).map(square).sum::<f64>() / n as f64;
            let expected = -0.5 * (d as f64 * TAU.ln() + determinant + mean_square);
            assert!((found.log_likelihood - expected).abs() < 1e-10 * expected.abs());
        }
    }
}

#[test]
fn noise_far_under_a_gram_matrix_keeps_its_digits() {
    // Rows along turned axes, two of deviation 1 and four of 1e-5 / 4: the noise is 1e-10 / 16, and a Gram matrix knows the
    // squares to about 1e-16 beside 1.
    let (d, small) = (6, 2.5e-6);
    let w: Vec<f64> = (0..d).map(|j| (j + 1) as f64 / 91.0_f64.sqrt()).collect();
    for copies in [1, 4] {
        let turned = Mat::from_fn(2 * d * copies, d, |i, j| {
            let (axis, sign) = (i / 2 % d, if i % 2 == 0 { 1.0 } else { -1.0 });
            let size = if axis < 2 { 1.0 } else { small };
            sign * size * (if axis == j { 1.0 } else { 0.0 } - 2.0 * w[axis] * w[j])
        });
        let found = Gaussian::probabilistic_pca(turned.as_ref(), Covariance::Population, 2).unwrap();
        let expected = small * small / d as f64;
        // Entries of size 1 are rounded to eps: eps / small of a small singular value.
        assert!((found.noise - expected).abs() < 1e-9 * expected, "{} is not {expected}", found.noise);
        let table = select_latent(turned.as_ref(), &[2]).unwrap().table;
        assert!((table[0].log_likelihood - found.log_likelihood).abs() < 1e-8);
    }
}

#[test]
fn outside_the_latent_spaces_the_map_scales_by_the_noises() {
    let (source, target) = (latent_rows(14, 40, 2, 0.3, 1), latent_rows(17, 40, 2, 0.5, 2));
    let model = |x: &Mat<f64>| Gaussian::probabilistic_pca(x.as_ref(), Covariance::Sample, 2).unwrap();
    let (s, t) = (model(&source), model(&target));
    let options = FitOptions { latent: Some(2), ..FitOptions::default() };
    let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, None).unwrap();
    let brenier_map::Affine::Symmetric(map) = found.map.affine() else { panic!("few directions") };
    assert_eq!(map.core.ncols(), 4);
    assert!((map.scale - (t.noise / s.noise).sqrt()).abs() < 1e-13 * map.scale);
    assert!((map.scale - 1.0).abs() > 0.1, "else the test says nothing");
    // A S_s A = S_t for the dense covariances, A symmetric: with `monge` itself and by the way of `fit`.
    let (a, _) = linear_part(&found.map);
    assert!(relative(a.transpose(), a.as_ref()) < 1e-12);
    assert!(relative((&a * dense(&s.gaussian) * &a).as_ref(), dense(&t.gaussian).as_ref()) < 1e-11);
    assert!(relative(monge(&s.gaussian, &t.gaussian).unwrap().matrix().as_ref(), a.as_ref()) < 1e-12);
}

#[test]
fn every_method_in_all_dimensions_takes_it_and_the_others_do_not_record_it() {
    let (source, target) = (latent_rows(14, 40, 2, 0.3, 1), latent_rows(17, 40, 2, 0.5, 2));
    let bootstrap = Some(BootstrapOptions { resamples: 9, ..BootstrapOptions::default() });
    let latent = FitOptions { latent: Some(2), bootstrap, ..FitOptions::default() };
    let shrunk = FitOptions { shrinkage: Shrinkage::Auto, bootstrap, ..FitOptions::default() };
    for method in [Method::Ot, Method::Entropic, Method::Whitening] {
        let found = fit(method, source.as_ref(), target.as_ref(), &latent, None).unwrap().certificate;
        assert_eq!((found.latent, found.shrinkage), (Some(2), Some([0.0, 0.0])), "{method}");
        let boot = found.bootstrap.unwrap();
        let [low, high] = boot.norm.unwrap();
        assert!(boot.refused == 0 && low < high && found.norm < 2.0 * high, "{method} {low} {high}");
        let other = fit(method, source.as_ref(), target.as_ref(), &shrunk, None).unwrap().certificate;
        assert!((other.norm - found.norm).abs() > 1e-3 * found.norm, "{method}");
        assert_ne!(other.bootstrap.unwrap().norm, Some([low, high]), "{method}");
    }
    for method in [Method::PcaOt, Method::Mean, Method::Leace] {
        let found = fit(method, source.as_ref(), target.as_ref(), &latent, None).unwrap().certificate;
        assert_eq!(found.latent, None, "{method}");
    }
}

#[test]
fn bic_finds_the_directions_that_are_there() {
    for (n, d) in [(300, 12), (60, 90)] {
        for q in [1, 3] {
            let x = latent_rows(n, d, q, 0.3, 7 + q as u64);
            let found = select_latent(x.as_ref(), &[5, 1, 2, 3, 3, 4]).unwrap();
            assert_eq!(found.latent, q, "{n} {d}");
            assert_eq!(found.table.iter().map(|one| one.latent).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
            for one in &found.table {
                let model =
                    Gaussian::probabilistic_pca(x.as_ref(), Covariance::Population, one.latent).unwrap();
                assert!((model.log_likelihood - one.log_likelihood).abs() < 1e-9);
                let (n, d, q) = (n as f64, d as f64, one.latent as f64);
                let free = d + d * q - q * (q - 1.0) / 2.0 + 1.0;
                assert!((one.score - (free * n.ln() / (2.0 * n) - one.log_likelihood)).abs() < 1e-11);
            }
            let likelihoods = found.table.windows(2).map(|w| w[1].log_likelihood - w[0].log_likelihood);
            assert!(likelihoods.fold(f64::INFINITY, f64::min) > 0.0, "more directions fit better");
        }
    }
}

#[test]
fn what_leaves_no_noise_is_refused() {
    let x = rows(6, 20, 1);
    let rank_5 = |found| matches!(found, TransportError::LatentRank { latent: 5, rank: 5, rows: 6 });
    assert!(rank_5(Gaussian::probabilistic_pca(x.as_ref(), Covariance::Sample, 5).unwrap_err()));
    assert!(rank_5(select_latent(x.as_ref(), &[1, 5]).unwrap_err()));
    let options = FitOptions { latent: Some(5), ..FitOptions::default() };
    assert!(rank_5(fit(Method::Ot, x.as_ref(), x.as_ref(), &options, None).unwrap_err()));
    assert!(Gaussian::probabilistic_pca(x.as_ref(), Covariance::Sample, 4).is_ok());
    // All columns, more columns than there are, rows that are one point.
    let tall = rows(30, 4, 2);
    for latent in [4, 5, 1000] {
        let found = Gaussian::probabilistic_pca(tall.as_ref(), Covariance::Sample, latent);
        assert!(matches!(found, Err(TransportError::LatentRank { rank: 4, .. })), "{latent}");
    }
    assert!(Gaussian::probabilistic_pca(tall.as_ref(), Covariance::Sample, 3).is_ok());
    let point = Mat::from_fn(5, 3, |_, j| j as f64);
    let found = Gaussian::probabilistic_pca(point.as_ref(), Covariance::Sample, 1);
    assert!(matches!(found, Err(TransportError::LatentRank { rank: 0, .. })));
    assert!(found.unwrap_err().to_string().contains("rank above 1"));
    // Options.
    let zero = |error| matches!(error, TransportError::Option { name: "latent", .. });
    assert!(zero(Gaussian::probabilistic_pca(x.as_ref(), Covariance::Sample, 0).unwrap_err()));
    assert!(zero(select_latent(x.as_ref(), &[0, 1]).unwrap_err()));
    assert!(select_latent(x.as_ref(), &[]).is_err());
    for options in [
        FitOptions { latent: Some(0), ..FitOptions::default() },
        FitOptions { latent: Some(1), shrinkage: Shrinkage::Auto, ..FitOptions::default() },
        FitOptions { latent: Some(1), shrinkage: Shrinkage::Fixed(0.1), ..FitOptions::default() },
    ] {
        assert!(zero(options.check().unwrap_err()));
    }
}
