//! Products with bf16 weights against flex's f32 product: `cargo bench -p brenier-benches --bench bf16`; the peer is
//! `benches/peers/bf16.py`. What it prints goes to `benches/record/bf16.md`.
//!
//! Medians of repetitions in turn. Weights lie in as many copies as fill 256 MB (f32), so that none is found in a cache,
//! as none is when a model decodes.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use brenier_kernels::linear;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// `[n, k]`: projections of SmolLM2-135M and its output matrix, a 1.1B and an 8B model.
const SHAPES: [[usize; 2]; 5] = [[1536, 576], [576, 1536], [49152, 576], [5632, 2048], [14336, 4096]];

fn main() {
    println!("{:>14} {:>5} {:>12} {:>12} {:>7}", "n x k", "m", "f32 us", "bf16 us", "ratio");
    for [n, k] in SHAPES {
        let copies = ((1 << 26) / (n * k)).max(1);
        let wide: Vec<_> = (0..copies).map(|_| values([n, k])).collect();
        let narrow: Vec<_> = wide.iter().map(|w| w.clone().cast(DType::BF16)).collect();
        for m in [1, 4, 16, 128, 512] {
            let work = m * n * k;
            if work > 20_000_000_000 {
                continue;
            }
            let x = values([m, k]);
            let (mut f32s, mut bf16s) = (Vec::new(), Vec::new());
            for turn in 0..(1_000_000_000 / work).clamp(7, 60) {
                let (wide, narrow) = (wide[turn % copies].clone(), narrow[turn % copies].clone());
                f32s.push(microseconds(|| x.clone().matmul(wide.transpose())));
                bf16s.push(microseconds(|| linear(x.clone(), narrow)));
            }
            let (f32s, bf16s) = (median(f32s), median(bf16s));
            println!("{n:>6} x {k:>5} {m:>5} {f32s:>12.1} {bf16s:>12.1} {:>7.2}", bf16s / f32s);
        }
    }
}

fn values(shape: [usize; 2]) -> Tensor<2> {
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn microseconds(product: impl FnOnce() -> Tensor<2>) -> f64 {
    let start = Instant::now();
    black_box(product());
    start.elapsed().as_secs_f64() * 1e6
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
