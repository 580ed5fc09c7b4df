//! Any number of rows in bounded memory: two streams into [`Moments`], then the maps between them.
//!
//! ```sh
//! cargo run --release -p brenier-transport --example stream_moments -- [rows] [width] [cap] [batch]
//! ```
//!
//! The rows are made up as they go by: uniform noise whose variance along turned axes falls as `(1 + j)^-1.5`, about a
//! mean, from a counter, so that any run sees the same ones. Half of them are the source's.
use brenier_linalg::{Rows, squared_norm};
use brenier_transport::{Covariance, FitOptions, Method, Moments, fit_moments};
use faer::MatRef;
use std::error::Error;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let asked: Vec<usize> = std::env::args().skip(1).map(|arg| arg.parse()).collect::<Result<_, _>>()?;
    let of = |i: usize, default: usize| asked.get(i).copied().unwrap_or(default);
    let (rows, width, cap, batch) = (of(0, 20_000), of(1, 256), of(2, 32), of(3, 256).max(1));

    let started = Instant::now();
    // The classes do not know of each other: two threads, the same bits.
    let (source, target) = rayon::join(
        || Stream::new(width, 1, 1.0).into_moments(rows - rows / 2, cap, batch),
        || Stream::new(width, 2, 0.5).into_moments(rows / 2, cap, batch),
    );
    let ((source, making_s), (target, making_t)) = (source?, target?);
    let took = started.elapsed();
    println!(
        "{rows} rows of {width}, cap {cap}: {:.1} s, {:.0} rows/s on two threads, of which {:.1} s a thread to make the rows up",
        took.as_secs_f64(),
        rows as f64 / took.as_secs_f64(),
        0.5 * (making_s + making_t).as_secs_f64(),
    );
    println!("peak memory after the streams: {}", peak_memory());
    for (name, moments) in [("source", &source), ("target", &target)] {
        let factor = moments.factor(Covariance::Sample);
        let removed = moments.removed(Covariance::Sample);
        println!(
            "{name}: count {}, factor of {} rows, bound {:.3e}, trace {:.9} of which removed {removed:.3e}",
            moments.count(),
            factor.nrows(),
            moments.bound(Covariance::Sample),
            squared_norm(factor.as_ref()) + removed,
        );
    }

    for (method, components) in [(Method::PcaOt, 8.min(width)), (Method::Ot, 1)] {
        let started = Instant::now();
        let options = FitOptions { components, ..FitOptions::default() };
        let certificate = fit_moments(method, &source, &target, &options)?.certificate;
        let Some(sketch) = certificate.sketch else { continue };
        println!("{method}: {:.1} s, norm {:.3}", started.elapsed().as_secs_f64(), certificate.norm);
        for (name, side) in [("source", sketch.source), ("target", sketch.target)] {
            println!(
                "  {name}: bound {:.3e} of the top eigenvalue, removed {:.3e} of the trace",
                side.bound_relative, side.removed_relative
            );
        }
        let [low, high] = sketch.w2_before;
        println!(
            "  W2 before {:.4}, the rows' own within {low:.4} .. {high:.4}",
            certificate.train.w2_before
        );
        if let Some([low, high]) = sketch.w2_after {
            println!(
                "  W2 after {:.4}, the rows' own within {low:.4} .. {high:.4}",
                certificate.train.w2_after
            );
        }
    }
    println!("peak memory at the end: {}", peak_memory());
    Ok(())
}

/// Rows that come out of a counter.
struct Stream {
    state: u64,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// Two unit vectors: a row is reflected by both, which turns its axes out of the coordinates.
    mirrors: [Vec<f64>; 2],
}

impl Stream {
    fn new(width: usize, seed: u64, scale: f64) -> Self {
        let mut stream =
            Self { state: seed << 32, mean: vec![], deviation: vec![], mirrors: [vec![], vec![]] };
        stream.mean = (0..width).map(|_| 0.5 * stream.next()).collect();
        // A uniform number in -1..1 has the variance 1/3.
        stream.deviation =
            (0..width).map(|j| scale * 3.0_f64.sqrt() * (1.0 + j as f64).powf(-0.75)).collect();
        stream.mirrors = [0, 1].map(|_| {
            let plain: Vec<f64> = (0..width).map(|_| stream.next()).collect();
            let norm = plain.iter().map(|x| x * x).sum::<f64>().sqrt();
            plain.iter().map(|x| x / norm).collect()
        });
        stream
    }

    /// The moments of the next rows, and how long it took to make these up.
    fn into_moments(mut self, rows: usize, cap: usize, batch: usize) -> Result<(Moments, Duration), String> {
        let width = self.mean.len();
        let mut moments = Moments::new(width, cap).map_err(|error| error.to_string())?;
        let (mut making, mut buffer) = (Duration::ZERO, vec![0.0; width * batch]);
        let mut left = rows;
        while left > 0 {
            let taken = left.min(batch);
            let started = Instant::now();
            let values = &mut buffer[..taken * width];
            values.chunks_exact_mut(width).for_each(|row| self.fill(row));
            making += started.elapsed();
            let view = MatRef::from_row_major_slice(values, taken, width);
            Rows::new(view).and_then(|rows| moments.push(rows)).map_err(|error| error.to_string())?;
            left -= taken;
        }
        Ok((moments, making))
    }

    fn fill(&mut self, row: &mut [f64]) {
        for (x, deviation) in row.iter_mut().zip(&self.deviation) {
            *x = deviation * uniform(&mut self.state);
        }
        for mirror in &self.mirrors {
            let along: f64 = 2.0 * row.iter().zip(mirror).map(|(x, v)| x * v).sum::<f64>();
            row.iter_mut().zip(mirror).for_each(|(x, v)| *x -= along * v);
        }
        row.iter_mut().zip(&self.mean).for_each(|(x, m)| *x += m);
    }

    fn next(&mut self) -> f64 {
        uniform(&mut self.state)
    }
}

/// A number in -1..1 from a counter (splitmix64; Steele, Lea & Flood 2014).
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// The most memory that this process has held, where the system says so.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "not known here".to_owned(), |line| line.trim().to_owned())
}
