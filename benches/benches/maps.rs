//! Fitting and applying maps: `cargo bench -p brenier-benches`, then `python benches/peers/compare.py`, which times the
//! peers on the very same rows and writes the ratios to `benches/record/`.
//!
//! * `fit/ot-reg`: the optimal map in all dimensions with POT's default regulariser, which POT needs.
//! * `fit/ot`: the same without one.
//! * `fit/pca-ot`: in two principal components; `layers/pca-ot`: for 32 layers in turn, `layers/pca-ot-parallel`: on all
//!   of rayon's threads at once.
//! * `apply/pca-ot` against `apply/copy`: one read and one write of the rows, on one thread and into other memory.
//! * `apply/add`: a number added in place on as many threads as the map has, which no map in place can beat.
//! * `apply/gated`: the map under a gate; `apply/columns`: on faer's own matrix, which holds columns.
//!
//! Every fit includes its certificate.
#![allow(missing_docs)]

use std::hint::black_box;
use std::path::Path;

use brenier_benches::rows;
use brenier_files::Existing;
use brenier_map::{Affine, Gate, LowRank, RowMap};
use brenier_transport::{Covariance, Fit, FitOptions, Method, fit};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use faer::{Mat, MatMut};
use rayon::prelude::*;

/// Rows a side.
const ROWS: usize = 128;
const LAYERS: usize = 32;

fn fits(c: &mut Criterion) {
    let plain = FitOptions { covariance: Covariance::Population, ..FitOptions::default() };
    let regular = FitOptions { reg_abs: Some(1e-6), ..plain };
    let mut group = c.benchmark_group("fit");
    group.sample_size(10);
    for d in [1024, 4096] {
        let (source, target) = (rows(ROWS, d, 1, 0.0), rows(ROWS, d, 2, 1.0));
        for (name, method, options) in
            [("ot-reg", Method::Ot, regular), ("ot", Method::Ot, plain), ("pca-ot", Method::PcaOt, plain)]
        {
            let once = || fit(method, source.as_ref(), target.as_ref(), &options, None).expect("a fit");
            write_mapped(&once(), &source, &format!("{name}-{d}"));
            group.bench_with_input(BenchmarkId::new(name, d), &d, |b, _| b.iter(once));
        }
    }
    group.finish();

    let mut group = c.benchmark_group("layers");
    group.sample_size(10);
    let layers: Vec<_> =
        (0..4).map(|l| (rows(ROWS, 4096, 10 + l, 0.0), rows(ROWS, 4096, 20 + l, 1.0))).collect();
    let one = |layer: usize| {
        let (source, target) = &layers[layer % layers.len()];
        black_box(fit(Method::PcaOt, source.as_ref(), target.as_ref(), &plain, None).expect("a fit"))
    };
    group.bench_function("pca-ot", |b| b.iter(|| (0..LAYERS).map(one).for_each(drop)));
    group.bench_function("pca-ot-parallel", |b| {
        b.iter(|| (0..LAYERS).into_par_iter().map(one).for_each(drop));
    });
    group.finish();
}

fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply");
    let (n, d, rank) = (4096, 4096, 2);
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
    group.bench_function("pca-ot", |b| {
        b.iter(|| {
            let rows = MatMut::from_row_major_slice_mut(&mut x, n, d);
            map.apply_rows_f32(rows, 1e-9).expect("rows of the map's width");
        });
    });
    group.bench_function("copy", |b| b.iter(|| black_box(&mut y).copy_from_slice(black_box(&x))));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    group.bench_function("add", |b| {
        b.iter(|| {
            std::thread::scope(|scope| {
                for part in black_box(&mut y).chunks_mut((n * d).div_ceil(threads)) {
                    scope.spawn(|| part.iter_mut().for_each(|x| *x += 1e-9));
                }
            });
        });
    });
    let gate = Gate {
        basis: Mat::from_fn(d, rank, |i, j| ((i + 7 * j) as f64 * 0.3).sin()),
        center: vec![0.3; d],
        constant: 0.0,
        linear: vec![1e-3; rank],
        quadratic: Mat::from_fn(rank, rank, |_, _| -1e-6),
        temperature: 1.0,
        threshold: None,
    };
    let gated = map.clone().with_gate(gate).expect("a gate of the map's width");
    group.bench_function("gated", |b| {
        b.iter(|| {
            let rows = MatMut::from_row_major_slice_mut(&mut x, n, d);
            gated.apply_rows_f32(rows, 1e-9).expect("rows of the map's width");
        });
    });
    drop((x, y));
    let mut columns = Mat::<f32>::full(n, d, 0.5);
    group.bench_function("columns", |b| {
        b.iter(|| map.apply_rows_f32(columns.as_mut(), 1e-9).expect("rows of the map's width"));
    });
    group.finish();
}

/// The first four source rows as the map leaves them, for the peers' script to compare with its own.
fn write_mapped(fit: &Fit, source: &Mat<f64>, name: &str) {
    let mut moved = source.as_ref().subrows(0, 4).to_owned();
    fit.map.apply_rows(moved.as_mut(), 1.0).expect("rows of the map's width");
    let lines: Vec<String> = (0..4)
        .map(|i| (0..moved.ncols()).map(|j| format!("{:?}", moved[(i, j)])).collect::<Vec<_>>().join(","))
        .collect();
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/criterion");
    brenier_files::create_dir(&at).expect("a folder in target");
    let path = at.join(format!("mapped-{name}.csv"));
    brenier_files::write_bytes(&path, Existing::Replace, lines.join("\n").as_bytes())
        .expect("a file in target");
}

criterion_group!(benches, fits, apply);
criterion_main!(benches);
