//! One suite for every device: what must hold wherever a model runs.
//!
//! `cargo run -p brenier-tests --features wgpu --bin conformance -- --device wgpu` runs it on a device.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use brenier::capture::{Request, Rows, capture};
use brenier::hooks::{Edit, Intervention};
use brenier::map::RowMap;
use brenier::model::{GenerateOptions, LanguageModel, generate};
use brenier::residual::{Batch, HookPoint, KvCache, Row, Site, Tensor, TokenSet, tap_fn};
use brenier::{DType, Device};
use safetensors::SafeTensors;

/// How far a device may be from the reference, in units of the largest value: some hundred roundings of f32.
const TOLERANCE: f32 = 2e-5;

/// A model beside what transformers makes of it.
pub struct Case {
    name: String,
    model: LanguageModel,
    device: Device,
    prompts: Vec<Vec<u32>>,
    greedy: Vec<Vec<u32>>,
    logits: Vec<f32>,
    resid_post: Vec<f32>,
}

/// What is checked of a case.
pub type Check = fn(&Case) -> Result<()>;

/// The checks, by name.
pub const CHECKS: [(&str, Check); 5] = [
    ("logits and layers are those of transformers", Case::parity),
    ("a cache changes nothing, under an edit too", Case::hooks_with_cache),
    ("captured rows do not depend on the batch", Case::capture),
    ("greedy texts are those of transformers in any batch", Case::generation),
    ("16-bit weights stay near, or are refused by name", Case::half),
];

/// The folders of a folder that hold a model and what is expected of it.
pub fn models(root: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(root).with_context(|| root.display().to_string())?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("expected.safetensors").exists())
        .collect();
    found.sort();
    ensure!(!found.is_empty(), "{}: no folder with expected.safetensors", root.display());
    Ok(found)
}

