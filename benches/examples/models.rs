//! One task on one model, timed without loading: the other side of `benches/peers/models.py`, which runs both and records
//! their ratio.
//!
//! `models TASK MODEL IDS.json DTYPE`, where TASK is `capture`, `generate`, `decode` or `edited` (decoding under a rank-2
//! edit) and IDS.json holds prompts as arrays of token ids. Prints seconds and the peak of resident memory in bytes.

use std::path::Path;
use std::time::Instant;

use brenier::capture::{Request, capture};
use brenier::hooks::{Edit, Intervention};
use brenier::map::{Affine, LowRank, RowMap};
use brenier::model::{GenerateOptions, ModelDirectory, generate};
use brenier::residual::{Site, Tap, TokenSet};
use brenier::{DType, Device};
use faer::Mat;

/// New tokens of a prompt.
const NEW: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [task, dir, ids, dtype] = args.as_slice() else {
        return Err("models TASK MODEL IDS.json DTYPE".into());
    };
    let prompts: Vec<Vec<u32>> = serde_json::from_slice(&std::fs::read(ids)?)?;
    let dtype = if dtype == "bf16" { DType::BF16 } else { DType::F32 };
    let model = ModelDirectory::open(Path::new(dir))?.load(&Device::flex(), Some(dtype))?;
    let spec = model.model().spec();

    let options = GenerateOptions { max_new_tokens: NEW, batch: Some(32), ..GenerateOptions::default() };
    let mut edit = Intervention::new(spec, &[plane(spec.hidden, spec.layers / 2)?])?;
    let decode = |tap: &mut dyn Tap| generate(model.model(), &prompts[..1], &options, tap);
    decode(&mut ())?;
    let start = Instant::now();
    match task.as_str() {
        "capture" => {
            let points = Site::ResidPost.all_layers(spec.layers).collect();
            let request = Request { points, ..Request::default() };
            let found = capture(model.model(), &prompts, &request, &mut (), &mut |_| ())?;
            assert_eq!(found.tensors.len(), usize::from(spec.layers));
        }
        "generate" => {
            let texts = generate(model.model(), &prompts, &options, &mut ())?;
            assert!(texts.iter().all(|text| text.ids.len() == NEW));
        }
        "decode" => drop(decode(&mut ())?),
        "edited" => drop(decode(&mut edit)?),
        other => return Err(format!("no task {other}").into()),
    }
    println!("{} {}", start.elapsed().as_secs_f64(), peak());
    Ok(())
}

/// An edit within the plane of the first two coordinates: what PCA-OT with two components costs.
fn plane(hidden: usize, layer: u16) -> Result<Edit, Box<dyn std::error::Error>> {
    let axes = Mat::from_fn(hidden, 2, |i, j| if i == j { 1.0 } else { 0.0 });
    let turned = Mat::from_fn(hidden, 2, |i, j| if i == j { 1e-3 } else { 0.0 });
    let (mean, offset) = (vec![0.0; hidden], vec![0.0; hidden]);
    let map = RowMap::new(Affine::LowRank(LowRank { scale: 1.0, mean, offset, u: turned, v: axes }))?;
    Ok(Edit { at: Site::ResidPost.at(layer), map, strength: 1.0, tokens: TokenSet::All })
}

/// The peak of this program's resident memory; 0 where the system does not say.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
