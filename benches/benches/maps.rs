//! Fitting and applying maps, each beside its peer in the same run: `cargo bench -p brenier-benches`.
//!
//! * `fit/ours` against `fit/textbook`: the same map by `d x d` symmetric square roots, as its formula reads.
//! * `apply/ours` against `apply/copy`: one read and one write of the rows.
#![allow(missing_docs)]

use std::hint::black_box;

use brenier::map::{Affine, LowRank, RowMap};
use brenier::transport::GaussianOtMap;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use faer::{Mat, MatRef, Side};

/// Rows a side, as in the study of the built-in model.
const ROWS: usize = 128;

fn fit(c: &mut Criterion) {
    let mut group = c.benchmark_group("fit");
    group.sample_size(10);
    for d in [128, 512] {
        let (source, target) = (rows(d, 1, 0.0), rows(d, 2, 1.0));
        group.bench_with_input(BenchmarkId::new("ours", d), &d, |b, _| {
            b.iter(|| GaussianOtMap::fit(source.as_ref(), target.as_ref()).expect("a fit"));
        });
        group.bench_with_input(BenchmarkId::new("textbook", d), &d, |b, _| {
            b.iter(|| textbook(source.as_ref(), target.as_ref()));
        });
    }
    group.finish();
}

fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply");
    let (n, d, rank) = (1024, 4096, 2);
    let map = RowMap::new(Affine::LowRank(LowRank {
        scale: 1.0,
        mean: vec![0.1; d],
        offset: vec![0.2; d],
        u: Mat::from_fn(d, rank, |i, j| ((i + 3 * j) as f64 * 0.1).sin()),
        v: Mat::from_fn(d, rank, |i, j| ((i + 5 * j) as f64 * 0.2).cos()),
    }))
    .expect("a map");
    let mut x = vec![0.5f32; n * d];
    let mut y = x.clone();
    group.throughput(Throughput::Bytes((2 * n * d * size_of::<f32>()) as u64));
    group.bench_function("ours", |b| {
        b.iter(|| {
            let rows = faer::MatMut::from_row_major_slice_mut(&mut x, n, d);
            map.apply_rows_f32(rows, 1e-3).expect("rows of the map's width");
        });
    });
    group.bench_function("copy", |b| b.iter(|| black_box(&mut y).copy_from_slice(black_box(&x))));
    group.finish();
}

/// Rows that do not depend on a generator's version: a fixed mixture of waves.
fn rows(d: usize, seed: usize, shift: f32) -> Mat<f32> {
    Mat::from_fn(ROWS, d, |i, j| {
        let t = (i * 7919 + j * 104_729 + seed * 1_299_709) as f64;
        shift + (t * 0.618_033_988_75).sin() as f32 + 0.3 * (t * 0.414_213_562_37).cos() as f32
    })
}

/// `S_s^{-1/2} (S_s^{1/2} S_t S_s^{1/2})^{1/2} S_s^{-1/2}` with relative floors, `d x d` throughout.
fn textbook(source: MatRef<'_, f32>, target: MatRef<'_, f32>) -> Mat<f64> {
    let (s, t) = (covariance(source), covariance(target));
    let (half, inverse_half) = (power(&s, 0.5), power(&s, -0.5));
    let middle = power(&(&half * &t * &half), 0.5);
    &inverse_half * &middle * &inverse_half
}

fn covariance(rows: MatRef<'_, f32>) -> Mat<f64> {
    let n = rows.nrows();
    let mean: Vec<f64> =
        (0..rows.ncols()).map(|j| (0..n).map(|i| f64::from(rows[(i, j)])).sum::<f64>() / n as f64).collect();
    let centred = Mat::from_fn(n, rows.ncols(), |i, j| f64::from(rows[(i, j)]) - mean[j]);
    centred.transpose() * &centred * faer::Scale(1.0 / (n - 1) as f64)
}

fn power(symmetric: &Mat<f64>, exponent: f64) -> Mat<f64> {
    let eigen = symmetric.self_adjoint_eigen(Side::Lower).expect("eigenvalues");
    let (u, l) = (eigen.U(), eigen.S().column_vector());
    let largest = l.iter().fold(0.0f64, |a, &b| a.max(b));
    let floor = l.nrows() as f64 * f64::EPSILON * largest;
    let scaled =
        Mat::from_fn(
            u.nrows(),
            u.ncols(),
            |i, j| if l[j] > floor { u[(i, j)] * l[j].powf(exponent) } else { 0.0 },
        );
    &scaled * u.transpose()
}

criterion_group!(benches, fit, apply);
criterion_main!(benches);