impl Case {
    /// Loads a model on a device.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        let bytes = std::fs::read(dir.join("expected.safetensors"))?;
        let file = SafeTensors::deserialize(&bytes)?;
        let ints = |name: &str| -> Result<Vec<i64>> {
            Ok(file.tensor(name)?.data().as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect())
        };
        let floats = |name: &str| -> Result<Vec<f32>> {
            Ok(file.tensor(name)?.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
        };
        let (ids, lengths, greedy) = (ints("ids")?, ints("lengths")?, ints("greedy")?);
        let (width, new) = (ids.len() / lengths.len(), greedy.len() / lengths.len());
        let prompt = |(row, &length): (usize, &i64)| {
            ids[(row + 1) * width - length as usize..(row + 1) * width].iter().map(|&id| id as u32).collect()
        };
        let known = |row: &[i64]| row.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        Ok(Self {
            name: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            model: LanguageModel::load(dir, device, Some(DType::F32))?,
            device: device.clone(),
            prompts: lengths.iter().enumerate().map(prompt).collect(),
            greedy: greedy.chunks(new).map(known).collect(),
            logits: floats("logits")?,
            resid_post: floats("resid_post")?,
        })
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn parity(&self) -> Result<()> {
        let layers = self.model.model().spec().layers;
        let mut seen: BTreeMap<u16, Tensor<3>> = BTreeMap::new();
        let points: Vec<HookPoint> = (0..layers).map(HookPoint::resid_post).collect();
        let mut keep = tap_fn(points, |at, _, x| {
            seen.insert(at.layer, x.clone());
            Ok(x)
        });
        let logits = self.model.model().forward(&self.batch()?, None, &mut keep)?;
        self.near("logits", logits, &self.logits)?;
        for (layer, x) in seen {
            let size = self.resid_post.len() / usize::from(layers);
            let expected = &self.resid_post[usize::from(layer) * size..][..size];
            self.near(&format!("layer {layer}"), x, expected)?;
        }
        Ok(())
    }

    /// The last logits of whole rows, and of the same rows read a token at a time behind a common start.
    fn hooks_with_cache(&self) -> Result<()> {
        let spec = self.model.model().spec();
        let delta: Vec<f64> = (0..spec.hidden).map(|i| 0.1 * (i % 7) as f64 - 0.3).collect();
        for tokens in [TokenSet::All, TokenSet::LastAndGenerated] {
            let at = HookPoint::resid_post(spec.layers / 2);
            let edit = Edit { at, map: RowMap::shift(delta.clone())?, strength: 1.0, tokens };
            let mut tap = Intervention::new(spec, &[edit])?;
            let texts: Vec<Vec<u32>> =
                self.prompts.iter().map(|ids| [&ids[..], &[11, 7, 12]].concat()).collect();
            let rows: Vec<Row<'_>> = texts
                .iter()
                .zip(&self.prompts)
                .map(|(ids, prompt)| Row { ids, prompt: prompt.len() })
                .collect();
            let whole = Batch::new(&rows, &self.device)?;
            let expected = floats(self.model.model().forward_last(&whole, None, &mut tap)?)?;

            let mut cache = KvCache::new(usize::from(spec.layers));
            let mut found = Vec::new();
            for columns in [0..whole.tokens() - 4, whole.tokens() - 4..whole.tokens() - 3]
                .into_iter()
                .chain((whole.tokens() - 3..whole.tokens()).map(|column| column..column + 1))
            {
                let step = whole.columns(columns);
                found = floats(self.model.model().forward_last(&step, Some(&mut cache), &mut tap)?)?;
            }
            let plain = floats(self.model.model().forward_last(&whole, None, &mut ())?)?;
            let moved = far(&plain, &expected);
            ensure!(moved > 1e-3, "the edit of tokens {tokens} does nothing: {moved:e}");
            let distance = far(&found, &expected);
            ensure!(distance <= TOLERANCE, "tokens {tokens}: {distance:e} of the largest value");
        }
        Ok(())
    }

    /// Rows of prompts that run together, and read once what they begin with, beside those of each prompt alone.
    fn capture(&self) -> Result<()> {
        let spec = self.model.model().spec();
        let points = Site::ALL.map(|site| HookPoint { layer: spec.layers - 1, site }).to_vec();
        let begun: Vec<Vec<u32>> =
            self.prompts.iter().map(|ids| [&[5, 9, 6, 7, 21, 8, 9][..], ids].concat()).collect();
        let edit = Edit {
            at: HookPoint::resid_post(0),
            map: RowMap::shift(vec![0.25; spec.hidden])?,
            strength: 1.0,
            tokens: TokenSet::All,
        };
        let mut tap = Intervention::new(spec, &[edit])?;
        for prompts in [&self.prompts, &begun] {
            let mut rows = |prompts: &[Vec<u32>], batch| -> Result<Vec<Vec<f32>>> {
                let request = Request { points: points.clone(), batch, ..Request::default() };
                let found = capture(self.model.model(), prompts, &request, &mut tap, &mut |_| ())?;
                let values = found.tensors.values().map(|rows| match rows {
                    Rows::F32(rows) => {
                        (0..rows.nrows()).flat_map(|i| (0..rows.ncols()).map(move |j| rows[(i, j)])).collect()
                    }
                    Rows::F64(_) => Vec::new(),
                });
                Ok(values.collect())
            };
            let mut alone = vec![Vec::new(); points.len()];
            for prompt in prompts {
                let found = rows(std::slice::from_ref(prompt), None)?;
                alone.iter_mut().zip(found).for_each(|(all, found)| all.extend(found));
            }
            ensure!(alone.iter().all(|rows| rows.len() == prompts.len() * spec.hidden), "too few rows");
            for batch in [None, Some(2)] {
                for (found, expected) in rows(prompts, batch)?.iter().zip(&alone) {
                    let distance = far(found, expected);
                    ensure!(distance <= TOLERANCE, "batch {batch:?}: {distance:e} of the largest value");
                }
            }
        }
        Ok(())
    }

    fn generation(&self) -> Result<()> {
        for batch in [Some(1), Some(2), None] {
            let new = self.greedy.iter().map(Vec::len).max().unwrap_or(0);
            let options = GenerateOptions { max_new_tokens: new, batch, ..self.model.generate_options() };
            let found = generate(self.model.model(), &self.prompts, &options, &mut ())?;
            for (prompt, (found, expected)) in found.iter().zip(&self.greedy).enumerate() {
                ensure!(&found.ids == expected, "prompt {prompt}: {:?} for {expected:?}", found.ids);
            }
        }
        Ok(())
    }

    fn half(&self) -> Result<()> {
        for (dtype, rounding) in [(DType::BF16, 2f32.powi(-8)), (DType::F16, 2f32.powi(-11))] {
            let dir = self.model.path();
            if !self.device.supports_dtype(dtype) {
                let refused = LanguageModel::load(dir, &self.device, Some(dtype)).err();
                let refused = refused.map(|error| error.to_string()).unwrap_or_default();
                ensure!(
                    refused.contains(&format!("{dtype:?}")),
                    "{dtype:?} is not refused by name: {refused}"
                );
                continue;
            }
            let model = LanguageModel::load(dir, &self.device, Some(dtype))?;
            let logits = model.model().forward(&self.batch()?, None, &mut ())?;
            let distance = self.distance(logits.cast(DType::F32), &self.logits)?;
            // Weights that are stored so and meet f32 activations lose nothing; else some forty roundings.
            let exact = model.stored_dtype() == Some(dtype) && model.model().spec().dtype == DType::F32;
            let most = if exact { TOLERANCE } else { 40.0 * rounding };
            ensure!(distance <= most, "{dtype:?}: {distance:e} of the largest value");
        }
        Ok(())
    }

    fn batch(&self) -> Result<Batch> {
        let rows: Vec<Row<'_>> = self.prompts.iter().map(|ids| Row::prompt(ids)).collect();
        Ok(Batch::new(&rows, &self.device)?)
    }

    fn near(&self, what: &str, found: Tensor<3>, expected: &[f32]) -> Result<()> {
        let distance = self.distance(found, expected)?;
        if distance > TOLERANCE {
            bail!("{what}: {distance:e} of the largest value");
        }
        Ok(())
    }

    /// [`far`] over tokens that are no padding.
    fn distance(&self, found: Tensor<3>, expected: &[f32]) -> Result<f32> {
        let [_, tokens, width] = found.dims();
        let found: Vec<f32> =
            found.try_into_data().map_err(|error| anyhow::anyhow!("{error}"))?.iter().collect();
        ensure!(found.len() == expected.len(), "{} values for {}", found.len(), expected.len());
        let real = |all: &[f32]| -> Vec<f32> {
            let rows = self.prompts.iter().enumerate();
            rows.flat_map(|(row, ids)| {
                all[((row + 1) * tokens - ids.len()) * width..(row + 1) * tokens * width].to_vec()
            })
            .collect()
        };
        Ok(far(&real(&found), &real(expected)))
    }
}

/// The largest difference, as a share of the largest value; infinite where a value is not finite.
fn far(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() || !found.iter().all(|x| x.is_finite()) {
        return f32::INFINITY;
    }
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
    found.iter().zip(expected).fold(0.0, |worst: f32, (f, e)| worst.max((f - e).abs())) / largest
}

fn floats(x: Tensor<2>) -> Result<Vec<f32>> {
    Ok(brenier::residual::read_back(x)?)
}
