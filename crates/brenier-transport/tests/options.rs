//! Options that a method would not read are refused, and the spread of the target is a dial between baseline and transport.
#![allow(clippy::unwrap_used)]

use brenier_transport::{
    Blur, Covariance, Fit, FitOptions, GaussianOtMap, Method, MixtureOptions, Pooling, Shift, Shrinkage,
    TransportError, fit,
};
use faer::{Mat, MatRef};

fn rows(n: usize, d: usize, by: f64, about: f64) -> Mat<f64> {
    Mat::from_fn(n, d, |i, j| about + (1.0 + j as f64) * ((i * 13 + j * 7 + 1) as f64 * by).sin())
}

#[test]
fn what_a_method_does_not_read_is_refused_by_name() {
    let plain = FitOptions::default();
    let mixture = MixtureOptions { restarts: 7, ..MixtureOptions::default() };
    for (option, options, reads) in [
        (
            "components",
            FitOptions { components: 3, ..plain },
            vec![Method::PcaOt, Method::Gated, Method::Mixture],
        ),
        (
            "shift",
            FitOptions { shift: Shift::Full, ..plain },
            vec![Method::PcaOt, Method::Gated, Method::Mixture],
        ),
        (
            "pooling",
            FitOptions { pooling: Pooling::Classes, ..plain },
            vec![Method::PcaOt, Method::Gated, Method::Mixture],
        ),
        (
            "shrinkage",
            FitOptions { shrinkage: Shrinkage::Oas, ..plain },
            vec![
                Method::PcaOt,
                Method::Gated,
                Method::Ot,
                Method::Entropic,
                Method::Whitening,
                Method::Leace,
            ],
        ),
        (
            "target spread",
            FitOptions { target_spread: 0.5, ..plain },
            vec![Method::PcaOt, Method::Gated, Method::Ot, Method::Entropic, Method::Whitening],
        ),
        (
            "reg-abs",
            FitOptions { reg_abs: Some(0.1), ..plain },
            vec![Method::PcaOt, Method::Gated, Method::Ot, Method::Entropic, Method::Whitening],
        ),
        (
            "latent",
            FitOptions { latent: Some(2), ..plain },
            vec![Method::Ot, Method::Entropic, Method::Whitening],
        ),
        ("mixture", FitOptions { mixture, ..plain }, vec![Method::Mixture]),
        (
            "entropic sigma",
            FitOptions { entropic_sigma: Blur::Absolute(1.0), ..plain },
            vec![Method::Entropic],
        ),
        (
            "act quantiles",
            FitOptions { act_quantiles: Some((0.1, 0.9)), ..plain },
            vec![Method::ActMean, Method::ActLinear, Method::ActGaussian],
        ),
    ] {
        for method in Method::ALL {
            match options.check_for(method) {
                Ok(()) => assert!(reads.contains(&method), "{method} took {option}"),
                Err(TransportError::Unread { option: found, .. }) => {
                    assert_eq!(found, option);
                    assert!(!reads.contains(&method), "{method} refused {option}");
                }
                Err(other) => panic!("{method}, {option}: {other}"),
            }
            assert!(options.only_for(method).check_for(method).is_ok());
        }
    }
    // A divisor and a seed are for all.
    let seeded = MixtureOptions { seed: 7, ..plain.mixture };
    let shared = FitOptions { covariance: Covariance::Population, mixture: seeded, ..plain };
    assert!(Method::ALL.iter().all(|&method| shared.check_for(method).is_ok()));
}

#[test]
fn the_builder_drops_nothing() {
    let (source, target) = (rows(20, 4, 0.7, 0.0), rows(18, 4, 1.1, 2.0));
    let refused = |builder: brenier_transport::GaussianOtBuilder| builder.fit(&source, &target).unwrap_err();
    let full = refused(GaussianOtMap::builder().shift(Shift::Full));
    assert!(matches!(full, TransportError::Unread { option: "shift", method: Method::Ot }), "{full}");
    let both = refused(GaussianOtMap::builder().latent(2).components(2));
    assert!(matches!(both, TransportError::Unread { option: "latent", method: Method::PcaOt }), "{both}");
}

fn spread(rows: MatRef<'_, f64>) -> f64 {
    let mean = |j: usize| rows.col(j).iter().sum::<f64>() / rows.nrows() as f64;
    let about = |j: usize| rows.col(j).iter().map(|x| (x - mean(j)).powi(2)).sum::<f64>();
    (0..rows.ncols()).map(about).sum::<f64>().sqrt()
}

#[test]
fn the_spread_goes_from_the_mean_to_the_whole_target() {
    let (source, target) = (rows(40, 3, 0.7, 0.0), rows(30, 3, 1.1, 5.0));
    let fitted = |method, tau| -> Fit {
        let options = FitOptions { target_spread: tau, components: 3, ..FitOptions::default() };
        fit(method, source.as_ref(), target.as_ref(), &options, None).unwrap()
    };
    let moved = |fit: &Fit| {
        let mut rows = source.clone();
        fit.map.apply_rows(rows.as_mut(), 1.0).unwrap();
        rows
    };
    for method in [Method::Ot, Method::PcaOt] {
        let whole = moved(&fitted(method, 1.0));
        for tau in [0.0, 0.25, 1.0] {
            let found = fitted(method, tau);
            let rows = moved(&found);
            // The linear part is tau times the optimal one, about the same mean.
            for j in 0..3 {
                let mean: f64 = target.col(j).iter().sum::<f64>() / 30.0;
                for i in 0..40 {
                    let expected = mean + tau * (whole[(i, j)] - mean);
                    assert!((rows[(i, j)] - expected).abs() < 1e-9, "{method}, {tau}");
                }
            }
            assert!((spread(rows.as_ref()) - tau * spread(whole.as_ref())).abs() < 1e-8);
            assert_eq!(found.certificate.target_spread, (tau != 1.0).then_some(tau));
        }
    }
    let beyond = FitOptions { target_spread: 1.1, ..FitOptions::default() };
    assert!(fit(Method::Ot, source.as_ref(), target.as_ref(), &beyond, None).is_err());
}
